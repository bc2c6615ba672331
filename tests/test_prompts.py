"""Prompts: the client before a server that misbehaves, the real model, replay, versions, and
reviews that give orders."""

import email.utils, json, os, signal, subprocess, sys, threading, time

import numpy as np
import pytest
from conftest import ROOT
from llm_stand_in import stand_in
from trending_now.prompts import (
    HOSTILE,
    MODEL,
    VIBES,
    Answer,
    KeptAnswers,
    Client,
    LocalServer,
    NotKept,
    Prompt,
    Refused,
    Request,
    Variable,
    clean,
    first_wins,
    judge_prompt,
    judge_report,
    leaks,
    tags_schema,
)

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
