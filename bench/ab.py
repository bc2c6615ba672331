"""Speed of the A/B tests: assignment, a table of a million visitors side by side with tea-tasting,
ten million raw events.

usage: python bench/ab.py [--events 10000000] [--visitors 1000000] [--runs 5] [--peers PYTHON]
[--only NAME]
tea-tasting and growthbook get an environment of their own: python -m venv peers && peers/bin/pip
install tea-tasting==1.14.0 growthbook==4.0.0 pyarrow==26.0.1
and --peers peers/bin/python. Ratios are taken within one run on the same file. On a machine with
other work to do, read the CPU seconds: the best wall time counts the neighbours.
"""

import argparse, json, re, resource, subprocess, sys, time
from pathlib import Path
from tempfile import TemporaryDirectory

PEER = """
import sys, time, json, pyarrow.parquet as pq
import tea_tasting as tt
table, out = pq.read_table(sys.argv[1]), []
test = tt.Experiment(
    a=tt.Mean('orders'), b=tt.Mean('revenue'), c=tt.RatioOfMeans('orders', 'sessions'),
    d=tt.Mean('revenue', covariate='revenue_before'))
for _ in range(int(sys.argv[2])):
    start = time.perf_counter()
    result = test.analyze(table)
    out.append(time.perf_counter() - start)
cpu = []
for _ in range(int(sys.argv[2])):
    start = time.process_time()
    test.analyze(table)
    cpu.append(time.process_time() - start)
found = {k: v['pvalue'] for k, v in result.to_dicts() and zip('abcd', result.to_dicts())}
print(json.dumps([min(out), min(cpu), found]))
"""
HASH = """
import sys, time
from growthbook.core import gbhash
ids = [f'v{i:07}' for i in range(200_000)]
start = time.perf_counter()
for i in ids: gbhash('genres-v2', i, 2)
print(time.perf_counter() - start)
"""


def peak_mb():
    m = (
        re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
        if Path("/proc/self/status").exists()
        else None
    )
    return int(m[1]) / 1024 if m else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def best(f, runs, clock=time.perf_counter):
    "The shortest of some runs; `clock=time.process_time` counts the CPU seconds of all threads."
    took = []
    for _ in range(runs):
        start = clock()
        f()
        took.append(clock() - start)
    return min(took)


def peer(python, code, *args):
    done = subprocess.run([python, "-c", code, *map(str, args)], capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else sys.exit(done.stderr)


def assignment(args):
    from trending_now import ab

    ids = [f"v{i:07}" for i in range(1_000_000)]
    ab.assign_many(ids[:10], "x", [0.5, 0.5])
    many = lambda: ab.assign_many(ids, "genres-v2", [0.5, 0.5])
    out = {
        "assign_many, 1 M ids, s": best(many, args.runs),
        "assign_many, 1 M ids, CPU s": best(many, args.runs, time.process_time),
    }
    if args.peers:
        out["growthbook's hash, 1 M ids, s"] = 5 * float(peer(args.peers, HASH))
    return out


def units(args, folder):
    import numpy as np, pandas as pd, narwhals as nw
    from trending_now import ab

    rng, n = np.random.default_rng(7), args.visitors
    sessions = rng.poisson(2.0, n) + 1
    before = rng.gamma(1.0, 10.0, n)
    t = pd.DataFrame(
        {
            "variant": rng.integers(0, 2, n),
            "sessions": sessions,
            "orders": rng.binomial(sessions, 0.2),
            "revenue": before + rng.gamma(1.0, 8.0, n),
            "revenue_before": before,
        }
    )
    t.to_parquet(folder / "units.parquet")
    x = nw.col("value")
    orders, revenue, rate, less = (
        ab.Metric("orders", x),
        ab.Metric("revenue", x),
        ab.Metric("rate", x, per=x),
        ab.Metric("less", x, past=True),
    )
    plan = ab.Experiment(
        "bench",
        less,
        n // 2 - 5000,
        others=(orders, revenue, rate),
        start=pd.Timestamp("2024-01-01", tz="UTC"),
    )
    names = {
        "orders": "orders",
        "revenue": "revenue",
        "rate": "orders",
        "rate / per": "sessions",
        "less": "revenue",
        "less / past": "revenue_before",
    }
    table = pd.DataFrame(
        {"arm": t.variant.astype("int8"), **{k: t[v].astype(float) for k, v in names.items()}}
    )
    ours = lambda: ab.analyse_units(plan, table)
    out = {
        "a table of visitors, s": best(ours, args.runs),
        "a table of visitors, CPU s": best(ours, args.runs, time.process_time),
    }
    if args.peers:
        theirs, cpu, p = json.loads(peer(args.peers, PEER, folder / "units.parquet", args.runs))
        out |= {
            "tea-tasting, s": theirs,
            "tea-tasting, CPU s": cpu,
            "ours / tea-tasting": out["a table of visitors, s"] / theirs,
        }
        got = ours().table.p
        print(
            "p-values, ours and theirs:",
            {
                k: (
                    round(float(got[k]), 6),
                    round(p[j]["pvalue"] if isinstance(p[j], dict) else p[j], 6),
                )
                for k, j in (("orders", "a"), ("revenue", "b"), ("rate", "c"), ("less", "d"))
            },
        )
    return out


def raw(args, folder):
    import duckdb

    path, n = folder / "events.parquet", args.events
    duckdb.sql("set threads = 2")
    duckdb.sql(f"""copy (
        select timestamptz '2024-01-01 00:00:00+00'
                   + to_seconds((hash(i)%4838400)::bigint) as ts,
               ['exposure','impression','impression','click'][(1 + hash(i*7)%4)::bigint] as kind,
               'v' || lpad((hash(i*13)%{args.visitors})::varchar, 7, '0') as unit,
               case when hash(i)%4838400 >= 2419200 then 'bench' else '' end as experiment,
               case when hash(i)%4838400 < 2419200 then ''
                    when hash(hash(i*13)%{args.visitors})%2 = 0 then 'control'
                    else 'treatment' end as variant,
               (hash(i*17)%300)::double as value
        from range({n}) r(i)) to '{path}'""")
    code = f"""
import sys, time, json; sys.path.insert(0, {str(Path(__file__).parent)!r})
import duckdb; duckdb.sql('set threads = 2')
from trending_now import ab
from ab import peak_mb, best
import pandas as pd
dwell = ab.Metric('dwell', ab.total('click'))
rate = ab.Metric('rate', ab.count('click'), per=ab.count('exposure'))
active = ab.Metric('active', ab.count('click'), share=True)
clicks = ab.Metric('clicks', ab.count('click'), past=True)
begun = pd.Timestamp('2024-01-29', tz='UTC')
plan = ab.Experiment('bench', clicks, 1000, others=(dwell, rate, active), start=begun)
start = time.perf_counter()
report = ab.analyse(plan, {str(path)!r})
first = time.perf_counter() - start
again = best(lambda: ab.analyse(plan, {str(path)!r}), {args.runs})
cpu = best(lambda: ab.analyse(plan, {str(path)!r}), {args.runs}, time.process_time)
sums = "select unit, sum((kind='click')::int), sum(value) from '{path}' group by unit"
bare = best(lambda: duckdb.sql(sums).arrow(), {args.runs})
print(json.dumps({{
    'units': sum(report.units), 'first, s': first, 'best, s': again, 'CPU s': cpu,
    "DuckDB's bare aggregate, s": bare, 'peak, MB': peak_mb()}}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    return (
        {f"{n:,} events, {k}": v for k, v in json.loads(done.stdout.splitlines()[-1]).items()}
        if done.returncode == 0
        else sys.exit(done.stderr)
    )


def main():
    a = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    a.add_argument(
        "--events", type=int, default=10_000_000, help="raw events (default: ten million)"
    )
    a.add_argument("--visitors", type=int, default=1_000_000, help="visitors (default: a million)")
    a.add_argument("--runs", type=int, default=5, help="repeats; the best is told")
    a.add_argument("--peers", help="Python of an environment with tea-tasting and growthbook")
    a.add_argument("--only", choices=["assignment", "units", "raw"], help="one part")
    args = a.parse_args()
    out = {}
    with TemporaryDirectory() as d:
        for name, part in (
            ("assignment", lambda: assignment(args)),
            ("units", lambda: units(args, Path(d))),
            ("raw", lambda: raw(args, Path(d))),
        ):
            if args.only in (None, name):
                out |= part()
    for k, v in out.items():
        print(f"{k}: {v:,.3f}" if isinstance(v, float) else f"{k}: {v:,}")


if __name__ == "__main__":
    main()
