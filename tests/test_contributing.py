"CONTRIBUTING.md and CHANGELOG.md name what there is, and nothing else."

import re

import pytest
from conftest import ROOT
from test_readme import targets

TEXT = (ROOT / "CONTRIBUTING.md").read_text()


@pytest.mark.parametrize("where, what", [("nbs", "[0-9]_*"), ("tools", "*.*")])
def test_the_map_has_every_part_and_every_tool(where, what):
    names = {p.name for p in (ROOT / where).glob(what)}
    assert {n for n in names if f"{n}`" not in TEXT} == set()


def test_the_commands_exist():
    named = set(re.findall(r"(?m)(?:^|`|exec )make ([a-z]+)", TEXT))
    assert {"lab", "check", "test", "docs", "bench"} <= named
    assert named - targets((ROOT / "Makefile").read_text()) == set()


def test_the_files_that_it_names_exist():
    named = set(re.findall(r"tools/[\w/]+\.\w+|nbs/\d\w+/\d\d_\w+\.ipynb", TEXT))
    assert {n for n in named if not (ROOT / n).exists()} == set()
    assert re.findall(r"\]\((\w+\.md)\)", TEXT) == ["CHANGELOG.md"]


def test_the_modules_that_the_change_log_names_exist():
    text = (ROOT / "CHANGELOG.md").read_text().partition("### Names")[0]
    new = re.findall(r"(?m)^\| `\w+` \| `(\w+)\.(\w+)` \|$", text)
    assert len(new) > 5
    for family, module in new:
        assert (ROOT / "trending_now" / family / f"{module}.py").exists()
