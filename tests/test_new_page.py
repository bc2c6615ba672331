"""tools/new_page.py: a new page runs, exports and reads as the others do, and is refused where it
cannot be."""

import json, shutil, subprocess, sys

import pytest
from conftest import ROOT, tool
from notebooks import command, environment, load, source


@pytest.fixture
def own(project):
    "The small project with this project's rules and package."
    shutil.copy(ROOT / "pyproject.toml", project / "pyproject.toml")
    skip = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "trending_now", project / "trending_now", ignore=skip)
    return project


def run(root, *args):
    "Run a command on the small project; the finished process."
    return subprocess.run(args, cwd=root, env=environment(root), capture_output=True, text=True)


def test_a_new_page_exports_runs_and_passes_the_style_check(own):
    done = tool("new_page.py", "3_testing", "ab.usual_visit", root=own)
    assert done.returncode == 0, done.stderr
    page = own / "nbs/3_testing/01_usual_visit.ipynb"
    assert "nbs/3_testing/01_usual_visit.ipynb is there" in done.stdout
    assert source(load(page)["cells"][0]).startswith("# Usual visit\n\n> ")

    text = page.read_text()
    assert run(own, command("nbdev-clean"), "--fname", str(page)).returncode == 0
    assert page.read_text() == text, "nbdev-clean finds something to clean"

    assert run(own, command("nbdev-export")).returncode == 0
    module = own / "trending_now/ab/usual_visit.py"
    assert module.exists()
    doctest = run(own, sys.executable, "-m", "doctest", "-v", str(module))
    assert doctest.returncode == 0 and "1 passed" in doctest.stdout, doctest.stdout
    ruff = run(own, command("ruff"), "check", "--no-cache", str(page), str(module))
    assert ruff.returncode == 0, ruff.stdout

    pages = tool("run_pages.py", "usual_visit", root=own)
    assert pages.returncode == 0, pages.stderr
    assert json.loads(text) == load(page), "a run leaves the page as it is"


def test_pages_are_numbered_on_and_titled_as_asked(own):
    (own / "nbs/3_testing").mkdir()
    (own / "nbs/3_testing/07_seven.ipynb").write_text('{"cells": []}')
    done = tool("new_page.py", "3_testing", "eight", "--title", "The eighth", root=own)
    assert done.returncode == 0
    page = load(own / "nbs/3_testing/08_eight.ipynb")
    assert source(page["cells"][0]).startswith("# The eighth\n")
    assert source(page["cells"][1]) == "#| default_exp eight"
    ids = [c["id"] for c in page["cells"]]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize(
    "part, module, told",
    [
        ("3_tests", "ab.new", "expected one of 0_start, 1_service"),
        ("3_testing", "ab.sizing", "trending_now/ab/sizing.py exists"),
        ("3_testing", "ab/new", "expected a name such as"),
        ("3_testing", "Ab.New", "expected a name such as"),
        ("3_testing", "ab.other", "there is a page 'other': 00_other.ipynb"),
    ],
)
def test_a_page_that_cannot_be_is_refused_and_nothing_written(own, part, module, told):
    before = sorted(own.rglob("*"))
    done = tool("new_page.py", part, module, root=own)
    assert done.returncode == 2 and told in done.stderr
    assert sorted(own.rglob("*")) == before
