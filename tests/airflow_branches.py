"""The weeks of some workspaces by `dag.test()`, in this process: prints the state of the run and of
each task as JSON. Airflow's tasks want the main thread, so the tests start this as a program.

    python tests/airflow_branches.py CASE=FOLDER ...

Each week is also done by the loop, on a copy of the workspace: `same` says whether both came out
alike, to the byte.

Services are not started here: a version "runs" as soon as it is asked for, except in the case
`rollback`, in which v4 answers wrongly."""

import json, os, shutil, sys
from datetime import datetime, timezone

from airflow.dag_processing.dagbag import DagBag
from airflow.utils.state import DagRunState

from trending_now.delivery import delivery
from trending_now.delivery.service import SmokeReport
from trending_now.delivery.targets import Deployment
from trending_now.loop.loop import digest, done
from trending_now.loop.steps import run_weeks
from trending_now.loop.workspace import Workspace

FAULTY = {"rollback": {"v4"}}


def stand_in(case):
    "Deployments and smoke tests of a case."

    def deployed(target, knobs, model, films):
        return Deployment(target.name, str(model), "", "succeeded")

    def asked(url, version, answers, timeout=10.0):
        wrong = ("its genres are those of another film",) * (version in FAULTY.get(case, ()))
        return SmokeReport(url, ("genres",), wrong)

    class Target:
        name = "service"

        def url(self):
            return "http://service"

    delivery.deploy_version, delivery.smoke_test = deployed, asked
    delivery.known_answers = lambda model, films: {"Q1": {}}
    delivery.build_target = lambda *args: Target()


def answer_with(person, option):
    "Let the approval be answered at once, as the scheduler would hand the answer on."
    event = {
        "chosen_options": [option],
        "params_input": {"reason": "the editor's opinion"},
        "responded_at": datetime.now(timezone.utc),
        "responded_by_user": {"id": "ada", "name": "ada"},
    }
    person.execute = lambda context: person.execute_complete(context, event)


def same(folder, twin, option):
    "Whether the loop comes to the same workspace as Airflow has."
    by_loop, by_airflow = Workspace(twin), Workspace(folder)
    by_loop.ask = lambda packet: (option == "Approve", "ada", "the editor's opinion")
    run_weeks(by_loop, range(done(by_airflow)), delivery.DELIVERED_WEEK)
    return digest(by_loop) == digest(by_airflow)


def main():
    bag = DagBag(os.environ["AIRFLOW__CORE__DAGS_FOLDER"])
    found = {"import errors": dict(bag.import_errors), "dags": sorted(bag.dags)}
    for argument in sys.argv[1:]:
        case, _, folder = argument.partition("=")
        os.environ["FILMS_WORKSPACE"] = folder
        stand_in(case)
        dag = bag.get_dag("films_week")
        option = "Reject" if case == "refused" else "Approve"
        answer_with(dag.get_task("person"), option)
        twin = f"{folder} by the loop"
        shutil.copytree(folder, twin)
        run = dag.test(run_after=datetime.now(timezone.utc))
        states = {one.task_id: str(one.state) for one in run.get_task_instances()}
        found[case] = {"run": str(DagRunState(run.state).value), **states}
        if case != "damaged":
            found[case]["same"] = same(folder, twin, option)
    print("FOUND" + json.dumps(found))


if __name__ == "__main__":
    main()
