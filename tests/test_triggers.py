"""Drift measures against reference libraries, their properties and error rates, and what the
triggers promise."""

import json, re, warnings
import numpy as np
import pandas as pd
import pytest
from croniter import croniter
from hypothesis import given, settings, strategies as st
from river.drift import ADWIN, PageHinkley
from scipy.spatial.distance import jensenshannon
from scipy.special import rel_entr
from scipy.stats import binomtest, chi2_contingency, ks_2samp, mannwhitneyu
from statsmodels.stats.multitest import multipletests
from trending_now.catalogue import GENRES
from trending_now.triggers.distances import _auc
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
    page_hinkley,
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
        assert have.p_value == pytest.approx(1, abs=1e-9)
    else:
        assert have.p_value == pytest.approx(want.pvalue, abs=1e-9)


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
    assert ks(a, b).p_value == pytest.approx(want.pvalue, abs=1e-9)


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
    assert (have.statistic, have.p_value) == pytest.approx((want.statistic, want.pvalue), abs=1e-9)


def test_area_under_the_curve_agrees_with_scipys_mann_whitney():
    rng = np.random.default_rng(7)
    score, y = rng.integers(0, 9, 300).astype(float), rng.integers(0, 2, 300)
    want = mannwhitneyu(
        score[y == 1],
        score[y == 0],
        alternative="greater",
        use_continuity=False,
        method="asymptotic",
    )
    auc, p = _auc(score, y)
    assert auc == pytest.approx(want.statistic / y.sum() / (1 - y).sum()) and p == pytest.approx(
        want.pvalue, abs=1e-9
    )


@given(st.lists(st.floats(0, 1), min_size=1, max_size=15))
def test_adjusted_p_values_agree_with_statsmodels(p):
    for ours, theirs in (("holm", "holm"), ("bonferroni", "bonferroni"), ("bh", "fdr_bh")):
        np.testing.assert_allclose(adjust(p, ours), multipletests(p, method=theirs)[1], atol=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_page_hinkley_alarms_where_rivers_does(seed):
    rng = np.random.default_rng(seed)
    values = np.concatenate([rng.normal(size=200), rng.normal(rng.normal(), 1, 200)])
    for threshold in (5.0, 20.0, 50.0):
        theirs = PageHinkley(threshold=threshold)
        want = next(
            (i for i, v in enumerate(values) if theirs.update(v) or theirs.drift_detected), None
        )
        assert page_hinkley(values, threshold) == want


def test_adwin_is_rivers_and_the_same_each_time():
    values = np.concatenate([np.zeros(300), np.ones(300)]) + np.random.default_rng(7).normal(
        0, 0.1, 600
    )
    d = ADWIN()
    want = next(i for i, v in enumerate(values) if d.update(v) or d.drift_detected)
    assert adwin(values) == adwin(values) == want


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
@pytest.mark.parametrize("f", [psi, ks, js])
def test_bad_samples_are_refused_in_words(f, words):
    for pair in ((BAD[words], [1.0, 2.0]), ([1.0, 2.0], BAD[words])):
        with pytest.raises(ValueError, match=words):
            f(*pair)


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


def test_corrections_flip_tags_and_late_ones_do_not_count():
    ts = pd.Timestamp("2024-01-01", tz="UTC")
    row = lambda kind, day, unit, payload="{}", value=np.nan: dict(
        ts=ts + pd.Timedelta(days=day),
        kind=kind,
        unit=unit,
        film_id="f",
        payload=payload,
        value=value,
    )
    events = pd.DataFrame(
        [row("click", 0, f"v{i}") for i in range(6)]
        + [row("correction", 2, "v1", json.dumps({"genre": "Comedy", "wrong": True}), 0.0)]
    )
    shown = pd.DataFrame([[1, 1] + [0] * 10], ["f"], list(GENRES))
    assert f1_from_corrections(events, shown) == (2 / 3, 1, 1)
    assert f1_from_corrections(events, shown, ts + pd.Timedelta(days=1)) == (1.0, 1, 0)
    assert np.isnan(f1_from_corrections(events, shown, min_clicks=7)[0])


def test_a_dearer_retrain_is_never_done_more_often():
    weeks = [
        best_interval(np.arange(52) * 0.01, 100, 5, review=r).weeks for r in (0, 0.1, 1, 10, 1000)
    ]
    assert weeks == sorted(weeks) and weeks[0] == 1 and weeks[-1] == 52
