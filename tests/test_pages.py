"Pages as their readers meet them."

import re

import pytest
from conftest import ROOT
from notebooks import load, notebooks, source

PAGES = notebooks(ROOT)


def code(page):
    return [cell for cell in load(page)["cells"] if cell["cell_type"] == "code"]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_what_is_folded_on_the_site_is_folded_in_jupyter(page):
    open_in_jupyter = [
        cell["id"]
        for cell in code(page)
        if "#| code-fold: true" in "".join(cell["source"])
        and not cell["metadata"].get("jupyter", {}).get("source_hidden")
    ]
    assert open_in_jupyter == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_no_stored_table_is_cut(page):
    cut = [
        cell["id"]
        for cell in code(page)
        for output in cell["outputs"]
        if " ... " in "".join(output.get("data", {}).get("text/plain", "")).split("\n")[0]
    ]
    assert cut == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_what_the_reader_will_be_able_to_do_stands_in_one_line(page):
    first = next(c for c in load(page)["cells"] if c["cell_type"] == "markdown")
    lines = [line for line in source(first).splitlines() if line.startswith(">")]
    assert len(lines) == 1, "the site shows the first line alone"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_no_link_stands_within_another(page):
    texts = [source(c) for c in load(page)["cells"] if c["cell_type"] == "markdown"]
    words = re.sub(r"`[^`\n]*`", "", "\n".join(texts))
    assert re.findall(r"\[\[[^\]]*\]\(|\]\([^()\s]*\]\(", words) == []
