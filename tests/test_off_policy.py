"""Off-policy estimators against hand-made cases and against known truths: unbiased, intervals that
cover, failures that are refused."""

import dataclasses
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.stats import binomtest
from trending_now.bandits.off_policy import (
    Estimate,
    direct,
    doubly_robust,
    effective_size,
    ips,
    lighter_weights,
    replay,
    snips,
)
from trending_now.bandits.heavy_weights import weight_limit

TRUTH = np.array([[0.3, 0.1], [0.2, 0.6], [0.5, 0.4]])  # contexts x actions
LOGGED = np.array([[0.8, 0.2], [0.3, 0.7], [0.5, 0.5]])
TARGET = np.array([[0.1, 0.9], [0.6, 0.4], [0.0, 1.0]])
VALUE = float((TARGET * TRUTH).sum(1).mean())
MODEL = np.array([[0.5, 0.2], [0.1, 0.3], [0.2, 0.9]])  # wrong on purpose


def log(n, rng, policy=LOGGED):
    "(contexts, actions, rewards)."
    x = rng.integers(3, size=n)
    a = (rng.random(n) >= policy[x, 0]).astype(int)
    return x, a, (rng.random(n) < TRUTH[x, a]).astype(float)


def estimates(x, a, r, logged=LOGGED, model=MODEL):
    w = r, logged[x, a], TARGET[x, a]
    return {
        "ips": ips(*w),
        "snips": snips(*w),
        "dr": doubly_robust(*w, model[x, a], (TARGET * model)[x].sum(1)),
        "direct": direct((TARGET * model)[x].sum(1)),
    }


@pytest.fixture(scope="module")
def many():
    rng = np.random.default_rng(11)
    return [estimates(*log(800, rng)) for _ in range(500)]


@pytest.mark.parametrize("name", ["ips", "snips", "dr"])
def test_the_mean_over_logs_is_the_truth_and_the_interval_covers_it(many, name):
    v = np.array([e[name].value for e in many])
    assert abs(v.mean() - VALUE) < 4 * v.std() / len(v) ** 0.5 + (
        0.002 if name == "snips" else 0
    )  # snips: of order 1/n
    hits = sum(e[name].low <= VALUE <= e[name].high for e in many)
    assert binomtest(hits, len(many), 0.95).pvalue > 1e-3
    assert np.mean([e[name].se for e in many]) == pytest.approx(v.std(), rel=0.12)


def test_a_wrong_model_alone_is_wrong_and_its_interval_does_not_say_so(many):
    assert np.mean([e["direct"].low <= VALUE <= e["direct"].high for e in many]) < 0.05


def test_doubly_robust_survives_wrong_propensities_if_the_model_is_right():
    rng, wrong = np.random.default_rng(12), LOGGED[:, ::-1]
    es = [estimates(*log(800, rng), logged=wrong, model=TRUTH) for _ in range(200)]
    dr, w = (np.array([e[k].value for e in es]) for k in ("dr", "ips"))
    assert abs(dr.mean() - VALUE) < 4 * dr.std() / 200**0.5
    assert abs(w.mean() - VALUE) > 10 * w.std() / 200**0.5


def test_replay_on_a_uniform_log_is_unbiased_and_covers():
    rng, uniform, policy = np.random.default_rng(13), np.full((3, 2), 0.5), np.array([1, 0, 1])
    value = TRUTH[np.arange(3), policy].mean()
    es = []
    for _ in range(400):
        x, a, r = log(400, rng, uniform)
        es.append(replay(r, a, policy[x]))
    v = np.array([e.value for e in es])
    assert abs(v.mean() - value) < 4 * v.std() / 20
    assert binomtest(sum(e.low <= value <= e.high for e in es), 400, 0.95).pvalue > 1e-3


def test_small_cases_by_hand():
    r, p, q = [1.0, 0.0, 1.0], [0.5, 0.5, 0.25], [1.0, 0.0, 0.5]  # weights 2, 0, 2
    assert ips(r, p, q).value == pytest.approx(4 / 3)
    assert ips(r, p, q).se == pytest.approx(np.std([2, 0, 2], ddof=1) / 3**0.5)
    assert snips(r, p, q).value == pytest.approx(1) and snips(r, p, q).se == 0
    s = snips([1.0, 1.0, 0.0], [0.5, 0.5, 0.25], [1.0, 0.0, 0.5])  # 2/4
    assert s.value == pytest.approx(0.5) and s.se == pytest.approx(
        np.std([2 * 0.5, 0, -2 * 0.5], ddof=1) / (4 / 3) / 3**0.5
    )
    assert doubly_robust(
        [1.0, 0.0], [0.5, 0.25], [0.5, 0.5], [0.4, 0.2], [0.3, 0.1]
    ).value == pytest.approx((0.3 + 0.6 + 0.1 - 0.4) / 2)
    assert direct([0.2, 0.4]).value == pytest.approx(0.3) and direct(
        [0.2, 0.4]
    ).se == pytest.approx(0.1)
    assert replay([1, 0, 1, 1], list("abab"), list("aaab")).value == pytest.approx(1.0)
    e = ips([1.0, 0.0, 2.0], p, q)  # rewards without known bounds: a normal interval
    assert e.high - e.value == pytest.approx(
        1.959964 * e.se, rel=1e-5
    ) and e.value - e.low == pytest.approx(e.high - e.value)


@pytest.mark.parametrize(
    "clicks, n", [(0, 200), (0, 1), (1, 1), (5, 5), (3, 7), (1, 200), (60, 200)]
)
def test_clicks_with_equal_weights_have_the_exact_interval(clicks, n):
    r, exact = [1] * clicks + [0] * (n - clicks), binomtest(clicks, n).proportion_ci(0.9)
    half, ones = [0.5] * n, [1] * n
    for e in (
        ips(r, half, half, alpha=0.1),
        snips(r, half, half, alpha=0.1),
        doubly_robust(r, half, half, [0] * n, [0] * n, alpha=0.1),
        replay(r, ones, ones, alpha=0.1),
    ):
        assert (e.low, e.high) == pytest.approx((exact.low, exact.high), abs=1e-9)
        assert e.low <= e.value <= e.high and e.high - e.low > 0.04 / n


def test_stated_bounds_scale_the_interval():
    w = [0.2, 0.5, 0.9, 0.4], [1, 0.3, 0.8, 0.0]
    clicks, minutes = ips([0, 1, 1, 0], *w), ips([0, 30, 30, 0], *w, bounds=(0, 30))
    assert (minutes.low, minutes.high) == pytest.approx((30 * clicks.low, 30 * clicks.high))
    e = replay([7, 7, 7], [0] * 3, [0] * 3, bounds=(0, 10))
    assert 0 < e.low < 7 < e.high < 10
    for bad in ((1, 0), (1, 1), (0,), 1, (0, np.nan), (0, "x")):
        with pytest.raises(ValueError, match="bounds = "):
            ips([0, 1], [0.5] * 2, [1, 0], bounds=bad)
    for f in (ips, snips):
        with pytest.raises(ValueError, match=r"rewards\[1\] = 3\.0: expected a number within"):
            f([0, 3], [0.5] * 2, [1, 0], bounds=(0, 2))
    with pytest.raises(ValueError, match="within the bounds"):
        replay([-1], [0], [0], bounds=(0, 2))


def test_rows_that_are_all_alike_have_an_interval_without_an_end():
    half = [0.5] * 20
    for e in (
        ips([3.5] * 20, half, half),
        snips([0.1] * 20, half, [0.1 + i / 30 for i in range(20)]),
        doubly_robust([3.5] * 20, half, half, [1] * 20, [2] * 20),
        replay([0.1] * 20, half, half),
        direct([0.3] * 20),
    ):
        assert (e.low, e.high) == (-np.inf, np.inf) and np.isfinite(e.value)


RARE = np.array([[0.7, 0.2, 0.1], [0.2, 0.3, 0.5]])  # logged and target


@pytest.mark.parametrize("n", [50, 200, 600])
@pytest.mark.parametrize("name", ["ips", "snips", "dr", "replay"])
def test_intervals_cover_a_rate_of_half_a_percent(name, n):
    rng, rate, hits = np.random.default_rng(21), 0.005, 0
    for _ in range(400):
        a = rng.choice(3, n, p=RARE[0])
        r, logged, target = (rng.random(n) < rate).astype(float), *RARE[:, a]
        e = {
            "ips": lambda: ips(r, logged, target),
            "snips": lambda: snips(r, logged, target),
            "dr": lambda: doubly_robust(r, logged, target, rate * (1 + a), np.full(n, rate)),
            "replay": lambda: replay(r, a, a),
        }[name]()
        hits += e.low <= rate <= e.high
    assert hits / 400 >= 0.93


@pytest.mark.parametrize("rate", [0.05, 0.95])
def test_intervals_cover_where_one_row_in_twelve_counts(rate):
    rng, hits = np.random.default_rng(22), np.zeros(2)
    for _ in range(400):
        target = (rng.random(200) < 1 / 12).astype(float)
        r = (rng.random(200) < rate).astype(float)
        for k, f in enumerate((ips, snips)):
            e = f(r, np.full(200, 1 / 12), target)
            hits[k] += e.low <= rate <= e.high
    assert (hits / 400 >= 0.93).all()


@pytest.mark.parametrize("alpha", [1e-20, 1e-300])
def test_very_sure_intervals_are_finite(alpha):
    half = [0.5] * 4
    for e in (
        ips([1, 0, 2, 1], half, half, alpha=alpha),
        ips([1, 0, 1, 1], half, half, alpha=alpha),
        direct([0.1, 0.2, 0.3], alpha=alpha),
        replay([1, 0, 4], [0] * 3, [0] * 3, alpha=alpha),
        ips([1, 0, 1, 1, 1, 0, 1], [0.5, 0.4, 0.5, 0.5, 0.6, 0.5, 0.5], [0.5] * 7, alpha=alpha),
    ):
        assert np.isfinite([e.low, e.high]).all() and e.low < e.value < e.high


def test_numbers_that_no_float_holds_are_refused_in_words():
    w = [1e-320, 0.5], [1.0, 1.0]
    for f in (
        lambda: ips([1, 0], *w),
        lambda: snips([1, 0], *w),
        lambda: doubly_robust([1, 0], *w, [0, 0], [0, 0]),
        lambda: effective_size(*w),
        lambda: ips([1, 0], [1e-200, 0.5], [1.0, 1.0]),
    ):
        with pytest.raises(ValueError, match=r"logged\[0\] = 1e-.*not so far below"):
            f()
    for f in (
        lambda: ips([1e300, 0], [0.5] * 2, [0.5] * 2),
        lambda: snips([1e300, 0], [0.5] * 2, [0.5] * 2),
        lambda: replay([1e300, 0], [0] * 2, [0] * 2),
        lambda: direct([1e300, 0]),
    ):
        with pytest.raises(ValueError, match="expected weighted rewards below 1e150"):
            f()
    assert ips([1, 0], [1e-320, 0.5], [0.0, 1.0]).value == 0  # a row that does not count
    assert effective_size([0.5] * 3, [1e-200] * 3) == pytest.approx(3)


@given(
    st.lists(
        st.tuples(st.floats(0, 1), st.floats(0.05, 1), st.floats(0, 1)), min_size=2, max_size=30
    ).filter(lambda rows: any(q > 0.01 for _, _, q in rows)),
    st.floats(-5, 5),
)
@settings(deadline=None, derandomize=True)
def test_snips_stays_in_the_range_of_the_rewards_and_moves_with_them(rows, shift):
    r, p, q = map(np.array, zip(*rows))
    e = snips(r, p, q)
    assert r.min() - 1e-9 <= e.value <= r.max() + 1e-9
    assert snips(r + shift, p, q).value == pytest.approx(e.value + shift, abs=1e-8)
    assert 1 - 1e-9 <= effective_size(p, q) <= len(r) + 1e-9
    assert doubly_robust(r, p, q, np.zeros(len(r)), np.zeros(len(r))) == ips(r, p, q)


def test_evaluating_the_policy_that_wrote_the_log_gives_its_mean():
    x, a, r = log(300, np.random.default_rng(14))
    p = LOGGED[x, a]
    assert ips(r, p, p).value == pytest.approx(r.mean()) and snips(r, p, p).value == pytest.approx(
        r.mean()
    )
    assert effective_size(p, p) == pytest.approx(300)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"logged": [0.5, 0.0]}, r"logged\[1\] = 0"),
        ({"logged": [0.5, -0.1]}, r"-0\.1"),
        ({"logged": [0.5, 1.1]}, r"1\.1"),
        ({"logged": [0.5, np.nan]}, "nan"),
        ({"target": [1.2, 0.0]}, r"target\[0\] = 1\.2"),
        ({"target": [-0.1, 0.0]}, r"-0\.1"),
        ({"target": [0.0, 0.0]}, "no overlap"),
        ({"target": [1.0]}, "different lengths"),
        ({"rewards": [1.0, np.nan]}, "nan"),
        ({"rewards": [1.0, np.inf]}, "inf"),
        ({"rewards": []}, "at least 1"),
        ({"rewards": ["a", "b"]}, "expected numbers"),
    ],
)
def test_impossible_rows_are_refused_with_the_offending_value(change, words):
    args = {"rewards": [1.0, 0.0], "logged": [0.5, 0.5], "target": [1.0, 0.0], **change}
    for f in (ips, snips):
        with pytest.raises(ValueError, match=words):
            f(**args)
    with pytest.raises(ValueError, match=words):
        doubly_robust(**args, q_logged=[0.1, 0.2], v_target=[0.1, 0.2])


def test_models_and_actions_that_cannot_be_used_are_refused():
    w = [1.0, 0.0], [0.5, 0.5], [1.0, 0.0]
    with pytest.raises(ValueError, match="q_logged has 1"):
        doubly_robust(*w, [0.1], [0.1, 0.2])
    with pytest.raises(ValueError, match="nan"):
        doubly_robust(*w, [0.1, np.nan], [0.1, 0.2])
    with pytest.raises(ValueError, match="nan"):
        direct([np.nan])
    with pytest.raises(ValueError, match="at least 1"):
        direct([])
    with pytest.raises(ValueError, match="no matches in 2 rows"):
        replay([1.0, 0.0], [0, 1], [1, 0])
    with pytest.raises(ValueError, match="different lengths"):
        replay([1.0, 0.0], [0, 1], [1])
    with pytest.raises(ValueError, match="nan"):
        replay([1.0, 0.0], [0.0, np.nan], [0, 1])


def test_an_estimate_is_frozen_and_readable():
    e = ips([1.0, 0.0], [0.5, 0.5], [1.0, 0.0])
    assert isinstance(e, Estimate) and [f.name for f in dataclasses.fields(e)] == [
        "value",
        "se",
        "low",
        "high",
    ]
    with pytest.raises(dataclasses.FrozenInstanceError):
        e.value = 2
    assert (
        "Estimate(value=" in repr(e)
        and "<table>" in e._repr_html_()
        and "| value" in e._repr_markdown_()
    )


HOWS = {
    "clip": lambda w, limit: np.where(w > limit, limit, w),
    "switch": lambda w, limit: w * (w <= limit),
    "shrink": lambda w, limit: limit**2 * w / (w**2 + limit**2),  # Su et al. 2020, lambda = L^2
}


def heavy(n, rng):
    "A log of three contexts whose second action is rare, with a model's answers."
    policy = np.array([[0.99, 0.01], [0.9, 0.1], [0.5, 0.5]])
    x, a, r = log(n, rng, policy)
    return r, policy[x, a], TARGET[x, a], MODEL[x, a], (TARGET * MODEL)[x].sum(1)


@pytest.mark.parametrize("how", HOWS)
def test_lighter_weights_and_what_is_made_of_them_follow_the_papers(how):
    r, mu, pi, q, v = heavy(300, np.random.default_rng(31))
    w, limit = pi / mu, 4.0
    light = HOWS[how](w, limit)
    assert lighter_weights(w, how, limit) == pytest.approx(light)
    e = doubly_robust(r, mu, pi, q, v, how=how, limit=limit)
    terms = v + light * (r - q)
    assert e.value == pytest.approx(terms.mean())
    assert e.se == pytest.approx(terms.std(ddof=1) / 300**0.5)
    plain = doubly_robust(r, mu, pi, q, v)
    assert doubly_robust(r, mu, pi, q, v, how=how, limit=1e12).value == pytest.approx(plain.value)
    alone = doubly_robust(r, mu, pi, q, v, how=how, limit=1e-12)
    assert alone.value == pytest.approx(v.mean(), abs=1e-9)


def test_clipped_ips_is_the_mean_of_cut_weights_and_never_above_ips_for_clicks():
    r, mu, pi, *_ = heavy(300, np.random.default_rng(32))
    e = ips(r, mu, pi, clip=3)
    assert e.value == pytest.approx((np.minimum(pi / mu, 3) * r).mean())
    assert e.value <= ips(r, mu, pi).value
    assert ips(r, mu, pi, clip=1e9) == ips(r, mu, pi)
    assert 0 <= e.low <= e.value <= e.high <= 3


def test_self_normalised_doubly_robust_is_its_formula_and_snips_where_the_model_is_0():
    r, mu, pi, q, v = heavy(300, np.random.default_rng(33))
    w = pi / mu
    e = doubly_robust(r, mu, pi, q, v, how="self_normalised")
    repair = (w * (r - q)).sum() / w.sum()
    assert e.value == pytest.approx(v.mean() + repair)
    influence = v + w * (r - q - repair) / w.mean()  # the delta method
    assert e.se == pytest.approx(influence.std(ddof=1) / 300**0.5)
    none = np.zeros(300)
    a, b = doubly_robust(r, mu, pi, none, none, how="self_normalised"), snips(r, mu, pi)
    assert dataclasses.astuple(a) == pytest.approx(dataclasses.astuple(b))
    # a factor on all propensities leaves it where it was, unlike the plain estimate
    half = doubly_robust(r, mu / 2, pi, q, v, how="self_normalised")
    assert half.value == pytest.approx(e.value)
    assert doubly_robust(r, mu / 2, pi, q, v).value != pytest.approx(
        doubly_robust(r, mu, pi, q, v).value
    )


@pytest.mark.parametrize("how", HOWS)
def test_the_limit_has_the_least_estimated_error_of_the_grid(how):
    r, mu, pi, q, v = heavy(400, np.random.default_rng(34))
    w, found = pi / mu, weight_limit(r, mu, pi, q, v, how=how)

    def error(limit):
        light = HOWS[how](w, limit)
        return (v + light * (r - q)).var() / 400 + ((w - light) * (r - q)).mean() ** 2

    grid = np.geomspace(w[w > 0].min(), 10 * w.max(), 30)
    assert np.min(np.abs(grid / found - 1)) < 1e-9
    assert error(found) <= min(map(error, grid)) + 1e-15


def test_a_limit_from_data_lowers_the_error_where_weights_are_heavy():
    rng, policy = np.random.default_rng(35), np.array([[0.995, 0.005], [0.9, 0.1], [0.5, 0.5]])
    model, miss = TRUTH + 0.03, {"plain": [], "shrink": []}
    for _ in range(200):
        x, a, r = log(400, rng, policy)
        known = r, policy[x, a], TARGET[x, a], model[x, a], (TARGET * model)[x].sum(1)
        limit = weight_limit(*known, how="shrink")
        miss["plain"].append(doubly_robust(*known).value - VALUE)
        miss["shrink"].append(doubly_robust(*known, how="shrink", limit=limit).value - VALUE)
    plain, shrunk = (np.mean(np.square(miss[how])) ** 0.5 for how in ("plain", "shrink"))
    assert shrunk < 0.8 * plain


def test_limits_that_make_no_sense_are_refused():
    w = [1.0, 0.0], [0.5, 0.5], [1.0, 0.0]
    known = *w, [0.5, 0.5], [0.5, 0.5]
    for clip in (0, -1, np.nan, "x", True):
        with pytest.raises(ValueError, match="clip = "):
            ips(*w, clip=clip)
    for how in HOWS:
        for limit in (None, 0, -2, np.inf):
            with pytest.raises(ValueError, match="limit = "):
                doubly_robust(*known, how=how, limit=limit)
    for how in ("plain", "self_normalised"):
        with pytest.raises(ValueError, match="limit = 5: expected none"):
            doubly_robust(*known, how=how, limit=5)
    with pytest.raises(ValueError, match="how = 'cut': expected one of"):
        doubly_robust(*known, how="cut")
    with pytest.raises(ValueError, match="how = 'plain': expected one of"):
        lighter_weights([1.0], "plain", 2)
    with pytest.raises(ValueError, match=r"weights\[1\] = -1"):
        lighter_weights([1.0, -1.0], "clip", 2)
    with pytest.raises(ValueError, match="how = 'plain'"):
        weight_limit(*known, how="plain")
    with pytest.raises(ValueError, match="v_target has 1"):
        weight_limit(*w, [0.5, 0.5], [0.5])
    with pytest.raises(ValueError, match="v_target = None"):
        weight_limit(*w, q_logged=[0.5, 0.5])
    with pytest.raises(ValueError, match="q_logged = None"):
        weight_limit(*w, v_target=[0.5, 0.5])
    none = [0.0, 0.0]
    assert weight_limit(*w) == weight_limit(*w, none, none)
    assert weight_limit([1.0], [0.5], [1.0], how="clip") >= 2  # one row: no reason to cut
