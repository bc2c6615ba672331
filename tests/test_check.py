"tools/style.py and tools/check.py: what they find, and which tests belong to a change."

import shutil, subprocess

import pytest
from check import imported, chosen_tests, uses
from conftest import ROOT, code, markdown, tool, write_notebook
from style import by_nbdev, long_lines

LONG = "x = '" + "a" * 100 + "'"
MODULE = f'"""{LONG}"""\n\n__all__ = ["a",\n           "{"b" * 100}"]\n\n{LONG}\n'


@pytest.fixture
def own(project):
    "The small project with this project's rules and a package."
    shutil.copy(ROOT / "pyproject.toml", project / "pyproject.toml")
    (project / "trending_now").mkdir()
    return project


def test_style_finds_long_lines_and_unknown_names_in_notebooks_and_tools(own):
    assert tool("style.py", root=own).stdout == "style: nothing found\n"
    write_notebook(own / "nbs/00_other.ipynb", markdown("# A"), code(LONG), code("print(unknown)"))
    (own / "tools").mkdir()
    (own / "tools/long.py").write_text(LONG + "\n")
    done = tool("style.py", root=own)
    assert done.returncode == 1
    for told in ("nbs/00_other.ipynb:cell 2:1:101: E501", "F821", "tools/long.py:1:101: E501"):
        assert told in done.stdout
    assert "2\tE501" in tool("style.py", "--statistics", root=own).stdout


@pytest.mark.parametrize(
    "source",
    [
        "if (x := 1): print(x)",
        "import json, os\nprint(json, os)",
        "l = dict(a=1)",
        "f = lambda x: x",
        "plot = print\nplot(1);",
    ],
)
def test_the_house_style_is_no_finding(own, source):
    write_notebook(own / "nbs/00_other.ipynb", markdown("# A"), code(source))
    assert tool("style.py", root=own).stdout == "style: nothing found\n"


def test_lines_of_the_package_that_nbdev_writes_may_be_long(own):
    assert by_nbdev(MODULE) == {1, 3, 4}
    (own / "trending_now/_modidx.py").write_text(LONG)
    (own / "trending_now/a.py").write_text(MODULE)
    assert long_lines(own) == ["trending_now/a.py:6: 106 columns, more than 100"]


@pytest.mark.parametrize(
    "source, changed, expected",
    [
        ("from trending_now.ab.sizing import power_means", "trending_now.ab.sizing", True),
        ("import trending_now.ab.sizing", "trending_now.ab.sizing", True),
        ("from trending_now import ab", "trending_now.ab.sizing", True),
        ("from trending_now.ab import srm", "trending_now.ab.sizing", True),
        ("from trending_now import ab, bandits", "trending_now.bandits", True),
        ("from trending_now.ab.sizing import power_means", "trending_now.ab", False),
        ("from trending_now import bandits", "trending_now.ab.sizing", False),
        ("import trending_now", "trending_now.ab.sizing", False),
        ("from trending_now.abacus import x", "trending_now.ab", False),
        ("from run_pages import Runner", "run_pages", True),
        ('tool("run_pages.py")', "run_pages", True),
        ('tool("style.py")', "run_pages", False),
    ],
)
def test_tests_belong_to_what_they_import(source, changed, expected):
    assert uses(source, {changed}) == expected


def test_imports_inside_functions_count():
    assert imported("def f():\n    from a.b import c\n    import d") == {"a.b", "a.b.c", "d"}


def test_of_this_project_the_right_tests_are_chosen():
    assert chosen_tests(ROOT, ["nbs/index.ipynb", "README.md"]) == []
    assert chosen_tests(ROOT, ["tests/test_check.py"]) == ["tests/test_check.py"]
    assert "tests/test_ab.py" in chosen_tests(ROOT, ["trending_now/ab/sizing.py"])
    assert "tests/test_bert.py" not in chosen_tests(ROOT, ["trending_now/ab/sizing.py"])
    assert "tests/test_run_pages.py" in chosen_tests(ROOT, ["tools/run_pages.py"])


def test_check_runs_every_step_and_says_which_failed(own):
    "The small project has nothing of what is generated: that step fails, the others run."
    git = lambda *args: subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *args],
        cwd=own,
        check=True,
        capture_output=True,
    )
    assert tool("check.py", root=own).returncode == 2, "there is no git repository"
    git("init", "-q"), git("add", "."), git("commit", "-q", "-m", "x")
    write_notebook(own / "nbs/00_other.ipynb", markdown("# A"), code("1 + 1"))
    (own / "tests").mkdir()
    (own / "tests/test_a.py").write_text("def test_a(): pass\n")
    done = tool("check.py", root=own)
    said = [line.split()[0] for line in done.stdout.partition("\n---\n")[2].splitlines()]
    assert done.returncode == 1 and said == ["FAILED", "ok", "ok", "ok"], done.stdout
    assert "1 pages passed" in done.stdout and "1 passed" in done.stdout
