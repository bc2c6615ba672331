"""Exercises that teach: three a page, one of them open; checkers that talk, stubs, folded
solutions, and wrong answers that are refused."""

import ast, re

import pytest
from conftest import ROOT
from notebooks import load, notebooks, options, path_in_book, source

# About how the book is made, or a table of what other pages found
WITHOUT = {"14_checks", "15_show", "16_lab", "46_ledger"}
LESSONS = [
    p for p in notebooks(ROOT) if re.match(r"[0-7]_", p.parent.name) and p.stem not in WITHOUT
]
FOLDED = '#| code-summary: "Show one solution"\n#| code-fold: true\n'


def code(page):
    "(cell, its options, its code) of each code cell."
    cells = [c for c in load(page)["cells"] if c["cell_type"] == "code"]
    return [(c, *options(source(c))) for c in cells]


def checkers(page):
    "{name: function} of the checkers, which are functions with the decorator `exercise`."
    found = {}
    for _, _, text in code(page):
        if "@exercise" not in text: continue
        for node in ast.parse(text).body:
            marked = getattr(node, "decorator_list", ())
            if any(ast.unparse(d) == "exercise" for d in marked): found[node.name] = node
    return found


def calling(page, name):
    "(cell, its code) of the cells that call a checker by itself."
    return [(c, text) for c, _, text in code(page) if re.search(rf"(?m)^{name}\(", text)]


def is_stub(text):
    return bool(re.search(r"\.\.\.", text)) and "@exercise" not in text


@pytest.mark.parametrize("page", LESSONS, ids=lambda p: p.stem)
def test_a_page_has_three_exercises_and_one_of_them_is_open(page):
    book = "\n".join(source(c) for c in load(page)["cells"] if c["cell_type"] == "markdown")
    section = book.partition("## Exercises")[2].partition("\n## ")[0]
    titles = re.findall(r"(?m)^\*\*(.+?)\*\*", section)
    assert len(titles) >= 3 and any(t.startswith("Open:") for t in titles), titles
    assert len(checkers(page)) >= 2


@pytest.mark.parametrize("page", LESSONS, ids=lambda p: p.stem)
def test_a_checker_says_what_is_wrong_and_what_is_right(page):
    for name, function in checkers(page).items():
        silent = [n for n in ast.walk(function) if isinstance(n, ast.Assert) and n.msg is None]
        assert not silent, f"{name}: an assert without a message"
        calls = {ast.unparse(n.func) for n in ast.walk(function) if isinstance(n, ast.Call)}
        assert not calls & {"test", "test_eq", "test_close"}, f"{name}: a test without a hint"
        told = [n for n in function.body if isinstance(n, ast.Return) and n.value is not None]
        assert told, f"{name}: no sentence for a right answer"


@pytest.mark.parametrize("page", LESSONS, ids=lambda p: p.stem)
def test_a_checker_is_folded_since_it_holds_answers_and_hints(page):
    held = [(c["id"], opts) for c, opts, text in code(page) if "@exercise" in text]
    assert [cell for cell, opts in held if not opts.get("code-fold") and "hide" not in opts] == []


@pytest.mark.parametrize("page", LESSONS, ids=lambda p: p.stem)
def test_an_exercise_has_a_stub_a_folded_solution_and_two_refused_answers(page):
    hidden = "\n".join(text for _, opts, text in code(page) if "hide" in opts)
    for name in checkers(page):
        cells = calling(page, name)
        solved = [c for c, _ in cells if source(c).startswith(FOLDED)]
        assert solved and all(c["outputs"] for c in solved), f"{name}: no solution that has run"
        stubs = [c for c, text in cells if is_stub(text) and c not in solved]
        told = "".join(str(c["outputs"]) for c in stubs)
        assert stubs and "then run this cell again" in told, f"{name}: no stub that has run"
        refused = re.findall(rf"\b{name}\.refuses\(", hidden)
        assert len(refused) >= 2, f"{name}: {len(refused)} refused answers"


def test_every_lesson_is_looked_at():
    assert len(LESSONS) > 130, [path_in_book(ROOT, p) for p in LESSONS]
