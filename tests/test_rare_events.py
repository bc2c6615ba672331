"""Few events: a bound after none, and tests and intervals whose chances are counted."""

import math
import numpy as np
import pytest
from scipy import stats
from trending_now.ab import rare_events
from trending_now.ab.comparisons import compare_proportions
from trending_now.ab.rare_events import exact_proportions, rate_bound


@pytest.mark.parametrize("events, n, level", [(0, 100, 0.95), (3, 2000, 0.95), (7, 9, 0.8)])
def test_a_bound_is_clopper_and_pearsons(events, n, level):
    theirs = stats.binomtest(events, n).proportion_ci(2 * level - 1, "exact").high
    assert rate_bound(events, n, level) == pytest.approx(theirs, rel=1e-9)


def test_bounds_at_the_edges():
    assert rate_bound(0, 10**9) == pytest.approx(2.9957e-9, rel=1e-3)
    assert rate_bound(5, 5) == 1 and rate_bound(0, 1) == pytest.approx(0.95)


@pytest.mark.parametrize(
    "args, word",
    [
        ((5, 4), "events = 5"),
        ((-1, 4), "events = -1"),
        ((0, 0), "n = 0"),
        ((0.5, 4), "events = 0.5"),
        ((0, 4, 1), "level = 1"),
    ],
)
def test_bounds_of_what_cannot_be_are_refused(args, word):
    with pytest.raises(ValueError, match=word):
        rate_bound(*args)


def brute_p(x, n, low=0.0, high=1.0):
    "The largest chance of a likelihood ratio as far up, over these rates, outcome by outcome."
    i, j = np.arange(n[0] + 1.0)[:, None], np.arange(n[1] + 1.0)

    def log_chance(k, size, p):
        return stats.binom.logpmf(k, size, p)

    common = (i + j) / sum(n)
    lost = log_chance(i, n[0], i / n[0]) - log_chance(i, n[0], common)
    lost = lost + log_chance(j, n[1], j / n[1]) - log_chance(j, n[1], common)
    root = np.sign(j / n[1] - i / n[0]) * np.sqrt(2 * np.maximum(lost, 0))
    far = root >= root[x[0], x[1]] - 1e-7
    chances = []
    for p in np.linspace(low, high, 2001):
        both = stats.binom.pmf(i, n[0], p) * stats.binom.pmf(j, n[1], p)
        chances.append(both[far].sum())
    return max(chances)


@pytest.mark.parametrize("x, n", [([1, 6], [12, 9]), ([0, 3], [20, 20]), ([5, 4], [40, 8])])
def test_p_values_are_the_sums_over_all_outcomes(x, n):
    larger = exact_proportions(x, n, alternative="larger").p_value
    left = [rate_bound(k, size, 1 - 2.5e-5) for k, size in zip(x, n)]
    least = [1 - rate_bound(size - k, size, 1 - 2.5e-5) for k, size in zip(x, n)]
    assert larger == pytest.approx(brute_p(x, n, max(least), min(left)) + 1e-4, abs=2e-4)
    assert larger <= brute_p(x, n) + 1.01e-4


@pytest.mark.parametrize(
    "x, n", [([19, 4], [9500, 500]), ([2, 9], [300, 300]), ([7, 12], [47, 50])]
)
def test_p_values_are_near_those_of_boschloos_test(x, n):
    "Another order of the outcomes, and no rates left out: close, not equal."
    table = np.array([[x[1], x[0]], [n[1] - x[1], n[0] - x[0]]])
    fisher = stats.fisher_exact(table, alternative="greater").pvalue
    found = exact_proportions(x, n, alternative="larger").p_value
    assert found < fisher
    if sum(n) < 1000:
        theirs = stats.boschloo_exact(table, alternative="greater").pvalue
        assert found == pytest.approx(theirs, rel=0.25)


CASES = [([0, 3], [100, 100]), ([7, 12], [47, 50]), ([3, 8], [10, 10]), ([1, 0], [30, 9])]


@pytest.mark.parametrize("x, n", CASES)
def test_swapping_the_groups_turns_the_sign(x, n):
    c, back = exact_proportions(x, n), exact_proportions(x[::-1], n[::-1])
    assert [c.low, c.high] == pytest.approx([-back.high, -back.low], rel=1e-3)
    assert [c.p_value, c.statistic] == pytest.approx([back.p_value, -back.statistic])
    if x[0]:
        assert (1 + c.relative_low) * (1 + back.relative_high) == pytest.approx(
            math.nan if not x[1] else 1, rel=1e-3, nan_ok=True
        )


@pytest.mark.parametrize("alternative", ["two-sided", "larger", "smaller"])
@pytest.mark.parametrize("x, n", [*CASES, ([2, 11], [40, 35]), ([19, 4], [9500, 500])])
def test_an_exact_p_value_is_below_alpha_exactly_when_0_is_outside(x, n, alternative):
    for alpha in (0.01, 0.05, 0.2):
        c = exact_proportions(x, n, alpha, alternative)
        assert (c.p_value < alpha) == (not c.low <= 0 <= c.high)
        assert (c.p_value < alpha) == (not c.relative_low <= 0 <= c.relative_high)


@pytest.mark.parametrize("x, n", [([19, 30], [9500, 500]), ([0, 30], [500, 500])])
def test_rates_that_no_longer_meet_leave_the_other_side_alone(x, n):
    "The chance of as many or fewer is near 1, however far the groups are apart."
    up, down = (exact_proportions(x, n, alternative=side) for side in ("larger", "smaller"))
    assert up.p_value == pytest.approx(1e-4) and down.p_value == 1
    assert down.low == -math.inf and down.high > 0 and down.relative_high > 0 and up.low > 0
    assert exact_proportions(x, n).p_value == pytest.approx(2e-4)
    back = [exact_proportions(x[::-1], n[::-1], alternative=a) for a in ("smaller", "larger")]
    assert [c.p_value for c in back] == pytest.approx([up.p_value, 1])


def test_one_sided_p_values_go_on_smoothly_to_where_rates_no_longer_meet():
    found = [exact_proportions([0, j], [500, 500], alternative="smaller") for j in range(23, 31)]
    assert [c.p_value for c in found] == [1] * 8


def test_a_large_control_is_as_good_as_a_known_rate():
    control, canary = 50_000, stats.binom(500, 0.002)
    worse = exact_proportions([control, 4], [25_000_000, 500], alternative="larger")
    assert worse.p_value == pytest.approx(canary.sf(3) + 1e-4, rel=0.05)
    assert worse.low > 0 and worse.relative_low > 0
    theirs = stats.binomtest(4, 500).proportion_ci(0.9, "exact").low
    assert worse.low == pytest.approx(theirs - 0.002, rel=0.05)
    better = exact_proportions([control, 0], [25_000_000, 500], alternative="smaller")
    assert better.p_value == pytest.approx(canary.pmf(0) + 1e-4, rel=0.05)


def test_blocks_of_counts_make_no_p_value_smaller(monkeypatch):
    one_by_one = exact_proportions([900, 4], [450_000, 500], alternative="larger").p_value
    monkeypatch.setattr(rare_events, "_MOST", 25_000)
    in_blocks = exact_proportions([900, 4], [450_000, 500], alternative="larger").p_value
    assert one_by_one * (1 - 1e-6) < in_blocks < 1.02 * one_by_one


def test_intervals_cover_at_every_true_rate():
    n = 12, 5
    found = {}
    for i in range(n[0] + 1):
        for j in range(n[1] + 1):
            found[i, j] = exact_proportions([i, j], n, 0.1)
    for p in (0.03, 0.2, 0.6):
        for q in (0.01, 0.2, 0.5, 0.95):
            held, ratio = 0.0, 0.0
            for (i, j), c in found.items():
                chance = stats.binom.pmf(i, n[0], p) * stats.binom.pmf(j, n[1], q)
                held += chance * (c.low <= q - p <= c.high)
                ratio += chance * (c.relative_low <= q / p - 1 <= c.relative_high)
            assert held >= 0.9 and ratio >= 0.9


def test_no_event_at_all_has_an_interval():
    c = exact_proportions([0, 0], [20, 30])
    assert c.p_value == 1 and c.difference == 0 and math.isnan(c.relative)
    assert -rate_bound(0, 20, 0.99) < c.low < 0 < c.high < rate_bound(0, 30, 0.99)
    assert (c.relative_low, c.relative_high) == (-1, math.inf)
    all_of_them = exact_proportions([20, 30], [20, 30])
    assert [all_of_them.low, all_of_them.high] == pytest.approx([-c.high, -c.low], rel=1e-3)


def test_billions_of_units_are_as_poisson_counts():
    small, large = (exact_proportions([2, 9], [size, 2 * size]) for size in (10**7, 10**14))
    assert large.p_value == pytest.approx(small.p_value, rel=1e-5)
    assert large.relative_low == pytest.approx(small.relative_low, rel=1e-3)
    assert large.high * 10**7 == pytest.approx(small.high, rel=1e-3)


def test_many_events_are_as_the_score_test_says():
    x, n = [60, 85], [50_000, 50_000]
    c, score = exact_proportions(x, n), compare_proportions(x, n)
    width = score.high - score.low
    assert [c.low, c.high] == pytest.approx([score.low, score.high], abs=0.01 * width)
    assert c.p_value == pytest.approx(score.p_value, rel=0.03)


@pytest.mark.parametrize(
    "kw, word",
    [
        ({"successes": [5, 3], "totals": [4, 4]}, "no more successes"),
        ({"totals": [10, 0]}, "units in both groups"),
        ({"alpha": 1e-4}, "alpha = 0.0001"),
        ({"alternative": "greater"}, "alternative = 'greater'"),
        ({"successes": [4000, 4600], "totals": [10**5] * 2}, "hundreds in both.* is as good"),
        ({"successes": [10**9 - 9, 496], "totals": [10**9, 500]}, "hundreds without one"),
    ],
)
def test_comparisons_of_few_events_that_cannot_be_are_refused(kw, word):
    with pytest.raises(ValueError, match=word):
        exact_proportions(**{"successes": [1, 2], "totals": [10, 10], **kw})
