"tools/run_pages.py: one bad page is one failure, whatever it leaves running."

import os, subprocess, sys, time
from pathlib import Path

import pytest
from conftest import code, markdown, tool, write_notebook
from run_pages import Outcome, Runner, chosen, complaint, report

LEAVE_A_THREAD = """
import threading, time
def talk():
    for _ in range(600):
        print('still here', flush=True)
        time.sleep(.1)
threading.Thread(target=talk, daemon=False).start()"""
SLEEPER = "[sys.executable, '-c', 'import time; time.sleep(600)']"
LEAVE_A_PROCESS = f"""
import subprocess, sys
from pathlib import Path
Path('left.pid').write_text(str(subprocess.Popen({SLEEPER}).pid))"""
WAIT_FOR_A_PROCESS = LEAVE_A_PROCESS + f"\nsubprocess.run({SLEEPER})"
WAIT_IN_A_THREAD = LEAVE_A_THREAD + "\ntime.sleep(600)"


@pytest.fixture
def page(project):
    "page(source, ...): the second page of the small project, with these cells."

    def write(*sources):
        path = project / "nbs/00_other.ipynb"
        write_notebook(path, markdown("# Other\n\n> Another page."), *map(code, sources))
        return path

    return write


@pytest.fixture
def run(project):
    "run(page, ...): what comes of one page of the small project."

    def one(path, **options):
        options = {"cell_timeout": 60, "page_timeout": 300, "grace": 60} | options
        return Runner(project, **options).run(path)

    return one


def gone(pid_file: Path) -> bool:
    "Whether the process whose number stands in the file is dead, or will be in a moment."
    pid = int(pid_file.read_text())
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        if (
            "Z"
            in subprocess.run(
                ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True
            ).stdout
        ):
            return True
        time.sleep(0.1)
    return False


def test_a_page_that_runs_passes_and_its_time_is_known(page, run):
    one = run(page("1 + 1"))
    assert (one.page, one.passed, one.note, one.slow) == ("00_other.ipynb", True, "", False)
    assert one.seconds > 0 and one.cpu > 0


def test_a_failing_page_is_named_with_its_error_and_the_others_run(page, project):
    page("1/0")
    done = tool("run_pages.py", root=project)
    assert done.returncode == 1
    assert done.stdout.rstrip().endswith("1 pages passed, 1 failed: 00_other.ipynb")
    assert "index.ipynb" in done.stdout and "ZeroDivisionError" in done.stderr


@pytest.mark.parametrize("source", [WAIT_IN_A_THREAD, WAIT_FOR_A_PROCESS])
def test_a_cell_that_hangs_fails_when_its_time_is_up(page, run, project, source):
    one = run(page(source), cell_timeout=3, grace=5)
    assert not one.passed and "Timed out after 3" in one.output and one.seconds < 300
    if "left.pid" in source:
        assert gone(project / "nbs/left.pid")


def test_a_page_that_hangs_is_ended_with_what_it_started(page, run, project):
    one = run(page(WAIT_FOR_A_PROCESS), page_timeout=20)
    assert not one.passed and one.note == "ended after 20 s"
    assert gone(project / "nbs/left.pid")


def test_what_a_page_leaves_running_is_ended_and_said_but_no_failure(page, run, project):
    one = run(page(LEAVE_A_THREAD), grace=1)
    assert one.passed and one.note == "had to be ended: something was running"
    assert run(page(LEAVE_A_PROCESS)).passed and gone(project / "nbs/left.pid")


def test_a_page_whose_process_dies_has_failed(page, run):
    one = run(page("import os; os._exit(0)"))
    assert not one.passed and one.note == "its process ended with status 0"


def test_a_page_sees_the_project_and_none_of_the_tools(page, run, project):
    (project / "own.py").write_text("answer = 42")
    assert run(page("import own; assert own.answer == 42")).passed
    assert "No module named 'run_pages'" in run(page("import run_pages")).output


def test_stopping_it_stops_the_pages(page, project):
    page(WAIT_FOR_A_PROCESS)
    script = Path(__file__).parents[1] / "tools/run_pages.py"
    running = subprocess.Popen(
        [sys.executable, script, "--root", project, "other"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for _ in range(600):
        if (project / "nbs/left.pid").exists():
            break
        time.sleep(0.1)
    running.terminate()
    assert running.wait(30) == 143 and gone(project / "nbs/left.pid")


def test_pages_are_named_by_place_folder_or_name(project):
    part = project / "nbs/1_part"
    part.mkdir()
    for name in ("01_first", "02_second"):
        write_notebook(part / f"{name}.ipynb", markdown("# A"))
    names = lambda *words: [p.name for p in chosen(words, None, project)]
    assert names() == ["index.ipynb", "01_first.ipynb", "02_second.ipynb", "00_other.ipynb"]
    assert names("second", "nbs/1_part/01_first.ipynb") == ["01_first.ipynb", "02_second.ipynb"]
    assert names("1_part") == names("nbs/1_part/") == names(str(part)) == names("second", "first")
    done = tool("run_pages.py", "secnd", root=project)
    assert done.returncode == 2 and "no page 'secnd'; there is second" in done.stderr


def test_changed_pages_are_those_that_git_sees(page, project):
    git = lambda *args: subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *args],
        cwd=project,
        check=True,
        capture_output=True,
    )
    changed = lambda rev="HEAD": [p.name for p in chosen([], rev, project)]
    git("init", "-q"), git("add", "."), git("commit", "-q", "-m", "x")
    assert changed() == []
    assert "no page has changed" in tool("run_pages.py", "--changed", root=project).stdout
    page("2")
    write_notebook(project / "nbs/05_new.ipynb", markdown("# New"))
    assert changed() == ["00_other.ipynb", "05_new.ipynb"]
    git("add", "."), git("commit", "-q", "-m", "y")
    assert changed() == [] and changed("HEAD~1") == ["00_other.ipynb", "05_new.ipynb"]


def test_slow_pages_are_marked_and_not_failed():
    outcomes = [
        Outcome("a", True, 61, 50.0),
        Outcome("b", True, 2, 1.0),
        Outcome("c", False, 1, 1.0),
    ]
    lines = report(outcomes, shown=2).splitlines()
    assert lines[1].split() == ["61.0", "50.0", "a", "over", "60", "s"]
    assert len(lines) == 4 and lines[-1] == "2 pages passed, 1 failed, 1 over 60 s: c"


def test_of_a_long_output_the_end_is_shown():
    told = complaint(Outcome("a", False, 1, 1, "", "x" * 20_000 + "the error"))
    assert "8009 characters before this" in told and "the error" in told and len(told) < 13_000
