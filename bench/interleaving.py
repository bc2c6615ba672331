"""Team-draft merges of 10 places from two lists of 20, on one core: the vectorised form beside the
plain one on the same rows, and checked against it coin for coin.

usage: python bench/interleaving.py [--merges 100000] [--plain 5000] [--runs 5] [--json]
The goal is 100,000 merges in less than a second. The ratio is taken within one run, per merge.
"""

import argparse, json, os, time


def best(f, runs):
    "Least seconds over `runs` of `f`, and its last result."
    took = []
    for _ in range(runs):
        start = time.perf_counter()
        out = f()
        took.append(time.perf_counter() - start)
    return min(took), out


def main():
    a = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    a.add_argument(
        "--merges",
        type=int,
        default=100_000,
        help="rows that are merged at once (default: 100,000)",
    )
    a.add_argument(
        "--plain",
        type=int,
        default=5000,
        help="rows that the plain form merges one by one (default: 5,000)",
    )
    a.add_argument("--runs", type=int, default=5, help="repeats; the fastest is told (default: 5)")
    a.add_argument("--json", action="store_true", help="one JSON object instead of a line")
    args = a.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    import numpy as np
    from trending_now.interleaving import team_draft, team_draft_many
    from trending_now.settings import stream

    lists = [
        stream(7, x).permuted(np.tile(np.arange(30), (args.merges, 1)), axis=1)[:, :20]
        for x in "ab"
    ]
    few = [x[: args.plain] for x in lists]
    many, _ = best(lambda: team_draft_many(*lists, 10, stream(7, "coins")), args.runs)

    def one_by_one():
        rng = stream(7, "coins")
        return [team_draft(x, y, 10, rng) for x, y in zip(*few)]

    plain, rows = best(one_by_one, 2)
    assert team_draft_many(*few, 10, stream(7, "coins"))[0].tolist() == [
        list(m.items) for m in rows
    ]
    out = {
        "merges": args.merges,
        "many_s": round(many, 3),
        "plain_s_per_100k": round(plain / len(rows) * 1e5, 2),
        "plain_over_many": round(plain / len(rows) * args.merges / many, 1),
    }
    print(json.dumps(out) if args.json else " ".join(f"{k}={v:,}" for k, v in out.items()))


if __name__ == "__main__":
    main()
