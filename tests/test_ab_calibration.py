"""Error rates of every method in `ab`, over 4,000 simulated experiments or more: within one point
of the promise, and within a binomial bound."""

import numpy as np
import pytest
from scipy import stats
from trending_now import ab
from trending_now.ab.mismatch import srm_sequence
from trending_now.ab.spending import after_stopping, spending_bounds
from trending_now.settings import stream

N = 4000  # experiments


def near(hits, wanted, n=N, points=0.01, level=1e-4):
    "Whether a rate is within a point of the wanted one and not rejected by a binomial test."
    assert (
        abs(hits / n - wanted) <= points and stats.binomtest(int(hits), n, wanted).pvalue > level
    ), f"{hits} of {n}, wanted {wanted}"


def judge(results, truth, alpha=0.05):
    "Coverage of the intervals, and how often 0 is outside."
    low, high, p = np.array([(c.low, c.high, c.p_value) for c in results]).T
    return ((low <= truth) & (truth <= high)).sum(), (p < alpha).sum()


def proportions(rng, effect):
    x = rng.binomial([3000, 2000], [0.05, 0.05 + effect], (N, 2))
    return [ab.compare_proportions(row, [3000, 2000]) for row in x]


def means(rng, effect):
    "Skewed values, unequal arms and spreads."
    a, b = rng.gamma(2.0, 1.0, (N, 250)), rng.gamma(1.0, 2.0 + effect, (N, 150))
    return [ab.compare_means(*pair) for pair in zip(a, b)]


def means_from_sums(rng, effect):
    a, b = (
        rng.normal(0, 1, (N, 12)),
        rng.normal(effect, 3, (N, 8)),
    )  # small: the t distribution matters
    return [
        ab.compare_means_from_stats(*row, [12, 8])
        for row in zip(np.c_[a.mean(1), b.mean(1)], np.c_[a.std(1, ddof=1), b.std(1, ddof=1)])
    ]


def ratios(rng, effect):
    "Clicks over views of visitors who differ in taste and come with heavy tails."
    n = 600
    views = 1 + rng.poisson(np.exp(rng.normal(0.3, 0.8, (N, 2, n)))).astype(np.int32)
    rate = rng.beta(3.0, 12.0, (N, 2, n)) * (1 + effect * np.array([0, 1])[:, None])
    clicks = rng.binomial(views, rate)
    return [ab.compare_ratios(c[0], v[0], c[1], v[1]) for c, v in zip(clicks, views)]


def cuped_means(rng, effect):
    "A covariate that explains most of the variance; a third of the units are new and have none."
    n = 400
    past = rng.gamma(1.0, 3.0, (N, n)) * (rng.random((N, n)) < 0.67)
    y = past + rng.gamma(1.0, 2.0, (N, n))
    arm = rng.random((N, n)) < 0.5
    y += effect * arm
    return [
        ab.compare_means(z[~t], z[t])
        for z, t in ((ab.cuped(y[i], past[i]), arm[i]) for i in range(N))
    ]


METHODS = [
    (proportions, 0.01, 0.01),
    (means, 0.5, 0.5),
    (means_from_sums, 0.7, 0.7),
    (ratios, 0.1, 0.1 * 0.2),
    (cuped_means, 0.5, 0.5),
]


@pytest.mark.parametrize(
    "method, effect, truth", METHODS, ids=lambda m: getattr(m, "__name__", None)
)
def test_intervals_cover_the_truth_in_95_of_100_experiments(method, effect, truth):
    near(judge(method(stream(7, "cover", method.__name__), effect), truth)[0], 0.95)


@pytest.mark.parametrize("method", [m for m, _, _ in METHODS], ids=lambda m: m.__name__)
def test_experiments_without_effect_are_significant_in_5_of_100(method):
    cover, hits = judge(method(stream(7, "null", method.__name__), 0.0), 0.0)
    near(hits, 0.05)
    near(cover, 0.95)


def test_cuped_intervals_are_shorter_by_the_square_root_of_one_minus_rho_squared():
    rng = stream(7, "short")
    past = rng.gamma(1.0, 3.0, 20_000)
    y, arm = past + rng.gamma(1.0, 2.0, 20_000), rng.random(20_000) < 0.5
    width = lambda v: np.subtract(*(lambda c: (c.high, c.low))(ab.compare_means(v[~arm], v[arm])))
    assert width(ab.cuped(y, past)) / width(y) == pytest.approx(
        np.sqrt(1 - np.corrcoef(y, past)[0, 1] ** 2), rel=0.02
    )


def test_credible_intervals_cover_when_effects_come_from_the_prior():
    rng = stream(7, "prior")
    p = rng.beta(4.0, 36.0, (N, 2))
    x = rng.binomial([60, 50], p)
    r = [ab.bayes_proportions(row, [60, 50], (4, 36)) for row in x]
    d = p[:, 1] - p[:, 0]
    near(sum(b.low <= v <= b.high for b, v in zip(r, d)), 0.95)
    said = np.array([b.prob_better for b in r])
    for low, high in (
        (0, 0.2),
        (0.2, 0.5),
        (0.5, 0.8),
        (0.8, 1),
    ):  # the stated probabilities are frequencies
        at = (said >= low) & (said < high + (high == 1))
        assert abs((d[at] > 0).mean() - said[at].mean()) < 4 * np.sqrt(0.25 / at.sum())


@pytest.mark.parametrize("kind", ["obrien-fleming", "pocock"])
@pytest.mark.parametrize("looks", [5, 20])
def test_group_sequential_tests_keep_five_in_a_hundred_over_all_looks(kind, looks):
    z = stream(7, "looks", looks).standard_normal((20_000, looks)).cumsum(1) / np.sqrt(
        np.arange(1, looks + 1)
    )
    near((np.abs(z) > ab.group_sequential(looks, kind=kind)).any(1).sum(), 0.05, 20_000, 0.006)


@pytest.mark.parametrize("kind", ["obrien-fleming", "pocock"])
def test_uneven_looks_keep_five_in_a_hundred(kind):
    at = np.array([0.12, 0.2, 0.55, 0.6, 1])
    steps = np.sqrt(np.diff(at, prepend=0))
    z = (stream(7, "uneven").standard_normal((20_000, 5)) * steps).cumsum(1) / np.sqrt(at)
    near((np.abs(z) > spending_bounds(at, kind=kind)).any(1).sum(), 0.05, 20_000, 0.006)


@pytest.mark.parametrize("truth", [0.0, 2.8])
def test_after_an_early_stop_half_the_estimates_are_too_large_and_95_intervals_hold(truth):
    at, bounds = np.array([0.3, 0.7, 1]), spending_bounds([0.3, 0.7, 1], kind="pocock")
    steps = np.diff(at, prepend=0)
    z = stream(7, "stopped").normal(truth * steps, np.sqrt(steps), (N, 3)).cumsum(1) / np.sqrt(at)
    hit = np.abs(z) > bounds
    look = np.where(hit.any(1), hit.argmax(1), 2)
    end = z[np.arange(N), look]
    grid, above, covered = np.linspace(-5, 8, 27), 0, 0
    for k in range(3):
        table = [after_stopping(v, at[: k + 1], bounds[: k + 1], 1 / np.sqrt(at[k])) for v in grid]
        here = end[look == k]
        line = lambda name: np.interp(here, grid, [getattr(row, name) for row in table])
        above += (line("estimate") > truth).sum()
        covered += ((line("low") < truth) & (truth < line("high"))).sum()
    assert stats.binomtest(int(above), N, 0.5).pvalue > 1e-4
    near(covered, 0.95)


def test_the_one_sided_sequence_holds_at_every_look_together():
    x = stream(7, "rise").exponential(1.0, (N, 2, 1500)).astype(np.float32)
    at = np.arange(100, 1500, 25)
    n, s, q = at + 1, x.cumsum(2)[:, :, at], (x * x).cumsum(2)[:, :, at]
    mean, var = s / n, (q - s * s / n) / (n - 1)
    gap, se = mean[:, 1] - mean[:, 0], np.sqrt(var.sum(1) / n)
    one = ab.always_valid(gap, se, 2 * n, tuning_n=500, two_sided=False)
    missed = (one.low > 0).any(1).sum()
    assert stats.binomtest(int(missed), N, 0.05, alternative="greater").pvalue > 1e-4 and missed > 0


def test_peeking_without_bounds_does_not():
    z = stream(7, "naive").standard_normal((20_000, 100)).cumsum(1) / np.sqrt(np.arange(1, 101))
    for k, p in ((5, 0.142), (20, 0.248), (100, 0.374)):
        near((np.abs(z[:, :k]) > 1.959964).any(1).sum(), p, 20_000)


@pytest.mark.parametrize("tuning", [500, 5000])
def test_the_confidence_sequence_holds_at_every_look_together(tuning):
    """Skewed visitors arrive one pair after the other; looks after 200, 250, ... 5,000 visitors,
    the standard error estimated from the data."""
    rng, effect = stream(7, "always", tuning), 0.2
    x = rng.exponential(1.0, (N, 2, 2500)).astype(np.float32)
    x[:, 1] += effect
    at = np.arange(100, 2500, 25)
    n, s, q = at + 1, x.cumsum(2)[:, :, at], (x * x).cumsum(2)[:, :, at]
    mean, var = s / n, (q - s * s / n) / (n - 1)
    seq = ab.always_valid(mean[:, 1] - mean[:, 0], np.sqrt(var.sum(1) / n), 2 * n, tuning_n=tuning)
    missed = ((seq.low > effect) | (seq.high < effect)).any(1).sum()
    assert stats.binomtest(int(missed), N, 0.05, alternative="greater").pvalue > 1e-4 and missed > 0
    zero = ((seq.p_value < 0.05) != ((seq.low > 0) | (seq.high < 0))).sum()
    assert zero == 0


@pytest.mark.parametrize(
    "lost, low, high", [(0.0, 0.0003, 0.0025), (0.02, 0.35, 0.55), (0.05, 0.999, 1)]
)
def test_the_mismatch_alarm_rings_as_often_as_it_should(lost, low, high):
    """Of 100,000 visitors some of the treated are lost; alarm at p < 0.001. For 2% the normal
    approximation says 45%."""
    rng = stream(7, "srm", lost)
    assigned = rng.binomial(100_000, 0.5, 10_000)
    rate = np.mean(
        [ab.srm(c) < 0.001 for c in np.c_[100_000 - assigned, rng.binomial(assigned, 1 - lost)]]
    )
    assert low <= rate <= high


@pytest.mark.parametrize("weights", [[0.5, 0.5], [0.2, 0.3, 0.5]])
def test_the_mismatch_alarm_of_every_morning_rings_in_five_of_a_hundred_at_most(weights):
    days = stream(7, "mornings", len(weights)).multinomial(5000, weights, (2000, 40))
    rung = sum(srm_sequence(test, weights, 2000)[-1] <= 0.05 for test in days)
    assert stats.binomtest(int(rung), 2000, 0.05, alternative="greater").pvalue > 1e-4 and rung > 0


def test_non_inferiority_passes_a_loss_of_the_margin_once_in_forty():
    rng = stream(7, "margin")
    x = rng.binomial(5000, [0.10, 0.09], (20_000, 2))
    near(
        sum(ab.non_inferior(ab.compare_proportions(row, [5000, 5000]), 0.01) for row in x[:8000]),
        0.025,
        8000,
        0.006,
    )


def test_corrections_keep_their_rates_when_some_questions_have_an_answer():
    rng = stream(7, "many")
    real = np.arange(20) < 5
    p = 2 * stats.norm.sf(np.abs(rng.standard_normal((N, 20)) + 3 * real))
    any_false = np.mean([(ab.holm(row)[~real] < 0.05).any() for row in p])
    share = np.mean(
        [
            (lambda hit: (hit & ~real).sum() / max(hit.sum(), 1))(ab.benjamini_hochberg(row) < 0.05)
            for row in p
        ]
    )
    assert any_false < 0.05 + 0.01 and share == pytest.approx(0.05 * 15 / 20, abs=0.006)


def test_a_significant_result_is_wrong_as_often_as_bayes_rule_says():
    rng = stream(7, "ideas")
    for prior in (1 / 3, 0.1):
        works = rng.random(400_000) < prior
        hit = np.abs(rng.standard_normal(400_000) + 2.80159 * works) > 1.959964
        near((hit & ~works).sum(), ab.false_positive_risk(prior), hit.sum(), 0.01)
