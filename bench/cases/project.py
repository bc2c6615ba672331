"The project itself: what importing costs, a year of the service, and the course."

from parts import Row, Side, own_folder, runner

TITLE = "The project"
ABOUT = """Each import is a fresh process; its limit is a process that imports the same foreign
modules, and none of ours."""
FAMILIES = (
    "ab", "app", "bandits", "catalogue", "checks", "claims", "cli", "curation", "dags", "delivery",
    "diners", "feedback", "genres", "interleaving", "lab", "loop", "platform", "policies",
    "prompts", "registry", "retraining", "rollouts", "scale", "settings", "show", "triggers")
LOADED = """
import sys
known = set(sys.modules)
import trending_now.{family}
print(*(name for name in sys.modules if name not in known and name.split('.')[0] != 'trending_now'))
"""
AGAIN = """
import importlib, sys
for name in {names!r}:
    try: importlib.import_module(name)
    except ImportError: pass
print(len(sys.modules))
"""


def process(*command):
    "Run a process; what it printed."
    import subprocess
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode: raise RuntimeError(done.stderr[-600:])
    return done.stdout


def nothing(folder): "No input."


def foreign(family):
    "(folder) writes which foreign modules a family imports."
    def modules(folder):
        import sys
        names = process(sys.executable, "-c", LOADED.format(family=family))
        (folder / f"{family}.txt").write_text(names)
    modules.__name__ = f"modules_of_{family}"
    return modules


def imported(family):
    def prepare(folder):
        import sys
        return lambda: process(sys.executable, "-c", f"import trending_now.{family}")
    return Side(prepare, numbers=lambda text: {}, package="trending-now")


def imported_by(family):
    def prepare(folder):
        import sys
        names = (folder / f"{family}.txt").read_text().split()
        return lambda: process(sys.executable, "-c", AGAIN.format(names=names))
    return Side(prepare, numbers=lambda text: {})


def year(folder):
    import os, sys
    command = os.path.join(os.path.dirname(sys.executable), "trending-now")

    def work(workspace): return process(command, "run", "--workspace", workspace)
    return own_folder, work


def course(folder):
    import sys
    from pathlib import Path
    tool = Path(__file__).resolve().parents[2] / "tools" / "run_pages.py"
    return lambda: process(sys.executable, str(tool))


def one_run(prepare):
    "A side that runs once, when it is timed: what it does is too long to warm up."
    def prepared(folder):
        (before, work), times = runner(prepare(folder)), []

        def run(given):
            times.append(1)
            return "" if len(times) == 1 else work(given)
        return before, run
    return Side(prepared, numbers=lambda text: {})


def of_import(family):
    return Row(f"import trending_now.{family}", "a fresh process", foreign(family), {}, {},
               imported(family), limit=imported_by(family),
               limit_is="a process that imports the same foreign modules")


ROWS = (
    *map(of_import, FAMILIES),
    Row("trending-now run", "52 weeks in a new workspace", nothing, {}, {}, one_run(year),
        once=True, reason="52 weeks with their models, trials and reports, of which there is no "
        "other implementation."),
    Row("the course", "every page from a clean kernel", nothing, {}, {}, one_run(course), once=True,
        by_hand=True, reason="every notebook, two at a time, as `tools/run_pages.py` runs them; "
        "it takes longer than all else, so that only `--only` runs it."),
)
