"""From a log to a decision: engines agree, plans are kept, wrong input is refused."""

from dataclasses import replace
import duckdb
import narwhals as nw
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy import stats
from trending_now import ab
from trending_now.ab.comparisons import relative_interval
from trending_now.ab.readings import at_any_time
from trending_now.settings import stream

START = pd.Timestamp("2024-03-04", tz="UTC")
clicks = ab.Metric("clicks", ab.count("click"))
lean = ab.Metric("clicks, past out", ab.count("click"), past=True)
rate = ab.Metric("rate", ab.count("click"), per=ab.count("exposure"))
dwell = ab.Metric("dwell", ab.total("click"), margin=0.2)
active = ab.Metric("active", ab.count("click"), share=True)
plan = ab.Experiment("t", clicks, 300, start=START)


def make_log(rng, units=600, lift=0.0, arm=None):
    "A small event log with a past, exposures and clicks."
    arm = plan.assign([f"u{i}" for i in range(units)]) if arm is None else arm
    taste, rows = rng.gamma(3.0, 0.1, units), []
    for past in (True, False):
        views = rng.poisson(4.0, units) + 1
        p = np.minimum(taste * (1 + lift * (arm == 1) * (not past)), 1)
        who = np.repeat(np.arange(units), views)
        hit = rng.random(len(who)) < p[who]
        for kind, at in (("exposure", who), ("click", who[hit])):
            name = np.array(["control", "treatment"])[np.maximum(arm[at], 0)]
            rows.append(
                pd.DataFrame(
                    {
                        "unit": [f"u{i}" for i in at],
                        "kind": kind,
                        "ts": START + pd.to_timedelta(rng.random(len(at)) * 7 - 7 * past, unit="D"),
                        "experiment": "" if past else "t",
                        "variant": "" if past else name,
                        "value": np.where(kind == "click", rng.gamma(2.0, 50.0, len(at)), np.nan),
                    }
                )
            )
    log = pd.concat(rows, ignore_index=True)
    return log.assign(ts=log.ts.astype("datetime64[us, UTC]"))


@pytest.fixture(scope="module")
def log():
    return make_log(stream(7, "log"), 900, 0.4)


def table(log, *metrics, **kw):
    return ab.unit_table(
        replace(plan, metric=metrics[0], others=metrics[1:], **kw), log
    ).sort_values("unit", ignore_index=True)


def test_the_unit_table_is_what_a_loop_over_events_gives(log):
    got = table(log, lean, rate, dwell).set_index("unit")
    now, then = log[log.experiment == "t"], log[log.ts < START]
    sums = lambda e, kind: e[e.kind == kind].groupby("unit").size().reindex(got.index, fill_value=0)
    assert (got["clicks, past out"] == sums(now, "click")).all() and (
        got["clicks, past out / past"] == sums(then, "click")
    ).all()
    assert (got["rate / per"] == sums(now, "exposure")).all()
    assert got.dwell.to_numpy() == pytest.approx(
        now[now.kind == "click"]
        .groupby("unit")
        .value.sum()
        .reindex(got.index, fill_value=0)
        .to_numpy()
    )
    assert (got.arm == plan.assign(got.index)).all()


def test_pandas_arrow_duckdb_and_parquet_give_the_same_table(log, tmp_path):
    log.to_parquet(tmp_path / "e.parquet")
    want = table(log, lean, rate, dwell, active)
    for events in (
        pa.Table.from_pandas(log),
        duckdb.read_parquet(str(tmp_path / "e.parquet")),
        tmp_path / "e.parquet",
        str(tmp_path / "e.parquet"),
        nw.from_native(log),
    ):
        pd.testing.assert_frame_equal(
            table(events, lean, rate, dwell, active), want, check_dtype=False
        )


def test_reports_from_different_engines_agree(log, tmp_path):
    log.to_parquet(tmp_path / "e.parquet")
    p = replace(plan, metric=lean, guardrails=(dwell,), others=(rate, active))
    a, b = ab.analyse(p, log), ab.analyse(p, tmp_path / "e.parquet")
    assert (a.decision, a.units) == (b.decision, b.units)
    assert a.table.drop(columns=["variant", "role", "verdict"]).to_numpy(float) == pytest.approx(
        b.table.drop(columns=["variant", "role", "verdict"]).to_numpy(float), rel=1e-9
    )


def test_each_kind_of_metric_is_its_comparison(log):
    t = table(log, lean, rate, dwell, active)
    c, d = t[t.arm == 0], t[t.arm == 1]
    want = {
        "clicks, past out": ab.compare_means(
            *[
                ab.cuped(t["clicks, past out"], t["clicks, past out / past"])[t.arm == k]
                for k in (0, 1)
            ]
        ),
        "dwell": ab.compare_means(c.dwell, d.dwell),
        "rate": ab.compare_ratios(c.rate, c["rate / per"], d.rate, d["rate / per"]),
        "active": ab.compare_proportions(
            [(c.active > 0).sum(), (d.active > 0).sum()], [len(c), len(d)]
        ),
    }
    got = ab.analyse(replace(plan, metric=lean, others=(rate, dwell, active)), log).table
    for name, w in want.items():
        assert [got.difference[name], got.p[name]] == pytest.approx(
            [w.difference, w.p_value], rel=1e-9
        )


def test_relative_intervals_count_the_noise_of_the_control():
    """A large lift measured against a noisy control: the interval of the quotient covers, in 95 of
    100 experiments."""
    rng, inside = stream(7, "relative"), 0
    for a, b in zip(rng.gamma(2.0, 1.0, (4000, 150)), rng.gamma(2.0, 1.8, (4000, 150))):
        means, variances = (a.mean(), b.mean()), (a.var(ddof=1) / 150, b.var(ddof=1) / 150)
        critical = stats.t.isf(0.025, ab.compare_means(a, b).df)
        low, high = relative_interval(means, variances, critical)
        inside += low <= 0.8 <= high
    assert abs(inside / 4000 - 0.95) < 0.01 and stats.binomtest(inside, 4000, 0.95).pvalue > 1e-3


def test_an_interval_for_any_time_has_a_relative_one_that_agrees(log):
    for metric in (clicks, rate, active):
        reading = ab.read(metric, *ab.groups(metric, table(log, metric)))
        found, fixed = at_any_time(reading, 0.05, 600).comparison, reading.comparison
        assert (found.relative_low > 0) == (found.low > 0)
        assert found.relative_low < fixed.relative_low < fixed.relative_high < found.relative_high


def test_decisions(log):
    null = make_log(stream(7, "null"), 900)
    small = replace(plan, size=5000)
    assert ab.analyse(plan, log).decision == "ship"
    assert (
        ab.analyse(plan, null).decision == "stop"
        and "no difference" in ab.analyse(plan, null).reasons[0]
    )
    assert ab.analyse(small, log).decision == "keep running" and ab.analyse(small, log).level == 0
    assert ab.analyse(replace(plan, variants=("treatment", "control")), log).decision == "stop"
    assert ab.analyse(replace(small, looks=0), log).decision == "ship"
    assert (
        ab.analyse(replace(plan, metric=replace(clicks, more_is_better=False)), log).decision
        == "stop"
    )


def test_a_guardrail_can_stop_or_hold_a_winner(log):
    worse = ab.Metric("complaints", ab.count("click"), more_is_better=False, margin=0.1)
    stopped = ab.analyse(replace(plan, guardrails=(worse,)), log)
    assert stopped.decision == "stop" and "complaints" in stopped.reasons[0]
    tight = ab.analyse(
        replace(
            plan, metric=rate, guardrails=(ab.Metric("views", ab.count("exposure"), margin=0.0001),)
        ),
        log,
    )
    assert tight.decision == "inconclusive" and "cannot be excluded" in " ".join(tight.reasons)
    assert (
        ab.analyse(
            replace(
                plan,
                metric=rate,
                size=600,
                looks=2,
                guardrails=(ab.Metric("views", ab.count("exposure"), margin=0.0001),),
            ),
            log,
        ).decision
        == "keep running"
    )


@pytest.mark.parametrize(
    "lift, held, told", [(0.5, True, False), (0.16, True, True), (0.5, False, True)]
)
def test_a_stop_that_only_a_guardrail_put_off_is_not_called_flattered(lift, held, told):
    # Beyond its bound at the first reading already, it is no test that stopped at the third
    arm, spread = np.repeat([0, 1], 750), np.tile(stats.norm.ppf((np.arange(750) + 0.5) / 750), 2)
    units = pd.DataFrame({"arm": arm, "clicks": 2 + lift * arm + spread, "views": 5 + spread / 9})
    views = ab.Metric("views", ab.count("exposure"), margin=0.1)
    looks = ab.Experiment("g", clicks, 1000, (views,) if held else (), looks=4)
    report = ab.analyse_units(looks, units, [0.25, 0.5])
    assert report.decision == "ship"
    assert any("flatters" in reason for reason in report.reasons) == told


def test_a_mismatch_or_mixed_units_make_it_invalid(log):
    lost = log[~((log.variant == "treatment") & log.unit.str.endswith(("1", "2", "3")))]
    assert (
        ab.analyse(plan, lost).decision == "invalid"
        and "ratio" in ab.analyse(plan, lost).reasons[0]
    )
    swap = log.assign(
        variant=log.variant.where((log.experiment == "") | (log.index % 40 != 0), "treatment")
    )
    assert (
        ab.analyse(plan, swap).decision == "invalid"
        and "several" in ab.analyse(plan, swap).reasons[-1]
    )
    one = log[log.variant != "treatment"]
    assert ab.analyse(plan, one).decision == "invalid"


def test_planned_looks_open_by_the_share_of_units_and_keep_alpha(log):
    n = ab.analyse(plan, log).units
    levels = [
        ab.analyse(replace(plan, looks=4, size=round(n[0] * f)), log).level
        for f in (5, 3, 1.9, 1.2, 0.9)
    ]
    fractions = [min(n) / round(n[0] * f) for f in (3, 1.9, 1.2, 0.9)]
    late = [fractions[:1], [0.25, fractions[1]], [0.25, 0.5, fractions[2]], [0.25, 0.5, 0.75, 1]]
    bounds = [ab.spending_bounds(looks)[-1] for looks in late]
    assert levels == pytest.approx([0, *2 * stats.norm.sf(bounds)], rel=1e-6)


def test_null_experiments_ship_in_two_and_a_half_of_a_hundred():
    "Four looks at growing tables of one experiment: a win is half of alpha, over all looks."
    rng, m = stream(7, "null looks"), replace(plan, looks=4, size=400)

    def run():
        t = pd.DataFrame({"arm": np.tile([0, 1], 400), "clicks": rng.gamma(1.0, 2.0, 800)})
        out = [ab.analyse_units(m, t[: 200 * k]).decision for k in (1, 2, 3, 4)]
        return next((d for d in out if d != "keep running"), "keep running")

    ended = pd.Series([run() for _ in range(600)]).value_counts()
    assert stats.binomtest(int(ended.get("ship", 0)), 600, 0.025).pvalue > 1e-3 and set(
        ended.index
    ) <= {"ship", "stop"}


def test_slices_differ_when_effects_do_and_not_otherwise():
    rng = stream(7, "slices")
    arm, group = np.tile([0, 1], 2000), np.repeat(["a", "b", "c", "d"], 1000)
    y = rng.normal(5, 1, 4000) + 0.5 * arm * (group == "a")
    t = pd.DataFrame({"arm": arm, "clicks": y})
    s = ab.slices(plan, t, group)
    assert s.p_same < 0.001 and (s.table.adjusted < 0.05).tolist() == [True, False, False, False]
    p = [
        ab.slices(plan, t.assign(clicks=rng.normal(5, 1, 4000) + 0.3 * arm), group).p_same
        for _ in range(300)
    ]
    assert stats.kstest(p, "uniform").pvalue > 0.001


def test_the_question_whether_slices_differ_is_cochrans():
    from statsmodels.stats.meta_analysis import combine_effects

    rng = stream(7, "cochran")
    t = pd.DataFrame({"arm": np.tile([0, 1], 900), "clicks": rng.normal(5, 1, 1800)})
    group = np.repeat(["a", "b", "c"], 600)
    arms = t.assign(group=group).groupby(["group", "arm"]).clicks
    mean, variance = arms.mean().unstack(), (arms.var() / arms.size()).unstack()
    lift = mean[1] / mean[0] - 1
    error = (variance[1] + variance[0] * (1 + lift) ** 2) / mean[0] ** 2
    theirs = combine_effects(lift, error).test_homogeneity()
    assert ab.slices(plan, t, group).p_same == pytest.approx(theirs.pvalue, abs=1e-6)


def test_a_switchback_gives_both_versions_to_each_pair_of_days_and_a_cluster_one():
    order = np.array([ab.switchback(14, stream(7, "order", i)) for i in range(400)])
    assert (order.reshape(400, 14, 2).sum(2) == 1).all() and stats.binomtest(
        int(order[:, 0].sum()), 400
    ).pvalue > 0.001
    home = stream(7, "home").integers(0, 500, 4000)
    arm = ab.cluster_assign(home, "sofa")
    assert (pd.Series(arm).groupby(home).nunique() == 1).all() and (
        arm == ab.assign_many(home, "sofa", (0.5, 0.5))
    ).all()


@pytest.mark.parametrize(
    "changed, word",
    [
        ({"clicks": np.nan}, "metric clicks.*nan"),
        ({"clicks": "many"}, "clicks|many"),
    ],
)
def test_a_metric_that_cannot_be_read_is_named(log, changed, word):
    t = ab.unit_table(plan, log).assign(**changed)
    with pytest.raises(ValueError, match=word):
        ab.analyse_units(plan, t)


def test_the_assignment_of_a_plan_is_that_of_its_name():
    ids = [f"u{i}" for i in range(500)]
    assert (plan.assign(ids) == [ab.assign(i, plan, (0.5, 0.5)) for i in ids]).all() and (
        plan.assign(ids) == ab.assign_many(ids, "t", (0.5, 0.5))
    ).all()


def test_reports_are_one_page_and_safe(log, tmp_path):
    r = ab.analyse(replace(plan, hypothesis="<script>alert(1)</script>"), log)
    page = open(r.save(tmp_path / "r.html"), encoding="utf-8").read()
    assert (
        "<script>" not in page
        and "<svg" in page
        and "ship" in page
        and page == open(r.save(tmp_path / "r2.html"), encoding="utf-8").read()
    )
    assert r._repr_markdown_().startswith("**t: ship**") and repr(r).startswith("Report(t: ship")


def test_a_report_without_rows_still_shows_itself():
    r = ab.analyse_units(plan, pd.DataFrame({"arm": np.zeros(50), "clicks": np.arange(50.0)}))
    assert (r.decision, len(r.table)) == ("invalid", 0)
    assert "<svg" not in r._repr_html_() and "sample ratio" in r._repr_markdown_()


@pytest.mark.parametrize(
    "call, word",
    [
        (lambda log: ab.Metric("", ab.count("click")), "name"),
        (lambda log: ab.Metric("x", 5), "expressions"),
        (lambda log: ab.Metric("x", ab.count("c"), ab.count("e"), share=True), "one of them"),
        (lambda log: ab.Metric("x", ab.count("c"), margin=-1), "margin = -1"),
        (lambda log: ab.analyse(replace(plan, metric=lean, start=None), log), "start"),
        (lambda log: replace(plan, others=(clicks,)), "different names"),
        (lambda log: replace(plan, weights=(0.5, 0.6)), "sum to 1"),
        (lambda log: replace(plan, weights=(".5", ".5")), "weights = '.5'"),
        (lambda log: replace(plan, min_events=-1), "min_events = -1"),
        (lambda log: replace(plan, variants=("a", "a")), "two names or more"),
        (lambda log: replace(plan, size=0), "size = 0"),
        (lambda log: replace(plan, looks=-1), "looks = -1"),
        (lambda log: ab.analyse(plan, log.drop(columns="unit")), "no column unit"),
        (lambda log: ab.analyse(plan, log.assign(experiment="other")), "no unit"),
        (lambda log: ab.analyse_units(plan, pd.DataFrame({"arm": [0, 1]})), "no column clicks"),
        (
            lambda log: ab.slices(
                plan, pd.DataFrame({"arm": [0, 1], "clicks": [1.0, 2]}), ["a", "a"]
            ),
            "two slices",
        ),
    ],
)
def test_plans_and_logs_that_cannot_be_are_refused(log, call, word):
    with pytest.raises(ValueError, match=word):
        call(log)


# Rare events, and logs as they come


def shares(control, treatment):
    "A table of units from two (successes, units)."
    flags = [np.arange(n) < x for x, n in (control, treatment)]
    arm = np.repeat([0, 1], [len(flags[0]), len(flags[1])])
    return pd.DataFrame({"arm": arm, "buy": np.concatenate(flags).astype(float)})


buy = ab.Metric("buy", ab.count("buy"), share=True)


def test_nobody_of_a_hundred_is_no_reason_to_stop():
    lopsided = ab.Experiment("e", buy, size=1900, weights=(0.95, 0.05))
    found = ab.analyse_units(lopsided, shares((19, 1900), (0, 100)))
    assert found.decision == "inconclusive" and "too few events" in found.reasons[0]
    row = found.table.iloc[0]
    assert row["low, %"] == -100 and row["high, %"] > 0 and row.p == pytest.approx(0.315, abs=1e-3)
    early = ab.analyse_units(replace(lopsided, size=9000), shares((19, 1900), (0, 100)))
    assert early.decision == "keep running"
    enough = ab.analyse_units(replace(lopsided, size=90_000), shares((1800, 90_000), (40, 4737)))
    assert enough.decision == "stop" and "worse" in enough.reasons[0]


@pytest.mark.parametrize("rate, n", [(0.002, (9500, 500)), (0.02, (9500, 500)), (0.1, (1900, 100))])
def test_no_effect_is_seldom_called_one_whatever_the_split(rate, n):
    test = ab.Experiment("e", buy, size=n[0], weights=(0.95, 0.05))
    x = stream(7, "rare", int(1000 * rate)).binomial(n, rate, (400, 2))
    verdicts = [
        ab.analyse_units(test, shares((row[0], n[0]), (row[1], n[1]))).table.verdict.iloc[0]
        for row in x
    ]
    assert np.mean(np.array(verdicts) == "different") <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 400)


def test_where_nothing_has_happened_the_report_says_so():
    crash = ab.Metric("crash", ab.count("crash"), more_is_better=False)
    t = shares((300, 1000), (360, 1000)).assign(crash=0.0, other=1.0)
    same = ab.Metric("other", ab.count("x"))
    test = ab.Experiment("e", buy, size=1000, guardrails=(crash,), others=(same,))
    found = ab.analyse_units(test, t)
    assert found.decision == "inconclusive" and "crash: too few events" in found.reasons[-1]
    assert found.table.p["other"] == 1
    nothing = ab.analyse_units(replace(test, metric=crash, guardrails=()), t)
    assert nothing.decision == "inconclusive" and "too few events" in nothing.reasons[0]


def test_a_guardrail_that_breaks_from_nearly_nothing_stops_the_test():
    "One crash in a thousand against five hundred."
    half = np.tile([0.0, 1.0], 500)
    t = pd.DataFrame({"arm": np.repeat([0, 1], 1000)})
    t["clicks"] = np.concatenate([2 * half, 3 * half])
    crash = ab.Metric("crash", ab.count("crash"), more_is_better=False)
    test = ab.Experiment("e", clicks, size=5000, looks=5, guardrails=(crash,))
    for seen in (np.eye(1, 1000)[0], np.zeros(1000)):
        found = ab.analyse_units(test, t.assign(crash=np.concatenate([seen, half])))
        assert found.decision == "stop" and "crash: worse" in found.reasons[0]


def test_a_loss_of_exactly_the_margin_is_seldom_called_kept():
    crash = ab.Metric("crash", ab.count("crash"), more_is_better=False, margin=0.2)
    test = ab.Experiment("e", crash, size=2000, guardrails=(replace(crash, name="again"),))
    rng, kept = stream(7, "margin"), 0
    for control, treatment in zip(rng.poisson(0.05, (1500, 2000)), rng.poisson(0.06, (1500, 2000))):
        both = np.concatenate([control, treatment]).astype(float)
        t = pd.DataFrame({"arm": np.repeat([0, 1], 2000), "crash": both, "again": both})
        kept += ab.analyse_units(test, t).table.verdict["again"] == "kept"
    assert kept / 1500 <= 0.025 + 2 * np.sqrt(0.025 * 0.975 / 1500)


def test_guardrails_are_as_sure_as_the_look_allows():
    rng, stopped = stream(7, "guard looks"), 0
    guard = ab.Metric("speed", ab.count("x"), margin=0.0)
    test = ab.Experiment("e", clicks, size=520, looks=0, guardrails=(guard,))
    for _ in range(100):
        t = pd.DataFrame({"arm": np.tile([0, 1], 520), "clicks": rng.gamma(1.0, 2.0, 1040)})
        t["speed"] = rng.gamma(1.0, 2.0, 1040)
        looks = [ab.analyse_units(test, t[:n]).table.verdict for n in range(100, 1041, 80)]
        stopped += any(verdicts["speed"] == "harmed" for verdicts in looks)
    assert stopped / 100 <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 100)


def test_early_looks_of_a_long_plan_can_stop():
    t = pd.DataFrame({"arm": np.repeat([0, 1], 60), "m": [9.0, 11.0] * 30 + [4.0, 6.0] * 30})
    found = ab.analyse_units(ab.Experiment("e", ab.Metric("m", ab.count("x")), 600, looks=10), t)
    assert found.decision == "stop" and 0 < found.level < 1e-11
    assert np.isfinite(found.table["high, %"]).all()


def test_the_same_past_for_all_changes_nothing():
    rng = stream(7, "constant past")
    t = pd.DataFrame({"arm": np.tile([0, 1], 79), "clicks, past out": rng.gamma(2.0, 1.0, 158)})
    found = ab.analyse_units(
        replace(plan, metric=lean, size=79), t.assign(**{"clicks, past out / past": 0.1})
    )
    want = ab.compare_means(*[t[t.arm == k]["clicks, past out"] for k in (0, 1)])
    assert found.table.p.iloc[0] == pytest.approx(want.p_value, rel=1e-9)


FRAMES = {
    "pandas": lambda t: t,
    "arrow": lambda t: pa.Table.from_pandas(t, preserve_index=False),
    "duckdb": lambda t: duckdb.from_df(t),
}


def few(**columns):
    return pd.DataFrame(
        {
            "unit": ["u", "u", "v", "w", "x"],
            "experiment": "e",
            "variant": ["a", "a", "b", "a", "b"],
            "kind": "buy",
            "value": [100.0, 30.0, 50.0, 60.0, 70.0],
        }
        | columns
    )


money = ab.Experiment("e", ab.Metric("money", ab.total("buy")), size=2, variants=("a", "b"))


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_missing_values_are_refused_by_every_engine(frame, tmp_path):
    gone = few(value=[100.0, np.nan, 50.0, 60.0, 70.0])
    with pytest.raises(ValueError, match="missing value to one of money, in 1 units"):
        ab.unit_table(money, frame(gone))
    with pytest.raises(ValueError, match="1 events have no unit"):
        ab.unit_table(money, frame(few(unit=["u", None, "v", "w", "x"])))
    assert ab.unit_table(money, frame(few())).money.sum() == 310
    elsewhere = few(kind=["buy", "view", "buy", "buy", "buy"], value=gone.value)
    assert ab.unit_table(money, frame(elsewhere)).money.sum() == 280


def test_nan_in_a_file_is_a_missing_value_too(tmp_path):
    column = pa.array([100.0, float("nan"), 50.0, 60.0, 70.0])
    log = pa.Table.from_pandas(few().drop(columns="value")).append_column("value", column)
    with pytest.raises(ValueError, match="missing value"):
        ab.unit_table(money, log)
    import pyarrow.parquet as pq

    pq.write_table(log, tmp_path / "log.parquet")
    with pytest.raises(ValueError, match="missing value"):
        ab.unit_table(money, tmp_path / "log.parquet")


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_moments_and_start_both_have_a_time_zone_or_neither(frame):
    day = pd.Timestamp("2024-01-02")
    ts = pd.Series([day, day, day - pd.Timedelta("4h"), day + pd.Timedelta("12h"), day])
    ts = ts.astype("datetime64[us]")
    naive, aware = few(ts=ts), few(ts=ts.dt.tz_localize("UTC"))
    for log, start in ((naive, day), (aware, day.tz_localize("UTC"))):
        assert len(ab.unit_table(replace(money, start=start), frame(log))) == 3
    for log, start in ((naive, day.tz_localize("UTC")), (aware, day)):
        with pytest.raises(ValueError, match="time zone"):
            ab.unit_table(replace(money, start=start), frame(log))
    with pytest.raises(ValueError, match="1 events have no ts"):
        ab.unit_table(replace(money, start=day), frame(few(ts=ts.mask(ts.index == 0))))
    with pytest.raises(ValueError, match="expected moments"):
        ab.unit_table(replace(money, start=day), frame(few(ts="2024-01-02")))


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_a_third_variant_is_not_credited_to_an_arm(frame):
    log = few(variant=["a", "c", "b", "a", "c"])
    found = ab.unit_table(money, frame(log)).set_index("unit")
    assert found.arm.to_dict() == {"u": -1, "v": 1, "w": 0}
    assert found.money[["v", "w"]].tolist() == [50, 60]


def test_texts_and_numbers_as_ids_are_refused():
    with pytest.raises(ValueError, match="two units"):
        ab.unit_table(money, few(unit=[7, "7", "v", "w", "x"]))


def test_too_few_units_are_said_in_words():
    t = pd.DataFrame({"arm": [0], "clicks": [1.0]})
    for rows in (t, t[:0]):
        found = ab.analyse_units(plan, rows)
        assert found.decision == "keep running" and "at least two in each arm" in found.reasons[-1]


def test_a_name_with_dollars_is_drawn():
    odd = ab.Metric("x_$y_$", ab.count("click"))
    t = pd.DataFrame({"arm": [0, 1] * 40, "x_$y_$": [1.0, 2, 2, 4] * 20})
    assert "<svg" in ab.analyse_units(ab.Experiment("e", odd, 40), t)._repr_html_()


def test_the_same_relative_effect_in_light_and_heavy_users_is_the_same():
    rng = stream(7, "relative slices")
    arm, heavy = np.tile([0, 1], 2000), np.repeat([0, 1], 2000)
    p = []
    for _ in range(200):
        y = rng.gamma(2.0, np.where(heavy, 10.0, 1.0) * np.where(arm, 1.2, 1.0))
        p.append(ab.slices(plan, pd.DataFrame({"arm": arm, "clicks": y}), heavy).p_same)
    assert stats.kstest(p, "uniform").pvalue > 0.001
    small = pd.DataFrame({"arm": [0, 0, 1, 1, 0, 1], "clicks": [1.0, 2, 3, 4, 5, 6]})
    with pytest.raises(ValueError, match="slice 'b' has 1 and 1 units"):
        ab.slices(plan, small, list("aaaabb"))
    with pytest.raises(ValueError, match="1 units have no label"):
        ab.slices(plan, small, ["a", "a", "a", "a", None, "b"])


def test_a_metric_that_a_few_units_decide_is_named():
    rng = stream(7, "few spend")
    spent = rng.lognormal(0, 1, 10_000) * (rng.random(10_000) < 0.02)
    t = pd.DataFrame({"arm": np.repeat([0, 1], [9000, 1000]), "money": spent})
    test = ab.Experiment("e", ab.Metric("money", ab.total("buy")), 9000, weights=(0.9, 0.1))
    found = ab.analyse_units(test, t)
    assert "caution, money" in found.reasons[-1] and "units" in found.reasons[-1]
    groups = t.money[t.arm == 0], t.money[t.arm == 1]
    skew = ab.skew_of_difference(*groups)
    draws = [stats.bootstrap((g,), np.mean, n_resamples=4000, random_state=7) for g in groups]
    moved = [d.bootstrap_distribution for d in draws]
    assert skew == pytest.approx(stats.skew(moved[1] - moved[0]), abs=0.12) and skew > 0.15
    bought = t.assign(buy=(spent > 0).astype(float))
    assert len(ab.analyse_units(replace(test, metric=buy), bought).reasons) == 1


def test_periods_have_a_length_and_every_moment_has_one():
    start = pd.Timestamp("2024-03-04", tz="UTC")
    ts = pd.Series(start + pd.to_timedelta([0, 1.5, 3], unit="D"))
    assert ab.period(ts, start).tolist() == [0, 1, 3]
    assert ab.period(ts[:0], start).tolist() == []
    for call, words in (
        (lambda: ab.period(ts, start, "0D"), "length = '0D'"),
        (lambda: ab.period(ts, start, "-1D"), "length = '-1D'"),
        (lambda: ab.period(ts, start, None), "length = None"),
        (lambda: ab.period(ts.mask(ts.index == 1), start), "1 moments are missing"),
        (lambda: ab.period(ts, start + pd.Timedelta("1h")), "nothing before"),
    ):
        with pytest.raises(ValueError, match=words):
            call()


def test_a_past_does_not_hide_that_events_are_few():
    rng = stream(7, "rare past")
    t = pd.DataFrame({"arm": np.tile([0, 1], 500), "clicks, past out": np.arange(1000) < 3})
    t = t.assign(**{"clicks, past out / past": rng.gamma(2.0, 1.0, 1000)}).astype(float)
    found = ab.analyse_units(replace(plan, metric=lean, size=500), t)
    assert found.decision == "inconclusive" and "1.5 expected" in found.reasons[0]


def test_a_win_over_nothing_is_said_in_the_unit_of_the_metric():
    found = ab.analyse_units(ab.Experiment("e", buy, 1000), shares((0, 1000), (40, 1000)))
    assert found.reasons == ("buy: better (by +0.04)",)
    assert "nan" not in found._repr_html_() + found._repr_markdown_()


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_strangers_without_an_id_may_stand_elsewhere_in_the_log(frame):
    log = few(unit=["u", None, "v", "w", "x"], experiment=["e", "", "e", "e", "e"])
    assert ab.unit_table(money, frame(log)).money.sum() == 280
