"Experiments: a table of visitors, and a log of raw events, read and decided."

from parts import Row, Side, close

TITLE = "Experiments"
ABOUT = """A table of visitors lies in memory on all sides, in the form that each side reads
fastest (pandas for ours, statsmodels, gbstats and spotify-confidence, Polars for tea-tasting),
unless the row says "from a file": then reading it is timed on all sides. gbstats and spotify-
confidence take sums, which pandas makes within the timing. Ours returns a decision with its
checks beside the numbers that all have in common, the difference and its p-value."""
SUMS = "DuckDB's bare sums, squares and cross products by variant"
METRICS = {
    "mean": ("revenue",),
    "ratio": ("orders", "sessions"),
    "cuped": ("revenue", "revenue_before"),
}


# ------------------------------------------------------------ inputs

def visitors(folder, rows):
    "A row a visitor, in two variants."
    import numpy as np, pandas as pd
    rng = np.random.default_rng(7)
    sessions = rng.poisson(2., rows) + 1.
    before = rng.gamma(1., 10., rows)
    pd.DataFrame({
        "variant": rng.integers(0, 2, rows).astype("int8"),
        "sessions": sessions,
        "orders": rng.binomial(sessions.astype(int), .2).astype(float),
        "revenue": before + rng.gamma(1., 8., rows),
        "revenue_before": before,
    }).to_parquet(folder / "visitors.parquet")


def events(folder, rows, units):
    "Raw events of eight weeks, the test in the last four."
    import duckdb
    duckdb.sql(f"""copy (
        select timestamptz '2024-01-01 00:00:00+00'
                   + to_seconds((hash(i) % 4838400)::bigint) as ts,
               ['exposure', 'impression', 'impression', 'click'][(1 + hash(i*7) % 4)::bigint]
                   as kind,
               'v' || lpad((hash(i*13) % {units})::varchar, 7, '0') as unit,
               case when hash(i) % 4838400 >= 2419200 then 'bench' else '' end as experiment,
               case when hash(i) % 4838400 < 2419200 then ''
                    when hash(hash(i*13) % {units}) % 2 = 0 then 'control'
                    else 'treatment' end as variant,
               (hash(i*17) % 300)::double as value
        from range({rows}) r(i)) to '{folder}/events.parquet'""")


# ------------------------------------------------------------ ours

def metrics(names):
    "The metrics of a row, as ours writes them."
    import narwhals as nw
    from trending_now.ab import Metric
    value = nw.col("value")
    made = {"mean": lambda: Metric("mean", value),
            "ratio": lambda: Metric("ratio", value, per=value),
            "cuped": lambda: Metric("cuped", value, past=True),
            "orders": lambda: Metric("orders", value)}
    return [made[name]() for name in names]


def plan_of(names, rows):
    from trending_now.ab import Experiment
    first, *others = metrics(names)
    return Experiment("bench", first, max(2, int(.45 * rows)), others=tuple(others))


def unit_table(table):
    "The columns that our metrics are read from."
    import pandas as pd
    return pd.DataFrame({
        "arm": table.variant, "orders": table.orders, "mean": table.revenue,
        "ratio": table.orders, "ratio / per": table.sessions,
        "cuped": table.revenue, "cuped / past": table.revenue_before}, copy=False)


def ours(*names):
    def prepare(folder):
        import pandas as pd
        from trending_now.ab import analyse_units
        table = unit_table(pd.read_parquet(folder / "visitors.parquet"))
        plan = plan_of(names, len(table))
        return lambda: analyse_units(plan, table)
    return Side(prepare, numbers=report_numbers, package="trending-now")


def ours_from_file(*names):
    def prepare(folder):
        import pandas as pd, pyarrow.parquet as pq
        from trending_now.ab import analyse_units
        path = folder / "visitors.parquet"
        plan = plan_of(names, pq.read_metadata(path).num_rows)
        return lambda: analyse_units(plan, unit_table(pd.read_parquet(path)))
    return Side(prepare, numbers=report_numbers)


def report_numbers(report):
    "Difference and p-value of each metric."
    table = report.table
    return {f"{name}, {what}": float(table.loc[name, what])
            for name in table.index for what in ("difference", "p")}


def our_log(folder):
    import pandas as pd
    from trending_now import ab
    dwell = ab.Metric("dwell", ab.total("click"))
    rate = ab.Metric("rate", ab.count("click"), per=ab.count("exposure"))
    active = ab.Metric("active", ab.count("click"), share=True)
    clicks = ab.Metric("clicks", ab.count("click"), past=True)
    plan = ab.Experiment("bench", clicks, 1000, others=(dwell, rate, active),
                         start=pd.Timestamp("2024-01-29", tz="UTC"))
    path = str(folder / "events.parquet")
    return lambda: ab.analyse(plan, path)


def units_of(report): return {"units": sum(report.units)}


# ------------------------------------------------------------ theirs

def found(**pairs):
    "{name: (difference, p)} as numbers."
    return {f"{name}, {what}": float(value) for name, pair in pairs.items()
            for what, value in zip(("difference", "p"), pair)}


def tea_metrics(names):
    import tea_tasting as tt
    made = {"mean": lambda: tt.Mean("revenue"),
            "ratio": lambda: tt.RatioOfMeans("orders", "sessions"),
            "cuped": lambda: tt.Mean("revenue", covariate="revenue_before"),
            "orders": lambda: tt.Mean("orders")}
    return {name: made[name]() for name in names}


def tea_numbers(result):
    rows = {row["metric"]: row for row in result.to_dicts()}
    return found(**{name: (row["effect_size"], row["pvalue"]) for name, row in rows.items()})


def tea(*names):
    def prepare(folder):
        import polars as pl, tea_tasting as tt
        table = pl.read_parquet(folder / "visitors.parquet")
        test = tt.Experiment(tea_metrics(names))
        return lambda: test.analyze(table)
    return Side(prepare, "current", "tea-tasting", tea_numbers)


def tea_from_file(*names):
    def prepare(folder):
        import duckdb, tea_tasting as tt
        test, path = tt.Experiment(tea_metrics(names)), str(folder / "visitors.parquet")
        return lambda: test.analyze(duckdb.read_parquet(path))
    return Side(prepare, "current", "tea-tasting", tea_numbers)


def statsmodels_mean(folder):
    import pandas as pd
    from statsmodels.stats.weightstats import CompareMeans, DescrStatsW
    table = pd.read_parquet(folder / "visitors.parquet", columns=["variant", "revenue"])
    arm, revenue = table.variant.to_numpy(), table.revenue.to_numpy()

    def work():
        both = CompareMeans(DescrStatsW(revenue[arm == 1]), DescrStatsW(revenue[arm == 0]))
        p = both.ttest_ind(usevar="unequal")[1]
        return both.d1.mean - both.d2.mean, p, both.tconfint_diff(usevar="unequal")
    return work


def pandas_sums(names):
    "(folder) -> function that makes the sums that a package takes, by pandas."
    def prepare(folder):
        import pandas as pd
        columns = list(METRICS[names[0]])
        table = pd.read_parquet(folder / "visitors.parquet", columns=["variant", *columns])
        y, x = columns[0], columns[-1]

        def sums():
            parts = {"y": table[y], "yy": table[y] * table[y]}
            if x != y:
                parts |= {"x": table[x], "xx": table[x] * table[x], "xy": table[y] * table[x]}
            by_arm = pd.DataFrame(parts).groupby(table.variant)
            return by_arm.sum().assign(n=by_arm.size())
        return sums
    return prepare


def growthbook_statistic(name, s):
    "What gbstats calls a statistic, from the sums of a variant."
    from gbstats.models import statistics as g
    first = g.SampleMeanStatistic(n=s.n, sum=s.y, sum_squares=s.yy)
    if name == "mean": return first
    second = g.SampleMeanStatistic(n=s.n, sum=s.x, sum_squares=s.xx)
    if name == "ratio":
        return g.RatioStatistic(n=s.n, m_statistic=first, d_statistic=second,
                                m_d_sum_of_products=s.xy)
    return g.RegressionAdjustedStatistic(
        n=s.n, post_statistic=first, pre_statistic=second, post_pre_sum_of_products=s.xy,
        theta=0.)


def growthbook_pair(name, sums):
    "Both variants; an adjusted metric has one theta for both."
    from gbstats.models import statistics as g
    pair = [growthbook_statistic(name, sums.loc[arm]) for arm in (0, 1)]
    if name == "cuped":
        theta = g.compute_theta(*pair)
        for one in pair: one.theta = theta
    return pair


def gbstats(name):
    def prepare(folder):
        from gbstats.frequentist.tests import FrequentistConfig, TwoSidedTTest
        sums, config = pandas_sums((name,))(folder), FrequentistConfig(difference_type="absolute")

        def work():
            result = TwoSidedTTest(*growthbook_pair(name, sums()), config).compute_result()
            return {f"{name}, difference": result.expected, f"{name}, p": result.p_value}
        return work
    return Side(prepare, "gbstats", "gbstats", agree=close(1e-6))


def spotify_mean(folder):
    from spotify_confidence import Experiment
    sums = pandas_sums(("mean",))(folder)

    def work():
        frame = sums().reset_index().assign(variant=["0", "1"], method="t-test")
        test = Experiment(frame, "y", "yy", "n", "variant", method_column="method")
        return test.difference("0", "1")
    return work


def spotify_numbers(frame):
    row = frame.iloc[0]
    return found(mean=(row["difference"], row["p-value"]))


# ------------------------------------------------------------ limits

def sums_of(columns):
    "The SQL of sums, squares and cross products."
    ones = [f"sum({a})" for a in columns] + [f"sum({a}*{a})" for a in columns]
    pairs = [f"sum({a}*{b})" for i, a in enumerate(columns) for b in columns[i + 1:]]
    return ", ".join(["variant", "count(*)", *ones, *pairs])


def bare_sums(*names, source="visitors"):
    columns = dict.fromkeys(c for name in names for c in METRICS.get(name, ("orders",)))
    def prepare(folder):
        import duckdb, pandas as pd
        path = folder / "visitors.parquet"
        if source == "visitors":
            visitors = pd.read_parquet(path, columns=["variant", *columns])
            assert len(visitors)
        table = source if source == "visitors" else f"'{path}'"
        query = f"select {sums_of(list(columns))} from {table} group by variant"
        if source != "visitors": return lambda: duckdb.sql(query).fetchall()
        database = duckdb.connect().register("visitors", visitors)
        return lambda: database.sql(query).fetchall()
    return Side(prepare, package="duckdb",
                numbers=lambda rows: {"units": sum(row[1] for row in rows)})


def bare_events(folder):
    "The sums that the plan's metrics need, as one writes them by hand."
    import duckdb
    query = f"""
        with rows as (
            select unit, kind, value, ts < timestamptz '2024-01-29 00:00:00+00' as past,
                   experiment = 'bench' and not past as own,
                   case when own then (variant = 'treatment')::tinyint end as arm
            from '{folder}/events.parquet')
        select unit, min(arm), max(arm), count(*) filter (past),
               count(*) filter (own and kind = 'click'), count(*) filter (past and kind = 'click'),
               count(*) filter (own and kind = 'exposure'),
               sum(value) filter (own and kind = 'click')
        from rows group by unit"""
    return lambda: duckdb.sql(query).arrow().read_all()


def in_the_test(table):
    "Visitors of a variant; the others were there before the test only."
    return {"units": len(table) - table.column(1).null_count}


# ------------------------------------------------------------ rows

ALSO = ("Ours also finds the skewness of each arm, and how many units do something out of the "
        "usual, since its cautions rest on them; that takes sums of cubes and the middle value. It "
        "uses one core, DuckDB and Polars use all.")
MILLION, TEN = {"rows": 1_000_000}, {"rows": 10_000_000}
SMALL = {"rows": 20_000}
ALL = ("cuped", "orders", "mean", "ratio")


def row(name, size, theirs, *names):
    "A row on a table in memory."
    words = "1,000,000 visitors" if size is MILLION else "10,000,000 visitors"
    return Row(f"{name}, {'1e6' if size is MILLION else '1e7'}", words, visitors, size, SMALL,
               ours(*names), theirs, bare_sums(*names), f"{SUMS}, on the same table in memory",
               reason=ALSO)


def of_mean():
    return {"tea-tasting": tea("mean"),
            "statsmodels": Side(statsmodels_mean, "current", "statsmodels",
                                lambda r: found(mean=r[:2])),
            "gbstats": gbstats("mean"),
            "spotify-confidence": Side(spotify_mean, "spotify_confidence", "spotify-confidence",
                                       spotify_numbers, close(1e-6))}


ROWS = (
    row("a mean", MILLION, of_mean(), "mean"),
    row("a mean", TEN, of_mean(), "mean"),
    row("a ratio by the delta method", TEN,
        {"tea-tasting": tea("ratio"), "gbstats": gbstats("ratio")}, "ratio"),
    row("a mean with its past (CUPED)", TEN,
        {"tea-tasting": tea("cuped"), "gbstats": gbstats("cuped")}, "cuped"),
    row("four metrics", MILLION, {"tea-tasting": tea(*ALL)}, *ALL),
    row("four metrics", TEN, {"tea-tasting": tea(*ALL)}, *ALL),
    Row("four metrics from a file, 1e7", "10,000,000 visitors in a Parquet file", visitors, TEN,
        SMALL, ours_from_file(*ALL), {"tea-tasting": tea_from_file(*ALL)},
        bare_sums(*ALL, source="file"), f"{SUMS}, from the same file",
        reason="Ours reads all visitors into memory; DuckDB hands tea-tasting the sums alone."),
    Row("four metrics from raw events, 1e7", "10,000,000 events of a million visitors in a file",
        events, {"rows": 10_000_000, "units": 1_000_000}, {"rows": 40_000, "units": 2_000},
        Side(our_log, numbers=units_of), {}, Side(bare_events, numbers=in_the_test),
        "DuckDB's bare sums of what the plan needs, by visitor, from the same file",
        reason="Ours looks for missing values first, and turns the sums into a table with a row a "
               "visitor, which it reads as in the rows above."),
)
