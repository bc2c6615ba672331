#!/usr/bin/env python
"""Measure speed side by side with the field: bench/results.json, and bench/results.md from it.

usage: python bench/run.py [--only ROW ...] [--repeats N] [--again]
ROW is a family ('ab'), or a row of one ('ab/a mean, 1e6'). What was measured before on this
machine, with this code and as many repeats, is kept unless --again says otherwise, so that a run
that was interrupted goes on where it stopped. Environments are built below .venv/bench when they
are first needed.
"""

import argparse, datetime, functools, hashlib, importlib, inspect, json, os, platform
import subprocess, sys, tempfile, time
from pathlib import Path

from tqdm import tqdm

from peers import BENCH, BUILT, NotBuilt, ROOT, build, is_built, python_of, version_in
from results import rendered

RESULTS = BENCH / "results.json"
ENOUGH = 8.  # Seconds after which no row is timed more often than it has to be
INPUTS = BUILT / "inputs"
FAMILIES = ("ab", "assignment", "bandits", "off_policy", "drift", "interleaving", "retraining",
            "service", "project")
ENDING = """Exit status: 0 all rows measured and equal, 1 a row differs or could not be measured,
2 there is no such row."""


# ------------------------------------------------------------ what there is to measure

def case_of(family: str):
    "The case file of a family."
    return importlib.import_module(f"cases.{family}")


def all_rows() -> list:
    "(family, row) of all cases, in the order of the tables."
    return [(family, row) for family in FAMILIES for row in case_of(family).ROWS]


def chosen(rows: list, wanted: list) -> list:
    "The rows that are asked for; SystemExit 2 for a name that no row has."
    if not wanted: return [(family, row) for family, row in rows if not row.by_hand]
    found = []
    for name in wanted:
        some = [(f, row) for f, row in rows if name in (f, f"{f}/{row.name}")]
        if not some: stop(f"{name!r}: expected a family or FAMILY/ROW, such as "
                          f"{rows[0][0]!r} or {rows[0][0] + '/' + rows[0][1].name!r}")
        found += [one for one in some if one not in found]
    return found


def stop(message: str) -> None:
    print(message, file=sys.stderr)
    raise SystemExit(2)


# ------------------------------------------------------------ one row

class Failed(RuntimeError):
    "A side that ended with an error; the message is the end of what it said."


class Worker:
    "The process of one side; it has prepared and warmed up once `numbers` is there."

    def __init__(self, label: str, name: str, side, folder: Path):
        self.errors = tempfile.TemporaryFile("w+")
        command = [python_of(side.environment), str(BENCH / "worker.py"), label, name, str(folder)]
        self.process = subprocess.Popen(
            command, text=True, bufsize=1, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self.errors)
        try: self.numbers = self.answer()
        except BaseException:
            self.close()
            raise

    def answer(self):
        "The next line of the process; Failed if it has ended."
        line = self.process.stdout.readline()
        if line: return json.loads(line)
        self.process.wait()
        self.errors.seek(0)
        raise Failed(self.errors.read().strip()[-600:] or "it ended without a word")

    def seconds(self) -> float:
        "Run once."
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.answer()

    def close(self):
        "End the process: it stops at the end of its input."
        if self.process.poll() is None:
            try: self.process.communicate(timeout=30)
            except subprocess.TimeoutExpired: self.process.kill()
        self.process.wait()
        self.errors.close()


def input_folder(family: str, row) -> Path:
    "The folder with a row's input, written the first time."
    text = f"{row.make.__name__} {row.full} {inspect.getsource(row.make)}"
    folder = INPUTS / f"{family}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"
    if not (folder / ".made").exists():
        folder.mkdir(parents=True, exist_ok=True)
        row.make(folder, **row.full)
        (folder / ".made").touch()
    return folder


def started(label: str, row, name: str, folder: Path):
    "(worker or None, state, note) of a side; its environment is built if it is not there."
    side = row.sides[name]
    try:
        build(side.environment)
        return Worker(label, name, side, folder), "measured", ""
    except NotBuilt as e: return None, "not installed", one_line(e)
    except Failed as e: return None, "failed", one_line(e)


def one_line(error) -> str:
    "The last line of an error."
    lines = str(error).strip().splitlines()
    return lines[-1][:200] if lines else ""


def compared(row, name: str, workers: dict) -> str:
    "'' if a side's result agrees with ours, else how it differs; the limit may have no result."
    ours, theirs = (workers[side].numbers for side in ("ours", name))
    if name == "limit" and not set(ours) & set(theirs): return ""
    return (row.sides[name].agree or row.agree)(ours, theirs)


def measure(family: str, row, repeats: int, folder: Path) -> dict:
    "A row's sides: state, note and seconds of each. Nothing is timed that differs from ours."
    label, sides, workers = f"{family}/{row.name}", {}, {}
    try:
        for name in row.sides:
            worker, state, note = started(label, row, name, folder)
            if worker: workers[name] = worker
            if worker and name != "ours": state, note = checked(row, name, workers)
            sides[name] = {"state": state, "note": note, "seconds": []}
            if name == "ours" and not worker: break
        timed = [name for name in row.sides if sides.get(name, {}).get("state") == "measured"]
        if "ours" in timed: in_turn(sides, {name: workers[name] for name in timed}, repeats)
    finally:
        for worker in workers.values(): worker.close()
    return {name: sides.get(name) or {"state": "not run", "note": "", "seconds": []}
            for name in row.sides}


def in_turn(sides: dict, workers: dict, repeats: int) -> None:
    "Time all sides once, again and again; short rows more often, so that noise shows as such."
    rounds, began = 0, time.monotonic()
    while rounds < repeats or (rounds < 3 * repeats and time.monotonic() - began < ENOUGH):
        for name, worker in workers.items():
            try: sides[name]["seconds"].append(worker.seconds())
            except Failed as e:
                sides[name].update(state="failed", note=one_line(e), seconds=[])
                return
        rounds += 1


def checked(row, name: str, workers: dict):
    "(state, note) of a side that has shown its result."
    how = compared(row, name, workers)
    if how: return "differs", how
    if name == "limit" or not row.beside: return "measured", ""
    return "measured", row.beside(*(workers[side].numbers for side in ("ours", name)))


# ------------------------------------------------------------ what is kept

@functools.cache
def source_of(family: str) -> str:
    "A short mark of what a case says."
    return hashlib.sha256(Path(case_of(family).__file__).read_bytes()).hexdigest()[:12]


@functools.cache
def code_of(package: str = "trending_now") -> str:
    "A short mark of our code."
    digest = hashlib.sha256()
    for path in sorted((ROOT / package).rglob("*.py")): digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def run_of(family: str, row, repeats: int) -> str:
    "What a measurement rests on: our code, the case, its environments, the number of repeats."
    names = sorted({side.environment for side in row.sides.values()} - {"ours"})
    pins = [(BENCH / "environments" / f"{name}.txt").read_text() for name in names]
    text = json.dumps([code_of(), source_of(family), repeats, pins])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def processor() -> str:
    "The processor's family in words."
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def machine() -> dict:
    "What the rows of one table have in common."
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {"cores": os.cpu_count(), "processor": processor(), "memory": f"{memory:.0f} GB",
            "system": f"{platform.system()} {platform.machine()}",
            "python": platform.python_version()}


def opened(path: Path) -> dict:
    "What was measured before on this machine; nothing if it was another."
    fresh = {"machine": machine(), "versions": {}, "families": {}, "rows": []}
    if not path.exists(): return fresh
    found = json.loads(path.read_text())
    return found if found["machine"] == fresh["machine"] else fresh


def render(path: Path) -> None:
    "Write results.md from results.json; nothing that a reader could see half written."
    write(path.with_suffix(".md"), rendered(json.loads(path.read_text(encoding="utf-8"))))


def write(path: Path, words: str) -> None:
    draft = path.with_name(path.name + ".tmp")
    draft.write_text(words, encoding="utf-8")
    draft.rename(path)


def saved(found: dict, path: Path) -> None:
    "Write results.json and results.md, the rows in the order of the cases."
    order = {(family, row.name): place for place, (family, row) in enumerate(all_rows())}
    place = lambda row: order.get((row["family"], row["row"]), len(order))
    found["rows"].sort(key=place)
    write(path, json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    render(path)


def versions(row) -> dict:
    "Of the packages that a row names, where their environments are there."
    sides = [side for side in row.sides.values() if side.package and is_built(side.environment)]
    return {side.package: version_in(side.environment, side.package) for side in sides}


def record(family: str, row, repeats: int, sides: dict) -> dict:
    "A row as results.json keeps it."
    return {"family": family, "row": row.name, "input": row.input, "limit_is": row.limit_is,
            "reason": row.reason, "date": datetime.date.today().isoformat(),
            "run": run_of(family, row, repeats), "sides": sides}


# ------------------------------------------------------------ the command

def run(rows: list, repeats: int, again: bool, path: Path) -> dict:
    "Measure the rows that are not there yet, writing after each; all that is known."
    found = opened(path)
    for family in dict.fromkeys(f for f, _ in all_rows()):
        found["families"][family] = [case_of(family).TITLE, case_of(family).ABOUT]
    for family, row in tqdm(rows, unit="row"):
        times = 1 if row.once else repeats
        kept = [r for r in found["rows"] if (r["family"], r["row"]) == (family, row.name)]
        if kept and kept[0]["run"] == run_of(family, row, times) and not again: continue
        sides = measure(family, row, times, input_folder(family, row))
        found["rows"] = [r for r in found["rows"] if r not in kept]
        found["rows"].append(record(family, row, times, sides))
        found["versions"] |= versions(row)
        saved(found, path)
    return found


def wrong(found: dict, rows: list) -> list:
    "A line for each side that differs or could not be measured."
    named = {(family, row.name) for family, row in rows}
    return [f"{r['family']}/{r['row']}, {name}: {side['state']}: {side['note']}"
            for r in found["rows"] if (r["family"], r["row"]) in named
            for name, side in r["sides"].items() if side["state"] != "measured"]


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=ENDING, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--only", nargs="+", metavar="ROW", default=[], help="families, or rows as FAMILY/ROW")
    add("--repeats", type=int, default=5, metavar="N",
        help="timings of each side; up to three times as many of short rows (default: 5)")
    add("--again", action="store_true", help="measure anew what is there already")
    add("--list", action="store_true", help="say which rows there are, and end")
    add("--render", action="store_true", help="write results.md again from results.json, and end")
    add("--results", type=Path, default=RESULTS, metavar="FILE",
        help="where to write (default: bench/results.json)")
    args = parser.parse_args(argv)
    if args.repeats < 1: parser.error(f"--repeats {args.repeats}: expected 1 or more")
    rows = chosen(all_rows(), args.only)
    if args.list:
        print(*(f"{family}/{row.name}" for family, row in all_rows()), sep="\n")
        return 0
    if args.render:
        render(args.results)
        return 0
    found = run(rows, args.repeats, args.again, args.results)
    complaints = wrong(found, rows)
    print("\n".join(complaints) or f"{len(rows)} rows measured; see {args.results.stem}.md")
    return int(bool(complaints))


if __name__ == "__main__": sys.exit(main())
