"""The page that people open, in a browser and by its API: what was seen is what is counted, what
was thanked for is kept, versions change under it without a failed request, and strangers can do no
harm."""

import json, os, re, shutil, signal, subprocess, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace

import pytest
import requests
import sqlalchemy as sa
from axe_playwright_python.sync_playwright import Axe
from bs4 import BeautifulSoup
from conftest import ROOT
from prometheus_client.parser import text_string_to_metric_families

from trending_now.app import (
    AppServer,
    Service,
    Snapshot,
    WorkspaceSource,
    build_app,
    service_of,
    view_for,
)
from trending_now.catalogue import GENRES, load_films
from trending_now.delivery.delivery import small_settings
from trending_now.loop.loop import run
from trending_now.loop.mixed_trials import InterleavingTrial
from trending_now.loop.people import waiting
from trending_now.loop.trials import ShadowTrial
from trending_now.loop.views import open_registry
from trending_now.loop.workspace import Workspace
from trending_now.platform import Draft, EventLog, ParameterChange, Platform

DESK, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}
HOSTILE = "\"'><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7*7 }}"


def begun(folder, weeks, **registry):
    "A workspace of a small service in which something happens every week."
    settings = small_settings()
    settings = replace(settings, registry=replace(settings.registry, **registry))
    workspace = Workspace(folder)
    run(workspace, settings, weeks, progress=False, lanes=False)
    return workspace


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    "Four weeks."
    folder = tmp_path_factory.mktemp("made") / "workspace"
    begun(folder, 4)
    return folder


@pytest.fixture
def folder(made, tmp_path):
    "A workspace of one's own."
    return shutil.copytree(made, tmp_path / "workspace")


@pytest.fixture
def server(folder):
    "The service over it."
    with AppServer(service_of(folder, every=0.1)) as running:
        yield running


@pytest.fixture
def operator(server):
    "Somebody with the token."
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {server.service.token.decode()}"
    return session


def soup(answer):
    return BeautifulSoup(answer.text, "html.parser")


def opened(server, visitor=None):
    "(a visitor, the front page, the page of its first film) as a browser would have them."
    visitor = visitor or requests.Session()
    front = soup(visitor.get(server.url))
    film = soup(visitor.get(server.url + front.select_one(".card a")["href"]))
    return visitor, front, film


def filled(film, name, **said):
    "(address, fields) of a form of a film's page."
    form = film.select_one(f'form[action$="/{name}"]')
    fields = {f["name"]: f["value"] for f in form.select("input[type=hidden]")}
    return form["action"], {**fields, **said}


# ------------------------------------------------------------ in a browser


def watched(browser, url, **options):
    "A page in Chromium; what it asked other hosts for, and what it complained about."
    context = browser.new_context(**options)
    page, outside, errors = context.new_page(), [], []
    page.on("request", lambda r: None if r.url.startswith(url) else outside.append(r.url))
    page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda e: errors.append(str(e)))
    return context, page, outside, errors


def test_a_visitor_clicks_rates_and_corrects_and_the_board_moves(browser, server):
    url = server.url
    context, page, outside, errors = watched(browser, url, viewport=DESK)
    page.goto(url)
    page.locator(".card a").nth(2).click()
    title = page.locator("h1").inner_text()
    page.get_by_label("4", exact=True).check()
    page.get_by_role("button", name="Rate").click()
    assert "Your rating is kept" in page.get_by_role("status").inner_text()
    page.get_by_text("Wrong genre?").click()
    page.locator("select[name=genre]").select_option("Horror")
    page.get_by_label("has this genre").check()
    page.get_by_role("button", name="Send correction").click()
    assert "Your correction is kept" in page.get_by_role("status").inner_text()
    page.get_by_role("button", name="Good pick").click()
    page.get_by_text("Something else is wrong").click()
    page.get_by_label("What is it?").fill(HOSTILE)
    page.get_by_role("button", name="Send report").click()
    assert "Somebody will read it" in page.get_by_role("status").inner_text()
    page.get_by_role("link", name="Back to all films").click()
    page.wait_for_selector(".card")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        events = server.service.log.read()
        if (events.payload.str.contains("dwell")).any():
            break
        time.sleep(0.1)
    told = events[~events.payload.str.contains("dwell")]
    assert told.kind.tolist()[:6] == [
        "exposure",
        "click",
        "rating",
        "correction",
        "rating",
        "report",
    ]
    assert told.request_id.iloc[:6].nunique() == 1 and told.unit.nunique() == 1
    film = server.service.predictor.films.loc[told.film_id.iloc[1]]
    assert film.title == title and told.position.iloc[1] == 2
    assert told.value.iloc[2:5].tolist() == [4, 1, 5]
    assert json.loads(told.payload.iloc[3])["genre"] == "Horror"
    assert json.loads(told.payload.iloc[5])["text"] == HOSTILE
    assert (events.payload.str.contains("dwell")).any(), "how long the film was looked at"
    assert outside == [] and errors == []

    page.goto(f"{url}/board")
    page.get_by_label("Token").fill(server.service.token.decode())
    page.get_by_role("button", name="Log in").click()
    page.wait_for_selector("text=What is going on?")
    table = page.locator("[data-renew]")
    assert "Which experiments are there?" in table.inner_text()
    platform = server.service.platform
    change = ParameterChange("plain", ({}, {"summaries": False}), (0.5, 0.5))
    platform.write_draft(Draft(change, "clicks a view", 100, "less is more"), "ada", "x")
    platform.start("plain", "ada", "x")
    page.locator("[data-renew] td", has_text="plain").first.wait_for(timeout=60_000)
    assert outside == [] and errors == []
    context.close()


def visit_all(page, server):
    "The pages there are, one after the other, the last one with the board."
    page.goto(server.url)
    yield "front"
    page.locator(".card a").first.click()
    for summary in page.locator("summary").all():
        summary.click()
    yield "film"
    page.goto(f"{server.url}/film/nothing")
    yield "sorry"
    page.goto(f"{server.url}/board")
    yield "login"
    page.get_by_label("Token").fill(server.service.token.decode())
    page.get_by_role("button", name="Log in").click()
    page.wait_for_selector("text=What is going on?")
    yield "board"


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESK, PHONE], ids=["wide", "phone"])
def test_pages_can_be_read_by_everybody(browser, server, theme, size):
    context, page, outside, errors = watched(browser, server.url, viewport=size, color_scheme=theme)
    for name in visit_all(page, server):
        found = Axe().run(page)
        told = [(v["id"], v["nodes"][0]["html"]) for v in found.response["violations"]]
        assert told == [], f"{name}, {theme}"
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= size["width"], f"{name} is {wide} pixels wide"
        if name in ("front", "film"):
            assert page.locator("h1").count() == 1
    back = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (back == "rgb(255, 255, 255)") == (theme == "light")
    assert outside == [] and [e for e in errors if "404" not in e] == []
    context.close()


def test_the_page_can_be_used_by_keyboard_and_without_a_script(browser, server):
    context, page, *_ = watched(browser, server.url, viewport=DESK, java_script_enabled=False)
    page.goto(server.url)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # to the content
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # the first film
    page.wait_for_url("**/film/**")
    button = page.get_by_role("button", name="Not for me")
    button.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("text=Thank you, that is kept.")
    assert server.service.log.read().kind.tolist() == ["exposure", "click", "rating"]
    context.close()


def test_a_person_approves_and_rolls_back_from_the_board(browser, tmp_path):
    workspace, weeks = begun(tmp_path / "w", 2, approve="file"), 2
    while not waiting(workspace):
        weeks += 1
        run(workspace, None or workspace_settings(workspace), weeks, progress=False, lanes=False)
        assert weeks < 20
    version = waiting(workspace)
    with AppServer(service_of(tmp_path / "w", every=0.1)) as server:
        context, page, _, errors = watched(browser, server.url, viewport=PHONE)
        *_, _board = visit_all(page, server)
        assert f"{version} waits for you" in page.locator("main").inner_text()
        answer = page.locator('form[action="/board/answer"]')
        answer.get_by_label("Your name").fill("Ada")
        answer.get_by_label("Why").fill("its packet is whole")
        answer.get_by_label("yes, approve").check()
        answer.get_by_role("button", name="Send the answer").click()
        page.wait_for_selector("text=The next week acts on it")
        paper = workspace.read("requests")[-1]
        assert (paper["kind"], paper["version"], paper["by"]) == ("approve", version, "Ada")
        assert waiting(workspace) == ""
        run(workspace, workspace_settings(workspace), weeks + 1, progress=False, lanes=False)
        deadline = time.monotonic() + 60
        while server.service.live.now.main != version and time.monotonic() < deadline:
            time.sleep(0.05)
        assert server.service.live.now.main == version, "taken over without a restart"
        page.goto(f"{server.url}/board")
        page.get_by_text("Back to the former champion").click()
        back = page.locator('form[action="/board/rollback"]')
        back.get_by_label("Your name").fill("Ada")
        back.get_by_label("Why").fill("visitors complain")
        back.get_by_role("button", name="Roll back").click()
        page.wait_for_selector("text=It serves again")
        assert open_registry(workspace).champion() != version
        context.close()


def workspace_settings(workspace):
    from trending_now.loop.workspace import settings_of

    return settings_of(workspace)


# ------------------------------------------------------------ versions


def register_copy(folder, tmp_path, name):
    "A new version with the champion's files."
    registry = open_registry(Workspace(folder))
    copy = shutil.copytree(registry.get(registry.champion()).folder, tmp_path / name)
    return registry, registry.register(copy, {"week": 3}, None)


def test_a_new_version_is_taken_over_without_a_failed_request(server, folder, tmp_path):
    seen, stop = [], threading.Event()

    def ask():
        with requests.Session() as session:
            while not stop.is_set():
                answer = session.get(f"{server.url}/v1/page", timeout=60)
                seen.append((answer.status_code, answer.json().get("model_version")))

    askers = [threading.Thread(target=ask) for _ in range(3)]
    for asker in askers:
        asker.start()
    before = server.service.live.now.main
    registry, version = register_copy(folder, tmp_path, "copy")
    while len(seen) < 30:
        time.sleep(0.05)
    registry.promote(version, by="ada", reason="to see")
    deadline = time.monotonic() + 60
    while server.service.live.now.main != version and time.monotonic() < deadline:
        time.sleep(0.05)
    after = len(seen)
    while len(seen) < after + 30:
        time.sleep(0.05)
    stop.set()
    for asker in askers:
        asker.join()
    assert {status for status, _ in seen} == {200}
    assert seen[-1][1] == version != before and before in seen[0][1]


def test_a_damaged_version_is_refused_and_the_old_one_stays(server, folder, tmp_path, operator):
    live = server.service.live
    before = live.now.main
    live.stop()  # so that it looks when we say so
    registry, version = register_copy(folder, tmp_path, "copy")
    registry.promote(version, by="ada", reason="to see")
    model = next(registry.get(version).folder.rglob("*.ubj"))
    model.write_bytes(model.read_bytes()[:-1] + b"?")
    assert not live.look()
    health = requests.get(f"{server.url}/health").json()
    assert health["version"] == before and version in health["trouble"]
    assert before in requests.get(f"{server.url}/v1/page").json()["model_version"]
    assert "does not take over what is new" in operator.get(f"{server.url}/board/parts").text
    assert "trending_now_version_refused 1.0" in requests.get(f"{server.url}/metrics").text
    registry.rollback("ada", "it was damaged")
    assert live.look()
    assert requests.get(f"{server.url}/health").json()["trouble"] == ""


def test_an_experiment_that_starts_is_on_the_page_without_a_restart(server, operator):
    platform = server.service.platform
    change = ParameterChange("two", ({}, {"columns": 2}), (0.5, 0.5))
    platform.write_draft(Draft(change, "clicks a view", 100, "x"), "ada", "x")
    platform.start("two", "ada", "x")
    deadline = time.monotonic() + 60
    while not server.service.live.now.serving.changes and time.monotonic() < deadline:
        time.sleep(0.05)
    for unit in (f"v{n}" for n in range(20)):
        page = operator.get(f"{server.url}/v1/page", params={"unit": unit}).json()
        arm = dict(platform.serve(unit).exposures)["two"]
        assert page["about"]["in:two"] == ("control", "treatment")[arm]
        longest = max(len(row["films"]) for row in page["rows"])
        assert longest <= (4, 2)[arm]
        told = {"view": page["view"], "events": [{"kind": "exposure"}]}
        assert operator.post(f"{server.url}/v1/events", json=told).json() == {"kept": 1}
    assert sum(platform.report("two").units) == 20


def test_a_candidate_in_the_shadow_is_asked_and_not_seen(server):
    live, now = server.service.live, server.service.live.now
    shadow = ShadowTrial("x-week-1")
    models = {now.main: now.models[now.main], "x": now.models[now.main]}
    live.now = replace(
        now,
        trial=shadow,
        versions=(now.main, "x"),
        models=models,
        proba={**now.proba, "x": now.proba[now.main]},
    )
    film = now.films.film_id.iloc[0]
    answer = requests.get(f"{server.url}/v1/predict", {"film_id": film}).json()
    assert answer["model_version"] == now.main and answer["experiment"] == ""
    assert (
        'trending_now_shadow_total{answer="same"} 1.0' in requests.get(f"{server.url}/metrics").text
    )


def test_each_answer_names_version_experiment_and_variant(server, operator):
    now = server.service.live.now
    for unit in (f"v{n}" for n in range(30)):
        page = operator.get(f"{server.url}/v1/page", params={"unit": unit}).json()
        view = view_for(now, unit)
        assert page["experiment"] == view.experiment
        if now.trial is None or view.variant in ("champion", "candidate", ""):
            assert (page["model_version"], page["variant"]) == (view.model_version, view.variant)
        film = page["rows"][0]["films"][0]["film_id"]
        asked = {"film_id": film, "unit": unit}
        told = operator.get(f"{server.url}/v1/predict", params=asked).json()
        assert told["model_version"] in now.models and {*told["films"][film]} == {*GENRES}


# ------------------------------------------------------------ kept


def test_kill_9_under_load_loses_nothing_that_was_acknowledged(folder):
    command = [
        sys.executable,
        "-m",
        "trending_now.cli",
        "serve",
        "--workspace",
        str(folder),
        "--port",
        "0",
    ]
    from trending_now.delivery.targets import free_port

    port = free_port()
    command[-1] = str(port)
    token, kept = "a token for this test, which nobody prints", []
    env = {**os.environ, "TRENDING_NOW_TOKEN": token}
    with open(folder / "output", "w") as output:
        process = subprocess.Popen(command, env=env, stdout=output, stderr=output)
    url = f"http://127.0.0.1:{port}"
    head = {"Authorization": f"Bearer {token}"}
    for _ in range(600):
        try:
            requests.get(f"{url}/health", timeout=5)
            break
        except requests.ConnectionError:
            assert process.poll() is None, (folder / "output").read_text()
            time.sleep(0.1)

    def visitor(number):
        with requests.Session() as session:
            session.headers.update(head)
            while True:
                try:
                    asked = {"unit": f"u{number}"}
                    page = session.get(f"{url}/v1/page", params=asked, timeout=30).json()
                    view, first = page["view"], page["rows"][0]["films"][0]
                    events = [
                        {"kind": "exposure"},
                        {
                            "kind": "click",
                            "film_id": first["film_id"],
                            "position": first["position"],
                        },
                    ]
                    told = session.post(
                        f"{url}/v1/events", json={"view": view, "events": events}, timeout=30
                    )
                except requests.RequestException:
                    return
                if told.status_code == 201:
                    kept.append(view)

    with ThreadPoolExecutor(6) as pool:
        running = [pool.submit(visitor, number) for number in range(6)]
        deadline = time.monotonic() + 120
        while len(kept) < 150 and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        for future in running:
            future.result()
    with EventLog(folder / "events.db") as log:
        there = log.read()
    assert len(kept) >= 150 and there.event_id.is_unique
    assert (there.kind == "click").sum() >= len(kept)
    assert (there.kind == "exposure").sum() >= len(kept)
    told = (folder / "output").read_text()
    assert token not in told and "Traceback" not in told


def test_what_is_sent_twice_is_one_event_and_a_change_of_mind_is_another(server):
    visitor, front, film = opened(server)
    address, fields = filled(film, "rating", stars=5)
    for _ in range(2):  # the same form, sent again
        assert "rating is kept" in visitor.post(server.url + address, data=fields).text
    visitor.get(server.url + front.select_one(".card a")["href"])  # the same click again
    assert server.service.log.read().kind.tolist() == ["exposure", "click", "rating"]
    for stars in (1, 5):  # and back again
        _, _, film = (
            visitor,
            front,
            soup(visitor.get(server.url + front.select_one(".card a")["href"])),
        )
        address, fields = filled(film, "rating", stars=stars)
        visitor.post(server.url + address, data=fields)
    assert server.service.log.read(kind="rating").value.tolist() == [5, 1, 5]
    told = {"view": fields["view"], "what": "thumb", "up": True, "film_id": address.split("/")[2]}
    for n in (0, 0, 1):
        answer = visitor.post(f"{server.url}/v1/feedback", json={**told, "n": n})
        assert (answer.status_code, answer.json()) == (201, {"kept": 1})
    assert len(server.service.log.read(kind="rating")) == 5


def test_only_what_stood_on_the_page_can_be_clicked_or_rated(server):
    visitor = requests.Session()
    page = visitor.get(f"{server.url}/v1/page").json()
    shown = {f["film_id"]: f["position"] for row in page["rows"] for f in row["films"]}
    other = next(f for f in server.service.predictor.films.index if f not in shown)
    film, place = next(iter(shown.items()))
    for film_id, position in ((other, 0), (other, -1), (film, place + 1), (film, 4000)):
        event = {"kind": "click", "film_id": film_id, "position": position}
        told = {"view": page["view"], "events": [{"kind": "exposure"}, event]}
        assert visitor.post(f"{server.url}/v1/events", json=told).status_code == 422
    told = {"view": page["view"], "what": "rating", "stars": 1, "film_id": other}
    assert visitor.post(f"{server.url}/v1/feedback", json=told).status_code == 422
    assert server.service.log.count() == 0
    events = [{"kind": "click", "film_id": film, "position": place}]
    told = {"view": page["view"], "events": events}
    assert visitor.post(f"{server.url}/v1/events", json=told).json() == {"kept": 1}


def test_a_script_that_invents_visitors_is_slowed_down(server):
    server.service.told_by_address.clock = lambda: 0.0  # however long the requests take
    codes = []
    for _ in range(40):
        page = requests.get(f"{server.url}/v1/page").json()
        places = [(f["film_id"], f["position"]) for row in page["rows"] for f in row["films"]]
        events = [
            {"kind": k, "film_id": f, "position": p}
            for k in ("click", "impression")
            for f, p in places
        ][:100]
        told = {"view": page["view"], "events": events}
        codes.append(requests.post(f"{server.url}/v1/events", json=told).status_code)
    assert 429 in codes and codes.count(201) < 30


def test_a_link_that_is_shared_opens_the_film_and_counts_nothing(server):
    visitor, front, film = opened(server)
    friend = requests.Session()
    page = friend.get(server.url + front.select_one(".card a")["href"])
    assert page.status_code == 200 and soup(page).h1.text == film.h1.text
    assert server.service.log.read().kind.tolist() == ["exposure", "click"]
    address, fields = filled(film, "rating", stars=1)
    answer = friend.post(server.url + address, data=fields)
    assert answer.status_code == 403 and "text/html" in answer.headers["content-type"]
    address, fields = filled(soup(page), "rating", stars=2)  # the friend's own form
    assert "rating is kept" in friend.post(server.url + address, data=fields).text
    rating = server.service.log.read(kind="rating")
    assert rating.variant.tolist() == [""] and rating.model_version.iloc[0]
    old = friend.get(f"{server.url}/film/{address.split('/')[2]}?view=rubbish&position=2")
    assert old.status_code == 200, "nor does an old link"


def test_a_visitor_stays_the_same_for_longer_than_a_trial(server):
    visitor = requests.Session()
    visitor.get(server.url)
    cookie = next(c for c in visitor.cookies if c.name == "visitor")
    assert cookie.expires - time.time() > 300 * 86_400
    first = server.service.log.read().unit.iloc[0]
    answer = visitor.get(server.url)
    assert "visitor=" in answer.headers["set-cookie"], "and from visit to visit anew"
    assert server.service.log.read().unit.tolist() == [first] * 2


def test_the_tags_of_a_film_are_those_that_its_place_on_the_page_had(server):
    service = server.service
    service.live.stop()
    now = service.live.now
    other = (now.proba[now.main] < 0.5).astype(float)  # a version of another opinion
    service.live.now = mixed = replace(
        now,
        versions=(now.main, "x"),
        trial=InterleavingTrial("x-week-1"),
        models={now.main: now.models[now.main], "x": now.models[now.main]},
        proba={now.main: now.proba[now.main], "x": other},
    )
    visitor = requests.Session()
    front = soup(visitor.get(server.url))
    letters = service.log.read().variant.iloc[0][4:]
    assert {*letters} >= {"a", "b"}
    for card in front.select(".card"):
        link = card.select_one("a")["href"]
        film = soup(visitor.get(server.url + link))
        said = film.select_one(".tags").text.split("·")[1].strip()
        assert said == card.select_one(".tags").text.split("·")[1].strip()
    assert mixed.main in now.models


def test_a_snapshot_that_changes_during_a_request_changes_nothing_for_it(server, monkeypatch):
    service = server.service
    service.live.stop()
    before = service.live.now
    fewer = replace(
        before, films=before.films.tail(3), proba={v: p[-3:] for v, p in before.proba.items()}
    )
    keep = Service.keep

    async def swapped(self, events):
        self.live.now = fewer
        return await keep(self, events)

    monkeypatch.setattr(Service, "keep", swapped)
    assert len(soup(requests.get(server.url)).select(".card")) > 3
    assert 0 < len(soup(requests.get(server.url)).select(".card")) <= 3


@pytest.mark.parametrize("text", ["a\x00b", "\ud800", "a\\u0000b", "ä" * 500, "\u202e✓"])
def test_any_text_is_kept_or_refused(server, text):
    visitor, _, film = opened(server)
    address, fields = filled(film, "report")
    body = json.dumps(
        {"view": fields["view"], "what": "report", "text": text, "film_id": address.split("/")[2]}
    )
    answer = visitor.post(
        f"{server.url}/v1/feedback",
        data=body.encode(),
        headers={"content-type": "application/json"},
    )
    assert answer.status_code in (201, 422)
    data = {**fields, "text": text.encode("utf-8", "surrogatepass")}
    assert visitor.post(server.url + address, data=data).status_code in (200, 422)


def test_a_page_that_is_loaded_ahead_is_asked_for_anew(server):
    visitor, front, _ = opened(server)
    before = server.service.log.count()
    ahead = {"Sec-Purpose": "prefetch;prerender"}
    for path in ("/", front.select_one(".card a")["href"]):
        assert visitor.get(server.url + path, headers=ahead).status_code == 503
    assert server.service.log.count() == before


def test_a_log_that_is_locked_is_said_and_the_page_stays(made, tmp_path):
    folder = shutil.copytree(made, tmp_path / "w")
    with EventLog(folder / "events.db", patience=0.3) as log:
        service = Service(WorkspaceSource(folder, Platform(log)), log, folder / "live")
        with AppServer(service) as server:
            visitor, front, film = opened(server)
            address, fields = filled(film, "rating", stars=5)
            other = sa.create_engine(log.url)
            with other.connect() as holder:
                holder.connection.dbapi_connection.isolation_level = None
                holder.exec_driver_sql("BEGIN IMMEDIATE")
                answer = visitor.post(server.url + address, data=fields)
                assert answer.status_code == 503 and "was not kept" in answer.text
                told = {
                    "view": fields["view"],
                    "what": "thumb",
                    "up": True,
                    "film_id": address.split("/")[2],
                }
                said = requests.post(f"{server.url}/v1/feedback", json=told)
                assert said.status_code == 503 and said.headers["retry-after"]
                assert len(soup(visitor.get(server.url)).select(".card")) > 5
                assert requests.get(f"{server.url}/ready").status_code == 503
                assert (
                    "trending_now_uncounted_total 1.0" in requests.get(f"{server.url}/metrics").text
                )
                holder.connection.dbapi_connection.rollback()
            other.dispose()
            assert "rating is kept" in visitor.post(server.url + address, data=fields).text
            assert requests.get(f"{server.url}/ready").status_code == 200
            kinds = log.read().kind.tolist()
    assert kinds == ["exposure", "click", "rating"]


# ------------------------------------------------------------ lines of a language model


def test_the_real_model_writes_lines_that_a_running_page_shows(server, folder):
    command = [sys.executable, "-m", "trending_now.cli", "cards", "--workspace", folder]
    before = soup(requests.get(server.url)).select(".vibe")
    done = subprocess.run([*command, "--films", "1"], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0 and "1 films have a line" in done.stdout, done.stderr
    line = json.loads((folder / "live/cards.jsonl").read_text())
    assert len(line["vibes"]) == 3 and line["line"] and len(line["by"]) == 2
    page = soup(requests.get(server.url))
    assert before == [] and [v.text for v in page.select(".vibe")][:3] == line["vibes"]
    assert line["line"] in page.text, "without a restart"
    told = requests.get(f"{server.url}/v1/page").json()
    films = [film for row in told["rows"] for film in row["films"]]
    assert [f["vibes"] for f in films if f["film_id"] == line["film_id"]] == [line["vibes"]]
    again = subprocess.run([*command, "--films", "1"], capture_output=True, text=True, timeout=600)
    assert again.returncode == 0 and (folder / "live/cards.jsonl").read_text().count("\n") == 1


def test_the_page_works_within_a_frame_of_a_notebook(browser, server):
    "JupyterLab is another port of the same machine: cookies and forms have to work there."
    import http.server

    class Lab(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            page = f"<!doctype html><title>Lab</title>{server._repr_html_()}".encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_): ...

    lab = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Lab)
    threading.Thread(target=lab.serve_forever, daemon=True).start()
    context = browser.new_context(viewport=DESK)
    page = context.new_page()
    page.goto(f"http://localhost:{lab.server_port}")
    frame = page.frame_locator("iframe")
    frame.locator(".card a").first.click()
    frame.get_by_role("button", name="Good pick").click()
    frame.locator("text=Thank you, that is kept.").wait_for()
    told = server.service.log.read(kind=["exposure", "click", "rating"])
    assert told.kind.tolist() == ["exposure", "click", "rating"] and told.unit.nunique() == 1
    context.close()
    lab.shutdown()


# ------------------------------------------------------------ strangers


def test_what_visitors_write_is_text_wherever_it_is_shown(server, operator):
    films = server.service.predictor.films
    visitor, _, film = opened(server)
    film_id = filled(film, "rating")[0].split("/")[2]
    films.loc[film_id, "title"] = HOSTILE
    visitor.headers.update({"User-Agent": HOSTILE, "Referer": HOSTILE, "X-Forwarded-For": HOSTILE})
    page = visitor.get(f"{server.url}/film/{film_id}", params={"thanks": HOSTILE})
    found = soup(page)
    assert found.h1.text == HOSTILE and found.find_all("img") == []
    assert [s.get("src") for s in found.find_all("script")] == ["/static/page.js"]
    address, fields = filled(film, "correction", genre=HOSTILE, has="yes")
    refused = visitor.post(server.url + address, data=fields)
    assert refused.status_code == 422 and "<script>alert" not in refused.text
    change = ParameterChange("hostile", ({}, {"columns": 2}), (0.5, 0.5))
    draft = Draft(change, "clicks a view", 100, HOSTILE)
    server.service.platform.write_draft(draft, HOSTILE, HOSTILE)
    time.sleep(1.1)
    board = soup(operator.get(f"{server.url}/board"))
    assert board.find_all("img") == [] and len(board.find_all("script")) == 1


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/film/nothing",
        "/v1/page",
        "/health",
        "/board",
        "/nowhere",
        "/static/style.css",
        "/openapi.json",
    ],
)
def test_every_answer_has_safe_headers(server, path):
    head = requests.get(server.url + path).headers
    policy = head["content-security-policy"]
    assert (
        "default-src 'none'" in policy
        and "unsafe" not in policy
        and "*" not in policy.split("frame-ancestors")[0]
    )
    assert head["x-content-type-options"] == "nosniff"
    assert head["referrer-policy"] == "same-origin"


def test_cookies_are_for_this_site_and_no_script(server):
    visitor = requests.Session()
    cookie = visitor.get(server.url).headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=lax" in cookie
    told = visitor.post(
        f"{server.url}/login", data={"token": server.service.token.decode()}, allow_redirects=False
    )
    cookie = told.headers["set-cookie"].lower()
    assert told.status_code == 303 and "httponly" in cookie and "samesite=strict" in cookie
    secure = requests.Request("GET", server.url)  # and secure where the page is
    assert "secure" not in cookie and secure


def test_a_form_of_another_page_or_visitor_does_nothing(server):
    visitor, _, film = opened(server)
    address, fields = filled(film, "rating", stars=1)
    _, _, stranger = opened(server)
    _, other = filled(stranger, "rating", stars=1)
    tried = [
        ({**fields, "form": other["form"]}, {}),  # a stranger's form
        ({**fields, "form": fields["view"]}, {}),  # a ticket of another kind
        ({**fields, "view": fields["view"][:-2]}, {}),  # a forged view
        ({name: v for name, v in fields.items() if name != "form"}, {}),
        (fields, {"Sec-Fetch-Site": "cross-site"}),
        (fields, {"Origin": "http://evil.example"}),
    ]
    for data, head in tried:
        answer = visitor.post(server.url + address, data=data, headers=head)
        assert answer.status_code == 403, (data, head)
    for data in (
        {**fields, "stars": "9"},
        {**fields, "stars": "four"},
        {**fields, "position": "-7"},
        {**fields, "position": "x"},
    ):
        assert visitor.post(server.url + address, data=data).status_code == 422
    assert visitor.post(f"{server.url}/film/nothing/rating", data=fields).status_code == 422
    assert visitor.post(server.url + address + "x", data=fields).status_code == 422
    events = server.service.log.read()
    assert events.kind.isin(["exposure", "click"]).all()


def test_what_changes_the_state_of_the_service_needs_the_token(server):
    url = server.url
    for path in ("/board/answer", "/board/rollback"):
        assert requests.post(url + path, data={"by": "x", "why": "y"}).status_code == 403
    assert requests.get(f"{url}/board/parts").status_code == 403
    assert requests.get(f"{url}/v1/page", params={"unit": "anna"}).status_code == 403
    assert "What is going on?" not in requests.get(f"{url}/board").text
    for wrong in ("", "x", server.service.token.decode()[:-1]):
        assert requests.post(f"{url}/login", data={"token": wrong}).status_code == 403
    known = requests.Session()
    known.post(f"{url}/login", data={"token": server.service.token.decode()})
    assert "What is going on?" in known.get(f"{url}/board").text
    forged = {"by": "x", "why": "y", "form": "z"}
    assert known.post(f"{url}/board/rollback", data=forged).status_code == 403
    form = soup(known.get(f"{url}/board")).select_one("input[name=form]")["value"]
    crossed = known.post(
        f"{url}/board/rollback",
        data={**forged, "form": form},
        headers={"Sec-Fetch-Site": "cross-site"},
    )
    assert crossed.status_code == 403
    told = known.post(f"{url}/board/rollback", data={"by": " ", "why": "y", "form": form})
    assert told.status_code == 409 and "could not be done" in told.text


def test_bodies_and_requests_have_a_limit(server, operator):
    url = server.url
    large = {"view": "x" * 100_000, "events": []}
    assert requests.post(f"{url}/v1/events", json=large).status_code == 413

    def chunks():
        for _ in range(100):
            yield b"x" * 10_000

    try:
        assert requests.post(f"{url}/v1/events", data=chunks()).status_code == 413
    except requests.ConnectionError:
        pass  # it was hung up on
    visitor = requests.Session()
    server.service.by_visitor.clock = lambda: 0.0
    page = visitor.get(f"{url}/v1/page").json()
    film = page["rows"][0]["films"][0]["film_id"]
    answers = [
        visitor.post(
            f"{url}/v1/feedback",
            json={"view": page["view"], "what": "report", "film_id": film, "text": f"no. {n}"},
        )
        for n in range(90)
    ]
    codes = [answer.status_code for answer in answers]
    assert 201 in codes and 429 in codes
    assert int(answers[codes.index(429)].headers["retry-after"]) >= 0
    assert server.service.log.count() == codes.count(201), "what was refused is not kept"


def test_an_error_nobody_expected_tells_a_visitor_nothing(server, monkeypatch):
    def broken(*args):
        raise ZeroDivisionError("a secret of the house")

    monkeypatch.setattr("trending_now.app.app.view_for", broken)
    for path in ("/", "/v1/page"):
        answer = requests.get(server.url + path)
        assert answer.status_code == 500
        assert "secret" not in answer.text and "Traceback" not in answer.text
    assert requests.get(f"{server.url}/health").status_code == 200


def test_the_api_keeps_to_its_description(server):
    "Schemathesis makes up requests, in and out of what the description allows: no answer is 5xx."
    token = server.service.token.decode()
    done = subprocess.run(
        [
            str(ROOT / ".venv/bin/schemathesis")
            if (ROOT / ".venv/bin/schemathesis").exists()
            else shutil.which("schemathesis"),
            "run",
            f"{server.url}/openapi.json",
            "--checks",
            "not_a_server_error,response_schema_conformance,status_code_conformance",
            "--exclude-checks",
            "status_code_conformance",
            "--max-examples",
            "40",
            "--seed",
            "7",
            "--generation-database",
            "none",
            "-H",
            f"Authorization: Bearer {token}",
        ],
        capture_output=True,
        text=True,
        timeout=600,
        cwd=server.service.folder,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]


def test_metrics_are_in_prometheus_form(server):
    opened(server)
    text = requests.get(f"{server.url}/metrics").text
    found = {family.name: family for family in text_string_to_metric_families(text)}
    assert found["trending_now_events_kept"].samples[0].value == 2
    count = sum(
        s.value
        for s in found["trending_now_request_seconds"].samples
        if s.name.endswith("_count") and s.labels["status"] == "200"
    )
    assert count >= 2


def test_nothing_unsafe_that_is_not_explained():
    "Of ruff's rules on security only this: programs are started, from lists, without a shell."
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "ruff",
            "check",
            "--select",
            "S",
            "--output-format",
            "json",
            "--isolated",
            "trending_now/app",
            "trending_now/platform",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert {found["code"] for found in json.loads(done.stdout)} <= {"S603"}


# ------------------------------------------------------------ the command


def test_serve_says_what_is_missing(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "trending_now.cli", "serve", "--workspace", tmp_path / "nothing"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 3 and "no run here yet" in done.stderr


def test_one_version_over_given_films_shows_these_films_alone(made, tmp_path):
    few = load_films().tail(400).head(30)
    model = open_registry(Workspace(made)).get("v1").folder
    with closing(service_of(tmp_path, model=model, films=few)) as service:
        shown = service.live.now.films.film_id
        assert list(shown) == list(few.film_id)
        assert all(service.predictor.known(film) for film in shown)


def test_a_stopped_service_leaves_nothing_behind(folder):
    before = threading.active_count()
    server = AppServer(service_of(folder))
    opened(server)
    server.stop()
    deadline = time.monotonic() + 30
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.1)
    with pytest.raises(requests.ConnectionError):
        requests.get(server.url, timeout=5)
    assert isinstance(server.service.live.now, Snapshot) and build_app
    with EventLog(folder / "events.db") as log:
        assert log.count() == 2
    assert re.search("events.db", " ".join(os.listdir(folder)))
def test_a_rollback_that_is_sent_twice_goes_back_once(tmp_path):
    small = small_settings()
    settings = replace(
        small,
        genres=replace(small.genres, trees=4, features="v1"),
        registry=replace(small.registry, gate=False),
        trials=replace(small.trials, test="none"),
    )
    workspace = Workspace(tmp_path / "w")
    run(workspace, settings, 3, progress=False, lanes=False)
    champions = [row.version for row in open_registry(workspace).history().itertuples()
                 if row.kind == "promote"]
    person = requests.Session()
    with AppServer(service_of(workspace)) as server:
        person.post(f"{server.url}/login", data={"token": server.service.token.decode()})
        form = soup(person.get(f"{server.url}/board")).select_one('form[action$="/rollback"]')
        fields = {f["name"]: f["value"] for f in form.select("input[type=hidden]")}
        told = {**fields, "by": "ada", "why": "a bad week"}
        answers = [
            person.post(f"{server.url}/board/rollback", data=told, allow_redirects=False)
            for _ in range(2)
        ]
    assert [answer.status_code for answer in answers] == [303, 409]
    assert open_registry(workspace).champion() == champions[-2]


def test_who_looks_at_a_film_twice_tells_twice_and_the_same_look_is_told_once(server):
    visitor, front, film = opened(server)
    about = film.select_one("[data-dwell]")
    look = {"kind": "dwell", "film_id": about["data-film"],
            "position": int(about["data-position"])}
    for seconds in (3.2, 7.5, 7.5):
        told = {"view": about["data-dwell"], "events": [{**look, "value": seconds}]}
        assert visitor.post(f"{server.url}/v1/events", json=told).status_code == 201
    assert server.service.log.read(kind="report").value.tolist() == [3.2, 7.5]
