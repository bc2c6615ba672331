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


def test_a_small_control_has_a_level_too():
    "The control's noise is then nearly all of each statistic, and the arms are nearly one."
    for control in (0.1, 0.01, 0.001, 0.0001):
        weights = [control, (1 - control) / 2, (1 - control) / 2]
        assert 0.0253 < ab.dunnett_level(weights) < 0.05
    assert ab.dunnett_level([0.0001, 0.49995, 0.49995]) > 0.04


def two(**changes):
    return ab.Experiment("t", clicks, 1000, **changes)


def counted(*hits, n=1000, **columns):
    flags = lambda pair: np.concatenate([np.arange(n) < k for k in pair]).astype(float)
    seen = pd.DataFrame({"arm": np.repeat(range(len(hits)), n), "clicks": flags(hits)})
    return seen.assign(**{name: flags(pair) for name, pair in columns.items()})


def test_all_of_one_arm_and_none_of_the_other_is_a_difference():
    found = ab.analyse_units(two(), counted(0, 1000))
    assert found.decision == "ship"
    guarded = two(guardrails=(crash,))
    found = ab.analyse_units(guarded, counted(500, 500, crash=(0, 1000)))
    assert found.decision == "stop" and found.table.verdict["crash"] == "harmed"
    mean = replace(two(), metric=ab.Metric("clicks", ab.count("click")))
    found = ab.analyse_units(mean, counted(0, 1000).assign(clicks=lambda t: t.arm + 1.0))
    assert (found.decision, found.table.p.iloc[0] < 1e-9) == ("ship", True)
    few = counted(0, 1000).groupby("arm").head(2)
    assert ab.analyse_units(replace(mean, size=2), few).decision == "inconclusive"


def test_a_handful_of_crashes_after_none_is_harm_and_one_more_is_not():
    guarded = two(guardrails=(crash,))
    verdict = lambda *pair: ab.analyse_units(
        guarded, counted(500, 500, crash=pair)
    ).table.verdict["crash"]
    assert [verdict(0, 12), verdict(1, 2), verdict(0, 3)] == ["harmed", *["too few events"] * 2]


def test_a_size_that_is_reached_is_reached_whatever_the_weights():
    for size in (1000, 1900, 2000, 8000):
        plan = ab.Experiment("t", clicks, size, weights=(0.7, 0.3))
        n = [size, int(np.ceil(size * 0.3 / 0.7))]
        seen = pd.DataFrame({"arm": np.repeat([0, 1], n), "clicks": 0.0})
        seen["clicks"] = (np.arange(len(seen)) % 2).astype(float)
        found = ab.analyse_units(plan, seen)
        assert (found.fraction, found.decision) == (1, "stop")


def test_a_job_that_runs_on_after_the_end_reads_the_last_look_again():
    plan, seen = two(looks=5), counted(300, 310)
    found = ab.analyse_units(plan, seen, earlier=(0.2, 0.4, 1.0))
    assert found.level == ab.analyse_units(plan, seen, earlier=(0.2, 0.4)).level
    with pytest.raises(ValueError, match="a sequence"):
        ab.analyse_units(plan, seen, earlier=0.4)


def test_giving_up_is_said_before_the_end_and_not_after():
    plan = two(looks=4, futility=0.8)
    early = ab.analyse_units(plan, counted(160, 145, n=500))
    assert early.decision == "stop" and "unlikely" in early.reasons[0]
    late = ab.analyse_units(plan, counted(300, 305))
    assert late.decision == "stop" and "no difference" in late.reasons[0]


def test_slices_count_the_units_that_they_compare():
    seen = table(stream(7, "slices"), (0.2, 0.2, 0.3), 1000)
    labels = np.where(np.arange(len(seen)) % 2, "odd", "even")
    found = ab.slices(three(), seen, labels, "c").table
    assert found.units.sum() == 2000
    p95 = ab.Metric("clicks", ab.total("x"), per=ab.count("x"), quantile=0.5)
    with pytest.raises(ValueError, match="cannot be cut"):
        ab.slices(replace(three(), metric=p95), seen, labels)
