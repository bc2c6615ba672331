"""The loop in Airflow and in Kubeflow: what is printed from the list of steps, every branch by the
state of its tasks, the real scheduler from new films to a rollback, and the same workspace as the
loop leaves, to the byte."""

import ast, json, re, shutil, subprocess, sys, threading, time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from airflow_branches import FAULTY
from conftest import ROOT

from trending_now.dags.dags import LocalAirflow, airflow_environment, dag_text
from trending_now.dags.pipeline import orchestration_files, pipeline_text
from trending_now.dags.tasks import end_run, packet_to_answer, run_task, take_in, week_of_run
from trending_now.delivery.dispatch import Rehearsal
from trending_now.delivery.workflows import workflow_files
from trending_now.delivery.delivery import (
    DELIVERED_WEEK, build_target, small_settings,
)  # fmt: skip
from trending_now.loop.loop import done
from trending_now.loop.steps import STEPS, links, run_weeks
from trending_now.loop.views import open_registry
from trending_now.loop.workspace import BusyError, Workspace, hold, start

FILE = ROOT / "trending_now/dags/airflow_files/films.py"
PIPELINE = ROOT / "trending_now/dags/kubeflow_files/films_pipeline"
KUBEFLOW = Path(sys.executable).parent.parent / "kubeflow/bin/python"


# What is printed


def test_the_files_of_the_project_are_printed_from_the_steps():
    assert orchestration_files() == {
        str(path.relative_to(ROOT)): path.read_text()
        for path in (FILE, PIPELINE.with_suffix(".py"))
    }


def test_the_pipeline_compiles_to_the_same_bytes(tmp_path):
    target = tmp_path / "films_pipeline.yaml"
    done = subprocess.run(
        [KUBEFLOW, PIPELINE.with_suffix(".py"), target], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert target.read_text() == PIPELINE.with_suffix(".yaml").read_text()


def test_reading_the_dag_file_does_no_work():
    tree = ast.parse(FILE.read_text())
    imported = {n.module for n in tree.body if isinstance(n, ast.ImportFrom)}
    imported |= {a.name for n in tree.body if isinstance(n, ast.Import) for a in n.names}
    assert {name.partition(".")[0] for name in imported} == {"airflow", "datetime", "os"}
    kinds = (
        ast.Expr,
        ast.Import,
        ast.ImportFrom,
        ast.FunctionDef,
        ast.ClassDef,
        ast.Assign,
        ast.With,
    )
    assert all(isinstance(node, kinds) for node in tree.body)


def test_a_step_more_is_a_task_more_in_both():
    odd = replace(STEPS["gate"], name="second_gate", reads=("gate",), writes=("smoke",))
    steps = {**STEPS, "second_gate": odd}
    assert 'second_gate = step("second_gate", 30)' in dag_text(steps)
    assert "gate >> second_gate" in dag_text(steps) and "second_gate >> ended" in dag_text(steps)
    assert "second_gate = film_step(" in pipeline_text(steps)
    for text in (dag_text(steps), pipeline_text(steps)):
        ast.parse(text)


def test_the_arrows_of_the_dag_are_those_of_the_steps():
    arrows = set(re.findall(r"(?m)^    (\w+) >> (\w+)$", FILE.read_text()))
    steps = {(a, b) for a, b in arrows if a in DELIVERED_WEEK and b in DELIVERED_WEEK}
    assert steps | {("look", "approve")} == {*links(DELIVERED_WEEK)}
    assert "look >> asked >> [person, approve]" in FILE.read_text()


# Tasks


def begun(path, weeks=0, **knobs):
    "A workspace with some weeks done by the loop, without deployments."
    settings = small_settings(patience=120.0, watch_seconds=0.0, watch_every=0.2)
    for section, changes in knobs.items():
        settings = replace(settings, **{section: replace(getattr(settings, section), **changes)})
    workspace = Workspace(path)
    start(workspace, settings)
    run_weeks(workspace, range(weeks))
    return workspace


def test_a_run_keeps_its_week_and_a_busy_workspace_is_said(tmp_path):
    films = begun(tmp_path / "films", triggers={"volume": 0})
    for name in STEPS:
        run_task(name, "scheduled__2026-11-30T06:00", workspace=films)
    assert end_run("scheduled__2026-11-30T06:00", films) == ""
    assert not run_task(
        "train", "scheduled__2026-11-30T06:00", workspace=films
    )  # again: nothing new
    assert done(films) == 1 and week_of_run(films, "another") == 1
    assert take_in(films)[1] == 0  # no number of films starts a week
    with hold(Workspace(tmp_path / "films")), pytest.raises(BusyError, match="in use by"):
        run_task("ingest", "another", workspace=films)


def test_nobody_is_asked_where_the_rule_decides_or_a_person_has(tmp_path):
    from trending_now.loop.people import pause

    films = begun(tmp_path / "films", 4, registry={"approve": "ask"})
    for name in [*STEPS][: [*STEPS].index("approve")]:
        run_task(name, "five", workspace=films)
    assert packet_to_answer("five", films).startswith("# Promote v4 over v1?")
    films.approval = "auto"
    assert packet_to_answer("five", films) == ""
    films.approval = ""
    pause(films, "Ada", "a holiday")
    assert packet_to_answer("five", films) == ""  # the service rests: nothing is decided


# Every branch, by the state of its tasks


@pytest.fixture(scope="module")
def branches(tmp_path_factory):
    "The states of the tasks in each case."
    home = tmp_path_factory.mktemp("branches")
    cases = {"no trigger": begun(home / "quiet", triggers={"volume": 0})}
    films = begun(home / "films")
    for week, names in enumerate(
        [["rejected by the gate"], [], [], ["promoted", "rollback"], ["watch"]]
    ):
        run_weeks(films, [week])
        for name in names:
            shutil.copytree(films.path, home / name)
            cases[name] = Workspace(home / name)
    cases["refused"] = begun(home / "asked", 4, registry={"approve": "ask"})
    cases["approved"] = Workspace(home / "asked too")
    shutil.copytree(home / "asked", home / "asked too")
    damaged = home / "damaged"
    shutil.copytree(films.path, damaged)
    (damaged / "weeks/0002/films.parquet").write_bytes(b"half a fil")
    cases["damaged"] = Workspace(damaged)
    env = airflow_environment(home / "airflow", films.path, FILMS_RETRY_SECONDS=0)
    commands = [[sys.executable, "-m", "airflow", "db", "migrate"]]
    commands += [[sys.executable, str(ROOT / "tests/airflow_branches.py")]]
    commands[1] += [f"{name}={its.path}" for name, its in cases.items()]
    for words in commands:
        said = subprocess.run(
            words, env=env, cwd=ROOT, capture_output=True, text=True, timeout=1800
        )
    assert "FOUND" in said.stdout, (said.stdout + said.stderr)[-3000:]
    found = json.loads(said.stdout.partition("FOUND")[2].splitlines()[0])
    return cases, found


def skipped(states):
    return {task for task, state in states.items() if state == "skipped"}


PERSON, RELEASED = {"person", "go_ahead"}, {"undo"}


def test_the_dags_are_read_without_errors(branches):
    assert branches[1]["import errors"] == {}
    assert branches[1]["dags"] == ["films_arrivals", "films_week"]


def test_the_workspace_is_the_loop_s_in_every_branch_to_the_byte(branches):
    told = {case: states["same"] for case, states in branches[1].items() if "same" in states}
    assert len(told) == 7 and all(told.values()), told


def test_without_a_trigger_nothing_is_trained(branches):
    states = branches[1]["no trigger"]
    assert states["run"] == "success"
    assert skipped(states) == PERSON | {"curate", "train", "gate", "stage", "smoke", "undo"}


def test_a_candidate_that_the_gate_rejects_stays_a_candidate(branches):
    cases, found = branches
    states, films = found["rejected by the gate"], cases["rejected by the gate"]
    assert states["run"] == states["gate"] == states["train"] == "success"
    assert not films.read("gate", 1)["passed"] and "stage" in skipped(states)
    assert open_registry(films).stage(films.read("gate", 1)["version"]) == "candidate"


def test_a_version_that_the_rule_lets_through_is_promoted_and_deployed(branches):
    cases, found = branches
    states = found["promoted"]
    assert states["run"] == states["promote"] == states["deploy"] == "success"
    assert skipped(states) >= PERSON | {"undo"}
    assert open_registry(cases["promoted"]).running("production") == "v4"


def test_a_person_s_yes_and_no(branches):
    cases, found = branches
    assert skipped(found["approved"]) & PERSON == set()
    assert cases["approved"].read("outcome", 4)["what"] == "promoted"
    assert found["refused"]["run"] == found["refused"]["approve"] == "success"
    assert skipped(found["refused"]) & PERSON == {"go_ahead"}
    approval = cases["refused"].read("approval", 4)
    assert (approval["state"], approval["by"]) == ("rejected", "ada")
    assert approval["why"] == "the editor's opinion"
    assert open_registry(cases["refused"]).stage("v4") == "archived"


def test_a_run_that_was_rolled_back_after_a_deployment_has_failed(branches):
    cases, found = branches
    assert FAULTY == {"rollback": {"v4"}}
    states, registry = found["rollback"], open_registry(cases["rollback"])
    assert states["undo"] == states["end"] == "success"
    assert states["verdict"] == states["run"] == "failed"
    assert registry.champion() == registry.running("production") == "v1"
    assert "films_week.verdict" in (cases["rollback"].path / "runs/alerts.jsonl").read_text()


def test_a_run_in_which_the_watch_took_a_champion_back_has_failed(branches):
    cases, found = branches
    assert cases["watch"].read("outcome", 5)["what"] == "rolled back"
    assert found["watch"]["verdict"] == found["watch"]["run"] == "failed"


def test_a_task_that_fails_for_good_leaves_the_week_open_and_tells(branches):
    cases, found = branches
    states, films = found["damaged"], cases["damaged"]
    assert states["run"] == "failed" and states["end"] == "upstream_failed"
    assert done(films) == 5 and "is damaged" in (films.path / "runs/alerts.jsonl").read_text()


# The real scheduler


def stop_services(workspace, settings):
    for name in ("staging", "production"):
        build_target(settings.delivery, name, workspace.path / "services").stop()


def kill_when_it_runs(workspace, version):
    "End the production process of a version as soon as it has taken over."
    path = workspace.path / "services/production/service.json"
    while True:
        try:
            known = json.loads(path.read_text())
            if known["image"].endswith(f"/{version}"):
                break
        except (OSError, ValueError):
            pass
        time.sleep(0.05)
    while not workspace.has("deployed", 4):
        time.sleep(0.05)
    psutil.Process(known["pid"]).kill()


def test_the_whole_way_by_the_real_scheduler(tmp_path):
    """New films, asset, training, gate, registry, dispatch, staging, smoke tests, approval by REST,
    production, a process that dies, rollback; the run fails, and each is in the history."""
    films, runner = Workspace(tmp_path / "films"), tmp_path / "runner"
    variables = {"TARGET": "local", "REGISTRY": "local"}
    with Rehearsal(runner, workflow_files(), variables, faults=["503"]) as github:
        begun(films.path, 3, registry={"approve": "ask"}, delivery={
            "watch_seconds": 4.0, "watch_every": 0.5, "repository": "films/page",
            "github": github.url})  # fmt: skip
        (runner / ".trending_now").symlink_to(films.path)
        told = {"FILMS_RETRY_SECONDS": 1, "GITHUB_TOKEN": github.token}
        try:
            with LocalAirflow(tmp_path / "airflow", films.path, **told) as airflow:
                weeks = two_weeks(airflow, films)
        finally:
            stop_services(films, small_settings())
    (asset, first), (manual, second) = weeks
    assert asset == "asset_triggered" and first["run"] == "success"
    assert skipped(first) == PERSON | {"undo"} and first["smoke"] == "success"
    assert manual == "manual" and second["run"] == second["verdict"] == "failed"
    assert second["undo"] == second["end"] == "success"
    registry = open_registry(films)
    assert registry.champion() == registry.running("production") == "v1"
    approval = films.read("approval", 4)
    assert (approval["by"], approval["why"]) == ("ada", "it looks good")
    found = [(row.kind, row.version) for row in registry.history().itertuples()]
    order = [
        ("register", "v4"), ("move", "v4"), ("deploy", "v4"), ("note", "v4"), ("promote", "v4"),
        ("deploy", "v4"), ("rollback", "v1"), ("deploy", "v1"),
    ]  # fmt: skip
    at = 0
    for wanted in order:
        at = 1 + found.index(wanted, at)
    dispatched = [run["display_title"].split()[:2] for run in github.runs]
    assert dispatched == [
        ["deploy-staging", "v4"], ["deploy-production", "v1"], ["deploy-production", "v4"],
        ["rollback", "v1"],
    ]  # fmt: skip
    alerts = (films.path / "runs/alerts.jsonl").read_text()
    assert "films_week.verdict" in alerts and "v4 was taken back to v1" in alerts
    homes = [p.info["environ"] or {} for p in psutil.process_iter(["environ"])]
    assert str(tmp_path / "airflow") not in [env.get("AIRFLOW_HOME") for env in homes]


def two_weeks(airflow, films):
    "(how it was started, states) of a week that new films start, and of one that ends in trouble."
    assert airflow.rest("GET", "importErrors")["total_entries"] == 0
    for dag in ("films_week", "films_arrivals"):
        airflow.unpause(dag)
    arrivals = airflow.trigger("films_arrivals")
    assert airflow.wait_for_run("films_arrivals", arrivals) == "success"
    first = airflow.wait_for("a week", lambda: airflow.runs("films_week"))[0]["dag_run_id"]
    ends = [airflow.wait_for_run("films_week", first)]
    second = airflow.trigger("films_week")
    question = airflow.wait_for_question("films_week", second)
    assert question["body"].startswith("# Promote v4 over v1?")
    killer = threading.Thread(target=kill_when_it_runs, args=(films, "v4"), daemon=True)
    killer.start()
    airflow.answer("films_week", second, True, "it looks good")
    ends.append(airflow.wait_for_run("films_week", second))
    kinds = {run["dag_run_id"]: run["run_type"] for run in airflow.runs("films_week")}
    return [(kinds[run], {"run": end, **airflow.states("films_week", run)})
            for run, end in zip((first, second), ends)]  # fmt: skip


def test_a_week_is_announced_once_and_not_while_the_service_rests(tmp_path):
    from trending_now.dags.tasks import films_that_start_a_week
    from trending_now.loop.people import go_on, pause

    films = begun(tmp_path / "films", 1)
    pause(films, "Ada", "a holiday")
    assert films_that_start_a_week(films) == 0
    go_on(films, "Ada", "back again")
    assert films_that_start_a_week(films) > 0 and films_that_start_a_week(films) == 0
    run_weeks(films, [1])
    assert films_that_start_a_week(films) > 0


def test_airflow_that_cannot_start_leaves_no_process_behind(tmp_path):
    airflow = LocalAirflow(tmp_path / "airflow", tmp_path / "films")
    airflow.env["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = "sqlite:////no/such/folder/airflow.db"
    with pytest.raises(RuntimeError, match="unable to open database"):
        airflow.start()
    homes = [p.info["environ"] or {} for p in psutil.process_iter(["environ"])]
    assert str(tmp_path / "airflow") not in [env.get("AIRFLOW_HOME") for env in homes]


def test_each_arrow_of_the_text_s_loop_was_gone_in_a_branch(branches):
    "Monitoring, trigger, retraining, evaluation, deployment, monitoring, rollback (12.5.1)."
    behind = {}
    for before, after in links(DELIVERED_WEEK):
        behind.setdefault(after, set()).update({before}, behind.get(before, set()))
    for before, after, case in (
        ("evaluate", "trigger", "promoted"),
        ("trigger", "train", "promoted"),
        ("train", "gate", "rejected by the gate"),
        ("gate", "deploy", "promoted"),
        ("deploy", "watch", "promoted"),
        ("watch", "undo", "rollback"),
    ):
        states = branches[1][case]
        assert before in behind[after]
        assert states[before] == states[after] == "success", (case, before, after)


def test_stopping_reaches_children_in_groups_of_their_own_and_survives_a_dead_parent(tmp_path):
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    parent = (
        "import subprocess, sys, time; "
        f"print(subprocess.Popen([sys.executable, '-c', {stubborn!r}], "
        "start_new_session=True).pid, flush=True); time.sleep(600)"
    )
    airflow = LocalAirflow(tmp_path / "airflow", tmp_path / "films")
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    alive = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True)
    child = psutil.Process(int(alive.stdout.readline()))
    time.sleep(1)  # until the child ignores the signal
    airflow._processes = {"server": dead, "scheduler": alive}
    airflow.stop(patience=1)
    ended = not child.is_running() or child.status() == psutil.STATUS_ZOMBIE
    assert ended and alive.poll() is not None
