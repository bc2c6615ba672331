"""What people tell, from the log to the labels that a loop learns from: cleaned, joined, weighed,
and never more certain than it may be."""

import json, time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import requests
from bs4 import BeautifulSoup
from hypothesis import given
from hypothesis import strategies as st

from trending_now import feedback
from trending_now.app import AppServer, log_alerts, service_of
from trending_now.catalogue import GENRES, labels
from trending_now.delivery.delivery import small_settings
from trending_now.loop import (
    Workspace,
    WorkspaceError,
    alerts_table,
    label_film,
    run,
    run_step,
    start,
)
from trending_now.loop.arrivals import memory_of
from trending_now.loop.labelling import beliefs, is_known, taught
from trending_now.loop.listening import votes_of
from trending_now.loop.steps import STEPS, run_weeks
from trending_now.loop.views import Step, View
from trending_now.loop.workspace import WEEKLY
from trending_now.platform import EventLog
from trending_now.settings import stream
from trending_now.triggers import AnyOf, ManualTrigger

DAY = pd.Timedelta(days=1)
NOON = pd.Timestamp("2024-01-08 12:00", tz="UTC")


def events_of(rows):
    "The Events record of (kind, unit, film, seconds since noon, value, payload)."
    table = pd.DataFrame(rows, columns=["kind", "unit", "film_id", "after", "value", "payload"])
    table["ts"] = NOON + pd.to_timedelta(table.pop("after"), unit="s")
    table["payload"] = [json.dumps(payload) for payload in table.payload]
    fixed = dict(position=0, model_version="v1", experiment="", variant="")
    request = table.unit + "-view"
    ids = [f"e{row}" for row in range(len(table))]
    return table.assign(event_id=ids, request_id=request, **fixed)


def clicked(unit, film="Q1", after=0, watched=100.0):
    return ("click", unit, film, after, watched, {})


def objected(unit, genre, film="Q1", has=0.0, after=3600):
    return ("correction", unit, film, after, has, {"genre": genre, "wrong": not has})


# ------------------------------------------------------------ signals and cleaning


def test_cleaning_twice_changes_nothing_more():
    events = events_of([clicked("anna"), clicked("anna"), clicked("ben", watched=0.5)])
    once = feedback.clean_events(events).events
    again = feedback.clean_events(once)
    assert again.events.equals(once) and not len(again.dropped)


def test_a_row_is_kept_or_dropped_with_a_reason_and_never_both():
    events = events_of([clicked(f"v{i % 5}", f"Q{i % 3}", watched=i % 4) for i in range(60)])
    done = feedback.clean_events(events)
    assert sorted([*done.events.event_id, *done.dropped.event_id]) == sorted(events.event_id)
    assert (done.dropped.reason != "").all()


def test_a_bot_takes_its_ratings_and_objections_with_it():
    clicks = [clicked("bot", f"Q{i}", i, 0.9) for i in range(30)]
    events = events_of([*clicks, objected("bot", "Drama"), clicked("anna")])
    assert feedback.clean_events(events).events.unit.unique().tolist() == ["anna"]


def test_whoever_came_too_late_to_have_left_has_not_stayed_either():
    def came(unit, days):
        return ("exposure", unit, "", days * 86_400, np.nan, {})

    events = events_of([came("gone", 0), came("new", 20), came("back", 0), came("back", 25)])
    told = feedback.visitors_of(events, NOON + 30 * DAY).churned
    assert told["gone"] and not told["back"] and pd.isna(told["new"])


# ------------------------------------------------------------ joins and delays


def test_an_answer_belongs_to_the_request_in_which_it_was_given():
    events = events_of([clicked("anna"), clicked("ben"), objected("ben", "Drama")])
    joined = feedback.join_answers(events).set_index("unit")
    assert joined.corrections.to_dict() == {"anna": 0, "ben": 1}
    assert joined.waited["ben"] == pytest.approx(1 / 24)


def test_live_and_simulated_dwell_thumbs_and_surveys_are_told_apart():
    about = [
        ("report", "anna", "Q1", 60, 42.0, {"about": "dwell"}),
        ("rating", "anna", "Q1", 61, 1.0, {"scale": "thumb"}),
        ("rating", "anna", "Q1", 62, 4.0, {}),
        ("report", "anna", "Q1", 63, None, {"text": "the year is wrong"}),
        ("report", "anna", "", 64, 3.0, {"about": "survey"}),
    ]
    events = events_of([clicked("anna", watched=np.nan), *about])
    row = feedback.join_answers(events).iloc[0]
    assert (row.dwell, row.stars, row.thumb, row.reports) == (42, 4, 0, 1)
    named = ["click", "dwell", "thumb", "stars", "report", "survey"]
    assert feedback.signals_of(events).tolist() == named


@given(st.lists(st.tuples(st.floats(0, 20), st.floats(0, 20)), min_size=1, max_size=40))
def test_the_share_of_answers_that_have_come_only_grows_and_ends_at_one(waits):
    waited = [min(pair) for pair in waits]
    could = [max(pair) for pair in waits]
    shares = feedback.delays_of(waited, could).share(np.linspace(0, 21, 50))
    assert (np.diff(shares) >= -1e-12).all() and shares[-1] == pytest.approx(1)
    assert ((shares >= 0) & (shares <= 1)).all()


def test_without_truncation_delays_are_the_plain_shares():
    waited = [1, 2, 2, 5]
    assert feedback.delays_of(waited, [99] * 4).share([1, 2, 5]).tolist() == [0.25, 0.75, 1]


# ------------------------------------------------------------ evidence


def counted(events, tags=1):
    return feedback.count_votes(events, ["Q1"], {"v1": np.full((1, 12), tags)})


def test_a_crowd_of_one_has_one_voice():
    loud = [clicked("anna", after=i) for i in range(9)] + [objected("anna", "Drama")] * 9
    votes = counted(events_of(loud))
    assert votes.looks.tolist() == [1] and votes.objections.tolist() == [1]


def test_whoever_agrees_with_a_tag_has_not_objected():
    agree = events_of([clicked("anna"), objected("anna", "Drama", has=1.0)])
    assert counted(agree, tags=1).objections.sum() == 0
    assert counted(agree, tags=0).yes[0, GENRES.index("Drama")] == 1


@given(st.floats(0.01, 0.99), st.integers(0, 30), st.integers(0, 300))
def test_objections_lower_a_belief_and_silence_of_those_who_looked_raises_it(prior, no, silent):
    shown = np.full((1, 12), float(no + silent))
    nothing = np.zeros((1, 12))
    votes = feedback.TagVotes(shown, nothing, np.full((1, 12), float(no)), nothing)
    more = feedback.TagVotes(shown + 1, nothing, votes.no + 1, nothing)
    silence = feedback.TagVotes(shown + 1, nothing, votes.no, nothing)
    rates, prior = feedback.VoteRates(), np.full((1, 12), prior)
    believed, against, for_it = (
        feedback.weak_labels(told, prior, rates)[0, 0] for told in (votes, more, silence)
    )
    assert against <= believed <= for_it and 0 <= against and for_it <= 1


def test_two_experts_who_contradict_each_other_leave_a_belief_as_it_was():
    belief = np.full((1, 12), 0.3)
    both = feedback.with_reviews(belief, {0: [[1] * 12, [0] * 12]})
    assert both == pytest.approx(belief)


def test_rates_are_found_again_from_votes_that_were_drawn_with_them():
    rng = stream(7, "votes")
    rates = feedback.VoteRates(0.08, 0.001, 0.06, 0.002)
    prior = rng.beta(0.4, 0.8, (4000, 12))
    true, tags = rng.random(prior.shape) < prior, prior >= 0.33
    looks = rng.integers(0, 120, (4000, 1)) * np.ones((1, 12), int)
    shown, hidden = looks * tags, looks * ~tags
    no = rng.binomial(shown, np.where(true, rates.slip_shown, rates.catch_shown))
    yes = rng.binomial(hidden, np.where(true, rates.catch_hidden, rates.slip_hidden))
    votes = feedback.TagVotes(*(part.astype(float) for part in (shown, hidden, no, yes)))
    found = feedback.vote_rates(votes, prior)
    for mine, wanted in zip(vars(found).values(), vars(rates).values()):
        assert mine == pytest.approx(wanted, rel=0.1)
    believed = feedback.weak_labels(votes, prior, found)
    for low in (0.05, 0.3, 0.6, 0.9):
        at = (believed > low) & (believed < low + 0.1)
        assert true[at].mean() == pytest.approx(believed[at].mean(), abs=0.03)


# ------------------------------------------------------------ slices, reviewers, traps


def test_a_slice_trigger_fires_beside_others_with_both_reasons():
    found = {"rate": 0.2, "rest": 0.1, "difference": 0.1, "adjusted": 0.001}
    table = pd.DataFrame(found, ["silent"])
    both = AnyOf(feedback.SliceTrigger(), ManualTrigger())
    fired = both.check({"slices": table, "request": "ada: look at it", "at": NOON})
    assert fired.trigger == "slice + manual" and "silent" in fired.reason
    event = feedback.alert_event(fired, "v3")
    assert event == feedback.alert_event(fired, "v3") and event["kind"] == "alert"


def test_a_film_that_nobody_looked_at_is_in_no_slice():
    looks, half = np.r_[np.full(60, 9.0), np.zeros(60)], pd.DataFrame({"a": np.arange(120) < 30})
    assert feedback.weak_slices(looks * 0 + (looks > 0), looks, half).films.tolist() == [30]


@pytest.mark.parametrize("who", ["ann", "ben"])
def test_the_last_word_of_a_reviewer_counts(who):
    said = [
        feedback.review_event("Q1", [genre], who, NOON + i * DAY)
        for i, genre in enumerate(["Drama", "Comedy"])
    ]
    log = pd.DataFrame(said).assign(payload=lambda t: t.payload.map(json.dumps))
    assert feedback.reviews_of(log).loc[("Q1", who)].to_dict()["Comedy"] == 1
    assert feedback.reviews_of(log).to_numpy().sum() == 1


def test_places_that_are_never_seen_have_no_looks():
    rows = []
    for visitor in range(40):
        for place, film in enumerate(("Q1", "Q2") if visitor % 2 else ("Q2", "Q1")):
            rows.append(("impression", f"v{visitor}", film, 0, np.nan, {}, place))
            if place == 0 and visitor % 4 < 2:
                rows.append(("click", f"v{visitor}", film, 5, 60.0, {}, place))
    places = [row[-1] for row in rows]
    events = events_of([row[:-1] for row in rows]).assign(position=places)
    looks, appeal = feedback.place_looks(events)
    assert looks.to_dict() == {0: 1, 1: 0} and appeal["Q1"] == appeal["Q2"] == 0.5


# ------------------------------------------------------------ the loop that learns from it


def listening(**knobs):
    "Settings of a small service that believes its visitors."
    small = small_settings()
    return replace(small, curation=replace(small.curation, labels="feedback", **knobs))


def desk_of(workspace, week):
    "A view that may read everything."
    reads = (*(f"{name}@all" for name in WEEKLY), "history", "requests", "registry")
    return View(workspace, Step("desk", None, reads, ()), week)


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    "Six weeks of a loop that learns from feedback and five reviews a week."
    workspace = Workspace(tmp_path_factory.mktemp("told") / "workspace")
    run(workspace, listening(reviews=5, review_slips=0.01), 6, progress=False, lanes=False)
    return workspace


def test_what_is_learned_is_what_was_told_and_not_the_catalogue(told):
    desk = desk_of(told, 5)
    believed = beliefs(desk, [2], 5)
    true = labels(told.read("films", 2))
    assert believed.shape == true.shape and not np.isin(believed, (0, 1)).all()
    hard = labels(taught(desk, [2], 5))
    assert (hard == (believed >= 0.5)).all() and (hard != true).any()
    assert (beliefs(desk, ["history"], 5) == labels(told.read("history"))).all()


def test_beliefs_go_on_changing_while_a_film_is_on_the_page(told):
    desk = desk_of(told, 5)
    assert (beliefs(desk, [1], 1) != beliefs(desk, [1], 5)).any()
    assert is_known(desk, 1, 5).sum() >= is_known(desk, 1, 1).sum()


def test_reviewed_films_are_known_and_nearly_right(told):
    desk, right = desk_of(told, 5), []
    for week in range(1, 5):
        films = told.read("films", week).set_index("film_id")
        believed = pd.DataFrame(beliefs(desk, [week], 5), films.index, list(GENRES))
        known = pd.Series(is_known(desk, week, 5), films.index)
        for later in range(week, 6):
            for review in told.read("reviewed", later):
                if review["film_id"] not in films.index:
                    continue
                assert known[review["film_id"]]
                said = {genre for genre in GENRES if believed.loc[review["film_id"], genre] >= 0.5}
                true = set(films.genres[review["film_id"]]) & set(GENRES)
                right.append(said == true)
    assert len(right) >= 15 and np.mean(right) > 0.7


def test_the_memory_of_the_features_holds_only_what_is_known(told):
    desk = desk_of(told, 5)
    memory = memory_of(desk, 5)
    known = sum(is_known(desk, week, 4).sum() for week in range(5))
    films = len(told.read("history")) + sum(len(told.read("films", week)) for week in range(5))
    assert len(memory.seen) == films and 0 < known < films
    before = memory_of(desk, 0)
    assert before.fingerprint() != memory.fingerprint()
    assert memory_of(desk, 5).fingerprint() == memory.fingerprint()


def test_votes_are_those_of_the_weeks_that_have_passed(told):
    early, late = votes_of(desk_of(told, 1)), votes_of(desk_of(told, 5))
    assert 0 < early.looks.sum() < late.looks.sum()
    assert late.objections.sum() > 0


def test_the_same_run_again_leaves_the_same_files_and_a_resumed_one_too(told, tmp_path):
    again = Workspace(tmp_path / "again")
    start(again, listening(reviews=5, review_slips=0.01))
    for week in range(3):
        for name in STEPS:
            run_step(name, Workspace(again.path), week)  # a new process would know no more
            run_step(name, again, week)
    for week in range(3):
        for name in ("told", "reviewed", "proba", "events"):
            mine, theirs = again.file(name, week), told.file(name, week)
            assert mine.read_bytes() == theirs.read_bytes(), (name, week)


def test_a_person_s_label_is_learned_by_the_next_week(tmp_path):
    workspace = Workspace(tmp_path / "ws")
    start(workspace, listening())
    run_weeks(workspace, [0])
    films = workspace.read("films", 0)
    film, wanted = films.film_id.iloc[0], ["Musical", "Horror"]
    label_film(workspace, film, wanted, "ada")
    run_weeks(workspace, [1])
    row = beliefs(desk_of(workspace, 1), [0], 1)[0]
    assert {genre for genre, p in zip(GENRES, row) if p >= 0.5} == set(wanted)
    assert is_known(desk_of(workspace, 1), 0, 1)[0]


def test_a_label_for_a_loop_that_believes_the_catalogue_is_refused(tmp_path):
    workspace = Workspace(tmp_path / "ws")
    start(workspace, small_settings())
    with pytest.raises(WorkspaceError, match="labels = feedback"):
        label_film(workspace, "Q1", ["Drama"], "ada")


def test_the_weak_slices_of_a_week_are_asked_about_where_the_knob_is_on(tmp_path):
    workspace = Workspace(tmp_path / "ws")
    settings = listening()
    start(workspace, replace(settings, triggers=replace(settings.triggers, slices=0.01)))
    run_weeks(workspace, range(2))
    assert workspace.has("trigger", 1)  # the slices were found, or it would have failed


# ------------------------------------------------------------ told to the app


@pytest.fixture
def server(told, tmp_path):
    import shutil

    folder = shutil.copytree(told.path, tmp_path / "workspace")
    with AppServer(service_of(folder, every=0.1)) as running:
        yield running


def test_what_the_system_says_of_itself_is_in_the_log_once(told, tmp_path):
    fired = [week for week in range(6) if told.read("trigger", week)["fired"]]
    with EventLog(tmp_path / "events.db") as log:
        new = log_alerts(told, log)
        assert log_alerts(told, log) == 0
        kept = log.read(kind="alert")
    assert len(kept) == new == len(alerts_table(told)) + len(fired) > 0
    assert (feedback.signals_of(kept) == "alert").all()
    reasons = {json.loads(text)["reason"] for text in kept.payload}
    assert told.read("trigger", fired[0])["fired"]["reason"] in reasons


def test_a_service_that_takes_over_a_week_logs_its_alerts(server):
    run(Workspace(server.service.workspace.path), None, 7, progress=False, lanes=False)
    for _ in range(600):
        if len(server.service.log.read(kind="alert")):
            break
        time.sleep(0.1)
    assert len(server.service.log.read(kind="alert"))


def form_of(page, action):
    form = page.select_one(f'form[action="{action}"][method="post"]')
    return {field["name"]: field["value"] for field in form.select("input[type=hidden]")}


def test_the_one_question_is_answered_from_the_page_and_kept(server):
    visitor = requests.Session()
    page = BeautifulSoup(visitor.get(server.url).text, "html.parser")
    answer = visitor.post(f"{server.url}/survey", data={**form_of(page, "/survey"), "stars": "4"})
    assert answer.status_code == 200 and "your answer is kept" in answer.text
    told = server.service.log.read(kind="report")
    assert feedback.signals_of(told).tolist() == ["survey"] and told.value.tolist() == [4]
    wrong = visitor.post(f"{server.url}/survey", data={**form_of(page, "/survey"), "stars": "9"})
    assert wrong.status_code == 422
    stranger = requests.post(
        f"{server.url}/survey", data={**form_of(page, "/survey"), "stars": "1"}
    )
    assert stranger.status_code == 403


def test_what_a_reviewer_says_at_the_desk_reaches_the_log_and_the_loop(server, browser):
    token = server.service.token.decode()
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{server.url}/board/review")
    page.fill("input[type=password]", token)
    page.click("button")
    page.goto(f"{server.url}/board/review")
    page.fill("input[name=by]", "ada")
    page.click("text=Begin")
    title = page.locator("h2").inner_text()
    for box in page.locator("input[type=checkbox]").all():
        box.uncheck()
    page.check("input[value=Musical]")
    page.click("text=Save, next film")
    assert "Kept" in page.locator(".thanks").inner_text()
    assert page.locator("h2").inner_text() != title
    kept = feedback.reviews_of(server.service.log.read(kind="report"))
    assert kept.to_numpy().sum() == 1 and kept.Musical.iloc[0] == 1
    papers = [p for p in server.service.workspace.read("requests") if p["kind"] == "label"]
    assert [(p["by"], p["genres"]) for p in papers] == [("ada", ["Musical"])]
    context.close()


def test_the_desk_is_for_those_with_the_token(server):
    assert "Token" in requests.get(f"{server.url}/board/review?by=ada").text
    sent = requests.post(f"{server.url}/board/review", data={"film_id": "1", "by": "ada"})
    assert sent.status_code == 403 and not len(server.service.log.read(kind="report"))
