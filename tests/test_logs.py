"""A log as it comes: an assignment table beside it, tests at once, windows, triggers, quantiles;
the same rows from every engine."""

from dataclasses import replace
import duckdb
import narwhals as nw
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from trending_now import ab
from trending_now.ab.logs import period_tables
from trending_now.settings import stream

START = pd.Timestamp("2026-03-02", tz="UTC")
DAY = pd.Timedelta("1D")
clicks = ab.Metric("clicks", ab.count("click"), past=True)
rate = ab.Metric("rate", ab.count("click"), per=ab.count("exposure"))
slow = ab.Metric("slow", ab.total("click"), per=ab.count("click"), quantile=0.9)
plan = ab.Experiment("search", clicks, 100, others=(rate, slow))
ENGINES = ("pandas", "arrow in pandas", "Polars", "lazy Polars", "Arrow", "DuckDB", "Parquet")


def moments(days):
    return (START + pd.to_timedelta(days, unit="D")).astype("datetime64[us, UTC]")


@pytest.fixture(scope="module")
def log():
    rng, size = stream(7, "untagged"), 6000
    kinds = rng.choice(["exposure", "click", "search"], size, p=[0.6, 0.3, 0.1])
    names = np.array([f"v{i:03}" for i in range(250)])
    return pd.DataFrame(
        {
            "unit": names[rng.integers(0, 240, size)],
            "ts": moments(rng.random(size) * 20),
            "kind": kinds,
            "value": np.where(kinds == "click", rng.gamma(2.0, 10.0, size), 0.0),
        }
    )


@pytest.fixture(scope="module")
def assignments():
    rng = stream(7, "assignments")
    units = [f"v{i:03}" for i in range(250)]  # the last ten never do anything
    table = pd.DataFrame({"unit": units, "ts": moments(8 + rng.random(250) * 10)})
    both = [table.assign(experiment=name) for name in ("search", "button")]
    for one, name in zip(both, ("search", "button")):
        one["variant"] = np.array(["control", "treatment"])[plan.assign(table.unit + name)]
    return pd.concat(both, ignore_index=True)


def as_engine(frame, engine, path):
    if engine == "pandas":
        return frame
    if engine == "arrow in pandas":
        return frame.convert_dtypes(dtype_backend="pyarrow")
    if engine == "Polars":
        return pl.from_pandas(frame)
    if engine == "lazy Polars":
        return pl.from_pandas(frame).lazy()
    if engine == "Arrow":
        return pa.Table.from_pandas(frame)
    frame.to_parquet(path)
    return path if engine == "Parquet" else duckdb.read_parquet(str(path))


def in_order(table):
    return table.sort_values("unit", ignore_index=True)


def by_hand(log, entries, window=None, lookback=None, end=None, trigger=None):
    "Clicks of each unit, its past clicks and its exposures, by a loop; None: not in the test."
    rows = []
    for unit, variant, since in zip(entries.unit, entries.variant, entries.ts):
        mine, entered = log[log.unit == unit], since
        if trigger:
            hits = mine[(mine.kind == trigger) & (mine.ts >= since)]
            if end is not None:
                hits = hits[hits.ts < end]
            if not len(hits):
                continue
            entered = hits.ts.min()
        if end is not None and not since < end:
            continue
        now, then = mine[mine.ts >= entered], mine[mine.ts < since]
        if end is not None:
            now = now[now.ts < end]
        until = log.ts.max() if end is None else end
        waits = window is not None and entered + pd.Timedelta(window) > until
        if window is not None:
            now = now[now.ts < entered + pd.Timedelta(window)]
        if lookback is not None:
            then = then[then.ts >= since - pd.Timedelta(lookback)]
        past = float((then.kind == "click").sum()) if len(then) else np.nan
        arm = -2 if waits else int(variant == "treatment")
        rows.append(
            (unit, arm, (now.kind == "click").sum(), past, (now.kind == "exposure").sum())
        )
    return pd.DataFrame(rows, columns=["unit", "arm", "clicks", "clicks / past", "rate / per"])


PLANS = {
    "as it is": {},
    "a window": {"window": "4D"},
    "a short past": {"lookback": "3D"},
    "an end": {"end": START + 14 * DAY},
    "a trigger": {"trigger": "search"},
    "all of it": {
        "window": "2D",
        "lookback": "5D",
        "end": START + 17 * DAY,
        "trigger": "search",
    },
}


def with_plan(changes):
    changes = dict(changes)
    if "trigger" in changes:
        changes["trigger"] = ab.count(changes["trigger"])
    return replace(plan, others=(rate,), **changes)


@pytest.mark.parametrize("changes", PLANS.values(), ids=PLANS)
def test_a_unit_counts_from_its_own_moment_on(log, assignments, changes):
    entries = assignments[assignments.experiment == "search"]
    wanted = in_order(by_hand(log, entries, **changes))
    found = in_order(ab.unit_table(with_plan(changes), log, assignments))
    assert len(found) == len(wanted) > 50
    pd.testing.assert_frame_equal(found[wanted.columns], wanted, check_dtype=False)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("changes", [PLANS["as it is"], PLANS["all of it"]], ids=["plain", "all"])
def test_every_engine_gives_the_same_rows(log, assignments, engine, changes, tmp_path):
    test = replace(with_plan(changes), others=(rate, slow) if not changes else (rate,))
    wanted = in_order(ab.unit_table(test, log, assignments))
    events = as_engine(log, engine, tmp_path / "log.parquet")
    tables = as_engine(assignments, engine, tmp_path / "who.parquet")
    for who in (assignments, tables):  # the table of units may lie elsewhere
        found = in_order(ab.unit_table(test, events, who))
        pd.testing.assert_frame_equal(found, wanted, check_dtype=False)


def tagged(log, assignments):
    "The same log, each event with the variant of its unit, from the entry on."
    entries = assignments[assignments.experiment == "search"]
    rows = log.merge(entries.rename(columns={"ts": "since"}), on="unit", how="left")
    out = rows.ts < rows.since
    rows.loc[out, ["experiment", "variant"]] = ""
    return rows.drop(columns="since")


@pytest.mark.parametrize("engine", ENGINES)
def test_a_log_that_names_its_variants_may_have_a_window_too(log, assignments, engine, tmp_path):
    events, test = tagged(log, assignments), replace(plan, window="3D", others=(rate, slow))
    wanted = in_order(ab.unit_table(test, events))
    assert set(wanted.arm) == {-2, 0, 1}
    found = ab.unit_table(test, as_engine(events, engine, tmp_path / "log.parquet"))
    pd.testing.assert_frame_equal(in_order(found), wanted, check_dtype=False)


def test_two_tests_at_once_are_read_from_one_log(log, assignments):
    for name in ("search", "button"):
        found = ab.unit_table(replace(plan, name=name, others=()), log, assignments)
        entries = assignments[assignments.experiment == name].set_index("unit").variant
        assert (found.set_index("unit").arm == (entries == "treatment")).all()
        assert len(found) == 250
    only = assignments[assignments.experiment == "search"].drop(columns="experiment")
    pd.testing.assert_frame_equal(
        in_order(ab.unit_table(plan, log, only)), in_order(ab.unit_table(plan, log, assignments))
    )


def test_units_of_two_variants_are_marked_and_a_third_variant_is_not_credited(log, assignments):
    rows = assignments[assignments.experiment == "search"].reset_index(drop=True)
    other = np.where(rows.variant == "control", "treatment", "control")
    later = rows.assign(variant=other, ts=rows.ts + DAY)[:20]
    both = ab.unit_table(plan, log, pd.concat([rows, later])).set_index("unit").arm
    assert (both[rows.unit[:20]] == -1).all() and (both[rows.unit[20:]] >= 0).all()
    third = rows.assign(variant=np.where(rows.index < 20, "third", rows.variant))
    assert len(ab.unit_table(plan, log, third)) == 230
    three = replace(plan, variants=("control", "treatment", "third"), weights=None)
    assert (ab.unit_table(three, log, third).set_index("unit").arm[rows.unit[:20]] == 2).all()


def test_a_quantile_is_that_of_the_events_of_each_arm(log, assignments):
    table = ab.unit_table(plan, log, assignments)
    since = assignments[assignments.experiment == "search"].set_index("unit").ts
    seen = log[(log.kind == "click") & (log.ts >= log.unit.map(since))]
    arm = seen.unit.map(table.set_index("unit").arm)
    theirs = ab.compare_quantiles(
        seen.value[arm == 0], seen.value[arm == 1], 0.9, seen.unit[arm == 0], seen.unit[arm == 1]
    )
    row = ab.analyse_units(plan, table).table.loc["slow"]
    assert row.difference == pytest.approx(theirs.difference, rel=1e-9)
    assert row.p == pytest.approx(theirs.p_value, rel=0.02)  # idle units add degrees of freedom


def test_periods_add_up_to_the_whole(log, assignments):
    test = replace(plan, others=(rate,), window="4D")
    whole = ab.unit_table(test, log, assignments)
    whole = whole[whole.arm >= 0].set_index("unit")
    parts = [table.set_index("unit") for _, table in period_tables(test, log, "2D", assignments)]
    assert len(parts) == 2
    sums = sum(part.loc[whole.index, ["clicks", "rate / per"]] for part in parts)
    pd.testing.assert_frame_equal(sums, whole[["clicks", "rate / per"]])
    assert parts[0].loc[whole.index, "clicks / past"].equals(whole["clicks / past"])
    assert len(parts[0]) > len(parts[1])


def test_periods_of_a_test_without_units_are_refused_in_words(log, assignments):
    with pytest.raises(ValueError, match="no unit of experiment"):
        list(period_tables(replace(plan, name="nobody", others=()), log, "1D", assignments))


REFUSED = {
    "a table without moments": (lambda w: w.drop(columns="ts"), "no column ts"),
    "a table without variants": (lambda w: w.drop(columns="variant"), "no column variant"),
    "a missing moment": (lambda w: w.assign(ts=w.ts.where(w.index > 3)), "have no ts"),
    "a missing unit": (lambda w: w.assign(unit=w.unit.where(w.index > 3)), "have no unit"),
    "another kind of id": (lambda w: w.assign(unit=range(len(w))), "one kind of id"),
    "nobody": (lambda w: w.assign(experiment="other"), "no unit of experiment"),
}


@pytest.mark.parametrize("changed, words", REFUSED.values(), ids=REFUSED)
def test_an_assignment_table_that_does_not_say_enough_is_refused(log, assignments, changed, words):
    with pytest.raises(ValueError, match=words):
        ab.unit_table(plan, log, changed(assignments))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_column_that_is_not_there_is_named(log, assignments, engine, tmp_path):
    absent = replace(plan, metric=ab.Metric("x", ab.total("click", "price")), others=())
    events = as_engine(log, engine, tmp_path / "log.parquet")
    with pytest.raises(ValueError, match="metric x: it uses a column that the events lack"):
        ab.unit_table(absent, events, assignments)


def test_tables_of_two_connections_are_refused_in_words(log, assignments, tmp_path):
    log.to_parquet(tmp_path / "log.parquet")
    own = duckdb.connect().read_parquet(str(tmp_path / "log.parquet"))
    with pytest.raises(ValueError, match="two connections"):
        ab.unit_table(plan, own, assignments)


def test_the_past_of_a_log_with_variants_needs_a_start(log, assignments):
    with pytest.raises(ValueError, match="expected a start"):
        ab.unit_table(plan, tagged(log, assignments))


def test_a_diluted_effect_is_that_of_everybody():
    """Half of the units can see a difference: what they gain, over all, is what all units gain,
    with a third of the noise of the others left out."""
    rng, n = stream(7, "dilute"), 40_000
    arm, some = np.tile([0, 1], n // 2), np.repeat([True, False], n // 2)
    y = rng.gamma(2.0, 5.0, n) + 1.0 * arm * some
    everyone = ab.compare_means(y[arm == 0], y[arm == 1])
    triggered = ab.compare_means(y[(arm == 0) & some], y[(arm == 1) & some])
    total = y[(arm == 0) & some].sum() / y[arm == 0].sum()
    diluted = ab.dilute(triggered, 0.5, total)
    assert diluted.low < 0.5 < diluted.high
    assert (diluted.high - diluted.low) / (everyone.high - everyone.low) == pytest.approx(
        0.5**0.5, rel=0.03
    )
    assert diluted.relative == pytest.approx(diluted.difference / y[arm == 0].mean(), rel=1e-9)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_missing_value_beside_an_assignment_table_is_refused_by_every_engine(
    log, assignments, engine, tmp_path
):
    broken = log.copy()
    hit = broken.index[(broken.kind == "click") & (broken.ts > START + 19 * DAY)][0]
    broken.loc[hit, "value"] = np.nan
    test = replace(plan, metric=ab.Metric("x", ab.total("click")), others=())
    events = as_engine(broken, engine, tmp_path / "log.parquet")
    with pytest.raises(ValueError, match="missing value"):
        ab.unit_table(test, events, assignments)


def test_an_event_without_a_moment_is_refused_wherever_moments_count(log, assignments):
    broken = log.assign(ts=log.ts.where(log.index != 7))
    with pytest.raises(ValueError, match="have no ts"):
        ab.unit_table(plan, broken, assignments)
    with pytest.raises(ValueError, match="have no ts"):
        ab.unit_table(replace(plan, window="2D"), tagged(broken, assignments))


def test_clocks_of_both_tables_have_a_zone_or_neither(log, assignments):
    naive = assignments.assign(ts=assignments.ts.dt.tz_localize(None))
    for events in (log, pl.from_pandas(log)):
        with pytest.raises(ValueError, match="both with a time zone"):
            ab.unit_table(plan, events, naive)


def test_too_few_events_for_a_quantile_are_no_error(log, assignments):
    rare = replace(slow, quantile=0.999)
    for metric in (rare, ab.Metric("none", ab.count("click"), per=ab.count("nothing"))):
        guarded = replace(plan, others=(), guardrails=(metric,))
        report = ab.analyse(guarded, log, assignments)
        assert report.table.verdict[metric.name] == "too few events"
        assert np.isnan(report.table.control[metric.name]) and "–" in report._repr_html_()


def test_a_quantile_may_be_null_where_it_does_not_count(log, assignments):
    nulls = log.assign(value=log.value.where(log.kind == "click"))
    raw = ab.Metric("slow", nw.col("value"), per=ab.count("click"), quantile=0.9)
    test = replace(plan, others=(raw,))
    found = ab.unit_table(test, nulls, assignments)
    assert found.slow.equals(ab.unit_table(plan, log, assignments).slow)
