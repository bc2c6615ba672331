"The ledger: what a claim must meet before it is written."

import ast
import json
from pathlib import Path

import numpy as np
import pytest
from trending_now.claims import ledger, ledger_table, page_of, record

BOOK = Path(__file__).parents[1] / "nbs"


def claim(folder, condition=("ours", ">=", 0.3), ours=0.4, **more):
    "A claim in a folder of its own."
    words = dict(module="x", source="a table", theirs="30%", folder=folder)
    words |= dict(evidence="simulation", fails_if="it is less")
    words |= dict(ours=ours, condition=condition)
    return record("share", "It is three in ten.", **words | more)


@pytest.mark.parametrize("ours, comparison", [(0.299996, ">="), (0.300004, ">"), (0.300004, "<=")])
def test_a_figure_that_meets_its_bound_by_rounding_alone_does_not_pass(tmp_path, ours, comparison):
    with pytest.raises(AssertionError, match="claim share"):
        claim(tmp_path, ("ours", comparison, 0.3), ours)
    assert ledger(tmp_path) == []


def test_numpy_numbers_are_written(tmp_path):
    made = claim(
        tmp_path,
        ("low", ">", np.int64(0)),
        np.float32(0.5),
        low=np.float64(0.25),
        high=np.float32(0.75),
        seed=np.int64(7),
        reproduces=np.True_,
    )
    assert ledger(tmp_path) == [made] and made.seed == 7


WRONG = {
    "lower one first": dict(low=0.6, high=0.2),
    "both ends": dict(low=0.2),
    "low = nan": dict(low=float("nan"), high=1),
    "ours = '1'": dict(ours="1"),
    "ours = None": dict(ours=None),
    "bound = nan": dict(condition=("ours", ">", float("nan"))),
    "bound = '0'": dict(condition=("ours", ">", "0")),
    "expected two values": dict(condition=("ours", "between", 0.3)),
    "seed = ": dict(seed=np.random.default_rng(7)),
    "evidence = 'hearsay': expected one of theorem, simulation": dict(evidence="hearsay"),
    "evidence = None": dict(evidence=None),
    "fails_if = '  '": dict(fails_if="  "),
    "fails_if = None": dict(fails_if=None),
    "fails_if = 3": dict(fails_if=3),
}


@pytest.mark.parametrize("words", WRONG)
def test_a_claim_that_cannot_be_judged_is_refused_in_words(tmp_path, words):
    with pytest.raises(ValueError, match=words):
        claim(tmp_path, **WRONG[words])
    assert ledger(tmp_path) == []


@pytest.mark.parametrize("missing", ["evidence", "fails_if"])
def test_a_claim_says_on_what_it_rests_and_what_would_end_it(tmp_path, missing):
    words = dict(evidence="theorem", fails_if="it is less")
    del words[missing]
    with pytest.raises(TypeError, match=missing):
        record(
            "share",
            "It is three in ten.",
            module="x",
            source="a table",
            theirs="30%",
            ours=0.4,
            condition=("ours", ">", 0.3),
            folder=tmp_path,
            **words,
        )
    assert ledger(tmp_path) == []


VERDICTS = {
    "pass": {},
    "in part: the direction": dict(reason="the direction"),
    "identity": dict(evidence="identity"),
    "in part: one half": dict(evidence="identity", reason="one half"),
    "fail: ours is 0.4": dict(
        condition=("ours", "between", (0.45, 0.52)), reproduces=False, reason="ours is 0.4"
    ),
}


@pytest.mark.parametrize("verdict", VERDICTS)
def test_what_was_found_again_is_told_from_what_holds_in_part_or_by_construction(tmp_path, verdict):
    claim(tmp_path, **VERDICTS[verdict])
    row = ledger_table(ledger(tmp_path)).iloc[0]
    assert row.verdict == verdict and row["fails if"] == "it is less"
    assert row.evidence == VERDICTS[verdict].get("evidence", "simulation")


def test_the_table_of_no_claims_is_empty():
    assert len(ledger_table([])) == 0


def test_a_value_above_the_source_is_no_reproduction(tmp_path):
    band = ("ours", "between", (45, 52))
    with pytest.raises(AssertionError, match="is False for 81"):
        claim(tmp_path, band, 81)
    with pytest.raises(AssertionError, match="is False for 20"):
        claim(tmp_path, band, 20)
    assert claim(tmp_path, band, 48).holds


def test_an_entry_without_evidence_is_refused_by_its_file(tmp_path):
    claim(tmp_path)
    path = tmp_path / "x.json"
    entry = json.loads(path.read_text())[0]
    del entry["evidence"]
    path.write_text(json.dumps([entry]))
    with pytest.raises(ValueError, match="x.json.*lacks .'evidence'."):
        ledger(tmp_path)


def written(page):
    "Each claim that a page records by its name, with the arguments that are written out."
    found = {}
    for cell in json.loads((BOOK / page).read_text())["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] != "code" or "evidence=" not in source:
            continue
        for node in ast.walk(ast.parse(source)):
            words = {k.arg: k.value for k in getattr(node, "keywords", ()) if k.arg}
            if "fails_if" in words and isinstance(node.args[0], ast.Constant):
                plain = {k: ast.literal_eval(v) for k, v in words.items() if literal(v)}
                found[node.args[0].value] = {"sentence": node.args[1].value} | plain
    return found


def literal(value):
    try:
        ast.literal_eval(value)
    except ValueError:
        return False
    return True


def test_the_ledger_says_what_the_pages_say():
    claims = {claim.id: claim for claim in ledger(BOOK / "claims")}
    pages = {page_of(claim.module, BOOK) for claim in claims.values()}
    on_pages = {}
    for page in pages:
        on_pages |= written(page)
    assert {id for id in claims if not id.startswith("genres-v")} == set(on_pages)
    for id, words in on_pages.items():
        for name, value in words.items():
            assert getattr(claims[id], name) == value, f"{id}: {name}"
        assert claims[id].reproduces == words.get("reproduces", True), id
        assert claims[id].reason == words.get("reason", ""), id


def test_a_published_number_is_met_from_both_sides_or_only_in_part():
    "Where the source gives a number, a bound on one side alone is a direction, and says so."
    for claim in ledger(BOOK / "claims"):
        number = any(letter.isdigit() for letter in claim.theirs)
        one_sided = claim.condition[1] != "between"
        own = claim.source.startswith("this chapter")
        if number and one_sided and not own and claim.holds:
            assert claim.reason, claim.id
