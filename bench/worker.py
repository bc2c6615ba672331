"""One side of one row, in a process of its own: prepare, show the result once, then run it once for
each line on standard input and answer with the seconds.

usage: python bench/worker.py FAMILY/ROW SIDE INPUTFOLDER
"""

import gc, importlib, json, os, sys, time
from pathlib import Path

sys.path.append(sys.path.pop(0))  # this folder last: no library may find our files first

from parts import once, runner


def rows_of(family: str) -> dict:
    "The rows of bench/cases/FAMILY.py by their names."
    case = importlib.import_module(f"cases.{family}")
    return {row.name: row for row in case.ROWS}


def own_answers():
    "Where answers go; whatever a library prints goes to standard error."
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    return answers


def seconds_of(prepared) -> float:
    "How long it takes once; what it returned is dropped after the clock has stopped."
    before, work = runner(prepared)
    given = before()
    gc.collect()
    began = time.perf_counter()
    result = work(given)
    took = time.perf_counter() - began
    del result
    return took


def main(argv) -> None:
    "Exit status: 0 done, 1 an error, which stands on standard error."
    label, name, folder = argv
    family, _, row = label.partition("/")
    answers = own_answers()
    side = rows_of(family)[row].sides[name]
    prepared = side.prepare(Path(folder))
    print(json.dumps(side.numbers(once(prepared))), file=answers)  # warms up, untimed
    for _ in sys.stdin: print(seconds_of(prepared), file=answers)


if __name__ == "__main__": main(sys.argv[1:])
