"What `help(trending_now)` shows: every part of the package, and an example that is right."

import doctest, re

import trending_now
from conftest import ROOT
from notebooks import PACKAGE


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
