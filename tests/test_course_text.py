"""Every statement of the course text's sections 12.2.1 to 12.2.3 (and 12.P.1 to 12.P.3) has a cell
that runs and shows or asserts something about it."""

import json
from functools import cache
from pathlib import Path
import pytest

NBS = Path(__file__).parents[1] / "nbs"

# section, what the text says (in our words), page, a piece of the cell that is its counterpart
STATEMENTS = [
    ("12.2.1", "schedules: hourly, daily, weekly, monthly", "when", "'hourly': '0 * * * *'"),
    (
        "12.2.1",
        "a schedule is simple and may not meet the need",
        "when",
        "pd.DataFrame(table).astype('Int64')",
    ),
    ("12.2.1", "performance below a threshold", "when", "patient = PerformanceTrigger("),
    ("12.2.1", "data drift", "when", "for test in ('psi', 'chi2', 'classifier')"),
    ("12.2.1", "concept drift", "drift", "found = page_hinkley(clicked"),
    (
        "12.2.1",
        "drift alarms on concept drift of known size",
        "drift",
        "pd.DataFrame(said, score_card.index)",
    ),
    ("12.2.1", "enough new data", "when", "VolumeTrigger(200).check(Status(new_rows=200))"),
    ("12.2.1", "by hand, for urgent fixes", "when", "request='Ana: studio names were mended'"),
    ("12.2.1", "several triggers at once", "when", "guarded = AnyOf("),
    (
        "12.2.1",
        "value of freshness: windows of growing age, tested on now",
        "freshness",
        "by_age = {'v1': freshness_value(",
    ),
    (
        "12.2.1",
        "the same with the records of all names",
        "freshness",
        "by_age['v3'] = freshness_value(",
    ),
    (
        "12.2.1",
        "gain against machine, operational and environmental cost",
        "freshness",
        "weeks = {said: [cadence(views, said).weeks",
    ),
    (
        "12.2.1",
        "which frequency: all triggers on one frontier",
        "tournament",
        "board = standings(played, 'never')",
    ),
    ("12.2.2", "random sampling", "labels", "sorted(random_sample(5, 5"),
    ("12.2.2", "stratified sampling", "labels", "stratified_sample("),
    ("12.2.2", "active learning", "labels", "uncertainty_sample("),
    ("12.2.2", "what is most informative, by label", "labels", "at500 = {"),
    (
        "12.2.2",
        "latest window, all history, recent plus a sample",
        "windows",
        "latest, everything = LatestWindow(4, months_per_week=3), AllHistory()",
    ),
    (
        "12.2.2",
        "what each of them buys",
        "windows",
        "year = pd.read_csv('results/windows_year.csv')",
    ),
    ("12.2.2", "lineage: which rows", "lineage", "lineage.verify(root=shop)"),
    (
        "12.2.2",
        "lineage: which version of the data",
        "revisions",
        "february, source = tracked('films.parquet', rev='february'",
    ),
    ("12.2.2", "lineage: for each retraining run", "lineage", "assert first == second"),
    (
        "12.2.3",
        "stateless: all of a window, such as three months",
        "strategies",
        "quarter = Stateless(LatestWindow(12, 3))",
    ),
    (
        "12.2.3",
        "stateless pros and cons, stateful pros and cons",
        "strategies",
        "debate(last, lost, head_start)",
    ),
    (
        "12.2.3",
        "stateless forgets less when the architecture changes",
        "strategies",
        "gain = {'continued for 12 weeks': model, 'trained afresh': afresh}",
    ),
    (
        "12.2.3",
        "stateful: from a checkpoint, only new data",
        "strategies",
        "continued = Stateful(replay=50)",
    ),
    ("12.2.3", "45 times cheaper", "trees", "ours = saving(due, 'gentle', 'full, 13 weeks')"),
    ("12.2.3", "faster convergence", "strategies", "head_start = "),
    ("12.2.3", "less new data, each film used once", "strategies", "reads, model = [], booster"),
    (
        "12.2.3",
        "catastrophic forgetting and its mitigation (trees)",
        "strategies",
        "lost = {name: forgetting(R).forgetting",
    ),
    (
        "12.2.3",
        "catastrophic forgetting and its mitigation (BERT)",
        "finetune",
        "cures = pd.DataFrame(",
    ),
    (
        "12.2.3",
        "checkpoints are work",
        "finetune",
        "assert same(straight, resumed) and not same(straight, weights_only)",
    ),
    ("12.2.3", "model iteration: new features", "strategies", "Number of columns does not match"),
    ("12.2.3", "model iteration: a new output", "strategies", "thirteen = np.column_stack("),
    (
        "12.2.3",
        "hybrid: full retrains between stateful updates",
        "strategies",
        "Hybrid(full_every=3)",
    ),
    ("12.2.3", "hybrid: how often to calibrate", "trees", "by_accuracy = calibration_period("),
    ("12.P.1", "weekly, in the service's settings", "when", "build(schedule='0 3 * * 1'"),
    (
        "12.P.1",
        "F1 from visitors' corrections",
        "when",
        "nervous = alarms(scores['from corrections'], .03, 2)",
    ),
    (
        "12.P.2",
        "the last month of DVC-tracked data",
        "revisions",
        "month = LatestWindow(4).select(february",
    ),
    ("12.P.3", "stateless on the month", "strategies", "month = Stateless(LatestWindow(4, 3))"),
    (
        "12.P.3",
        "BERT fine-tuned on the new week alone",
        "finetune",
        "runs = pd.read_csv('results/finetune_strategies.csv')",
    ),
    (
        "12.5.1",
        "monitor, trigger, retrain, evaluate, deploy: one list of steps",
        "steps",
        "scores', 0)['visitors']",
    ),
    ("12.5.1", "the diagram is drawn from the list", "steps", "Markdown(f'```mermaid"),
    (
        "12.5.2",
        "dependencies between the stages are declared",
        "views",
        "usual_training(View(ws, honest",
    ),
    ("12.5.2", "a run that is killed goes on", "loop", "digest(Workspace(killed)) == digest"),
    ("12.5.3", "candidates are stored, with what they came from", "registry", ".register("),
    ("12.5.3", "challenger against champion", "gate", "paired = compare_models("),
    ("12.5.3", "stages by test results and approvals", "stages", "fold(["),
    ("12.5.3", "from a candidate to a champion", "deciding", "history[history.version == waits]"),
    ("12.5.4", "rollback to the previous stable version", "registry", ".rollback("),
    ("12.5.4", "a degradation rolls back by itself", "watching", "Watch("),
    ("12.5.4", "how well automatic rollback works", "rollbacks", "record("),
    ("12.5.5", "a person approves, with a packet", "packet", "approve(registry"),
    ("12.5.5", "alerts to review", "chronicle", "alerts_table(service)"),
    ("12.5.5", "guiding the strategy itself", "review", "review("),
    ("12.P.5", "registration at W&B", "hosted", "track_run("),
]


@cache
def cells(page):
    "The code cells of a page, which is found by its name, whatever its part and number."
    (notebook,) = NBS.glob(f"[0-9]_*/[0-9][0-9]_{page}.ipynb")
    return [
        c
        for c in json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        if c["cell_type"] == "code"
    ]


@pytest.mark.parametrize(
    "section, says, page, piece", STATEMENTS, ids=[f"{s}: {w}" for s, w, *_ in STATEMENTS]
)
def test_a_statement_of_the_course_text_has_a_cell_that_runs(section, says, page, piece):
    running = [c for c in cells(page) if piece in "".join(c["source"])]
    assert running, f"{page} has no running cell with {piece!r}"
    assert any(
        c["outputs"] or any(w in "".join(c["source"]) for w in ("assert", "test_", "expect_fail"))
        for c in running
    ), f"{piece!r} shows and asserts nothing"
