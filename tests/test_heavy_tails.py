"""Values that a few units carry: caps, quantiles by the unit, ranks."""

import math
import numpy as np
import pandas as pd
import pytest
from scipy import stats
from trending_now.ab.heavy_tails import compare_quantiles, mann_whitney, winsorise
from trending_now.settings import stream

# A cap


def test_one_cap_serves_both_groups():
    rng = stream(7, "cap")
    a, b = rng.lognormal(0, 2, 4000), rng.lognormal(0.2, 2, 1000)
    capped = winsorise(a, b, 0.01)
    both = np.sort(np.concatenate([a, b]))
    assert capped.at == both[4949] and capped.units == 0.01
    assert (capped.control == np.minimum(a, capped.at)).all()
    assert (capped.treatment == np.minimum(b, capped.at)).all()
    kept = capped.control.sum() + capped.treatment.sum()
    assert capped.lost == pytest.approx(1 - kept / both.sum())


def test_a_cap_at_a_common_value_cuts_nothing():
    capped = winsorise([0, 0, 5, 5], [5, 5, 0, 5])
    assert (capped.at, capped.units, capped.lost) == (5, 0, 0)
    assert math.isnan(winsorise([0, 0], [0, 0]).lost), "nothing to lose"
    assert winsorise([0] * 98 + [5, 9], [0] * 100, 0.008).at == 5
    swapped = winsorise([1, 2, 9], [3, 4, 5], 0.2)
    assert swapped.at == winsorise([3, 4, 5], [1, 2, 9], 0.2).at


@pytest.mark.parametrize(
    "args, word",
    [
        (([1, 2], [1, 2], 0), "share = 0"),
        (([1, 2], [1, 2], 0.5), "share = 0.5"),
        (([1, math.nan], [1, 2]), r"control\[1\] = nan"),
        (([1, 2], [1]), "treatment has shape"),
        (([0] * 98 + [5, 9], [0] * 100, 0.05), "cap of 0 all values.*less than the 0.01"),
        (([3, 3, 3, 4], [3, 3, 3, 3], 0.2), "cap of 3 all values are equal"),
    ],
)
def test_caps_that_cannot_be_are_refused(args, word):
    with pytest.raises(ValueError, match=word):
        winsorise(*args)


# Quantiles


def loads(rng, units):
    "Values of events that are alike within a unit."
    who = np.repeat(np.arange(units), 1 + rng.poisson(rng.gamma(1, 8, units)))
    return np.exp(rng.normal(0, 0.7, units)[who] + rng.normal(0, 0.5, len(who))), who


def test_a_quantiles_standard_error_is_the_one_that_resampled_units_show():
    rng = stream(7, "quantile bootstrap")
    values, who = loads(rng, 1500)
    found = compare_quantiles(values, values, 0.9, who, who)
    error = found.high / stats.t.isf(0.025, found.df) / math.sqrt(2)
    events = pd.Series(values).groupby(who).apply(np.array).to_numpy()
    drawn = [
        np.quantile(np.concatenate(events[rng.integers(0, 1500, 1500)]), 0.9) for _ in range(300)
    ]
    assert error == pytest.approx(np.std(drawn), rel=0.2)


def test_events_that_are_units_have_the_binomial_standard_error():
    values = stream(7, "binomial").exponential(1, 40_000)
    found = compare_quantiles(values, values, 0.95)
    density = 0.05  # of the exponential distribution, at its 95% quantile
    error = math.sqrt(0.95 * 0.05 / 40_000) / density * math.sqrt(2)
    assert found.high == pytest.approx(1.96 * error, rel=0.1)


def test_false_alarms_by_the_unit_and_without():
    rng, by_unit, by_event, repeats = stream(7, "alarms"), 0, 0, 400
    for _ in range(repeats):
        (a, who), (b, whose) = loads(rng, 500), loads(rng, 500)
        by_unit += compare_quantiles(a, b, 0.9, who, whose).p_value < 0.05
        by_event += compare_quantiles(a, b, 0.9).p_value < 0.05
    assert by_event / repeats > 0.25
    assert stats.binomtest(int(by_unit), repeats, 0.05, alternative="greater").pvalue > 0.001


def test_names_of_units_may_be_anything_and_scale_changes_nothing():
    values, who = loads(stream(7, "names"), 300)
    plain = compare_quantiles(values, 1.2 * values, 0.75, who, who)
    names = [f"u{unit}" for unit in who]
    named = compare_quantiles(values, 1.2 * values, 0.75, names, pd.Series(names))
    assert repr(plain) == repr(named) and plain.relative == pytest.approx(0.2)
    milli = compare_quantiles(1000 * values, 1200 * values, 0.75, who, who)
    assert milli.difference == pytest.approx(1000 * plain.difference)
    assert milli.p_value == pytest.approx(plain.p_value)
    larger = compare_quantiles(values, 1.2 * values, 0.75, who, who, alternative="larger")
    assert larger.high == math.inf and larger.p_value == pytest.approx(plain.p_value / 2)


@pytest.mark.parametrize(
    "kw, word",
    [
        ({"q": 1}, "q = 1"),
        ({"q": 0.999}, "control: too few units for quantile 0.999"),
        ({"units_control": [1, 2]}, "units_control has 2 units: expected one for each of 100"),
        ({"units_treatment": [None] + [1, 2] * 49 + [3]}, "units_treatment: 1 units are missing"),
        ({"units_treatment": [1] * 100}, "units_treatment names 1 unit"),
        ({"control": [1.0] * 100, "treatment": [2.0] * 100}, "zero variance"),
        ({"control": [4, 5, 5, 5, 6] * 20, "treatment": [3, 4, 4, 4, 5] * 20}, "so many values"),
        ({"treatment": [math.nan] * 100}, r"treatment\[0\] = nan"),
    ],
)
def test_quantiles_that_cannot_be_compared_are_refused(kw, word):
    values = list(range(100))
    with pytest.raises(ValueError, match=word):
        compare_quantiles(**{"control": values, "treatment": values, "q": 0.5, **kw})


def test_a_quantile_at_the_time_out_is_compared_with_one_below_it():
    rng = stream(7, "time out")
    slow, fast = rng.exponential(12, 6000), rng.exponential(5, 6000)
    capped = np.minimum(slow, 30)
    assert (capped == 30).mean() > 0.06
    found = compare_quantiles(capped, fast, 0.95)
    assert found.difference == pytest.approx(np.sort(fast)[5699] - 30) and found.high < -10
    with pytest.raises(ValueError, match="so many values are equal at quantile 0.95"):
        compare_quantiles(capped, capped, 0.95)
    assert compare_quantiles(capped, capped, 0.5).high == pytest.approx(
        compare_quantiles(slow, slow, 0.5).high
    )


def test_a_quantile_at_the_edge_of_a_tie_keeps_its_uncertainty():
    "With 5.2% at the time-out the 95% quantile is the time-out or a little less."
    below = stream(7, "edge").uniform(0, 30, 9480)
    values = np.concatenate([below, np.full(520, 30.0)])
    found = compare_quantiles(values, values, 0.95)
    spread = 1.96 * math.sqrt(0.95 * 0.05 / 10_000)
    low = np.quantile(values, 0.95 - spread)
    assert found.high == pytest.approx((30 - low) / 2 * math.sqrt(2), rel=0.05)


def test_whole_seconds_have_an_answer_where_the_interval_reaches_the_next_one():
    values = np.repeat([1.0, 2, 3, 4, 5, 6], [300, 300, 200, 145, 40, 15])
    found = compare_quantiles(values, values + 1, 0.95)
    assert found.difference == 1 and 0.5 < found.high - found.low < 2


# Ranks


@pytest.mark.parametrize("draw", ["gamma", "counts"])
def test_the_probability_and_its_test_are_those_of_scipy(draw):
    rng = stream(7, "ranks", draw)
    a, b = (rng.gamma(2, 1, 80), rng.gamma(2, 2, 50))
    if draw == "counts":
        a, b = a.round(), b.round()
    found, theirs = mann_whitney(a, b), stats.brunnermunzel(a, b)
    more = (b > a[:, None]).mean() + (b == a[:, None]).mean() / 2
    assert found.probability == pytest.approx(more)
    assert found.probability == pytest.approx(stats.mannwhitneyu(b, a).statistic / 4000)
    assert found.p_value == pytest.approx(theirs.pvalue, rel=1e-9)
    exactly = mann_whitney(a, b, alpha=found.p_value)
    assert min(abs(exactly.low - 0.5), abs(exactly.high - 0.5)) < 1e-9
    back = mann_whitney(b, a)
    assert [back.low, back.high] == pytest.approx([1 - found.high, 1 - found.low])


def test_the_interval_of_the_probability_covers_with_unequal_spreads():
    rng, inside, repeats = stream(7, "rank coverage"), 0, 1000
    truth = stats.norm.cdf(0.5 / math.hypot(1, 3))
    for _ in range(repeats):
        found = mann_whitney(rng.normal(0, 1, 60), rng.normal(0.5, 3, 25))
        inside += found.low <= truth <= found.high
    assert stats.binomtest(inside, repeats, 0.95).pvalue > 0.001


@pytest.mark.parametrize(
    "args, word",
    [
        (([1, 2], [3, 4]), "do not overlap"),
        (([5, 5], [5, 5]), "all values .* are equal to 5"),
        (([5, 5], [6, 6]), "do not overlap"),
        (([1, math.nan], [3, 4]), r"control\[1\] = nan"),
        (([1, 2, 3], [2, 2, 4], 0), "alpha = 0"),
    ],
)
def test_ranks_that_cannot_be_are_refused(args, word):
    with pytest.raises(ValueError, match=word):
        mann_whitney(*args)
