"""The film service as a pipeline of Kubeflow, a task a step."""

# Written by trending_now.dags.pipeline from the list of steps: change page `pipeline`.
# `python films_pipeline.py FILE` compiles it.

import sys

from kfp import compiler, dsl

# To be replaced: an image that holds the project with its extra `delivery`, and kfp
IMAGE = "registry.example/films-kubeflow:1"


@dsl.component(base_image=IMAGE, packages_to_install=[], install_kfp_package=False)
def film_step(name: str, run: str, workspace: str) -> bool:
    """A step of the week that a run does; whether it left anything."""
    from trending_now.dags.tasks import run_task
    from trending_now.loop.workspace import Workspace

    return run_task(name, run, workspace=Workspace(workspace))


@dsl.component(base_image=IMAGE, packages_to_install=[], install_kfp_package=False)
def end_of_week(run: str, workspace: str):
    """The week is done; a week in which something was taken back fails."""
    from trending_now.dags.tasks import end_run
    from trending_now.loop.workspace import Workspace

    taken_back = end_run(run, Workspace(workspace))
    if taken_back:
        raise RuntimeError(taken_back)


@dsl.pipeline(name="films-week", description="A week, from new films to production or back.")
def films_week(workspace: str):
    run = dsl.PIPELINE_JOB_ID_PLACEHOLDER  # a name of its own for each run
    ingest = film_step(name="ingest", run=run, workspace=workspace)
    ingest.set_display_name("ingest").set_caching_options(False).set_retry(3)
    lineup = film_step(name="lineup", run=run, workspace=workspace).after(ingest)
    lineup.set_display_name("lineup").set_caching_options(False).set_retry(3)
    predict = film_step(name="predict", run=run, workspace=workspace).after(lineup)
    predict.set_display_name("predict").set_caching_options(False).set_retry(3)
    serve = film_step(name="serve", run=run, workspace=workspace).after(predict)
    serve.set_display_name("serve").set_caching_options(False).set_retry(3)
    evaluate = film_step(name="evaluate", run=run, workspace=workspace).after(serve)
    evaluate.set_display_name("evaluate").set_caching_options(False).set_retry(3)
    look = film_step(name="look", run=run, workspace=workspace).after(serve)
    look.set_display_name("look").set_caching_options(False).set_retry(3)
    approve = film_step(name="approve", run=run, workspace=workspace).after(look)
    approve.set_display_name("approve").set_caching_options(False).set_retry(3)
    promote = film_step(name="promote", run=run, workspace=workspace).after(approve)
    promote.set_display_name("promote").set_caching_options(False).set_retry(3)
    trigger = film_step(name="trigger", run=run, workspace=workspace).after(evaluate)
    trigger.set_display_name("trigger").set_caching_options(False).set_retry(3)
    curate = film_step(name="curate", run=run, workspace=workspace).after(promote, trigger)
    curate.set_display_name("curate").set_caching_options(False).set_retry(3)
    train = film_step(name="train", run=run, workspace=workspace).after(curate)
    train.set_display_name("train").set_caching_options(False).set_retry(3)
    gate = film_step(name="gate", run=run, workspace=workspace).after(train)
    gate.set_display_name("gate").set_caching_options(False).set_retry(3)
    release = film_step(name="release", run=run, workspace=workspace).after(gate)
    release.set_display_name("release").set_caching_options(False).set_retry(3)
    stage = film_step(name="stage", run=run, workspace=workspace).after(release)
    stage.set_display_name("stage").set_caching_options(False).set_retry(3)
    smoke = film_step(name="smoke", run=run, workspace=workspace).after(stage)
    smoke.set_display_name("smoke").set_caching_options(False).set_retry(3)
    deploy = film_step(name="deploy", run=run, workspace=workspace).after(smoke)
    deploy.set_display_name("deploy").set_caching_options(False).set_retry(3)
    watch = film_step(name="watch", run=run, workspace=workspace).after(deploy)
    watch.set_display_name("watch").set_caching_options(False).set_retry(3)
    undo = film_step(name="undo", run=run, workspace=workspace).after(watch)
    undo.set_display_name("undo").set_caching_options(False).set_retry(3)
    end = end_of_week(run=run, workspace=workspace).after(undo)
    end.set_display_name("end").set_caching_options(False)


if __name__ == "__main__":
    compiler.Compiler().compile(films_week, sys.argv[1])
