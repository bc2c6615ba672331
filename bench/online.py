"""Learning from a stream of films on one core: one film at a time against a hundred, and against
River's logistic regression. Times are CPU seconds of this process.

usage: python bench/online.py [--films 1000] [--runs 3] [--json]
"""

import argparse, json, os


def main():
    a = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    a.add_argument(
        "--films",
        type=int,
        default=1000,
        help="films that each learner predicts and learns (default: 1000)",
    )
    a.add_argument("--runs", type=int, default=3, help="repeats; the median is told (default: 3)")
    a.add_argument("--json", action="store_true", help="one JSON object instead of a line")
    args = a.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    import numpy as np
    from trending_now.catalogue import load_films
    from trending_now.triggers.freshness import film_table
    from trending_now.retraining.online import (
        OnlineLogistic,
        RiverTagger,
        linear_rows,
        river_logistic,
        test_then_learn,
    )

    table, y = film_table(load_films().head(args.films))
    X = linear_rows(table, args.films)

    def cpu(make, batch):
        "Median CPU seconds, and the last run."
        runs = [test_then_learn(make(), X, y, 0, args.films, batch) for _ in range(args.runs)]
        return sorted(r.cpu for r in runs)[args.runs // 2], runs[-1]

    (one, mine), (hundred, _), (river, theirs) = (
        cpu(lambda: OnlineLogistic(X.shape[1]), 1),
        cpu(lambda: OnlineLogistic(X.shape[1]), 100),
        cpu(lambda: RiverTagger(river_logistic), 1),
    )
    assert np.allclose(mine.proba, theirs.proba, atol=1e-9)
    out = {
        "one_film_ms": round(1000 * one / args.films, 4),
        "hundred_films_ms": round(1000 * hundred / args.films, 4),
        "river_ms": round(1000 * river / args.films, 4),
        "batching_times_faster": round(one / hundred, 1),
        "river_times_slower": round(river / one, 1),
    }
    print(json.dumps(out) if args.json else " ".join(f"{k}={v:,}" for k, v in out.items()))


if __name__ == "__main__":
    main()
