"The running service: pages and events, beside the least that a server and a database do."

from parts import Row, Side, own_folder

TITLE = "The service"
ABOUT = """The app and the empty endpoint are processes of their own, asked by 16 clients on
the same machine, each of which sends its next request when it has the last answer. Both sides
of the event log wait for the disk at each commit (write-ahead log, `synchronous=FULL`)."""
TOKEN = "a token of the bench, on loopback only"
REQUESTS, CLIENTS, VISITORS = 2_000, 16, 2_000
BATCH = 500
EMPTY = """
import sys, uvicorn
from fastapi import FastAPI
app = FastAPI()
@app.get('/')
async def nothing(): return {}
uvicorn.run(app, port=int(sys.argv[1]), log_level='warning', access_log=False)
"""
DAY = 86_400_000_000  # microseconds
COLUMNS = ("event_id", "ts", "day", "kind", "unit", "request_id", "film_id", "position",
           "model_version", "experiment", "variant", "value", "payload")


# ------------------------------------------------------------ inputs

def model(folder, trees):
    "A small model that the app serves."
    from trending_now.catalogue import labels, load_films
    from trending_now.genres import FilmFeatures, GenreBooster
    films = load_films().tail(3_000)
    features = FilmFeatures("v2").observe(films, labels(films))
    GenreBooster(features, trees=trees).fit(films, labels(films)).save(folder / "v1")


def events(folder, rows):
    "How many events; they are made as they are needed, since no id may come twice."
    (folder / "rows.txt").write_text(str(rows))


def some_events(run, rows):
    "Events as a page with one click a view would write them."
    import random
    chance = random.Random(run)
    return [{"event_id": f"{run}-{k:09d}", "ts": 1_790_000_000_000_000 + 1_000_000 * k,
             "kind": "click" if k % 2 else "exposure", "unit": f"v{chance.randrange(30_000):07d}",
             "request_id": f"{run}-{k // 2:08d}", "film_id": f"Q{k % 2000}" if k % 2 else "",
             "position": k % 52 if k % 2 else -1, "model_version": "v12",
             "experiment": "v12-week-30", "variant": chance.choice(("champion", "candidate")),
             "value": chance.expovariate(1 / 60) if k % 2 else None, "payload": "{}"}
            for k in range(rows)]


def new_batches(folder):
    "A function that makes batches of events with ids that were never there."
    from itertools import count
    rows, runs = int((folder / "rows.txt").read_text()), count()

    def batches():
        made = some_events(next(runs), rows)
        return [made[at:at + BATCH] for at in range(0, rows, BATCH)]
    return batches


# ------------------------------------------------------------ the app under load

def request(path):
    return (f"GET {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {TOKEN}\r\n"
            "\r\n").encode()


async def client(port, requests):
    "Send requests one after the other; the number of good answers."
    import asyncio
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    good = 0
    for one in requests:
        writer.write(one)
        head = await reader.readuntil(b"\r\n\r\n")
        size = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        await reader.readexactly(size)
        good += head.split()[1] == b"200"
    writer.close()
    return good


async def load(port, requests):
    "The same by some clients at a time."
    import asyncio
    parts = [requests[number::CLIENTS] for number in range(CLIENTS)]
    return sum(await asyncio.gather(*(client(port, part) for part in parts)))


def free_port():
    import socket
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def served(command, port, env):
    "Start a server that ends with this process, and wait until it answers."
    import atexit, os, socket, subprocess, time
    process = subprocess.Popen(command, env={**os.environ, **env}, stdout=subprocess.DEVNULL)
    atexit.register(process.wait)
    atexit.register(process.terminate)
    until = time.monotonic() + 120
    while time.monotonic() < until:
        if process.poll() is not None: raise RuntimeError("the server has ended")
        try: return socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError: time.sleep(.1)
    raise RuntimeError("the server does not answer")


def asked(port, paths):
    "The load as a function, after each visitor has been there once."
    import asyncio
    requests = [request(path) for path in paths]
    return lambda: asyncio.run(load(port, requests))


def app(folder):
    import sys
    port, data = free_port(), own_folder()
    served([sys.executable, "-m", "trending_now.cli", "serve", "--model", str(folder / "v1"),
            "--port", str(port), "--workspace", data], port, {"TRENDING_NOW_TOKEN": TOKEN})
    return asked(port, [f"/v1/page?unit=v{n % VISITORS}" for n in range(REQUESTS)])


def empty_endpoint(folder):
    import sys
    port = free_port()
    served([sys.executable, "-c", EMPTY, str(port)], port, {})
    return asked(port, ["/"] * REQUESTS)


def answers(count): return {"good answers": count}


# ------------------------------------------------------------ the event log

def our_log(folder):
    from trending_now.platform import EventLog
    log = EventLog(f"{own_folder()}/events.db")

    def work(batches): return sum(log.append(batch).new for batch in batches)
    return new_batches(folder), work


def with_day(batches):
    "The column that the table has beside those of an event."
    return [[{**event, "day": event["ts"] // DAY} for event in batch] for batch in batches]


def bare_database():
    "A table with the same columns and key, and the same waiting for the disk."
    import sqlite3
    path = f"{own_folder()}/events.db"
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    for setting in ("journal_mode=WAL", "synchronous=FULL"): database.execute(f"pragma {setting}")
    from trending_now.platform.event_log import EventLog
    EventLog(path).close()   # the same tables and indexes
    return database


def bare_log(folder):
    database = bare_database()
    names = ", ".join(f":{name}" for name in COLUMNS)
    insert = f"insert into events ({', '.join(COLUMNS)}) values ({names})"

    def work(batches):
        for batch in batches:
            database.execute("begin")
            database.executemany(insert, batch)
            database.execute("commit")
        return sum(map(len, batches))
    batches = new_batches(folder)
    return lambda: with_day(batches()), work


def single_events(folder):
    "Batches of one event, in a line for each of 32 writers."
    batches = new_batches(folder)
    def lines():
        made = [event for batch in batches() for event in batch]
        return [made[number::32] for number in range(32)]
    return lines


def from_many(send, lines):
    "32 threads that each wait for an answer before they send the next event."
    from concurrent.futures import ThreadPoolExecutor
    with ThreadPoolExecutor(32) as pool:
        return sum(pool.map(lambda line: sum(send(event) for event in line), lines))


def shared_commits(folder):
    from trending_now.platform import BatchWriter, EventLog
    writer = BatchWriter(EventLog(f"{own_folder()}/events.db"))
    return single_events(folder), lambda lines: from_many(
        lambda event: writer.submit([event]).result(), lines)


def own_commits(folder):
    import threading
    database, turn = bare_database(), threading.Lock()
    names = ", ".join(f":{name}" for name in COLUMNS)
    insert = f"insert into events ({', '.join(COLUMNS)}) values ({names})"

    def send(event):
        with turn: return database.execute(insert, event).rowcount
    lines = single_events(folder)
    return lambda: with_day(lines()), lambda lines: from_many(send, lines)


def kept(count): return {"events": count}


ROWS = (
    Row("a page from cached predictions", "2,000 requests of 16 clients", model, {"trees": 20},
        {"trees": 2}, Side(app, numbers=answers, package="trending-now"), {},
        Side(empty_endpoint, numbers=answers, package="fastapi"),
        "an endpoint of FastAPI that returns nothing"),
    Row("events in batches", "20,000 events, 500 a commit", events, {"rows": 20_000},
        {"rows": 1_000}, Side(our_log, numbers=kept), {}, Side(bare_log, numbers=kept),
        "bare inserts into the same SQLite table, nothing checked",
        reason="Ours checks each field of each event, and whether an id comes again with other "
               "contents; the statement is SQLAlchemy's, so that PostgreSQL takes it too."),
    Row("single events of 32 writers", "3,200 events, each waits for its answer", events,
        {"rows": 3_200}, {"rows": 320}, Side(shared_commits, numbers=kept),
        {"a commit for each": Side(own_commits, numbers=kept)}),
)
