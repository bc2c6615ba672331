"""The examples that `help()` shows give what they say, and every public name of a family has a
docstring."""

import doctest, importlib, inspect

import pytest
from conftest import ROOT
from notebooks import PACKAGE

MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted((ROOT / PACKAGE).rglob("*.py"))
    if path.name != "_modidx.py" and not any(part.endswith("_files") for part in path.parts)
]
FAMILIES = [p.parent.name for p in sorted((ROOT / PACKAGE).glob("*/__init__.py"))]


def examples(name):
    "The docstrings with examples of one module."
    module = importlib.import_module(name)
    found = doctest.DocTestFinder(exclude_empty=True).find(module, globs=dict(vars(module)))
    return [test for test in found if test.examples]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_are_right(name):
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    told = []
    for test in examples(name):
        doctest.DocTestRunner(optionflags=flags).run(test, out=told.append)
    assert told == [], "".join(told)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_has_examples_and_its_facade_a_demonstration(family):
    modules = [name for name in MODULES if name.startswith(f"{PACKAGE}.{family}.")]
    assert any(examples(name) for name in modules), "no module of the family has an example"
    assert "```python" in importlib.import_module(f"{PACKAGE}.{family}").__doc__


@pytest.mark.parametrize("family", FAMILIES)
def test_every_public_name_says_what_it_is(family):
    facade = importlib.import_module(f"{PACKAGE}.{family}")
    things = {name: getattr(facade, name) for name in facade.__all__}
    silent = [n for n, thing in things.items() if callable(thing) and not inspect.getdoc(thing)]
    assert silent == []
