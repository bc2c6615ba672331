"Every statement of the course text's sections 12.2.1 to 12.2.3 (and 12.P.1 to 12.P.3) has a cell that runs and shows or asserts something about it."
import json
from functools import cache
from pathlib import Path
import pytest

NBS = Path(__file__).parents[1] / "nbs"

# section, what the text says (in our words), notebook, a piece of the cell that is its counterpart
STATEMENTS = [
    ("12.2.1", "schedules: hourly, daily, weekly, monthly", "04_triggers", "LINES = {'hourly'"),
    ("12.2.1", "a schedule is simple and may not meet the need", "04_triggers", "def watched(trigger)"),
    ("12.2.1", "performance below a threshold", "04_triggers", "patient = PerformanceTrigger("),
    ("12.2.1", "data drift", "04_triggers", "for t in ('psi', 'chi2', 'classifier')"),
    ("12.2.1", "concept drift", "04_drift", "found = page_hinkley(stream_of_clicks"),
    ("12.2.1", "drift alarms on concept drift of known size", "04_drift", "score_card = marks(marked)"),
    ("12.2.1", "enough new data", "04_triggers", "VolumeTrigger(200).check(Status(new_rows=200))"),
    ("12.2.1", "by hand, for urgent fixes", "04_triggers", "request='Ana: studio names were mended'"),
    ("12.2.1", "several triggers at once", "04_triggers", "guarded = AnyOf("),
    ("12.2.1", "value of freshness: windows of growing age, tested on now", "04b_freshness", "by_age = {'v1': freshness_value("),
    ("12.2.1", "the same with the makers' credit profiles", "04b_freshness", "by_age['v2'] = freshness_value("),
    ("12.2.1", "gain against machine, operational and environmental cost", "04b_freshness", "best_interval(line['best guess'], round(cost, 1)"),
    ("12.2.1", "which frequency: all triggers on one frontier", "04c_tournament", "board = standings(played, 'never')"),
    ("12.2.2", "random sampling", "05_annotation", "sorted(random_sample(5, 5"),
    ("12.2.2", "stratified sampling", "05_annotation", "stratified_sample("),
    ("12.2.2", "active learning", "05_annotation", "uncertainty_sample("),
    ("12.2.2", "what is most informative, by label", "05_annotation", "at500 = {"),
    ("12.2.2", "latest window, all history, recent plus a sample", "05a_windows", "latest, everything, mixed = LatestWindow(4), AllHistory(), RecentPlusSample(4, sample=500)"),
    ("12.2.2", "what each of them buys", "05a_windows", "for k, (name, s) in enumerate(scores.items())"),
    ("12.2.2", "lineage: which rows", "05c_curation", "lineage.verify(root=shop)"),
    ("12.2.2", "lineage: which version of the data", "05b_revisions", "february, source = tracked('films.parquet', rev='february'"),
    ("12.2.2", "lineage: for each retraining run", "05c_curation", "assert first == second"),
    ("12.2.3", "stateless: all of a window, such as three months", "06_retraining", "quarter = Stateless(LatestWindow(12))"),
    ("12.2.3", "stateless pros and cons, stateful pros and cons", "06_retraining", "debate(last, lost, head_start)"),
    ("12.2.3", "stateless forgets less when the architecture changes", "06_retraining", "gain = {'continued for 12 weeks': m, 'trained afresh': afresh}"),
    ("12.2.3", "stateful: from a checkpoint, only new data", "06_retraining", "continued = Stateful(replay=50)"),
    ("12.2.3", "45 times cheaper", "06a_booster_updates", "s = saving(updated, 'gentle', 'full')"),
    ("12.2.3", "faster convergence", "06_retraining", "head_start = "),
    ("12.2.3", "less new data, each film used once", "06_retraining", "reads, m = [], booster"),
    ("12.2.3", "catastrophic forgetting and its mitigation (trees)", "06_retraining", "lost = {n: forgetting(R).forgetting"),
    ("12.2.3", "catastrophic forgetting and its mitigation (BERT)", "06b_bert_updates", "cures = pd.DataFrame("),
    ("12.2.3", "checkpoints are work", "06b_bert_updates", "assert same(straight, resumed) and not same(straight, weights_only)"),
    ("12.2.3", "model iteration: new features", "06_retraining", "Number of columns does not match"),
    ("12.2.3", "model iteration: a new output", "06_retraining", "thirteen = np.column_stack("),
    ("12.2.3", "hybrid: full retrains between stateful updates", "06_retraining", "Hybrid(full_every=3)"),
    ("12.2.3", "hybrid: how often to calibrate", "06a_booster_updates", "by_accuracy = calibration_period("),
    ("12.P.1", "weekly, in the service's settings", "04_triggers", "build(schedule='0 3 * * 1'"),
    ("12.P.1", "F1 from visitors' corrections", "04_triggers", "hasty, fired = first_alarm(1), first_alarm(2)"),
    ("12.P.2", "the last month of DVC-tracked data", "05b_revisions", "month = LatestWindow(4).select(february"),
    ("12.P.3", "stateless on the month", "06_retraining", "fresh = Stateless(LatestWindow(4))"),
    ("12.P.3", "BERT fine-tuned on the new week alone", "06b_bert_updates", "runs = pd.read_csv('results/06b_strategies.csv')"),
]


@cache
def cells(name): return [c for c in json.loads((NBS / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"] if c["cell_type"] == "code"]


@pytest.mark.parametrize("section, says, notebook, piece", STATEMENTS, ids=[f"{s}: {w}" for s, w, *_ in STATEMENTS])
def test_a_statement_of_the_course_text_has_a_cell_that_runs(section, says, notebook, piece):
    found = [c for c in cells(notebook) if piece in "".join(c["source"])]
    running = [c for c in found if not any(f"#| {flag}" in "".join(c["source"]) for flag in ("eval: false", "slow", "live", "notest"))]
    assert running, f"{notebook} has no running cell with {piece!r}"
    assert any(c["outputs"] or any(w in "".join(c["source"]) for w in ("assert", "test_", "expect_fail")) for c in running), f"{piece!r} shows and asserts nothing"
