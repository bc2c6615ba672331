#!/usr/bin/env python
"Run the pages, each in a process of its own, and say which failed and which are slow."

import argparse, atexit, difflib, json, multiprocessing, os, resource, signal, sys, threading, time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tqdm import tqdm

from notebooks import ROOT, changed_files, environment, notebooks, page_name, path_in_book

SLOW = 60          # A page that takes longer than this is marked, in seconds
GRACE = 10         # Time for a page that is done to end by itself, in seconds
SHOWN = 12_000     # Characters of a failing page's output that are printed, from its end
ENDING = """\
PAGE is a notebook ('nbs/1_service/03_booster.ipynb'), a folder of them ('nbs/1_service', or
'1_service'), or the name of a page ('booster'). Every cell runs, as under Jupyter's Run all. What
takes long waits until TRENDING_NOW_SLOW is 1.

Exit status: 0 every page ran, 1 a page failed, 2 there is no such page."""


@dataclass(frozen=True)
class Outcome:
    "What came of one page."
    page: str       # Its place below nbs/
    passed: bool    # Whether every cell ran
    seconds: float  # Time on the clock
    cpu: float      # Time of the processor, with what the page started and waited for
    note: str = ""  # What else happened, in words
    output: str = ""  # What it printed

    @property
    def slow(self) -> bool:
        "Whether it took longer than a page should."
        return self.seconds > SLOW


# What nearly all pages import, none of it the project's own: loaded once, by a process that does
# nothing else, of which each page gets a copy
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    ["nbdev.test", "IPython.core.pylabtools", "matplotlib.pyplot", "pandas", "scipy.stats",
     "sklearn.metrics", "pyarrow.parquet"])


# ------------------------------------------------------------ in the page's own process

def run_apart(root: Path, log: Path, page: Path, *how) -> None:
    "What a page's process does: with a session, an environment and an output of its own."
    os.setsid()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(os.open(log, os.O_WRONLY), 1)
    os.dup2(1, 2)
    sys.stdout, sys.stderr = (os.fdopen(end, "w", closefd=False) for end in (1, 2))
    wanted = environment(root)
    os.environ.clear()
    os.environ.update(wanted)
    os.chdir(root)
    here = str(Path(__file__).resolve().parent)
    sys.path[:] = [str(root), *(p for p in sys.path if p != here)]  # no page sees tools/
    for name in ("run_pages", "notebooks"): sys.modules.pop(name, None)
    try: run_here(page, *how)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        raise SystemExit(1) from None
    finally:  # what the end of a program does, and a copied process does not: in this order
        threading._shutdown()
        atexit._run_exitfuncs()
        sys.stdout.flush()


def run_here(page: Path, result: Path, cell_timeout: float) -> None:
    "Run one page in this process and write what came of it; errors go to standard error."
    from nbdev.config import get_config
    from nbdev.test import test_nb
    config = get_config(page)
    passed, _ = test_nb(
        page, basepath=config.config_path, cell_timeout=cell_timeout or None)
    write_result(result, {"passed": passed, "cpu": cpu_seconds()})


def cpu_seconds() -> float:
    "Seconds of the processor that this process used, and those that it started and waited for."
    used = [resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def write_result(path: Path, result: dict) -> None:
    "Write a result that no reader sees half written."
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(result), encoding="utf-8")
    draft.rename(path)


# ------------------------------------------------------------ in the process that waits for them

class Runner:
    "Runs pages in processes of their own, and ends all that they start."

    def __init__(
        self,
        root=ROOT,               # The project's folder
        cell_timeout=None,       # Seconds for a cell; 0: no limit; None: as pyproject.toml says
        page_timeout=900.,       # Seconds for a page; 0: no limit
        grace=GRACE,             # Seconds for a page that is done to end by itself
    ):
        self.root, self.page_timeout, self.grace = Path(root).resolve(), page_timeout, grace
        self.cell_timeout = cell_limit(root) if cell_timeout is None else cell_timeout
        self.stopped = threading.Event()

    def run(self, page) -> Outcome:
        "Run one page. Its output goes to a file: a pipe stays open as long as anything it started."
        begun = time.monotonic()
        with TemporaryDirectory() as tmp:
            log, result = Path(tmp, "output"), Path(tmp, "result.json")
            log.touch()
            process = FORKS.Process(target=run_apart, args=(
                self.root, log, Path(page).resolve(), result, self.cell_timeout))
            process.start()
            try: note = self.wait(process, result, begun)
            finally: end_group(process)
            seconds = time.monotonic() - begun
            output = log.read_text(encoding="utf-8", errors="replace")
            found = json.loads(result.read_text(encoding="utf-8")) if result.exists() else {}
        if not found and not note: note = f"its process ended with status {process.exitcode}"
        return Outcome(path_in_book(self.root, page), found.get("passed", False), seconds,
                       found.get("cpu", float("nan")), note, output)

    def wait(self, process, result: Path, begun: float) -> str:
        "Wait until the process ends or its time is up; in words why it has to be ended, or ''."
        done = None
        while process.exitcode is None:
            now = time.monotonic()
            if done is None and result.exists(): done = now
            if done and now - done > self.grace: return "had to be ended: something was running"
            if not done and self.page_timeout and now - begun > self.page_timeout:
                return f"ended after {self.page_timeout:g} s"
            if self.stopped.wait(.05): return "stopped"
        return ""


def end_group(process) -> None:
    "End a process and all that it started and left behind."
    try: os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError): process.kill()  # nothing is left, or no group yet
    process.join()


def cell_limit(root) -> float:
    "Seconds that pyproject.toml gives a cell."
    from nbdev.config import get_config
    return get_config(root).cell_timeout


def run_all(pages, runner: Runner, workers: int) -> list[Outcome]:
    "Run the pages, `workers` at a time; failures are printed as they come."
    outcomes = []
    every = .1 if sys.stderr.isatty() else 15
    with (ThreadPoolExecutor(workers) as pool,
          tqdm(total=len(pages), unit="page", mininterval=every) as bar):
        futures = [pool.submit(runner.run, page) for page in pages]
        try:
            for future in as_completed(futures):
                outcomes.append(one := future.result())
                if not one.passed: bar.write(complaint(one), file=sys.stderr)
                bar.set_postfix_str(one.page, refresh=False)
                bar.update()
        except BaseException:
            runner.stopped.set()
            for future in futures: future.cancel()
            raise
    return outcomes


def complaint(one: Outcome) -> str:
    "A failing page with the end of its output."
    told = one.output.strip()
    if len(told) > SHOWN: told = f"... {len(told) - SHOWN} characters before this\n" + told[-SHOWN:]
    return f"\n{'=' * 20} {one.page} failed{': ' * bool(one.note)}{one.note}\n{told}\n{'=' * 20}"


def report(outcomes, shown: int = 10) -> str:
    "A table of the slowest pages and a line about all."
    by_time = sorted(outcomes, key=lambda o: -o.seconds)
    listed = [o for i, o in enumerate(by_time) if i < shown or o.slow or o.note]
    lines = [f"{'clock, s':>9}{'CPU, s':>9}  page"]
    for one in listed:
        words = [f"over {SLOW} s"] * one.slow + [one.note] * bool(one.note)
        about = "; ".join(words + ["FAILED"] * (not one.passed))
        lines.append(f"{one.seconds:9.1f}{one.cpu:9.1f}  {one.page:36}  {about}".rstrip())
    failed = sorted(o.page for o in outcomes if not o.passed)
    slow = sum(o.slow for o in outcomes)
    total = [f"{len(outcomes) - len(failed)} pages passed", f"{len(failed)} failed"]
    total += [f"{slow} over {SLOW} s"] * bool(slow)
    names = f": {', '.join(failed)}" * bool(failed)
    return "\n".join([*lines, ", ".join(total) + names])


# ------------------------------------------------------------ which pages

def named(name: str, pages: list, root) -> list[Path]:
    "The pages that a word on the command line means; ValueError with the nearest if there is none."
    short = lambda p: page_name(p).removesuffix(".html")
    for where in (Path(name).resolve(), root / name, root / "nbs" / name):
        found = [p for p in pages if where in (p, *p.parents)]
        if found: return found
    found = [p for p in pages if name in (p.name, p.stem, short(p))]
    if found: return found
    near = difflib.get_close_matches(name, [short(p) for p in pages], 3)
    hint = f"; there is {', '.join(near)}" if near else ""
    raise ValueError(f"no page {name!r}{hint}")


def chosen(names, changed, root) -> list[Path]:
    "The pages to run, in reading order: those named and those changed since a revision, or all."
    pages = notebooks(root)
    if not names and changed is None: return pages
    wanted = {p for name in names for p in named(name, pages, root)}
    if changed is not None:
        files = {Path(root, f) for f in changed_files(root, changed)}
        wanted |= files & set(pages)
    return [p for p in pages if p in wanted]


def parsed(argv):
    "The command line."
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=ENDING, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("pages", nargs="*", metavar="PAGE", help="what to run (default: every page)")
    add("--changed", nargs="?", const="HEAD", metavar="REV",
        help="the pages that differ from a git revision (default: HEAD), and those named")
    add("--workers", type=int, default=2, metavar="N", help="pages at a time (default: 2)")
    add("--cell-timeout", type=float, metavar="S",
        help="seconds for a cell, 0: no limit (default: cell_timeout of pyproject.toml)")
    add("--page-timeout", type=float, default=900, metavar="S",
        help="seconds for a page, 0: no limit (default: 900)")
    add("--root", type=Path, default=ROOT, help="the project's folder (default: this one)")
    return parser.parse_args(argv)


def main(argv=None) -> int:
    args = parsed(argv)
    try: pages = chosen(args.pages, args.changed, args.root.resolve())
    except ValueError as e:
        print(e, file=sys.stderr)
        return 2
    if not pages:
        print("no page has changed")
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    runner = Runner(args.root, args.cell_timeout, args.page_timeout)
    outcomes = run_all(pages, runner, args.workers)
    print(report(outcomes))
    return int(not all(o.passed for o in outcomes))


if __name__ == "__main__": sys.exit(main())
