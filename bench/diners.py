"""Time and memory of a million impressions, from drawing the visits to the finished table of
events, on one core.

usage: python bench/diners.py [--impressions 1000000] [--runs 5] [--json]
"""

import argparse, json, os, re, resource, sys, time
from pathlib import Path


def peak_mb():
    """Largest memory of this process. Linux also counts the parent's in ru_maxrss, so its own mark
    is read where there is one."""
    status = Path("/proc/self/status")
    if status.exists() and (m := re.search(r"VmHWM:\s+(\d+)", status.read_text())):
        return int(m[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
        1024**2 if sys.platform == "darwin" else 1024
    )


def main():
    a = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    a.add_argument(
        "--impressions", type=int, default=1_000_000, help="at least this many (default: a million)"
    )
    a.add_argument(
        "--runs",
        type=int,
        default=5,
        help="repeats; the first and the median are told (default: 5)",
    )
    a.add_argument("--json", action="store_true", help="one JSON object instead of a line")
    args = a.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    import numpy as np, pandas as pd
    from trending_now.catalogue import labels, load_films, replay_weeks
    from trending_now.diners import Diners, build_page
    from trending_now.settings import DinersKnobs as Knobs, stream

    pool = pd.concat([w.films for w in replay_weeks(load_films(), "2008-01", 8)], ignore_index=True)
    page = build_page(
        pool,
        np.clip(labels(pool) + 0.1 * stream(7, "p").random((len(pool), 12)), 0, 1),
        thresholds=0.5,
    )
    visits = 1.02 * args.impressions / (page.slots >= 0).sum() / 1.5
    d, took = (
        Diners(50_000, 7, Knobs(visits_per_week=visits, new_share=0.0, activity_spread=0.5)),
        [],
    )
    for i in range(args.runs):
        start = time.perf_counter()
        events = d.visit(page, stream(7, "bench"))
        took.append(time.perf_counter() - start)
    out = dict(
        impressions=int((events.kind == "impression").sum()),
        events=len(events),
        first_seconds=round(took[0], 2),
        median_seconds=round(sorted(took)[len(took) // 2], 2),
        table_mb=round(events.memory_usage(deep=True).sum() / 1e6),
        peak_mb=round(peak_mb()),
    )
    print(json.dumps(out) if args.json else " ".join(f"{k}={v:,}" for k, v in out.items()))


if __name__ == "__main__":
    main()
