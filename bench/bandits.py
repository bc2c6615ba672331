"""Speed of the bandits, one core, CPU seconds: Thompson's pick and see beside MABWiser's and
River's, LinUCB's predictions beside MABWiser's, a simulation side by side.

usage: python bench/bandits.py [--peers PYTHON] [--steps 4000] [--walks 20] [--simulate 20000]
[--json]
MABWiser gets an environment of its own: python -m venv peers && peers/bin/pip install
mabwiser==2.7.4 scikit-learn==1.9.1 pandas==3.1.1 numpy==2.4.6
and --peers peers/bin/python; River (0.25 or later) is read from this environment if it is there. A
peer that is missing is named as missing. Each pair meets the same arms, 10 of
them, in one run. Regret stands beside speed, since a policy that is fast and wrong is no match: its
mean over so many walks, each with luck of its own, and
the standard error of the mean.
"""

import argparse, json, os, subprocess, sys, time

ARMS, FEATURES = 10, 20
MEANS = [0.5] + [0.4] * 9

PEER = """
import json, sys, time
import numpy as np
from mabwiser.mab import MAB, LearningPolicy
means, steps, walks, rows, features = json.loads(sys.argv[1])
took, regrets = 0., []
for seed in range(walks):
    m = MAB(list(range(len(means))), LearningPolicy.ThompsonSampling(), seed=seed)
    m.fit([len(means)-1], [0])   # it will not start from nothing; one failure does no harm
    u, regret = np.random.default_rng(seed).random(steps), 0.
    begun = time.process_time()
    for t in range(steps):
        a = m.predict()
        regret += max(means) - means[a]
        m.partial_fit([a], [int(u[t] < means[a])])
    took += time.process_time() - begun
    regrets.append(regret)
rng = np.random.default_rng(7)
X = rng.normal(size=(rows, features))
arms, r = rng.integers(len(means), size=2000), rng.random(2000)
lin = MAB(list(range(len(means))), LearningPolicy.LinUCB(alpha=1.))
lin.fit(arms, r, X[:2000])
best = 1e9
for _ in range(5):
    begun = time.process_time()
    picks = lin.predict(X)
    best = min(best, time.process_time() - begun)
print(json.dumps({
    'pick_see': walks*steps/took, 'regrets': regrets, 'linucb': rows/best, 'picks': picks}))
"""


def walk(make, steps, walks):
    """(picks and sees a CPU second, regret of each walk) on the ten arms; `make(seed)` gives a
    policy's two verbs."""
    import numpy as np

    took, regrets = 0.0, []
    for seed in range(walks):
        (pick, see), u, regret = make(seed), np.random.default_rng(seed).random(steps), 0.0
        begun = time.process_time()
        for t in range(steps):
            a = pick()
            regret += max(MEANS) - MEANS[a]
            see(a, int(u[t] < MEANS[a]))
        took += time.process_time() - begun
        regrets.append(regret)
    return walks * steps / took, regrets


def told(regrets):
    "Mean regret with its standard error."
    import statistics

    return (
        f"{statistics.mean(regrets):.1f} +- {statistics.stdev(regrets) / len(regrets) ** 0.5:.1f}"
    )


def main():
    a = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    a.add_argument("--peers", help="a Python with MABWiser")
    a.add_argument("--steps", type=int, default=4_000, help="picks of each walk (default: 4000)")
    a.add_argument(
        "--walks", type=int, default=20, help="walks of each policy, at least 2 (default: 20)"
    )
    a.add_argument(
        "--rows", type=int, default=100_000, help="contexts to predict for (default: 100000)"
    )
    a.add_argument(
        "--simulate",
        type=int,
        default=20_000,
        help="steps of the simulation, a hundred repeats (default: 20000; 1000000 is the whole)",
    )
    a.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    args = a.parse_args()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    import numpy as np
    from trending_now.bandits import LinUCB, Thompson, Turnover, simulate

    def ours(seed):
        return (p := Thompson(ARMS, rng=seed)).pick, p.see

    out, rng = {}, np.random.default_rng(7)
    out["thompson"], regrets = walk(ours, args.steps, args.walks)
    out["thompson_regret"] = told(regrets)
    X, arms, r = (
        rng.normal(size=(args.rows, FEATURES)),
        rng.integers(ARMS, size=2000),
        rng.random(2000),
    )
    lin = LinUCB(ARMS, FEATURES, alpha=1.0)
    lin.see_many(arms, r, X[:2000])
    best = 1e9
    for _ in range(5):
        begun = time.process_time()
        picks = lin.pick_many(X)
        best = min(best, time.process_time() - begun)
    out["linucb"] = args.rows / best
    if args.peers:
        run = subprocess.run(
            [
                args.peers,
                "-c",
                PEER,
                json.dumps([MEANS, args.steps, args.walks, args.rows, FEATURES]),
            ],
            capture_output=True,
            text=True,
        )
        if run.returncode:
            sys.exit(f"the peer failed:\n{run.stderr[-2000:]}")
        peer = json.loads(run.stdout.splitlines()[-1])
        out |= {
            "mabwiser_thompson": peer["pick_see"],
            "thompson_times_mabwiser": out["thompson"] / peer["pick_see"],
            "mabwiser_regret": told(peer["regrets"]),
            "mabwiser_linucb": peer["linucb"],
            "linucb_times_mabwiser": out["linucb"] / peer["linucb"],
            "same_picks": float(np.mean(picks == np.array(peer["picks"]))),
        }
    else:
        out["mabwiser"] = "missing: give --peers (see --help)"
    try:
        from river import bandit, proba

        names = list(range(ARMS))

        def theirs(seed):
            q = bandit.ThompsonSampling(reward_obj=proba.Beta(), seed=seed)
            return lambda: q.pull(names), lambda a, r: q.update(a, r > 0)

        out["river_thompson"], regrets = walk(theirs, args.steps, args.walks)
        out["river_regret"] = told(regrets)
        out["thompson_times_river"] = out["thompson"] / out["river_thompson"]
    except ImportError:
        out["river"] = "missing: pip install river"
    begun = time.process_time()
    simulate(Thompson(ARMS, rng=7), Turnover(ARMS), args.simulate, 100, every=args.simulate)
    out["seconds_of_a_million_steps_100_repeats"] = (
        (time.process_time() - begun) * 1e6 / args.simulate
    )
    if args.json:
        print(json.dumps(out))
    else:
        print(
            "\n".join(
                f"{k:40}{v:>14,.2f}" if isinstance(v, float) else f"{k:40}{v:>14}"
                for k, v in out.items()
            )
        )


if __name__ == "__main__":
    main()
