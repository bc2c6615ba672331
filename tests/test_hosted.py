"""The registry at Weights & Biases: the real client against a loopback stand-in, what it writes
offline, and the service itself where there is a key."""

import json, multiprocessing, os, signal, subprocess, sys, time
from pathlib import Path
from uuid import uuid4

import pytest
from registry_contract import CONTRACT, model, one_champion, opener, refused, versions
from wandb_stand_in import stand_in

from trending_now.registry.hosted import WandbStore
from trending_now.registry.registry import Registry

pytest.importorskip("wandb", reason="the client is in the extra: pip install trending-now[track]")
SERVICE_KEY = os.environ.get("WANDB_API_KEY") if "WANDB_BASE_URL" not in os.environ else None
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["wandb", "registry_contract", "trending_now.registry.hosted"])


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    "The stand-in, and an environment in which the client can reach nothing else."
    folder, patch = tmp_path_factory.mktemp("wandb"), pytest.MonkeyPatch()
    with stand_in() as server:
        for name in ("DATA_DIR", "CACHE_DIR", "CONFIG_DIR", "DIR"):
            patch.setenv(f"WANDB_{name}", str(folder))
        patch.setenv("WANDB_BASE_URL", server.url)
        patch.setenv("WANDB_API_KEY", "k" * 40)
        patch.setenv("WANDB_ERROR_REPORTING", "false")
        patch.setenv("HTTPS_PROXY", server.url)  # where a call to another host would end
        yield server
        import wandb

        wandb.teardown()
        patch.undo()
        assert server.refused == [], "operations that the stand-in does not know"


@pytest.fixture(autouse=True)
def closed(monkeypatch):
    "Every store is closed while the server still answers."
    opened, plain = [], WandbStore.__init__

    def init(self, *args):
        plain(self, *args)
        opened.append(self)

    monkeypatch.setattr(WandbStore, "__init__", init)
    yield
    for store in opened:
        store.close()


@pytest.fixture
def url(server):
    return f"wandb:kitchen/{uuid4().hex[:8]}"


@pytest.fixture
def registry(url, tmp_path):
    "Three versions, v1 is champion."
    found = Registry.open(url)
    versions(found, tmp_path / "models", 3)
    found.promote("v1", "me", "first")
    return found


def held(server, registry, kind="model"):
    "What the stand-in holds, in order."
    return [
        a
        for a in server.artifacts.values()
        if (a["project"], a["type"], a["state"]) == (registry.store.project, kind, "COMMITTED")
    ]


def aliases(server, registry):
    return [sorted({*a["aliases"]} - {"latest"}) for a in held(server, registry)]


@pytest.mark.parametrize("contract", CONTRACT, ids=lambda act: act.__name__)
def test_a_hosted_registry_keeps_the_contract(contract, url, tmp_path):
    contract(opener(url), tmp_path / "models")


# Races


def meddling(registry, act):
    "A store whose next decision is overtaken by `act` of another process."
    store = WandbStore(registry.store.entity, registry.store.project)
    plain, left = store.append, [act]

    def append(decide):
        def overtaken(events):
            event = decide(events)
            if left:
                left.pop()(registry)
            return event

        return plain(overtaken)

    store.append = append
    return Registry(store)


def test_an_event_that_was_overtaken_is_decided_again(registry, server, tmp_path):
    slow = meddling(registry, lambda r: r.promote("v2", "Ada", "faster", over="v1"))
    refused(["v3", "v2", "Ada"], slow.promote, "v3", "me", "", over="v1")
    assert registry.champion() == "v2" and len(registry.history()) == 5
    assert len(held(server, registry, "registry-event")) == 6  # the lost one is there, and void

    slow = meddling(registry, lambda r: r.note("v1", "in between", "Ada"))
    assert slow.promote("v3", "me", "better") == "v3" == registry.champion()
    assert registry.history().kind.tolist()[-2:] == ["note", "promote"]
    one_champion(registry)


def test_two_registrations_at_once_get_two_names_and_their_own_files(registry, tmp_path):
    first, second = model(tmp_path / "a", "first"), model(tmp_path / "b", "second")
    slow = meddling(registry, lambda r: r.register(first, {}, None))
    assert slow.register(second, {}, None) == "v5"
    for name, text in (("v4", "first"), ("v5", "second")):
        again = Registry(WandbStore("kitchen", registry.store.project))
        again.verify(name)
        assert (again.get(name).folder / "model.ubj").read_text() == text


def test_same_key_from_two_processes_is_one_event(registry):
    act = {"by": "loop", "reason": "week 3", "key": "week 3"}
    slow = meddling(registry, lambda r: r.promote("v2", **act))
    assert slow.promote("v2", **act) == "v2"
    assert registry.history().kind.tolist().count("promote") == 2


def start(work, *args):
    process = PROCESSES.Process(target=in_environment, args=(dict(os.environ), work, *args))
    process.start()
    return process


def in_environment(env, work, *args):
    os.environ.update(env)
    work(*args)


def promote_in_rounds(urls, version, over, barrier, queue):
    for url in urls:
        registry = Registry.open(url)
        barrier.wait()
        try:
            registry.promote(version, f"{version}'s friend", "race", over=over)
            queue.put((url, version, "done"))
        except Exception as e:
            queue.put((url, version, f"{type(e).__name__}: {e}"))


def test_of_two_processes_that_promote_over_the_same_champion_one_wins(server, tmp_path):
    registries = [Registry.open(f"wandb:kitchen/{uuid4().hex[:8]}") for _ in range(2)]
    for n, registry in enumerate(registries):
        versions(registry, tmp_path / f"models{n}", 3)
        registry.promote("v1", "me", "first")
    urls = [f"wandb:kitchen/{registry.store.project}" for registry in registries]
    queue, barrier = PROCESSES.Queue(), PROCESSES.Barrier(2)
    running = [start(promote_in_rounds, urls, v, "v1", barrier, queue) for v in ("v2", "v3")]
    found = [queue.get(timeout=60) for _ in urls * 2]
    for process in running:
        process.join()
    for url, registry in zip(urls, registries, strict=True):
        answers = {version: answer for at, version, answer in found if at == url}
        winner = registry.champion()
        loser = {"v2": "v3", "v3": "v2"}[winner]
        assert answers[winner] == "done" and f"{winner} has been champion" in answers[loser]
        assert answers[loser].startswith("RegistryError") and len(registry.history()) == 5
        one_champion(registry)


def promote_for_ever(url, acknowledged):
    registry = Registry.open(url)
    with open(acknowledged, "a") as log:
        for turn in range(sys.maxsize):
            version = "v2" if registry.champion() == "v1" else "v1"
            registry.promote(version, "loop", "again", key=f"turn{turn}")
            print(f"turn{turn}", file=log, flush=True)


def test_a_process_that_is_killed_leaves_whole_events(registry, tmp_path):
    log, url = tmp_path / "acknowledged", f"wandb:kitchen/{registry.store.project}"
    process = start(promote_for_ever, url, log)
    until = time.monotonic() + 60
    while not log.exists() or log.read_text().count("\n") < 3:
        assert process.is_alive() and time.monotonic() < until
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    keys = [event.key for event in registry.store.events() if event.key]
    assert {*log.read_text().split()} <= {*keys} and len(keys) == len({*keys})
    registry.promote("v3", "me", "the history goes on")
    one_champion(registry)


def test_what_was_uploaded_before_a_kill_is_no_version(registry, server, tmp_path):
    made = model(tmp_path / "a", "never registered")
    WandbStore("kitchen", registry.store.project).add_files("v4", made)  # and then the end
    refused(["v4"], registry.verify, "v4")
    assert registry.register(model(tmp_path / "b", "registered"), {}, None) == "v4"
    assert (registry.get("v4").folder / "model.ubj").read_text() == "registered"
    assert len(held(server, registry)) == 5


# Other hands on the project


def test_an_edited_event_is_named(registry, server):
    event = held(server, registry, "registry-event")[3]
    event["metadata"] = event["metadata"].replace("first", "later")  # of the last event
    for act in (registry.history, registry.champion, lambda: registry.get("v1")):
        refused(["registry-history:v3", "edited"], act)
    refused(["registry-history:v3"], registry.promote, "v2", "me", "")


def test_an_event_that_was_taken_away_is_missed(registry, server):
    held(server, registry, "registry-event")[1]["state"] = "DELETED"
    refused(["before", "register v3", "changed or deleted"], registry.history)


def test_files_that_were_changed_at_the_service_are_named(registry, server, tmp_path):
    registry.register(model(tmp_path / "a", "rare trees"), {}, None)
    place = server.file_place(server.contents(held(server, registry)[3])["model.ubj"])
    server.blobs[place] = b"other trees"
    other = Registry.open(f"wandb:kitchen/{registry.store.project}")
    refused(["v4", "model.ubj has changed"], other.promote, "v4", "me", "")
    other.verify("v3")


def test_equal_models_share_an_artifact_until_the_last_is_pruned(registry, server, tmp_path):
    made = model(tmp_path / "same")
    for name in ("v4", "v5"):
        assert registry.register(made, {}, None) == name
        registry.move(name, "archived", "gate", "no gain")
    assert len(held(server, registry)) == 4
    registry.store.drop_files("v4")
    registry.verify("v5")
    registry.prune(0)
    assert len(held(server, registry)) == 3
    refused(["v5", "pruned"], registry.verify, "v5")


# What people see at W&B


def test_aliases_show_what_the_history_says(registry, server):
    registry.move("v3", "challenger", "gate", "passed")
    registry.alias("v2", "best")
    shown = aliases(server, registry)
    assert shown[0] == ["champion", "registry-v1"]
    assert shown[1] == ["best", "candidate", "registry-v2"]
    assert shown[2] == ["challenger", "registry-v3"]
    assert json.loads(held(server, registry)[1]["metadata"])["metrics"] == {"f1": 0.2}


def test_an_alias_moved_by_hand_changes_nothing_and_is_put_back(registry, server):
    server.point(held(server, registry)[2], ["champion", "somebody's"])
    assert registry.champion() == "v1"
    registry.promote("v2", "me", "better")
    shown = aliases(server, registry)
    assert "champion" in shown[1] and "archived" in shown[0]
    assert shown[2] == ["candidate", "registry-v3", "somebody's"]


def test_an_event_counts_though_it_cannot_be_shown(registry, server):
    server.troubles["AddAliases"] = "not with this key"
    try:
        with pytest.warns(RuntimeWarning, match="promote v2.*not with this key"):
            registry.promote("v2", "me", "better")
    finally:
        server.troubles.clear()
    assert registry.champion() == "v2"
    registry.move("v3", "archived", "gate", "no gain")
    assert "champion" in aliases(server, registry)[1]  # the next event brings it up to date


def test_a_server_that_refuses_is_quoted(registry, server):
    for name in ("CreateArtifact", "ProjectArtifacts"):
        server.troubles[name] = "over quota"
        try:
            refused(["over quota"], registry.note, "v1", "text", "me")
        finally:
            server.troubles.clear()
    assert len(registry.history()) == 4


def test_a_training_run_is_a_run_with_config_and_summary(registry, server):
    registry.log_run("night", {"trees": 3}, {"f1": 0.5}, key="once")
    registry.log_run("night", {"trees": 3}, {"f1": 0.5}, key="once")
    (run,) = (r for r in server.runs.values() if r["project"] == registry.store.project
              and r.get("jobType") == "training")  # fmt: skip
    assert run["displayName"] == "night" and run["summary"]["f1"] == 0.5
    assert json.loads(run["config"])["trees"]["value"] == 3


def test_a_linked_registry_shows_the_champion_too(server, tmp_path):
    registry = Registry(WandbStore("kitchen", uuid4().hex[:8], "wandb-registry-model/genres"))
    versions(registry, tmp_path, 1)
    registry.promote("v1", "me", "first")
    (artifact,) = held(server, registry)
    linked = [names for at, what, names in server.links if what == artifact["id"]]
    assert linked == [["candidate", "registry-v1"], ["champion", "registry-v1"]]


def test_names_that_are_none():
    for entity, project in (("", "p"), ("kitchen", "a/b"), ("kitchen", "a:b")):
        refused(["expected a name"], WandbStore, entity, project)


# Without the service


OFFLINE = """
import json, sys
from pathlib import Path
from trending_now.registry.hosted import track_run
from trending_now.registry.registry import Registry
folder = track_run("kitchen", "p", "week 12", {"trees": 3}, {"f1": 0.5}, sys.argv[1])
try: Registry.open("wandb:kitchen/p").champion()
except Exception as e: refusal = f"{type(e).__name__}: {e}"
print(json.dumps([str(folder), refusal]))
"""


def framed(path):
    "The records of a LevelDB log: blocks of 32 KiB, a header of 7 bytes before each piece."
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, whole = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        length, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # the last piece of a record
            yield Record.FromString(whole)
            whole = b""


def test_a_run_logged_offline_holds_config_summary_and_model(tmp_path):
    made = model(tmp_path / "a", "x" * 70_000)
    env = {**os.environ, "WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path / "runs"),
           "WANDB_DATA_DIR": str(tmp_path / "data"), "HOME": str(tmp_path),
           "WANDB_CACHE_DIR": str(tmp_path / "cache"), "WANDB_CONFIG_DIR": str(tmp_path / "conf"),
           "WANDB_BASE_URL": "http://127.0.0.1:9", "WANDB_ERROR_REPORTING": "false"}  # fmt: skip
    env.pop("WANDB_API_KEY", None)
    (tmp_path / "runs").mkdir()
    work = [sys.executable, "-c", OFFLINE, made]
    done = subprocess.run(work, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    folder, refusal = json.loads(done.stdout)
    assert refusal.startswith("RegistryError") and "WANDB_API_KEY" in refusal
    (path,) = Path(folder).glob("run-*.wandb")
    assert Path(folder).name.startswith("offline-run-")
    records = list(framed(path))
    run = next(r.run for r in records if r.HasField("run"))
    assert (run.display_name, run.job_type) == ("week 12", "training")
    config = {item.key: item.value_json for item in run.config.update}
    assert config["trees"] == "3"
    summary = {i.key or i.nested_key[0]: i.value_json for r in records for i in r.summary.update}
    assert summary["f1"] == "0.5"
    (artifact,) = (r.artifact for r in records if r.HasField("artifact"))
    assert {entry.path for entry in artifact.manifest.contents} == {
        "model.ubj", "features/names.json", "checksums.json"}  # fmt: skip
    assert json.loads(artifact.metadata) == {"f1": 0.5}
    staged = [p for p in (tmp_path / "data").rglob("*") if p.is_file()]
    assert (made / "model.ubj").read_bytes() in [p.read_bytes() for p in staged]


def test_the_service_itself(tmp_path):
    if not SERVICE_KEY or "WANDB_ENTITY" not in os.environ:
        pytest.skip("W&B itself is asked only where WANDB_API_KEY and WANDB_ENTITY are set")
    url = f"wandb:{os.environ['WANDB_ENTITY']}/trending-now-test-{uuid4().hex[:8]}"
    work = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from registry_contract import contract_a_rollback_goes_to_the_champion_before as contract
from pathlib import Path
from trending_now.registry.registry import Registry
contract(lambda: Registry.open({url!r}), Path({str(tmp_path)!r}) / "models")
"""
    env = {k: v for k, v in os.environ.items() if k not in ("WANDB_BASE_URL", "HTTPS_PROXY")}
    env["WANDB_API_KEY"] = SERVICE_KEY
    done = subprocess.run([sys.executable, "-c", work], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
