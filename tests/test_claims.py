"The ledger: what a claim must meet before it is written."

import numpy as np
import pytest
from trending_now.claims import ledger, record


def claim(folder, condition=("ours", ">=", 0.3), ours=0.4, **more):
    "A claim in a folder of its own."
    words = dict(module="x", source="a table", theirs="30%", folder=folder)
    return record("share", "It is three in ten.", ours=ours, condition=condition, **words, **more)


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
}


@pytest.mark.parametrize("words", WRONG)
def test_a_claim_that_cannot_be_judged_is_refused_in_words(tmp_path, words):
    with pytest.raises(ValueError, match=words):
        claim(tmp_path, **WRONG[words])
    assert ledger(tmp_path) == []
