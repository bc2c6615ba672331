"""What a case is made of: rows, their sides, and when two results are the same.

A case is read in every environment, so this file and the top of each case import nothing but the
standard library.
"""

import math, statistics
from collections.abc import Callable
from dataclasses import dataclass, field


def as_it_is(result): return result


def runner(prepared) -> tuple:
    "(what is done before each run, untimed; the run): a side may give both, or the run alone."
    return prepared if isinstance(prepared, tuple) else (lambda: (), lambda _: prepared())


def once(prepared):
    "What one run returns."
    before, work = runner(prepared)
    return work(before())


@dataclass(frozen=True)
class Side:
    "One program that does the work of a row."
    prepare: Callable                # (folder of the input) -> the function that is timed, or
                                     # (a function that is not, one that is timed on its result)
    environment: str = "ours"        # Where it runs: 'ours', or the name of a file of pins
    package: str = ""                # The package whose version is told
    numbers: Callable = as_it_is     # What the timed function returned, as {name: number or list}
    agree: Callable | None = None    # Instead of the row's, for this side


def own_folder() -> str:
    "A new folder that goes with the process."
    import atexit, shutil, tempfile
    folder = tempfile.mkdtemp(prefix="bench-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def close(tolerance: float) -> Callable:
    "Numbers of the same name differ by at most this share of the larger one."
    def agree(ours: dict, theirs: dict) -> str:
        common = [name for name in ours if name in theirs]
        if not common: return f"nothing to compare: {sorted(ours)} beside {sorted(theirs)}"
        told = (apart(name, ours[name], theirs[name], tolerance) for name in common)
        return next((words for words in told if words), "")
    return agree


def apart(name: str, ours, theirs, tolerance: float) -> str:
    "In words where two numbers or lists differ; '' where they do not."
    one, other = (list(x) if isinstance(x, list) else [x] for x in (ours, theirs))
    if len(one) != len(other): return f"{name}: {len(one)} numbers beside {len(other)}"
    for place, (a, b) in enumerate(zip(one, other)):
        same = a == b or math.isclose(a, b, rel_tol=tolerance, abs_tol=tolerance * 1e-6)
        if not same: return f"{name}: {a!r} beside {b!r} at place {place}"
    return ""


def within_noise(name: str, most: float = 4.) -> Callable:
    "Means of two lists of independent runs are at most so many standard errors apart."
    def agree(ours: dict, theirs: dict) -> str:
        one, other = ours[name], theirs[name]
        error = math.sqrt(sum(statistics.variance(x) / len(x) for x in (one, other)))
        gap = abs(statistics.mean(one) - statistics.mean(other))
        if gap <= most * error or gap == 0: return ""
        return f"{name}: means {statistics.mean(one):.4g} and {statistics.mean(other):.4g} are " \
               f"{gap / error if error else math.inf:.1f} standard errors apart"
    return agree


def mean_and_error(values) -> str:
    "The mean of independent runs with its standard error, in words."
    error = statistics.stdev(values) / math.sqrt(len(values))
    return f"{statistics.mean(values):.4g} ± {error:.2g}"


@dataclass(frozen=True)
class Row:
    "One line of the table: an input, our side, the others', and the least that it must cost."
    name: str                        # Unique in its family
    input: str                       # In words
    make: Callable                   # (folder, **size) writes the input, once
    full: dict                       # The size that is measured
    small: dict                      # The size that the tests use
    ours: Side
    theirs: dict = field(default_factory=dict)  # Name -> Side
    limit: Side | None = None        # The least that any program must do
    limit_is: str = ""               # In words
    agree: Callable = close(1e-9)    # (our numbers, their numbers) -> '' or how they differ
    beside: Callable | None = None   # (our numbers, their numbers) -> words beside the ratio
    reason: str = ""                 # Why it is where it is, below the table
    once: bool = False               # One timing only, since it takes long
    by_hand: bool = False            # Only where `--only` names it

    @property
    def sides(self) -> dict:
        "All of them by name; 'ours' first."
        limit = {"limit": self.limit} if self.limit else {}
        return {"ours": self.ours, **self.theirs, **limit}
