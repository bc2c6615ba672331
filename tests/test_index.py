"The index lists every page once, in reading order, with its module; the short way is marked."

import re

from conftest import ROOT
from notebooks import load, notebooks, path_in_book, source

INDEX = "\n".join(source(cell) for cell in load(ROOT / "nbs/index.ipynb")["cells"])
ROW = re.compile(r"(?m)^\| (●?) ?\| \[([^\]]+)\]\(([^)]+\.ipynb)\) \| (`[\w.]+`|-) \|")


def module_of(notebook):
    "The module that a page exports, in backticks, or '-'."
    for cell in load(notebook)["cells"]:
        found = re.match(r"#\| default_exp ([\w.]+)", source(cell))
        if found:
            return f"`{found[1]}`"
    return "-"


def title_of(notebook):
    return re.match(r"# (.+)", source(load(notebook)["cells"][0]))[1]


def test_every_page_is_listed_once_under_its_own_name_with_its_module():
    lessons = [p for p in notebooks(ROOT) if re.match(r"[0-7]_", p.parent.name)]
    wanted = [(title_of(p), path_in_book(ROOT, p), module_of(p)) for p in lessons]
    assert [row[1:] for row in ROW.findall(INDEX)] == wanted


def test_every_family_is_listed():
    families = [p for p in notebooks(ROOT) if p.parent.name == "8_families"]
    assert families and all(f"({path_in_book(ROOT, p)})" in INDEX for p in families)


def test_the_short_way_is_about_twenty_pages_and_goes_through_every_part():
    short = [row[2] for row in ROW.findall(INDEX) if row[0]]
    parts = {p.parent.name for p in notebooks(ROOT) if re.match(r"[0-7]_", p.parent.name)}
    assert 18 <= len(short) <= 24 and {path.split("/")[0] for path in short} == parts
