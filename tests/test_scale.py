"""The same functions on a real Spark: equal numbers, functions in parts, training on workers, and
what is said where Java or Spark are missing."""

import os, shutil, subprocess, sys
from dataclasses import replace
from pathlib import Path

import narwhals as nw
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from conftest import ROOT
from trending_now import ab
from trending_now.ab.logs import period_tables, seconds_between
from trending_now.catalogue import labels, load_films
from trending_now.feedback.joins import join_answers
from trending_now.genres.booster import GenreBooster
from trending_now.platform.metrics import PAGE_METRICS, daily_metrics
from trending_now.scale.growth import ENGINES, grow, measure
from trending_now.scale.scale import LOG_VARIANTS, ScaleError, count_values, in_parts, map_arrow
from trending_now.scale.scale import spark_session, write_events
from trending_now.scale.training import SparkBooster, train_on_spark
from trending_now.triggers.distances import Counts, chi2, js, ks, psi

START = pd.Timestamp("2026-01-19", tz="UTC")
CLICKS = ab.Metric("clicks", ab.count("click"), past=True)
RATE = ab.Metric("rate", ab.count("click"), per=ab.count("exposure"))
SLOWEST = ab.Metric("slowest", ab.total("click"), per=ab.count("click"), quantile=0.9)
PLAN = ab.Experiment(
    "ranking", CLICKS, 100, others=(RATE,), variants=LOG_VARIANTS, weights=(1 / 3,) * 3, start=START
)


@pytest.fixture(scope="module")
def spark():
    session = spark_session()
    yield session
    session.stop()


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    folder = tmp_path_factory.mktemp("log")
    write_events(folder, 20_000)
    return folder


@pytest.fixture(scope="module")
def events(log):
    return pd.read_parquet(log)


@pytest.fixture(scope="module")
def there(spark, log):
    return spark.read.parquet(str(log))


@pytest.fixture(scope="module")
def assigned(events):
    tested = events[events.variant != ""]
    firsts = {"variant": ("variant", "first"), "ts": ("ts", "min")}
    return tested.groupby("unit", as_index=False).agg(**firsts)


def same(found, wanted):
    "Both unit tables, to nine digits."
    a, b = (table.sort_values("unit", ignore_index=True) for table in (found, wanted))
    assert a[["unit", "arm"]].to_numpy().tolist() == b[["unit", "arm"]].to_numpy().tolist()
    np.testing.assert_allclose(a.iloc[:, 2:].astype(float), b.iloc[:, 2:].astype(float), 1e-9)


# ------------------------------------------------------------------------- the same numbers

@pytest.mark.parametrize(
    "change",
    [{}, {"end": START + pd.Timedelta("9D")}, {"others": (SLOWEST,)}],
    ids=["from a start", "until an end", "a quantile"],
)
def test_the_units_are_those_of_the_embedded_engine(there, log, change):
    plan = replace(PLAN, **change)
    same(ab.unit_table(plan, there), ab.unit_table(plan, log))


@pytest.mark.parametrize("beside", ["on Spark", "here"])
def test_a_table_of_assignments_may_lie_on_either_side(spark, there, log, assigned, beside):
    plan = replace(PLAN, window="5D", trigger=nw.col("kind") == "click", lookback="7D")
    table = assigned
    if beside == "on Spark":
        table = spark.createDataFrame(pa.Table.from_pandas(assigned, preserve_index=False))
    same(ab.unit_table(plan, there, table), ab.unit_table(plan, log, assigned))


def test_a_report_decides_alike(there, log):
    on_spark, embedded = ab.analyse(PLAN, there), ab.analyse(PLAN, log)
    assert (on_spark.decision, on_spark.units) == (embedded.decision, embedded.units)
    numbers = embedded.table.select_dtypes("number").columns
    np.testing.assert_allclose(on_spark.table[numbers], embedded.table[numbers], 1e-9)


def test_periods_and_days_are_cut_alike(spark, there, log):
    both = zip(period_tables(PLAN, there, "3D"), period_tables(PLAN, log, "3D"), strict=True)
    for (number, on_spark), (other, embedded) in both:
        assert number == other
        same(on_spark, embedded)
    embedded = daily_metrics(PAGE_METRICS.values(), log)
    for zone in ("America/New_York", "UTC"):
        spark.conf.set("spark.sql.session.timeZone", zone)
        found = daily_metrics(PAGE_METRICS.values(), there)
        assert found.index.equals(embedded.index), zone
        np.testing.assert_allclose(found, embedded, 1e-9)


def test_seconds_between_moments_are_whole_in_every_engine(spark):
    texts = ["2026-01-05 00:00:00.3", "2026-01-05 23:59:59.999999", "2026-01-06 00:00:00.3"]
    moments = pd.to_datetime(texts, utc=True, format="ISO8601")
    table = pd.DataFrame({"ts": moments.as_unit("us")})
    begin = nw.lit(pd.Timestamp("2026-01-05 00:00:00.300000", tz="UTC").to_pydatetime())
    found = []
    for frame in (table, spark.createDataFrame(pa.Table.from_pandas(table))):
        seen = nw.from_native(frame)
        seconds = seen.select(seconds_between(seen, begin, nw.col("ts")).alias("s"))
        column = seconds.collect() if isinstance(seconds, nw.LazyFrame) else seconds
        found.append(column["s"].to_list())
    assert found == [[0, 86_399, 86_400]] * 2


def test_a_column_as_counts_is_the_same_sample(spark, log, there, events):
    for column in ("position", "film_id"):
        on_spark, embedded = count_values(there, column), count_values(log, column)
        assert on_spark.values.tolist() == embedded.values.tolist() == sorted(set(events[column]))
        assert on_spark.counts.tolist() == embedded.counts.tolist()
    with pytest.raises(ValueError, match="column = 'colour'"):
        count_values(there, "colour")


@pytest.mark.parametrize("measure_of", [psi, js, ks, chi2])
def test_measures_take_counts_of_random_samples(measure_of):
    rng = np.random.default_rng(7)
    for size in (5, 60, 3000):
        samples = [rng.poisson(rate, size + extra) for rate, extra in ((6, 0), (7, 9))]
        counted = [Counts(*np.unique(sample, return_counts=True)) for sample in samples]
        found, wanted = measure_of(*counted), measure_of(*samples)
        assert found.statistic == pytest.approx(wanted.statistic, rel=1e-12)
        assert (found.p_value is None) == (wanted.p_value is None)
        if found.p_value is not None:
            assert found.p_value == pytest.approx(wanted.p_value, rel=1e-9)


# ------------------------------------------------------------------------------ in parts

def test_a_join_of_feedback_is_cut_between_keys(there, events):
    wanted = join_answers(events)
    found = in_parts(there, join_answers, key="request_id", like=wanted).toArrow().to_pandas()
    keys = ["request_id", "film_id"]
    found, wanted = (t.sort_values(keys, ignore_index=True) for t in (found, wanted))
    assert found[[*keys, "ts"]].equals(wanted[[*keys, "ts"]].astype(found.dtypes[[*keys, "ts"]]))
    numbers = ["dwell", "stars", "corrections", "waited"]
    np.testing.assert_allclose(found[numbers].astype(float), wanted[numbers].astype(float), 1e-9)


def test_rows_of_a_key_stay_together_and_an_empty_table_gives_nothing(there):
    def sizes(rows):
        return rows.groupby("unit", as_index=False).agg(rows=("ts", "size"))

    found = in_parts(there, sizes, key="unit").toArrow().to_pandas()
    assert found.unit.is_unique and found.rows.sum() == there.count()
    nothing = in_parts(there.where("kind = 'none'"), sizes, key="unit", like=found)
    assert nothing.count() == 0


def test_a_column_of_which_nothing_is_known_is_named(there):
    def with_hole(rows):
        return rows[["unit"]].assign(found=None)

    with pytest.raises(ValueError, match="column found is empty in the first rows"):
        in_parts(there, with_hole)


def test_a_fault_in_a_part_is_told(there):
    def fails(rows):
        if len(rows) > 1000:
            raise ValueError("film Q7 has no title")
        return rows[["unit"]]

    with pytest.raises(Exception, match="film Q7 has no title"):
        in_parts(there.coalesce(1), fails, key="unit").count()


# ------------------------------------------------------------------------------ training

@pytest.fixture(scope="module")
def films():
    return load_films().head(3000)


def test_one_worker_makes_the_local_model(spark, films):
    settings = dict(trees=8, subsample=1.0, colsample=1.0)
    here = GenreBooster("v3", **settings).fit(films, labels(films))
    there = SparkBooster("v3", spark, workers=1, **settings).fit(films, labels(films))
    np.testing.assert_allclose(there.predict_proba(films), here.predict_proba(films), atol=1e-4)


def of_the_known_library(spark, rows, y, workers):
    "What `xgboost.spark` makes of the same rows."
    from pyspark.ml.linalg import Vectors, VectorUDT
    from pyspark.sql.types import DoubleType, StructField, StructType
    from xgboost.spark import SparkXGBClassifier

    width, ends = rows.shape[1], rows.indptr
    vectors = [
        Vectors.sparse(width, rows.indices[a:b], rows.data[a:b].astype(float))
        for a, b in zip(ends[:-1], ends[1:])
    ]
    schema = StructType([StructField("features", VectorUDT()), StructField("label", DoubleType())])
    frame = spark.createDataFrame(list(zip(vectors, y.tolist())), schema)
    theirs = SparkXGBClassifier(
        num_workers=workers, n_estimators=6, max_depth=5, learning_rate=0.12, max_bin=16,
        base_score=0.2, tree_method="hist", seed=7, missing=0.0, enable_sparse_data_optim=True,
        verbosity=0, verbose=False,
    )
    return theirs.fit(frame).get_booster()


def test_a_worker_without_rows_takes_part(spark, films):
    few = films.head(2)  # Spark may give both to one worker
    model = SparkBooster("v3", spark, trees=2).fit(few, labels(few))
    assert model.model.num_boosted_rounds() == 2
    with pytest.raises(ValueError, match="workers = 3"):
        SparkBooster("v3", spark, workers=3).fit(few, labels(few))


def test_a_fault_in_training_is_told_and_the_session_goes_on(spark, films):
    rows = GenreBooster("v3").features.transform(films).tocsr()
    with pytest.raises(Exception, match="max_depth"):
        train_on_spark(spark, rows, labels(films), {"max_depth": "deep"}, 1)
    assert spark.range(5).count() == 5


def log_loss(y, p):
    return -np.mean(y * np.log(p) + (1 - y) * np.log(1 - p))


def test_it_is_the_model_of_the_known_library(spark, films):
    model = SparkBooster("v3", spark, subsample=1.0, colsample=1.0)
    rows = model.features.observe(films, labels(films)).transform(films).tocsr()
    rows.eliminate_zeros()  # for them a zero is a missing value
    dramas = labels(films)[:, 0].astype(float)
    params = {**model._params(7), "base_score": 0.2}

    def both(workers):
        ours = train_on_spark(spark, rows, dramas, params, 6, workers)
        theirs = of_the_known_library(spark, rows, dramas, workers)
        return [booster.inplace_predict(rows) for booster in (ours, theirs)]

    alone, theirs_alone = both(1)
    np.testing.assert_allclose(alone, theirs_alone, atol=1e-6)
    # of two workers, each merges bins of its own half: both models part from that of one
    together, theirs_together = both(2)
    assert abs(together - alone).mean() < 2 * abs(theirs_together - alone).mean()
    assert log_loss(dramas, together) == pytest.approx(log_loss(dramas, theirs_together), abs=0.01)


# ------------------------------------------------------------------------------- growing

def test_both_engines_are_measured_and_decide_alike(log):
    found = {engine: measure(log, engine) for engine in ENGINES}
    assert found["embedded"]["decision"] == found["Spark"]["decision"]
    assert found["Spark"]["peak"] > found["embedded"]["peak"] > 20
    with pytest.raises(ValueError, match="engine"):
        measure(log, "abacus")
    with pytest.raises(RuntimeError, match="nowhere"):
        measure("nowhere", "embedded")


def test_growing_goes_on_where_it_was_stopped(tmp_path, monkeypatch):
    from trending_now.scale import growth

    asked = []

    def made_up(log, engine):
        asked.append((log.name, engine))
        if len(asked) == 3:
            raise KeyboardInterrupt
        return {"start": 0.0, "analysis": 1.0, "decision": "stop", "peak": 100}

    monkeypatch.setattr(growth, "measure", made_up)
    with pytest.raises(KeyboardInterrupt):
        grow(tmp_path, (1000, 2000), repeats=1, progress=False)
    table = grow(tmp_path, (1000, 2000), repeats=1, progress=False)
    assert len(asked) == 5 and asked[2] == asked[3]
    assert table.wanted.tolist() == [1000, 1000, 2000, 2000]


# ------------------------------------------------------------------- what is not there

def run(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )


def test_without_java_it_says_what_to_install(tmp_path):
    done = run("from trending_now import scale; scale.spark_session()", PATH=str(tmp_path))
    assert "openjdk-17-jre-headless" in done.stderr and "ScaleError" in done.stderr


def test_without_spark_it_says_what_to_install():
    code = "import sys; sys.modules['pyspark'] = None\nfrom trending_now import scale\n"
    done = run(code + "scale.spark_session()", PATH="/usr/bin:/bin", JAVA_HOME="")
    assert "trending-now[scale]" in done.stderr or "openjdk" in done.stderr


def test_another_session_is_not_taken_for_ours(spark):
    assert spark_session() is spark
    with pytest.raises(ScaleError, match=r"local\[3\]"):
        spark_session("local[3]")


def test_parts_of_arrow_may_wait_for_each_other(spark):
    frame = spark.range(10).repartition(2)

    def counted(batches):
        from pyspark import BarrierTaskContext

        BarrierTaskContext.get().barrier()
        rows = sum(batch.num_rows for batch in batches)
        yield pa.RecordBatch.from_pydict({"rows": pa.array([rows], pa.int64())})

    found = map_arrow(frame, counted, "rows long", barrier=True).collect()
    assert sum(row.rows for row in found) == 10


ELSEWHERE = """
import pyarrow as pa
from trending_now.scale import in_parts, spark_session
session = spark_session()
doubled = in_parts(session.createDataFrame(pa.table({"a": [1, 2]})), lambda table: 2*table)
print(sorted(doubled.toArrow()["a"].to_pylist()))
"""


def test_workers_run_the_same_python_though_the_path_leads_to_another():
    env = {name: value for name, value in os.environ.items() if name != "PYSPARK_PYTHON"}
    env["PATH"] = ":".join(["/usr/bin", "/bin", str(Path(shutil.which("java")).parent)])
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE], env=env, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "[2, 4]", done.stderr[-600:]
