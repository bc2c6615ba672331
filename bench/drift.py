"""Drift measures on a million rows of twenty features, one core: PSI against a plain NumPy
histogram, KS against SciPy. Times are CPU seconds of this process.

usage: python bench/drift.py [--rows 1000000] [--features 20] [--runs 3] [--json]
"""

import argparse, json, os, time


def naive_psi(ref, cur, bins=10):
    "PSI as it is usually written: search the bin of each value."
    import numpy as np

    edges = np.unique(np.quantile(ref, np.linspace(0, 1, bins + 1)[1:-1]))
    e, a = (
        np.maximum(np.bincount(np.searchsorted(edges, x), minlength=len(edges) + 1) / len(x), 1e-4)
        for x in (ref, cur)
    )
    return float(((a - e) * np.log(a / e)).sum())


def cpu(f, pairs, runs):
    "Median CPU seconds over `runs` of `f` on all pairs of columns, and its results."
    took = []
    for _ in range(runs):
        begun = time.process_time()
        out = [f(r, c) for r, c in pairs]
        took.append(time.process_time() - begun)
    return sorted(took)[len(took) // 2], out


def main():
    a = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    a.add_argument(
        "--rows",
        type=int,
        default=1_000_000,
        help="rows of the reference and of the current sample (default: a million each)",
    )
    a.add_argument("--features", type=int, default=20, help="numeric features (default: 20)")
    a.add_argument("--runs", type=int, default=3, help="repeats; the median is told (default: 3)")
    a.add_argument("--json", action="store_true", help="one JSON object instead of a line")
    args = a.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    import numpy as np
    from scipy.stats import ks_2samp
    from trending_now.triggers import ks, psi

    rng = np.random.default_rng(7)
    pairs = [
        (rng.normal(size=args.rows), rng.normal(0.001 * k, 1, args.rows))
        for k in range(args.features)
    ]
    out = {}
    for name, ours, theirs, value in (
        ("psi", psi, naive_psi, float),
        (
            "ks",
            lambda r, c: ks(r, c, method="asymp"),
            lambda r, c: ks_2samp(r, c, method="asymp"),
            lambda t: t.statistic,
        ),
    ):
        mine, a_ = cpu(ours, pairs, args.runs)
        other, b_ = cpu(theirs, pairs, 1)
        assert np.allclose([x.statistic for x in a_], [value(x) for x in b_], atol=1e-9)
        out |= {
            f"{name}_seconds": round(mine, 2),
            f"{name}_other_seconds": round(other, 2),
            f"{name}_times_faster": round(other / mine, 1),
        }
    print(json.dumps(out) if args.json else " ".join(f"{k}={v:,}" for k, v in out.items()))


if __name__ == "__main__":
    main()
