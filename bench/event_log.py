"""Speed and cost of the event log: events a second from one process, from many that wait for each
answer, and the copy of many events into files by day with a summary of them.

usage: python bench/event_log.py [--events 10000000] [--seconds 10] [--save]
--save writes nbs/6_product/results/platform.csv, which the page `platform` reads. PostgreSQL is
measured where it is installed. Ratios and rates are of one run on one machine: read them beside
the number of its processors, and with nothing else running.
"""

import argparse, csv, os, random, resource, tempfile, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from trending_now.platform.event_log import EventLog, LocalPostgres, LogError
from trending_now.platform.metrics import PAGE_METRICS, daily_metrics, export_days
from trending_now.platform.writers import BatchWriter

RESULTS = Path(__file__).resolve().parent.parent / "nbs/6_product/results/platform.csv"
DAYS, BATCH = 28, 500


def events(name, first, n, step=1_000_000):
    "Events as a page with one click a view would write them, some `step` microseconds apart."
    chance = random.Random(first)
    rows = []
    for k in range(first, first + n):
        is_click = k % 2
        rows.append({
            "event_id": f"{name}-{k:09d}",
            "ts": 1_790_000_000_000_000 + k * step + chance.randrange(step),
            "kind": "click" if is_click else "exposure",
            "unit": f"v{chance.randrange(30_000):07d}",
            "request_id": f"{name}-{k // 2:08d}",
            "film_id": f"Q{chance.randrange(2000)}" if is_click else "",
            "position": chance.randrange(52) if is_click else -1,
            "model_version": "v12",
            "experiment": "v12-week-30",
            "variant": chance.choice(("champion", "candidate")),
            "value": chance.expovariate(1 / 60) if is_click else None,
            "payload": "{}",
        })
    return rows


def rate(log, seconds, batch=BATCH):
    "(events a second, CPU seconds of a million) of one process that writes batches."
    done, began, cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - began < seconds:
        log.append(events("rate", done, batch))
        done += batch
    return done / (time.perf_counter() - began), (time.process_time() - cpu) / done * 1e6


def rate_of_many(log, seconds, writers=32):
    "Events a second of threads that each wait for an answer before they send the next event."
    end = time.perf_counter() + seconds

    def send(number):
        done = 0
        while time.perf_counter() < end:
            writer.submit(events(f"many{number}", done, 1)).result()
            done += 1
        return done

    with BatchWriter(log) as writer, ThreadPoolExecutor(writers) as pool:
        return sum(pool.map(send, range(writers))) / seconds


def filled(log, n, part=50_000):
    "Bring a log up to so many events, over four weeks."
    step = max(1, DAYS * 86_400_000_000 // n)
    for first in tqdm(range(0, n, part), unit="part"):
        log.append(events("fill", first, min(part, n - first), step))


def copied(log, n, folder):
    "(seconds to copy by day, seconds to summarise, peak memory in MB)."
    began = time.perf_counter()
    export_days(log, folder, progress=True)
    export = time.perf_counter() - began
    table = daily_metrics(PAGE_METRICS.values(), f"{folder}/*/*.parquet")
    summary = time.perf_counter() - began - export
    assert len(table) in (DAYS, DAYS + 1)
    return export, summary, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def of_sqlite(args, folder, found):
    with EventLog(f"{folder}/rate.db") as log:
        found["SQLite, batches of 500"], cpu = rate(log, args.seconds)
        found["CPU of a million events"] = cpu
        found["SQLite, 32 writers that wait"] = rate_of_many(log, args.seconds)
    with EventLog(f"{folder}/many.db") as log:
        filled(log, args.events)
    found["bytes of an event in SQLite"] = os.path.getsize(f"{folder}/many.db") / args.events
    with EventLog(f"{folder}/many.db") as log:
        export, summary, memory = copied(log, args.events, f"{folder}/archive")
    size = sum(f.stat().st_size for f in Path(f"{folder}/archive").rglob("*.parquet"))
    found["bytes of an event in Parquet"] = size / args.events
    found["events copied"] = args.events
    found["copy of all of them"], found["summary of all of them"] = export, summary
    found["memory at most"] = memory


def of_postgres(args, found):
    try:
        with LocalPostgres() as server, EventLog(server.url) as log:
            found["PostgreSQL, batches of 500"] = rate(log, args.seconds)[0]
            found["PostgreSQL, 32 writers that wait"] = rate_of_many(log, args.seconds)
    except LogError as e:
        print(f"PostgreSQL left out: {e}")


UNITS = {"CPU of": "CPU seconds", "bytes": "bytes", "events copied": "events", "copy": "seconds",
         "summary": "seconds", "memory": "MB", "processors": "of them"}


def unit(figure):
    return next((u for start, u in UNITS.items() if figure.startswith(start)), "events a second")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=10_000_000, help="events that are copied")
    parser.add_argument("--seconds", type=float, default=10, help="of each rate")
    parser.add_argument("--save", action="store_true", help="write the page's results")
    args = parser.parse_args()
    found = {"processors": os.cpu_count()}
    with tempfile.TemporaryDirectory() as folder:
        of_sqlite(args, folder, found)
        of_postgres(args, found)
    rows = [(figure, float(f"{value:.4g}"), unit(figure)) for figure, value in found.items()]
    for figure, value, of in rows:
        print(f"{figure:34} {value:>14,.4g} {of}")
    if args.save:
        RESULTS.parent.mkdir(exist_ok=True)
        with open(RESULTS, "w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([("figure", "value", "unit"), *rows])


if __name__ == "__main__":
    main()
