"Bandits: choosing and learning, step by step, in batches, and many runs side by side."

from parts import Row, Side, close, mean_and_error, within_noise

TITLE = "Bandits"
ABOUT = """Ten arms, one of which pays half of the time and nine in two cases of five. Policies
that draw by chance must have the same regret, which stands beside the ratio (theirs, mean ±
standard error over walks; ours on the row's first line as `ours`); policies that do not must
make the same choices. contextualbandits does not learn step by step, and river and mabwiser
choose for one visitor at a time where there is no context."""
ARMS, FEATURES = 10, 20
MEANS = [.5] + [.4] * 9


# ------------------------------------------------------------ inputs

def luck(folder, walks, steps):
    "What decides whether a click comes, for each step of each walk."
    import numpy as np
    np.save(folder / "luck.npy", np.random.default_rng(7).random((walks, steps)))


def contexts(folder, seen, asked):
    "Contexts, what was chosen and earned in them, and those that a choice is asked for."
    import numpy as np
    rng = np.random.default_rng(7)
    np.savez(folder / "contexts.npz", seen=rng.normal(size=(seen, FEATURES)),
             arms=rng.integers(ARMS, size=seen), rewards=rng.random(seen),
             asked=rng.normal(size=(asked, FEATURES)))


def read_contexts(folder):
    import numpy as np
    with np.load(folder / "contexts.npz") as stored: return dict(stored)


# ------------------------------------------------------------ step by step

def walked(pick, see, luck):
    "Regret of a walk: each arm once, then choose, earn, learn."
    regret = 0.
    for step, chance in enumerate(luck):
        arm = step if step < ARMS else pick()
        see(arm, int(chance < MEANS[arm]))
        regret += MEANS[0] - MEANS[arm]
    return regret


def walks(make):
    "All walks of a policy; make(seed) gives its two verbs."
    def prepare(folder):
        import numpy as np
        rows = np.load(folder / "luck.npy").tolist()
        return lambda: [walked(*make(seed), row) for seed, row in enumerate(rows)]
    return prepare


def our_policy(name, *args):
    def make(seed):
        from trending_now import bandits
        policy = getattr(bandits, name)(ARMS, *args, rng=seed)
        return policy.pick, policy.see
    return make


def mabwiser_policy(name, **knobs):
    def make(seed):
        from mabwiser.mab import MAB, LearningPolicy
        policy = MAB(list(range(ARMS)), getattr(LearningPolicy, name)(**knobs), seed=seed)
        learn = [policy.fit]   # which it wants once, and partial_fit from then on

        def see(arm, reward):
            learn[0]([arm], [reward])
            learn[0] = policy.partial_fit
        return policy.predict, see
    return make


def river_policy(name, **knobs):
    def make(seed):
        from river import bandit, proba
        if name == "ThompsonSampling": knobs["reward_obj"] = proba.Beta()
        policy, arms = getattr(bandit, name)(seed=seed, **knobs), list(range(ARMS))
        is_beta = name == "ThompsonSampling"
        see = (lambda arm, reward: policy.update(arm, reward > 0)) if is_beta else policy.update
        return lambda: policy.pull(arms), see
    return make


def bare_thompson(seed):
    "What Thompson sampling cannot do without: a draw for each arm, the best, two sums."
    import numpy as np
    rng = np.random.default_rng(seed)
    wins, losses = np.ones(ARMS), np.ones(ARMS)

    def see(arm, reward):
        wins[arm] += reward
        losses[arm] += 1 - reward
    return lambda: int(rng.beta(wins, losses).argmax()), see


def bare_ucb(seed):
    import math, random
    counts, sums, chance = [0]*ARMS, [0.]*ARMS, random.Random(seed)

    def pick():
        new = [arm for arm in range(ARMS) if not counts[arm]]
        if new: return chance.choice(new)
        double = 2 * math.log(sum(counts))
        scores = [s / n + math.sqrt(double / n) for s, n in zip(sums, counts)]
        return scores.index(max(scores))

    def see(arm, reward):
        counts[arm] += 1
        sums[arm] += reward
    return pick, see


def bare_greedy(seed):
    import random
    counts, sums, chance = [0]*ARMS, [0.]*ARMS, random.Random(seed)

    def pick():
        if chance.random() < .1: return chance.randrange(ARMS)
        means = [s / n if n else 9. for s, n in zip(sums, counts)]
        return means.index(max(means))

    def see(arm, reward):
        counts[arm] += 1
        sums[arm] += reward
    return pick, see


def regrets(found): return {"regret": [float(x) for x in found]}


def both_regrets(ours, theirs):
    return f"regret {mean_and_error(theirs['regret'])}, ours {mean_and_error(ours['regret'])}"


# ------------------------------------------------------------ many choices, nothing learnt between

def seen(folder, rows, asked):
    "What was chosen and earned, and for how many visitors a choice is asked."
    import numpy as np
    rng = np.random.default_rng(7)
    arms = rng.integers(ARMS, size=rows)
    np.savez(folder / "seen.npz", arms=arms, rewards=rng.random(rows) < np.array(MEANS)[arms],
             asked=asked)


def read_seen(folder):
    "(arms, rewards, number of choices)."
    import numpy as np
    with np.load(folder / "seen.npz") as stored:
        return stored["arms"].tolist(), stored["rewards"].astype(int).tolist(), int(stored["asked"])


def our_choices(name, *args):
    def prepare(folder):
        from trending_now import bandits
        arms, rewards, asked = read_seen(folder)
        policy = getattr(bandits, name)(ARMS, *args, rng=7)
        policy.see_many(arms, rewards)
        return lambda: policy.pick_many(asked)
    return prepare


def choices(make):
    "One by one, by a policy that has seen the same."
    def prepare(folder):
        arms, rewards, asked = read_seen(folder)
        pick, see = make(7)
        for arm, reward in zip(arms, rewards): see(arm, reward)
        return lambda: [pick() for _ in range(asked)]
    return prepare


def bare_draws(folder):
    "The draws of all choices, and the best of each."
    import numpy as np
    arms, rewards, asked = read_seen(folder)
    n, wins = np.bincount(arms, minlength=ARMS), np.bincount(arms, rewards, ARMS)
    rng = np.random.default_rng(7)
    return lambda: rng.beta(1 + wins, 1 + n - wins, (asked, ARMS)).argmax(1)


def bare_lots(folder):
    "Two numbers a choice: whether to explore, and what."
    import numpy as np
    arms, rewards, asked = read_seen(folder)
    n, wins = np.bincount(arms, minlength=ARMS), np.bincount(arms, rewards, ARMS)
    rng, best = np.random.default_rng(7), int((wins / n).argmax())

    def work():
        explores, which = rng.random((2, asked))
        return np.where(explores < .1, (which * ARMS).astype(int), best)
    return work


# ------------------------------------------------------------ many runs side by side

def simulated(folder):
    import numpy as np
    from trending_now.bandits import Bernoulli, Thompson, simulate
    runs, steps = np.load(folder / "luck.npy").shape
    return lambda: simulate(Thompson(ARMS, rng=7), Bernoulli(MEANS), steps, runs, every=steps)


def last_regrets(runs): return {"regret": runs.cumulative_regret.tolist()}


def bare_simulation(folder):
    "The draws, the best and the sums of all runs, in NumPy."
    import numpy as np
    runs, steps = np.load(folder / "luck.npy").shape
    means, row = np.array(MEANS), np.arange(runs)

    def work():
        rng = np.random.default_rng(7)
        wins, losses, regret = np.ones((runs, ARMS)), np.ones((runs, ARMS)), np.zeros(runs)
        for _ in range(steps):
            arm = rng.beta(wins, losses).argmax(1)
            reward = rng.random(runs) < means[arm]
            wins[row, arm] += reward
            losses[row, arm] += ~reward
            regret += means[0] - means[arm]
        return regret
    return work


# ------------------------------------------------------------ contexts

def our_linear(name, scale):
    "A policy of ours that has learnt."
    def learnt(stored):
        from trending_now import bandits
        policy = getattr(bandits, name)(ARMS, FEATURES, scale, rng=7)
        policy.see_many(stored["arms"].tolist(), stored["rewards"].tolist(), stored["seen"])
        return policy
    return learnt


def our_predictions(name, scale):
    def prepare(folder):
        stored = read_contexts(folder)
        policy = our_linear(name, scale)(stored)
        return lambda: policy.pick_many(stored["asked"])
    return prepare


def our_learning(name, scale):
    def prepare(folder):
        stored, learn = read_contexts(folder), our_linear(name, scale)
        return lambda: (learn(stored), stored["asked"])
    return prepare


def picks_of_learnt(result):
    policy, asked = result
    picks = policy.pick_many(asked) if hasattr(policy, "pick_many") else policy.predict(asked)
    return picks_of(picks)


def picks_of(picks): return {"picks": [int(arm) for arm in picks]}


def mabwiser_linear(name, scale):
    def learnt(stored):
        from mabwiser.mab import MAB, LearningPolicy
        policy = MAB(list(range(ARMS)), getattr(LearningPolicy, name)(alpha=scale), seed=7)
        policy.fit(stored["arms"], stored["rewards"], stored["seen"])
        return policy
    return learnt


def contextualbandits_linear(name, **knobs):
    def learnt(stored):
        from contextualbandits import online
        policy = getattr(online, name)(ARMS, fit_intercept=False, use_float=False,
                                       random_state=7, **knobs)
        return policy.fit(stored["seen"], stored["arms"], stored["rewards"])
    return learnt


def predictions(learn):
    def prepare(folder):
        stored = read_contexts(folder)
        policy = learn(stored)
        return lambda: policy.predict(stored["asked"])
    return prepare


def learning(learn):
    def prepare(folder):
        stored = read_contexts(folder)
        return lambda: (learn(stored), stored["asked"])
    return prepare


def normal_equations(stored):
    "The inverse and the coefficients of each arm."
    import numpy as np
    inverses, thetas = [], []
    for arm in range(ARMS):
        rows = stored["arms"] == arm
        x, r = stored["seen"][rows], stored["rewards"][rows]
        inverses.append(np.linalg.inv(np.eye(FEATURES) + x.T @ x))
        thetas.append(inverses[-1] @ (x.T @ r))
    return np.array(inverses), np.array(thetas)


def bare_learning(folder):
    stored = read_contexts(folder)
    return lambda: normal_equations(stored)


def bare_ucb_scores(folder):
    "Means and widths of all arms by matrix products."
    import numpy as np
    stored = read_contexts(folder)
    inverses, thetas = normal_equations(stored)
    roots, x = np.linalg.cholesky(inverses), stored["asked"]

    def work():
        best = []
        for at in range(0, len(x), 1024):
            part = x[at:at + 1024]
            widths = [np.square(part @ root).sum(1) for root in roots]
            best.append((part @ thetas.T + np.sqrt(widths).T).argmax(1))
        return np.concatenate(best)
    return work


def share_of_each(picks):
    "How often each arm was picked, as a row of 0 and 1 for the most frequent comparisons."
    return {f"arm {arm}": [float(int(pick) == arm) for pick in picks] for arm in range(ARMS)}


def same_shares(ours, theirs):
    told = (within_noise(name, 5.)(ours, theirs) for name in ours)
    return next((words for words in told if words), "")


# ------------------------------------------------------------ one context at a time

def our_steps(folder):
    from trending_now.bandits import LinUCB
    stored = read_contexts(folder)
    known = (stored["arms"].tolist(), stored["rewards"].tolist(), stored["seen"])
    rewards = stored["rewards"].tolist()

    def work():
        policy, picks = LinUCB(ARMS, FEATURES, 1., rng=7), []
        policy.see_many(*known)
        for x, reward in zip(stored["asked"], rewards * (1 + len(stored["asked"]) // len(rewards))):
            picks.append(policy.pick(x))
            policy.see(picks[-1], reward, x)
        return picks
    return work


def mabwiser_steps(folder):
    stored, learn = read_contexts(folder), mabwiser_linear("LinUCB", 1.)
    rewards = stored["rewards"].tolist()

    def work():
        policy, picks = learn(stored), []
        for x, reward in zip(stored["asked"], rewards * (1 + len(stored["asked"]) // len(rewards))):
            picks.append(policy.predict([x]))
            policy.partial_fit([picks[-1]], [reward], [x])
        return picks
    return work


# ------------------------------------------------------------ rows

STEPS, FEW = {"walks": 10, "steps": 1_000}, {"walks": 10, "steps": 100}
SIDE_BY_SIDE = {"walks": 50, "steps": 1_000}
KNOWN = {"seen": 2_000, "asked": 100_000}
SMALL = {"seen": 300, "asked": 400}


ONE_BY_ONE = (
    "One choice at a time costs what Python costs: ours checks each arm and reward and draws with "
    "NumPy, so that many runs can be drawn at once; River keeps plain lists and draws with "
    "`random`. Where nothing is learnt between choices, or many runs go side by side, ask for all "
    "at once.")


def stepwise(name, ours, mabwiser, river, bare, what):
    theirs = {"mabwiser": Side(walks(mabwiser), "current", "mabwiser", regrets),
              "river": Side(walks(river), "current", "river", regrets)}
    return Row(f"{name}, step by step", "10 walks of 1,000 steps, 10 arms", luck, STEPS, FEW,
               Side(walks(ours), numbers=regrets), theirs, Side(walks(bare), numbers=lambda r: {}),
               what, within_noise("regret"), both_regrets, ONE_BY_ONE)


def many_choices(name, ours, mabwiser, river, bare, what):
    theirs = {"mabwiser": Side(choices(mabwiser), "current", "mabwiser", share_of_each),
              "river": Side(choices(river), "current", "river", share_of_each)}
    return Row(f"{name}, 2e4 choices", "20,000 choices after 2,000 rewards, 10 arms", seen,
               {"rows": 2_000, "asked": 20_000}, {"rows": 500, "asked": 400},
               Side(ours, numbers=share_of_each), theirs, Side(bare, numbers=share_of_each), what,
               same_shares)


UCB = Side(predictions(mabwiser_linear("LinUCB", 1.)), "current", "mabwiser", picks_of)
UCB2 = Side(predictions(contextualbandits_linear("LinUCB", alpha=1., ucb_from_empty=False)),
            "contextualbandits", "contextualbandits", picks_of)
LEARN = Side(learning(mabwiser_linear("LinUCB", 1.)), "current", "mabwiser", picks_of_learnt)
LEARN2 = Side(learning(contextualbandits_linear("LinUCB", alpha=1., ucb_from_empty=False)),
              "contextualbandits", "contextualbandits", picks_of_learnt)

ROWS = (
    stepwise("Thompson", our_policy("Thompson"), mabwiser_policy("ThompsonSampling"),
             river_policy("ThompsonSampling"), bare_thompson,
             "a loop that draws, takes the best and adds, without names, checks and classes"),
    stepwise("UCB1", our_policy("UCB1"), mabwiser_policy("UCB1", alpha=1.),
             river_policy("UCB", delta=1.), bare_ucb,
             "a loop over plain lists, without names, checks and classes"),
    stepwise("epsilon-greedy", our_policy("EpsilonGreedy", .1),
             mabwiser_policy("EpsilonGreedy", epsilon=.1),
             river_policy("EpsilonGreedy", epsilon=.1), bare_greedy,
             "a loop over plain lists, without names, checks and classes"),
    many_choices("Thompson", our_choices("Thompson"), mabwiser_policy("ThompsonSampling"),
                 river_policy("ThompsonSampling"), bare_draws, "the draws of all choices in NumPy"),
    many_choices("epsilon-greedy", our_choices("EpsilonGreedy", .1),
                 mabwiser_policy("EpsilonGreedy", epsilon=.1),
                 river_policy("EpsilonGreedy", epsilon=.1), bare_lots,
                 "two random numbers a choice in NumPy"),
    Row("Thompson, 50 runs side by side", "50 runs of 1,000 steps, 10 arms", luck, SIDE_BY_SIDE,
        FEW, Side(simulated, numbers=last_regrets, package="trending-now"),
        {"mabwiser": Side(walks(mabwiser_policy("ThompsonSampling")), "current", "mabwiser",
                          regrets),
         "river": Side(walks(river_policy("ThompsonSampling")), "current", "river", regrets)},
        Side(bare_simulation, numbers=regrets), "the draws and sums of all runs in NumPy",
        within_noise("regret"), both_regrets),
    Row("LinUCB, choices for 1e5 contexts", "100,000 contexts of 20 numbers, 10 arms", contexts,
        KNOWN, SMALL, Side(our_predictions("LinUCB", 1.), numbers=picks_of),
        {"mabwiser": UCB, "contextualbandits": UCB2}, Side(bare_ucb_scores, numbers=picks_of),
        "matrix products for means and widths, and the best", close(0)),
    Row("LinUCB, learning from 1e4 contexts", "10,000 contexts of 20 numbers, 10 arms", contexts,
        {"seen": 10_000, "asked": 500}, SMALL,
        Side(our_learning("LinUCB", 1.), numbers=picks_of_learnt),
        {"mabwiser": LEARN, "contextualbandits": LEARN2},
        Side(bare_learning, numbers=lambda r: {}), "the normal equations of each arm", close(0),
        reason="Both others invert the sums of squares of an arm's contexts; ours takes a QR "
               "decomposition of the contexts themselves, which is more work and keeps their "
               "digits where some features are much larger than others."),
    Row("LinUCB, one context at a time", "1,000 contexts, each chosen for and learnt from",
        contexts, {"seen": 100, "asked": 1_000}, {"seen": 100, "asked": 50},
        Side(our_steps, numbers=picks_of),
        {"mabwiser": Side(mabwiser_steps, "current", "mabwiser", picks_of)}, agree=close(0)),
    Row("linear Thompson, choices for 1e4 contexts", "10,000 contexts of 20 numbers, 10 arms",
        contexts, {"seen": 2_000, "asked": 10_000}, SMALL,
        Side(our_predictions("LinThompson", .3), numbers=share_of_each),
        {"mabwiser": Side(predictions(mabwiser_linear("LinTS", .3)), "current", "mabwiser",
                          share_of_each)},
        agree=same_shares,
        reason="contextualbandits is left out: its draws have another spread than the posterior "
               "that both others draw from."),
)
