"Off-policy estimates: what another policy would have earned, from a log."

from parts import Row, Side, close

TITLE = "Off-policy estimates"
ABOUT = """A log of decisions among ten actions with the logging policy's propensities, another
policy's probabilities of all actions, and a reward model's predictions for them. Ours gives a
standard error and an interval with each estimate; the Open Bandit Pipeline (obp) gives the
estimate alone, except in the last row, where it makes its interval by bootstrap."""
ACTIONS, LIMIT = 10, 5.


def log(folder, rows):
    "A log of decisions, 0/1 rewards."
    import numpy as np
    rng = np.random.default_rng(7)
    logging, policy = (rng.dirichlet(np.full(ACTIONS, 2.), rows) for _ in range(2))
    action = (logging.cumsum(1) > rng.random(rows)[:, None]).argmax(1)
    quality = np.clip(.3 + .1*np.arange(ACTIONS)/ACTIONS + rng.normal(0, .1, (rows, ACTIONS)), 0, 1)
    row = np.arange(rows)
    reward = (rng.random(rows) < quality[row, action]).astype(float)
    np.savez(folder / "log.npz", action=action, reward=reward, policy=policy,
             logged=np.maximum(logging[row, action], 1e-6),
             model=np.clip(quality + rng.normal(0, .1, quality.shape), 0, 1))


def read(folder):
    import numpy as np
    with np.load(folder / "log.npz") as stored: return dict(stored)


# ------------------------------------------------------------ ours

def weighted(name):
    "An estimate that needs no reward model."
    def prepare(folder):
        import numpy as np
        from trending_now import bandits
        estimate, x = getattr(bandits, name), read(folder)
        row = np.arange(len(x["action"]))
        return lambda: estimate(x["reward"], x["logged"], x["policy"][row, x["action"]])
    return prepare


def modelled(**how):
    "Doubly robust, with weights as they are, or lighter."
    def prepare(folder):
        import numpy as np
        from trending_now.bandits import doubly_robust
        x = read(folder)
        row = np.arange(len(x["action"]))

        def work():
            target, predicted = (x[name][row, x["action"]] for name in ("policy", "model"))
            expected = (x["policy"] * x["model"]).sum(1)
            return doubly_robust(x["reward"], x["logged"], target, predicted, expected, **how)
        return work
    return prepare


def value_of(estimate): return {"value": float(getattr(estimate, "value", estimate))}


def interval_of(estimate):
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high}


# ------------------------------------------------------------ theirs

def obp(name, **knobs):
    def prepare(folder):
        import obp.ope
        x = read(folder)
        estimator = getattr(obp.ope, name)(**knobs)
        columns = {"reward": x["reward"], "action": x["action"], "pscore": x["logged"],
                   "action_dist": x["policy"][:, :, None],
                   "estimated_rewards_by_reg_model": x["model"][:, :, None]}
        return lambda: estimator.estimate_policy_value(**columns)
    return Side(prepare, "obp", "obp", value_of)


def obp_interval(folder):
    from obp.ope import InverseProbabilityWeighting
    x = read(folder)
    return lambda: InverseProbabilityWeighting().estimate_interval(
        reward=x["reward"], action=x["action"], pscore=x["logged"],
        action_dist=x["policy"][:, :, None], n_bootstrap_samples=1000, random_state=7)


def ends_of(interval):
    "obp names the ends after the level."
    low, = (end for name, end in interval.items() if "lower" in name)
    high, = (end for name, end in interval.items() if "upper" in name)
    return {"value": interval["mean"], "low": low, "high": high}


# ------------------------------------------------------------ limits

def bare(expression):
    "An expression of NumPy over the log: (weights, reward, prediction, expected) -> estimate."
    def prepare(folder):
        import numpy as np
        x = read(folder)
        row, needs_model = np.arange(len(x["action"])), expression not in (bare_ips, bare_snips)

        def work():
            w, r = x["policy"][row, x["action"]] / x["logged"], x["reward"]
            if not needs_model: return expression(w, r)
            predicted = x["model"][row, x["action"]]
            return expression(w, r, predicted, (x["policy"] * x["model"]).sum(1))
        return work
    return Side(prepare, numbers=value_of)


def bare_ips(w, r): return (w @ r) / len(r)
def bare_snips(w, r): return (w @ r) / w.sum()
def bare_dr(w, r, q, v): return (v + w * (r - q)).mean()
def bare_switch(w, r, q, v): return (v + (w * (w <= LIMIT)) * (r - q)).mean()
def bare_shrunk(w, r, q, v): return (v + w / (1 + (w / LIMIT) ** 2) * (r - q)).mean()


SIZE, SMALL = {"rows": 1_000_000}, {"rows": 3_000}
WORDS = "1,000,000 decisions among 10 actions"


def row(name, ours, theirs, expression):
    return Row(f"{name}, 1e6", WORDS, log, SIZE, SMALL,
               Side(ours, numbers=value_of, package="trending-now"), {"obp": theirs},
               bare(expression), "the estimate alone in NumPy, without checks, error and interval",
               reason="Ours checks every column, and gives a standard error and an interval.")


ROWS = (
    row("IPS", weighted("ips"), obp("InverseProbabilityWeighting"), bare_ips),
    row("SNIPS", weighted("snips"), obp("SelfNormalizedInverseProbabilityWeighting"), bare_snips),
    row("doubly robust", modelled(), obp("DoublyRobust"), bare_dr),
    row("doubly robust, switched", modelled(how="switch", limit=LIMIT),
        obp("SwitchDoublyRobust", lambda_=LIMIT), bare_switch),
    row("doubly robust, shrunk", modelled(how="shrink", limit=LIMIT),
        obp("DoublyRobustWithShrinkage", lambda_=LIMIT ** 2), bare_shrunk),
    Row("IPS with its interval, 1e5", "100,000 decisions, 1,000 bootstrap samples on their side",
        log, {"rows": 100_000}, SMALL, Side(weighted("ips"), numbers=interval_of),
        {"obp": Side(obp_interval, "obp", "obp", ends_of)}, agree=close(5e-3)),
)
