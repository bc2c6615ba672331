"""The structure of the package: families with facades, imports that point one way, and light
imports."""

import ast, importlib, re, subprocess, sys
from collections import defaultdict
from graphlib import TopologicalSorter

import pytest
from conftest import ROOT
from notebooks import PACKAGE

HEAVY = (
    "torch transformers xgboost sklearn river matplotlib wandb dvc openai llama_cpp airflow "
    "pyspark fastapi boto3 duckdb statsmodels scipy.stats"
).split()
# What is printed for others to read, the DAG, the pipeline and the migrations, is no module of ours
SOURCES = sorted(
    p
    for p in (ROOT / PACKAGE).rglob("*.py")
    if p.name != "_modidx.py" and not any(part.endswith("_files") for part in p.parts)
)
FACADES = [p for p in SOURCES if p.name == "__init__.py" and p.parent.parent.name == PACKAGE]
MODULES = [p for p in SOURCES if p.name != "__init__.py"]


def name_of(path):
    "The module's dotted name: 'trending_now.ab.sizing', or 'trending_now.ab' for a facade."
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize(
    "path", [p for p in SOURCES if p.parent.name == PACKAGE] + FACADES, ids=name_of
)
def test_importing_it_loads_no_heavy_library(path):
    code = f"import sys, {name_of(path)}; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("facade", FACADES, ids=name_of)
def test_a_facade_gathers_public_names_of_its_modules_and_defines_nothing(facade):
    family = importlib.import_module(name_of(facade))
    modules = [importlib.import_module(name_of(p)) for p in MODULES if p.parent == facade.parent]
    home = {name: module for module in modules for name in module.__all__}
    assert [
        name for name in family.__all__ if getattr(home[name], name) is not getattr(family, name)
    ] == []
    assert all(any(home[n] is m for n in family.__all__) for m in modules), (
        "a module of the family is left out"
    )
    statements = ast.parse(facade.read_text()).body
    assert all(
        isinstance(s, (ast.Import, ast.ImportFrom, ast.Assign, ast.Expr)) for s in statements
    )


def defined(tree):
    """The public functions, classes and constants that a module defines at its top, methods added
    by @patch left out."""
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            if not any("patch" in ast.unparse(d) for d in node.decorator_list):
                yield node.name
        elif isinstance(node, ast.Assign):
            yield from (
                n.id
                for target in node.targets
                for n in ast.walk(target)
                if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
            )


def test_no_public_name_is_defined_twice():
    homes = defaultdict(list)
    for path in MODULES:
        for name in defined(ast.parse(path.read_text())):
            if not name.startswith("_"):
                homes[name].append(name_of(path))
    assert {name: where for name, where in homes.items() if len(where) > 1} == {}


def imports(path):
    "(module of the package, name) of every import of the package in a file, wherever it stands."
    package = name_of(path) if path.name == "__init__.py" else name_of(path).rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            base = package.rsplit(".", node.level - 1)[0] if node.level else ""
            module = ".".join(p for p in (base, node.module) if p)
            if module.split(".")[0] == PACKAGE:
                yield from ((module, alias.name) for alias in node.names)


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_no_underscored_name_crosses_a_module(path):
    assert [(m, n) for m, n in imports(path) if n.startswith("_") and not n.startswith("__")] == []


# What may import what: a family may use those before it, and modules on the first line are for all
ORDER = [
    "settings checks show claims lab",
    "catalogue",
    "genres",
    "diners",
    "triggers curation retraining",
    "ab rollouts interleaving",
    "bandits policies",
    "prompts",
    "platform",
    "feedback",
    "registry",
    "loop",
    "app",
    "delivery",
    "dags",
    "scale",
    "cli",
]
RANK = {name: rank for rank, names in enumerate(ORDER) for name in names.split()}


def place(module):
    "The family (or the single module) that a dotted name belongs to."
    return module.removeprefix(PACKAGE + ".").split(".")[0]


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_point_one_way_and_go_to_modules(path):
    here = place(name_of(path))
    for module, name in imports(path):
        target = place(f"{module}.{name}" if module == PACKAGE else module)
        assert RANK[target] <= RANK[here], (
            f"{name_of(path)} imports {name} of a later family, {target}"
        )
        facade = (ROOT / module.replace(".", "/") / "__init__.py").exists() and not (
            ROOT / module.replace(".", "/") / f"{name}.py"
        ).exists()
        assert module == PACKAGE or not facade, (
            f"{name_of(path)} imports {name} from the facade {module}: name its module"
        )


def test_no_module_needs_itself():
    needs = {
        name_of(p): {
            f"{m}.{n}" if (ROOT / f"{m}.{n}".replace(".", "/")).with_suffix(".py").exists() else m
            for m, n in imports(p)
        }
        for p in MODULES
    }
    TopologicalSorter(needs).prepare()  # raises CycleError, which names the circle


def own_names(tree):
    "Names of what a module defines: functions, classes, fields, and attributes that it sets."
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


# What a policy shows to those who run many of it at once: `contract` says what each is for
HOOKS = {"_rng", "_state", "_renew", "_learn", "_recent"}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_object_s_private_attribute_is_read_by_another_module(path):
    tree = ast.parse(path.read_text())
    own = {*own_names(tree), *(HOOKS if path.parent.name == "bandits" else ()), "_exit"}
    foreign = [
        f"{ast.unparse(node)}, line {node.lineno}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and re.fullmatch("_[a-z]\\w*", node.attr)
        and ast.unparse(node.value) not in ("self", "cls")
        and node.attr not in own
    ]
    assert foreign == []


LOOP = sorted((ROOT / PACKAGE / "loop").glob("*.py"))


@pytest.mark.parametrize("path", LOOP, ids=name_of)
def test_a_module_of_the_loop_is_short_and_so_are_its_functions(path):
    text = path.read_text()
    tree = ast.parse(text)
    kept = [n for n in tree.body if isinstance(n, ast.Assign)]
    pages = [n for n in kept if isinstance(n.value, ast.Constant)]  # templates are no code
    code = len(text.splitlines()) - sum(n.end_lineno - n.lineno for n in pages)
    assert code <= 250
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 25, node.name
