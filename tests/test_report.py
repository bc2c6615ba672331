"""What is told about a running service: the chronicle, the price of trials, the report, the
reviews of its strategy."""

import importlib, json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import ROOT
from notebooks import load, notebooks, source
from trending_now.diners.visitors import service_time
from trending_now.genres.booster import seal
from trending_now.loop import chronicle, compared, report, timeline
from trending_now.loop.lanes import lane_of
from trending_now.loop.loop import run
from trending_now.loop.people import ask, request
from trending_now.loop.report import told, write_report
from trending_now.loop.views import open_registry
from trending_now.loop.workspace import Workspace, WorkspaceError, start
from trending_now.registry.stages import Event
from trending_now.settings import TrialsKnobs
from trending_now.settings import CurationKnobs, DinersKnobs, GenresKnobs, RegistryKnobs
from trending_now.settings import RetrainingKnobs, Settings, TriggersKnobs

reviewing = importlib.import_module("trending_now.loop.review")  # its name is a function, too
NEVER = Settings().lanes["never"]
SMALL = Settings(
    genres=GenresKnobs(trees=2),
    diners=DinersKnobs(visitors=60),
    trials=TrialsKnobs(test="interleaving", min_units=2, margin=0.2),
    retraining=RetrainingKnobs(strategy="trees"),
    lanes={},
)
HOSTILE = "<script>alert('x')</script>"


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    "Four weeks of a small service with one lane; a person has asked for a retrain."
    workspace = Workspace(tmp_path_factory.mktemp("ran"))
    settings = replace(SMALL, lanes={"never": NEVER})
    start(workspace, settings)
    request(workspace, "Ada", HOSTILE)
    run(workspace, settings, weeks=4, progress=False)
    return workspace


def model(folder, text):
    "A sealed folder that stands for a model."
    folder.mkdir(parents=True)
    (folder / "model.txt").write_text(text)
    seal(folder)
    return folder


WEEK = {
    "lineup": {
        "champion": "v1",
        "versions": ["v1"],
        "no_trial": "",
        "incident": "",
        "affected": "",
    },
    "trial": {"state": None, "decision": None},
    "approval": {"state": "none", "version": ""},
    "outcome": {"what": "nothing", "champion": "v1"},
    "trigger": {"fired": None, "held": "", "asked": [], "seen": 0},
    "quarantine": [],
    "reading": {"reading": {}, "held": []},
    "scores": {
        "films": 10,
        "champion": "v1",
        "versions": {"v1": {"tp": [6], "fp": [2], "fn": [2]}},
        "visitors": {"all": {"exposure": 5, "click": 9, "correction": 1}},
    },
}


def trial(name, kind, version, week, action, *reasons):
    decision = {"at": week, "action": action, "share": 0.5, "reasons": list(reasons)}
    state = {"plan": {"name": name}}
    return {"state": state, "decision": decision, "kind": kind, "version": version}


def gate(version, passed, reason, low):
    row = {"slice": "all", "value": "micro_f1", "films": 200, "difference": 0.02}
    row |= {"low": low, "high": 0.04 - low}
    told = {"version": version, "over": "v1", "level": 0.99, "passed": passed}
    return told | {"reasons": [reason], "table": [row, row | {"value": "log_loss"}]}


STORY = {
    0: {"gate": gate("v2", True, "a gain is shown", 0.01)},
    1: {
        "lineup": {**WEEK["lineup"], "versions": ["v1", "v2"]},
        "trial": trial("t1", "ABTrial", "v2", 1, "pass", "more clicks"),
        "approval": {"state": "approved", "version": "v2", "by": "Ben", "why": "read it"},
        "outcome": {
            "what": "promoted",
            "version": "v2",
            "by": "Ben",
            "why": "read it",
            "champion": "v2",
        },
    },
    2: {
        "lineup": {
            **WEEK["lineup"],
            "champion": "v2",
            "versions": ["v1", "v2"],
            "incident": "stale_rows",
            "affected": "v2",
        },
        "trial": trial("t2", "Watch", "v2", 2, "halt", "harm: clicks"),
        "outcome": {
            "what": "rolled back",
            "version": "v2",
            "by": "the watch",
            "why": "harm: clicks",
            "champion": "v1",
        },
        "gate": gate("v3", True, "a gain is shown", 0.01),
    },
    3: {
        "lineup": {**WEEK["lineup"], "versions": ["v1", "v3"]},
        "trial": trial("t3", "ABTrial", "v3", 3, "halt", "fewer clicks"),
        "outcome": {
            "what": "stopped",
            "version": "v3",
            "by": "the trial",
            "why": "fewer clicks",
            "champion": "v1",
        },
        "quarantine": [
            {"film_id": "1", "title": HOSTILE, "reason": "no title; odd"},
            {"film_id": "2", "title": "B", "reason": "no title"},
        ],
        "reading": {"reading": {}, "held": ["2 films, usually 40"]},
    },
    4: {
        "gate": gate("v4", False, "no gain is shown", -0.01),
        "trigger": {
            "fired": {"trigger": "schedule", "reason": "Monday"},
            "held": "",
            "asked": [1],
            "seen": 2,
        },
    },
    5: {},
}


def events(name, rows):
    "Events of a trial: (unit, variant, views, clicks) of each visitor."
    told = [
        {"unit": unit, "variant": variant, "kind": kind, "position": 0, "experiment": name}
        for unit, variant, views, clicks in rows
        for kind in ["exposure"] * views + ["click"] * clicks
    ]
    return pd.DataFrame(told)


def history(registry, folder):
    "Promoted, rolled back, stopped, refused: one version of each kind."

    def at(week):
        return service_time(week).isoformat()

    def new(week, name, parent):
        registry.register(
            model(folder / name, name),
            {"week": week, "parent": parent, "films": 9},
            None,
            by="the loop",
            at=at(week + 1),
            key="first" if week < 0 else f"{week}-register",
        )

    new(-1, "v1", "")
    registry.promote("v1", "the loop", "the first day", at=at(0), key="first champion")
    new(0, "v2", "v1")
    registry.move("v2", "staging-candidate", "the gate", "a gain", at=at(1), key="0-gate")
    registry.move("v2", "challenger", "the loop", "trial", at=at(1), key="1-challenger")
    registry.promote("v2", "Ben", "read it", over="v1", at=at(2), key="1-promote")
    registry.rollback("the watch", "harm: clicks", at=at(3), key="2-rollback")
    new(2, "v3", "v2")
    registry.move("v3", "challenger", "the loop", "trial", at=at(3), key="3-challenger")
    registry.move("v3", "archived", "the trial", "fewer clicks", at=at(4), key="3-stopped")
    new(4, "v4", "v1")
    registry.note("v4", "no gain is shown", "the gate", at=at(5), key="4-gate")


@pytest.fixture()
def made(tmp_path):
    "A workspace of six weeks, made by hand."
    workspace = Workspace(tmp_path / "ws")
    start(workspace, SMALL)
    history(open_registry(workspace), tmp_path / "models")
    for week, changes in STORY.items():
        for name, value in {**WEEK, **changes, "done": {"week": week}}.items():
            workspace.write(name, week, value)
        if "gate" in changes:
            workspace.write("cost", week, {"cpu_seconds": 2.0, "films": 9})
            workspace.write("trained", week, {"parent": "v1", "films": 9})
    both = [("a", "champion", 2, 4), ("b", "champion", 2, 2)]
    workspace.write("events", 1, events("t1", [*both, ("c", "candidate", 4, 2)]))
    return workspace


def test_every_version_has_a_fate_with_its_reason_and_who_said_so(made):
    table = chronicle.versions_table(made).set_index("version")
    assert table.fate.to_dict() == {
        "v1": "serves",
        "v2": "rolled back: v1 serves",
        "v3": "stopped by its trial",
        "v4": "waits as candidate",
    }
    assert table.by.tolist()[1:] == ["the watch", "the trial", "the gate"]
    assert table.why.tolist()[1:] == ["harm: clicks", "fewer clicks", "no gain is shown"]
    assert table.born.tolist() == [-1, 0, 2, 4]
    assert table.stages["v2"].endswith("champion from 2, archived from 3")


def test_a_refused_candidate_that_is_replaced_keeps_the_gate_s_reason(made):
    registry = open_registry(made)
    registry.move("v4", "archived", "the gate", "replaced by v5", key="5-gate-v4")
    row = chronicle.versions_table(made).iloc[-1]
    assert (row.fate, row.by, row.why) == ("refused by the gate", "the gate", "no gain is shown")


def test_one_that_had_passed_the_gate_and_is_replaced_was_not_refused(made, tmp_path):
    registry = open_registry(made)
    registry.move("v4", "staging-candidate", "the gate", "a gain", key="5-gate")
    registry.move("v4", "archived", "the gate", "replaced by v5", key="6-gate-v4")
    row = chronicle.versions_table(made).iloc[-1]
    assert (row.fate, row.why) == ("archived as staging-candidate", "replaced by v5")


def test_the_stretches_of_the_champions_cover_each_week_once(made):
    table = chronicle.stages_table(made)
    served = table[table.stage == "champion"].sort_values("begin")
    assert served.version.tolist() == ["v1", "v2", "v1"]
    assert served.begin.tolist() == [0, 2, 3] and served.end.tolist() == [2, 3, 6]


def test_an_event_that_lost_a_race_is_not_told(made):
    store = open_registry(made).store
    before = chronicle.stages_table(made)
    late = Event("promote", "v4", "champion", "X", "late", service_time(5).isoformat(), "v2")
    try:
        store.append(lambda events: late)
    except RuntimeError:
        pass  # a store that refuses it at once
    assert chronicle.stages_table(made).equals(before)


def test_decisions_are_told_in_order_and_with_their_evidence(made):
    table = chronicle.decisions_table(made)
    assert table.week.is_monotonic_increasing
    assert table[table.version == "v2"].what.tolist() == [
        "gate passed",
        "trial: pass",
        "approval: approved",
        "promoted",
        "trial: halt",
        "rolled back",
    ]
    of_gate = table[table.what == "gate refused"].iloc[0]
    assert (
        of_gate.evidence == "micro-F1 +0.020 (-0.010 to +0.050, level 99%) on 200 films, against v1"
    )


def test_what_is_done_by_hand_is_told_in_the_last_week_though_clocks_differ(made):
    open_registry(made).promote("v4", "Zoe", "I looked at it")
    by_hand = chronicle.decisions_table(made).query('what == "promote by hand"')
    assert by_hand.week.tolist() == [5] and by_hand.by.tolist() == ["Zoe"]
    people = chronicle.people_table(made).query('kind == "promote by hand"')
    assert people.by.tolist() == ["Zoe"]


def test_a_rollback_by_hand_is_an_alert_and_counts_as_taken_back(made):
    registry = open_registry(made)
    registry.promote("v4", "Zoe", "I looked at it")
    registry.rollback("Zoe", "I had not looked well", at=service_time(6).isoformat())
    alerts = chronicle.alerts_table(made).query('what == "rolled back by hand"')
    assert alerts.week.tolist() == [5] and alerts.about.tolist() == ["v4"]
    assert alerts.why.tolist() == ["I had not looked well"]
    assert "2 were taken back" in told(made)[0]


def test_a_trial_that_cannot_be_is_an_alert(made):
    path = made.file("lineup", 4)
    path.write_text(path.read_text().replace('"no_trial": ""', '"no_trial": "too few visitors"'))
    alerts = chronicle.alerts_table(made).query('what == "no trial"')
    assert alerts.values.tolist() == [[4, "no trial", "week 4", "too few visitors"]]


def test_alerts_name_the_week_the_version_and_the_reason(made):
    table = chronicle.alerts_table(made)
    rows = [tuple(row) for row in table[["week", "what", "about"]].values]
    assert rows == [
        (2, "Watch halted", "v2"),
        (2, "rolled back", "v2"),
        (3, "week held", "week 3"),
        (3, "rows set aside", "rows: 2"),
        (3, "ABTrial halted", "v3"),
    ]


def test_a_version_whose_file_has_changed_is_an_alert_and_a_whole_one_is_not(made):
    file = next((made.path / "registry" / "versions" / "v3").glob("model.txt"))
    file.write_text("other weights")
    changed = chronicle.alerts_table(made).query('what == "files changed"')
    assert changed.about.tolist() == ["v3"] and "model.txt" in changed.why.iloc[0]


def test_a_request_belongs_to_the_week_that_acted_on_it(made):
    ask(made, "trigger", "Ada", "stale", version="")
    ask(made, "pause", "Ben", "holidays")
    ask(made, "resume", "Ben", "back")
    table = chronicle.people_table(made)
    asked = table[table.kind.isin(["trigger", "pause", "resume"])]
    assert asked.week.tolist()[:2] == [4, 4] and pd.isna(asked.week.iloc[2])
    assert asked.result.tolist() == ["v4, refused by the gate", "rested", "waits"]


def test_an_answer_at_the_terminal_is_a_person_s_decision_and_a_rule_s_is_not(made):
    people = chronicle.people_table(made)
    assert people.values.tolist() == [
        [1, "approved when asked", "Ben", "read it", "v2", "promoted"]
    ]
    ask(made, "approve", "Ben", "read it", version="v2")
    assert chronicle.people_table(made).kind.tolist() == ["approve"]
    path = made.file("approval", 1)
    path.write_text(path.read_text().replace("Ben", "rule: auto"))
    ruled = Workspace(made.path)
    assert "approved when asked" not in chronicle.people_table(ruled).kind.tolist()


def test_rows_set_aside_are_told_as_they_were_written(made):
    assert chronicle.set_aside(made).title.tolist() == [HOSTILE, "B"]


def test_the_clicks_lost_are_the_champion_s_rate_on_the_candidate_s_views():
    rows = [("a", "champion", 2, 4), ("b", "champion", 2, 2), ("c", "candidate", 4, 2)]
    lost, low, high = timeline.lost_clicks(events("t", rows).assign(week=0))
    assert lost == 4 * 6 / 4 - 2
    assert (lost - low, high - lost) == pytest.approx((high - lost, lost - low))


def test_weeks_with_other_shares_are_not_pooled():
    first = [(f"a{n}", "champion", 1, 1) for n in range(9)] + [("c", "candidate", 1, 1)]
    last = [("a0", "champion", 1, 5)] + [(f"d{n}", "candidate", 1, 5) for n in range(9)]
    weeks = [events("t", rows).assign(week=week) for week, rows in enumerate((first, last))]
    assert timeline.lost_clicks(pd.concat(weeks))[0] == 0  # pooled it would be far from 0


def test_the_interval_counts_visitors_and_agrees_with_a_bootstrap_over_them():
    rng = np.random.default_rng(3)
    rows = [
        (
            f"u{n}",
            "candidate" if n % 2 else "champion",
            int(1 + rng.poisson(2)),
            int(rng.poisson(3)),
        )
        for n in range(160)
    ]
    lost, low, high = timeline.lost_clicks(events("t", rows).assign(week=0))
    table = pd.DataFrame(rows, columns=["unit", "variant", "views", "clicks"])
    sides = [table[table.variant == side] for side in ("champion", "candidate")]
    draws = [rng.multinomial(80, np.full(80, 1 / 80), 4000) for _ in sides]
    rates = [w @ side.clicks / (w @ side.views) for w, side in zip(draws, sides)]
    drawn = (rates[0] - rates[1]) * sides[1].views.sum()
    assert (high - low) / 3.92 == pytest.approx(np.std(drawn), rel=0.08)


def test_a_week_without_one_side_has_no_estimate():
    one_side = events("t", [("a", "champion", 2, 4)]).assign(week=0)
    assert np.isnan(timeline.lost_clicks(one_side)).all()


def test_the_trials_table_has_visitors_of_both_sides_and_the_clicks_lost(made):
    table = timeline.trials_table(made).set_index("trial")
    assert table.loc["t1", ["kind", "version", "over", "first", "last"]].tolist() == [
        "ABTrial",
        "v2",
        "v1",
        1,
        1,
    ]
    assert table.loc["t1", ["champion", "candidate", "mixed"]].tolist() == [2, 1, 0]
    assert table.lost["t1"] == 4 and np.isnan(table.lost["t2"])
    assert table.decision.tolist() == ["pass", "halt", "halt"]


def test_the_timeline_draws_each_version_and_the_champion_thick(made):
    import matplotlib

    matplotlib.use("Agg", force=False)
    ax = timeline.plot_timeline(made)
    widths = {(line.get_linewidth(), line.get_ydata()[0]) for line in ax.lines}
    assert {y for width, y in widths if width == 6} == {0, 1}  # v1 and v2 have served
    assert {y for _, y in widths} == {0, 1, 2, 3}
    assert {text.get_text() for text in ax.texts} == {"v1", "v2", "v3"}
    matplotlib.pyplot.close(ax.figure)


def test_the_first_screen_says_what_was_done_worth_and_decided(made):
    did, people = told(made)
    assert "Of 3 new versions 2 passed the gate" in did and "1 was promoted" in did
    assert "1 was taken back" in did and did.endswith("v1 serves now.")
    assert "approved by a rule: 0, by a person: 1" in did
    assert "no lane ran beside it" in compared.headline(compared.lanes_table(made))
    assert "Ben (approved when asked in week 1: promoted)" in people


def test_the_report_has_no_lanes_where_none_ran_and_stands_alone(made):
    page = write_report(made).read_text()
    assert page.count("<svg") == 1 and "Beside other policies" not in page
    assert not re.search(r'(src|href)="(https?:)?//', page)
    assert "prefers-color-scheme: dark" in page and "width=device-width" in page


def test_the_report_shows_the_lanes_that_ran(ran):
    page = write_report(ran).read_text()
    assert page.count("<svg") == 2 and "never: the model is left alone" in page
    assert "than if nothing had been updated" in page.partition("<h2>")[0]


def test_the_report_names_no_cron_line_and_one_calendar():
    why = "0 0 1 * * was due at 2024-02-01 00:00; 363 new films, at least 350 wanted"
    said = report._plain(pd.DataFrame({"why": [why], "week": [4]})).why[0]
    assert said == "the schedule was due; 363 new films, at least 350 wanted"


def test_what_is_explained_elsewhere_is_linked_where_the_site_is_built(ran):
    assert "<a href" not in write_report(ran).read_text()
    (ran.path.parent / "_docs").mkdir()
    (ran.path.parent / "_docs/chronicle.html").write_text("")
    assert '<a href="../_docs/chronicle.html">The chronicle</a>' in write_report(ran).read_text()


def test_the_pages_that_explain_are_called_as_they_are():
    titles = {p.stem[3:]: source(load(p)["cells"][0]).splitlines()[0] for p in notebooks(ROOT)}
    assert {f"# {t}" for t in report._TITLES.values()} == {titles[n] for n in report._TITLES}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_the_report_can_be_read_by_everybody(ran, browser, scheme, width):
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme)
    page = context.new_page()
    page.goto(write_report(ran).as_uri())
    assert page.locator("details[open]").count() == 0
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true })")
    found = Axe().run(page).response["violations"]
    assert [(v["id"], v["nodes"][0]["html"][:90]) for v in found] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    context.close()


@pytest.mark.parametrize("which", ["made", "ran"])
def test_titles_and_reasons_from_outside_are_escaped(which, request):
    page = write_report(request.getfixturevalue(which)).read_text()
    assert "<script" not in page and "&lt;script&gt;" in page


def test_lanes_that_were_not_run_are_no_lanes(made):
    begun = Workspace(made.path)
    stored = json.loads(begun.file("settings").read_text()) | {"lanes": {"never": NEVER}}
    begun.file("settings").write_text(json.dumps(stored))
    assert compared.lanes_table(begun).lane.unique().tolist() == ["service"]
    assert compared.verdict(compared.lanes_table(begun)) == ""


def test_two_weeks_are_enough_and_one_is_refused(tmp_path, made):
    for week in range(2, 6):
        made.file("done", week).unlink()
    assert "after 2 weeks" in write_report(made.path).read_text()
    made.file("done", 1).unlink()
    with pytest.raises(WorkspaceError, match="1 weeks are done"):
        write_report(made)


def test_a_lane_is_compared_over_the_weeks_that_both_have_done(ran):
    lane = lane_of(ran, "never")
    table = compared.lanes_table(ran)
    assert table.groupby("lane").size().to_dict() == {"service": 4, "never": 4}
    assert lane.has("done", 3)


MONDAYS = Settings(
    triggers=TriggersKnobs(schedule="0 0 * * 1"), curation=CurationKnobs(window="latest")
)


def seen(lanes=(), gates=(), settings=MONDAYS):
    "Evidence: (lane, low, high) and (passed, difference, low) of consecutive weeks."
    of_lanes = [(lane, (low + high) / 2, low, high, "") for lane, low, high in lanes]
    told = [(*gate, gate[2])[:4] for gate in gates]  # a low end of F1 may stand behind
    of_gates = [
        (n, ok, gain, low, 2 * gain - low, gain, f1_low, 1.0)
        for n, (ok, gain, low, f1_low) in enumerate(told)
    ]
    columns = ["week", "passed", "difference", "low", "high", "f1", "f1_low", "cpu"]
    return reviewing.Evidence(
        settings,
        pd.DataFrame(of_lanes, columns=["lane", "difference", "low", "high", "says"]),
        pd.DataFrame(of_gates, columns=columns),
    )


REFUSED, AHEAD, CLEAR = (False, -0.01, -0.02), (False, 0.01, -0.01), (True, 0.05, 0.03)
NAN = float("nan")
SHORT = replace(MONDAYS, registry=RegistryKnobs(gate_weeks=4))
LONG = replace(MONDAYS, registry=RegistryKnobs(gate_weeks=26))
ALL = replace(MONDAYS, curation=CurationKnobs(window="all"))
STILL = replace(MONDAYS, triggers=TriggersKnobs(schedule="", volume=0, f1_floor=0.5))
OFF = replace(STILL, triggers=replace(STILL.triggers, f1_floor=0.0, drift="off"))
RARE = replace(MONDAYS, triggers=TriggersKnobs(schedule="0 0 1 */3 *"))


@pytest.mark.parametrize(
    "evidence, rule",
    [
        (seen([("never", -0.02, -0.001)]), "no retraining"),
        (seen([("never", -0.02, 0.0)]), None),
        (seen([("frozen", -0.02, -0.001)]), None),
        (seen([("all", -0.02, -0.001)]), "all history"),
        (seen([("all", 0.001, 0.02)]), None),
        (seen([("all", -0.02, -0.001)], settings=ALL), None),
        (seen(gates=[REFUSED] * 8), "rarer schedule"),
        (seen(gates=[REFUSED] * 7), None),
        (seen(gates=[REFUSED] * 7 + [CLEAR]), None),
        (seen(gates=[(False, NAN, NAN)] * 8), None),
        (seen(gates=[REFUSED] * 8, settings=RARE), None),
        (seen(gates=[AHEAD] * 6 + [CLEAR]), "longer gate"),
        (seen(gates=[AHEAD] * 5 + [CLEAR]), None),
        (seen(gates=[AHEAD] * 6 + [CLEAR], settings=LONG), None),
        (seen(gates=[CLEAR] * 4), "shorter gate"),
        (seen(gates=[CLEAR] * 3), None),
        (seen(gates=[(*CLEAR, -0.02)] * 4), None),
        (seen([("never", -0.02, -0.001)], settings=STILL), "no retraining"),
        (seen([("never", -0.02, -0.001)], settings=OFF), None),
        (seen(gates=[(True, 0.05, 0.001)] * 4), None),
        (seen(gates=[CLEAR] * 4, settings=SHORT), None),
        (seen([("never", -0.02, -0.01), ("all", -0.02, -0.01)], [REFUSED] * 8), "no retraining"),
        (seen(), None),
    ],
)
def test_a_rule_speaks_where_it_must_and_nowhere_else(evidence, rule):
    found = reviewing.propose(evidence)
    assert (found and found.rule) == rule


@pytest.mark.parametrize("rule", reviewing.REVIEW_RULES)
def test_each_proposal_names_a_knob_of_the_settings_and_another_value(rule):
    cases = {
        "no retraining": seen([("never", -0.02, -0.001)]),
        "all history": seen([("all", -0.02, -0.001)]),
        "rarer schedule": seen(gates=[REFUSED] * 8),
        "longer gate": seen(gates=[AHEAD] * 6),
        "shorter gate": seen(gates=[CLEAR] * 4),
    }
    knob, now, then, why = reviewing.REVIEW_RULES[rule](cases[rule])
    section, name = knob.split(".")
    held = getattr(getattr(MONDAYS, section), name)
    assert str(held) == now != then and why
    replace(getattr(MONDAYS, section), **{name: type(held)(then)})  # the settings accept it


def test_a_review_is_written_twice_and_says_what_it_looked_at(ran):
    found = reviewing.review(ran, 3)
    markdown = (ran.path / "reviews" / "week-0003.md").read_text()
    page = (ran.path / "reviews" / "week-0003.html").read_text()
    assert markdown == found._repr_markdown_() and "never" in markdown
    assert found._repr_html_() in page
    assert re.search(r"\d candidates were trained", markdown)


def test_weeks_that_cannot_be_reviewed_are_refused(ran):
    for week in (2, 4):
        with pytest.raises(WorkspaceError, match=f"week {week} cannot be reviewed"):
            reviewing.review(ran, week)
