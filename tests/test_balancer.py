"""Two processes of the app behind HAProxy, over one PostgreSQL: a visitor has one variant, whoever
answers; what one process has signed the other one takes; and however often one of them is killed,
what was acknowledged is in the log once, and nothing else is."""

import html, itertools, random, re, socket, subprocess, threading, time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import get_context

import pytest
import requests
from requests.adapters import HTTPAdapter

from trending_now.ab import assign_many
from trending_now.app.app import serve_app
from trending_now.app.guards import Tickets, secret_of
from trending_now.delivery.delivery import small_settings
from trending_now.loop.loop import run
from trending_now.loop.workspace import Workspace, start
from trending_now.platform import EventLog, LocalPostgres
from trending_now.scale.balancer import Balancer, BalancerError, Fleet

PATIENCE = 120  # Seconds that anything here may take before it counts as lost


def wait_until(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "this takes too long"
        time.sleep(0.02)


# ------------------------------------------------------------ the balancer alone


class Answers(BaseHTTPRequestHandler):
    "Healthy always; what is posted is noted, and not answered if the server is told to be silent."

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer(200 if self.server.healthy else 503)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.got.append((self.path, len(body), self.headers.get_all("X-Forwarded-For")))
        if self.server.silent:
            self.close_connection = True
        else:
            self.answer(201)

    def answer(self, status):
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *about):
        pass


@contextmanager
def served(silent=False):
    "A server that stands for a process of the app."
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.got, server.silent, server.healthy = [], silent, True
    server.handle_error = lambda *about: None  # the balancer has gone; that is no error
    thread = threading.Thread(target=server.serve_forever, args=[0.02], daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def states(balancer):
    return {row["state"] for row in balancer.servers().values()}


@contextmanager
def balanced(*servers, **options):
    "A balancer that has found them all healthy."
    with Balancer([server.server_port for server in servers], **options) as balancer:
        wait_until(lambda: states(balancer) == {"UP"})
        yield balancer


@pytest.mark.parametrize("size", [10, 16_000, 65_536])
def test_what_a_process_takes_and_does_not_answer_goes_to_the_other_one(size):
    with served(silent=True) as silent, served() as good, balanced(silent, good) as balancer:
        for _ in range(4):
            answer = requests.post(f"{balancer.url}/v1/events", data=b"x" * size)
            assert answer.status_code == 201
        assert [row[1] for row in silent.got] == [row[1] for row in good.got] == [size] * 4
        assert balancer.servers()["app0"]["moved"] == 4


def test_what_has_no_name_is_not_sent_a_second_time():
    with served(silent=True) as silent, served() as good, balanced(silent, good) as balancer:
        for path in ("/board/rollback", "/login", "/v2/events"):
            answers = [requests.post(balancer.url + path, data=b"x") for _ in range(2)]
            assert sorted(answer.status_code for answer in answers) == [201, 502]
        assert len(silent.got) == len(good.got) == 3


def test_without_a_second_attempt_half_of_what_is_said_is_lost():
    with served(silent=True) as silent, served() as good:
        with balanced(silent, good, again=False) as balancer:
            told = [requests.post(f"{balancer.url}/v1/events", data=b"x") for _ in range(4)]
    assert sorted(answer.status_code for answer in told) == [201, 201, 502, 502]
    assert len(silent.got) == len(good.got) == 2


def test_what_a_visitor_says_of_their_own_address_is_not_passed_on():
    with served() as server, balanced(server) as balancer:
        claim = {"X-Forwarded-For": "9.9.9.9, 127.0.0.1"}
        requests.post(f"{balancer.url}/v1/events", data=b"x", headers=claim)
    assert server.got[0][2] == ["127.0.0.1"]


def test_whoever_is_not_healthy_gets_no_visitors_until_they_are():
    with served() as one, served() as other, balanced(one, other) as balancer:
        one.healthy = False
        wait_until(lambda: balancer.servers()["app0"]["state"] == "DOWN")
        for _ in range(4):
            assert requests.post(f"{balancer.url}/v1/events", data=b"x").status_code == 201
        assert (len(one.got), len(other.got)) == (0, 4)
        other.healthy = False
        wait_until(lambda: balancer.servers()["app1"]["state"] == "DOWN")
        assert requests.get(balancer.url).status_code == 503
        one.healthy = True
        wait_until(lambda: balancer.servers()["app0"]["state"] == "UP")
        assert requests.get(balancer.url).status_code == 200


def test_a_balancer_that_cannot_start_says_why(monkeypatch):
    with pytest.raises(BalancerError, match="install it"):
        Balancer([8001], program="haproxy-99")
    with socket.socket() as taken, monkeypatch.context() as patched:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        patched.setattr("trending_now.scale.balancer.free_socket", lambda: Taken(port))
        with pytest.raises(BalancerError, match=f"(?s)did not start.*127.0.0.1:{port}"):
            Balancer([8001])


class Taken:
    "A port that somebody else has taken in the meantime."

    def __init__(self, port):
        self.port = port

    def getsockname(self):
        return "127.0.0.1", self.port

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass


# ------------------------------------------------------------ two processes


@pytest.fixture(scope="module")
def database():
    with LocalPostgres() as server:
        yield server


def knobs(url):
    "A small service in whose third week a test of two versions runs."
    small = small_settings()
    return replace(
        small,
        platform=replace(small.platform, events=url, patience=2.0),
        genres=replace(small.genres, trees=4, features="v1"),
        registry=replace(small.registry, gate=False),
        trials=replace(small.trials, test="ab", alpha=0.05, max_weeks=4, min_units=240, margin=0.5),
    )


@pytest.fixture(scope="module")
def folder(database, tmp_path_factory):
    "A workspace of three weeks."
    folder = tmp_path_factory.mktemp("fleet") / "workspace"
    run(Workspace(folder), knobs(database.url), 3, progress=False, lanes=False)
    return folder


@pytest.fixture(scope="module")
def running(folder):
    "Two processes, as `trending-now serve` starts them; those that follow begin faster."
    with Fleet(folder, patience=PATIENCE) as fleet:
        fleet.launch = lambda number: Warm(folder, fleet.ports[number])
        yield fleet


@pytest.fixture
def fleet(running):
    "Both of them healthy, whatever a test before has done."
    for number, process in enumerate(running.processes):
        if process is None:
            running.start(number)
    running.wait()
    return running


@pytest.fixture
def log(database):
    with EventLog(database.url) as log:
        yield log


@pytest.fixture
def tickets(folder):
    return Tickets(secret_of(folder / "live" / "key"))


@pytest.fixture
def operator(folder):
    "Somebody with the token."
    session = requests.Session()
    token = secret_of(folder / "live" / "token").decode()
    session.headers["Authorization"] = f"Bearer {token}"
    return session


def doors(fleet):
    "Where each process answers, past the balancer."
    return [f"http://127.0.0.1:{port}" for port in fleet.ports]


def test_a_visitor_has_one_variant_whichever_process_answers(fleet, tickets, operator):
    def seen_by(url, unit):
        page = operator.get(f"{url}/v1/page", params={"unit": unit}).json()
        return tickets.read("view", page["view"])

    units = [f"visitor {number}" for number in range(60)]
    trial = operator.get(f"{fleet.url}/health").json()["trial"]
    arms = assign_many(units, trial, [0.5, 0.5])
    answered = set()
    for unit, arm in zip(units, arms):
        views = [seen_by(fleet.url, unit) for _ in range(2)]
        views += [seen_by(url, unit) for url in doors(fleet)]
        answered.add(frozenset(view["r"].split("-")[0] for view in views[:2]))
        assert {view["v"] for view in views} == {("champion", "candidate")[arm]}
        assert {view["m"] for view in views} == {("v1", "v2")[arm]}
    assert {*arms} == {0, 1}
    assert {len(processes) for processes in answered} == {2}  # the balancer sends them to both


def test_what_one_process_has_signed_the_other_one_takes(fleet, log, folder):
    first, second = doors(fleet)
    visitor, at = requests.Session(), Browsing()
    at.read_front(visitor.get(first).text)
    at.read_film(visitor.get(second + at.link).text)
    told = visitor.post(first + at.address, data={**at.fields, "stars": 4}, allow_redirects=False)
    thanks = visitor.get(second + told.headers["location"])
    assert "rating is kept" in thanks.text
    events = log.read(request_id=at.view_of(folder))
    assert events.kind.tolist() == ["exposure", "click", "rating"]
    assert events.unit.nunique() == 1

    person = requests.Session()
    token = secret_of(folder / "live" / "token").decode()
    person.post(f"{first}/login", data={"token": token}, allow_redirects=False)
    assert person.get(f"{second}/board/parts").status_code == 200


def test_visitors_behind_the_balancer_have_a_limit_each(fleet):
    def telling(address):
        "Statuses of many posts from an address, each of another visitor."
        with requests.Session() as session:
            session.mount("http://", From(address))
            view = [session.get(f"{fleet.url}/v1/page").json()["view"] for _ in range(14)]
            told = [{"view": one, "events": [{"kind": "exposure"}] * 200} for one in view]
            return [session.post(f"{fleet.url}/v1/events", json=one).status_code for one in told]

    assert 429 in telling("127.0.0.2")
    assert telling("127.0.0.3")[0] == 201


class From(HTTPAdapter):
    "Connections that come from an address of this machine."

    def __init__(self, address):
        self.address = address
        super().__init__()

    def init_poolmanager(self, *args, **options):
        super().init_poolmanager(*args, **options, source_address=(self.address, 0))


def test_a_view_that_waits_for_the_disk_dies_with_its_process_and_its_click_is_told(
    fleet, log, folder
):
    first, second = doors(fleet)
    visitor, at = requests.Session(), Browsing()
    with log.engine.begin() as connection:
        connection.exec_driver_sql("LOCK TABLE events IN EXCLUSIVE MODE")
        at.read_front(visitor.get(first).text)
        fleet.kill(0)
    assert visitor.get(second + at.link).status_code == 200
    assert log.read(request_id=at.view_of(folder)).kind.tolist() == ["click"]


def test_pages_are_shown_while_the_database_is_away(fleet, database, operator):
    page = operator.get(f"{fleet.url}/v1/page").json()
    told = {"view": page["view"], "events": [{"kind": "exposure"}]}
    database.stop()
    try:
        assert requests.get(fleet.url).status_code == 200
        refused = operator.post(f"{fleet.url}/v1/events", json=told)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        with Balancer(fleet.ports, "/ready") as by_ready:
            wait_until(lambda: states(by_ready) == {"DOWN"})
            assert requests.get(by_ready.url).status_code == 503
    finally:
        database.start()
    assert operator.post(f"{fleet.url}/v1/events", json=told).json() == {"kept": 1}


def test_a_process_that_does_not_come_up_is_named_and_nothing_stays(tmp_path, monkeypatch):
    nobody = knobs("postgresql://nobody@127.0.0.1:1/nothing")
    start(Workspace(tmp_path), replace(nobody, platform=replace(nobody.platform, patience=0.0)))
    begun, launch = [], Fleet.launch

    def noted(fleet, number):
        begun.append(launch(fleet, number))
        return begun[-1]

    monkeypatch.setattr(Fleet, "launch", noted)
    with pytest.raises(BalancerError, match="app0 is not in service; the last it said: .*refused"):
        Fleet(tmp_path, size=1)
    assert len(begun) == 1 and begun[0].poll() is not None


def test_a_fleet_is_told_of_moves_that_cannot_be(fleet):
    with pytest.raises(ValueError, match="runs already"):
        fleet.start(1)
    fleet.kill(1)
    with pytest.raises(ValueError, match="does not run"):
        fleet.kill(1)
    with pytest.raises(ValueError, match="size = 0"):
        Fleet(fleet.workspace, size=0)


# ------------------------------------------------------------ killed twenty times


class Browsing:
    "What a browser finds on the pages of the app."

    def read_front(self, text):
        "The link of the first card."
        self.link = html.unescape(re.search(r'href="(/film/[^"]+view=[^"]+)"', text)[1])

    def read_film(self, text):
        "The form with the stars, and what the script of the page tells."
        form = re.search(r'<form method="post" action="([^"]+/rating)".*?</form>', text, re.S)
        hidden = re.findall(r'type="?hidden"?\s+name="(\w+)"\s+value="([^"]*)"', form[0])
        self.address = form[1]
        self.fields = {name: html.unescape(value) for name, value in hidden}
        self.film_id = self.address.split("/")[2]

    def view_of(self, folder):
        "Name of the view, as the ticket says."
        ticket = requests.compat.unquote(re.search(r"view=([^&]+)", self.link)[1])
        return Tickets(secret_of(folder / "live" / "key")).read("view", ticket)["r"]

    def dwell(self):
        about = {"film_id": self.film_id, "position": int(self.fields["position"])}
        return {"view": self.fields["view"], "events": [{"kind": "dwell", "value": 3.0, **about}]}


class Crowd:
    """Visitors who write down what they have sent and what was acknowledged.

    An event is (name of its view, kind): a visitor does each thing once in a view, and sends it
    again until it is acknowledged. `shown` are the views and clicks of pages, which the app shows
    in any case. `pause` are the seconds between two views of a visitor.
    """

    def __init__(self, url, folder):
        self.url, self.folder, self.end = url, folder, threading.Event()
        self.tickets = Tickets(secret_of(folder / "live" / "key"))
        self.sent, self.kept, self.shown, self.failed = set(), [], [], 0
        self.processes, self.pause = set(), 0.0

    def insist(self, send, *good):
        "The answer that says that it is kept, after however many attempts."
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                answer = send()
                if answer.status_code in good:
                    return answer
            except requests.RequestException:
                pass
            self.failed += 1
            time.sleep(0.05)
        raise AssertionError("no answer that says that it is kept")

    def begin(self, view, *kinds):
        "Note what will be sent of a view, and which process has made it."
        self.sent |= {(view, kind) for kind in kinds}
        self.processes.add(view.split("-")[0])

    def browse(self, session):
        "Open the page and a film, rate it, and tell how long the film was looked at."
        at, url = Browsing(), self.url
        at.read_front(self.insist(lambda: session.get(url, timeout=60), 200).text)
        view = at.view_of(self.folder)
        self.begin(view, "exposure", "click", "rating", "report")
        at.read_film(self.insist(lambda: session.get(url + at.link, timeout=60), 200).text)
        self.shown += [(view, "exposure"), (view, "click")]
        form = {"data": {**at.fields, "stars": 5}, "allow_redirects": False, "timeout": 60}
        self.insist(lambda: session.post(url + at.address, **form), 303)
        self.kept.append((view, "rating"))
        self.tell(session, at.dwell(), [(view, "report")])

    def ask(self, session):
        "Read the page as a program, and tell view and click."
        page = self.insist(lambda: session.get(f"{self.url}/v1/page", timeout=60), 200).json()
        view = self.tickets.read("view", page["view"])["r"]
        film = page["rows"][0]["films"][0]
        click = {"kind": "click", "film_id": film["film_id"], "position": film["position"]}
        told = {"view": page["view"], "events": [{"kind": "exposure"}, click]}
        self.begin(view, "exposure", "click")
        self.tell(session, told, [(view, "exposure"), (view, "click")])

    def tell(self, session, told, events):
        self.insist(lambda: session.post(f"{self.url}/v1/events", json=told, timeout=60), 201)
        self.kept += events

    def visit(self, number):
        "A program, or one browser after another, from an address of its own, until the end."
        for _ in itertools.takewhile(lambda _: not self.end.is_set(), itertools.count()):
            with requests.Session() as session:
                session.mount("http://", From(f"127.0.1.{number}"))
                for _ in range(5):
                    (self.browse if number % 2 else self.ask)(session)
                    self.end.wait(self.pause)


class Warm:
    "A process of the app whose imports were read before it began, with the methods of `Popen`."

    context = get_context("forkserver")
    context.set_forkserver_preload(["trending_now.app.app", "fastapi", "uvicorn", "xgboost"])

    def __init__(self, folder, port):
        options = {"port": port, "say": str}
        self.process = self.context.Process(
            target=serve_app, args=[folder], kwargs=options, daemon=True
        )
        self.process.start()
        self.kill, self.terminate = self.process.kill, self.process.terminate

    def poll(self):
        return self.process.exitcode

    def wait(self, timeout=None):
        self.process.join(timeout)
        if self.poll() is None:
            raise subprocess.TimeoutExpired("serve_app", timeout)


def kill_in_turn(fleet, crowd, times):
    "Kill one after the other in the middle of traffic, at moments that nobody has chosen."
    chance = random.Random(7)
    for death in range(times):
        goal = len(crowd.kept) + 10
        wait_until(lambda: len(crowd.kept) >= goal and len(crowd.processes) == 2 + death)
        time.sleep(chance.uniform(0, 0.2))
        fleet.kill(death % 2)
        crowd.pause = 0.1  # the other one serves meanwhile; who starts needs the processor
        fleet.start(death % 2)
        fleet.wait()
        crowd.pause = 0.0
    wait_until(lambda: len(crowd.processes) == 2 + times)  # each of them has served


@contextmanager
def visited(crowd, size=4):
    "While a crowd is there; what went wrong in a visit is an error here."
    with ThreadPoolExecutor(size) as pool:
        visits = [pool.submit(crowd.visit, number) for number in range(1, size + 1)]
        try:
            yield
        finally:
            crowd.end.set()
        for visit in visits:
            visit.result()


def test_nothing_that_was_acknowledged_is_lost_though_processes_are_killed_twenty_times(
    fleet, log, folder
):
    crowd, before = Crowd(fleet.url, folder), {*log.read().event_id}
    with visited(crowd):
        kill_in_turn(fleet, crowd, 20)
    there = log.read()
    there = there[~there.event_id.isin(before)]
    found = Counter(zip(there.request_id, there.kind))
    assert len(crowd.kept) == len({*crowd.kept}) > 400
    assert not {*crowd.kept} - {*found}  # nothing that was promised is missing
    assert {*found.values()} == {1}  # and nothing is there twice

    moved = sum(row["moved"] for row in fleet.balancer.servers().values())
    unseen = {*found} - crowd.sent  # pages that were made, and whose answer died on its way
    assert {kind for _, kind in unseen} <= {"exposure"} and len(unseen) <= moved + crowd.failed
    missing = {*crowd.shown} - {*found}  # pages that did not wait for the disk
    assert len(missing) <= len(crowd.shown) / 100
    assert moved > 0
