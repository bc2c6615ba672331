"The structure of the package: families with facades, imports that point one way, and light imports."

import ast, importlib, subprocess, sys

import pytest
from conftest import ROOT
from notebooks import PACKAGE

HEAVY = "torch transformers xgboost sklearn river matplotlib wandb dvc openai airflow pyspark fastapi duckdb statsmodels".split()
SOURCES = sorted(p for p in (ROOT / PACKAGE).rglob("*.py") if p.name != "_modidx.py")
FACADES = [p for p in SOURCES if p.name == "__init__.py" and p.parent.name != PACKAGE]
MODULES = [p for p in SOURCES if p.name != "__init__.py"]


def name_of(path):
    "The module's dotted name: 'trending_now.ab.sizing', or 'trending_now.ab' for a facade."
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("path", [p for p in SOURCES if p.parent.name == PACKAGE] + FACADES, ids=name_of)
def test_importing_it_loads_no_heavy_library(path):
    code = f"import sys, {name_of(path)}; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("facade", FACADES, ids=name_of)
def test_a_facade_holds_the_public_names_of_its_modules_and_nothing_else(facade):
    family = importlib.import_module(name_of(facade))
    modules = [importlib.import_module(name_of(p)) for p in MODULES if p.parent == facade.parent]
    assert sorted(family.__all__) == sorted(name for m in modules for name in m.__all__)
    for module in modules:
        for name in module.__all__: assert getattr(family, name) is getattr(module, name)
    assert all(isinstance(n, (ast.Import, ast.ImportFrom, ast.Assign, ast.Expr)) for n in ast.parse(facade.read_text()).body)
