"""The registry: the fold of a history, the local store under races, kills, full disks and other
tools, and the contract that every store keeps."""

import multiprocessing, os, random, shutil, signal, sqlite3, subprocess, time
from contextlib import contextmanager
from dataclasses import replace
from itertools import permutations
from tempfile import TemporaryDirectory

import pytest
import registry_workers
from hypothesis import given, settings
from hypothesis import strategies as st
from pathlib import Path
from registry_contract import CONTRACT, model, one_champion, opener, promoted, refused, versions

from trending_now.registry.registry import Registry
from trending_now.registry.stages import STAGES, Event, RegistryError, Standing, fold, refusal
from trending_now.registry.stores import LocalStore

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["pytest", "trending_now.registry.registry"])
AT = "2012-01-01T00:00:00"


@pytest.mark.parametrize("contract", CONTRACT, ids=lambda act: act.__name__)
def test_a_local_registry_keeps_the_contract(contract, tmp_path):
    contract(opener(f"local:{tmp_path / 'registry'}"), tmp_path / "models")


@pytest.fixture
def registry(tmp_path):
    "Three versions, v1 is champion."
    found = Registry.open(f"local:{tmp_path / 'registry'}")
    versions(found, tmp_path / "models", 3)
    found.promote("v1", "me", "first")
    return found


def start(work, *args):
    process = PROCESSES.Process(target=work, args=args)
    process.start()
    return process


def both(works):
    "Run two processes at once; what each says in its queue."
    queue, barrier = PROCESSES.Queue(), PROCESSES.Barrier(2)
    running = [start(work, *args, barrier, queue) for work, *args in works]
    found = [queue.get(timeout=60) for _ in running]
    for process in running:
        process.join()
    return found


# The fold


def event(kind, version, over="", stage=None, **payload):
    stage = {"register": "candidate", "move": "archived"}.get(kind, "champion")
    return Event(kind, version, stage, "me", "", AT, over, payload=payload)


def test_a_promotion_that_lost_the_race_is_void():
    events = [event("register", v) for v in ("v1", "v2", "v3")]
    events += [event("promote", "v1"), event("promote", "v2", "v1"), event("promote", "v3", "v1")]
    found = fold(events)
    assert found.champion == "v2" and found.void == (5,)
    assert found.stages == {"v1": "archived", "v2": "champion", "v3": "candidate"}
    assert fold(events[:-2] + events[:-3:-1]).champion == "v3"  # whoever comes first
    assert fold(events + [event("rollback", "v1", "v3")]).void == (5, 6)


def test_in_whatever_order_racing_promotions_arrive_there_is_one_champion():
    start = [event("register", v) for v in ("v1", "v2", "v3", "v4")] + [event("promote", "v1")]
    racing = [event("promote", "v2", "v1"), event("promote", "v3", "v1")]
    racing += [event("rollback", "v1", "v2"), event("move", "v3"), event("promote", "v4", "v2")]
    for order in permutations(racing):
        found = fold([*start, *order])
        assert [*found.stages.values()].count("champion") == 1
        assert found.stages[found.champion] == "champion"


VERSIONS = st.sampled_from(["v1", "v2", "v3", "v4", ""])
KINDS = st.sampled_from(
    ["register", "move", "promote", "rollback", "alias", "note", "run", "prune"]
)
EVENTS = st.builds(
    Event, KINDS, VERSIONS, st.sampled_from((*STAGES, "")), st.just("me"), st.just(""),
    st.just(AT), VERSIONS, payload=st.sampled_from([{}, {"override": "yes"}, {"name": "best"}]),
)  # fmt: skip


@settings(max_examples=200)
@given(st.lists(EVENTS, max_size=30))
def test_whatever_is_appended_there_is_at_most_one_champion(events):
    found, standing = fold(events), Standing()
    crowned = [v for v, stage in found.stages.items() if stage == "champion"]
    assert crowned == ([found.champion] if found.champion else [])
    for position, event in enumerate(events):
        assert bool(refusal(standing, event)) == (position in found.void)
        standing = fold(events[: position + 1])
    assert fold([e for n, e in enumerate(events) if n not in found.void]) == replace(found, void=())


@given(EVENTS)
def test_an_event_comes_back_from_its_text(event):
    assert Event.from_json(event.to_json()) == event


# Append-only


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE events SET event = '{}'",
        "UPDATE OR REPLACE events SET position = 1 WHERE position = 4",
        "DELETE FROM events WHERE position = 4",
        "DELETE FROM events",
        "INSERT OR REPLACE INTO events VALUES (4, '{}', '')",
        "REPLACE INTO events VALUES (1, '{}', '')",
        "INSERT INTO events VALUES (2, '{}', '') ON CONFLICT DO UPDATE SET event = '{}'",
    ],
)
def test_the_database_refuses_to_change_what_is_written(registry, statement):
    before = registry.store.events()
    with sqlite3.connect(registry.store.database) as db, pytest.raises(sqlite3.IntegrityError):
        db.execute(statement)
    db.close()
    assert registry.store.events() == before


def forge(store, *statements):
    "Another tool, which takes the triggers away first."
    with sqlite3.connect(store.database) as db:
        names = [
            name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type='trigger'")
        ]
        for statement in [*(f"DROP TRIGGER {name}" for name in names), *statements]:
            db.execute(statement)
    db.close()


@pytest.mark.parametrize(
    "row, statement",
    [
        (4, "UPDATE events SET event = replace(event, 'first', 'second') WHERE position = 4"),
        (2, "UPDATE events SET hash = '' WHERE position = 2"),
        (1, "UPDATE events SET event = 7 WHERE position = 1"),
        (2, "DELETE FROM events WHERE position = 2"),
        (4, "DELETE FROM events WHERE position = 4"),
        (1, "DELETE FROM events"),
        (5, "INSERT INTO events (event, hash) SELECT event, hash FROM events WHERE position = 4"),
        (3, "UPDATE events SET position = position + 9 WHERE position > 2"),
    ],
)
def test_a_row_that_another_tool_changed_is_named(registry, row, statement):
    forge(registry.store, statement)
    words = [f"row {row} ", str(registry.store.database)]
    for act in (registry.history, registry.champion, lambda: registry.get("v1")):
        refused(words, act)
    refused(words, registry.promote, "v2", "me", "")


# Two processes


def copies(registry, folder, count):
    "So many copies of a registry, one for each round."
    source = registry.store.path
    return [shutil.copytree(source, folder / f"round{n}") for n in range(count)]


def test_of_two_promotions_over_the_same_champion_one_wins(registry, tmp_path):
    paths = copies(registry, tmp_path, 20)
    work = registry_workers.promote_in_rounds
    found = dict(both([(work, paths, "v2", "v1"), (work, paths, "v3", "v1")]))
    for path, second, third in zip(paths, found["v2"], found["v3"], strict=True):
        race = Registry.open(f"local:{path}")
        winner, loser = ("v2", third) if second[0] == "done" else ("v3", second)
        assert {second[0], third[0]} == {"done", "refused"}
        assert f"{winner} has been champion" in loser[1] and f"{winner}'s friend" in loser[1]
        assert race.champion() == winner and len(race.history()) == 5
        one_champion(race)


def test_two_promotions_without_a_comparison_follow_each_other(registry, tmp_path):
    paths = copies(registry, tmp_path, 20)
    work = registry_workers.promote_in_rounds
    found = dict(both([(work, paths, "v2", None), (work, paths, "v3", None)]))
    assert {answer for answers in found.values() for answer, _ in answers} == {"done"}
    for path in paths:
        first, last = Registry.open(f"local:{path}").store.events()[-2:]
        assert {first.version, last.version} == {"v2", "v3"}
        assert (first.over, last.over) == ("v1", first.version)
        assert Registry.open(f"local:{path}").standing().champions[1:] == (
            first.version,
            last.version,
        )
        one_champion(Registry.open(f"local:{path}"))


def test_two_processes_may_make_the_same_registry(tmp_path):
    paths = [tmp_path / f"new{n}" for n in range(20)]
    both([(registry_workers.make_at_once, paths)] * 2)
    for path in paths:
        assert len(Registry.open(f"local:{path}").runs()) == 2
        assert {file.name for file in path.iterdir()} == {"registry.db", "versions"}


# Killed


def killed(process):
    process.join(timeout=60)
    assert process.exitcode == -signal.SIGKILL


def wait_for(path, lines):
    "Until another process has written so many lines."
    until = time.monotonic() + 60
    while not path.exists() or path.read_text().count("\n") < lines:
        assert time.monotonic() < until, f"{path} has fewer than {lines} lines"
        time.sleep(0.002)


def test_killed_in_the_middle_of_a_promotion_nothing_acknowledged_is_lost(registry, tmp_path):
    rng, total = random.Random(7), 0
    for number in range(20):
        log = tmp_path / f"acknowledged{number}"
        path = registry.store.path
        work = start(registry_workers.promote_for_ever, path, log, ["v1", "v2", "v3"], number)
        wait_for(log, rng.randint(1, 4))  # one says that it is ready
        time.sleep(rng.uniform(0, 0.04))
        os.kill(work.pid, signal.SIGKILL)
        killed(work)
        again = Registry.open(f"local:{path}")
        one_champion(again)
        history = {(event.version, event.key) for event in again.store.events()}
        said = [tuple(line.split()) for line in log.read_text().splitlines()[1:]]
        assert {*said} <= history
        total += len(said)
        with sqlite3.connect(registry.store.database) as db:
            assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        db.close()
    assert total >= 20  # so many were waited for


@pytest.mark.parametrize("how", ["die_after_copying", "die_while_copying"])
@pytest.mark.parametrize("again", ["the same", "another"])
def test_killed_before_the_event_a_registration_runs_again(registry, tmp_path, how, again):
    made = model(tmp_path / "made", "new trees")
    killed(start(getattr(registry_workers, how), registry.store.path, made, "week 3"))
    assert registry.versions() == ["v1", "v2", "v3"]
    if again == "another":
        made = model(tmp_path / "other", "other trees", more="and a file")
    for _ in range(2):
        assert registry.register(made, {}, None, key="week 3") == "v4"
    registry.verify("v4")
    assert (registry.get("v4").folder / "model.ubj").read_text() == (made / "model.ubj").read_text()
    kept = {folder.name for folder in (registry.store.path / "versions").iterdir()}
    assert kept == {"v1", "v2", "v3", "v4"} and len(registry.history()) == 5


def test_a_killed_pruning_is_finished_by_the_next(registry, monkeypatch):
    registry.promote("v2", "me", "")

    def stop(store, version):
        raise KeyboardInterrupt

    monkeypatch.setattr(LocalStore, "drop_files", stop)
    with pytest.raises(KeyboardInterrupt):
        registry.prune(0)
    monkeypatch.undo()
    refused(["pruned"], registry.rollback, "me", "")
    registry.prune(0)
    refused(["gone"], registry.store.files, "v1")


# Where nothing can be written


@contextmanager
def readable_folder():
    "A folder that every user may enter."
    with TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


def everything_in(path):
    return {p: p.read_bytes() if p.is_file() else None for p in sorted(path.rglob("*"))}


def asked(work, *args):
    "Run a process to its end; what it says in its queue."
    queue = PROCESSES.Queue()
    process = start(work, *args, queue)
    found = queue.get(timeout=60)
    process.join()
    return found


def test_where_one_may_only_read_the_registry_reads():
    with readable_folder() as folder:
        registry = Registry.open(f"local:{folder / 'registry'}")
        promoted(registry, folder / "models", 2)
        registry.promote("v1", "me", "again")
        before = everything_in(folder)
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o555 if path.is_dir() else 0o444)
        path = registry.store.path
        found = asked(registry_workers.use_without_rights, path, folder / "models" / "model1")
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
        assert found.pop("champion") == "v1" and found.pop("verify") == ("done", None)
        for name, (answer, message) in found.items():
            assert answer == "refused" and str(registry.store.path) in message, (name, message)
        assert everything_in(folder) == before


@pytest.mark.parametrize("most", [100, 5_000, 40_000])
def test_on_a_full_disk_nothing_is_written_half(registry, tmp_path, most):
    made = model(tmp_path / "made", "x" * 50_000)
    before = everything_in(registry.store.path)
    found = asked(registry_workers.use_on_a_full_disk, registry.store.path, made, most)
    assert found["register"][0] == "refused" and str(registry.store.path) in found["register"][1]
    if most == 100:
        assert found["promote"][0] == found["new"][0] == "refused"
        assert str(registry.store.path) in found["promote"][1]
        shutil.rmtree(registry.store.path / "another", ignore_errors=True)
        assert everything_in(registry.store.path) == before
    registry.promote("v3", "me", "there is room again")
    assert registry.register(made, {}, None) == "v4"
    one_champion(registry)
    registry.verify("v4")


@contextmanager
def small_disk(folder):
    "A disk of one megabyte; None where none can be mounted."
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True).returncode == 0
    except OSError:
        done = False
    yield folder if done else None
    if done:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder):
    with open(folder / "filler", "wb", buffering=0) as file:
        for block in (65536, 4096):
            try:
                while file.write(bytes(block)) == block:
                    pass
            except OSError:
                pass


def test_on_a_disk_that_is_really_full(tmp_path):
    with small_disk(tmp_path / "disk") as disk:
        if disk is None:  # the limit on the length of a file stands for it, above
            return
        registry = Registry.open(f"local:{disk / 'registry'}")
        promoted(registry, tmp_path / "models", 2)
        made = model(tmp_path / "made", "x" * 50_000)
        before = everything_in(disk / "registry")
        fill(disk)
        refused([str(disk), "room"], registry.promote, "v1", "me", "")
        refused([str(disk)], registry.register, made, {}, None)
        refused([str(disk)], Registry.open, f"local:{disk / 'another'}")
        assert everything_in(disk / "registry") == before
        (disk / "filler").unlink()
        registry.promote("v1", "me", "room")
        assert registry.register(made, {}, None) == "v3"


# A damaged database


def read_or_refuse(path, whole):
    "The whole history, or a RegistryError that names the file; never a part of it."
    try:
        assert LocalStore(path).events() == whole
    except RegistryError as e:
        assert str(path / "registry.db") in str(e)
        return False
    return True


def test_a_truncated_history_is_refused_and_named(registry):
    for n in range(30):
        registry.note("v1", f"note {n} " + "x" * 400, "me")
    database, whole = registry.store.database, registry.store.events()
    data = database.read_bytes()
    for size in range(0, len(data), 512):
        database.write_bytes(data[:size])
        if size < len(data) - 4096:
            refused([str(database)], registry.champion)
            refused([str(database)], registry.promote, "v2", "me", "")
        read_or_refuse(registry.store.path, whole)
    database.write_bytes(data)
    assert registry.store.events() == whole


def test_a_flipped_bit_is_found_or_harmless(registry):
    rng, database, whole = random.Random(3), registry.store.database, registry.store.events()
    data = database.read_bytes()
    place = data.index(b'"first"') + 2
    for where in [place, *rng.choices(range(len(data)), k=200)]:
        changed = bytearray(data)
        changed[where] ^= 1 << rng.randrange(8)
        database.write_bytes(changed)
        fine = read_or_refuse(registry.store.path, whole)
        assert not (fine and where == place)


def test_a_file_that_is_no_history_is_refused(tmp_path):
    path = tmp_path / "registry"
    path.mkdir()
    (path / "registry.db").write_text("hello")
    refused([str(path / "registry.db")], Registry.open(f"local:{path}").history)
    (path / "registry.db").unlink()
    with sqlite3.connect(path / "registry.db") as db:
        db.execute("CREATE TABLE events (position, event, hash)")
    db.close()
    refused([str(path / "registry.db"), "format 0"], Registry.open(f"local:{path}").history)


def test_a_history_that_is_gone_is_not_begun_anew(registry):
    registry.store.database.unlink()
    refused([str(registry.store.database), "gone"], Registry.open, f"local:{registry.store.path}")
    refused([str(registry.store.database)], registry.champion)
    assert not registry.store.database.exists()


def test_a_place_where_no_folder_can_be(tmp_path):
    (tmp_path / "file").write_text("")
    refused([str(tmp_path / "file")], Registry.open, f"local:{tmp_path / 'file'}")
    refused([str(tmp_path / "file")], Registry.open, f"local:{tmp_path / 'file' / 'below'}")


@pytest.mark.parametrize("url", ["", "here", "local:", "wandb:", "wandb:me", "s3:a/b", "wandb:/b"])
def test_an_address_of_another_kind_is_refused(url):
    with pytest.raises(ValueError, match="local:PATH or wandb:ENTITY/PROJECT"):
        Registry.open(url)


def test_a_path_stays_where_it_was_opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    registry = Registry.open("local:here #1?")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    registry.log_run("night", {}, {})
    assert (tmp_path / "here #1?" / "registry.db").exists()


def test_a_version_s_name_does_not_lead_out_of_the_folder(registry, tmp_path):
    made = model(tmp_path / "made")
    for name in ("../v1", "", ".v1", "a/b"):
        refused([repr(name)], registry.store.add_files, name, made)
        refused([repr(name)], registry.store.files, name)
        refused([repr(name)], registry.store.drop_files, name)


def test_a_text_of_any_kind_is_kept(registry):
    for text in ("Łódź, 東京 and a line\nbreak", "nul \x00 and \u2028", "'; DROP TABLE events; --"):
        registry.note("v1", text, "me")
        assert registry.history().reason.iloc[-1] == text
