#!/usr/bin/env python
"""Measure the registry's local store beside two packages: races, kills, forged histories, changed
files, and the time that a promotion takes.

usage: python bench/stores_compared.py local
Each package gets an environment of its own: python -m venv peer && peer/bin/pip install
trackio==0.43.0 (or mlflow-skinny==3.17.2 sqlalchemy alembic)
and peer/bin/python bench/stores_compared.py trackio (or mlflow-skinny). Each run writes its row of
nbs/7_operating/results/stores_compared.csv.
"""

import argparse, csv, importlib, multiprocessing, os, random, signal, sqlite3, statistics, sys
import tempfile, time
from importlib.metadata import distributions, version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "nbs/7_operating/results/stores_compared.csv"
ROUNDS, PROMOTIONS = 20, 50
FORK = multiprocessing.get_context("fork")


class Local:
    "The registry of this package."

    package, slow = None, "trending_now.registry.registry"

    def __init__(self, folder):
        from trending_now.genres.booster import seal
        from trending_now.registry.registry import Registry

        self.seal, self.folder = seal, Path(folder)
        self.registry = Registry.open(f"local:{folder}")

    def fill(self):
        for n in (1, 2, 3):
            made = self.folder / f"made{n}"
            made.mkdir()
            (made / "model").write_text(f"model {n}")
            self.seal(made)
            self.registry.register(made, {}, None)
        self.registry.promote("v1", "me", "first")

    def champion(self): return int(self.registry.champion()[1:])

    def promote(self, number, over=None):
        self.registry.promote(f"v{number}", "me", "", over=over and f"v{over}")

    def promotions(self):
        history = self.registry.history()
        return [int(v[1:]) for v in history[history.kind == "promote"].version]

    def database(self): return self.folder / "registry.db", "events", "event"

    def change_file(self): (self.folder / "versions" / "v2" / "model").write_text("other 2")

    def fetch(self): self.registry.verify("v2")


class Mlflow:
    "MLflow's model registry in SQLite; the champion is an alias."

    package, slow = "mlflow-skinny", "mlflow"

    def __init__(self, folder):
        self.folder = Path(folder)
        uri = f"sqlite:///{folder}/mlflow.db"
        mlflow = importlib.import_module("mlflow")
        self.client = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)

    def fill(self):
        self.client.create_registered_model("genres")
        for n in (1, 2, 3):
            made = self.folder / f"made{n}"
            made.mkdir()
            (made / "model").write_text(f"model {n}")
            self.client.create_model_version("genres", str(made))
        self.promote(1)

    def champion(self):
        return int(self.client.get_model_version_by_alias("genres", "champion").version)

    def promote(self, number, over=None):
        self.client.set_registered_model_alias("genres", "champion", str(number))

    def promotions(self): return None

    def database(self): return self.folder / "mlflow.db", None, None

    def change_file(self): (self.folder / "made2" / "model").write_text("other 2")

    def fetch(self):
        artifacts = importlib.import_module("mlflow.artifacts")
        artifacts.download_artifacts(self.client.get_model_version("genres", "2").source)


class Trackio:
    "Trackio's registry; the champion is an alias of a collection."

    package, slow = "trackio", None  # it looks for its folder as it is loaded

    def __init__(self, folder):
        os.environ["TRACKIO_DIR"] = str(folder)
        self.trackio, self.folder = importlib.import_module("trackio"), Path(folder)
        self.storage = importlib.import_module("trackio.registry_storage").RegistryStorage

    def fill(self):
        self.trackio.Api().create_registry("models")
        run = self.trackio.init(project="genres", embed=False)
        for n in (1, 2, 3):
            (self.folder / f"model{n}").write_text(f"model {n}")
            artifact = self.trackio.Artifact("genres", type="model")
            artifact.add_file(str(self.folder / f"model{n}"), name="model")
            run.link_artifact(run.log_artifact(artifact), "registry-models/genres")
        self.trackio.finish()
        self.promote(1)

    def promote(self, number, over=None):
        self.storage.link_artifact_version(
            "models", "genres", "model", "genres", "genres", number - 1, ["champion"])

    def champion(self):
        links = self.storage.get_collection("models", "genres")["links"]
        found, = [link for link in links if "champion" in link["aliases"]]
        return found["source_version"] + 1

    def promotions(self):
        return [event["payload"]["source_version"] + 1 if "payload" in event
                else event["source_version"] + 1
                for event in self.storage.get_events("models") if event["kind"] == "promote"]

    def database(self):
        return self.storage._require_registry("models"), "registry_events", "payload"

    def change_file(self):
        blobs = [p for p in self.folder.rglob("*") if p.is_file() and p.read_bytes() == b"model 2"]
        for blob in blobs:
            if blob.name == "model2": continue
            blob.chmod(0o644)
            blob.write_text("other 2")

    def fetch(self):
        self.trackio.init(project="genres", embed=False)
        folder = self.trackio.use_artifact("genres:v1", type="model").download()
        self.trackio.finish()
        if (Path(folder) / "model").read_text() != "model 2":
            raise AssertionError("served what had changed")


STORES = {"local": Local, "mlflow-skinny": Mlflow, "trackio": Trackio}


def leave(queue):
    "End a process without what packages do at its end, once the queue is written."
    queue.close()
    queue.join_thread()
    os._exit(0)


def child(work, *args):
    "Run something in a process of its own; what it returned, or the error's name."
    queue = FORK.Queue()

    def run():
        try: queue.put(work(*args))
        except Exception as e: queue.put(f"{type(e).__name__}: {e}")
        leave(queue)

    process = FORK.Process(target=run)
    process.start()
    found = queue.get(timeout=120)
    process.join()
    return found


def race(kind, folder, number, barrier, queue):
    store = kind(folder)
    for _ in range(ROUNDS):
        barrier.wait()
        store.champion()
        before = store.champion()
        barrier.wait()
        try: store.promote(number, over=before)
        except Exception: queue.put((number, "refused"))
        else: queue.put((number, "done"))
        barrier.wait()
        if number == 2:
            try: store.promote(1)
            except Exception: pass
        barrier.wait()
    leave(queue)


def races(kind, folder):
    "Rounds in which both of two processes were told yes, having compared with the same champion."
    queue, barrier = FORK.Queue(), FORK.Barrier(2)
    both = [FORK.Process(target=race, args=(kind, folder, n, barrier, queue)) for n in (2, 3)]
    for process in both: process.start()
    answers = [queue.get(timeout=120) for _ in range(2*ROUNDS)]
    for process in both: process.join()
    pairs = [answers[n:n + 2] for n in range(0, 2*ROUNDS, 2)]
    return sum(all(answer == "done" for _, answer in pair) for pair in pairs)


def promote_for_ever(kind, folder, log):
    store, handle, number = kind(folder), os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1
    os.write(handle, b"0\n")
    while True:
        number = number % 3 + 1
        if number == store.champion(): continue
        store.promote(number)
        os.write(handle, f"{number}\n".encode())


def state(kind, folder):
    store = kind(folder)
    return store.champion(), store.promotions()


def kills(kind, folder, count):
    "(kills after which it opened with one champion, acknowledged promotions, those not in history)"
    rng, opened, acknowledged, lost = random.Random(7), 0, 0, 0
    for n in range(count):
        log = folder / f"log{n}"
        _, before = child(state, kind, folder)
        process = FORK.Process(target=promote_for_ever, args=(kind, folder, log))
        process.start()
        while not (log.exists() and log.read_text()): time.sleep(.001)
        time.sleep(rng.uniform(0, .3))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        said = [int(line) for line in log.read_text().split()][1:]
        found = child(state, kind, folder)
        if isinstance(found, str): continue
        opened, acknowledged = opened + 1, acknowledged + len(said)
        if before is not None: lost += found[1][len(before):len(before) + len(said)] != said
    return opened, acknowledged, lost


def time_promotions(kind, folder):
    store, took = kind(folder), []
    for n in range(PROMOTIONS):
        number = store.champion() % 3 + 1
        began = time.perf_counter()
        store.promote(number)
        took.append(1000*(time.perf_counter() - began))
    return statistics.median(took)


def forged(kind, folder):
    "What becomes of a row of the history that another tool changes."
    path, table, column = child(lambda: kind(folder).database())
    if table is None: return "keeps none"
    db = sqlite3.connect(path)
    try:
        change = f"UPDATE {table} SET {column} = replace({column}, 'promote', 'Promote')"
        with db: db.execute(change)
        return "changed without a word"
    except sqlite3.DatabaseError: return "refused by the database"
    finally: db.close()


def tampered(kind, folder):
    "What becomes of a model whose file was changed."
    child(lambda: kind(folder).change_file())
    said = child(lambda: kind(folder).fetch())
    print("fetch:", said, file=sys.stderr)
    served = said is None or str(said).startswith("AssertionError")
    return "served" if served else "refused and named" if "model" in str(said) else "refused"


def size():
    "Megabytes and number of all packages of this environment, pip and setuptools left out."
    found = [d for d in distributions() if d.metadata["Name"] not in ("pip", "setuptools")]
    files = [d.locate_file(f) for d in found for f in d.files or []]
    return sum(os.path.getsize(f) for f in files if os.path.isfile(f))/1e6, len(found)


def measure(name, count):
    kind = STORES[name]
    if kind.slow: importlib.import_module(kind.slow)  # once, not in every process

    def fresh():
        folder = Path(tempfile.mkdtemp(prefix="stores-"))
        said = child(lambda: kind(folder).fill())
        if said: raise SystemExit(said)
        return folder

    opened, acknowledged, lost = kills(kind, fresh(), count)
    own = {"megabytes": 0, "packages": 0}
    if kind.package: own = dict(zip(own, (round(size()[0]), size()[1]), strict=True))
    return {"store": name, "version": version(kind.package) if kind.package else
            f"SQLite {sqlite3.sqlite_version}", "rounds": ROUNDS,
            "both told yes": races(kind, fresh()), "kills": count,
            "opened with one champion": opened,
            "acknowledged": acknowledged, "lost": "no history" if kind is Mlflow else lost,
            "a changed row": forged(kind, fresh()), "a changed file": tampered(kind, fresh()),
            **own, "ms a promotion": round(child(time_promotions, kind, fresh()), 1)}


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Exit status: 0 measured.")
    parser.add_argument("store", choices=STORES, nargs="?", default="local",
                        help="what to measure (default: local)")
    parser.add_argument("--kills", type=int, default=20, help="how many (default: 20)")
    args = parser.parse_args(argv)
    row = measure(args.store, args.kills)
    rows = list(csv.DictReader(TABLE.open())) if TABLE.exists() else []
    rows = [old for old in rows if old["store"] != row["store"]] + [row]
    rows.sort(key=lambda row: list(STORES).index(row["store"]))
    with TABLE.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(row), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(row)
    return 0


if __name__ == "__main__": sys.exit(main())
