"""The platform for experiments: knobs that nobody turns twice, a log that keeps what it has
acknowledged on both databases, copies that miss nothing, decisions that cannot be rewritten
unnoticed, and a way out."""

import ast, itertools, os, json, re, subprocess, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from conftest import ROOT
from growthbook import GrowthBook
from hypothesis import given
from hypothesis import strategies as st
from log_workers import BATCH, Crowd, decide, open_once

from trending_now.ab.assignment import assign_many
from trending_now.platform import (
    AUDIT,
    GROWTHBOOK_QUERY,
    PAGE_METRICS,
    PAGE_PARAMETERS,
    SCHEMA,
    AuditLog,
    AwayError,
    BatchWriter,
    ConflictError,
    Draft,
    EventLog,
    FullError,
    LifeError,
    LocalPostgres,
    LogError,
    OverlapError,
    ParameterChange,
    Parameters,
    Platform,
    Serving,
    SteadyClock,
    arms_of,
    assignments_of,
    check_event,
    check_overlap,
    daily_metrics,
    effect_of,
    export_days,
    growthbook_features,
    migrate,
    migration_files,
    next_stage,
    serve_values,
)
from trending_now.settings import SettingsError, load

DATABASES = ("sqlite", "postgresql")


@pytest.fixture(scope="module")
def server():
    "A real PostgreSQL server."
    with LocalPostgres() as running:
        yield running


@pytest.fixture
def new_database(server):
    "A function that makes an empty database on the server; gives its URL."
    numbers = itertools.count()

    def make(name):
        engine = sa.create_engine(
            server.url.replace("postgresql:", "postgresql+psycopg:"), isolation_level="AUTOCOMMIT"
        )
        with engine.connect() as connection:
            connection.exec_driver_sql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
            connection.exec_driver_sql(f'CREATE DATABASE "{name}"')
        engine.dispose()
        return server.url.replace("/postgres", f"/{name}")

    return lambda: make(f"test{next(numbers)}")


@pytest.fixture(params=DATABASES)
def url(request, tmp_path):
    "An empty database, of both kinds in turn."
    if request.param == "sqlite":
        return str(tmp_path / "events.db")
    return request.getfixturevalue("new_database")()


def click(name, number=0, **more):
    return {"event_id": f"{name}-{number}", "ts": number, "kind": "click", "unit": name, **more}


# ------------------------------------------------------------ kept, once


def test_no_acknowledged_event_is_lost_or_twice_though_writers_are_killed(url, tmp_path):
    notes = tmp_path / "notes"
    notes.mkdir()
    EventLog(url).close()
    crowd = Crowd(url, notes)
    for _ in range(20):
        crowd.kill_one()
    deadline = time.monotonic() + 120
    while len(crowd.promised()) < 50 * BATCH and time.monotonic() < deadline:
        time.sleep(0.2)
    crowd.kill_all()
    promised = crowd.promised()
    with EventLog(url) as log:
        there = log.read().event_id
    assert len(promised) >= 50 * BATCH and len(promised) == len({*promised})
    assert {*promised} - {*there} == set()
    assert there.is_unique and len(there) % BATCH == 0, "a batch is there whole, or not at all"
    assert len({*there} - {*promised}) <= BATCH * crowd.born, "one batch on its way for each death"


def test_a_server_that_crashes_under_load_loses_nothing(server, new_database, tmp_path):
    notes = tmp_path / "notes"
    notes.mkdir()
    url = new_database()
    EventLog(url).close()
    crowd = Crowd(url, notes, size=3)
    for how in ("immediate", "fast", "immediate"):
        before = len(crowd.promised())
        deadline = time.monotonic() + 60
        while len(crowd.promised()) < before + 10 * BATCH and time.monotonic() < deadline:
            time.sleep(0.1)
        server.stop(how)
        server.start()
    after = len(crowd.promised())
    deadline = time.monotonic() + 60
    while len(crowd.promised()) < after + 10 * BATCH and time.monotonic() < deadline:
        time.sleep(0.1)
    alive = [process.is_alive() for process in crowd.alive]
    crowd.kill_all()
    promised = crowd.promised()
    with EventLog(url) as log:
        there = log.read().event_id
    assert all(alive), "a writer waits for the server, and goes on"
    assert len(promised) >= 40 * BATCH
    assert {*promised} - {*there} == set() and there.is_unique


@given(st.lists(st.lists(st.integers(0, 30), max_size=12), max_size=8))
def test_sending_again_in_any_way_changes_nothing(log_for_properties, batches):
    log = log_for_properties
    name = f"run {next(RUNS)}"
    told = [log.append([click(name, number) for number in batch]) for batch in batches]
    sent = {number for batch in batches for number in batch}
    assert sum(receipt.new for receipt in told) == len(sent)
    assert [len({*batch}) for batch in batches] == [r.new + r.known for r in told]
    assert sorted(log.read(unit=name).ts.astype("int64")) == sorted(sent)


RUNS = itertools.count()


@pytest.fixture(scope="module")
def log_for_properties(tmp_path_factory):
    with EventLog(tmp_path_factory.mktemp("log") / "events.db") as log:
        yield log


def test_one_id_with_two_contents_is_refused_with_its_batch(url):
    with EventLog(url) as log:
        assert log.append([click("anna")]).new == 1
        for changed in ({"unit": "ben"}, {"ts": 7}, {"value": 1.0}, {"payload": '{"a": 1}'}):
            batch = [click("new"), {**click("anna"), **changed}]
            with pytest.raises(ConflictError, match="anna-0"):
                log.append(batch)
        with pytest.raises(ConflictError, match="x-1"):
            log.append([click("x", 1), {**click("x", 1), "value": 2.0}])
        assert log.count() == 1
        many = [click("many", k) for k in range(1300)]  # more than fit into one question
        assert (log.append(many).new, log.append(many).known) == (1300, 1300)
        with pytest.raises(ConflictError, match="many-1299"):
            log.append([*many[:-1], {**many[-1], "value": 1.0}])


def test_both_databases_give_the_same_table(tmp_path, new_database):
    odd = [
        click("größe ✓ 'quote' \"double\" %s :x", 1, payload='{"ü": "\\u00e9"}'),
        click("b", 2**52, value=-1e300, position=-1, film_id="Q1"),
        click("c", 3, value=0.1 + 0.2, position=0, variant="mix ab."),
    ]
    tables = []
    for url in (tmp_path / "events.db", new_database()):
        with EventLog(url) as log:
            log.append(odd)
            tables.append(log.read())
            assert log.append(odd).known == 3, "what is read back is what was sent"
    pd.testing.assert_frame_equal(*tables)


# ------------------------------------------------------------ what goes wrong


def test_a_lock_is_waited_for_and_then_named(url):
    with EventLog(url, patience=20) as patient, EventLog(url, patience=0.3) as hasty:
        other = sa.create_engine(patient.url)
        with other.connect() as holder:
            lock = "BEGIN IMMEDIATE" if "sqlite" in str(patient.url) else "LOCK TABLE events"
            if "sqlite" in str(patient.url):
                holder.connection.dbapi_connection.isolation_level = None
            holder.exec_driver_sql(lock)
            with pytest.raises(LogError, match="send it again"):
                hasty.append([click("anna")])
            with ThreadPoolExecutor(1) as pool:
                waiting = pool.submit(patient.append, [click("anna")])
                time.sleep(0.3)
                assert not waiting.done()
                holder.rollback()
                holder.connection.dbapi_connection.rollback()
                assert waiting.result(timeout=60).new == 1
        other.dispose()


FULL = """
import resource, signal, sys
from trending_now.platform.event_log import EventLog, LogError
log = EventLog(sys.argv[1], patience=.2)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
for number in range(10_000):
    batch = [{'event_id': f'{number}-{k}', 'ts': 0, 'kind': 'click', 'unit': 'anna'}
             for k in range(100)]
    try: log.append(batch)
    except LogError as e:
        print(e)
        break
    print(number, flush=True)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,)*2)
print('again', log.append(batch).new)
"""


def test_a_file_that_may_not_grow_is_said_and_keeps_what_was_acknowledged(tmp_path):
    "The operating system refuses to write, as it does on a full disk."
    path = tmp_path / "events.db"
    done = subprocess.run(
        [sys.executable, "-c", FULL, path], capture_output=True, text=True, timeout=300
    )
    *kept, why, again = done.stdout.splitlines()
    assert "the disk is full" in why and "nothing of this was kept" in why, done.stderr
    assert again == "again 100", "there is room again"
    with EventLog(path) as log:
        numbers = {int(name.split("-")[0]) for name in log.read().event_id}
    assert {int(number) for number in kept} < numbers == {*range(len(kept) + 1)}


def test_a_full_server_is_said_and_nothing_is_waited_for(new_database):
    refuse = """
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'no space left on device' USING ERRCODE = '53100'; END $$;
        CREATE TRIGGER full_disk BEFORE INSERT ON events EXECUTE FUNCTION refuse();"""
    with EventLog(new_database()) as log:
        log.attempt(lambda connection: connection.exec_driver_sql(refuse))
        began = time.monotonic()
        with pytest.raises(LogError, match="the disk is full .*nothing of this was kept"):
            log.append([click("anna")])
        assert time.monotonic() - began < log.patience


def test_a_server_that_is_gone_is_named_without_its_password(tmp_path):
    with pytest.raises(LogError) as refused:
        EventLog("postgresql://anna:secret@127.0.0.1:9/nothing", patience=0.2)
    assert "127.0.0.1:9" in str(refused.value) and "secret" not in str(refused.value)
    with pytest.raises(LogError, match="unable to open"):
        (tmp_path / "events.db").mkdir()
        EventLog(tmp_path / "events.db", patience=0.2)


def test_what_is_no_log_is_said(tmp_path):
    (tmp_path / "notes.db").write_text("this is a text and not a database" * 100)
    with pytest.raises(LogError, match="not a database"):
        EventLog(tmp_path / "notes.db", patience=0.2)


def test_a_writer_answers_each_for_itself(url):
    with EventLog(url) as log, BatchWriter(log, most=50) as writer:
        log.append([click("anna")])
        line = [writer.submit([click("line", number)]) for number in range(200)]
        wrong = writer.submit([{**click("anna"), "unit": "ben"}])
        again = writer.submit([click("anna")])
        assert [answer.result(60) for answer in line] == [1] * 200
        with pytest.raises(ConflictError):
            wrong.result(60)
        assert again.result(60) == 1
        assert writer.commits < 200 and writer.waiting == 0
    assert writer.kept == 201


def test_a_line_that_is_full_says_so_and_loses_nothing(tmp_path):
    with EventLog(tmp_path / "events.db") as log:
        holder = sa.create_engine(log.url).connect()
        holder.connection.dbapi_connection.isolation_level = None
        holder.exec_driver_sql("BEGIN IMMEDIATE")
        with BatchWriter(log, most=5, room=20) as writer:
            taken, refused = [], 0
            for number in range(60):
                try:
                    taken.append(writer.submit([click("anna", number)]))
                except FullError:
                    refused += 1
            assert refused and writer.refused == refused and len(taken) == 20
            holder.connection.dbapi_connection.rollback()
            holder.close()
            assert [answer.result(60) for answer in taken] == [1] * 20
        assert log.count() == 20


def test_a_log_that_fails_is_heard_of_by_everybody_who_waits(tmp_path):
    with EventLog(tmp_path / "events.db") as log:
        log.attempt(lambda connection: connection.exec_driver_sql("DROP TABLE events"))
        with BatchWriter(log) as writer:
            answers = [writer.submit([click("anna", number)]) for number in range(5)]
            for answer in answers:
                with pytest.raises(LogError, match="no such table"):
                    answer.result(60)
        assert (writer.kept, writer.waiting) == (0, 0)
        with pytest.raises(LogError, match="closed"):
            writer.submit([click("anna")])


def test_who_stops_waiting_does_not_stop_the_writer(tmp_path):
    with EventLog(tmp_path / "events.db") as log, BatchWriter(log) as writer:
        holder = sa.create_engine(log.url).connect()
        holder.connection.dbapi_connection.isolation_level = None
        holder.exec_driver_sql("BEGIN IMMEDIATE")
        first = writer.submit([click("first")])
        gone = [writer.submit([click("gone", number)]) for number in range(3)]
        assert all(answer.cancel() for answer in gone)
        after = writer.submit([click("after")])
        holder.connection.dbapi_connection.rollback()
        holder.close()
        assert (first.result(60), after.result(60)) == (1, 1)
        assert writer.submit([click("later")]).result(60) == 1
        assert (writer.kept, writer.waiting) == (3, 0)


def test_what_one_database_refuses_of_one_sender_fails_that_sender_only(new_database):
    refuse = """
        CREATE FUNCTION odd() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN IF NEW.unit = 'odd' THEN RAISE EXCEPTION 'not this one'; END IF;
        RETURN NEW; END $$;
        CREATE TRIGGER no_odd BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION odd();"""
    with EventLog(new_database()) as log, BatchWriter(log) as writer:
        log.attempt(lambda connection: connection.exec_driver_sql(refuse))
        answers = [writer.submit([click(name)]) for name in ("a", "b", "odd", "c")]
        assert [answers[k].result(60) for k in (0, 1, 3)] == [1, 1, 1]
        with pytest.raises(LogError, match="not this one"):
            answers[2].result(60)


def test_a_database_that_is_away_is_waited_for_once_and_not_by_each(tmp_path):
    with EventLog(tmp_path / "events.db", patience=0.5) as log:
        holder = sa.create_engine(log.url).connect()
        holder.connection.dbapi_connection.isolation_level = None
        holder.exec_driver_sql("BEGIN IMMEDIATE")
        with BatchWriter(log, most=1) as writer:
            answers = [writer.submit([click("anna", number)]) for number in range(40)]
            for answer in answers:
                with pytest.raises(AwayError):
                    answer.result(60)
            assert writer.commits == 0
        holder.close()


COPIED = """
import os, signal, subprocess, sys, threading
from trending_now.platform.event_log import EventLog
from trending_now.platform.metrics import export_days
log = EventLog(sys.argv[1])
copying = threading.Event()
def copy():
    while True:
        export_days(log, sys.argv[2])
        copying.set()
threading.Thread(target=copy, daemon=True).start()
other = [sys.executable, '-c', 'import sqlite3, sys; '
         'c = sqlite3.connect(sys.argv[1]); c.execute("select count(*) from events").fetchall()']
for number in range(100_000):
    events = [{'event_id': f'{number}-{k}', 'ts': number, 'kind': 'click', 'unit': 'a'}
              for k in range(50)]
    log.append(events)
    print(number, flush=True)
    if number == 20: subprocess.run([*other, sys.argv[1]], check=True)
    if number > 60 and copying.is_set(): os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_log_that_is_copied_while_it_is_written_keeps_what_it_has_acknowledged(tmp_path):
    "Two SQLite libraries in one process take each other's locks away: so there is only one."
    done = subprocess.run(
        [sys.executable, "-c", COPIED, tmp_path / "events.db", tmp_path / "archive"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == -9, done.stderr
    kept = {int(line) for line in done.stdout.split()}
    with EventLog(tmp_path / "events.db") as log:
        there = {int(name.split("-")[0]) for name in log.read().event_id}
        check = log.attempt(lambda c: c.exec_driver_sql("PRAGMA integrity_check").scalar())
    assert len(kept) > 60 and kept - there == set() and check == "ok"


def test_a_day_is_a_day_in_utc_wherever_the_machine_stands(tmp_path):
    late = 5 * 86_400_000_000 - 1_800_000_000  # half an hour before midnight
    with EventLog(tmp_path / "events.db") as log:
        views = [{**click("v", late + k * HOUR), "kind": "exposure"} for k in range(2)]
        log.append(views)
        export_days(log, tmp_path / "archive")
    code = (
        "import sys; from trending_now.platform import PAGE_METRICS, daily_metrics; "
        "table = daily_metrics(PAGE_METRICS.values(), sys.argv[1]); "
        "print([str(day.date()) for day in table.index])"
    )
    for zone in ("UTC", "America/New_York", "Asia/Tokyo"):
        done = subprocess.run(
            [sys.executable, "-c", code, f"{tmp_path}/archive/*/*.parquet"],
            env={**os.environ, "TZ": zone},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == "['1970-01-05', '1970-01-06']", zone


def test_a_table_that_was_read_can_be_written_to_another_log(tmp_path):
    odd = [click("a", 1, position=3), click("b", 2), click("c", 3, value=1.5, position=-1)]
    with EventLog(tmp_path / "one.db") as one, EventLog(tmp_path / "two.db") as two:
        one.append(odd)
        assert two.append(one.read()).new == 3 and two.append(odd).known == 3
        pd.testing.assert_frame_equal(one.read(), two.read())
        whole = pd.DataFrame([click("d", 7)])
        assert two.append(whole).new == 1, "microseconds, too"


def test_a_wrong_password_is_said_at_once(server):
    wrong = server.url.replace(":" + server.url.split(":")[2].split("@")[0], ":wrong")
    began = time.monotonic()
    for url in (wrong, server.url.replace("/postgres", "/nowhere")):
        with pytest.raises(LogError):
            EventLog(url, patience=60)
    assert time.monotonic() - began < 50


@given(st.lists(st.integers(0, 10**15), min_size=1, max_size=40))
def test_a_steady_clock_never_goes_back_and_follows_the_machine(readings):
    clock = SteadyClock(iter(readings).__next__)
    told = [clock.now() for _ in readings]
    assert all(a < b for a, b in itertools.pairwise(told))
    assert all(moment >= reading // 1000 for moment, reading in zip(told, readings))
    assert clock.ahead == told[-1] - readings[-1] // 1000
    highest = max(readings) // 1000
    assert told[-1] <= highest + len(readings)


def test_events_that_come_with_an_earlier_clock_are_read_in_order(url, tmp_path):
    with EventLog(url) as log:
        log.append([click("now", 5 * 86_400_000_000)])
        export_days(log, tmp_path / "archive")
        log.append([click("earlier", 4 * 86_400_000_000), click("later", 5 * 86_400_000_001)])
        assert log.read().unit.tolist() == ["earlier", "now", "later"]
        assert export_days(log, tmp_path / "archive") == ["1970-01-05", "1970-01-06"]
    copied = pd.read_parquet(tmp_path / "archive")
    assert sorted(copied.unit) == ["earlier", "later", "now"]


# ------------------------------------------------------------ migrations


def test_the_migrations_make_the_tables_that_the_code_uses(url):
    with EventLog(url) as log, log.engine.connect() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, SCHEMA) == []


def test_the_files_of_the_project_are_the_printed_migrations():
    for name, text in migration_files().items():
        assert (ROOT / name).read_text() == text, name
        ast.parse(text)


def test_a_log_of_the_first_release_opens_with_its_events(url):
    with EventLog(url) as log:
        log.append([click("anna")])
        log.attempt(lambda connection: connection.execute(sa.schema.DropTable(AUDIT)))
        version = "UPDATE alembic_version SET version_num = '0001'"
        log.attempt(lambda connection: connection.exec_driver_sql(version))
    with EventLog(url) as log:
        assert log.read().event_id.tolist() == ["anna-0"]
        assert AuditLog(log).entries() == []


def test_a_log_of_a_later_release_is_left_alone(url):
    with EventLog(url) as log:
        version = "UPDATE alembic_version SET version_num = '9999'"
        log.attempt(lambda connection: connection.exec_driver_sql(version))
    with pytest.raises(LogError, match="later release.*update trending-now"):
        EventLog(url)


def test_a_migration_that_breaks_off_leaves_nothing(url):
    engine = EventLog(url).engine
    with pytest.raises(KeyboardInterrupt), engine.begin() as connection:
        for table in ("audit", "events", "alembic_version"):
            connection.exec_driver_sql(f"DROP TABLE {table}")
        migrate(connection, "0001")
        raise KeyboardInterrupt
    with EventLog(url) as log:
        assert (log.count(), AuditLog(log).entries()) == (0, [])


def test_many_may_open_a_new_log_at_once(url):
    crowd = Crowd(url, None, size=0)
    answers = crowd.context.Queue()
    openers = [crowd.context.Process(target=open_once, args=(url, answers)) for _ in range(8)]
    for process in openers:
        process.start()
    assert [answers.get(timeout=120) for _ in openers] == [0] * 8
    for process in openers:
        process.join()


# ------------------------------------------------------------ copies and metrics


def test_a_copy_is_the_same_from_both_databases_and_survives_a_kill(tmp_path, new_database):
    rng = np.random.default_rng(3)
    events = [
        click("v", number, kind=kind, value=value) | {"ts": int(rng.integers(40 * 86_400_000_000))}
        for number, (kind, value) in enumerate(
            itertools.islice(itertools.cycle([("exposure", None), ("click", 2.5)]), 3000)
        )
    ]
    folders = []
    for name, url in (("file", tmp_path / "events.db"), ("server", new_database())):
        with EventLog(url) as log:
            log.append(events)
            folders.append(tmp_path / name)
            days = export_days(log, tmp_path / name)
            assert len(days) == 40 and export_days(log, tmp_path / name) == []
            place = tmp_path / name / f"day={days[3]}"
            (place / ".new-12345").write_bytes(b"half a file of a process that was killed")
            assert len(pd.read_parquet(tmp_path / name)) == 3000, "readers pass over it"
            (place / "events.parquet").write_bytes(b"")  # a disk that lost its mind
            (tmp_path / name / f"day={days[5]}" / "events.parquet").unlink()
            assert export_days(log, tmp_path / name) == [days[3], days[5]]
            assert [f.name for f in place.iterdir()] == ["events.parquet"]
    files = [
        {f.relative_to(folder): f.read_bytes() for f in folder.rglob("*.parquet")}
        for folder in folders
    ]
    assert files[0] == files[1] and len(files[0]) == 40
    by_file = daily_metrics(PAGE_METRICS.values(), f"{folders[0]}/*/*.parquet")
    with EventLog(tmp_path / "events.db") as log:
        pd.testing.assert_frame_equal(
            by_file, daily_metrics(PAGE_METRICS.values(), log.read()), check_index_type=False
        )
    assert by_file["dwell a click"].dropna().round(9).eq(2.5).all()


# ------------------------------------------------------------ knobs


VISITORS = [f"v{number:07d}" for number in range(10_000)]
CHANGES = [
    ParameterChange("stale", ({}, {"fresh": 0.6}), (0.5, 0.5), high=0.4),
    ParameterChange("critics", ({}, {"quality": 0.6}, {"quality": 1.0}), (0.4, 0.3, 0.3), 0.4, 0.9),
    ParameterChange("plain", ({"summaries": True}, {"summaries": False}), (0.8, 0.2)),
    ParameterChange("trend", ({}, {"half_life": 2.0}), (0.5, 0.5), 0.25, 0.75),
]


def test_no_visitor_is_in_two_experiments_of_a_layer_and_layers_are_independent():
    arms = {c.experiment: arms_of(PAGE_PARAMETERS, c, CHANGES, VISITORS) for c in CHANGES}
    assert not ((arms["stale"] >= 0) & (arms["critics"] >= 0)).any()
    for change in CHANGES:
        inside = arms[change.experiment] >= 0
        assert abs(inside.mean() - (change.high - change.low)) < 0.02
        shares = np.bincount(arms[change.experiment][inside]) / inside.sum()
        assert np.allclose(shares, change.weights, atol=0.03)
    for name in ("plain", "trend"):
        among = arms[name][arms["stale"] == 1]
        assert abs((among == 1).mean() - (arms[name] == 1).mean()) < 0.04
    for unit, *own in zip(VISITORS[:300], *(arms[c.experiment] for c in CHANGES)):
        served = serve_values(PAGE_PARAMETERS, CHANGES, unit)
        wanted = dict(PAGE_PARAMETERS.values)
        for change, arm in zip(CHANGES, own):
            wanted |= change.values[arm] if arm >= 0 else {}
        assert served.values == wanted
        assert served.exposures == tuple(
            (c.experiment, arm) for c, arm in zip(CHANGES, own) if arm >= 0
        )


def test_an_experiment_that_ends_leaves_the_visitors_of_the_others_where_they_are():
    "Nobody changes sides because another experiment of the layer starts or stops."
    alone = arms_of(PAGE_PARAMETERS, CHANGES[0], CHANGES[:1], VISITORS)
    assert (alone == arms_of(PAGE_PARAMETERS, CHANGES[0], CHANGES, VISITORS)).all()


@given(
    st.lists(st.tuples(st.integers(0, 10), st.integers(1, 10)), min_size=2, max_size=4, unique=True)
)
def test_slices_overlap_or_they_do_not(ends):
    changes = [
        ParameterChange(f"e{k}", ({}, {"fresh": 0.1}), (0.5, 0.5), low / 20, (low + wide) / 20)
        for k, (low, wide) in enumerate(ends)
    ]
    first, *running = changes
    clash = any(c.low < first.high and first.low < c.high for c in running)
    if clash:
        with pytest.raises(OverlapError):
            check_overlap(PAGE_PARAMETERS, first, running)
    else:
        check_overlap(PAGE_PARAMETERS, first, running)


SERVING = Serving(
    PAGE_PARAMETERS,
    tuple(CHANGES),
    {c.experiment: ("control", "treatment", "third")[: len(c.weights)] for c in CHANGES},
)


def by_growthbook(features, unit):
    sdk = GrowthBook(attributes={"id": unit}, features=features)
    return {name: sdk.eval_feature(name) for name in features}


def test_growthbook_gives_ten_thousand_visitors_what_we_give_them():
    features = json.loads(json.dumps(growthbook_features(SERVING)))
    for unit in VISITORS[:500]:
        told = by_growthbook(features, unit)
        assert {name: found.value for name, found in told.items()} == SERVING.serve(unit).values
    for change in CHANGES:
        name = change.parameters[0]
        only = {name: features[name]}
        for unit, arm in zip(VISITORS, SERVING.arms(change.experiment, VISITORS)):
            found = by_growthbook(only, unit)[name].experimentResult
            if arm < 0:
                continue
            default = PAGE_PARAMETERS.values[name]
            assert found.value == change.values[arm].get(name, default)
            assert found.key == SERVING.names[change.experiment][arm], "as our events name it"


def test_growthbook_s_query_finds_who_saw_what(new_database):
    draft = Draft(CHANGES[2], "clicks a view", 100, "less is more")
    with EventLog(new_database()) as log:
        platform = Platform(log)
        platform.write_draft(draft, "ada", "a try")
        platform.start("plain", "ada", "now")
        log.append(
            [
                {**click(unit), "kind": "exposure", "payload": platform.serving().payload(unit)}
                for unit in VISITORS[:300]
            ]
        )
        log.append([click("a click without a page")])
        ask = sa.text(GROWTHBOOK_QUERY.replace(":", "\\:"))
        rows = log.attempt(lambda connection: connection.execute(ask).mappings().all())
    arm = assign_many(VISITORS[:300], "plain", CHANGES[2].weights)
    wanted = dict(zip(VISITORS, (draft.variants[k] for k in arm)))
    assert {row["user_id"]: row["variation_id"] for row in rows} == wanted
    assert {row["experiment_id"] for row in rows} == {"plain"}
    assert rows[0]["timestamp"] == datetime(1970, 1, 1, tzinfo=UTC)


# ------------------------------------------------------------ life, audit, board


MOVE_NAMES = ("draft", "start", "stop", "decide", "archive", "drop")


@given(st.lists(st.sampled_from(MOVE_NAMES), max_size=8))
def test_only_a_life_in_order_is_written_down(log_for_properties, moves):
    audit, name = AuditLog(log_for_properties), f"test {next(RUNS)}"
    stage = ""
    for move in moves:
        try:
            wanted = next_stage(stage, move)
        except LifeError:
            with pytest.raises(LifeError):
                audit.move(name, move, "ada", "because")
        else:
            assert audit.move(name, move, "ada", "because") == wanted
            stage = wanted
    assert audit.stage(name) == stage


def test_entries_of_many_processes_are_numbered_without_a_gap(url):
    EventLog(url).close()
    context = Crowd(url, None, size=0).context
    writers = [context.Process(target=decide, args=(url, f"w{k}", 15)) for k in range(4)]
    for process in writers:
        process.start()
    for process in writers:
        process.join()
    with EventLog(url) as log:
        audit = AuditLog(log)
        assert [entry.number for entry in audit.entries()] == [*range(1, 61)]
        assert {e.subject for e in audit.entries()} == {
            f"w{k}-{n}" for k in range(4) for n in range(15)
        }
        assert len(audit.verify()) == 64


@pytest.mark.parametrize(
    "column, value",
    [
        ("why", "another reason"),
        ("by", "nobody"),
        ("at", 7),
        ("subject", "x"),
        ("action", "stop"),
        ("payload", '{"ship": {}}'),
        ("seal", "0" * 64),
    ],
)
def test_an_entry_that_was_changed_is_noticed(tmp_path, column, value):
    with EventLog(tmp_path / "events.db") as log:
        audit = AuditLog(log)
        for name in "abc":
            audit.add(name, "draft", "ada", "because", {"n": 1})
        seal = audit.verify()
        change = sa.update(AUDIT).where(AUDIT.c.number == 2).values(**{column: value})
        log.attempt(lambda connection: connection.execute(change))
        with pytest.raises(LogError, match="entry 2"):
            audit.verify()
        log.attempt(lambda connection: connection.execute(AUDIT.delete().where(AUDIT.c.number > 1)))
        audit.verify()
        with pytest.raises(LogError, match="cut off"):
            audit.verify(seal)


def test_two_experiments_cannot_slip_past_each_other(url):
    with EventLog(url) as log:
        platform = Platform(log)
        for name in ("one", "two", "three"):
            change = ParameterChange(name, ({}, {"fresh": 0.6}), (0.5, 0.5), high=0.6)
            platform.write_draft(Draft(change, "clicks a view", 100, "x"), "ada", "x")
        told = []

        def start(name):
            try:
                told.append(platform.start(name, "ada", "now"))
            except OverlapError:
                told.append("refused")

        threads = [threading.Thread(target=start, args=[n]) for n in ("one", "two", "three")]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(told) == ["refused", "refused", "running"]
        assert len(platform.running()) == 1


HOUR = 3_600_000_000


class Wall:
    "A clock that is set by hand, in microseconds."

    def __init__(self):
        self.at = 10 * HOUR

    def __call__(self):
        return 1000 * self.at


def visits(platform, units, rates, rng, at, name="plain"):
    "A view and some clicks of each visitor, whose rate depends on what the platform gave them."
    rows, serving = [], platform.serving()
    for unit in units:
        arm = dict(serving.serve(unit).exposures).get(name, 0)
        view = {**click(unit, at), "kind": "exposure", "payload": serving.payload(unit)}
        rows.append({**view, "event_id": f"{unit}-{at}-view"})
        rows += [
            {**click(unit, at + 1 + k), "event_id": f"{unit}-{at}-{k}"}
            for k in range(rng.poisson(rates[arm]))
        ]
    return rows


@pytest.fixture
def wall():
    return Wall()


@pytest.fixture
def running(tmp_path, wall):
    "A platform on which one experiment has run for an hour; a draft waits."
    rng = np.random.default_rng(11)
    with EventLog(tmp_path / "events.db") as log:
        platform = Platform(log, clock=SteadyClock(wall))
        change = ParameterChange("plain", ({}, {"summaries": False}), (0.5, 0.5))
        draft = Draft(change, "clicks a view", 150, "less is more", ("corrections a click",))
        platform.write_draft(draft, "ada", "an idea")
        platform.start("plain", "ada", "now")
        log.append(visits(platform, VISITORS[:400], (1.0, 2.0), rng, wall.at + 60))
        wall.at += HOUR
        wider = ParameterChange("wide", ({}, {"half_life": 2.0}), (0.5, 0.5))
        platform.write_draft(Draft(wider, "clicks a view", 90, "x"), "ben", "another idea")
        yield platform


def test_an_experiment_goes_from_the_draft_to_the_new_default(running):
    report = running.report("plain")
    assert sum(report.units) == 400 and report.table.verdict.iloc[0] == "better"
    board = running.board().set_index("experiment")
    assert board.stage.to_dict() == {"plain": "running", "wide": "draft"}
    assert float(board.loc["plain", "split p"]) > 0.001 and "+" in board.loc["plain", "effect"]
    assert board.loc["wide", "visitors"] == "0"
    with pytest.raises(LifeError, match="expected stop"):
        running.decide("plain", "ada", "at once")
    running.stop("plain", "ada", "enough")
    assert running.serve("anna").exposures == ()
    running.decide("plain", "ben", "the editors want it", ship="treatment")
    assert running.parameters.values["summaries"] is False
    entry = running.audit.entries("plain")[-1]
    assert entry.payload["ship"] == {"summaries": False} and entry.by == "ben"
    assert entry.payload["report"] == report.decision
    again = Platform(running.log)  # another machine
    assert again.parameters.version == running.parameters.version
    assert again.experiments() == running.experiments()


def test_the_numbers_of_an_experiment_stand_still_once_it_is_stopped(running, wall):
    before = running.report("plain").table
    running.stop("plain", "ada", "enough")
    wall.at += HOUR
    rng = np.random.default_rng(12)
    for later in range(4):  # they all come back, to the page that everybody has
        running.log.append(visits(running, VISITORS[:400], (3.0,), rng, wall.at + 1000 * later))
    pd.testing.assert_frame_equal(running.report("plain").table, before)


def test_what_came_before_the_start_is_no_part_of_it(running, wall):
    views = visits(running, VISITORS[:400], (9.0, 0.0), np.random.default_rng(3), HOUR)
    before = running.report("plain").table
    running.log.append(views)
    pd.testing.assert_frame_equal(running.report("plain").table, before)


def test_shipping_one_experiment_leaves_its_mates_as_they_were(running):
    for name, low, high in (("stale", 0, 0.6), ("dull", 0.6, 1.0)):
        change = ParameterChange(
            name, ({}, {"fresh": 0.6 if name == "stale" else 0.1}), (0.5, 0.5), low, high
        )
        running.write_draft(Draft(change, "clicks a view", 90, "x"), "ada", "x")
        running.start(name, "ada", "x")
    before = {unit: running.serve(unit) for unit in VISITORS[:200]}
    running.stop("stale", "ada", "x")
    assert running.decide("stale", "ada", "x", ship="treatment") is None, "nobody has come"
    assert running.parameters.values["fresh"] == 0.6
    after = {unit: running.serve(unit) for unit in before}
    for unit, was in before.items():
        if "dull" in dict(was.exposures):
            assert after[unit].values["fresh"] == was.values["fresh"]
        else:
            assert after[unit].values["fresh"] == 0.6


def test_an_experiment_that_nobody_saw_can_be_ended(running):
    running.start("wide", "ada", "x")
    running.stop("wide", "ada", "x")
    assert running.decide("wide", "ada", "nobody came") is None
    assert running.audit.entries("wide")[-1].payload["report"] == "nobody came"
    assert running.audit.move("wide", "archive", "ada", "x") == "archived"


def test_a_report_that_finds_nothing_is_not_written_down_as_a_stop(running, wall):
    running.start("wide", "ada", "x")
    rng = np.random.default_rng(5)
    running.log.append(visits(running, VISITORS[:40], (1.0, 1.0), rng, wall.at + 60, "wide"))
    wall.at += HOUR
    running.stop("wide", "ada", "x")
    assert running.decide("wide", "ada", "x").decision == "keep running"
    assert running.experiments()["wide"].decision == "inconclusive"


def test_entries_of_others_and_knobs_that_are_gone_harm_nobody(running):
    running.audit.move("hers", "draft", "ada", "not of the platform", {"columns": 6})
    running.audit.add("a note", "decide", "ada", "of somebody", {"decision": "ship"})
    running.stop("plain", "ada", "x")
    running.decide("plain", "ada", "x", ship="treatment")
    fewer = Parameters(*(p for p in PAGE_PARAMETERS.by_name.values() if p.name != "summaries"))
    later = Platform(running.log, fewer)  # a release without that knob
    assert "summaries" not in later.serve("anna").values
    assert {*later.experiments()} == {"plain", "wide"}
    assert len(Platform(running.log, metrics={}).board()) == 2, "and without its metrics"


def test_one_odd_event_does_not_stop_the_board(running):
    running.log.append([click(VISITORS[0], 11 * HOUR + 5, event_id="odd", value=None)])
    draft = Draft(
        ParameterChange("dwell", ({}, {"threshold": 0.5}), (0.5, 0.5)), "dwell a click", 90, "x"
    )
    running.write_draft(draft, "ada", "x")
    running.start("dwell", "ada", "x")
    rng = np.random.default_rng(5)
    running.log.append(visits(running, VISITORS[:60], (1.0, 1.0), rng, 12 * HOUR, "dwell"))
    board = running.board().set_index("experiment")
    assert "cannot be read" in board.loc["dwell", "effect"]
    assert "+" in board.loc["plain", "effect"]


def test_the_board_shows_the_variant_that_won(tmp_path, wall):
    with EventLog(tmp_path / "events.db") as log:
        platform = Platform(log, clock=SteadyClock(wall))
        change = ParameterChange("three", ({}, {"columns": 2}, {"columns": 6}), (0.34, 0.33, 0.33))
        draft = Draft(change, "clicks a view", 100, "x", variants=("four", "two", "six"))
        platform.write_draft(draft, "ada", "x")
        platform.start("three", "ada", "x")
        rng = np.random.default_rng(1)
        rates = (1.0, 0.6, 3.0)
        log.append(visits(platform, VISITORS[:600], rates, rng, wall.at + 60, "three"))
        report = platform.report("three")
        assert report.variant == "six" and effect_of(report)[0] > 1


def test_what_cannot_be_run_is_not_written_down(running):
    before = len(running.audit.entries())
    good = Draft(ParameterChange("new", ({}, {"columns": 6}), (0.5, 0.5)), "clicks a view", 90, "x")

    def change(name="new", values=None, **slice_):
        return ParameterChange(name, ({}, values or {"columns": 6}), (0.5, 0.5), **slice_)

    for changed, said in [
        (lambda: {"metric": "happiness"}, "metric"),
        (lambda: {"size": 1}, "size"),
        (lambda: {"alpha": 2.0}, "alpha"),
        (lambda: {"hypothesis": " "}, "hypothesis"),
        (lambda: {"variants": ("a",)}, "variants"),
        (lambda: {"variants": ("a", 'b"')}, "variants"),
        (lambda: {"guardrails": ("clicks a view",)}, "metrics"),
        (lambda: {"change": change(values={"columns": 99})}, "columns"),
        (lambda: {"change": change(values={"columns": 6.0})}, "expected"),
        (lambda: {"change": change(values={"colour": "red"})}, "parameter"),
        (lambda: {"change": change('a"b')}, "experiment"),
        (lambda: {"change": change("x" * 101)}, "experiment"),
        (lambda: {"change": change(low=0.5001, high=0.5009)}, "thousandths"),
        (lambda: {"change": change("plain")}, "draft"),
    ]:
        with pytest.raises(ValueError, match=said):
            running.write_draft(Draft(**{**vars(good), **changed()}), "ada", "x")
    with pytest.raises(ValueError, match="why"):
        running.write_draft(good, "ada", " ")
    with pytest.raises(LifeError, match="not there yet"):
        running.start("nobody", "ada", "x")
    with pytest.raises(ValueError, match="experiment"):
        running.report("nobody")
    running.stop("plain", "ada", "x")
    with pytest.raises(ValueError, match="ship"):
        running.decide("plain", "ada", "x", ship="Treatment")
    assert len(running.audit.entries()) == before + 1


def test_a_payload_is_matched_as_a_whole_and_however_it_was_written(running, tmp_path):
    lines = [
        '{"in:plain":"treatment","values":"x"}',  # as a browser writes it
        {"note": '"in:plain": "treatment"'},
        {"in:plain": "treatment-2"},
        {"in:plain 2": "treatment"},
    ]
    running.log.append(
        [
            {**click(f"p{k}", 11 * HOUR), "kind": "exposure", "payload": line}
            for k, line in enumerate(lines)
        ]
    )
    seen = assignments_of(running.experiments()["plain"].draft, running.log.read())
    assert seen[seen.unit.str.startswith("p")].unit.tolist() == ["p0"]
    export_days(running.log, tmp_path / "archive")
    from_files = running.report("plain", f"{tmp_path}/archive/*/*.parquet")
    assert from_files.units == running.report("plain").units


# ------------------------------------------------------------ settings, and what may be loaded


def test_the_settings_name_the_database(tmp_path):
    knobs = load(None, {"TRENDING_NOW_PLATFORM_EVENTS": "postgresql://anna@db.example/log"})
    assert knobs.platform.events == "postgresql://anna@db.example/log"
    for wrong in ("mysql://x/y", "", "a file"):
        with pytest.raises(SettingsError, match="PLATFORM_EVENTS"):
            load(None, {"TRENDING_NOW_PLATFORM_EVENTS": wrong})


def test_moments_of_every_kind_are_one_number():
    zone = datetime(2026, 11, 27, 12, 0, 0, 123_456, tzinfo=UTC)
    east = zone.astimezone(tz=__import__("zoneinfo").ZoneInfo("Asia/Tokyo"))
    stamps = {check_event(click("a") | {"ts": ts})["ts"] for ts in (zone, east, pd.Timestamp(zone))}
    assert stamps == {int((zone - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1))}


def test_nothing_of_the_platform_writes_sql_of_its_own():
    "But for settings of a connection, and the query that another tool asks for."
    for path in (ROOT / "trending_now/platform").glob("*.py"):
        text = re.sub(r'GROWTHBOOK_QUERY = """.*?"""', "", path.read_text(), flags=re.S)
        found = re.findall(r"(?i)['\"](select|insert|update|delete|create) ", text)
        assert found == [], path
