"""Updates of real processes, the model's service over HTTP, clouds by their own descriptions,
workflows by the tools that attackers' readers use, dispatches over a bad network, and a release
from the registry to the machines and back."""

import json, os, re, signal, subprocess, sys, threading, time
from pathlib import Path

import psutil
import pytest
import requests
import yaml
from conftest import ROOT

from trending_now.catalogue import labels, load_films
from trending_now.delivery import (
    DELIVERED_WEEK, DeliveryError, Deployment, DispatchError, LocalProcess, Rehearsal,
    build_target, delivery_files, deploy_version, dispatch, fetch_version, image_of,
    go_back, known_answers, roll_out, small_settings, smoke_test, workflow_files,
)  # fmt: skip
from trending_now.delivery.service import SERVICE
from trending_now.genres.booster import GenreBooster
from trending_now.loop.loop import digest
from trending_now.loop.steps import feeds, run_step, run_weeks
from trending_now.loop.views import open_registry
from trending_now.loop.workspace import Workspace, start
from trending_now.platform.event_log import EventLog
from trending_now.registry.registry import Registry
from trending_now.registry.stages import RegistryError
from trending_now.settings import DeliveryKnobs

WEB = (
    sys.executable, "-m", "http.server", "{port}", "--bind", "127.0.0.1", "--directory", "{image}",
)  # fmt: skip


@pytest.fixture
def images(tmp_path):
    "Folders that a web server serves: v1 and v3 are healthy, v2 is not."
    for name in ("v1", "v2", "v3"):
        (tmp_path / name).mkdir()
        if name != "v2":
            (tmp_path / name / "health").write_text(name)
    return {name: tmp_path / name for name in ("v1", "v2", "v3")}


@pytest.fixture
def page(tmp_path):
    with LocalProcess(tmp_path / "page", WEB) as target:
        yield target


def says(target):
    return requests.get(f"{target.url()}/health", timeout=5).text


# Updates of a process


def test_the_old_process_serves_until_the_new_one_is_healthy(page, images):
    assert page.wait(page.update(images["v1"])).good
    operation = page.update(images["v3"])
    assert says(page) == "v1"
    assert page.wait(operation).good and says(page) == "v3"


def test_an_image_that_is_never_healthy_leaves_the_old_one_alone(page, images):
    page.wait(page.update(images["v1"]))
    end = page.wait(page.update(images["v2"]), patience=0.5)
    assert (end.state, end.reason, end.serves) == ("rolled back", "status 404", str(images["v1"]))
    assert says(page) == "v1"


def test_an_image_that_ends_at_once_is_told_with_its_last_words(tmp_path, images):
    say = "import sys; sys.exit('no model in {image}, port {port}')"
    with LocalProcess(tmp_path / "broken", [sys.executable, "-c", say]) as target:
        end = target.wait(target.update(images["v1"]), patience=20)
    assert end.state == "failed" and f"no model in {images['v1']}" in end.reason


def test_a_name_of_an_image_is_no_command(tmp_path, images):
    hostile = tmp_path / "x; touch gone; $(touch gone)"
    hostile.mkdir()
    (hostile / "health").write_text("well")
    with LocalProcess(tmp_path / "page", WEB) as target:
        assert target.wait(target.update(hostile)).good
    assert not list(tmp_path.rglob("gone")) and not Path("gone").exists()


def test_a_process_outlives_whoever_started_it_and_is_stopped_by_another(tmp_path, images):
    code = (
        "import sys; from trending_now.delivery.targets import LocalProcess, roll_out; "
        "print(roll_out(LocalProcess(sys.argv[1], sys.argv[3:]), sys.argv[2], patience=30).state)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "page"), str(images["v1"]), *WEB],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.stdout.strip() == "succeeded", done.stderr
    page = LocalProcess(tmp_path / "page", WEB)
    url = page.url()
    assert says(page) == "v1"
    page.stop()
    assert page.url() == ""
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{url}/health", timeout=2)


UPDATER = (
    "import sys, time; from trending_now.delivery.targets import LocalProcess; "
    "target = LocalProcess(sys.argv[1], sys.argv[3:]); print(target.update(sys.argv[2]), "
    "flush=True); time.sleep(600)"
)


def updater(page, image):
    "Another process in the midst of an update."
    process = subprocess.Popen(
        [sys.executable, "-c", UPDATER, str(page.folder), str(image), *WEB],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    process.stdout.readline()
    return process


def test_two_updates_at_once_are_refused_and_one_whose_updater_was_killed_is_cleared(page, images):
    page.wait(page.update(images["v1"]))
    other = updater(page, images["v2"])
    with pytest.raises(DeliveryError, match=f"process {other.pid} is updating it"):
        page.update(images["v3"])
    left = json.loads((page.folder / "pending.json").read_text())
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert roll_out(page, images["v3"], patience=30).state == "succeeded" and says(page) == "v3"
    assert not psutil.pid_exists(left["pid"]) or (
        psutil.Process(left["pid"]).create_time() != left["started"]
        or psutil.Process(left["pid"]).status() == psutil.STATUS_ZOMBIE
    )
    ended = json.loads((page.folder / f"operations/{left['operation']}.json").read_text())
    assert ended["image"] == str(images["v2"]) and ended["state"] == "rolled back"
    assert ended["reason"] == "whoever began it has gone"


def test_a_number_that_belongs_to_another_process_by_now_is_not_killed(page, images):
    page.wait(page.update(images["v1"]))
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    known = json.loads((page.folder / "service.json").read_text())
    mine = psutil.Process(known["pid"])
    (page.folder / "service.json").write_text(json.dumps({**known, "pid": stranger.pid}))
    page.stop()
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()
    mine.kill()


def test_the_end_of_an_operation_is_kept_and_whoever_asks_gets_the_same(page, images):
    end = page.wait(page.update(images["v1"]))
    page.wait(page.update(images["v3"]))
    assert LocalProcess(page.folder, WEB).wait(end.operation) == end
    with pytest.raises(DeliveryError, match="no operation '000077'"):
        page.wait("000077")


def test_an_update_that_was_cut_off_while_it_took_over_is_finished(page, images, monkeypatch):
    page.wait(page.update(images["v1"]))
    old = json.loads((page.folder / "service.json").read_text())

    class Killed(BaseException):
        pass

    def killed(*args):
        raise Killed

    for name in ("_end", "_take_over"):  # before the old process is asked to leave; and not at all
        operation = page.update(images["v3"] if name == "_end" else images["v1"])
        with monkeypatch.context() as patched:
            where = "trending_now.delivery.targets"
            if name == "_end":
                patched.setattr(f"{where}._end", killed)
            else:
                patched.setattr(f"{where}.LocalProcess._take_over", killed)
            with pytest.raises(Killed):
                page.wait(operation)
        assert page.wait(operation).state == "succeeded"
    assert says(page) == "v1"
    assert not psutil.pid_exists(old["pid"]) or (
        psutil.Process(old["pid"]).status() == psutil.STATUS_ZOMBIE
    )


def test_what_has_died_has_no_address_and_is_started_again_without_a_check(page, images):
    roll_out(page, images["v1"], patience=20)
    psutil.Process(json.loads((page.folder / "service.json").read_text())["pid"]).kill()
    while page.url():
        time.sleep(0.05)
    end = page.wait(page.update(images["v2"]), patience=0.5)
    assert end.state == "failed" and end.serves == ""  # the old one is named, but does not serve
    assert roll_out(page, images["v1"], patience=20).state == "succeeded" and says(page) == "v1"


def test_a_check_that_breaks_off_takes_the_image_back(page, images):
    def breaks(url):
        if says(page) == "v3":
            requests.get("http://127.0.0.1:9", timeout=1)
        return []

    assert roll_out(page, images["v1"], breaks, 20).good
    end = roll_out(page, images["v3"], breaks, 20)
    assert (end.state, end.reason, says(page)) == (
        "rolled back",
        "the check: ConnectionError",
        "v1",
    )


def test_a_way_back_that_cannot_begin_is_said():
    class Busy:
        name = "page"

        def __init__(self):
            self.runs = "v1"

        def image(self):
            return self.runs

        def url(self):
            return "http://page"

        def update(self, image):
            if self.runs == "v2":
                raise DeliveryError("page is OPERATION_IN_PROGRESS")
            self.runs = image
            return image

        def wait(self, operation, patience):
            return Deployment("page", "v2", "v1", "failed", "IN_PROGRESS after 9 s")

    end = roll_out(Busy(), "v2")
    assert end.state == "failed" and "no way back: page is OPERATION_IN_PROGRESS" in end.reason


def test_a_service_is_not_told_our_secrets(tmp_path, images, monkeypatch):
    monkeypatch.setenv("GITHUB_TOKEN", "secret")
    monkeypatch.setenv("FILMS_COLOUR", "blue")
    say = (
        "import os, sys; sys.exit(str(os.environ.get('GITHUB_TOKEN')) + ' '"
        " + os.environ['FILMS_COLOUR'])"
    )
    with LocalProcess(
        tmp_path / "page", [sys.executable, "-c", say, "{image}", "{port}"]
    ) as target:
        assert target.wait(target.update(images["v1"])).reason.endswith("None blue")
        with pytest.raises(ValueError, match="no option"):
            target.update("--help")


def test_a_damaged_state_is_named(page, images):
    page.wait(page.update(images["v1"]))
    kept = (page.folder / "service.json").read_text()
    (page.folder / "service.json").write_text('{"image": ')
    with pytest.raises(DeliveryError, match="service.json is damaged"):
        page.image()
    (page.folder / "service.json").write_text(kept)


def test_a_wrong_image_is_taken_back_and_a_way_back_that_fails_is_said(page, images):
    def wrong(url):
        return ["wrong"] if requests.get(f"{url}/health", timeout=5).text == "v3" else []

    assert roll_out(page, images["v1"], wrong, 20).state == "succeeded"
    end = roll_out(page, images["v3"], wrong, 20)
    assert (end.state, end.reason, says(page)) == ("rolled back", "wrong", "v1")
    (images["v1"] / "health").rename(images["v1"] / "gone")  # and now there is no way back
    end = roll_out(page, images["v3"], wrong, 1)
    assert end.state == "failed" and "no way back: status 404" in end.reason and end.serves == ""


def test_a_process_that_died_is_started_again_by_the_next_roll_out(page, images):
    roll_out(page, images["v1"], patience=20)
    psutil.Process(json.loads((page.folder / "service.json").read_text())["pid"]).kill()

    def answers(url):
        try:
            return [] if requests.get(f"{url}/health", timeout=2).ok else ["status"]
        except requests.ConnectionError:
            return ["nobody answers"]

    assert roll_out(page, images["v1"], answers, 20).state == "succeeded" and says(page) == "v1"


# The service of a version


@pytest.fixture(scope="module")
def versions(tmp_path_factory):
    "Two sealed models of different films."
    folder, films = tmp_path_factory.mktemp("versions"), load_films()
    for name, some in (("v1", films.tail(400)), ("v2", films.head(400))):
        GenreBooster("v1", trees=5).fit(some, labels(some)).save(folder / name)
    return {name: folder / name for name in ("v1", "v2")}


@pytest.fixture(scope="module")
def service(versions, tmp_path_factory):
    "v1, served."
    with LocalProcess(tmp_path_factory.mktemp("services") / "page", SERVICE) as target:
        assert target.wait(target.update(versions["v1"]), patience=60).good
        yield target


def test_a_service_is_known_by_its_answers(service, versions):
    answers = {name: known_answers(path) for name, path in versions.items()}
    assert smoke_test(service.url(), "v1", answers["v1"]).passed
    report = smoke_test(service.url(), "v2", answers["v2"])
    assert "v1 answers, not v2" in report.wrong and len(report.wrong) == 1 + len(answers["v2"])
    assert not smoke_test(service.url(), "v1", {**answers["v1"], "Q0": {"Drama": 0.5}}).passed


def test_a_service_that_says_nan_or_nothing_fails_the_smoke_test(service, versions):
    answers = known_answers(versions["v1"])
    film = next(iter(answers))
    assert not smoke_test(
        service.url(), "v1", {film: dict.fromkeys(answers[film], float("nan"))}
    ).passed
    assert not smoke_test("http://127.0.0.1:9", "v1", answers, timeout=1).passed


def test_what_comes_from_outside_is_not_markup(service):
    url = service.url()
    asked = requests.get(f"{url}/film/<script>alert(1)", timeout=5)
    assert asked.status_code == 404 and "<script>alert" not in asked.text
    front = requests.get(url, timeout=5)
    assert "default-src 'none'" in front.headers["Content-Security-Policy"]
    assert requests.post(url, timeout=5).status_code == 405


def test_clicks_survive_an_update_of_the_model(versions, tmp_path):
    with LocalProcess(tmp_path / "page", SERVICE) as target:
        for name in ("v1", "v2"):
            assert target.wait(target.update(versions[name]), patience=60).good
            view = requests.get(f"{target.url()}/v1/page", timeout=20).json()["view"]
            told = {"view": view, "events": [{"kind": "exposure"}]}
            assert requests.post(f"{target.url()}/v1/events", json=told, timeout=20).ok
        assert requests.get(f"{target.url()}/ready", timeout=20).json()["ready"]
    with EventLog(tmp_path / "page/live/events.db") as log:
        assert log.read().model_version.tolist() == ["v1", "v2"]


def test_a_folder_that_was_changed_is_not_served(versions, tmp_path):
    copy = fetch(versions["v2"], tmp_path)
    with open(copy / "config.json", "a") as f:
        f.write(" ")
    with LocalProcess(tmp_path / "page", SERVICE) as target:
        end = target.wait(target.update(copy), patience=60)
    assert end.state == "failed" and "config.json" in end.reason


def fetch(folder, tmp_path):
    "A version through a registry, and out again."
    registry = Registry.open(f"local:{tmp_path}/registry")
    version = registry.register(folder, {}, None)
    return fetch_version(registry, version, tmp_path / "fetched")


# The settings and the commands


def test_images_and_targets_follow_the_settings(tmp_path):
    assert image_of(DeliveryKnobs(), tmp_path / "v7") == str(tmp_path / "v7")
    cloud = DeliveryKnobs(target="ecs", images="repo/tn")
    assert image_of(cloud, tmp_path / "v7") == "repo/tn:v7"
    with pytest.raises(ValueError, match="images"):
        image_of(DeliveryKnobs(target="ecs"), tmp_path / "v7")
    with pytest.raises(ValueError, match="staging"):
        build_target(cloud, "staging", tmp_path)
    with pytest.raises(ValueError, match="expected one of staging, production"):
        build_target(cloud, "moon", tmp_path)


def command(*args, cwd, **env):
    "The command line in a folder."
    return subprocess.run(
        [Path(sys.executable).parent / "trending-now", *map(str, args)],
        cwd=cwd, capture_output=True, text=True, timeout=120, env={**os.environ, **env},
    )  # fmt: skip


def test_the_commands_fetch_and_deploy_and_say_when_it_failed(tmp_path, versions):
    registry = Registry.open(f"local:{tmp_path}/films/registry")
    for path in versions.values():
        registry.register(path, {}, None)
    at = ["--workspace", tmp_path / "films"]
    done = command("fetch", "v1", "model", *at, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = command("deploy", "staging", "v1", "--model", "model/v1", *at, cwd=tmp_path)
    assert done.returncode == 0 and "staging: v1 succeeded" in done.stdout, done.stderr
    staging = build_target(DeliveryKnobs(), "staging", tmp_path / "films/services")
    try:
        with open(tmp_path / "films/registry/versions/v1/config.json", "a") as f:
            f.write(" ")
        done = command("fetch", "v2", "back", "--served", *at, cwd=tmp_path)
        assert done.returncode == 3 and "v2 never was champion" in done.stderr
        done = command("fetch", "v1", "again", *at, cwd=tmp_path)
        assert done.returncode == 3 and "config.json has changed" in done.stderr
        done = command("deploy", "staging", "v9", "--model", "model/v1", *at, cwd=tmp_path)
        assert done.returncode == 2 and "expected a folder named v9" in done.stderr
    finally:
        staging.stop()


def test_a_failed_deployment_has_an_exit_code_of_its_own(tmp_path, versions, monkeypatch):
    knobs = {"TRENDING_NOW_DELIVERY_PATIENCE": "1"}  # no service starts in a second
    Registry.open(f"local:{tmp_path}/films/registry").register(versions["v1"], {}, None)
    done = command("deploy", "staging", "v1", "--workspace", "films", cwd=tmp_path, **knobs)
    target = build_target(DeliveryKnobs(), "staging", tmp_path / "films/services")
    target.stop()
    assert done.returncode == 4 and "staging: v1 failed" in done.stderr, done.stdout


# What is generated


def test_the_files_of_the_project_are_the_generated_ones():
    for name, text in delivery_files().items():
        assert (ROOT / name).read_text() == text, name
    assert {p.name for p in (ROOT / ".github/workflows").iterdir()} == {
        Path(name).name for name in workflow_files()
    }


def test_a_workflow_deploys_the_version_of_the_event_by_the_project_s_own_command():
    for name, service in (("deploy-staging", "staging"), ("rollback", "production")):
        job = yaml.safe_load((ROOT / f".github/workflows/{name}.yml").read_text())["jobs"]["deploy"]
        deploy = f'trending-now deploy {service} "$VERSION" --model "model/$VERSION"'
        assert deploy in next(s["run"] for s in job["steps"] if s.get("id") == "deploy")
        assert job["env"]["VERSION"] == "${{ github.event.client_payload.version }}"


def test_zizmor_finds_what_a_careless_change_would_bring(tmp_path):
    path = tmp_path / ".github/workflows/deploy-staging.yml"
    path.parent.mkdir(parents=True)
    text = workflow_files()[".github/workflows/deploy-staging.yml"]
    zizmor = [Path(sys.executable).parent / "zizmor", "--offline", "--no-progress", tmp_path]
    zizmor += ["--persona", "pedantic"]
    for old, new, found in (
        ("", "", 0),
        ("persist-credentials: false", "fetch-depth: 1", 1),
        ('echo "no version: $VERSION"', "echo ${{ github.event.client_payload.version }}", 1),
        ("permissions: {}", "permissions: write-all", 1),
    ):
        path.write_text(text.replace(old, new, 1) if old else text)
        done = subprocess.run(zizmor, capture_output=True, text=True)
        assert bool(done.returncode) == bool(found), (new, done.stdout)


# Dispatches

JOB = """
name: deploy
run-name: deploy ${{ github.event.client_payload.version }} ${{ github.event.client_payload.key }}
'on': {repository_dispatch: {types: [deploy]}}
jobs:
  deploy:
    env: {VERSION: '${{ github.event.client_payload.version }}'}
    steps: [{id: deploy, run: echo "$VERSION" >> deployed}, {run: touch unmarked}]
"""
TO = {"repository": "films/page", "token": "rehearsal", "back_off": 0.02, "timeout": 0.5}


@pytest.mark.parametrize(
    "faults", [[], ["503"], ["500", "502", "429"], ["lost"], ["503", "lost", "504"]]
)
def test_whatever_the_network_does_a_wish_is_one_run(tmp_path, faults):
    with Rehearsal(tmp_path / "runner", {"a": JOB}, faults=faults) as github:
        for _ in range(2):
            dispatch("deploy", {"version": "v1"}, github=github.url, **TO)
    assert (tmp_path / "runner/deployed").read_text() == "v1\n" and len(github.runs) == 1
    assert not (tmp_path / "runner/unmarked").exists()


def test_eight_callers_of_one_wish_deploy_at_most_once_at_a_time(tmp_path):
    slow = JOB.replace('echo "$VERSION"', 'mkdir busy; sleep .1; rmdir busy; echo "$VERSION"')
    with Rehearsal(tmp_path / "runner", {"a": slow}) as github:
        calls = [
            threading.Thread(
                target=dispatch,
                args=("deploy", {"version": "v1"}),
                kwargs={"github": github.url, **TO},
            )
            for _ in range(8)
        ]
        for call in calls:
            call.start()
        for call in calls:
            call.join()
    assert {run["conclusion"] for run in github.runs} == {"success"}  # mkdir fails for a second one


def test_a_hostile_version_is_data(tmp_path):
    with Rehearsal(tmp_path / "runner", {"a": JOB}) as github:
        dispatch("deploy", {"version": "v1; touch gone $(touch gone)"}, github=github.url, **TO)
    assert (tmp_path / "runner/deployed").read_text() == "v1; touch gone $(touch gone)\n"
    assert not (tmp_path / "runner/gone").exists()


def test_what_cannot_pass_is_not_tried_again(tmp_path):
    with Rehearsal(tmp_path / "runner", {"a": JOB}) as github:
        begun = time.monotonic()
        with pytest.raises(DispatchError, match="401"):
            dispatch("deploy", {}, github=github.url, **{**TO, "token": "x", "back_off": 30})
        assert time.monotonic() - begun < 30
        with pytest.raises(DispatchError, match="422"):
            dispatch("", {}, github=github.url, **TO)
    assert github.runs == []


# A release


def small(**delivery):
    "Settings of a service to which something happens in each week, and that waits for nothing."
    return small_settings(
        **{"patience": 60.0, "watch_seconds": 0.0, "watch_every": 0.1, **delivery}
    )


class Memory:
    "A target that remembers what it was told, and fails when it is told to."

    def __init__(self, name):
        self.name, self.told, self.fails, self.runs = name, [], set(), ""

    def image(self):
        return self.runs

    def url(self):
        return f"http://{self.name}" if self.runs else ""

    def update(self, image):
        self.told.append(Path(image).name)
        return image

    def wait(self, operation, patience):
        before, version = self.runs, Path(operation).name
        if version in self.fails:
            return Deployment(
                self.name, operation, before, "rolled back" if before else "failed", "no"
            )
        self.runs = operation
        return Deployment(self.name, operation, before, "succeeded")


@pytest.fixture(scope="module")
def four_weeks(tmp_path_factory):
    "A workspace before the week in which v4 wins its trial, without deployments."
    workspace = Workspace(tmp_path_factory.mktemp("weeks") / "films")
    start(workspace, small())
    run_weeks(workspace, range(3))
    return workspace.path


@pytest.fixture
def films(four_weeks, tmp_path, monkeypatch):
    "A copy of it, with targets that remember; the smoke tests say what `wrong` holds."
    import shutil

    shutil.copytree(four_weeks, tmp_path / "films")
    workspace = Workspace(tmp_path / "films")
    workspace.targets = {name: Memory(name) for name in ("staging", "production")}
    workspace.wrong = {}

    def asked(url, version, answers, timeout=10.0):
        from trending_now.delivery.service import SmokeReport

        looks = workspace.wrong.get((url.removeprefix("http://"), version), [])
        return SmokeReport(url, ("all",), tuple(looks.pop(0) if looks else ()))

    monkeypatch.setattr("trending_now.delivery.delivery.smoke_test", asked)
    monkeypatch.setattr(
        "trending_now.delivery.delivery.known_answers", lambda model, films: {"Q1": {}}
    )
    return workspace


def deploys(workspace):
    history = open_registry(workspace).history()
    rows = history[history.kind == "deploy"]
    return [(row.version, row.reason.partition(":")[0]) for row in rows.itertuples()]


def test_a_version_goes_to_staging_and_the_champion_to_production(films):
    run_weeks(films, [3, 4], DELIVERED_WEEK)
    registry = open_registry(films)
    assert films.targets["staging"].told == ["v4"]
    assert films.targets["production"].told == ["v1", "v4"]
    assert registry.champion() == registry.running("production") == "v4"
    assert films.read("watched", 4) == {
        "version": "v4",
        "wrong": [],
        "untried": "",
    } and not films.has("undone", 4)


def test_a_version_that_fails_on_staging_meets_no_visitor(films):
    films.wrong["staging", "v4"] = [["a genre is off"], ["a genre is off"], ["a genre is off"]]
    run_weeks(films, [3, 4], DELIVERED_WEEK)
    registry = open_registry(films)
    assert films.read("smoke", 3)["wrong"] and registry.stage("v4") == "archived"
    assert "v4" not in films.read("lineup", 4)["versions"] and registry.champion() == "v1"
    assert "v4" not in films.targets["production"].told


def test_a_champion_that_fails_in_the_watch_is_taken_back_everywhere(films):
    films.wrong["production", "v4"] = [[], ["it hangs"], ["it hangs"]]
    run_weeks(films, [3, 4], DELIVERED_WEEK)
    registry = open_registry(films)
    assert films.read("undone", 4)["to"] == "v1" and films.read("undone", 4)["why"] == "it hangs"
    assert registry.champion() == registry.running("production") == "v1"
    assert "v4" in registry.standing().barred
    assert films.targets["production"].told == ["v1", "v4", "v1"]
    run_weeks(films, [5], DELIVERED_WEEK)  # and the loop goes on
    assert films.read("lineup", 5)["champion"] == "v1" and not films.has("deployed", 5)


def test_one_bad_look_is_no_failure(films):
    films.wrong["production", "v4"] = [[], ["a dropped request"], []]
    run_weeks(films, [3, 4], DELIVERED_WEEK)
    assert films.read("watched", 4)["wrong"] == [] and open_registry(films).champion() == "v4"


def test_a_deployment_that_the_platform_refuses_takes_the_promotion_back(films):
    films.targets["production"].fails = {"v4"}
    run_weeks(films, [3, 4], DELIVERED_WEEK)
    assert open_registry(films).champion() == "v1" and films.targets["production"].runs.endswith(
        "v1"
    )
    assert films.read("deployed", 4)["state"] == "refused"


def test_the_first_version_has_nobody_to_go_back_to_and_is_tried_again(films):
    films.targets["production"].fails = {"v1"}
    run_weeks(films, [3], DELIVERED_WEEK)
    undone = films.read("undone", 3)
    assert undone["to"] == "" and "no former champion" in undone["why"]
    films.targets["production"].fails = set()
    run_weeks(films, [4], DELIVERED_WEEK)
    assert open_registry(films).running("production") == "v4"


def test_a_champion_that_could_not_be_tried_stays_champion_and_is_deployed_next_week(films):
    from trending_now.dags.tasks import taken_back

    production = films.targets["production"]
    update = production.update

    def unreachable(image):
        if image.endswith("v4"):
            raise DeliveryError("the platform does not answer")
        return update(image)

    production.update = unreachable
    run_weeks(films, [3, 4], DELIVERED_WEEK)
    assert open_registry(films).champion() == "v4" and production.runs.endswith("v1")
    assert films.read("deployed", 4)["state"] == "failed" and not films.has("undone", 4)
    assert "could not be tried" in taken_back(films, 4) and taken_back(films, 3) == ""
    production.update = update
    run_weeks(films, [5], DELIVERED_WEEK)
    champion = open_registry(films).champion()
    assert open_registry(films).running("production") == champion


def test_the_step_in_which_a_workflow_failed_tells_a_bad_version_from_a_bad_day(
    films, tmp_path, monkeypatch
):
    from trending_now.delivery import delivery

    monkeypatch.setenv("GITHUB_TOKEN", "rehearsal")
    told = workflow_files()[".github/workflows/deploy-production.yml"]
    ours = 'trending-now deploy production "$VERSION" --model "model/$VERSION"'
    for fetch, deploy, state in (
        ("exit 3", "true", "failed"),
        ("echo fine", "(exit 4)", "refused"),
        ("echo fine", "(exit 5)", "failed"),
        ("echo fine", "echo fine", "running"),
    ):
        text = told.replace('trending-now fetch "$VERSION" model', fetch).replace(ours, deploy)
        with Rehearsal(tmp_path / f"{fetch}{deploy}", {"a": text}) as github:
            knobs = small(repository="films/page", github=github.url).delivery
            view = type("V", (), {"week": 4, "settings": type("S", (), {"delivery": knobs})})
            found = delivery._by_workflow(view, "production", "v4", "deploy-production")
        assert found[0] == state, found


def test_a_person_s_rollback_reaches_production_with_the_next_week(films):
    from trending_now.loop.people import roll_back as person

    run_weeks(films, [3, 4], DELIVERED_WEEK)
    person(films, "Ada", "readers complain")
    run_weeks(films, [5], DELIVERED_WEEK)
    assert open_registry(films).running("production") == "v1"


def test_steps_killed_at_any_point_end_in_the_same_state(films, tmp_path):
    import shutil

    class Killed(BaseException):
        pass

    films.wrong["production", "v4"] = [["it hangs"]] * 99
    shutil.copytree(films.path, tmp_path / "other/films")
    other = Workspace(tmp_path / "other/films")
    other.targets = {name: Memory(name) for name in ("staging", "production")}
    run_weeks(films, [3, 4], DELIVERED_WEEK)
    run_weeks(other, [3], DELIVERED_WEEK)
    for name, step in DELIVERED_WEEK.items():
        for kill_at in range(9):  # before the first write, the second, ...
            store, writes = open_registry(other).store, iter(range(99))
            append, write = store.append, other.write

            def killing(call, *args, **kwargs):
                if next(writes) == kill_at:
                    raise Killed
                return call(*args, **kwargs)

            store.append = lambda *a, **k: killing(append, *a, **k)
            other.write = lambda *a, **k: killing(write, *a, **k)
            try:
                run_step(name, other, 4, DELIVERED_WEEK)
                break
            except Killed:
                pass
            finally:
                del store.append, other.write
        run_step(name, other, 4, DELIVERED_WEEK)
    other.write("done", 4, {"week": 4})
    assert digest(other) == digest(films)


def test_the_history_tells_what_was_asked_and_what_came_of_it(films):
    run_weeks(films, [3, 4], DELIVERED_WEEK)
    assert (
        deploys(films)
        == [("v4", "staging")] * 2 + [("v1", "production")] * 2 + [("v4", "production")] * 2
    )
    events = [e for e in open_registry(films).store.events() if e.kind == "deploy"]
    assert [e.payload["state"] for e in events] == ["asked", "running"] * 3


def test_a_release_touches_what_it_declares_and_stands_behind_the_week(films):
    waits = feeds(DELIVERED_WEEK)
    assert [*DELIVERED_WEEK][11] == "gate" and "gate" in waits["release"]
    assert "release" in waits["stage"] and "stage" in waits["smoke"] and "watch" in waits["undo"]


def test_an_unknown_version_and_a_wrong_state_are_refused(films):
    registry = open_registry(films)
    with pytest.raises(RegistryError, match="no version 'v99'"):
        registry.log_deploy("v99", "staging", "running", "me", "")
    with pytest.raises(RegistryError, match="expected one of asked"):
        registry.log_deploy("v1", "staging", "fine", "me", "")
    with pytest.raises(RegistryError, match="environment ''"):
        registry.log_deploy("v1", "", "running", "me", "")


def test_a_real_release_by_the_project_s_workflows(tmp_path, four_weeks, monkeypatch):
    """New films, training, gate, staging, smoke tests, trial, approval, production, a process
    that dies, rollback: each is found again in the history."""
    import shutil

    shutil.copytree(four_weeks, tmp_path / "films")
    workspace = Workspace(tmp_path / "films")
    runner = workspace.path / "services/runner"
    variables = {"TARGET": "local", "REGISTRY": "local"}
    monkeypatch.setenv("GITHUB_TOKEN", "rehearsal")
    with Rehearsal(runner, workflow_files(), variables, faults=["503"]) as github:
        knobs = small(repository="films/page", github=github.url)
        (workspace.path / "settings.json").unlink()
        start(workspace, knobs)
        (runner / ".trending_now").symlink_to(workspace.path)
        targets = [
            build_target(knobs.delivery, n, workspace.path / "services")
            for n in ("staging", "production")
        ]
        try:
            run_weeks(workspace, [3], DELIVERED_WEEK)
            for name in [*DELIVERED_WEEK][:-2]:
                run_step(name, workspace, 4, DELIVERED_WEEK)
            known = json.loads((workspace.path / "services/production/service.json").read_text())
            psutil.Process(known["pid"]).kill()
            for name in ("watch", "undo"):
                run_step(name, workspace, 4, DELIVERED_WEEK)
            health = requests.get(f"{targets[1].url()}/health", timeout=5).json()
        finally:
            for target in targets:
                target.stop()
    assert health["version"] == "v1" == open_registry(workspace).champion()
    told = open_registry(workspace).history()
    found = [(row.kind, row.version) for row in told.itertuples()]
    order = [
        ("register", "v4"), ("move", "v4"), ("deploy", "v4"), ("note", "v4"), ("promote", "v4"),
        ("deploy", "v4"), ("rollback", "v1"), ("deploy", "v1"),
    ]  # fmt: skip
    at = 0
    for wanted in order:
        at = 1 + found.index(wanted, at)
    assert re.search("smoke tests have passed", " ".join(told.reason))


def test_a_way_back_without_a_former_image_says_so(page, images):
    roll_out(page, images["v1"], patience=20)
    assert go_back(page, "", "wrong").state == "failed"
    assert "look there" in go_back(page, str(images["v1"]), "wrong").reason


def test_deploying_a_version_compares_with_its_own_files(versions, tmp_path):
    with LocalProcess(tmp_path / "production", SERVICE) as target:
        done = deploy_version(target, DeliveryKnobs(patience=60.0), versions["v2"])
        assert done.good and smoke_test(target.url(), "v2", known_answers(versions["v2"])).passed
