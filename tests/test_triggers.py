"""Drift measures against reference libraries, their properties and error rates, and what the
triggers promise."""

import json, re, warnings
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import combinations
from math import comb
from time import process_time
import numpy as np
import pandas as pd
import pytest
from croniter import croniter
from hypothesis import given, settings, strategies as st
from river.drift import ADWIN, PageHinkley as RiversPageHinkley
from river.drift.adwin import AdaptiveWindowing
from scipy.spatial.distance import jensenshannon
from scipy.special import rel_entr
from scipy.stats import binomtest, chi2_contingency, hypergeom, ks_2samp, kstwo, mannwhitneyu, norm
from scipy.stats import wasserstein_distance
from statsmodels.stats.multitest import multipletests
from trending_now.catalogue import GENRES, labels, load_films, replay_weeks
from trending_now.settings import SettingsError, TriggersKnobs, load
from trending_now.triggers.distances import _auc, _ks_exact, chi2_of_counts
from trending_now.triggers.distances import hellinger, hellinger_shares, tv, tv_shares, wasserstein
from trending_now.triggers.drift import feature_drift
from trending_now.triggers.running import Adwin, PageHinkley
from trending_now.triggers import (
    AnyOf,
    Drift,
    DriftTrigger,
    Firing,
    ManualTrigger,
    PerformanceTrigger,
    ScheduleTrigger,
    Status,
    VolumeTrigger,
    adjust,
    adwin,
    best_interval,
    build,
    chi2,
    classifier_drift,
    f1_from_corrections,
    js,
    js_shares,
    ks,
    label_drift,
    monitored,
    page_hinkley,
    play,
    prediction_drift,
    prior_shift,
    psi,
    psi_shares,
)

NOW = pd.Timestamp("2024-03-05 09:00", tz="UTC")
shares = st.integers(2, 12).flatmap(
    lambda n: st.tuples(
        *[st.lists(st.floats(0.01, 1), min_size=n, max_size=n).map(lambda x: np.array(x) / sum(x))]
        * 2
    )
)
sample = st.lists(st.integers(-20, 20), min_size=2, max_size=60)


@given(shares)
def test_psi_of_shares_is_the_sum_of_both_relative_entropies(pq):
    p, q = pq
    assert psi_shares(p, q, floor=1e-9) == pytest.approx(
        rel_entr(p, q).sum() + rel_entr(q, p).sum(), abs=1e-9
    )
    assert psi_shares(p, q) >= 0 and psi_shares(p, q) == pytest.approx(psi_shares(q, p), abs=1e-12)


@given(shares)
def test_js_is_scipys_distance_symmetric_and_at_most_one(pq):
    p, q = pq
    assert js_shares(p, q) == pytest.approx(
        jensenshannon(p, q, base=2), abs=1e-7
    )  # a root: rounding at zero is magnified
    assert js_shares(p, q) ** 2 == pytest.approx(jensenshannon(p, q, base=2) ** 2, abs=1e-9)
    assert js_shares(p, q) == js_shares(q, p) and 0 <= js_shares(p, q) <= 1


@pytest.mark.parametrize("seed", range(5))
def test_psi_uses_numpys_quantiles_of_the_reference(seed):
    rng = np.random.default_rng(seed)
    ref, cur = rng.gamma(2, size=700), rng.gamma(2.2, size=300)
    edges = np.concatenate([[-np.inf], np.quantile(ref, np.arange(1, 10) / 10), [np.inf]])
    e, a = (np.maximum(np.histogram(x, edges)[0] / len(x), 1e-4) for x in (ref, cur))
    assert psi(ref, cur).statistic == pytest.approx(psi_shares(e / e.sum(), a / a.sum()), abs=1e-6)
    assert psi(pd.Series(ref), list(cur)).statistic == psi(ref, cur).statistic


@given(sample, sample, st.sampled_from(["exact", "asymp"]))
@settings(max_examples=60, deadline=None)
def test_ks_agrees_with_scipy_ties_included(a, b, method):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        want, have = ks_2samp(a, b, method=method), ks(a, b, method=method)
    assert have.statistic == pytest.approx(want.statistic, abs=1e-12)
    if any(
        "Exact calculation unsuccessful" in str(w.message) for w in said
    ):  # rounding lifted SciPy's probability above 1, and it fell back to the limit
        assert have.p_value == pytest.approx(1, rel=1e-9)
    else:
        assert have.p_value == pytest.approx(want.pvalue, rel=1e-9)


def counted(d, n, m):
    "The share of paths that leave the band, counted in whole numbers."
    inside = np.zeros((n + 1, m + 1), object)
    for i, j in np.ndindex(n + 1, m + 1):
        if abs(Fraction(i, n) - Fraction(j, m)) < d:
            before = (inside[i - 1, j] if i else 0) + (inside[i, j - 1] if j else 0)
            inside[i, j] = before if i or j else 1
    return float(1 - Fraction(inside[n, m], comb(n + m, n)))


@pytest.mark.parametrize("n, m", [(7, 6), (60, 45), (90, 90), (80, 100)])
@pytest.mark.parametrize("share", [0.1, 0.4, 0.7, 1])
def test_an_exact_p_value_is_the_count_of_paths_however_small(n, m, share):
    d = Fraction(round(share * n * m), n * m)
    assert _ks_exact(float(d), n, m) == pytest.approx(counted(d, n, m), rel=1e-12)


@pytest.mark.parametrize("n, m", [(150, 150), (200, 150), (1000, 900), (12_000, 9000)])
@pytest.mark.parametrize("shift", [0.2, 1, 2])
@pytest.mark.parametrize("method", ["exact", "asymp"])
def test_small_p_values_are_scipys_to_nine_digits(n, m, shift, method):
    a, b = norm.ppf((np.arange(n) + 0.5) / n), norm.ppf((np.arange(m) + 0.5) / m) + shift
    if n < 2000 or method == "asymp":
        want = ks_2samp(a, b, method=method).pvalue
        assert ks(a, b, method=method).p_value == pytest.approx(want, rel=1e-9)


@pytest.mark.parametrize("n", [25_000, 300_000])
@pytest.mark.parametrize("z", [1.5, 2.1, 5, 12])
def test_the_tail_for_large_samples_is_scipys_sum_to_nine_digits(n, z):
    size, places = 2 * n, round(z * np.sqrt(n) * 2)  # a gap of so many of the values
    a = np.arange(size)
    have = ks(a, a + places, method="asymp")
    assert have.statistic == pytest.approx(places / size)
    assert have.p_value == pytest.approx(kstwo.sf(places / size, n), rel=1e-9)


def test_ks_is_exact_where_scipy_falls_back_to_the_limit():
    assert (
        ks([0] * 7, [0] * 6 + [1], method="exact").p_value == 1
    )  # any two samples of 7 differ by a seventh somewhere


@pytest.mark.parametrize(
    "n, m, shift",
    [
        (300, 1700, 0.1),
        (2000, 2000, 0.03),
        (50, 51, 0.5),
        (12_000, 9000, 0.01),
        (12_000, 9000, 0.5),
        (50_000, 60_000, 0.014),
        (50_000, 60_000, 0.02),
    ],
)
def test_ks_agrees_with_scipys_choice_of_method_for_larger_samples(n, m, shift):
    rng = np.random.default_rng(n)
    a, b = rng.normal(size=n), rng.normal(shift, 1, m)
    want = ks_2samp(a, b)
    assert ks(a, b).statistic == pytest.approx(want.statistic, abs=1e-12)
    assert ks(a, b).p_value == pytest.approx(want.pvalue, rel=1e-9)


@given(sample, sample)
@settings(max_examples=60, deadline=None)
def test_ks_does_not_change_under_increasing_transformations_or_exchange(a, b):
    plain = ks(a, b)
    assert ks(np.exp(np.array(a) / 4), np.exp(np.array(b) / 4)).statistic == pytest.approx(
        plain.statistic, abs=1e-12
    )
    assert ks(b, a).p_value == pytest.approx(plain.p_value, abs=1e-12)


@given(sample, sample, st.integers(1, 9), st.integers(-50, 50))
@settings(max_examples=60, deadline=None)
def test_psi_and_js_do_not_change_with_unit_and_origin(a, b, scale, shift):
    a, b = np.array(a), np.array(b)
    for f in (psi, js):
        assert f(4 * a * scale + shift, 4 * b * scale + shift).statistic == pytest.approx(
            f(4 * a, 4 * b).statistic, abs=1e-9
        )


@pytest.mark.parametrize("seed", range(5))
def test_chi2_agrees_with_scipy_without_its_correction(seed):
    rng = np.random.default_rng(seed)
    a, b = rng.choice(list("abcde")[: 2 + seed], 90), rng.choice(list("abcde")[: 2 + seed], 130)
    want = chi2_contingency(
        pd.crosstab(np.repeat([0, 1], [90, 130]), np.concatenate([a, b])), correction=False
    )
    have = chi2(a, pd.Series(b))
    assert (have.statistic, have.p_value) == pytest.approx((want.statistic, want.pvalue), rel=1e-9)


@pytest.mark.parametrize("shift", [0, 4, 30])
def test_area_under_the_curve_agrees_with_scipys_mann_whitney(shift):
    rng = np.random.default_rng(7)
    y = rng.integers(0, 2, 300)
    score = rng.integers(0, 9, 300) + shift * y
    want = mannwhitneyu(
        score[y == 1],
        score[y == 0],
        alternative="greater",
        use_continuity=False,
        method="asymptotic",
    )
    auc, p = _auc(score, y)
    assert auc == pytest.approx(want.statistic / y.sum() / (1 - y).sum(), rel=1e-9)
    assert p == pytest.approx(want.pvalue, rel=1e-9)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=15))
def test_adjusted_p_values_agree_with_statsmodels(p):
    for ours, theirs in (("holm", "holm"), ("bonferroni", "bonferroni"), ("bh", "fdr_bh")):
        np.testing.assert_allclose(adjust(p, ours), multipletests(p, method=theirs)[1], atol=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_page_hinkley_alarms_where_rivers_does(seed):
    rng = np.random.default_rng(seed)
    values = np.concatenate([rng.normal(size=200), rng.normal(rng.normal(), 1, 200)])
    for threshold in (5.0, 20.0, 50.0):
        theirs = RiversPageHinkley(threshold=threshold)
        want = next(
            (i for i, v in enumerate(values) if theirs.update(v) or theirs.drift_detected), None
        )
        assert page_hinkley(values, threshold) == want


@pytest.mark.parametrize("seed", range(8))
def test_adwin_is_rivers_and_the_same_each_time(seed):
    rng = np.random.default_rng(seed)
    steps = rng.uniform(0, 1, 3).repeat([300, 500, 400])
    values = steps + rng.normal(0, 0.1, 1200) if seed % 2 else rng.random(1200) < steps
    values = np.clip(values, 0, 1)
    for delta in (0.002, 0.2):
        d = ADWIN(delta=delta)
        places = (i for i, v in enumerate(values) if d.update(float(v)) or d.drift_detected)
        assert adwin(values, delta) == adwin(values, delta) == next(places, None)


def test_the_functions_refuse_what_no_stream_is():
    for first_alarm in (adwin, page_hinkley):
        assert first_alarm([0.5] * 100) is None
        for bad in ([], [1.0, np.nan], ["1", "2"], [[1.0], [2.0]]):
            with pytest.raises(ValueError, match="values"):
                first_alarm(bad)
    with pytest.raises(ValueError, match="alpha = 0"):
        page_hinkley([1.0], alpha=0)
    with pytest.raises(ValueError, match="delta = 1"):
        adwin([1.0], 1)


def rate(test, seed, n=150, repeats=400):
    rng = np.random.default_rng(seed)
    return sum(test(rng) for _ in range(repeats)), repeats


@pytest.mark.parametrize(
    "test",
    [
        lambda r: ks(r.normal(size=150), r.normal(size=90)).drifted,
        lambda r: chi2(r.integers(0, 6, 150), r.integers(0, 6, 90)).drifted,
    ],
    ids=["ks", "chi2"],
)
def test_a_test_at_five_per_cent_is_wrong_at_most_that_often(test):
    k, n = rate(test, 7)
    assert binomtest(k, n, 0.05).pvalue > 0.001


def test_the_classifier_is_wrong_at_most_as_often_as_it_says():
    k, n = rate(
        lambda r: classifier_drift(r.normal(size=(60, 3)), r.normal(size=(60, 3))).drifted,
        7,
        repeats=100,
    )
    assert binomtest(k, n, 0.05, alternative="greater").pvalue > 0.001


def test_holm_keeps_the_rate_of_a_family_where_single_tests_do_not():
    def family(r, method):
        a, b = (pd.DataFrame(r.normal(size=(80, 8))).add_prefix("x") for _ in range(2))
        return DriftTrigger("ks", 0.05, correction=method).check(Status(ref=a, cur=b)) is not None

    wrong = {m: rate(lambda r: family(r, m), 7, repeats=100)[0] for m in ("holm", "none")}
    assert (
        binomtest(wrong["holm"], 100, 0.05, alternative="greater").pvalue > 0.001
        and wrong["none"] > 100 * 0.15
    )


BAD = {
    "empty": [],
    "nan at place 1": [1.0, np.nan],
    "inf at place 0": [np.inf, 1.0],
    "one dimension": np.ones((2, 2)),
}


@pytest.mark.parametrize("words", BAD)
@pytest.mark.parametrize("f", [psi, ks, js, tv, hellinger, wasserstein])
def test_bad_samples_are_refused_in_words(f, words):
    for pair in ((BAD[words], [1.0, 2.0]), ([1.0, 2.0], BAD[words])):
        with pytest.raises(ValueError, match=words):
            f(*pair)


@pytest.mark.parametrize("bins", [4, 10])
@pytest.mark.parametrize("test", [psi, js, tv, hellinger])
def test_drift_of_a_feature_in_bins_is_the_distance_of_its_values(test, bins):
    rng = np.random.default_rng(7)
    ref, cur = pd.Series(rng.normal(size=80)), pd.Series(rng.normal(0.5, 1, 60))
    assert feature_drift(test.__name__, ref, cur, bins) == test(ref, cur, bins)
    ref[3] = np.nan
    assert feature_drift(test.__name__, ref, cur, bins) == test(ref.dropna(), cur, bins)
    words = pd.Series(["a", "b", None] * 20)
    assert feature_drift(test.__name__, words, words[::-2]).statistic == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize("test", [ks, wasserstein])
def test_a_test_of_numbers_passes_categories_on(test):
    rng = np.random.default_rng(7)
    ref, cur = pd.Series(rng.normal(size=80)), pd.Series(rng.normal(0.5, 1, 60))
    assert feature_drift(test.__name__, ref, cur) == test(ref, cur)
    words = pd.Series(["a", "b"] * 30), pd.Series(["a", "a", "b"] * 20)
    assert feature_drift(test.__name__, *words) == chi2(*words)
    with pytest.raises(ValueError, match="expected one of psi, js, tv, hellinger, ks, wasserst"):
        feature_drift("classifier", ref, cur)


@pytest.mark.parametrize("test", "psi js tv hellinger wasserstein ks chi2".split())
def test_numbers_in_a_column_of_objects_are_numbers(test):
    rng = np.random.default_rng(7)
    ref, cur = pd.Series(rng.normal(size=300)), pd.Series(rng.normal(0.4, 1, 200))
    want = feature_drift(test, ref, cur)
    for r, c in ((ref.astype(object), cur), (ref, cur.astype(object)), (ref, list(cur))):
        assert feature_drift(test, r, c) == want
    whole = pd.Series([1, 2, 3] * 20, dtype="Int64")
    assert feature_drift(test, whole, whole.astype(object) + 1) == feature_drift(
        test, whole.astype(int), whole.astype(int) + 1
    )


def test_numbers_in_a_column_of_objects_are_numbers_to_the_classifier():
    rng = np.random.default_rng(7)
    ref, cur = (pd.DataFrame(rng.normal(k, 1, (60, 2))) for k in (0, 0.5))
    want = classifier_drift(ref, cur)
    assert classifier_drift(ref.astype(object), cur.astype(object)) == want
    stamps = 1.7e9 + np.arange(60.0)  # closer together than 32 bits can tell
    assert classifier_drift(stamps, stamps + 60).statistic > 0.9


NEITHER = {
    "dates": pd.date_range("2020", periods=60),
    "objects of dates": [datetime(2020, 1, day % 28 + 1) for day in range(60)],
    "times": pd.timedelta_range("1h", periods=60),
    "decimals": [Decimal(k) for k in range(60)],
    "complex numbers": [k + 1j for k in range(60)],
    "lists": pd.Series([["Drama"]] * 60),
    "numbers and texts": [1.5, "n/a"] * 30,
    "numbers larger than 64 bits": [2**70, 1] * 30,
}


@pytest.mark.parametrize("kind", NEITHER)
@pytest.mark.parametrize("test", ["psi", "js", "ks", "chi2", "classifier"])
def test_what_is_neither_numbers_nor_texts_is_refused(test, kind):
    values = pd.Series(NEITHER[kind])
    with pytest.raises(ValueError, match=r"holds .* at place \d+: expected numbers"):
        if test == "classifier":
            classifier_drift(values, values)
        else:
            {"psi": psi, "js": js, "ks": ks, "chi2": chi2}[test](values, values)
    table = pd.DataFrame({"feature x": values})
    with pytest.raises(ValueError, match="feature x"):
        DriftTrigger(test).check(Status(ref=table, cur=table))


@pytest.mark.parametrize("test", ["psi", "ks", "chi2", "classifier"])
def test_numbers_beside_texts_are_refused(test):
    ref, cur = pd.DataFrame({"a": range(60)}), pd.DataFrame({"a": ["x", "y"] * 30})
    for pair in ((ref, cur), (cur, ref)):
        with pytest.raises(ValueError, match="a.*holds.*expected numbers"):
            DriftTrigger(test).check(dict(zip(("ref", "cur"), pair)))


def test_categories_that_are_numbers_stay_categories():
    codes = pd.Series([3, 1, 2] * 30)
    other = pd.Series([3, 3, 2] * 30)
    want = chi2(codes.astype(str), other.astype(str))
    assert chi2(codes, other) == want
    assert feature_drift("ks", codes.astype("category"), other.astype("category")) == want


def test_whole_numbers_that_no_float_holds_are_compared_as_they_are():
    low, high = 2**60, 2**60 + 1
    assert ks([low] * 30 + [high] * 30, [high] * 60).statistic == 0.5
    assert ks(np.array([low, high]), np.array([high, high])).statistic == 0.5
    for refused in (
        lambda: psi([low, high] * 9, [high] * 9),
        lambda: ks([low, high], [0.5]),
        lambda: page_hinkley([low, high]),
    ):
        with pytest.raises(ValueError, match="2[*][*]53"):
            refused()


@pytest.mark.parametrize("level", [5, 0, 1, np.nan, "0.05", True, None])
def test_a_level_that_is_no_probability_is_refused(level):
    a = np.arange(40.0)
    for test in (ks, chi2, classifier_drift):
        with pytest.raises(ValueError, match="alpha = .*between 0 and 1"):
            test(a, a, alpha=level)
    for test in (psi, js):
        if level not in (0, 1, 5) or level is True:
            with pytest.raises(ValueError, match="threshold = "):
                test(a, a, threshold=level)
    with pytest.raises(ValueError, match="threshold = 1"):
        js(a, a, threshold=1)


@pytest.mark.parametrize("bad", [[0.5, 0.6], [-0.1, 1.1], [np.nan, 1], [1.0], [[0.5, 0.5]]])
def test_bad_shares_are_refused(bad):
    for f in (psi_shares, js_shares):
        with pytest.raises(ValueError, match="expected"):
            f([0.5, 0.5], bad)
        with pytest.raises(ValueError, match="expected"):
            f(bad, [0.5, 0.5])


def test_a_fall_below_a_constant_is_seen():
    assert (
        psi(np.zeros(50), np.full(50, -1.0)).drifted and psi(np.zeros(50), np.full(50, 1.0)).drifted
    )


def test_drift_shows_itself():
    assert (
        repr(Drift(0.25, None, True)) == "Drift(0.25: drifted)"
        and "p = 0.01" in Drift(0.1, 0.01, True)._repr_html_()
    )


@pytest.mark.parametrize("missed_hours", [0, 5, 40, 24 * 8])
def test_a_schedule_fires_once_for_a_moment_however_late_the_check(missed_hours):
    t, due = ScheduleTrigger("0 3 * * 1"), pd.Timestamp("2024-03-04 03:00", tz="UTC")
    at = due + pd.Timedelta(hours=missed_hours)
    fired = t.check(dict(at=at, last=due - pd.Timedelta(days=3)))
    assert isinstance(fired, Firing) and fired.at == at
    assert t.check(dict(at=at, last=at)) is None


def test_a_schedule_does_not_fire_before_its_moment():
    assert (
        ScheduleTrigger("0 3 * * 1").check(
            dict(at=pd.Timestamp("2024-03-11 02:59"), last=pd.Timestamp("2024-03-04 03:00"))
        )
        is None
    )


@pytest.mark.parametrize(
    "line",
    [
        "0 0 1 */3 *",
        "0 3 * * 1",
        "0 3 1 * *",
        "0 3 1 1,4,7,10 *",
        "0 3 1 1 *",
        "0 3 * * *",
        "0 * * * *",
        "* * * * *",
        "*/15 8-18 * * 1-5",
        "30 4 29 2 *",
        "0 12 * * 7",
    ],
)
def test_a_schedule_is_due_when_croniter_says_so(line):
    rng = np.random.default_rng(7)
    for seconds in rng.integers(0, 20 * 365 * 86_400, 40):
        for at in (NOW + pd.Timedelta(seconds=int(seconds)), NOW.floor("h")):
            inclusive = at.to_pydatetime() + pd.Timedelta(seconds=1)
            want = pd.Timestamp(croniter(line, inclusive).get_prev(pd.Timestamp))
            have = ScheduleTrigger(line).check({"at": at}).value
            assert have == want and str(have) == str(want)


def test_a_schedule_does_not_fire_half_a_second_early():
    due = pd.Timestamp("2024-03-04 03:00", tz="UTC")
    t, last = ScheduleTrigger("0 3 * * 1"), due - pd.Timedelta(days=3)
    assert t.check({"at": due - pd.Timedelta(milliseconds=500), "last": last}) is None
    assert t.check({"at": due, "last": last}).value == due


@pytest.mark.parametrize(
    "line", ["@daily", "0 0 3 * * 1", "R R * * *", "0 3 * *", "60 3 * * *", "0 3 30 2 *", "", None]
)
def test_a_line_that_is_not_five_fields_is_refused_by_name(line):
    with pytest.raises(ValueError, match=re.escape(f"cron = {line!r}") + ".*expected five fields"):
        ScheduleTrigger(line)


def test_a_range_of_one_weekday_is_that_day():
    at = pd.Timestamp("2024-03-07 09:00")
    assert ScheduleTrigger("0 3 * * 1-1").check({"at": at}).value == pd.Timestamp(
        "2024-03-04 03:00"
    )


@pytest.mark.parametrize(
    "line", ["61 * * * *", "0 0 30 2 *", "R R * * *", "0 0 3 * * 1", "@daily", "0 3 * * 9", "x"]
)
def test_settings_and_trigger_refuse_the_same_cron_lines(line):
    for read in (
        lambda: ScheduleTrigger(line),
        lambda: load(None, {"TRENDING_NOW_TRIGGERS_SCHEDULE": line}),
        lambda: TriggersKnobs(schedule=line),
    ):
        with pytest.raises(ValueError, match="(?i)schedule|cron"):
            read()
    one_day = "0 3 * * 1-1"
    assert TriggersKnobs(schedule=one_day).schedule == ScheduleTrigger(one_day).cron


@pytest.mark.parametrize(
    "at",
    [
        datetime(2024, 3, 5),
        date(2024, 3, 5),
        "2024-03-05",
        "2024-03-05 00:00:00.5",
        np.datetime64("2024-03-05"),
        pd.Timestamp("2024-03-05"),
    ],
)
def test_a_moment_may_come_in_any_spelling(at):
    t = ScheduleTrigger("0 3 * * 1")
    assert t.check({"at": at}).value == pd.Timestamp("2024-03-04 03:00")
    assert t.check({"at": at, "last": date(2024, 3, 5)}) is None
    assert AnyOf(VolumeTrigger(1), cooldown=1).check(dict(at=at, last=at, new_rows=3)) is None


@pytest.mark.parametrize("field", ["at", "last"])
@pytest.mark.parametrize("wrong", [pd.NaT, np.datetime64("NaT", "s"), "soon", float("nan"), True])
def test_what_is_no_moment_is_refused(field, wrong):
    status = dict(at="2024-03-05", last="2024-02-05", new_rows=1) | {field: wrong}
    for trigger in (ScheduleTrigger("0 3 * * 1"), VolumeTrigger(1), AnyOf(ManualTrigger())):
        with pytest.raises(ValueError, match=f"status.{field} = .*expected a moment"):
            trigger.check(status)


def test_a_moment_with_a_time_zone_is_not_compared_with_one_without():
    status = dict(at=NOW, last=NOW.tz_localize(None), new_rows=1)
    for trigger in (ScheduleTrigger("0 3 * * 1"), AnyOf(VolumeTrigger(1), cooldown=1)):
        with pytest.raises(ValueError, match="status.at.*status.last.*time zone in both"):
            trigger.check(status)
    paris = NOW.tz_convert("Europe/Paris")
    assert ScheduleTrigger("0 3 * * 2").check(dict(at=paris, last=NOW)) is None


@pytest.mark.parametrize("minute", [29, 31])
def test_a_schedule_is_read_in_the_hour_that_comes_twice(minute):
    first = pd.Timestamp(f"2024-10-27 00:{minute}:10.5", tz="UTC")
    for at in (first, first + pd.Timedelta(hours=1)):
        due = ScheduleTrigger("*/5 * * * *").check({"at": at.tz_convert("Europe/Berlin")}).value
        assert due == at.floor("5min")


WRONG_FIELDS = [
    *[("new_rows", value) for value in (np.nan, -1, 2.5, "300", True)],
    *[(name, value) for name in ("spent", "cost") for value in (np.nan, np.inf, -1, "5", None)],
    *[("request", value) for value in (5, np.nan, True)],
    *[("metrics", value) for value in (None, [0.5], "f1")],
    *[(name, value) for name in ("ref", "cur") for value in ([1, 2], "a", np.ones(3))],
]


@pytest.mark.parametrize("name, value", WRONG_FIELDS)
def test_a_field_that_cannot_be_right_switches_nothing_on_or_off(name, value):
    status = dict(new_rows=300) | {name: value}
    for told in (status, Status(**status)):
        with pytest.raises(ValueError, match=f"status.{name} = .*expected"):
            AnyOf(VolumeTrigger(1), budget=5).check(told)


@pytest.mark.parametrize("values", [["0.1"] * 9, [0.1, np.nan], [0.1, None], "low", [[0.1]]])
def test_a_metric_that_is_no_numbers_is_refused(values):
    for trigger in (PerformanceTrigger("f1", 0.5), DriftTrigger("adwin", features="f1")):
        with pytest.raises(ValueError, match="status.metrics.'f1'.*expected|missing value"):
            trigger.check(Status(metrics={"f1": values}))


@pytest.mark.parametrize("name", ["patience", "reference"])
@pytest.mark.parametrize("weeks", [0.5, 0, "2", np.nan, True])
def test_half_a_week_of_patience_is_refused(name, weeks):
    with pytest.raises(ValueError, match=f"{name} = .*whole number of weeks"):
        PerformanceTrigger("f1", floor=0.5, **{name: weeks})


@pytest.mark.parametrize(
    "time", ["10", " 10 ", "1e3", "", "soon", "NaT", "-1 days", True, -1, np.nan, np.inf, 1e9, [1]]
)
def test_a_cooldown_without_a_unit_or_below_zero_is_refused(time):
    with pytest.raises(ValueError, match="cooldown = .*expected .*service weeks"):
        AnyOf(VolumeTrigger(1), cooldown=time)


@pytest.mark.parametrize(
    "time", [2, 2.0, "14 days", "336:00:00", timedelta(14), np.timedelta64(14, "D")]
)
def test_a_cooldown_is_weeks_or_a_time_with_its_unit(time):
    assert AnyOf(VolumeTrigger(1), cooldown=time).cooldown == pd.Timedelta(days=14)


SHARES = ("js", "ks", "chi2", "classifier", "adwin")
WRONG_THRESHOLDS = [
    *[(test, value) for test in SHARES for value in (5, 1, -0.1, np.nan, "0.05")],
    *[("psi", value) for value in (19, 0, np.nan, "0.2")],
    *[("page-hinkley", value) for value in (0, np.inf, "50")],
]


@pytest.mark.parametrize("test, threshold", WRONG_THRESHOLDS)
def test_a_threshold_that_everything_passes_or_nothing_is_refused(test, threshold):
    with pytest.raises(ValueError, match=f"threshold of {test} = "):
        DriftTrigger(test, threshold)


@pytest.mark.parametrize("test", SHARES)
def test_settings_refuse_a_threshold_that_the_chosen_measure_cannot_have(test):
    drift, threshold = "TRENDING_NOW_TRIGGERS_DRIFT", "TRENDING_NOW_TRIGGERS_DRIFT_THRESHOLD"
    with pytest.raises(SettingsError, match=f"{threshold} = '5': threshold of {test}"):
        load(None, {drift: test, threshold: "5"})
    assert load(None, {drift: "psi", threshold: "5"}).triggers.drift_threshold == 5
    with pytest.raises(ValueError, match=f"threshold of {test}"):
        TriggersKnobs(drift=test, drift_threshold=5.0)


def test_samples_without_a_bin_in_common_have_a_psi_below_the_largest_threshold_and_a_half():
    assert 18 < psi(np.zeros(50), np.full(50, 1.0)).statistic < 18.5


@pytest.mark.parametrize("features", [[], (), iter(())])
def test_a_drift_trigger_without_features_is_refused(features):
    with pytest.raises(ValueError, match="features = .*at least one name"):
        DriftTrigger("ks", features=features)
    bare = pd.DataFrame(index=range(30))
    for test in ("ks", "psi", "classifier"):
        with pytest.raises(ValueError, match="status.ref has no columns"):
            DriftTrigger(test).check(Status(ref=bare, cur=bare))


def test_a_drift_trigger_remembers_features_that_come_as_an_iterator():
    t, a = DriftTrigger("ks", features=iter("a")), pd.DataFrame({"a": range(30), "b": 0})
    for _ in range(2):
        assert t.check(Status(ref=a, cur=a + 50)).value < 1e-9


@pytest.fixture(scope="module")
def films():
    return load_films()


@pytest.fixture(scope="module")
def features(films):
    return monitored(films)


@pytest.fixture(scope="module")
def tags(films):
    "Labels of films of seven years, among which nothing is taken for drift."
    return labels(films[films.arrived.between("2005", "2012")])


def halves(rng, rows, n, m):
    "Two samples that are drawn from the same rows."
    places = rng.permutation(len(rows))
    return rows[places[:n]], rows[places[n : n + m]]


@pytest.mark.parametrize("n, m", [(120, 120), (600, 240)])
def test_label_drift_keeps_its_rate_where_counts_as_they_are_do_not(tags, n, m):
    def wrong(drifted):
        return rate(lambda rng: drifted(*halves(rng, tags, n, m)), 7, repeats=1500)

    k, repeats = wrong(lambda a, b: label_drift(a, b).drifted)
    assert binomtest(k, repeats, 0.05).pvalue > 0.001
    k, repeats = wrong(lambda a, b: chi2_of_counts([a.sum(0), b.sum(0)])[1] < 0.05)
    assert binomtest(k, repeats, 0.05).pvalue < 0.001


def test_label_drift_of_films_with_one_genre_each_is_pearsons_test():
    one = np.eye(12, dtype=int)[np.random.default_rng(7).integers(0, 9, 200)]
    have, table = label_drift(one[:120], one[120:]), [one[:120].sum(0), one[120:].sum(0)]
    want = chi2_contingency(np.array(table)[:, :9], correction=False)
    assert (have.statistic, have.p_value) == pytest.approx((want.statistic, want.pvalue), rel=1e-9)
    assert isinstance(have, Drift) and have.genres.p_value[9:].tolist() == [1] * 3
    same = np.array([[1, 1] + [0] * 10] * 40)
    assert label_drift(same, same[:9]).p_value == 1


def test_label_drift_finds_a_genre_that_comes_twice_as_often(tags):
    crime = GENRES.index("Crime")
    weights = 1.0 + tags[:, crime]

    def found(rng):
        ref = tags[rng.choice(len(tags), 600)]
        cur = tags[rng.choice(len(tags), 400, p=weights / weights.sum())]
        drift = label_drift(ref, cur)
        return drift.drifted and drift.genres.p_value.idxmin() == "Crime"

    k, repeats = rate(found, 7, repeats=200)
    assert k / repeats > 0.6


def probabilities(rng, tags, shift=0.0):
    "Probabilities of a model that is calibrated on these films, where `shift` is 0."
    return 1 / (1 + np.exp(-rng.normal(2 * tags - 2.5 + shift, 1)))


def test_prediction_drift_is_wrong_at_most_as_often_as_it_says(tags):
    def wrong(rng):
        a, b = halves(rng, tags, 120, 90)
        return prediction_drift(probabilities(rng, a), probabilities(rng, b)).drifted

    k, repeats = rate(wrong, 7, repeats=300)
    assert binomtest(k, repeats, 0.05, alternative="greater").pvalue > 0.001


def test_prediction_drift_names_the_genre_that_moved(tags):
    comedy = np.eye(12)[1] * 0.8

    def found(rng):
        a, b = halves(rng, tags, 300, 200)
        drift = prediction_drift(probabilities(rng, a), probabilities(rng, b, comedy))
        return drift.drifted and drift.genres.p_value.idxmin() == "Comedy"

    k, repeats = rate(found, 7, repeats=60)
    assert k / repeats > 0.9
    rng = np.random.default_rng(7)
    then, now = probabilities(rng, tags[:300]), probabilities(rng, tags[300:500], comedy)
    drift, each = prediction_drift(then, now), [ks(*pair) for pair in zip(then.T, now.T)]
    assert drift.p_value == min(12 * each[1].p_value, 1) and drift.statistic == each[1].statistic
    assert drift.genres.then.tolist() == then.mean(0).tolist()


def batch_of(rng, shares, then, n):
    "Labels drawn with some shares, and what a model that learned other ones rightly predicts."
    y = rng.random((n, 12)) < shares
    seen = rng.normal(np.where(y, 1.0, -1.0), 1)  # the odds of a film, by this, are exp(2 seen)
    odds = then / (1 - then) * np.exp(2 * seen)
    return y, odds / (1 + odds)


@pytest.mark.parametrize("times", [1, 2, 0.4])
def test_shares_are_recovered_from_predictions_whatever_the_model_learned(times):
    rng, then = np.random.default_rng(7), np.linspace(0.05, 0.45, 12)
    off = []
    for _ in range(200):
        y, proba = batch_of(rng, then * times, then, 500)
        off.append(prior_shift(proba, then) - then * times)
    off = np.array(off)
    assert np.abs(off.mean(0) / (off.std(0) / np.sqrt(len(off)))).max() < 4.5
    if times != 1:
        naive = np.abs(proba.mean(0) - then * times)
        assert (naive > np.abs(off.mean(0))).all()


def test_recovered_shares_are_the_likeliest():
    rng, then = np.random.default_rng(7), np.linspace(0.05, 0.45, 12)
    _, proba = batch_of(rng, then[::-1], then, 300)
    have = prior_shift(proba, then)
    yes, no = proba / then, (1 - proba) / (1 - then)

    def likelihood(shares):
        return np.log(shares * yes + (1 - shares) * no).sum(0)

    for step in (-0.01, 0.01):
        assert (likelihood(have) > likelihood((have + step).clip(1e-9, 1 - 1e-9))).all()
    slope = ((yes - no) / (have * yes + (1 - have) * no)).mean(0)
    assert np.abs(slope[(have > 1e-3) & (have < 1 - 1e-3)]).max() < 1e-5


def test_genre_tables_of_another_shape_or_range_are_refused(tags):
    good, half = tags[:40], np.full((40, 12), 0.5)
    for words, call in {
        r"cur_labels has shape \(40, 3\)": lambda: label_drift(good, good[:, :3]),
        "ref_labels holds 0.5: expected 0 or 1": lambda: label_drift(half, good),
        "cur_labels holds no genre": lambda: label_drift(good, good * 0),
        r"ref_proba has shape \(0, 12\)": lambda: prediction_drift(half[:0], half),
        "cur_proba holds nan": lambda: prediction_drift(half, half * np.nan),
        "proba holds 2.0: expected numbers from 0 to 1": lambda: prior_shift(half * 4, [0.5] * 12),
        "proba holds np.str_": lambda: prior_shift(half.astype(str), [0.5] * 12),
        "ref_shares = .*12 numbers between 0 and 1": lambda: prior_shift(half, [0.5] * 11 + [1]),
        "ref_shares has shape": lambda: prior_shift(half, [0.5] * 11),
        "alpha = 5": lambda: label_drift(good, good, alpha=5),
    }.items():
        with pytest.raises(ValueError, match=words):
            call()


@pytest.mark.parametrize(
    "then, now", [((1000, 1600), (16000, 16600)), ((3000, 3600), (15000, 15600))]
)
def test_a_drift_trigger_names_the_feature_that_drifted_most(features, then, now):
    ref, cur = (features.iloc[slice(*rows)] for rows in (then, now))
    p = {
        name: ks_2samp(ref[name].dropna(), cur[name].dropna(), method="exact").pvalue
        for name in ref.select_dtypes("number")
    }
    assert (fired := DriftTrigger("ks").check(Status(ref=ref, cur=cur)))
    assert fired.reason.startswith(f"{min(p, key=p.get)}: p = ")
    tested = 9  # a feature without values then is passed over
    assert fired.value == pytest.approx(min(p.values()) * tested, rel=1e-9)


def test_of_p_values_too_small_for_a_float_the_larger_statistic_is_named():
    a = np.arange(2000.0)
    ref = pd.DataFrame({"near": a, "far": a})
    cur = pd.DataFrame({"near": a + 1900, "far": a + 5000})
    assert DriftTrigger("ks").check(Status(ref=ref, cur=cur)).reason.startswith("far: p = 0")


def test_a_reason_shows_a_value_beyond_its_limit():
    t = PerformanceTrigger("f1", drop=0.1)
    assert t.check(Status(metrics={"f1": [0.8, 0.7]})) is None  # .8 - .1 is more than .7 in floats
    assert "0.6999 is below 0.7000" in t.check(Status(metrics={"f1": [0.8, 0.6999]})).reason
    a = pd.DataFrame({"x": np.arange(200.0)})
    size = psi(a.x, a.x + 30).statistic
    limit = size * 0.9999
    words = DriftTrigger("psi", limit).check(Status(ref=a, cur=a + 30)).reason
    shown = [float(word) for word in re.findall(r"[\d.]+", words)]
    assert shown[0] > shown[1]


def test_a_budget_may_be_spent_to_the_last_second():
    s = Status(request="Ana", spent=0.1, cost=0.2)  # .1 + .2 is more than .3 in floats
    assert AnyOf(ManualTrigger(), budget=0.3).check(s)
    assert AnyOf(ManualTrigger(), budget=0.29).check(s) is None


def test_a_class_is_no_trigger():
    with pytest.raises(ValueError, match="expected at least one object with a check"):
        AnyOf(ManualTrigger)


def test_patience_wants_weeks_in_a_row():
    t = PerformanceTrigger("f1", floor=0.5, patience=3)
    assert t.check(Status(metrics={"f1": [0.4, 0.4, 0.6, 0.4, 0.4]})) is None
    assert t.check(Status(metrics={"f1": [0.6, 0.4, 0.4, 0.4]})).threshold == 0.5


def test_a_drop_is_measured_from_the_first_weeks():
    t = PerformanceTrigger("f1", drop=0.1, reference=2)
    assert t.check(Status(metrics={"f1": [0.6, 0.4]})) is None
    assert t.check(Status(metrics={"f1": [0.6, 0.5, 0.46]})) is None
    assert t.check(Status(metrics={"f1": [0.6, 0.5, 0.44]})).threshold == pytest.approx(0.45)


@given(st.integers(0, 60), st.floats(0.5, 8), st.booleans())
def test_nothing_but_a_person_fires_within_the_cooldown(days, weeks, asked):
    s = Status(
        at=NOW,
        last=NOW - pd.Timedelta(days=days),
        new_rows=10,
        request="Ana: urgent" if asked else None,
    )
    fired = AnyOf(VolumeTrigger(1), ManualTrigger(), cooldown=weeks).check(s)
    assert (fired is None) == (not asked and days < weeks * 7)


@given(st.floats(0, 100), st.floats(0, 100))
def test_nothing_fires_above_the_budget(spent, cost):
    t, s = AnyOf(ManualTrigger(), budget=60), Status(at=NOW, request="Ana", spent=spent, cost=cost)
    assert (t.check(s) is None) == (spent + cost > 60) == bool(t.held(s))


def test_all_reasons_of_a_firing_are_kept():
    f = AnyOf(VolumeTrigger(5), PerformanceTrigger("f1", floor=0.5), ManualTrigger()).check(
        Status(at=NOW, new_rows=9, metrics={"f1": [0.4]})
    )
    assert (
        f.trigger == "volume + performance"
        and f.value == (9, 0.4)
        and f.threshold == (5, 0.5)
        and f.at == NOW
        and "9 new films" in repr(f)
    )


@pytest.mark.parametrize(
    "trigger, field",
    [
        (ScheduleTrigger("* * * * *"), "at"),
        (VolumeTrigger(1), "new_rows"),
        (PerformanceTrigger("f1", 0.5), "metrics"),
        (DriftTrigger("psi"), "ref"),
        (DriftTrigger("adwin", features="f1"), "metrics"),
    ],
)
def test_a_missing_field_is_named(trigger, field):
    with pytest.raises(ValueError, match=field):
        trigger.check(Status())


def test_missing_values_and_empty_columns_do_not_stop_a_drift_trigger():
    ref = pd.DataFrame({"a": [1.0, 2, np.nan] * 30, "b": np.nan, "c": "x"})
    assert DriftTrigger("ks").check(Status(ref=ref, cur=ref)) is None
    assert (
        DriftTrigger("ks")
        .check(Status(ref=ref, cur=ref.assign(a=ref.a + 5)))
        .reason.startswith("a: p =")
    )


@pytest.mark.parametrize(
    "bad",
    [
        dict(schedule="every week"),
        dict(volume=-3),
        dict(drop=-0.1),
        dict(drift="magic"),
        dict(drift="psi", threshold=-1),
        dict(cooldown_weeks=-1),
        dict(budget_cpu=-5),
        dict(drop=0.1, patience=0),
    ],
)
def test_bad_settings_are_refused(bad):
    with pytest.raises(ValueError, match="expected"):
        build(**bad)


def events_of(*corrections):
    """Events of a film with six clicks on day 0, and of its corrections, each a (day, visitor,
    payload, value)."""
    ts = pd.Timestamp("2024-01-01", tz="UTC")
    rows = [(ts, "click", f"v{i}", "f", "{}", np.nan) for i in range(6)]
    for day, unit, payload, value in corrections:
        rows.append((ts + pd.Timedelta(days=day), "correction", unit, "f", payload, value))
    return pd.DataFrame(rows, columns=["ts", "kind", "unit", "film_id", "payload", "value"])


SHOWN = pd.DataFrame([[1, 1] + [0] * 10], ["f"], list(GENRES))


def test_corrections_flip_tags_and_late_ones_do_not_count():
    events = events_of((2, "v1", json.dumps({"genre": "Comedy", "wrong": True}), 0.0))
    assert f1_from_corrections(events, SHOWN) == (2 / 3, 1, 1)
    for now in ("2024-01-02 00:00Z", pd.Timestamp("2024-01-02", tz="UTC")):
        assert f1_from_corrections(events, SHOWN, now) == (1.0, 1, 0)
    assert np.isnan(f1_from_corrections(events, SHOWN, min_clicks=7)[0])


@pytest.mark.parametrize(
    "payload",
    ['{"genre":"Comedy"}', '{ "genre" :\n"Comedy"}', '{"wrong":true,"genre":"C\\u006fmedy"}'],
)
def test_a_correction_is_read_however_its_json_is_spelt(payload):
    assert f1_from_corrections(events_of((2, "v1", payload, 0)), SHOWN) == (2 / 3, 1, 1)
    twice = events_of((2, "v1", payload, 0), (3, "v1", '{"genre": "Comedy"}', 0))
    assert f1_from_corrections(twice, SHOWN, votes=2) == (1.0, 1, 1)  # one visitor has one vote


@pytest.mark.parametrize(
    "payload", ["{}", "Comedy", '{"genre": "Western"}', '["genre"]', '{"genre": ["Comedy"]}', None]
)
def test_a_correction_that_cannot_be_read_is_refused(payload):
    with pytest.raises(ValueError, match="payload = .*expected JSON with one of the twelve"):
        f1_from_corrections(events_of((2, "v1", payload, 0)), SHOWN)


def test_wrong_votes_tags_and_moments_are_refused():
    events = events_of((2, "v1", '{"genre": "Comedy"}', np.nan))
    for words, call in {
        "value nan: expected 0 or 1": lambda: f1_from_corrections(events, SHOWN),
        "other values than 0 and 1": lambda: f1_from_corrections(events_of(), SHOWN * 0.5),
        "film 'f' twice": lambda: f1_from_corrections(events_of(), pd.concat([SHOWN, SHOWN])),
        "now = NaT": lambda: f1_from_corrections(events_of(), SHOWN, pd.NaT),
        "time zone in both": lambda: f1_from_corrections(events_of(), SHOWN, "2024-01-02"),
        "votes = 0.5": lambda: f1_from_corrections(events_of(), SHOWN, votes=0.5),
        "min_clicks = nan": lambda: f1_from_corrections(events_of(), SHOWN, min_clicks=np.nan),
    }.items():
        with pytest.raises(ValueError, match=words):
            call()


def test_a_hundred_thousand_corrections_are_read_in_a_few_seconds():
    rng, n = np.random.default_rng(7), 100_000
    films = [f"f{i}" for i in range(400)]
    events = pd.DataFrame(
        dict(
            ts=pd.Timestamp("2024-01-01", tz="UTC"),
            kind=np.where(np.arange(n) % 20, "correction", "click"),
            unit=rng.integers(0, 9000, n),
            film_id=rng.choice(films, n),
            payload=[f'{{"genre":"{GENRES[k % 12]}","n":{k}}}' for k in range(n)],
            value=rng.integers(0, 2, n),
        )
    )
    shown = pd.DataFrame(rng.integers(0, 2, (400, 12)), films, list(GENRES))
    begun = process_time()
    assert 0 < f1_from_corrections(events, shown)[0] < 1
    assert process_time() - begun < 10


def test_a_dearer_retrain_is_never_done_more_often():
    weeks = [
        best_interval(np.arange(52) * 0.01, 100, 5, review=r).weeks for r in (0, 0.1, 1, 10, 1000)
    ]
    assert weeks == sorted(weeks) and weeks[0] == 1 and weeks[-1] == 52


def _empty_grid(weeks):
    pairs = [(trained, week) for trained in range(weeks) for week in range(trained, weeks)]
    return pd.DataFrame(pairs, columns=["trained", "week"]).assign(
        seed=0, cpu=1.0, tp=1, fp=1, fn=1, nll=1.0, clicks=1.0
    )


class _Watcher:
    "Fires on the Monday before each of some weeks, and keeps what it was shown."

    def __init__(self, retrains):
        self.retrains, self.seen = retrains, []

    def check(self, status):
        self.seen.append(status)
        if len(self.seen) not in self.retrains:
            return None
        return Firing("watcher", "its week has come", 1, 1, status.at)


@pytest.mark.parametrize("memory", [4, 12])
def test_what_drift_is_measured_from_is_as_long_as_said_after_every_retrain(memory):
    films, weeks = load_films(), 16
    began = pd.Timestamp("1995-01-01") - memory * pd.DateOffset(months=3)
    calendar = list(replay_weeks(films, f"{began:%Y-%m}", memory + weeks, 3))
    watcher = _Watcher(retrains := (3, 9, 10))
    play(watcher, _empty_grid(weeks), films, memory=memory)
    for week, status in enumerate(watcher.seen):
        model = max((retrain for retrain in retrains if retrain <= week), default=0)
        past = pd.concat([w.films for w in calendar[model : model + memory]])
        lately = pd.concat([w.films for w in calendar[memory + week - 3 : memory + week + 1]])
        assert (len(status.ref), len(status.cur)) == (len(past), len(lately)), week
        assert (status.ref_labels == labels(past)).all()
        assert (status.cur_labels == labels(lately)).all()


def test_a_memory_shorter_than_what_is_compared_with_it_is_refused():
    with pytest.raises(ValueError, match="memory = 3: expected"):
        play(ManualTrigger(), _empty_grid(5), load_films(), memory=3)


def test_drift_of_labels_fires_on_another_mix_of_genres_and_names_the_genre():
    drama, comedy = np.eye(12, dtype=int)[:2]
    then = np.array([drama] * 60 + [comedy] * 40)
    status = dict(ref_labels=then, cur_labels=np.array([drama] * 20 + [comedy] * 80))
    assert "genres: p = " in DriftTrigger("labels").check(status).reason
    assert DriftTrigger("labels").check({**status, "cur_labels": then}) is None
    with pytest.raises(ValueError, match="drift of labels needs status.cur_labels"):
        DriftTrigger("labels").check(dict(ref_labels=then))


def streams(seed, n=900):
    "Values with three changes: clicks, or numbers of another scale."
    rng = np.random.default_rng(seed)
    if seed % 2:
        return np.clip(rng.normal(np.repeat([0.2, 0.5, 0.2, 0.8], n), 0.2), 0, 1)
    return (rng.random(4 * n) < np.repeat([0.1, 0.3, 0.15, 0.2], n)).astype(float)


@pytest.mark.parametrize("seed", range(4))
def test_a_running_adwin_is_rivers_window_through_all_alarms(seed):
    theirs = AdaptiveWindowing(
        delta=0.01, clock=32, max_buckets=5, min_window_length=5, grace_period=10
    )  # the window itself: River's ADWIN object starts again after an alarm
    ours, rang = Adwin(0.01), []
    for x in streams(seed):
        rang.append(ours.see(x))
        assert rang[-1] == theirs.update(float(x))
    assert sum(rang) == ours.alarms >= 2 and ours.window == theirs.get_width()
    assert ours.mean * ours.window == pytest.approx(theirs.get_total())
    assert len(ours.buckets) <= 5 * (1 + np.log2(ours.window))


@pytest.mark.parametrize("seed", range(4))
def test_a_running_page_hinkley_is_rivers_through_all_alarms(seed):
    theirs, ours, rang = RiversPageHinkley(threshold=15.0), PageHinkley(threshold=15.0), 0
    for x in streams(seed):
        theirs.update(float(x))
        rang += ours.see(x)
        assert rang == ours.alarms
        assert (ours.since == 0) == theirs.drift_detected
    assert rang >= 2


@pytest.mark.parametrize("seed", range(4))
def test_the_first_alarm_of_a_running_one_is_that_of_the_function(seed):
    x = streams(seed)
    for alarm, first in (
        (PageHinkley(threshold=15.0), page_hinkley(x, threshold=15.0)),
        (Adwin(0.01), adwin(x, 0.01)),
    ):
        assert next(i for i, value in enumerate(x) if alarm.see(value)) == first


@pytest.mark.parametrize("at", [0, 1, 33, 1000, 1500])
@pytest.mark.parametrize("make", [Adwin, lambda: PageHinkley(threshold=15.0)])
def test_an_alarm_out_of_a_file_goes_on_identically(make, at):
    x, one = streams(0), make()
    for value in x[:at]:
        one.see(value)
    text = json.dumps(one.state())
    two = type(one).from_state(json.loads(text))
    assert json.dumps(two.state()) == text
    assert [one.see(v) for v in x[at:]] == [two.see(v) for v in x[at:]]
    assert one.state() == two.state() and repr(one) == repr(two)


@pytest.mark.parametrize("make", [Adwin, PageHinkley])
def test_a_running_alarm_refuses_what_is_no_number_and_learns_nothing(make):
    alarm = make()
    alarm.see(True)
    before = alarm.state()
    for bad in (np.nan, np.inf, None, "1", [1]):
        with pytest.raises(ValueError, match="value = "):
            alarm.see(bad)
    assert alarm.state() == before and alarm.seen == 1
    good = alarm.state()
    for bad in ({}, None, [], "text", good | {"state": {}}, good | {"args": {"speed": 1}}):
        with pytest.raises(ValueError):
            make.from_state(bad)
    other = PageHinkley if make is Adwin else Adwin
    with pytest.raises(ValueError, match="expected a"):
        other.from_state(good)


def test_a_window_with_impossible_buckets_is_refused():
    state = Adwin().state()
    with pytest.raises(ValueError, match=r"bucket = \[1, 2\]: expected values, their sum"):
        Adwin.from_state(state | {"state": {"seen": 1, "alarms": 0, "buckets": [[1, 2]]}})
    bad = [0, 1.0, 0.0], [1, np.nan, 0.0], [1, 1.0, -1.0], [1.5, 1.0, 0.0], [1], 3, [1, 2.0, 0.0]
    for bucket in bad:
        with pytest.raises(ValueError):
            Adwin.from_state(state | {"state": {"seen": 1, "alarms": 0, "buckets": [bucket]}})
    for args in ({"delta": 0}, {"delta": 1}):
        with pytest.raises(ValueError, match="delta = "):
            Adwin(**args)
    for args in ({"threshold": 0}, {"delta": -1}, {"min_instances": 0}, {"alpha": 1.1}):
        with pytest.raises(ValueError, match=f"{next(iter(args))} = "):
            PageHinkley(**args)


@pytest.mark.parametrize("make", [Adwin, PageHinkley])
def test_a_state_is_a_copy_both_ways(make):
    alarm = make()
    for value in (0.0, 1.0, 0.5):
        alarm.see(value)
    state = alarm.state()
    kept, twin = json.dumps(state), make.from_state(state)
    alarm.see(1.0)
    twin.see(0.0)
    assert json.dumps(state) == kept
    if make is Adwin:
        state["state"]["buckets"].clear()
        assert alarm.window == twin.window == 4


@pytest.mark.parametrize("bad", [-0.01, 1.01, 30])
def test_adwin_refuses_values_that_its_bound_is_not_for(bad):
    alarm = Adwin()
    with pytest.raises(ValueError, match="value = .*0 (to|and) 1"):
        alarm.see(bad)
    assert alarm.seen == alarm.window == 0
    with pytest.raises(ValueError, match="value = "):
        adwin([0.5, bad])
    assert not alarm.see(0) and not alarm.see(1.0)


def test_alarms_show_whole_numbers():
    alarm = PageHinkley()
    alarm.seen = 1_234_567
    assert "1,234,567 seen, 0 alarms" in repr(alarm)


def test_a_still_stream_rings_adwin_hardly_ever():
    rng, alarms = np.random.default_rng(5), 0
    for _ in range(10):
        alarm = Adwin(0.01)
        for x in rng.random(2000) < 0.3:
            alarm.see(x)
        alarms += alarm.alarms
    assert alarms <= 1


@given(shares)
@settings(deadline=None, derandomize=True)
def test_distances_of_shares_are_their_formulas_and_bound_each_other(pq):
    p, q = pq
    far, root = tv_shares(p, q), hellinger_shares(p, q)
    assert far == pytest.approx(np.maximum(p - q, 0).sum(), abs=1e-9)
    assert root**2 == pytest.approx(1 - np.sqrt(p * q).sum(), abs=1e-9)
    assert root**2 <= far + 1e-12 and far <= 2**0.5 * root + 1e-12  # Le Cam
    assert (far, root) == (tv_shares(q, p), hellinger_shares(q, p))
    assert tv_shares(p, p) == hellinger_shares(p, p) == 0


@pytest.mark.parametrize("seed", range(4))
def test_wasserstein_is_scipys_in_standard_deviations_of_the_reference(seed):
    rng = np.random.default_rng(seed)
    a, b = rng.gamma(2, 3, 90), rng.integers(0, 9, 40)
    d = wasserstein(a, b, draws=9)
    assert d.statistic == pytest.approx(wasserstein_distance(a, b) / a.std())
    again = wasserstein(60 * a + 5, 60 * b + 5, draws=9)  # no unit and no origin
    assert (again.statistic, again.p_value) == pytest.approx((d.statistic, d.p_value))
    assert wasserstein(a, a, draws=9).statistic == pytest.approx(0, abs=1e-12)


def test_a_dealt_p_value_is_that_of_all_deals():
    ref, cur = [1.0, 2.0, 4.0, 7.0], [5.0, 8.0, 9.0]
    pooled = np.array(ref + cur)
    own = wasserstein_distance(ref, cur)
    deals = [
        wasserstein_distance(pooled[list(i)], np.delete(pooled, list(i)))
        for i in combinations(range(7), 4)
    ]
    exact = np.mean(np.array(deals) >= own - 1e-12)
    p = wasserstein(ref, cur, draws=4000).p_value
    assert p == pytest.approx(exact, abs=4 * (exact * (1 - exact) / 4000) ** 0.5)
    a, b = ["x"] * 9 + ["y"] * 3, ["x"] * 2 + ["y"] * 6  # two categories: the law is known
    law = hypergeom(20, 11, 8)  # how many x the second sample gets
    far = np.array([abs((11 - k) / 12 - k / 8) for k in range(9)])
    exact = law.pmf(np.arange(9))[far >= far[2] - 1e-12].sum()
    p = tv(a, b, draws=8000).p_value
    assert p == pytest.approx(exact, abs=4 * (exact * (1 - exact) / 8000) ** 0.5)


@pytest.mark.parametrize("f", [tv, hellinger, wasserstein])
def test_dealt_p_values_are_wrong_at_most_that_often_and_see_a_shift(f):
    rng = np.random.default_rng(8)
    calls = [
        f(rng.gamma(2, 1, 150), rng.gamma(2, 1, 60), draws=99, seed=i).drifted for i in range(200)
    ]
    assert binomtest(sum(calls), 200, 0.05, alternative="greater").pvalue > 1e-3
    assert f(rng.gamma(2, 1, 300), 1 + rng.gamma(2, 1, 200)).p_value == 0.001
    x, y = rng.normal(size=50), rng.normal(size=30)
    assert f(x, y) == f(x, y)  # the seed is in the arguments


def test_distances_refuse_levels_deals_and_a_reference_without_spread():
    for f in (tv, hellinger, wasserstein):
        for name, bad in (("alpha", 2), ("draws", 0), ("draws", 1.5)):
            with pytest.raises(ValueError, match=f"{name} = "):
                f([1, 2, 3], [2, 3, 4], **{name: bad})
        with pytest.raises(ValueError, match="numbers"):
            f(["a", "b"], [1, 2])
    with pytest.raises(ValueError, match="ref holds 3 only"):
        wasserstein([3.0, 3.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="one category only"):
        tv(["a"], ["a"])
    for f in (tv_shares, hellinger_shares):
        for bad in ([0.5, 0.6], [-0.1, 1.1], [np.nan, 1], [1.0]):
            with pytest.raises(ValueError):
                f([0.5, 0.5], bad)
