"""The film service in Airflow, a task a step."""

# Written by trending_now.dags.dags from the list of steps: change page `dags`. The variable
# FILMS_WORKSPACE says where the system lies, FILMS_RETRY_SECONDS how long a retry waits.

import os
from datetime import timedelta

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk import (
    DAG,
    Asset,
    AssetOrTimeSchedule,
    CronTriggerTimetable,
    Param,
    TriggerRule,
    task,
)
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

ENOUGH_FILMS = Asset("enough_new_films")
RETRY = timedelta(seconds=float(os.environ.get("FILMS_RETRY_SECONDS", "60")))


def tell(context):
    "A task has failed for good."
    from trending_now.dags.tasks import alert

    instance = context["ti"]
    alert(f"{instance.dag_id}.{instance.task_id}", repr(context.get("exception")))


def run_step(name, ti, run_id):
    "A step of the week that this run does; one with nothing to do is skipped."
    from trending_now.dags.tasks import run_task

    answer = ti.xcom_pull(task_ids="person", key="answer") if name == "approve" else None
    if not run_task(name, run_id, answer):
        raise AirflowSkipException(f"{name}: there was nothing to do")


def step(name, minutes, rule=TriggerRule.NONE_FAILED):
    "The task of a step."
    return PythonOperator(
        task_id=name,
        python_callable=run_step,
        op_args=[name],
        trigger_rule=rule,
        execution_timeout=timedelta(minutes=minutes),
    )


class Approval(ApprovalOperator):
    "Asks a person, and keeps the answer also where it is no."

    def execute_complete(self, context, event):
        if "error" not in event:
            who = (event["responded_by_user"] or {}).get("name", "somebody")
            why = (event["params_input"] or {}).get("reason") or "no reason was given"
            answer = (event["chosen_options"] == ["Approve"], who, why)
            context["ti"].xcom_push(key="answer", value=answer)
        return super().execute_complete(context, event)


DEFAULTS = {
    "retries": 3,
    "retry_delay": RETRY,
    "retry_exponential_backoff": 2,
    "max_retry_delay": timedelta(hours=1),
    "execution_timeout": timedelta(minutes=30),
    "on_failure_callback": tell,
}
ONCE = {"catchup": False, "max_active_runs": 1}


def at(cron):
    "A schedule whose first run lies ahead, not in the past."
    return CronTriggerTimetable(cron, timezone="UTC", run_immediately=timedelta(minutes=5))


with DAG(
    "films_arrivals",
    schedule=at("0 5 * * *"),
    default_args=DEFAULTS,
    doc_md="Takes in films; enough of them start a week.",
    **ONCE,
):

    @task(outlets=[ENOUGH_FILMS])
    def take_in(outlet_events=None):
        from trending_now.dags.tasks import films_that_start_a_week

        new = films_that_start_a_week()
        if not new:
            raise AirflowSkipException("too few new films, or they have been announced")
        outlet_events[ENOUGH_FILMS].extra = {"new": new}

    take_in()


with DAG(
    "films_week",
    schedule=AssetOrTimeSchedule(timetable=at("0 6 * * 1"), assets=[ENOUGH_FILMS]),
    max_active_tasks=1,
    default_args=DEFAULTS,
    doc_md="A week: from new films to a version in production, or back.",
    **ONCE,
):
    ingest = step("ingest", 30)
    lineup = step("lineup", 30)
    predict = step("predict", 30)
    serve = step("serve", 30)
    evaluate = step("evaluate", 30)
    look = step("look", 30)
    approve = step("approve", 30, TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS)
    promote = step("promote", 30)
    trigger = step("trigger", 30)
    curate = step("curate", 30)
    train = step("train", 30)
    gate = step("gate", 30)
    release = step("release", 30)
    stage = step("stage", 180)
    smoke = step("smoke", 30)
    deploy = step("deploy", 180)
    watch = step("watch", 1500)
    undo = step("undo", 180)

    @task.branch
    def ask(ti=None, run_id=None):
        from trending_now.dags.tasks import packet_to_answer

        packet = packet_to_answer(run_id)
        ti.xcom_push(key="packet", value=packet)
        return "person" if packet else "approve"

    asked = ask()
    person = Approval(
        task_id="person",
        subject="May this version serve?",
        body="{{ ti.xcom_pull(task_ids='ask', key='packet') }}",
        params={"reason": Param("", type="string", title="Why?")},
        execution_timeout=None,
        response_timeout=timedelta(days=5),
        retries=0,
    )
    go_ahead = EmptyOperator(task_id="go_ahead")

    @task(trigger_rule=TriggerRule.NONE_FAILED)
    def end(run_id=None):
        from trending_now.dags.tasks import end_run

        return end_run(run_id)

    @task(retries=0)
    def verdict(taken_back):
        if taken_back:
            raise AirflowFailException(taken_back)

    ended = end()
    verdict(ended)
    ingest >> lineup
    lineup >> predict
    predict >> serve
    serve >> evaluate
    serve >> look
    look >> asked >> [person, approve]
    person >> go_ahead >> approve
    approve >> promote
    evaluate >> trigger
    promote >> curate
    trigger >> curate
    curate >> train
    train >> gate
    gate >> release
    release >> stage
    stage >> smoke
    smoke >> deploy
    deploy >> watch
    watch >> undo
    undo >> ended
