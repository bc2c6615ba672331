"""What `help(trending_now)` shows, with an example that is right; and what the project imports and
calls, which is declared, so that a fresh environment has it."""

import ast, doctest, re, sys, tomllib
from importlib.metadata import distributions, packages_distributions

import pytest
import trending_now
from conftest import ROOT
from notebooks import PACKAGE, load, notebooks, source
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet


def parts():
    "The families and the plain modules of the package."
    folder = ROOT / PACKAGE
    families = {p.parent.name for p in folder.glob("*/__init__.py")}
    return families | {p.stem for p in folder.glob("[a-z]*.py")}


def test_the_docstring_names_every_part_of_the_package():
    named = set(re.findall(r"(?m)^    ([a-z_]+)  ", trending_now.__doc__))
    assert parts() - named == set(), "say in trending_now/__init__.py what it is for"


def test_the_example_of_the_package_is_right():
    found = doctest.testmod(trending_now)
    assert found.attempted == 3 and found.failed == 0


def normal(name):
    "A distribution's name as registries compare it."
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(*extras):
    "The distributions that the base install and the extras named ask for; all extras for none."
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"]
    asked = sum((optional[e] for e in extras or optional), project["dependencies"])
    return {normal(re.match(r"[\w.-]+", requirement)[0]) for requirement in asked}


def code_of(path):
    "The Python of a file or of a notebook's code cells, one text each; magics left out."
    if path.suffix == ".py":
        return [path.read_text()]
    cells = [c for c in load(path)["cells"] if c["cell_type"] == "code"]
    return [re.sub(r"(?m)^\s*[%!].*$", "pass", source(c)) for c in cells]


def imported(path):
    "The top-level modules that a file imports, wherever the import stands."
    for code in code_of(path):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.Import):
                yield from (alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level:
                yield node.module.partition(".")[0]


def undeclared(paths, allowed):
    "module -> files, for imports that no declared distribution brings."
    scripts = [p for folder in ("tests", "tools", "bench") for p in (ROOT / folder).glob("*.py")]
    own = {PACKAGE} | {script.stem for script in scripts}
    brings, found = packages_distributions(), {}
    for path in paths:
        for module in set(imported(path)) - own - set(sys.stdlib_module_names):
            if not {normal(d) for d in brings.get(module, [module])} & allowed:
                found.setdefault(module, []).append(str(path.relative_to(ROOT)))
    return found


def pinned():
    "What the environments of bench/ bring, each for the one who is measured in it."
    lines = [line for pins in (ROOT / "bench/environments").glob("*.txt")
             for line in pins.read_text().splitlines()]
    return {normal(line.partition("==")[0]) for line in lines}


FOLDERS = ("tests", "tools", "bench", PACKAGE)


@pytest.mark.parametrize("folder", [*FOLDERS, "nbs"])
def test_what_is_imported_is_declared(folder):
    paths = notebooks(ROOT) if folder == "nbs" else sorted((ROOT / folder).rglob("*.py"))
    # the pipeline's file is for an environment of its own, constraints-kubeflow.txt
    paths = [path for path in paths if path.parent.name != "kubeflow_files"]
    assert len(paths) > 1
    allowed = declared() | (pinned() if folder == "bench" else set())
    assert undeclared(paths, allowed) == {}


def test_an_import_that_nobody_declared_is_found():
    show = ROOT / PACKAGE / "show.py"
    assert undeclared([show], declared() - {"pillow"}) == {"PIL": [f"{PACKAGE}/show.py"]}


def test_commands_that_the_checks_call_are_declared():
    calls = "".join(p.read_text() for folder in FOLDERS for p in (ROOT / folder).glob("*.py"))
    tools = {name.partition("-")[0] for name in re.findall(r'command\("([\w-]+)"\)', calls)}
    assert "ruff" in tools
    assert tools - declared() == set()
    options = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]
    assert "-n " in options["ini_options"]["addopts"] and "pytest-xdist" in declared("dev")


INSTALLED = {normal(d.metadata["Name"]): d for d in distributions()}


def needed(names):
    "These distributions and all that they need on this machine."
    found, left = set(), set(names)
    while left:
        found |= left
        asked = [Requirement(r) for name in left for r in INSTALLED[name].requires or ()]
        here = {normal(r.name) for r in asked if not r.marker or r.marker.evaluate({"extra": ""})}
        left = here - found
    return found


def needed_here():
    "All that a fresh environment holds besides the project itself."
    installer = {"pip"}  # is there before
    return needed(declared() & set(INSTALLED)) - {"trending-now"} - installer


def test_what_is_needed_is_pinned():
    pins = (ROOT / "constraints.txt").read_text().split()
    pinned = {normal(pin.partition("==")[0]) for pin in pins}
    assert len(needed_here()) > 150
    assert needed_here() - pinned == set()


def test_what_is_needed_runs_on_the_oldest_python_that_we_promise():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    oldest = project["requires-python"].removeprefix(">=") + ".0"
    asks = {name: INSTALLED[name].metadata.get("Requires-Python") or "" for name in needed_here()}
    assert [n for n, ask in asks.items() if not SpecifierSet(ask).contains(oldest)] == []
