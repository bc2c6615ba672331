"""Speed of the app: requests a second for a page from cached predictions beside an endpoint that
does nothing, under the same load in the same run; and events a second that are on disk when the
answer comes.

usage: python bench/app.py [--seconds 8] [--clients 16] [--runs 3]
Servers are processes of their own on one core each, as is the load. Ratios are taken within one
run; rates are of this machine. Each client sends its next request when it has the last answer.
"""

import argparse, asyncio, json, os, statistics, subprocess, sys, tempfile, time
from pathlib import Path

EMPTY = """
import sys, uvicorn
from fastapi import FastAPI
app = FastAPI()
@app.get('/')
async def nothing(): return {}
uvicorn.run(app, port=int(sys.argv[1]), log_level='warning', access_log=False)
"""
MODEL = """
import sys
from trending_now.catalogue import labels, load_films
from trending_now.genres import FilmFeatures, GenreBooster, seal
films = load_films().tail(3000)
GenreBooster(FilmFeatures('v2').observe(films, labels(films)), trees=20).fit(
    films, labels(films)).save(sys.argv[1])
"""
TOKEN = "a token of the bench, on loopback only"


async def answer(reader):
    "(status, body) of the next answer."
    head = await reader.readuntil(b"\r\n\r\n")
    size = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    return int(head.split()[1]), await reader.readexactly(size)


async def client(port, requests, until, times):
    "Send requests, one after the other; note how long each took. Raises for what is not 2xx."
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while time.perf_counter() < until:
        began = time.perf_counter()
        writer.write(next(requests))
        status, body = await answer(reader)
        times.append(time.perf_counter() - began)
        assert status < 300, (status, body[:200])
    writer.close()


def request(method, path, body=b""):
    head = (f"{method} {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {TOKEN}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n")
    return head.encode() + body


async def load(port, requests, seconds, clients):
    "(requests a second, median and 99th percentile in milliseconds)."
    times, until = [], time.perf_counter() + seconds
    began = time.perf_counter()
    await asyncio.gather(*(client(port, requests, until, times) for _ in range(clients)))
    took = time.perf_counter() - began
    marks = statistics.quantiles(times, n=100)
    return len(times) / took, marks[49] * 1e3, marks[98] * 1e3


def endless(make):
    number = 0
    while True:
        yield make(number)
        number += 1


async def ask(port, path):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request("GET", path))
    status, body = await answer(reader)
    writer.close()
    return json.loads(body)


def started(command, port):
    "A server of its own process, once it answers."
    env = {**os.environ, "TRENDING_NOW_TOKEN": TOKEN}
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL)
    for _ in range(600):
        try:
            asyncio.run(asyncio.wait_for(asyncio.open_connection("127.0.0.1", port), 1))
            return process
        except OSError:
            time.sleep(0.1)
    raise SystemExit("the server did not start")


def of_events(pages):
    "Requests with one event each, and with ten: whatever can be clicked on some pages, once."
    told = [(page["view"], {"kind": kind, "film_id": film["film_id"], "position": film["position"]})
            for kind in ("click", "impression") for page in pages for row in page["rows"]
            for film in row["films"]]
    def send(number, size):
        some = told[number * size % len(told):][:size]
        body = {"view": some[0][0], "events": [e for view, e in some if view == some[0][0]]}
        return request("POST", "/v1/events", json.dumps(body).encode())

    half = len(told) // 2
    begin = half // 10
    return [endless(lambda number: send(number, 1)),
            endless(lambda number: send(begin + number, 10))]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8, help="of each measurement")
    parser.add_argument("--clients", type=int, default=16, help="connections at a time")
    parser.add_argument("--runs", type=int, default=3, help="pairs that are measured in turn")
    args = parser.parse_args()
    empty, app, ratios = 8771, 8772, []
    with tempfile.TemporaryDirectory() as folder:
        model = f"{folder}/v1"
        subprocess.run([sys.executable, "-c", MODEL, model], check=True)
        servers = [
            started([sys.executable, "-c", EMPTY, str(empty)], empty),
            started([sys.executable, "-m", "trending_now.cli", "serve", "--model", model,
                     "--port", str(app), "--workspace", f"{folder}/data"], app),
        ]
        try:
            nothing = endless(lambda number: request("GET", "/"))
            pages = endless(lambda number: request("GET", f"/v1/page?unit=v{number % 2000}"))
            asyncio.run(load(app, pages, 2, args.clients))  # every visitor once
            for _ in range(args.runs):
                plain = asyncio.run(load(empty, nothing, args.seconds, args.clients))
                page = asyncio.run(load(app, pages, args.seconds, args.clients))
                ratios.append(page[0] / plain[0])
                for name, found in (("empty endpoint", plain), ("/v1/page", page)):
                    print(f"{name:16} {found[0]:8,.0f} requests/s   median {found[1]:6.2f} ms   "
                          f"p99 {found[2]:6.2f} ms")
            print(f"ratio            {min(ratios):.2f} to {max(ratios):.2f}, "
                  f"median {statistics.median(ratios):.2f}")
            seen = [asyncio.run(ask(app, f"/v1/page?unit=w{n}")) for n in range(800)]
            for size, requests in zip((1, 10), of_events(seen)):
                many = 4 * args.clients  # visitors who wait for the disk at the same time
                rate, median, p99 = asyncio.run(load(app, requests, args.seconds, many))
                print(f"events, {size:2} a request: {rate * size:8,.0f} events/s on disk   "
                      f"median {median:6.2f} ms   p99 {p99:6.2f} ms")
        finally:
            for server in servers:
                server.terminate()
                server.wait()
    assert Path(model).name == "v1"


if __name__ == "__main__":
    main()
