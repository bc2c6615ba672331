"""One number a unit: ratios and shares with a past, caps, readings at any time, tests of nothing
and sizes from one's own log."""

from dataclasses import replace
import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats
from trending_now import ab
from trending_now.ab import readings
from trending_now.ab.exposure import by_exposure
from trending_now.ab.readings import at_any_time, cap_at
from trending_now.settings import stream

mean = ab.Metric("x", ab.count("click"), past=True)
ratio = ab.Metric("x", ab.count("click"), per=ab.count("view"), past=True)
share = ab.Metric("x", ab.count("click"), share=True, past=True)


def units(rng, n=2000, lift=0.0, new=0.3):
    "A table of units of which some are new."
    taste, habit = rng.beta(2, 5, n), rng.gamma(2.0, 3.0, n)
    arm, is_new = (np.arange(n) % 2).astype(np.int8), rng.random(n) < new
    views, before = rng.poisson(habit) + 1, rng.poisson(habit) + 1
    clicks = rng.binomial(views, np.minimum(taste * (1 + lift * arm), 1))
    gone = lambda values: np.where(is_new, np.nan, values)
    return pd.DataFrame(
        {
            "arm": arm,
            "x": clicks,
            "x / per": views,
            "x / past": gone(rng.binomial(before, taste)),
            "x / past 2": gone(before),
        }
    )


def test_the_past_is_what_a_regression_with_a_level_for_the_new_takes_out():
    table = units(stream(7, "regression"))
    past, is_new = table["x / past"], table["x / past"].isna()
    filled = past.fillna(past.mean())
    design = sm.add_constant(np.column_stack([filled, is_new.astype(float)]))
    theirs = sm.OLS(table.x.to_numpy(float), design).fit().resid + table.x.mean()
    assert ab.unit_values(mean, table) == pytest.approx(theirs, abs=1e-9)


@pytest.mark.parametrize("metric", [mean, ratio, share], ids=["mean", "ratio", "share"])
def test_intervals_with_the_past_out_are_shorter_and_cover(metric):
    rng, inside, shorter = stream(7, "covered", metric.share, metric.per is None), 0, []
    for _ in range(300):
        table = units(rng, 800)
        found = ab.read(metric, *ab.groups(metric, table)).comparison
        plain = replace(metric, past=False)
        wide = ab.read(plain, *ab.groups(plain, table)).comparison
        inside += found.low < 0 < found.high
        shorter.append((found.high - found.low) / (wide.high - wide.low))
    assert stats.binomtest(inside, 300, 0.95).pvalue > 1e-3
    assert np.mean(shorter) < 0.98


def test_where_nobody_or_everybody_has_the_same_past_nothing_is_taken_out():
    table = units(stream(7, "same"))
    for past in (np.nan, 4.0):
        same = table.assign(**{"x / past": past})
        assert (ab.unit_values(mean, same) == table.x).all()


def test_two_columns_that_say_the_same_are_one():
    metric = replace(mean, past=(ab.count("click"), ab.count("click")))
    table = units(stream(7, "twice"))
    table["x / past 2"] = table["x / past"]
    assert ab.unit_values(metric, table) == pytest.approx(ab.unit_values(mean, table), abs=1e-9)


def test_a_cap_is_the_same_for_all_arms_and_said_in_the_report():
    rng, plan = stream(7, "cap"), ab.Experiment("t", ab.Metric("x", ab.total("buy"), cap=0.01), 500)
    table = pd.DataFrame({"arm": np.tile([0, 1], 500), "x": rng.lognormal(0, 2, 1000)})
    at = cap_at(plan.metric, table)
    assert (table.x > at).sum() == 10
    capped = ab.winsorise(table.x[table.arm == 0], table.x[table.arm == 1], 0.01)
    assert at == capped.at
    report = ab.analyse_units(plan, table)
    want = ab.compare_means(capped.control, capped.treatment)
    assert report.table.p.iloc[0] == pytest.approx(want.p_value, rel=1e-9)
    for text in (report.notes[0], report._repr_html_()):
        assert "10 units are capped" in text


def test_the_five_numbers_of_an_arm():
    table = pd.DataFrame({"arm": [0, 0, 0, 1, 1], "x": [0.0, 0, 3, 1, 0]})
    control, treatment = ab.groups(ab.Metric("x", ab.count("x")), table)
    assert (control.n, control.mean, control.events) == (3, 1.0, 1)
    assert control.sd == pytest.approx(3**0.5) and control.skewness == pytest.approx(
        stats.skew([0, 0, 3])
    )
    assert (treatment.n, treatment.mean, treatment.events) == (2, 0.5, 1)


def test_a_reading_at_any_time_is_wider_and_agrees_with_itself():
    table = units(stream(7, "any time"), lift=0.3)
    fixed = ab.read(ratio, *ab.groups(ratio, table))
    valid = at_any_time(fixed, 0.05, 2000).comparison
    assert valid.low < fixed.comparison.low < fixed.comparison.high < valid.high
    assert (valid.relative_low > 0) == (valid.low > 0)


def test_tests_of_nothing_on_a_sound_metric_keep_their_promise():
    plan = ab.Experiment("t", ratio, 500, weights=(0.8, 0.2))
    runs = ab.aa_runs(plan, units(stream(7, "nothing"), 4000), 300, 7)
    assert runs.table.low["either"] < 0.05 < runs.table.high["either"]
    assert stats.kstest(runs.p_values, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("weights, looks", [((0.5, 0.5), 1), ((0.8, 0.2), 1), ((0.5, 0.5), 3)])
def test_a_planned_size_finds_what_it_was_planned_for(weights, looks):
    rng = stream(7, "planned", *map(int, np.array(weights) * 10), looks)
    metric = ab.Metric("x", ab.total("x"))
    plan = ab.Experiment("t", metric, 100, weights=weights, looks=looks)
    past = pd.DataFrame({"x": rng.gamma(2.0, 1.0, 20_000)})
    size = int(ab.plan_sizes(plan, past, 0.15).units["x"])
    plan, found = replace(plan, size=size), 0
    treated = int(np.ceil(size * weights[1] / weights[0]))
    for _ in range(300):
        arm = rng.permutation(np.repeat([0, 1], [size, treated]))
        table = pd.DataFrame({"arm": arm, "x": rng.gamma(2.0, 1.0, len(arm)) * (1 + 0.15 * arm)})
        steps = [len(arm) * k // looks for k in range(1, looks + 1)]
        reads = [ab.analyse_units(plan, table[:step]) for step in steps]
        found += any(read.decision == "ship" for read in reads)
    assert abs(found / 300 - 0.8) < 3.5 * np.sqrt(0.16 / 300)


def test_a_guardrail_is_sized_for_its_margin():
    guard = ab.Metric("y", ab.total("y"), margin=0.1)
    plan = ab.Experiment("t", ab.Metric("x", ab.total("x")), 100, guardrails=(guard,))
    past = pd.DataFrame({"x": [1.0, 2] * 50, "y": [1.0, 3] * 50})
    sizes = ab.plan_sizes(plan, past, 0.05)
    sd, reach = past.y.std(), stats.norm.isf(0.025) + stats.norm.isf(0.2)
    assert sizes.units["y"] == np.ceil(sd**2 * (1 + 0.9**2) * (reach / (0.1 * 2)) ** 2)


def test_an_effect_that_stays_has_no_trend_and_one_that_fades_has():
    rng = stream(7, "course")
    n, days, start = 1500, 6, pd.Timestamp("2026-01-01", tz="UTC")
    arm, taste = np.arange(n) % 2, rng.gamma(2.0, 1.0, n)
    names = np.array(["c", "t"])[arm]
    entries = pd.DataFrame({"unit": np.arange(n), "ts": start, "variant": names})
    plan = ab.Experiment("e", ab.Metric("x", ab.count("x")), 700, variants=("c", "t"))
    trends = {}
    for name, lift in (("stays", np.full(days, 0.2)), ("fades", 0.6 * 0.4 ** np.arange(days))):
        counts = rng.poisson(taste[:, None] * (1 + lift * arm[:, None]))
        who, day = np.nonzero(counts)
        who, day = np.repeat(who, counts[who, day]), np.repeat(day, counts[who, day])
        ts = start + pd.to_timedelta(day + rng.random(len(day)), unit="D")
        log = pd.DataFrame({"unit": who, "ts": ts, "kind": "x"})
        last = pd.DataFrame({"unit": [0], "ts": [start + pd.Timedelta(days, "D")], "kind": ["end"]})
        p90 = ab.Metric("p90", ab.total("x"), per=ab.count("x"), quantile=0.9)
        guarded = replace(plan, guardrails=(p90,))  # only the main metric is followed
        course = by_exposure(guarded, pd.concat([log, last]), "1D", entries)
        assert len(course.table) == days and (course.table.units == n).all()
        day0 = [counts[arm == k, 0].mean() for k in (0, 1)]
        assert course.table.difference[0] == pytest.approx(day0[1] - day0[0])
        trends[name] = course.trend
    assert trends["stays"].p_value > 0.01 > 1e-4 > trends["fades"].p_value


def of(column, **form): return ab.Metric(column, ab.count("click"), **form)


VIEWS = ab.count("view")
LARGE = {
    "mean": of("a"),
    "capped": of("a", cap=.01),
    "share": of("b", share=True),
    "ratio": of("b", per=VIEWS),
    "past": of("a", past=True),
    "share with its past": of("b", share=True, past=True),
    "ratio with its past": of("b", per=VIEWS, past=True),
    "past with gaps": of("c", past=True),
    "all alike": of("d"),
    "a ratio that never varies": of("e", per=VIEWS),
    "nothing": of("f"),
}


def large_table(units=60_000):
    "Three arms; more units than are read singly."
    rng = np.random.default_rng(7)
    views, before = rng.poisson(2., units) + 1., rng.gamma(1., 10., units)
    gaps = np.where(rng.random(units) < .3, np.nan, before)
    clicks = rng.binomial(views.astype(int), .2)
    return pd.DataFrame({
        "arm": rng.choice(3, units, p=[.5, .3, .2]).astype(np.int8),
        "a": before + rng.gamma(1., 8., units), "a / past": before,
        "b": clicks, "b / per": views, "b / past": before, "b / past 2": rng.random(units),
        "c": before + rng.gamma(1., 8., units), "c / past": gaps,
        "d": np.full(units, .1), "e": 2*views, "e / per": views, "f": np.zeros(units)})


@pytest.mark.parametrize("metric", LARGE.values(), ids=LARGE)
def test_a_large_table_is_read_block_by_block_as_it_is_read_singly(metric):
    table = large_table()
    assert readings._arm_blocks(table, 3) and not readings._arm_blocks(table[:100], 3)
    by_blocks, singly = readings.groups(metric, table, 3), readings._singly(metric, table, 3)
    for one, other in zip(by_blocks, singly):
        assert (one.n, one.events) == (other.n, other.events)
        for name in ("mean", "sd", "skewness"):
            assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-9, abs=1e-12)


def test_a_large_table_in_order_loses_no_digits():
    table = large_table().sort_values("a", ignore_index=True)
    table["a"] += 1e6  # far from zero, and the first block far from the others
    metric = LARGE["mean"]
    for one, other in zip(readings.groups(metric, table, 3), readings._singly(metric, table, 3)):
        assert one.sd == pytest.approx(other.sd, rel=1e-9)
        assert one.skewness == pytest.approx(other.skewness, rel=1e-6)


def test_a_large_table_in_the_order_of_its_arms_has_blocks_without_some():
    table = large_table().sort_values("arm", ignore_index=True)
    for metric in LARGE.values():
        found, singly = readings.groups(metric, table, 3), readings._singly(metric, table, 3)
        assert [one.sd for one in found] == pytest.approx([one.sd for one in singly], rel=1e-9)


def test_a_wrong_value_in_a_large_table_is_named():
    table = large_table()
    table.loc[50_000, "a"] = np.nan
    with pytest.raises(ValueError, match="metric a: a\\[50000\\] = nan"):
        readings.all_groups([LARGE["mean"]], table, 3)
    with pytest.raises(ValueError, match="arm 3 has no units"):
        readings.groups(LARGE["nothing"], large_table(), 4)


def test_the_middle_of_many_is_the_middle_of_all():
    rng = np.random.default_rng(7)
    for values in (rng.normal(size=300_001), rng.integers(3, size=300_000) + 1., np.ones(200_000),
                   np.r_[np.zeros(100_000), np.arange(200_000.)]):
        assert readings._middle(values) == np.sort(values)[len(values)//2]
