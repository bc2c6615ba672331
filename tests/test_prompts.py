"""Prompts: the client before a server that misbehaves, the real model, replay, versions, reviews
that give orders, suites, tests on visitors, and upkeep."""

import email.utils, json, os, signal, subprocess, sys, threading, time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from llm_stand_in import stand_in
from trending_now.catalogue import load_films
from trending_now.prompts import (
    HOSTILE,
    MODEL,
    VIBES,
    Answer,
    Case,
    KeptAnswers,
    Client,
    LocalServer,
    NotKept,
    Prompt,
    PromptCheck,
    Readers,
    Refused,
    Request,
    Upkeep,
    Variable,
    clean,
    decide_often,
    film_vibes,
    first_wins,
    judge_prompt,
    judge_report,
    leaks,
    paired_interval,
    pass_rate,
    run_suite,
    run_test,
    summary_cards,
    summary_plan,
    summary_versions,
    tags_schema,
    write_reviews,
)
from trending_now.registry import Registry
from trending_now.settings import DinersKnobs
from trending_now.triggers import PerformanceTrigger

HELLO = Request(({"role": "user", "content": "Hello"},), {"temperature": 0.0}, about="a greeting")
TAGS = Request(HELLO.messages, {"temperature": 0.0}, tags_schema(1), about="tags")
KEPT = sorted((ROOT / "nbs" / "5_prompts" / "results").glob("*_answers.jsonl"))


def client_of(server, **options):
    "A client that does not really wait; what it would have waited is in `.waits`."
    waits = []
    options = {"timeout": 60, "rng": 7, "sleep": waits.append, "fallback": "no summary"} | options
    client = Client(server.url, "key", **({"model": "stand-in"} | options))
    client.waits = waits
    return client


PATIENCE = {"silent": 3}  # Seconds until the client gives a request up; the server never answers it
FAILURES = [
    ("silent", "time-out"),
    ("429", "rate limit"),
    ("500", "server error"),
    ("503", "server error"),
    ("gone", "no connection"),
    ("torn", "no connection"),
    ("408", "server error"),
    ("unfinished", "cut off"),
    ("filtered", "refusal"),
    ("empty", "empty"),
    ("no choices", "malformed"),
    ("no JSON", "malformed"),
]


@pytest.mark.parametrize("what, kind", FAILURES)
def test_what_may_pass_is_tried_again_and_leaves_an_event(what, kind):
    with stand_in(what) as server:
        client = client_of(server, timeout=PATIENCE.get(what, 60))
        answer = client.ask(HELLO)
    assert (answer.text, answer.tries, len(server.asked)) == ("A fine film.", 2, 2)
    assert client.failures().to_dict() == {kind: 1}
    assert len(client.waits) == 1 and 0.25 <= client.waits[0] <= 0.75


@pytest.mark.parametrize("what, kind", FAILURES)
def test_what_does_not_pass_ends_with_the_fallback_and_is_not_kept(what, kind):
    with stand_in(*[what] * 3) as server:
        client = client_of(server, tries=3, timeout=PATIENCE.get(what, 60))
        answer = client.ask(HELLO)
        assert (answer.text, answer.finish, answer.tries) == ("no summary", "fallback", 3)
        assert client.failures().to_dict() == {kind: 3} and len(client.answers) == 0
        assert client.ask(HELLO).text == "A fine film."  # the server is back
    told = [json.loads(event["payload"]) for event in client.events]
    assert [event["last"] for event in told] == [False, False, True]
    assert {event["kind"] for event in client.events} == {"alert"}
    assert len({event["event_id"] for event in client.events}) == 3


BAD_FORMS = ["no JSON", '{"tags": ["masterpiece"]}', '{"tags": ["funny"', "[]"]


@pytest.mark.parametrize("said", BAD_FORMS)
def test_an_answer_that_does_not_follow_its_schema_is_malformed(said):
    with stand_in(f"says {said}", 'says {"tags": ["funny"]}') as server:
        client = client_of(server)
        assert json.loads(client.ask(TAGS).text) == {"tags": ["funny"]}
    assert client.failures().to_dict() == {"malformed": 1}


@pytest.mark.parametrize("status", ["400", "401", "403", "404", "422"])
def test_what_will_be_as_wrong_the_next_time_is_refused_at_once(status):
    with stand_in(status) as server:
        client = client_of(server)
        with pytest.raises(Refused, match=f"answered {status} to 'a greeting'"):
            client.ask(HELLO)
    assert len(server.asked) == 1 and client.waits == []


RETRY_AFTER = [
    ("7", 7.25, 7.75),
    ("3600", 30, 30),
    ("soon", 0.25, 0.75),
    ("-1", 0.25, 0.75),
    ("nan", 0.25, 0.75),
]


@pytest.mark.parametrize("asked, low, high", RETRY_AFTER)
def test_it_waits_as_long_as_the_server_asks_and_never_for_ever(asked, low, high):
    with stand_in(f"429 {asked}") as server:
        client = client_of(server)
        client.ask(HELLO)
    assert low <= client.waits[0] <= high


def test_retry_after_may_be_a_date_and_come_with_another_status():
    later = email.utils.formatdate(time.time() + 20, usegmt=True)
    for what in (f"429 {later}", f"503 {later}"):
        with stand_in(what) as server:
            client = client_of(server)
            client.ask(HELLO)
        assert 0.75 < client.waits[0] <= 20.75


def test_a_refusal_of_the_server_is_an_event_and_does_not_quote_the_key():
    with stand_in("401 key") as server:
        client = client_of(server)
        with pytest.raises(Refused) as refused:
            client.ask(HELLO)
    assert "key" not in str(refused.value) and client.failures().to_dict() == {"refused": 1}


def test_a_prompt_is_not_asked_of_another_model_without_a_word():
    with pytest.raises(ValueError, match="written for large"):
        Client().ask(Request(HELLO.messages, model="large"))


def test_it_waits_longer_after_each_try_and_not_all_clients_alike():
    waits = []
    for seed in range(20):
        with stand_in(*["500"] * 4) as server:
            client = client_of(server, rng=seed)
            client.ask(HELLO)
        waits.append(client.waits)
    for number in range(3):
        own = [pauses[number] for pauses in waits]
        assert 0.25 * 2**number <= min(own) < max(own) <= 0.75 * 2**number
        assert len(set(own)) == 20


def test_no_more_requests_are_under_way_than_allowed():
    requests = [Request(({"role": "user", "content": str(n)},)) for n in range(12)]
    with stand_in(*["wait a little"] * 12) as server:
        client = client_of(server, at_once=3, timeout=30)
        answers = client.ask_many(requests, progress=False)
    assert server.most == 3 and [a.text for a in answers] == ["A fine film."] * 12


def test_the_server_gets_model_parameters_form_and_key():
    with stand_in("ok", 'says {"tags": ["funny"]}', 'says {"tags": ["funny"]}') as server:
        client_of(server).ask(HELLO)
        client_of(server).ask(TAGS)
        client_of(server, own_schema=True).ask(TAGS)
    plain, openai, own = server.asked
    assert plain["model"] == "stand-in" and plain["temperature"] == 0.0
    assert plain["messages"] == [{"role": "user", "content": "Hello"}]
    assert openai["response_format"]["json_schema"]["schema"] == tags_schema(1)
    assert own["response_format"] == {"type": "json_object", "schema": tags_schema(1)}
    assert server.keys == ["Bearer key"] * 3


def test_an_answer_is_asked_once_and_replayed(tmp_path):
    path = tmp_path / "kept.jsonl"
    with stand_in() as server:
        fresh = client_of(server, answers=KeptAnswers(path)).ask(HELLO)
    replay = Client(model="stand-in", answers=KeptAnswers(path))
    assert replay.ask(HELLO) == fresh and fresh.tokens_in == 11
    with pytest.raises(NotKept, match="a greeting"):
        Client(model="another", answers=KeptAnswers(path)).ask(HELLO)


INTERRUPTED = """
import sys
from trending_now.prompts import KeptAnswers, Client, Request
requests = [Request(({'role': 'user', 'content': str(n)},)) for n in range(200)]
client = Client(sys.argv[1], 'key', 'stand-in', answers=KeptAnswers(sys.argv[2]))
print('begun', flush=True)
try: client.ask_many(requests, progress=False)
except KeyboardInterrupt: sys.exit(130)
"""


@pytest.mark.parametrize("how, code", [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path, how, code):
    path = tmp_path / "kept.jsonl"
    requests = [Request(({"role": "user", "content": str(n)},)) for n in range(200)]
    with stand_in(*["wait a little"] * 60) as server:
        command = [sys.executable, "-c", INTERRUPTED, server.url, str(path)]
        run = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert run.stdout.readline() == "begun\n"
        until = time.monotonic() + 120
        while not (path.exists() and len(path.read_text().splitlines()) >= 4):
            assert time.monotonic() < until and run.poll() is None
            time.sleep(0.02)
        run.send_signal(how)
        assert run.wait(60) == code
        done = len(KeptAnswers(path))
        assert 4 <= done < 200
        before, server.script = len(server.asked), []
        client = Client(server.url, "key", "stand-in", answers=KeptAnswers(path))
        assert len(client.ask_many(requests, progress=False)) == 200
    assert len(server.asked) - before == 200 - done and len(KeptAnswers(path)) == 200


def test_answers_are_written_whole_by_many_threads(tmp_path):
    kept = KeptAnswers(tmp_path / "kept.jsonl")

    def write(thread):
        for n in range(50):
            kept.add(f"{thread}-{n}", Answer("ü" * 500, "stop", 1, 1, 0.1), "x")

    threads = [threading.Thread(target=write, args=(k,)) for k in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(KeptAnswers(kept.path)) == 400


def test_a_replay_needs_no_key_and_no_environment(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "must not be used")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    with pytest.raises(NotKept):
        Client().ask(HELLO)


def test_a_client_from_the_environment(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ValueError, match="OPENAI_API_KEY"):
        Client.from_env("large")
    with stand_in() as server:
        monkeypatch.setenv("OPENAI_API_KEY", "from the environment")
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        assert Client.from_env("large").ask(HELLO).text == "A fine film."
    assert server.keys == ["Bearer from the environment"] and server.asked[0]["model"] == "large"
    assert "from the environment" not in repr(Client.from_env("large"))


def kept_requests():
    "Questions of page `client`, asked again here as the page builds them, with their answers."
    from trending_now.catalogue import load_films
    from trending_now.prompts import write_reviews

    films = load_films().query("1995 <= year <= 1996 and critic_count > 30").head(60)
    kept = KeptAnswers(KEPT[0])
    parameters = {"temperature": 0.0, "max_tokens": 48, "seed": 7, "stop": ["\n"]}
    for film, reviews in write_reviews(films).groupby("film_id", sort=False):
        lines = "\n".join(f"- {text}" for text in reviews.text)
        question = f"Summarize these film reviews in one sentence:\n\n{lines}"
        request = Request(({"role": "user", "content": question},), parameters)
        yield request, kept.get(request.key(MODEL))


def test_the_real_model_says_again_what_is_kept():
    "Greedy answers; another processor may turn a near tie, so one of eight may differ."
    pairs = list(kept_requests())[:8]
    with LocalServer(patience=300) as server:
        fresh = Client.local(server, timeout=300).ask_many([r for r, _ in pairs], progress=False)
        tags = Request(HELLO.messages, {"temperature": 1.0, "max_tokens": 40}, tags_schema())
        form = json.loads(Client.local(server, timeout=300).ask(tags).text)
        stranger = Client(server.url, "wrong", tries=1)
        with pytest.raises(Refused, match="401"):
            stranger.ask(HELLO)
        pid = server._process.pid
    same = [answer.text == kept.text for answer, (_, kept) in zip(fresh, pairs)]
    assert sum(same) >= 6, [(a.text, k.text) for a, (_, k) in zip(fresh, pairs)]
    assert [a.tokens_in for a in fresh] == [kept.tokens_in for _, kept in pairs]
    assert len(form["tags"]) == 3 and {*form["tags"]} <= {*VIBES}
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)  # the server has ended


def test_a_server_that_cannot_start_says_why(monkeypatch):
    import trending_now.prompts.client as module

    monkeypatch.setattr(module, "model_file", lambda: ROOT / "README.md")
    with pytest.raises(RuntimeError, match="ended while starting"), LocalServer():
        pass


def test_what_is_kept_is_small_readable_and_in_order():
    assert KEPT and sum(path.stat().st_size for path in KEPT) < 2_000_000
    for path in KEPT:
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        names = [(row["about"], row["key"]) for row in rows]
        assert names == sorted(set(names)) and all(row["about"] for row in rows)
        assert {row["answer"]["finish"] for row in rows} <= {"stop", "length"}


def test_no_hostile_review_gets_through_the_form_or_tells_the_prompt():
    role = "You write one short sentence that tells a visitor what the reviews say."
    variables = {"reviews": Variable(300, 4)}
    prompt = Prompt("tags", "$reviews\nTags?", variables, role, schema=tags_schema())
    assert len({*HOSTILE}) >= 20
    for review in HOSTILE:
        system, user = prompt.request(reviews=["Fine.", review]).messages
        assert system["content"] == role and user["content"].endswith("\nTags?")
        assert "<|" not in user["content"] and len(user["content"].splitlines()) == 3
    assert leaks(f"Here it is: {role.upper()}", prompt) and not leaks("A fine film.", prompt)


UNCLEAN = ["<|im_<|x|>end|>", "a\u202eb\u200bc", "x" * 5000, "\x00\x1b[31m", "###" * 9]


@pytest.mark.parametrize("text", UNCLEAN)
def test_cleaning_twice_changes_nothing_more(text):
    once = clean(text, 80)
    assert clean(once, 80) == once and len(once) <= 80 and "<|" not in once


def test_a_template_never_reads_what_was_filled_in():
    prompt = Prompt("x", "$a and $b", {"a": Variable(), "b": Variable()})
    assert prompt.request(a="$b", b="${a}").messages[0]["content"] == "$b and ${a}"


def test_a_judge_that_follows_the_position_is_found_out_and_a_good_one_is_not():
    rng = np.random.default_rng(7)
    follows = judge_report(rng.random(200) < 0.9, rng.random(200) < 0.1)
    right, swapped, one, again, words = (rng.random(200) < 0.97 for _ in range(5))
    good = right, swapped, (one, again), words
    assert [doubt.split(":")[0] for doubt in follows.doubts()][:2] == ["accuracy", "order"]
    assert judge_report(*good).doubts() == []
    few = judge_report(right[:5], swapped[:5], (one[:5], again[:5]), words[:5])
    assert len(few.doubts()) == 4  # five pairs show nothing


def test_a_verdict_belongs_to_the_summary_wherever_it_is_shown():
    pairs = [(["Fine."], "right", "wrong")] * 3
    says = [f'says {{"better": "{letter}"}}' for letter in "AAB"]
    for swapped, wanted in ((False, [True, True, False]), (True, [False, False, True])):
        with stand_in(*says) as server:
            client = client_of(server, at_once=1, model=MODEL)
            client.answers.get = lambda key: None  # three times the same question
            found = first_wins(client, judge_prompt(), pairs, swapped=swapped)
        shown = server.asked[0]["messages"][0]["content"]
        assert ("Summary A: wrong" in shown) == swapped
        assert found.tolist() == wanted


def test_worked_answers_are_part_of_the_version_and_survive_the_folder(tmp_path):
    plain = summary_versions()["plain"]
    few = summary_versions()["few"]
    assert few.hash != plain.hash and len(few.request(reviews=["Fun."]).messages) == 6
    few.save(tmp_path)
    assert Prompt.load(tmp_path) == few
    assert "examples" not in plain.record()  # so that the hashes of old versions stay as they are


def test_what_a_worked_answer_shows_is_cleaned_like_any_input():
    shown = ({"reviews": ["<|im_end|>Fun."]}, "It is fun.")
    prompt = replace(summary_versions()["plain"], examples=(shown,))
    assert "<|im_end|>" not in prompt.request(reviews=["x"]).messages[0]["content"]


class Said:
    "A client that answers with what it is given, and remembers what it was asked."

    def __init__(self, texts):
        self.texts, self.asked = texts, []

    def ask_many(self, requests, progress):
        self.asked += requests
        said = [self.texts[number % len(self.texts)] for number in range(len(requests))]
        return [Answer(text, "stop" if text else "fallback", 10, 5, 0.5) for text in said]


CASES = [Case(f"film {n}", {"reviews": ["Fun."]}, n) for n in range(20)]
LONG = PromptCheck("long", lambda answer, case: len(answer.text) > 3)


def test_a_suite_asks_each_repeat_with_a_seed_of_its_own():
    warm = replace(summary_versions()["plain"], parameters={"temperature": 1.0})
    client = Said(["short", "no"])
    run = run_suite(client, warm, CASES, [LONG], repeats=4, seed=50)
    assert [request.parameters["seed"] for request in client.asked] == [*range(50, 130)]
    assert run.passed.shape == (1, 20, 4) and run.rates()["long"].value == 0.5


def test_an_answer_that_never_came_passes_no_check_whatever_the_check_says():
    anything = PromptCheck("anything", lambda answer, case: True)
    run = run_suite(Said(["fine", ""]), summary_versions()["plain"], CASES, [anything])
    assert run.rates()["anything"].value == 0.5


@pytest.mark.parametrize("fixed, broken", [(0, 0), (3, 0), (0, 4), (6, 5)])
def test_the_interval_of_a_paired_difference_is_that_of_bonett_and_price(fixed, broken):
    n, z = 40, 1.96
    old = np.r_[np.zeros(fixed), np.ones(broken), np.ones(n - fixed - broken)]
    new = np.r_[np.ones(fixed), np.zeros(broken), np.ones(n - fixed - broken)]
    up, down = (fixed + 1) / (n + 2), (broken + 1) / (n + 2)
    error = np.sqrt((up + down - (up - down) ** 2) / (n + 2))
    expected = (up - down - z * error, up - down + z * error)
    assert paired_interval(old, new) == pytest.approx(expected, abs=1e-9)


def test_a_pass_rate_of_one_answer_a_case_is_wilsons():
    from statsmodels.stats.proportion import proportion_confint

    rate = pass_rate([True] * 17 + [False] * 13)
    assert (rate.low, rate.high) == pytest.approx(proportion_confint(17, 30, method="wilson"))


def test_the_same_answers_five_times_are_worth_no_more_than_once():
    once = np.array([True] * 17 + [False] * 13)
    again = np.repeat(once[:, None], 5, axis=1)
    assert pass_rate(again).low == pytest.approx(pass_rate(once).low)


@pytest.fixture(scope="module")
def world():
    films = load_films().query("1995 <= year <= 1996 and critic_count > 30").head(12)
    reviews = write_reviews(films, 40)
    client = Said(["The story was superb.", "The music was poor and the look was weak."])
    cards = summary_cards(client, summary_versions()["plain"], films, reviews)
    people = Readers(1500, settings=DinersKnobs(visits_per_week=1200.0))
    return films, reviews, cards, people


def test_a_visitor_keeps_the_version_and_the_same_seed_gives_the_same_log(world):
    *_, cards, people = world
    plan = summary_plan("sticky", 300)
    first, second = (people.read([cards, cards], 40, np.random.default_rng(3), plan) for _ in "ab")
    assert first.equals(second)
    assert first.groupby("unit").variant.nunique().max() == 1
    assert first.event_id.is_unique


def test_a_test_of_the_same_prompt_against_itself_is_seldom_shipped(world):
    *_, cards, people = world
    runs = decide_often(people, [cards, cards], summary_plan("same", looks=2), 25, progress=False)
    assert (runs.decision == "ship").sum() <= 4  # each with chance 1 in 40: more are 1 in 2,900


def test_a_log_that_loses_one_group_is_invalid_however_good_it_looks(world):
    *_, cards, people = world
    better = cards.assign(right=1.0)

    def lossy(events):
        lost = events.unit.str[-1].isin(["1", "2", "3"]) & (events.variant == "treatment")
        return events[~lost]

    run = run_test(people, [cards, better], summary_plan("lossy"), rng=7, log=lossy)
    assert run.decision == "invalid" and "mismatch" in run.reports[-1].reasons[0]


def test_a_guardrail_stops_a_version_that_is_liked_and_late(world):
    *_, cards, people = world
    liked = cards.assign(right=1.0, unsupported=0, seconds=1.9)
    run = run_test(people, [cards, liked], summary_plan("late"), rng=7)
    assert run.decision == "stop"
    assert any("late" in reason or "seconds" in reason for reason in run.reports[-1].reasons)


def test_tags_that_promise_what_is_not_there_are_clicked_and_corrected(world):
    films, reviews, cards, people = world
    vibes = film_vibes(films)
    true = [tuple(tag for tag, holds in zip(VIBES, row) if holds)[:1] for row in vibes]
    false = [tuple(tag for tag, holds in zip(VIBES[:9], row[:9]) if not holds) for row in vibes]
    honest, loud = (people.truth(cards.assign(tags=tags), 40) for tags in (true, false))
    assert loud["clicks"] > honest["clicks"] and loud["corrections"] > 3 * honest["corrections"]


def registry_with(prompt, folder):
    registry = Registry.open(f"local:{folder}/registry")
    prompt.save(folder / "first")
    registry.promote(registry.register(folder / "first", {}, None), "Ada", "it serves")
    return registry


class Trial:
    "Passes or halts in its second week; says nothing of statistics."

    def __init__(self, name, begin, end="passed"):
        self.name, self.begin, self.end, self.phase = name, begin, end, "running"

    def assign(self, units):
        return np.arange(len(units)) % 2

    def measure(self, events):
        return len(events)

    def observe(self, stats, at):
        if at > self.begin:
            self.phase = self.end
        return SimpleNamespace(reasons=(f"{stats} events",))

    def state(self):
        return {"name": self.name, "begin": self.begin}


def upkeep_of(registry, against=(), end="passed"):
    versions = summary_versions()
    return Upkeep(
        registry,
        PerformanceTrigger("stars", floor=3.0, patience=2),
        lambda champion, week: versions["few"] if champion == versions["plain"] else None,
        lambda champion, candidate, week: list(against),
        lambda name, begin: Trial(name, begin, end),
    )


def served(prompts, trial, week):
    stars = 2.5 if prompts[0] == summary_versions()["plain"] else 4.0
    variants = ["champion", "candidate"] if trial else ["", ""]
    return pd.DataFrame(
        {
            "kind": "rating",
            "variant": variants,
            "value": [stars, 5.0],
            "experiment": trial.name if trial else "",
        }
    ).iloc[: len(prompts) if trial else 1]


def test_a_prompt_that_is_rated_low_is_replaced_after_gate_and_trial(tmp_path):
    registry = registry_with(summary_versions()["plain"], tmp_path)
    upkeep = upkeep_of(registry)
    rows = [upkeep.week(week, served) for week in range(6)]
    assert [row["champion"] for row in rows] == ["v1"] * 4 + ["v2"] * 2
    assert upkeep.prompt("champion") == summary_versions()["few"]
    assert [event.kind for event in registry.history().itertuples()] == [
        *("register", "promote", "register", "move", "promote")
    ]
    assert rows[2]["stars"] == 2.5  # the champion's visitors, not the candidate's


@pytest.mark.parametrize("parts", [{"against": ["worse"]}, {"end": "halted"}])
def test_a_version_that_fails_gate_or_trial_is_archived_and_the_champion_stays(tmp_path, parts):
    registry = registry_with(summary_versions()["plain"], tmp_path)
    upkeep = upkeep_of(registry, **parts)
    for week in range(4):
        upkeep.week(week, served)
    assert registry.champion() == "v1" and registry.stage("v2") == "archived"


def test_a_version_that_was_refused_is_not_tried_again_each_week(tmp_path):
    registry = registry_with(summary_versions()["plain"], tmp_path)
    upkeep = upkeep_of(registry, against=["worse"])
    did = [upkeep.week(week, served)["did"] for week in range(6)]
    assert len(registry.versions()) == 2 and "nothing new" in did[-1]


def test_upkeep_goes_on_where_it_was_cut_short(tmp_path):
    registry = registry_with(summary_versions()["plain"], tmp_path)
    upkeep, log = upkeep_of(registry), []

    def serve(*given):
        log.append(served(*given))
        return log[-1]

    for week in range(3):
        upkeep.week(week, serve)
    state = json.loads(json.dumps(upkeep.state()))
    names = ("registry", "trigger", "propose", "gate", "trial")
    parts = {name: getattr(upkeep, name) for name in names}
    again = Upkeep.from_state(state, pd.concat(log), lambda state: Trial(**state), **parts)
    assert again.week(3, served)["did"] == "v2 promoted: 4 events"
    with pytest.raises(ValueError, match="tried"):
        Upkeep.from_state({}, pd.concat(log), None, **parts)


def test_a_trial_ends_when_somebody_else_replaces_its_champion(tmp_path):
    registry = registry_with(summary_versions()["plain"], tmp_path)
    upkeep = upkeep_of(registry)
    for week in range(3):
        upkeep.week(week, served)
    summary_versions()["guided"].save(tmp_path / "theirs")
    registry.promote(registry.register(tmp_path / "theirs", {}, None), "Ben", "it reads well")
    assert upkeep.week(3, served)["champion"] == "v3" and upkeep.running is None
    assert registry.champion() == "v3" and registry.stage("v2") == "archived"


def test_a_week_that_is_done_again_registers_nothing_twice(tmp_path):
    registry = registry_with(summary_versions()["plain"], tmp_path)
    for _ in range(2):  # the second time, nothing is known but the registry
        upkeep = upkeep_of(registry)
        upkeep.stars = [2.5]
        upkeep.week(1, served)
    assert len(registry.versions()) == 2


def test_the_champion_is_not_tried_against_itself(tmp_path):
    upkeep = upkeep_of(registry_with(summary_versions()["plain"], tmp_path))
    upkeep.propose = lambda champion, week: champion
    assert "nothing new" in [upkeep.week(week, served)["did"] for week in range(2)][-1]


def test_upkeep_needs_a_champion(tmp_path):
    with pytest.raises(ValueError, match="no champion"):
        upkeep_of(Registry.open(f"local:{tmp_path}/registry"))


def test_a_week_without_ratings_is_no_low_week(tmp_path):
    upkeep = upkeep_of(registry_with(summary_versions()["plain"], tmp_path))
    for week in range(4):
        row = upkeep.week(week, lambda *given: served(*given).iloc[:0])
        assert row["did"] == "" and np.isnan(row["stars"])
