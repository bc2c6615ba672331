"""The platform for experiments: knobs that nobody turns twice, a log that keeps what it has
acknowledged on both databases, copies that miss nothing, decisions that cannot be rewritten
unnoticed, and a way out."""

import ast, itertools, json, re, subprocess, sys, threading, time
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
    BatchWriter,
    ParameterChange,
    ConflictError,
    Draft,
    EventLog,
    FullError,
    LifeError,
    LocalPostgres,
    LogError,
    OverlapError,
    Platform,
    SteadyClock,
    arms_of,
    check_event,
    check_overlap,
    daily_metrics,
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
        click("größe ✓ 'quote' \"double\" %s :x", 1, payload='{"ü": "\\u0000"}'),
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
            left = tmp_path / name / f"day={days[3]}" / "new-12345"
            left.write_bytes(b"half a file of a process that was killed")
            (tmp_path / name / f"day={days[5]}" / "events.parquet").unlink()
            assert export_days(log, tmp_path / name) == [days[5]]
            left.unlink()
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


def by_growthbook(features, unit):
    sdk = GrowthBook(attributes={"id": unit}, features=features)
    return {name: sdk.get_feature_value(name, None) for name in features}


def test_growthbook_gives_ten_thousand_visitors_what_we_give_them():
    features = json.loads(json.dumps(growthbook_features(PAGE_PARAMETERS, CHANGES)))
    ours = [serve_values(PAGE_PARAMETERS, CHANGES, unit).values for unit in VISITORS[:500]]
    assert [by_growthbook(features, unit) for unit in VISITORS[:500]] == ours
    arms = [arms_of(PAGE_PARAMETERS, change, CHANGES, VISITORS) for change in CHANGES]
    for change, own in zip(CHANGES, arms):
        name = change.parameters[0]
        default = PAGE_PARAMETERS.values[name]
        only = {name: features[name]}
        for unit, arm in zip(VISITORS, own):
            wanted = change.values[arm].get(name, default) if arm >= 0 else None
            if arm >= 0:
                assert by_growthbook(only, unit)[name] == wanted


def test_growthbook_s_query_finds_who_saw_what(new_database):
    draft = Draft(CHANGES[2], "clicks a view", 100, "less is more")
    with EventLog(new_database()) as log:
        platform = Platform(log)
        platform.write_draft(draft, "ada", "a try")
        platform.start("plain", "ada", "now")
        views = pd.DataFrame(
            [{**click(unit), "kind": "exposure", "payload": "{}"} for unit in VISITORS[:300]]
        )
        log.append(
            platform.mark(views.assign(ts=pd.to_datetime(views.ts, utc=True))).to_dict("records")
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


def visits(platform, units, rates, rng):
    "A view and some clicks of each visitor, whose rate depends on what the platform gave them."
    rows = []
    for unit in units:
        served = dict(platform.serve(unit).exposures)
        names = {e: platform.experiments()[e].draft.variants[arm] for e, arm in served.items()}
        rows.append(
            {
                **click(unit),
                "event_id": f"{unit}-view",
                "kind": "exposure",
                "payload": {"experiments": names},
            }
        )
        clicks = rng.poisson(rates[served.get("plain", 0)])
        rows += [click(unit, 1 + k) for k in range(clicks)]
    return rows


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    "A platform on which one experiment has run; a draft waits."
    rng = np.random.default_rng(11)
    with EventLog(tmp_path_factory.mktemp("platform") / "events.db") as log:
        platform = Platform(log)
        change = ParameterChange("plain", ({}, {"summaries": False}), (0.5, 0.5))
        draft = Draft(change, "clicks a view", 150, "less is more", ("corrections a click",))
        platform.write_draft(draft, "ada", "an idea")
        platform.start("plain", "ada", "now")
        log.append(visits(platform, VISITORS[:400], (1.0, 2.0), rng))
        wider = ParameterChange("wide", ({}, {"columns": 6}), (0.5, 0.5))
        wide = Draft(wider, "clicks a view", 90, "x")
        platform.write_draft(wide, "ben", "another idea")
        yield platform


def test_an_experiment_goes_from_the_draft_to_the_new_default(finished):
    report = finished.report("plain")
    assert sum(report.units) == 400 and report.table.verdict.iloc[0] == "better"
    board = finished.board().set_index("experiment")
    assert board.stage.to_dict() == {"plain": "running", "wide": "draft"}
    assert board.loc["plain", "split p"] > 0.001 and "+" in board.loc["plain", "effect"]
    assert pd.isna(board.loc["wide", "visitors"])
    with pytest.raises(LifeError, match="expected stop"):
        finished.decide("plain", "ada", "at once")
    finished.stop("plain", "ada", "enough")
    assert finished.serve("anna").exposures == ()
    finished.decide("plain", "ben", "the editors want it", ship="treatment")
    assert finished.parameters.values["summaries"] is False
    entry = finished.audit.entries("plain")[-1]
    assert entry.payload["ship"] == {"summaries": False} and entry.by == "ben"
    assert entry.payload["report"] == report.decision
    again = Platform(finished.log)  # another machine
    assert again.parameters.version == finished.parameters.version
    assert again.experiments() == finished.experiments()


def test_what_cannot_be_run_is_not_written_down(finished):
    before = len(finished.audit.entries())
    good = Draft(ParameterChange("new", ({}, {"columns": 6}), (0.5, 0.5)), "clicks a view", 90, "x")
    for change, said in [
        ({"metric": "happiness"}, "metric"),
        ({"size": 1}, "size"),
        ({"alpha": 2.0}, "alpha"),
        ({"variants": ("a",)}, "variants"),
        ({"guardrails": ("clicks a view",)}, "metrics"),
        ({"change": ParameterChange("new", ({}, {"columns": 99}), (0.5, 0.5))}, "columns"),
        ({"change": ParameterChange("new", ({}, {"colour": "red"}), (0.5, 0.5))}, "parameter"),
        ({"change": ParameterChange("plain", ({}, {"columns": 6}), (0.5, 0.5))}, "draft"),
    ]:
        with pytest.raises(ValueError, match=said):
            finished.write_draft(Draft(**{**vars(good), **change}), "ada", "x")
    with pytest.raises(ValueError, match="why"):
        finished.write_draft(good, "ada", " ")
    with pytest.raises(LifeError, match="not there yet"):
        finished.start("nobody", "ada", "x")
    assert len(finished.audit.entries()) == before


def test_a_name_with_quotes_and_signs_is_found_in_the_payload(tmp_path):
    name = 'größer "als" 100% \\ {}'
    change = ParameterChange(name, ({}, {"columns": 6}), (0.5, 0.5))
    with EventLog(tmp_path / "events.db") as log:
        platform = Platform(log)
        platform.write_draft(Draft(change, "clicks a view", 50, "x"), "ada", "x")
        platform.start(name, "ada", "x")
        rows = visits(platform, VISITORS[:60], (1.0,), np.random.default_rng(2))
        log.append(rows)
        export_days(log, tmp_path / "archive")
        for events in (None, f"{tmp_path}/archive/*/*.parquet"):
            assert sum(platform.report(name, events).units) == 60


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
