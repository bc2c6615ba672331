"""A/B tests against other packages, published tables and each other."""

import itertools
import math
import uuid
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from scipy import optimize, stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestIndPower
from statsmodels.stats.proportion import (
    confint_proportions_2indep,
    proportions_ztest,
    power_proportions_2indep,
)
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW
from trending_now import ab
from trending_now.ab.comparisons import ratio_moments, relative_interval
from trending_now.ab.mismatch import srm_by, srm_sequence
from trending_now.ab.sizing import design_effect
from trending_now.ab.spending import (
    after_stopping,
    conditional_power,
    futility_bounds,
    spending_bounds,
)
from trending_now.ab.verdicts import shrink
from trending_now.settings import stream


# --- design ---


@pytest.mark.parametrize(
    "kw, n",
    [  # R: power.prop.test and its help page; two of them from the usual sample size calculators
        (dict(p1=0.5, p2=0.75, power=0.9), 77),
        (dict(p1=0.04, p2=0.05), 6745),
        (dict(p1=0.05, p2=0.06), 8158),
        (dict(p1=0.15, p2=0.30, power=0.9), 161),
        (dict(p1=0.5, p2=0.75, power=0.9, two_sided=False), 63),
    ],
)
def test_sizes_for_proportions_are_those_of_r(kw, n):
    assert ab.sample_size_proportions(**kw) == n


@pytest.mark.parametrize("ratio", [0.25, 1.0, 3.0])
@pytest.mark.parametrize("two_sided", [True, False])
@pytest.mark.parametrize("p1, p2", [(0.04, 0.05), (0.3, 0.25), (0.9, 0.95)])
def test_size_and_power_of_proportions_are_inverse_and_agree_with_statsmodels(
    p1, p2, ratio, two_sided
):
    n = ab.sample_size_proportions(p1, p2, ratio=ratio, two_sided=two_sided)
    power = lambda m: ab.power_proportions(p1, p2, m, ratio=ratio, two_sided=two_sided)
    assert power(n) >= 0.8 > power(n - 1)
    side = "two-sided" if two_sided else "larger" if p2 > p1 else "smaller"
    theirs = power_proportions_2indep(
        p2 - p1, p1, n * ratio, 1 / ratio, 0.05, alternative=side
    )  # theirs: prop2 is the second, nobs1 the first group
    assert power(n) == pytest.approx(
        theirs.power, abs=2e-5 if two_sided else 1e-9
    )  # theirs adds the far tail


@pytest.mark.parametrize("ratio", [0.2, 1.0, 4.0])
@pytest.mark.parametrize("two_sided", [True, False])
@pytest.mark.parametrize(
    "effect, alpha, power",
    [(0.5, 0.05, 0.8), (0.2, 0.01, 0.9), (-1.5, 0.05, 0.8), (0.05, 0.05, 0.95), (3.0, 0.05, 0.8)],
)
def test_sizes_for_means_are_those_of_statsmodels(effect, alpha, power, ratio, two_sided):
    side = "two-sided" if two_sided else "larger"
    theirs = lambda n: TTestIndPower().power(abs(effect), n, alpha, ratio, alternative=side)
    n = ab.sample_size_means(effect, 1.0, alpha, power, ratio, two_sided)
    assert theirs(n) >= power - 1e-9 and (theirs(n - 1) < power or (n - 1) * (1 + ratio) <= 3)
    assert ab.sample_size_means(
        effect * 7, 7.0, alpha, power, ratio, two_sided
    ) == ab.sample_size_means(effect, 1.0, alpha, power, ratio, two_sided)


@pytest.mark.parametrize("n", [2, 3, 10, 500, 40_000])
@pytest.mark.parametrize("d", [0.0, 0.01, 0.3, 2.0])
@pytest.mark.parametrize("two_sided", [True, False])
def test_power_of_means_is_that_of_statsmodels(n, d, two_sided):
    theirs = TTestIndPower().power(
        d, n, 0.05, 1.0, alternative="two-sided" if two_sided else "larger"
    )
    assert np.isnan(theirs) or ab.power_means(d, 1.0, n, two_sided=two_sided) == pytest.approx(
        theirs, abs=1e-7
    )


def test_power_of_means_goes_to_the_normal_one_where_other_packages_give_nan():
    assert ab.power_means(0.001, 1.0, 1e8) == pytest.approx(
        stats.norm.cdf(math.sqrt(50) - 1.95996), abs=1e-6
    )
    assert ab.power_means(40.0, 1.0, 10) == pytest.approx(1)
    assert ab.sample_size_means(0.0005, 1.0) == pytest.approx(
        2 * (2.801585 / 0.0005) ** 2, rel=1e-5
    )


def test_power_is_met_by_simulated_experiments():
    rng = stream(7, "power")
    n = ab.sample_size_means(0.3, 1.5, ratio=2.0)
    x, y = rng.normal(0, 1.5, (3000, n)), rng.normal(0.3, 1.5, (3000, 2 * n))
    hits = sum(
        ab.compare_means_from_stats(
            [a.mean(), b.mean()], [a.std(ddof=1), b.std(ddof=1)], [n, 2 * n]
        ).p_value
        < 0.05
        for a, b in zip(x, y)
    )
    assert stats.binomtest(hits, 3000, 0.8).pvalue > 0.001


@pytest.mark.parametrize(
    "kw",
    [dict(sd=2.0), dict(p=0.1), dict(p=0.5, ratio=3.0), dict(sd=1.0, two_sided=False, power=0.95)],
)
def test_the_minimum_detectable_effect_inverts_the_size(kw):
    d = ab.minimum_detectable_effect(5000, **kw)
    extra = {k: v for k, v in kw.items() if k not in ("sd", "p")}
    n = (
        ab.sample_size_means(d, kw["sd"], **extra)
        if "sd" in kw
        else ab.sample_size_proportions(kw["p"], kw["p"] + d, **extra)
    )
    assert abs(n - 5000) <= 1


@pytest.mark.parametrize(
    "args, days",
    [
        ((1000, 2, 100), 20),
        ((1000, 2, 100, 0.5), 40),
        ((1001, 2, 100), 21),
        ((11165, 2, 100), 224),
        ((0.5, 2, 1000), 1),
    ],
)
def test_days_are_rounded_up(args, days):
    assert ab.duration_days(*args) == days


@pytest.mark.parametrize(
    "f, args, word",
    [
        (ab.sample_size_proportions, (-0.1, 0.5), "p1 = -0.1"),
        (ab.sample_size_proportions, (0.1, 0.1), "two different"),
        (ab.sample_size_proportions, (0.1, math.nan), "p2 = nan"),
        (ab.sample_size_proportions, (0.1, 0.2, 0), "alpha = 0"),
        (ab.sample_size_proportions, (0.1, 0.2, 0.05, 1), "power = 1"),
        (ab.sample_size_proportions, (0.1, 0.2, 0.05, 0.8, -1), "ratio = -1"),
        (ab.sample_size_means, (0, 1), "effect = 0"),
        (ab.sample_size_means, (1, -1), "sd = -1"),
        (ab.sample_size_means, ("big", 1), "effect"),
        (ab.power_means, (1, 1, 1), "n = 1"),
        (ab.power_proportions, (0.1, 0.2, 0), "n = 0"),
        (ab.duration_days, (100, 1, 10), "arms = 1"),
        (ab.duration_days, (100, 2, 10, 1.5), "share = 1.5"),
        (ab.minimum_detectable_effect, (3,), "one of them"),
        (ab.minimum_detectable_effect, (2, None, 0.9), "no effect"),
        (ab.whole_weeks, (0,), "days = 0"),
        (ab.false_positive_risk, (1.2,), "prior"),
        (ab.false_positive_risk, (0.5, 0), "alpha"),
    ],
)
def test_designs_that_cannot_be_are_refused_with_the_value(f, args, word):
    with pytest.raises(ValueError, match=word):
        f(*args)


# --- other plans ---


@pytest.mark.parametrize(
    "sds, ratio, n, effect", [((1, 3), 1, 30, 1.5), ((3, 1), 0.5, 40, 1.2), ((1, 2), 2, 12, 1.0)]
)
@pytest.mark.parametrize("two_sided", [True, False])
def test_power_with_two_spreads_is_that_of_simulated_welch_tests(sds, ratio, n, effect, two_sided):
    rng, m = stream(7, "two spreads", ratio), int(n * ratio)
    a, b = rng.normal(0, sds[0], (20_000, n)), rng.normal(effect, sds[1], (20_000, m))
    side = "two-sided" if two_sided else "greater"
    hits = (stats.ttest_ind(b, a, axis=1, equal_var=False, alternative=side).pvalue < 0.05).sum()
    said = ab.power_means(effect, sds, n, ratio=ratio, two_sided=two_sided)
    assert hits / 20_000 == pytest.approx(said, abs=0.012)


def test_two_spreads_give_the_noncentral_t_with_welchs_degrees_of_freedom():
    n, v = 25, np.array([1.0, 4.0]) / np.array([25, 50])
    df = v.sum() ** 2 / (v**2 / [24, 49]).sum()
    cut, shift = stats.t.isf(0.025, df), 0.8 / math.sqrt(v.sum())
    wanted = stats.nct.sf(cut, df, shift) + stats.nct.cdf(-cut, df, shift)
    assert ab.power_means(0.8, (1, 2), n, ratio=2) == pytest.approx(wanted, abs=1e-8)
    assert ab.power_means(0.8, (2, 2), 30) == pytest.approx(ab.power_means(0.8, 2, 30), abs=1e-12)


@pytest.mark.parametrize("ratio", [0.3, 1, 4])
@pytest.mark.parametrize("margin, effect", [(None, 0.4), (0.3, 0), (0.3, -0.1), (0.2, 0.2)])
def test_size_power_and_smallest_effect_fit_together_with_two_spreads(ratio, margin, effect):
    plan = dict(sd=(1, 2), ratio=ratio)
    n = ab.sample_size_means(effect, margin=margin, **plan)
    power = lambda m: ab.power_means(effect, n=m, margin=margin, **plan)
    assert power(n) >= 0.8 > power(n - 1)
    change = None if margin is None else effect
    smallest = lambda m: ab.minimum_detectable_effect(m, change=change, **plan)
    wanted = effect if margin is None else margin
    assert smallest(n) <= wanted + 1e-9 < smallest(n - 1) + 2e-9


@pytest.mark.parametrize("ratio", [0.3, 1, 4])
@pytest.mark.parametrize("p, change", [(0.1, 0), (0.1, -0.01), (0.97, 0.005)])
def test_size_power_and_smallest_margin_of_proportions_fit_together(ratio, p, change):
    n = ab.sample_size_proportions(p, p + change, ratio=ratio, margin=0.02)
    power = lambda m: ab.power_proportions(p, p + change, m, ratio=ratio, margin=0.02)
    assert power(n) >= 0.8 > power(n - 1)
    smallest = lambda m: ab.minimum_detectable_effect(m, p=p, ratio=ratio, change=change)
    assert smallest(n) <= 0.02 < smallest(n - 1)


def test_sizes_for_a_margin_are_the_textbooks_and_the_shifted_t_test_of_statsmodels():
    "Chow et al.: rates 0.85 and 0.65, margin 0.1, one-sided 5%, power 80%: 25 in each group."
    assert ab.sample_size_proportions(0.65, 0.85, margin=0.1, two_sided=False) == 25
    theirs = TTestIndPower().power(0.25 / 2, 300, 0.025, alternative="larger")
    assert ab.power_means(-0.05, 2, 300, margin=0.3) == pytest.approx(theirs, abs=1e-9)
    assert ab.power_means(-0.05, 2, 300, 0.025, two_sided=False, margin=0.3) == pytest.approx(
        theirs, abs=1e-9
    )


def test_a_plan_with_a_margin_has_its_power_when_non_inferior_decides():
    n = ab.sample_size_proportions(0.1, 0.1, margin=0.02)
    hits = stream(7, "planned margin").binomial(n, 0.1, (3000, 2))
    passed = sum(ab.non_inferior(ab.compare_proportions(row, [n, n]), 0.02) for row in hits)
    assert passed / 3000 == pytest.approx(0.8, abs=0.025)


def test_falls_mirror_rises_and_rates_may_be_0_or_1():
    find = ab.minimum_detectable_effect
    assert find(500, p=0.9, direction="fall") == pytest.approx(find(500, p=0.1), rel=1e-9)
    assert find(500, p=0.9) < find(500, p=0.9, direction="fall")
    assert find(73.37, p=0) == pytest.approx(0.1, abs=1e-4)  # power.prop.test: 73.37
    assert find(73.37, p=1, direction="fall") == pytest.approx(0.1, abs=1e-4)
    assert find(50, sd=2, direction="fall") == find(50, sd=2)
    assert find(500, p=0.9, change=0.01, direction="fall") == pytest.approx(
        find(500, p=0.1, change=-0.01), rel=1e-9
    )


def test_clusters_cost_their_design_effect():
    assert design_effect(1, 0.5) == design_effect(30, 0) == 1
    assert design_effect(30, 1) == 30 and design_effect(50, 0.05) == pytest.approx(3.45)
    assert design_effect(20, 0.05, cv=0.5) == pytest.approx(1 + (1.25 * 20 - 1) * 0.05)
    rng = stream(7, "clusters")
    shared, own = rng.normal(0, math.sqrt(0.2), (4000, 50, 1)), rng.normal(size=(4000, 50, 10))
    means = (shared + math.sqrt(0.8) * own).mean((1, 2))
    assert means.var() * 500 == pytest.approx(design_effect(10, 0.2), rel=0.1)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: ab.power_means(1, (1, 0), 10), "sd = 0"),
        (lambda: ab.power_means(1, (1, 2, 3), 10), "sd"),
        (lambda: ab.power_means(1, (1, 2), 1), "more than one unit in each group"),
        (lambda: ab.sample_size_means(-0.2, 1, margin=0.2), "margin = 0.2"),
        (lambda: ab.sample_size_means(0, 1, margin=-1), "margin = -1"),
        (lambda: ab.sample_size_proportions(0.1, 0.08, margin=0.02), "margin = 0.02"),
        (lambda: ab.sample_size_proportions(0, 0, margin=0.02), "a rate between 0 and 1"),
        (lambda: ab.minimum_detectable_effect(100, p=1), "no effect"),
        (lambda: ab.minimum_detectable_effect(100, p=1.1), "p = 1.1"),
        (lambda: ab.minimum_detectable_effect(100, p=0.5, direction=1), "direction = 1"),
        (lambda: ab.minimum_detectable_effect(100, p=0.5, change="none"), "change = 'none'"),
        (lambda: design_effect(0.5, 0.1), "cluster_size = 0.5"),
        (lambda: design_effect(5, -0.1), "icc = -0.1"),
        (lambda: design_effect(5, 0.1, cv=-1), "cv = -1"),
    ],
)
def test_other_plans_that_cannot_be_are_refused_with_the_value(call, words):
    with pytest.raises(ValueError, match=words):
        call()


# --- assignment ---

# from the package growthbook 4.0.0, gbhash(seed, unit, 2)
HASHES = [
    ("seed", "a", 0.0505),
    ("seed", "b", 0.2696),
    ("foo", "ab", 0.2575),
    ("foo", "def", 0.2019),
    ("89123klj", "8952klfjas09ujkasdf", 0.124),
    ("90850943850283058242805", "123", 0.7516),
    ("()**(%$##$%#$#", '___)((*":&', 0.0128),
    ("", "a", 0.0216),
    ("genres-v2", "v0000001", 0.3449),
    ("tags", "é", 0.8086),
    ("tags", "日本語", 0.8933),
    ("tags", "🎬", 0.3324),
    ("été", "v0000012", 0.0927),
    ("s", "0", 0.8858),
    ("s", "4", 0.4311),
]


@pytest.mark.parametrize("seed, unit, value", HASHES)
def test_hashes_are_growthbooks(seed, unit, value):
    assert ab.hash_unit(seed, unit) == value


# GrowthBook's test cases for bucket ranges, those with weights and coverage that are not repaired
@pytest.mark.parametrize(
    "weights, coverage, ranges",
    [
        ([0.5, 0.5], 1, [(0, 0.5), (0.5, 1)]),
        ([0.5, 0.5], 0.5, [(0, 0.25), (0.5, 0.75)]),
        ([0.5, 0.5], 0, [(0, 0), (0.5, 0.5)]),
        ([0.25] * 4, 1, [(0, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1)]),
        ([0.4, 0.6], 1, [(0, 0.4), (0.4, 1)]),
        ([0.2, 0.3, 0.5], 0.2, [(0, 0.04), (0.2, 0.26), (0.5, 0.6)]),
        ([1 / 3] * 3, 1, [(0, 1 / 3), (1 / 3, 2 / 3), (2 / 3, 1)]),
    ],
)
def test_each_variant_owns_growthbooks_range_of_the_hash(weights, coverage, ranges):
    units = [f"u{i}" for i in range(4000)]
    at, got = (
        np.array([ab.hash_unit("ranges", u) for u in units]),
        ab.assign_many(units, "ranges", weights, coverage),
    )
    edge = (
        np.min([np.abs(at - e) for r in ranges for e in r], axis=0) < 1e-9
    )  # sums of floating-point weights
    for i, (low, high) in enumerate(ranges):
        assert ((got == i) == ((low <= at) & (at < high)))[~edge].all()
    assert edge.mean() < 0.01 and set(got) <= {-1, *range(len(weights))}


@pytest.mark.parametrize(
    "unit, at",
    [
        ("v0000000", 0.282),
        ("v0000001", 0.349),
        ("v0000002", 0.228),
        ("1", 0.897),
        ("2", 0.4),
        ("é", 0.577),
    ],
)
def test_layers_are_growthbooks_namespaces(unit, at):
    assert ab.Slots("page", {"in": (at, at + 0.001)}).owner(unit) == "in"
    assert ab.Slots("page", {"below": (0, at), "above": (at + 0.001, 1)}).owner(unit) == ""


weights = (
    st.lists(st.integers(0, 20), min_size=2, max_size=6)
    .filter(sum)
    .map(lambda w: [x / sum(w) for x in w])
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=40),
    st.text(max_size=8),
    weights,
    st.floats(0, 1),
)
def test_many_are_assigned_bit_for_bit_as_one(units, seed, w, coverage):
    one = [ab.assign(u, seed, w, coverage) for u in units]
    for many in (units, np.array(units, object), pd.Series(units, dtype=object)):
        assert ab.assign_many(many, seed, w, coverage).tolist() == one


def test_many_kinds_of_ids_are_accepted():
    ids = [str(i) for i in range(90, 1200)]
    want = [ab.assign(i, "x", [0.5, 0.5]) for i in ids]
    kinds = [
        ids,
        tuple(ids),
        np.array(ids),
        np.array(ids, object),
        pd.Series(ids),
        pd.Series(ids, dtype="category"),
        pd.Index(ids),
        pd.array(ids),
        np.arange(90, 1200),
        pd.Series(np.arange(90, 1200)),
        range(90, 1200),
    ]
    for k in kinds:
        assert ab.assign_many(k, "x", [0.5, 0.5]).tolist() == want


@pytest.mark.parametrize(
    "units",
    [
        [2**63],
        [2**64, -(2**70), 5],
        [uuid.UUID(int=2**127 + 9).int, "a"],
        np.array([2**63 + 1, 7], np.uint64),
        np.array([2**63, 2**90], object),
        pd.Series([2**80, 3], dtype=object),
        [7, "7", np.int64(7), np.uint64(2**63)],
        ["\ud800"],
        ["a\udfff", "é", "b"],
        pd.Series(["\ud800", "x"], dtype=object),
    ],
)
def test_ids_of_any_length_and_half_characters_are_assigned_as_one(units):
    layer = ab.Slots("layer", {"a": (0, 0.3), "b": (0.3, 0.9)})
    one = [ab.assign(unit, "x", [0.2, 0.8], 0.9) for unit in units]
    assert ab.assign_many(units, "x", [0.2, 0.8], 0.9).tolist() == one
    assert layer.owners(units).tolist() == [layer.owner(unit) for unit in units]


@pytest.mark.parametrize(
    "none",
    [[], (), np.array([]), np.array([], object), np.array([], "U3"), pd.Series([], dtype=float)],
)
def test_no_ids_have_no_variants(none):
    assert ab.assign_many(none, "x", [0.5, 0.5]).shape == (0,)
    assert ab.Slots("layer", {"a": (0, 1)}).owners(none).shape == (0,)


def test_a_layer_without_experiments_owns_nobody():
    layer = ab.Slots("layer", {})
    assert layer.owners(["a", 5]).tolist() == ["", ""] == [layer.owner("a"), layer.owner(5)]


def test_long_tables_and_odd_lengths_agree_with_the_loop():
    ids = [f"u{i * i}" for i in range(70_000)]
    got = ab.assign_many(ids, "long", [0.1, 0.2, 0.7], 0.8)
    some = stream(7, "some").integers(0, 70_000, 3000)
    assert got[some].tolist() == [ab.assign(ids[i], "long", [0.1, 0.2, 0.7], 0.8) for i in some]


def test_shares_are_uniform_and_experiments_independent():
    n = 400_000
    shares = ab.assign_many(np.arange(n), "shares", [0.2, 0.3, 0.5], 0.9)
    assert ab.srm(np.bincount(shares + 1), [0.1, 0.18, 0.27, 0.45]) > 0.001
    arms = np.array([ab.assign_many(np.arange(n), f"exp-{i}", [0.5, 0.5]) for i in range(12)])
    p = [
        stats.chi2_contingency(np.histogram2d(arms[i], arms[j], 2)[0], correction=False).pvalue
        for i in range(12)
        for j in range(i)
    ]
    assert min(p) > 0.001 / len(p) and stats.kstest(p, "uniform").pvalue > 0.001


def test_coverage_adds_units_and_moves_none():
    a, b = (ab.assign_many(np.arange(50_000), "grow", [0.3, 0.7], c) for c in (0.2, 0.7))
    assert (
        (b[a >= 0] == a[a >= 0]).all()
        and (a >= 0).mean() == pytest.approx(0.2, abs=0.01)
        and (b >= 0).mean() == pytest.approx(0.7, abs=0.01)
    )


def test_layers_split_without_overlap_and_independent_of_assignment():
    ids = np.arange(200_000)
    owner = ab.Slots("front", {"a": (0, 0.3), "b": (0.3, 0.5)}).owners(ids)
    assert {k: round(v, 2) for k, v in pd.Series(owner).value_counts(normalize=True).items()} == {
        "": 0.5,
        "a": 0.3,
        "b": 0.2,
    }
    arm = ab.assign_many(ids, "a", [0.5, 0.5])
    assert ab.srm(np.bincount(arm[owner == "a"])) > 0.001


@pytest.mark.parametrize(
    "call, word",
    [
        (lambda: ab.assign("a", "x", [0.5, 0.6]), "sum to 1"),
        (lambda: ab.assign("a", "x", [1.0]), "at least 2"),
        (lambda: ab.assign("a", "x", [0.5, math.nan]), "weights"),
        (lambda: ab.assign("", "x", [0.5, 0.5]), "unit"),
        (lambda: ab.assign(None, "x", [0.5, 0.5]), "unit = None"),
        (lambda: ab.assign("a", None, [0.5, 0.5]), "experiment = None"),
        (lambda: ab.assign("a", "x", [0.5, 0.5], 2), "coverage = 2"),
        (lambda: ab.assign_many(["a", None], "x", [0.5, 0.5]), "missing"),
        (lambda: ab.assign_many([1.5], "x", [0.5, 0.5]), "1.5"),
        (lambda: ab.assign_many(np.array([1.0, 2.0]), "x", [0.5, 0.5]), "fractions"),
        (lambda: ab.assign_many(5, "x", [0.5, 0.5]), "sequence"),
        (lambda: ab.assign_many(["a", ""], "x", [0.5, 0.5]), "empty"),
        (lambda: ab.Slots("p", {"a": (0.2, 0.1)}), "overlap"),
        (lambda: ab.srm([1, -1]), "counts"),
        (lambda: ab.srm([0, 0]), "counts"),
        (lambda: ab.srm([5, 5], [0.2, 0.3, 0.5]), "2 counts, 3 weights"),
        (lambda: ab.srm([5.5, 5]), "whole"),
        (lambda: ab.srm([5]), "two variants"),
        (lambda: ab.srm([5, 5], [0.6, 0.6]), "sum to 1"),
        (lambda: ab.srm([5, math.nan]), "nan"),
        (lambda: ab.assign(True, "x", [0.5, 0.5]), "unit = True"),
        (lambda: ab.assign("a", "x", [".5", ".5"]), "weights: expected numbers"),
        (lambda: ab.assign("a", "x", [True, False]), "weights = True"),
        (lambda: ab.srm(["5", "6"]), "counts: expected numbers"),
        (lambda: ab.srm([True, False]), "counts = True"),
        (lambda: ab.srm([]), "0 counts"),
        (lambda: ab.srm(5), "counts = 5"),
        (lambda: ab.srm(None), "counts = None"),
        (lambda: ab.srm("55"), "counts = '55'"),
        (lambda: ab.assign("a", "x", 5), "weights"),
        (lambda: ab.Slots(" ", {"a": (0, 1)}), "name = ' '"),
        (lambda: ab.assign_many([1, math.nan, None], "x", [0.5, 0.5]), "2 missing"),
        (lambda: ab.assign_many([None, 2**70], "x", [0.5, 0.5]), "1 missing"),
        (lambda: ab.assign_many(["a", pd.NA, pd.NA], "x", [0.5, 0.5]), "2 missing"),
        (lambda: ab.assign_many(pd.Series([1, None]), "x", [0.5, 0.5]), "1 missing"),
        (lambda: ab.assign_many(["", 2**70], "x", [0.5, 0.5]), "empty"),
        (lambda: ab.Slots("p", {"a": ("0", "1")}), r"slices\['a'\] = '0'"),
        (lambda: ab.Slots("p", {"a": (0, None)}), r"slices\['a'\] = None"),
        (lambda: ab.Slots("p", {"a": (0, True)}), r"slices\['a'\] = True"),
        (lambda: ab.Slots("p", {"a": (0, 0.5, 1)}), "two numbers, low and high"),
        (lambda: ab.Slots("p", {"a": 5}), "two numbers, low and high"),
        (lambda: ab.Slots("p", {"a": "01"}), "two numbers, low and high"),
        (lambda: ab.Slots("p", {"a": (0, 1.5)}), "overlap"),
        (lambda: ab.Slots("p", {1: (0, 1)}), "experiment = 1"),
        (lambda: ab.Slots("p", [("a", (0, 1))]), "expected a dictionary"),
        (lambda: ab.Slots("p", None), "slices = None"),
        (lambda: ab.Slots(5, {"a": (0, 1)}), "name = 5"),
        (lambda: ab.assign("a", "x", [0.5, 0.5], "1"), "coverage = '1'"),
        (lambda: ab.cluster_assign(["a", None], "x"), "1 missing"),
        (lambda: ab.switchback(1, stream(7, "x")), "pairs = 1"),
        (lambda: ab.switchback(2.5, stream(7, "x")), "pairs = 2.5"),
    ],
)
def test_assignments_that_cannot_be_are_refused_with_the_value(call, word):
    with pytest.raises(ValueError, match=word):
        call()


# --- analysis ---


def test_the_mismatch_test_is_the_chi_square_of_scipy():
    for counts, w in (([520, 480], [0.5, 0.5]), ([101, 198, 700], [0.1, 0.2, 0.7])):
        assert ab.srm(counts, w) == pytest.approx(
            stats.chisquare(counts, np.array(w) * sum(counts)).pvalue, rel=1e-10
        )
    assert ab.srm([803_200, 796_800]) == pytest.approx(4.2e-7, rel=0.01)


def score_z(x, n, apart):
    "z for a difference `apart`, at the rates that are likeliest then, found by a plain search."

    def unlikely(p):
        rates = p, p + apart
        return -sum(stats.binom.logpmf(*two, rate) for *two, rate in zip(x, n, rates))

    bounds = max(0, -apart), min(1, 1 - apart)
    p = optimize.minimize_scalar(unlikely, bounds=bounds, options={"xatol": 1e-12}).x
    variance = p * (1 - p) / n[0] + (p + apart) * (1 - p - apart) / n[1]
    return (x[1] / n[1] - x[0] / n[0] - apart) / math.sqrt(variance)


@pytest.mark.parametrize(
    "counts, w",
    [
        ([1, 0], [0.5, 0.5]),
        ([0, 1], [0.9, 0.1]),
        ([9, 1], [0.5, 0.5]),
        ([10, 7], [0.5, 0.5]),
        ([585, 15], [0.99, 0.01]),
        ([300, 0], [0.98, 0.02]),
    ],
)
def test_the_mismatch_of_few_units_is_the_binomial_test(counts, w):
    exact = stats.binomtest(counts[0], sum(counts), w[0]).pvalue
    assert ab.srm(counts, w) == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize("counts, w", [([3, 4, 2], [0.2, 0.3, 0.5]), ([0, 0, 1, 6], [0.25] * 4)])
def test_the_mismatch_of_few_units_in_many_variants_counts_all_splits(counts, w):
    n, seen = sum(counts), stats.multinomial.pmf(counts, sum(counts), w)
    splits = (s for s in itertools.product(range(n + 1), repeat=len(w)) if sum(s) == n)
    chances = [stats.multinomial.pmf(s, n, w) for s in splits]
    unlikely = sum(chance for chance in chances if chance <= seen * (1 + 1e-7))
    assert ab.srm(counts, w) == pytest.approx(unlikely, rel=1e-9)


@pytest.mark.parametrize("n, w", [(12, 0.5), (100, 0.05), (600, 0.01)])
def test_the_mismatch_test_of_few_units_keeps_its_level(n, w):
    chance = stats.binom.pmf(np.arange(n + 1), n, w)
    alarms = [ab.srm([k, n - k], [w, 1 - w]) < 0.001 for k in range(n + 1)]
    assert chance[alarms].sum() <= 0.001


def test_many_variants_with_few_units_each_fall_back_on_chi_square():
    counts = [12, *[9] * 11]
    assert ab.srm(counts) == pytest.approx(stats.chisquare(counts).pvalue, rel=1e-10)


def test_the_sequence_of_mismatch_is_dirichlet_multinomial_over_multinomial():
    counts, w = np.array([[30, 50, 21], [0, 0, 0], [100, 170, 95]]), np.array([0.3, 0.5, 0.2])
    seen = counts.cumsum(0)
    factor = [
        stats.dirichlet_multinomial.pmf(row, 500 * w, row.sum())
        / stats.multinomial.pmf(row, row.sum(), w)
        for row in seen
    ]
    wanted = np.minimum(1, 1 / np.maximum.accumulate(factor))
    assert srm_sequence(counts, w, 500) == pytest.approx(wanted, rel=1e-8)
    frame = pd.DataFrame(counts, columns=list("abc"))
    assert srm_sequence(frame, w, 500) == pytest.approx(wanted, rel=1e-8)


def test_the_bet_on_a_broken_split_is_fair_where_it_works():
    "The mean of 1/p over all splits of forty units is at most 1 day by day: p is never too small."
    k = np.arange(41)
    p = np.array([srm_sequence([[i, 40 - i]], [0.3, 0.7], 20)[0] for i in k])
    chance = stats.binom.pmf(k, 40, 0.3)
    for alpha in (0.001, 0.01, 0.05, 0.2):
        assert chance[p <= alpha].sum() <= alpha
    assert p[12] == 1 and p.min() < 1e-6


def test_huge_counts_and_silent_days_have_a_p_value():
    assert srm_sequence([[10**9, 10**9 + 10**6]])[0] < 1e-50
    assert srm_sequence([[0, 0], [5, 5], [0, 0]]).tolist() == [1, 1, 1]


def test_segments_are_adjusted_by_holm_and_the_short_variant_is_named():
    rows = {"a": [500, 480, 510], "b": [300, 200, 290], 7: [1, 0, 2]}
    found = srm_by(rows)
    single = [ab.srm(row) for row in rows.values()]
    assert found.p_value.tolist() == single and found.index.tolist() == list(rows)
    assert found.adjusted.tolist() == ab.holm(single).tolist()
    assert found.short.tolist() == [1, 1, 1] and found.units.tolist() == [1490, 790, 3]
    assert found.below["b"] == pytest.approx(1 - 200 / (790 / 3))
    assert srm_by(pd.DataFrame(rows).T).equals(found)
    assert srm_by({"a": [90, 10]}, [0.9, 0.1]).below["a"] == pytest.approx(0)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: srm_sequence([[10, 10], [10, -1]]), r"counts\[1\]"),
        (lambda: srm_sequence([[10, 10], [10, 1.5]]), r"counts\[1\]"),
        (lambda: srm_sequence([[10, 10], [10]]), "a day or more"),
        (lambda: srm_sequence([]), "a day or more"),
        (lambda: srm_sequence([10, 10]), r"counts = \[10, 10\]: expected a row"),
        (lambda: srm_sequence("days"), "counts = 'days'"),
        (lambda: srm_sequence([[10, 10]], [0.5, 0.6]), "sum to 1"),
        (lambda: srm_sequence([[10, 10]], [0.2, 0.3, 0.5]), "2 counts, 3 weights"),
        (lambda: srm_sequence([[0, 0]]), "expected units"),
        (lambda: srm_sequence([[10, 10]], concentration=0), "concentration = 0"),
        (lambda: srm_by({}), "expected segments"),
        (lambda: srm_by([[10, 10]]), "expected segments"),
        (lambda: srm_by({"Opera": [0, 0]}), "'Opera': .*expected units"),
        (lambda: srm_by({"Opera": [5, 5]}, [0.5, 0.6]), "'Opera': .*sum to 1"),
        (lambda: srm_by({"a": [10, 12], "b": [5, 6, 7]}), "'b': 3 counts, expected 2 as for 'a'"),
        (lambda: srm_by({"a": [10, 12, 9], "b": [5, 6]}), "'b': 2 counts, expected 3 as for 'a'"),
        (lambda: srm_by(pd.DataFrame([[9, 8]] * 3, list("aab"))), "'a' more than once"),
        (lambda: srm_by(pd.DataFrame([[9, 8]] * 2, [7, 7])), "7 more than once"),
    ],
)
def test_splits_that_cannot_be_are_refused_with_the_day_or_the_segment(call, words):
    with pytest.raises(ValueError, match=words):
        call()


@pytest.mark.parametrize(
    "x, n",
    [
        ([19, 0], [1900, 100]),
        ([1000, 31], [1_000_000, 30_000]),
        ([1, 20], [20, 20]),
        ([40, 55], [1000, 1100]),
        ([400, 430], [10_000, 9000]),
        ([3, 9], [50, 60]),
        ([0, 4], [70, 80]),
    ],
)
def test_proportions_are_those_of_statsmodels(x, n):
    c = ab.compare_proportions(x, n)
    z, p = proportions_ztest(x[::-1], n[::-1])
    assert [c.statistic, c.p_value] == pytest.approx([z, p], rel=1e-9)
    reach = [score_z(x, n, end) for end in (c.low, c.high)]
    assert reach == pytest.approx([1.959964, -1.959964], abs=1e-4)
    assert c.difference == pytest.approx(x[1] / n[1] - x[0] / n[0]) and math.isinf(c.df)


@settings(max_examples=60)
@given(st.tuples(st.integers(0, 30), st.integers(0, 300)), st.floats(1e-6, 0.5))
def test_a_share_is_significant_exactly_where_its_interval_leaves_0_out(x, alpha):
    n = [30, 300]
    if sum(x) in (0, 330):
        return
    c = ab.compare_proportions(x, n, alpha)
    swapped = ab.compare_proportions(x[::-1], n[::-1], alpha)
    assert -1 <= c.low <= c.difference <= c.high <= 1
    assert [c.low, c.high] == pytest.approx([-swapped.high, -swapped.low], abs=1e-9)
    if abs(c.p_value - alpha) > 1e-9:
        assert (c.p_value < alpha) == (not c.low <= 0 <= c.high)


def test_nobody_yet_is_not_nobody_ever():
    "1% of 1,900 and nobody of 100: a third of such weeks, and no difference behind it."
    c = ab.compare_proportions([19, 0], [1900, 100])
    assert c.p_value == pytest.approx(0.315, abs=1e-3) and c.low < 0 < c.high
    x = stream(7, "rare").binomial([1900, 100], 0.01, (1500, 2))
    alarms = sum(ab.compare_proportions(row, [1900, 100]).p_value < 0.05 for row in x)
    assert alarms / 1500 < 0.05 + 2 * math.sqrt(0.05 * 0.95 / 1500)


def test_a_group_without_spread_is_given_the_pooled_one():
    a, b = [0.0] * 99 + [1.0], [0.0] * 5
    pooled = stats.ttest_ind(b, a, equal_var=True)
    c = ab.compare_means(a, b)
    assert c.statistic == pytest.approx(pooled.statistic, rel=1e-9) and c.low < 0 < c.high
    assert repr(c) == repr(
        ab.compare_means_from_stats([0.01, 0], [np.std(a, ddof=1), 0], [100, 5])
    )
    assert ab.compare_ratios(a, [1.0] * 100, b, [1.0] * 5).p_value == pytest.approx(c.p_value)
    rare = stream(7, "rare means").poisson(0.01, (1500, 2000)).astype(float)
    alarms = sum(
        row[:100].any() + row[100:].any() > 0
        and ab.compare_means(row[100:], row[:100]).p_value < 0.05
        for row in rare
    )
    assert alarms / 1500 < 0.08, "the normal curve is poor here, but not blind"


@pytest.mark.parametrize("alpha", [0.05, 0.01])
def test_means_are_welchs_of_scipy_and_statsmodels(alpha):
    rng = stream(7, "welch")
    a, b = rng.gamma(2.0, 1.0, 60), rng.gamma(3.0, 2.0, 35)
    c, t = ab.compare_means(a, b, alpha), stats.ttest_ind(b, a, equal_var=False)
    assert [c.statistic, c.p_value, c.df] == pytest.approx([t.statistic, t.pvalue, t.df], rel=1e-10)
    assert [c.low, c.high] == pytest.approx(list(t.confidence_interval(1 - alpha)), rel=1e-10)
    assert [c.low, c.high] == pytest.approx(
        CompareMeans(DescrStatsW(b), DescrStatsW(a)).tconfint_diff(alpha, usevar="unequal"),
        rel=1e-10,
    )
    d = ab.compare_means_from_stats(
        [a.mean(), b.mean()], [a.std(ddof=1), b.std(ddof=1)], [60, 35], alpha
    )
    assert repr(c) == repr(d) and c.relative == pytest.approx(b.mean() / a.mean() - 1)


def test_swapping_the_arms_turns_the_sign():
    a, b = [1.0, 2, 4, 5], [2.0, 6, 6, 9, 11]
    c, d = ab.compare_means(a, b), ab.compare_means(b, a)
    assert [c.difference, c.low, c.high, c.p_value] == pytest.approx(
        [-d.difference, -d.high, -d.low, d.p_value]
    )


def test_ratios_are_the_clustered_regression_of_statsmodels():
    """The delta method with one group is a weighted mean with cluster-robust errors; statsmodels
    leaves out n / (n - 1)."""
    import statsmodels.api as sm

    rng = stream(7, "ratio")
    n = 400
    rate, views = rng.beta(2, 8, (2, n)), rng.poisson(5, (2, n)) + 1
    clicks = rng.binomial(views, rate)
    c = ab.compare_ratios(clicks[0], views[0], clicks[1], views[1])
    unit, arm = np.repeat(np.arange(2 * n), views.ravel()), np.repeat([0, 1], views.sum(1))
    y = np.concatenate(
        [np.repeat([1, 0], [k, v - k]) for k, v in zip(clicks.ravel(), views.ravel())]
    )
    fit = sm.OLS(y, sm.add_constant(arm)).fit(
        cov_type="cluster", cov_kwds={"groups": unit, "use_correction": False}
    )
    assert c.difference == pytest.approx(fit.params[1], rel=1e-9)
    assert c.difference / c.statistic == pytest.approx(
        fit.bse[1] * math.sqrt(n / (n - 1)), rel=1e-9
    )


@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_sums_give_what_raw_values_give(alpha):
    rng = stream(7, "sums")
    x, y = rng.poisson(4.0, (2, 300)) + 1.0, rng.gamma(2.0, 3.0, (2, 300))
    y += 0.5 * x
    sums = [ab.Sums.of(*pair) for pair in zip(y, x)]
    z = ab.cuped(y.ravel(), x.ravel()).reshape(2, -1)
    for got, want in (
        (
            ab.compare_ratios_from_sums(*sums, alpha),
            ab.compare_ratios(y[0], x[0], y[1], x[1], alpha),
        ),
        (ab.compare_cuped_from_sums(*sums, alpha), ab.compare_means(*z, alpha)),
    ):
        assert [
            getattr(got, k) for k in ("difference", "relative", "low", "high", "p_value", "df")
        ] == pytest.approx(
            [getattr(want, k) for k in ("difference", "relative", "low", "high", "p_value", "df")],
            rel=1e-9,
        )
    parts = ab.Sums.of(y[0, :100], x[0, :100]) + ab.Sums.of(y[0, 100:], x[0, 100:])
    assert [getattr(parts, k) for k in ("n", "yy", "xy")] == pytest.approx(
        [getattr(sums[0], k) for k in ("n", "yy", "xy")]
    )


def test_sums_of_a_past_that_pulls_down_are_accepted():
    y, x = np.array([1.0, 2, 4]), np.array([5.0, 2, 1])
    assert ab.Sums.of(y, x).spread == pytest.approx((np.var(y, ddof=1), np.var(x, ddof=1), -17 / 6))


def test_non_inferiority_is_the_shifted_test_of_statsmodels():
    from statsmodels.stats.proportion import test_proportions_2indep as shifted

    for x, n, margin in (
        ([500, 470], [5000, 5000], 0.01),
        ([500, 480], [5000, 5000], 0.01),
        ([50, 49], [500, 400], 0.02),
        ([500, 500], [5000, 5000], 0.02),
    ):
        p = shifted(
            x[1],
            n[1],
            x[0],
            n[0],
            value=-margin,
            method="score",
            compare="diff",
            alternative="larger",
            correction=False,
        ).pvalue
        assert ab.non_inferior(ab.compare_proportions(x, n), margin) == (p < 0.025)
    rng = stream(7, "inferior")
    a, b = rng.normal(10, 2, 80), rng.normal(9.8, 3, 60)
    p = CompareMeans(DescrStatsW(b), DescrStatsW(a)).ttest_ind(
        alternative="larger", usevar="unequal", value=-1.0
    )[1]
    assert ab.non_inferior(ab.compare_means(a, b), 1.0) == (p < 0.025)


def test_a_ratio_over_ones_is_a_mean():
    rng = stream(7, "ones")
    a, b = rng.normal(size=30), rng.normal(size=50)
    assert repr(ab.compare_ratios(a, np.ones(30), b, np.ones(50))) == repr(ab.compare_means(a, b))


def test_series_and_lists_and_arrays_give_the_same():
    a, b = [1, 2, 3, 9], [2, 3, 5, 7]
    assert (
        len({repr(ab.compare_means(f(a), f(b))) for f in (list, np.array, pd.Series, tuple)}) == 1
    )
    assert (
        len(
            {
                repr(ab.compare_proportions(f([3, 5]), f([20, 20])))
                for f in (list, np.array, pd.Series, tuple)
            }
        )
        == 1
    )


@pytest.mark.parametrize(
    "call, word",
    [
        (lambda: ab.compare_proportions([-1, 5], [10, 10]), "-1"),
        (lambda: ab.compare_proportions([11, 5], [10, 10]), "no more successes"),
        (lambda: ab.compare_proportions([0, 0], [0, 10]), "both groups"),
        (lambda: ab.compare_proportions([0, 0], [10, 10]), "zero variance"),
        (lambda: ab.compare_proportions([10, 10], [10, 10]), "zero variance"),
        (lambda: ab.compare_proportions([1, 2, 3], [9, 9, 9]), "two values"),
        (lambda: ab.compare_proportions([math.nan, 2], [9, 9]), "nan"),
        (lambda: ab.compare_proportions([1, 2], [9, 9], 1.5), "alpha = 1.5"),
        (lambda: ab.compare_means([], [1, 2]), "control"),
        (lambda: ab.compare_means([1, 2], [3]), "treatment"),
        (lambda: ab.compare_means([1, math.inf], [1, 2]), "control"),
        (lambda: ab.compare_means([1, 1], [1, 1]), "zero variance"),
        (lambda: ab.compare_means([[1, 2]], [1, 2]), "shape"),
        (lambda: ab.compare_means(["a", "b"], [1, 2]), "numbers"),
        (lambda: ab.compare_means_from_stats([1, 2], [-1, 1], [9, 9]), "sds = -1"),
        (lambda: ab.compare_means_from_stats([1, 2], [1, 1], [9, 1]), "at least two"),
        (lambda: ab.compare_means_from_stats([1, math.nan], [1, 1], [9, 9]), "nan"),
        (lambda: ab.Sums(1, 0, 0, 0, 0, 0), "n = 1"),
        (lambda: ab.Sums(5, math.nan, 0, 0, 0, 0), "y = nan"),
        (lambda: ab.Sums(5, 10, 0, 1, 0, 0), "smaller than"),
        (lambda: ab.Sums.of([1, 2], [1]), "x has"),
        (lambda: ab.Sums.of([1, math.nan], [1, 2]), "nan"),
        (
            lambda: ab.compare_ratios_from_sums(
                ab.Sums.of([1, 2], [0, 0]), ab.Sums.of([1, 2], [1, 2])
            ),
            "control: the denominators",
        ),
        (lambda: ab.compare_cuped_from_sums(*[ab.Sums.of([1, 2], [3, 3])] * 2), "zero variance"),
        (lambda: ab.compare_ratios([1, 2], [1, 2, 3], [1, 2], [1, 2]), "2 values"),
        (lambda: ab.compare_ratios([1, 2], [0, 0], [1, 2], [1, 2]), "not all 0"),
        (lambda: ab.compare_ratios([1, 2], [1, -1], [1, 2], [1, 2]), "-1"),
        (lambda: ab.compare_ratios([1, 2], [1, 2], [3, 6], [1, 2]), "zero variance"),
        (lambda: ab.cuped([1, 2], [3, 3]), "zero variance"),
        (lambda: ab.cuped([1, math.nan], [3, 4]), "nan"),
        (lambda: ab.cuped([1, 2, 3], [3, 4]), "one of each"),
        (lambda: ab.non_inferior(ab.compare_means([1, 2], [2, 3]), -0.1), "margin"),
        (lambda: ab.holm([0.1, math.nan]), "nan"),
        (lambda: ab.benjamini_hochberg([]), "at least 1"),
        (lambda: ab.holm([2.0]), "from 0 to 1"),
        (lambda: ab.always_valid(0.1, 0, 10), "se = 0"),
        (lambda: ab.always_valid(0.1, 0.1, -5), "n = -5"),
        (lambda: ab.always_valid(math.nan, 0.1, 5), "difference"),
        (lambda: ab.always_valid(0.1, 0.1, 5, tuning_n=0), "tuning_n"),
        (lambda: ab.crossing([0.0]), "above 0"),
        (lambda: ab.group_sequential(2.5), "looks = 2.5"),
        (lambda: ab.group_sequential(5, 1.5), "alpha"),
        (lambda: ab.bayes_proportions([5, 1], [4, 9]), "no more"),
        (lambda: ab.bayes_proportions([1, 1], [4, 9], (1, -1)), "prior"),
    ],
)
def test_data_that_cannot_be_are_refused_with_the_value(call, word):
    with pytest.raises(ValueError, match=word):
        call()


def test_cuped_is_the_residual_of_a_regression():
    rng = stream(7, "cuped")
    x = rng.gamma(2.0, 3.0, 500)
    y = 2 * x + rng.normal(0, 4, 500)
    got, fit = ab.cuped(y, x), stats.linregress(x, y)
    assert got == pytest.approx(
        y - fit.slope * (x - x.mean()), rel=1e-9
    ) and got.mean() == pytest.approx(y.mean())
    assert got.var() / y.var() == pytest.approx(1 - fit.rvalue**2) and ab.cuped(
        y, 1e9 + 1e3 * x
    ) == pytest.approx(got, rel=1e-6)


@pytest.mark.parametrize("k", [1, 2, 3, 10, 40])
def test_corrections_are_those_of_statsmodels(k):
    for i in range(8):
        p = stream(7, "p", k, i).random(k).round(1 + i % 3) ** 2  # with ties
        assert ab.holm(p) == pytest.approx(
            multipletests(p, method="holm")[1]
        ) and ab.benjamini_hochberg(p) == pytest.approx(multipletests(p, method="fdr_bh")[1])


# --- sequential ---


# Jennison and Turnbull (2000), tables 2.1 and 2.3: constants for two-sided tests
@pytest.mark.parametrize(
    "looks, alpha, pocock, obf",
    [
        (1, 0.05, 1.960, 1.960),
        (2, 0.05, 2.178, 1.977),
        (3, 0.05, 2.289, 2.004),
        (4, 0.05, 2.361, 2.024),
        (5, 0.05, 2.413, 2.040),
        (10, 0.05, 2.555, 2.087),
        (20, 0.05, 2.672, 2.126),
        (5, 0.01, 2.986, 2.621),
        (10, 0.01, 3.117, 2.660),
        (5, 0.1, 2.122, 1.751),
    ],
)
def test_bounds_are_those_of_the_tables(looks, alpha, pocock, obf):
    assert ab.group_sequential(looks, alpha, "pocock") == pytest.approx(
        np.full(looks, pocock), abs=0.0006
    )
    assert ab.group_sequential(looks, alpha) == pytest.approx(
        obf * np.sqrt(looks / np.arange(1, looks + 1)), abs=0.0006 * math.sqrt(looks)
    )


def test_the_constants_named_everywhere():
    assert ab.group_sequential(5).round(2).tolist() == [4.56, 3.23, 2.63, 2.28, 2.04]
    assert ab.group_sequential(5, kind="pocock").round(2).tolist() == [2.41] * 5


def test_one_sided_bounds_keep_alpha_and_are_close_to_twice_the_two_sided():
    one = ab.group_sequential(5, 0.025, two_sided=False)
    assert ab.crossing(one, two_sided=False).sum() == pytest.approx(0.025, abs=1e-7)
    assert one == pytest.approx(ab.group_sequential(5, 0.05), rel=2e-6)


def test_the_integral_is_the_bivariate_normal_for_two_looks():
    b, drift = np.array([2.5, 2.0]), 0.7
    cov = [[1, math.sqrt(0.5)], [math.sqrt(0.5), 1]]
    inside = stats.multivariate_normal([drift, drift * math.sqrt(2)], cov).cdf(b, lower_limit=-b)
    assert 1 - ab.crossing(b, drift).sum() == pytest.approx(inside, abs=1e-6)


@pytest.mark.parametrize(
    "drift, two_sided", [(0.0, True), (0.4, True), (-0.3, True), (0.4, False), (6.0, True)]
)
def test_first_crossings_are_those_of_simulated_walks(drift, two_sided):
    b = np.array([3.0, np.inf, 2.2, 2.4, 1.9])
    z = (stream(7, "walks").standard_normal((100_000, 5)) + drift).cumsum(1) / np.sqrt(
        np.arange(1, 6)
    )
    hit = (np.abs(z) if two_sided else z) > b
    first = np.bincount(np.where(hit.any(1), hit.argmax(1), 5), minlength=6)[:5]
    for k, p in zip(first, ab.crossing(b, drift, two_sided)):
        assert stats.binomtest(int(k), 100_000, min(p, 1)).pvalue > 0.0005


def test_the_confidence_sequence_is_growthbooks():
    "Values of gbstats' SequentialTwoSidedTTest for n 3000 / 2500, means 1 / 1.3, variances 4 / 5."
    se = math.sqrt(4 / 3000 + 5 / 2500)
    for tuning, low, high, p in (
        (5000, 0.12475156013578592, 0.47524843986421417, 1.712603702425361e-05),
        (1000, 0.1172926766140705, 0.4827073233859296, 1.2394889445470752e-05),
    ):
        s = ab.always_valid(0.3, se, 5500, tuning_n=tuning)
        assert [s.low, s.high, s.p_value] == pytest.approx([low, high, p], rel=1e-10)


@settings(max_examples=200, deadline=None)
@given(
    st.floats(-5, 5),
    st.floats(0.01, 2),
    st.integers(10, 10**6),
    st.sampled_from([0.01, 0.05, 0.2]),
    st.sampled_from([100, 5000, 10**6]),
)
def test_the_sequences_p_value_and_interval_say_the_same(d, se, n, alpha, tuning):
    s = ab.always_valid(d, se, n, alpha, tuning)
    edge = min(abs(s.low), abs(s.high))
    assert (s.p_value < alpha) == (s.low > 0 or s.high < 0) or edge < 1e-9
    assert 0 <= s.p_value <= 1 and (s.low + s.high) / 2 == pytest.approx(d, abs=1e-9)


def test_the_sequence_is_tightest_near_its_tuning():
    z = np.array(
        [
            [ab.always_valid(0, 1, n, tuning_n=t).high for t in (500, 5000, 50_000)]
            for n in (500, 5000, 50_000)
        ]
    )
    assert z.argmin(1).tolist() == [0, 1, 2]


# --- looks at any time ---


@pytest.mark.parametrize(
    "fractions, kind, published",
    [  # R: ldbounds and gsDesign (sfLDOF, sfLDPocock), alpha 0.025 on each side
        ([0.2, 0.4, 0.6, 0.8, 1], "obrien-fleming", [4.8769, 3.3570, 2.6803, 2.2898, 2.0310]),
        ([0.2, 0.4, 0.6, 0.8, 1], "pocock", [2.4380, 2.4268, 2.4101, 2.3966, 2.3859]),
        ([1 / 3, 2 / 3, 1], "obrien-fleming", [3.7103, 2.5114, 1.9930]),
        ([0.5, 1], "obrien-fleming", [2.9626, 1.9686]),
        ([1], "pocock", [1.9600]),
    ],
)
def test_spending_bounds_are_the_published_ones(fractions, kind, published):
    assert spending_bounds(fractions, kind=kind) == pytest.approx(published, abs=1e-4)


@pytest.mark.parametrize("two_sided", [True, False])
@pytest.mark.parametrize("kind", ["obrien-fleming", "pocock"])
@pytest.mark.parametrize("at", [[0.07, 0.3, 0.31, 0.9, 1], [0.5, 0.501, 1], np.arange(1, 41) / 40])
def test_uneven_looks_spend_all_and_no_more_than_alpha(at, kind, two_sided):
    bounds = spending_bounds(at, 0.04, kind, two_sided)
    spent = ab.crossing(bounds, two_sided=two_sided, fractions=at)
    assert spent.sum() == pytest.approx(0.04, abs=1e-8) and (bounds > 0).all()
    assert spending_bounds(at[:2], 0.04, kind, two_sided) == pytest.approx(bounds[:2], abs=1e-12)


def crossings_written_out(bounds, drift, nodes=700):
    "Upper first crossings of a walk with unit steps, on one grid for each look."
    at, weight = np.polynomial.legendre.leggauss(nodes)
    x, mass, first = np.zeros(1), np.ones(1), []
    for k, bound in enumerate(bounds * np.sqrt(np.arange(1, len(bounds) + 1)), 1):
        first.append(mass @ stats.norm.sf(bound - x - drift))
        half = min(bound, 10 * k**0.5 + drift * k)
        y = half * at
        x, mass = y, half * weight * (stats.norm.pdf(y[:, None] - x - drift) @ mass)
    return np.array(first)


@pytest.mark.parametrize("kind", ["obrien-fleming", "pocock"])
@pytest.mark.parametrize("drift", [0.0, 0.2])
def test_crossings_of_many_looks_are_the_integrals_written_out(kind, drift):
    bounds = ab.group_sequential(30, kind=kind)
    up, down = (crossings_written_out(bounds, d) for d in (drift, -drift))
    assert ab.crossing(bounds, drift) == pytest.approx(up + down, abs=1e-11)
    late = np.r_[np.full(15, np.inf), bounds[15:]]  # the same grid again, and then another
    assert ab.crossing(late).sum() < ab.crossing(bounds).sum()


@pytest.mark.parametrize("two_sided", [True, False])
@pytest.mark.parametrize("kind", ["obrien-fleming", "pocock"])
def test_the_bounds_spend_alpha_to_ten_digits(kind, two_sided):
    for looks, alpha in ((1, 0.05), (3, 0.4), (25, 0.001)):
        bounds = ab.group_sequential(looks, alpha, kind, two_sided)
        assert ab.crossing(bounds, two_sided=two_sided).sum() == pytest.approx(alpha, abs=1e-10)


def test_uneven_crossings_are_the_bivariate_normal():
    b, t, drift = np.array([2.5, 2.0]), np.array([0.3, 0.9]), 0.7
    cov = [[1, math.sqrt(1 / 3)], [math.sqrt(1 / 3), 1]]
    mean = drift * np.sqrt(t / 0.3)
    inside = stats.multivariate_normal(mean, cov).cdf(b, lower_limit=-b)
    assert 1 - ab.crossing(b, drift, fractions=t).sum() == pytest.approx(inside, abs=1e-6)
    assert ab.crossing([2.0] * 4, 0.3, False) == pytest.approx(
        ab.crossing([2.0] * 4, 0.3, False, [0.1, 0.2, 0.3, 0.4]), abs=1e-12
    )


def test_a_look_too_early_to_buy_a_bound_has_none():
    assert spending_bounds([0.01, 1]) == pytest.approx([np.inf, 1.959964], abs=1e-6)
    assert spending_bounds([0.01], kind="pocock")[0] < 4


@pytest.mark.parametrize(
    "fractions, words",
    [
        ([0.2, 0.2], r"fractions\[1\] = 0.2: expected more than 0.2"),
        ([0.2, 0.5, 0.4], r"fractions\[2\] = 0.4: expected more than 0.5"),
        ([0.0, 0.5], r"fractions\[0\] = 0.0"),
        ([0.5, 1.1], r"fractions\[1\] = 1.1"),
        ([0.5, 0.5001], "take the two as one look"),
        ([], "fractions has shape"),
        ([0.5, math.nan], r"fractions\[1\] = nan"),
    ],
)
def test_looks_that_do_not_move_on_are_refused(fractions, words):
    for call in (
        lambda: spending_bounds(fractions),
        lambda: futility_bounds(fractions),
        lambda: ab.crossing(np.full(max(len(fractions), 1), 2.0), fractions=fractions),
        lambda: after_stopping(2.0, fractions, np.full(len(fractions), 2.0)),
    ):
        with pytest.raises(ValueError, match=words):
            call()


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: spending_bounds([1], 0.6, two_sided=False), "alpha = 0.6"),
        (lambda: spending_bounds([1], kind="linear"), "kind = 'linear'"),
        (lambda: ab.crossing([2.0], fractions=[0.5, 1]), "1 bounds, 2 fractions"),
        (lambda: futility_bounds([0.5, 1], power=0.05), "power = 0.05"),
        (lambda: futility_bounds([0.5, 1], drift=0), "drift = 0"),
        (lambda: futility_bounds([0.5, 1], bounds=[2.0, -1.0]), "bounds"),
        (lambda: conditional_power(1, 0), "fraction = 0"),
        (lambda: conditional_power(math.inf, 0.5), "z = inf"),
        (lambda: after_stopping(2, [0.5, 1], [2.0]), "each of the 2 looks"),
        (lambda: after_stopping(2, [1], [2.0], se=0), "se = 0"),
        (lambda: ab.always_valid(1, 1, 100, 0.5, two_sided=False), "alpha = 0.5"),
    ],
)
def test_looks_that_cannot_be_are_refused_with_the_value(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_conditional_power_is_the_chance_of_the_second_half():
    ahead = stream(7, "ahead").normal(2.8 * 0.6, math.sqrt(0.6), 100_000)
    won = (0.3 * math.sqrt(0.4) + ahead > 1.959964).sum()
    said = conditional_power(0.3, 0.4, drift=2.8)
    assert stats.binomtest(int(won), 100_000, said).pvalue > 0.001
    assert conditional_power(0.3, 0.4) == conditional_power(0.3, 0.4, 0.3 / math.sqrt(0.4))
    assert conditional_power(1.0, 0.5, alpha=0.025, two_sided=False) == conditional_power(1.0, 0.5)
    assert conditional_power(1.0, 0.5, bound=2.5) < conditional_power(1.0, 0.5)
    assert conditional_power(30.0, 0.5) == 1 and conditional_power(-30.0, 0.5) == 0


@pytest.mark.parametrize("kind", ["obrien-fleming", "pocock"])
def test_giving_up_spends_the_planned_share_of_the_misses(kind):
    at, drift = np.array([0.3, 0.5, 1]), 3.2
    low, high = futility_bounds(at, kind=kind, drift=drift), spending_bounds(at)
    one = stats.norm(drift * math.sqrt(0.3)).cdf(low[0])
    corner = math.sqrt(0.3 / 0.5)
    both = stats.multivariate_normal(drift * np.sqrt(at[:2]), [[1, corner], [corner, 1]])
    two = both.cdf([high[0], low[1]], lower_limit=[low[0], -np.inf])
    curve = {
        "pocock": 0.2 * np.log(1 + (math.e - 1) * at),
        "obrien-fleming": 2 * stats.norm.sf(stats.norm.isf(0.1) / np.sqrt(at)),
    }[kind]
    assert [one, one + two] == pytest.approx(curve[:2], abs=1e-6)
    assert low[2] == high[2] and (low[:2] < high[:2]).all()
    assert futility_bounds(at[:2], kind=kind, drift=drift) == pytest.approx(low[:2], abs=1e-12)


def test_giving_up_never_asks_for_more_than_success_does():
    at = [0.5, 0.9, 1]
    assert (futility_bounds(at, drift=8.0) <= spending_bounds(at)).all()
    assert futility_bounds([0.01, 1])[0] == -np.inf


def test_a_stop_at_the_first_look_reports_what_anybody_would():
    found = after_stopping(3.0, [0.4], [2.9], se=0.1)
    half = 0.1 * stats.norm.isf(0.025)
    assert [found.estimate, found.low, found.high, found.p_value] == pytest.approx(
        [0.3, 0.3 - half, 0.3 + half, 2 * stats.norm.sf(3)], abs=1e-8
    )
    rise = after_stopping(3.0, [0.4], [2.9], 0.1, 0.025, two_sided=False)
    assert [rise.low, rise.p_value] == pytest.approx([found.low, found.p_value / 2], abs=1e-8)
    assert rise.high == math.inf


def test_after_a_later_stop_the_ends_are_ordered_by_look_then_z():
    "Two looks, by the bivariate normal; and losses mirror wins."
    at, bounds, z = np.array([0.4, 1]), [2.2, 2.1], 2.6
    found = after_stopping(z, at, bounds)
    corner = math.sqrt(0.4)

    def better(drift):
        mean = drift * np.sqrt(at)
        pair = stats.multivariate_normal(mean, [[1, corner], [corner, 1]])
        later = pair.cdf([2.2, 40], lower_limit=[-2.2, z])
        return stats.norm.sf(2.2 - mean[0]) + later

    shares = [better(value) for value in (found.estimate, found.low, found.high)]
    assert shares == pytest.approx([0.5, 0.025, 0.975], abs=1e-5)
    assert found.p_value == pytest.approx(2 * better(0), abs=1e-5)
    loss = after_stopping(-z, at, bounds)
    assert [loss.estimate, loss.low, loss.high] == pytest.approx(
        [-found.estimate, -found.high, -found.low], abs=1e-7
    )
    assert loss.p_value == pytest.approx(found.p_value, abs=1e-9)


@settings(max_examples=100, deadline=None)
@given(
    st.floats(-5, 5),
    st.integers(10, 10**6),
    st.sampled_from([0.01, 0.05, 0.4]),
    st.sampled_from([100, 10**6]),
)
def test_the_one_sided_sequence_says_the_same_by_interval_and_p_value(z, n, alpha, tuning):
    one = ab.always_valid(z, 1, n, alpha, tuning, two_sided=False)
    assert (one.p_value <= alpha) == (one.low >= 0) or abs(one.low) < 1e-9
    assert 0 <= one.p_value <= 1 and one.high == math.inf


# --- Bayes ---


def exact_prob(a0, b0, a1, b1):
    "P(Beta(a1, b1) > Beta(a0, b0)) for whole a1, as a sum."
    from scipy.special import betaln

    i = np.arange(a1)
    return np.exp(
        betaln(a0 + i, b0 + b1) - np.log(b1 + i) - betaln(1 + i, b1) - betaln(a0, b0)
    ).sum()


@pytest.mark.parametrize(
    "x, n",
    [
        ([4, 9], [50, 60]),
        ([0, 3], [20, 20]),
        ([20, 20], [20, 20]),
        ([400, 430], [10_000, 10_000]),
        ([52_000, 52_500], [10**6, 10**6]),
    ],
)
def test_probabilities_are_the_closed_form_and_losses_the_double_integral(x, n):
    r = ab.bayes_proportions(x, n)
    a, b = np.array(x) + 1, np.array(n) - x + 1
    assert r.prob_better == pytest.approx(exact_prob(a[0], b[0], a[1], b[1]), rel=1e-6)
    swap = ab.bayes_proportions(x[::-1], n[::-1])
    gain = a[1] / (a[1] + b[1]) - a[0] / (a[0] + b[0])
    assert swap.prob_better == pytest.approx(
        1 - r.prob_better, abs=1e-8
    ) and swap.expected_loss - r.expected_loss == pytest.approx(gain, abs=1e-8)
    assert [swap.low, swap.high] == pytest.approx([-r.high, -r.low], abs=1e-8)


@pytest.mark.parametrize("prior", [(1, 1), (0.5, 0.5), (2, 40), (0.1, 0.1)])
def test_draws_from_the_posterior_agree(prior):
    rng = stream(7, "posterior")
    x, n = [3, 8], [60, 70]
    c, t = (rng.beta(k + prior[0], m - k + prior[1], 400_000) for k, m in zip(x, n))
    r = ab.bayes_proportions(x, n, prior)
    assert r.prob_better == pytest.approx(
        (t > c).mean(), abs=0.003
    ) and r.expected_loss == pytest.approx(np.maximum(c - t, 0).mean(), rel=0.03)
    assert [r.low, r.high] == pytest.approx(np.quantile(t - c, [0.025, 0.975]), abs=0.002)


def test_results_are_readable_and_frozen():
    c = ab.compare_proportions([40, 55], [1000, 1100])
    assert (
        repr(c).startswith("Comparison(difference=0.01, relative=0.25")
        and "<td>" in c._repr_html_()
        and c._repr_markdown_().count("\n") == 2
    )
    with pytest.raises(AttributeError):
        c.low = 0


# Rounding errors, tiny levels, and numbers that a float cannot hold


@pytest.mark.parametrize("value", [0.04, 0.1, 1 / 3, 1e-9, 7e12])
def test_constant_data_are_refused_whatever_rounding_does(value):
    flat = [value] * 10, [value] * 30
    for few, many in (flat, ([value] * 3, [value] * 7)):
        with pytest.raises(ValueError, match="zero variance"):
            ab.compare_means(few, many)
    views = [3.0, 6.0, 7.0], [6.0, 3.0, 1.0]
    clicks = [[value * v for v in group] for group in views]
    with pytest.raises(ValueError, match="zero variance"):
        ab.compare_ratios(clicks[0], views[0], clicks[1], views[1])
    with pytest.raises(ValueError, match="zero variance"):
        ab.cuped([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [value] * 6)
    sums = [ab.Sums.of(c, v) for c, v in zip(clicks, views)]
    with pytest.raises(ValueError, match="zero variance"):
        ab.compare_ratios_from_sums(*sums)
    past = [ab.Sums.of([1.0, 2.0, 4.0], [value] * 3), ab.Sums.of([2.0, 5.0], [value] * 2)]
    with pytest.raises(ValueError, match="zero variance"):
        ab.compare_cuped_from_sums(*past)


def test_sums_that_no_group_can_have_are_refused_and_others_are_not():
    assert ab.Sums.of([1, 2, 3], [3, 2, 1]).spread == pytest.approx((1, 1, -1))
    rng = stream(7, "sums")
    x = rng.normal(10, 2, 1000)
    y = 20 - x + rng.normal(0, 1, 1000)
    half = rng.random(1000) < 0.5
    groups = [ab.Sums.of(y[part], x[part]) for part in (~half, half)]
    want = ab.compare_ratios(y[~half], x[~half], y[half], x[half])
    assert ab.compare_ratios_from_sums(*groups).p_value == pytest.approx(want.p_value, rel=1e-6)
    for wrong in ((1000, 500, 1e6, 100, 1e13, 5e5), (10, 100, 1, 10, 1, 1)):
        with pytest.raises(ValueError, match="sums of squares are smaller"):
            ab.Sums(*wrong)
    with pytest.raises(ValueError, match="sum of products is larger"):
        ab.Sums(100, 100, 100, 200, 200, 1000)


def test_sums_whose_digits_are_gone_count_as_without_spread():
    y = 1e8 + stream(7, "far").normal(0, 1, (2, 50))
    groups = [ab.Sums.of(row, np.ones(50)) for row in y]
    with pytest.raises(ValueError, match="zero variance"):
        ab.compare_ratios_from_sums(*groups)


def test_levels_far_below_the_smallest_step_of_1_minus_alpha():
    c = ab.compare_means_from_stats([10, 5], [1, 1], [60, 60], alpha=2e-21)
    assert math.isfinite(c.low) and c.high < 0 and c.p_value < 2e-21
    assert ab.compare_proportions([900, 100], [1000, 1000], alpha=1e-30).high < 0
    assert ab.sample_size_proportions(0.1, 0.11, alpha=1e-17) == 166_620
    assert ab.sample_size_means(0.5, 1, alpha=1e-17) > ab.sample_size_means(0.5, 1, alpha=1e-12)


def test_numbers_at_the_ends_of_floats_are_right_or_refused():
    tiny = ab.compare_means_from_stats([1e-90, 2e-90], [1e-90] * 2, [10, 10])
    plain = ab.compare_means_from_stats([1, 2], [1, 1], [10, 10])
    assert [tiny.p_value, tiny.df] == pytest.approx([plain.p_value, plain.df])
    large = ab.compare_means_from_stats([1, 2], [1e160, 1], [10, 10])
    assert large.p_value == pytest.approx(1) and large.df == pytest.approx(9)
    with pytest.raises(ValueError, match="too large or too small"):
        ab.compare_means_from_stats([1e308, -1e308], [1e300, 1], [10, 10])


def test_masked_values_are_refused():
    hidden = np.ma.array([1.0, 2.0, 3.0, 100.0], mask=[0, 0, 0, 1])
    for call in (
        lambda: ab.compare_means(hidden, [1, 2, 3]),
        lambda: ab.cuped([1, 2, 3, 4], hidden),
        lambda: ab.holm(np.ma.array([0.1, 0.2], mask=[0, 1])),
        lambda: ab.compare_proportions([1, 2], np.ma.array([9, 9], mask=[0, 1])),
    ):
        with pytest.raises(ValueError, match="masked"):
            call()


@pytest.mark.parametrize(
    "successes, totals, prior",
    [
        ([30_000, 31], [1_000_000, 1_000], (1, 1)),
        ([4_687, 14], [8_672_359, 26_965], (1, 1)),
        ([100_000, 110], [1_000_000, 1_000], (1, 1)),
        ([0, 5], [5, 5], (0.1, 0.1)),
        ([50, 0], [100, 5], (0.01, 0.01)),
        ([3, 9], [50, 60], (0.5, 0.5)),
    ],
)
def test_two_posteriors_are_compared_as_draws_from_them_are(successes, totals, prior):
    found = ab.bayes_proportions(successes, totals, prior)
    rng, x, n = stream(7, "posterior"), np.array(successes), np.array(totals)
    c, t = rng.beta((x + prior[0])[:, None], (n - x + prior[1])[:, None], (2, 400_000))
    assert found.prob_better == pytest.approx((t > c).mean(), abs=0.004)
    assert found.expected_loss == pytest.approx(np.maximum(c - t, 0).mean(), rel=0.05, abs=1e-5)
    inside = [(t - c < end).mean() for end in (found.low, found.high)]
    assert inside == pytest.approx([0.025, 0.975], abs=0.003)
    mirrored = ab.bayes_proportions(successes[::-1], totals[::-1], prior)
    assert mirrored.prob_better == pytest.approx(1 - found.prob_better, abs=1e-6)
    assert [-mirrored.high, -mirrored.low] == pytest.approx([found.low, found.high], abs=1e-6)


def test_a_probability_stays_within_0_and_1():
    assert ab.bayes_proportions([0, 300], [1000, 1000]).prob_better <= 1
    assert ab.bayes_proportions([300, 0], [1000, 1000]).prob_better >= 0


def test_sizes_at_the_edges_are_those_of_r_or_refused_in_words():
    assert ab.sample_size_proportions(0.9, 1) == 74  # power.prop.test: 73.37
    assert ab.sample_size_proportions(0, 0.1) == ab.sample_size_proportions(1, 0.9) == 74
    assert ab.sample_size_proportions(1e-5, 1.01e-5) == 15_776_089_714
    assert ab.power_proportions(0, 1, 5) == 1
    for call, words in (
        (lambda: ab.sample_size_proportions(0.1, 0.12, alpha=0.8, power=0.05), "power = 0.05"),
        (lambda: ab.sample_size_means(0.1, 1, alpha=0.8, power=0.05), "power = 0.05"),
        (lambda: ab.minimum_detectable_effect(100, sd=1, power=0.01), "power = 0.01"),
        (lambda: ab.power_means(0.5, 1, 1.5, ratio=0.1), "more than two units"),
        (lambda: ab.group_sequential(5, 1e-20), "alpha = 1e-20"),
    ):
        with pytest.raises(ValueError, match=words):
            call()
    assert ab.crossing(ab.group_sequential(5, 1e-10)).sum() == pytest.approx(1e-10, rel=1e-3)


# The change as a share of the control


def fieller_brute(means, variances, critical, near):
    "Ends of the part that holds the estimate, by trying every change."
    changes = near + np.linspace(-40, 40, 800_001)
    contrast = means[1] - (1 + changes) * means[0]
    kept = contrast**2 <= critical**2 * (variances[1] + (1 + changes) ** 2 * variances[0])
    part = np.flatnonzero(~kept)
    middle = np.abs(changes - (means[1] / means[0] - 1)).argmin()
    below, above = part[part < middle], part[part > middle]
    low = changes[below.max() + 1] if below.size else -math.inf
    return low, changes[above.min() - 1] if above.size else math.inf


@pytest.mark.parametrize(
    "means, variances",
    [
        ([10, 12], [0.25, 0.25]),
        ([10, 12], [9, 0.25]),
        ([10, -12], [9, 0.25]),
        ([10, 12], [36, 0.25]),
        ([10, -12], [36, 0.25]),
        ([10, 3], [36, 16]),
        ([10, 0], [36, 16]),
        ([10, 12], [9, 0]),
        ([1.96, 12], [1, 1]),
    ],
)
def test_relative_intervals_are_all_changes_that_the_test_does_not_reject(means, variances):
    low, high = relative_interval(means, variances, 1.96)
    want = fieller_brute(means, variances, 1.96, means[1] / means[0] - 1)
    assert [low, high] == pytest.approx(want, abs=2e-4)
    negative = relative_interval([-m for m in means], variances, 1.96)
    assert negative == pytest.approx((-high, -low))
    larger = relative_interval([1e150 * m for m in means], [1e300 * v for v in variances], 1.96)
    assert larger == pytest.approx((low, high), rel=1e-6)


number = st.floats(-5, 5).map(lambda value: round(value, 3))


@settings(max_examples=200)
@given(st.tuples(number, number), st.tuples(st.floats(0.01, 3), st.floats(0.01, 3)))
def test_a_relative_interval_leaves_0_out_exactly_when_the_differences_does(means, sds):
    c = ab.compare_means_from_stats(means, sds, [9, 14])
    if not means[0]:
        assert np.isnan([c.relative, c.relative_low, c.relative_high]).all()
        return
    apart = min(abs(c.low), abs(c.high)) > 1e-9
    assert c.relative_low <= c.relative + 1e-9 and c.relative - 1e-9 <= c.relative_high
    assert not apart or (c.relative_low > 0) == (c.low > 0)
    assert not apart or (c.relative_high < 0) == (c.high < 0)


def test_relative_intervals_of_ratios_and_cuped_come_along():
    rng = stream(7, "relative")
    views, past = rng.poisson(4.0, (2, 60)) + 1, rng.gamma(2.0, 1.0, (2, 60))
    clicks = rng.binomial(views, 0.3).astype(float)
    c = ab.compare_ratios(clicks[0], views[0], clicks[1], views[1])
    sums = [ab.Sums.of(*group) for group in zip(clicks, views)]
    assert repr(c) == repr(ab.compare_ratios_from_sums(*sums))
    moments = [ratio_moments(*group, "") for group in zip(clicks, views)]
    means, variances, _ = zip(*moments)
    critical = stats.t.isf(0.025, c.df)
    assert (c.relative_low, c.relative_high) == pytest.approx(
        relative_interval(means, variances, critical)
    )
    sums = [ab.Sums.of(*group) for group in zip(clicks, past)]
    c = ab.compare_cuped_from_sums(*sums)
    assert c.relative_low < c.relative < c.relative_high


@pytest.mark.parametrize(
    "args, word",
    [
        (([1, 2, 3], [1, 1], 2), "means = .*expected two values"),
        (([1, math.nan], [1, 1], 2), "means = nan"),
        (([1, 2], [1, -1], 2), "variances = -1"),
        (([1, 2], [1, 1], 0), "critical = 0"),
    ],
)
def test_relative_intervals_of_what_cannot_be_are_refused(args, word):
    with pytest.raises(ValueError, match=word):
        relative_interval(*args)


def ratio_z(x, n, ratio):
    "The score statistic, with the likeliest rates found by brute force over the likelihood."
    top = min(1.0, 1 / ratio)

    def loss(p):
        return -stats.binom.logpmf(x, n, [p, min(ratio * p, 1)]).sum()

    edges = top * np.array([1e-9, 1 - 1e-9])
    p = optimize.minimize_scalar(loss, bounds=edges, method="bounded", options={"xatol": 1e-13}).x
    q = ratio * p
    variance = q * (1 - q) / n[1] + ratio**2 * p * (1 - p) / n[0]
    return (x[1] / n[1] - ratio * x[0] / n[0]) / math.sqrt(variance)


@pytest.mark.parametrize(
    "x, n",
    [
        ([400, 460], [10_000, 10_000]),
        ([3, 9], [50, 60]),
        ([19, 2], [1900, 100]),
        ([40, 55], [50, 60]),
        ([50, 55], [50, 60]),
    ],
)
def test_relative_changes_of_shares_are_those_the_score_test_keeps(x, n):
    c = ab.compare_proportions(x, n)
    ends = 1 + c.relative_low, 1 + c.relative_high
    assert [ratio_z(x, n, end) for end in ends] == pytest.approx([1.959964, -1.959964], abs=1e-3)
    if x[0] == n[0]:
        return  # statsmodels gives a complex number
    theirs = confint_proportions_2indep(
        x[1], n[1], x[0], n[0], compare="ratio", method="score", correction=False
    )
    assert ends == pytest.approx(theirs, rel=1e-4)


def test_a_control_without_a_success_bounds_the_ratio_from_below_only():
    none = ab.compare_proportions([0, 9], [70, 80])
    all_lost = ab.compare_proportions([9, 0], [80, 70])
    assert math.isnan(none.relative) and none.relative_high == math.inf
    assert 0 < none.relative_low < math.inf and none.low > 0
    assert all_lost.relative == all_lost.relative_low == -1 < all_lost.relative_high < 0


@settings(max_examples=60)
@given(st.tuples(st.integers(0, 30), st.integers(0, 300)), st.floats(1e-6, 0.5))
def test_a_relative_change_of_shares_is_significant_when_the_difference_is(x, alpha):
    n = [30, 300]
    if sum(x) in (0, 330):
        return
    c, back = ab.compare_proportions(x, n, alpha), ab.compare_proportions(x[::-1], n[::-1], alpha)
    assert -1 <= c.relative_low <= c.relative_high
    if abs(c.p_value - alpha) > 1e-9:
        assert (c.p_value < alpha) == (not c.relative_low <= 0 <= c.relative_high)
    if all(x):
        product = (1 + c.relative_low) * (1 + back.relative_high)
        assert product == pytest.approx(1, rel=1e-6)


# One side


@pytest.mark.parametrize("theirs, ours", [("greater", "larger"), ("less", "smaller")])
def test_one_sided_means_are_welchs_of_scipy(theirs, ours):
    rng = stream(7, "one side")
    a, b = rng.gamma(2.0, 1.0, 60), rng.gamma(3.0, 2.0, 35)
    c = ab.compare_means(a, b, alternative=ours)
    want = stats.ttest_ind(b, a, equal_var=False, alternative=theirs)
    assert c.p_value == pytest.approx(want.pvalue, rel=1e-10)
    assert [c.low, c.high] == pytest.approx(list(want.confidence_interval(0.95)), rel=1e-10)
    both = ab.compare_means(a, b, 0.1)
    ends = {"larger": (both.relative_low, math.inf), "smaller": (-math.inf, both.relative_high)}
    assert (c.relative_low, c.relative_high) == pytest.approx(ends[ours])


@pytest.mark.parametrize("ours", ["larger", "smaller"])
def test_one_sided_shares_are_those_of_statsmodels(ours):
    x, n = [40, 55], [1000, 1100]
    c, both = ab.compare_proportions(x, n, 0.05, ours), ab.compare_proportions(x, n, 0.1)
    z, p = proportions_ztest(x[::-1], n[::-1], alternative=ours)
    assert [c.statistic, c.p_value] == pytest.approx([z, p], rel=1e-9)
    ends = {"larger": (both.low, math.inf), "smaller": (-math.inf, both.high)}
    assert (c.low, c.high) == ends[ours]


@settings(max_examples=100)
@given(
    st.tuples(st.integers(0, 30), st.integers(0, 300)),
    st.floats(1e-6, 0.4),
    st.sampled_from(["larger", "smaller"]),
)
def test_a_one_sided_p_value_is_below_alpha_exactly_when_the_bound_leaves_0_out(x, alpha, side):
    n = [30, 300]
    if sum(x) in (0, 330):
        return
    rates = [count / group for count, group in zip(x, n)]
    for c in (
        ab.compare_proportions(x, n, alpha, side),
        ab.compare_means_from_stats(rates, [0.4, 0.5], n, alpha, alternative=side),
    ):
        if abs(c.p_value - alpha) > 1e-9:
            out = c.low > 0 if side == "larger" else c.high < 0
            relative = c.relative_low > 0 if side == "larger" else c.relative_high < 0
            assert (c.p_value < alpha) == out
            assert math.isnan(c.relative_low) or out == relative


def test_every_comparison_takes_a_side():
    y, x = [[1.0, 2, 4, 5], [2.0, 6, 6, 9]], [[1.0, 2, 2, 3], [2.0, 3, 1, 4]]
    sums = [ab.Sums.of(*group) for group in zip(y, x)]
    for call, args in (
        (ab.compare_ratios, (y[0], x[0], y[1], x[1])),
        (ab.compare_ratios_from_sums, sums),
        (ab.compare_cuped_from_sums, sums),
    ):
        larger, smaller = (call(*args, alternative=side) for side in ("larger", "smaller"))
        assert larger.p_value + smaller.p_value == pytest.approx(1)
        assert larger.high == math.inf and smaller.low == -math.inf
        assert [larger.low, smaller.high] == pytest.approx(
            [call(*args, 0.1).low, call(*args, 0.1).high]
        )


def test_sides_that_cannot_be_are_refused():
    for call in (
        lambda **kw: ab.compare_proportions([40, 55], [1000, 1100], **kw),
        lambda **kw: ab.compare_means([1, 2, 3], [2, 3, 5], **kw),
    ):
        with pytest.raises(ValueError, match="alternative = 'greater'"):
            call(alternative="greater")
        with pytest.raises(ValueError, match="alpha = 0.5"):
            call(alpha=0.5, alternative="larger")


# Wins of a year


def marginal_fit(effects, errors):
    "Mean and standard deviation by another optimiser."

    def loss(x):
        return -stats.norm.logpdf(effects, x[0], np.sqrt(x[1] ** 2 + errors**2)).sum()

    found = optimize.minimize(loss, [effects.mean(), effects.std()], method="Nelder-Mead")
    return found.x[0], abs(found.x[1])


def test_a_prior_is_fitted_by_the_marginal_likelihood():
    rng = stream(7, "prior")
    errors = rng.uniform(0.2, 2, 60)
    effects = rng.normal(rng.normal(0.5, 1, 60), errors)
    found = shrink(effects, errors)
    assert [found.mean, found.sd] == pytest.approx(marginal_fit(effects, errors), abs=1e-3)
    share = errors**2 / (errors**2 + found.sd**2)
    assert list(found.table.shrunk) == pytest.approx((1 - share) * effects + share * found.mean)
    scaled = shrink(1000 * effects, 1000 * errors)
    assert [scaled.mean, scaled.sd] == pytest.approx([1000 * found.mean, 1000 * found.sd], rel=1e-4)


def test_a_spread_that_errors_explain_shrinks_everything_to_the_mean():
    found = shrink([0.1, -0.1, 0.05, 0.0, 0.1], [1.0] * 5)
    assert found.sd == 0 and list(found.table.shrunk) == pytest.approx([0.03] * 5)
    reach = 1.96 / math.sqrt(5)
    assert list(found.table.high - found.table.shrunk) == pytest.approx([reach] * 5, rel=1e-3)
    large = shrink([-100.0, 50.0, 3.0, 80.0, -20.0], [1.0] * 5)
    assert list(large.table.shrunk) == pytest.approx(list(large.table.effect), abs=0.05)
    assert shrink([2.0] * 5, [1.0] * 5).mean == pytest.approx(2)


@pytest.mark.parametrize(
    "args, word",
    [
        (([1, 2, 3, 4], [1] * 4), "effects has shape"),
        (([1, 2, 3, 4, 5], [1, 1, 1, 1, 0]), "expected 5 numbers above 0"),
        (([1, 2, 3, 4, 5], [1] * 6), "expected 5 numbers above 0"),
        (([1, 2, 3, 4, math.nan], [1] * 5), r"effects\[4\] = nan"),
        (([1, 2, 3, 4, 5], [1] * 5, 0), "alpha = 0"),
    ],
)
def test_effects_that_cannot_be_shrunk_are_refused(args, word):
    with pytest.raises(ValueError, match=word):
        shrink(*args)


def test_a_one_sided_comparison_proves_a_guardrail_at_its_full_level():
    x, n = [5000, 4950], [100_000, 100_000]
    larger = ab.compare_proportions(x, n, 0.025, "larger")
    assert larger.low == pytest.approx(ab.compare_proportions(x, n).low)
    assert ab.non_inferior(larger, 0.005)
    assert not ab.non_inferior(ab.compare_proportions(x, n, alternative="smaller"), 0.005)
