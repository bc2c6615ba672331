"""Several variants against one control: levels, decisions, and what a family of tests promises."""

from dataclasses import replace
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from scipy import stats
from trending_now import ab
from trending_now.ab.variants import family_level
from trending_now.settings import stream

clicks = ab.Metric("clicks", ab.count("click"), share=True)
crash = ab.Metric("crash", ab.count("crash"), share=True, more_is_better=False, margin=0.2)


def test_levels_are_those_of_dunnetts_table():
    "Two-sided, infinite degrees of freedom, as printed to two digits (Dunnett 1964, table II)."
    published = {2: 2.21, 3: 2.35, 4: 2.44, 5: 2.51, 9: 2.69}
    for others, critical in published.items():
        level = ab.dunnett_level([1 / (others + 1)] * (others + 1))
        assert stats.norm.isf(level / 2) == pytest.approx(critical, abs=0.005)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.floats(0.05, 1.0), min_size=3, max_size=4))
def test_levels_give_the_multivariate_normal_its_ninety_five_percent(parts):
    weights = np.array(parts) / sum(parts)
    loading = np.sqrt(weights[1:] / (weights[1:] + weights[0]))
    cov = np.outer(loading, loading)
    np.fill_diagonal(cov, 1)
    c = stats.norm.isf(ab.dunnett_level(weights) / 2)
    normal = stats.multivariate_normal(cov=cov)
    inside = normal.cdf(np.full(len(cov), c), lower_limit=np.full(len(cov), -c))
    assert inside == pytest.approx(0.95, abs=5e-4)


def test_adjusted_p_values_are_those_of_scipy_for_large_groups():
    rng = stream(7, "dunnett")
    groups = [rng.normal(mean, 1, 3000) for mean in (0, 0.02, 0.05, 0.08)]
    z = [stats.ttest_ind(group, groups[0]).statistic for group in groups[1:]]
    theirs = stats.dunnett(*groups[1:], control=groups[0]).pvalue
    assert ab.dunnett(z, [0.25] * 4) == pytest.approx(theirs, abs=2e-3)


def test_two_variants_are_no_family():
    assert ab.dunnett_level([0.9, 0.1], 0.01) == 0.01
    assert family_level((0.5, 0.5), 0.05, 0) == family_level((0.5, 0.5), 0.05, 7) == 0.05


@pytest.mark.parametrize("weights", [[0.5], [0.5, 0.0], [0.5, "0.5"], []])
def test_shares_that_cannot_be_are_refused(weights):
    with pytest.raises(ValueError, match="weights"):
        ab.dunnett_level(weights)


def table(rng, rates, n, crashes=None):
    arm = np.repeat(np.arange(len(rates)), n)
    order = rng.permutation(len(arm))
    crashes = crashes or [0.05] * len(rates)
    seen = {"arm": arm, "clicks": rng.random(len(arm)) < np.array(rates)[arm]}
    seen["crash"] = rng.random(len(arm)) < np.array(crashes)[arm]
    return pd.DataFrame(seen).astype({"clicks": float, "crash": float}).iloc[order]


def three(**changes):
    return ab.Experiment("t", clicks, 4000, variants=("a", "b", "c"), **changes)


def test_each_variant_has_its_own_decision_and_the_best_is_shipped():
    rng = stream(7, "decisions")
    found = ab.analyse_units(three(), table(rng, (0.2, 0.25, 0.3), 4000))
    assert (found.decision, found.variant) == ("ship", "c")
    assert found.decisions == {"b": "ship", "c": "ship"}
    found = ab.analyse_units(three(), table(rng, (0.2, 0.16, 0.25), 4000))
    assert found.decisions == {"b": "stop", "c": "ship"} and found.variant == "c"
    found = ab.analyse_units(three(), table(rng, (0.2, 0.16, 0.2), 4000))
    assert (found.decision, found.variant) == ("stop", "")
    assert any(reason.startswith("b: clicks: worse") for reason in found.reasons)


def test_fewer_is_better_ships_the_variant_with_the_fewest():
    rng, plan = stream(7, "fewest"), replace(three(), metric=crash)
    found = ab.analyse_units(plan, table(rng, (0.2,) * 3, 4000, (0.2, 0.15, 0.1)))
    assert (found.decision, found.variant) == ("ship", "c")


def test_a_harmful_variant_does_not_end_the_test_of_another():
    rng, plan = stream(7, "harm"), three(guardrails=(crash,), looks=4)
    found = ab.analyse_units(plan, table(rng, (0.2, 0.2, 0.21), 2000, (0.05, 0.2, 0.05)))
    assert found.decisions == {"b": "stop", "c": "keep running"}
    assert found.decision == "keep running"


def test_a_variant_with_too_few_units_is_named_by_its_count():
    seen = table(stream(7, "few"), (0.2, 0.2, 0.2), 100)
    seen = seen[(seen.arm < 2) | (np.arange(len(seen)) == np.argmax(seen.arm == 2))]
    found = ab.analyse_units(three(), seen)
    assert found.decision == "invalid" and "100 and 100 and 1 units" in found.reasons[-1]


def test_other_metrics_share_one_rate_over_all_variants():
    rng, plan = stream(7, "others"), three(others=(crash,))
    shown = ab.analyse_units(plan, table(rng, (0.2,) * 3, 4000)).table
    p = shown[shown.role == "other"].p
    adjusted = [float(text.split()[0]) for text in shown[shown.role == "other"].verdict]
    assert adjusted == pytest.approx(ab.holm(p), rel=0.06) and len(p) == 2


@pytest.mark.parametrize("variants, looks", [(3, 1), (5, 1), (3, 4)])
def test_a_family_of_tests_of_nothing_raises_few_alarms(variants, looks):
    names = tuple("abcde"[:variants])
    plan = ab.Experiment("t", clicks, 400, variants=names, looks=looks)
    rng, alarms = stream(7, "family", variants, looks), 0
    for _ in range(300):
        seen = table(rng, (0.2,) * variants, 400)
        steps = [len(seen) * k // looks for k in range(1, looks + 1)]
        reads = [ab.analyse_units(plan, seen[:step]) for step in steps]
        verdicts = [v for read in reads if len(read.table) for v in read.table.verdict]
        alarms += any(verdict in ("better", "worse") for verdict in verdicts)
    assert alarms / 300 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)


def test_a_page_of_three_variants_names_them():
    plan = three(hypothesis="b & c")
    page = ab.analyse_units(plan, table(stream(7, "page"), (0.2, 0.2, 0.3), 4000))._repr_html_()
    assert "ship c" in page and "b &amp; c" in page and "clicks: b" in page
    assert "c 4,000 of 4,000" in page
