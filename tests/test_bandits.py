"""Policies against brute force and reference libraries, batch against single, saving and
restoring, simulation, stopping, and what is refused."""

import json
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.stats import binomtest
from sklearn.linear_model import LogisticRegression, Ridge
from trending_now.ab import bayes_proportions
from trending_now.bandits import (
    UCB1,
    Bernoulli,
    ChernoffUCB,
    EpsilonGreedy,
    GaussianThompson,
    LinThompson,
    LinUCB,
    LogisticThompson,
    Policy,
    Thompson,
    TopTwo,
    Turnover,
    lai_robbins,
    prob_best,
    simulate,
    value_remaining,
)
from trending_now.bandits.stopping import adaptive_log, adaptive_mean

PLAIN = {
    "epsilon": lambda: EpsilonGreedy(4, 0.3, rng=5),
    "decaying": lambda: EpsilonGreedy(4, 0.9, decay=6, rng=5),
    "ucb": lambda: UCB1(4, rng=5),
    "thompson": lambda: Thompson(4, rng=5),
    "gaussian": lambda: GaussianThompson(4, rng=5),
    "names": lambda: Thompson(["a", "b", "c", "d"], rng=5),
    "discounted": lambda: Thompson(4, discount=0.9, rng=5),
    "windowed": lambda: UCB1(4, window=7, rng=5),
    "top two": lambda: TopTwo(4, rng=5),
    "chernoff": lambda: ChernoffUCB(4, rng=5),
}
CONTEXT = {
    "linucb": lambda: LinUCB(4, 3, 0.7, rng=5),
    "lints": lambda: LinThompson(4, 3, 0.7, rng=5),
    "logistic": lambda: LogisticThompson(4, 3, rng=5),
}
SHARED = {
    "linucb": lambda: LinUCB(4, 3, 0.7, shared=True, rng=5),
    "lints": lambda: LinThompson(4, 3, 0.7, shared=True, rng=5),
    "logistic": lambda: LogisticThompson(4, 3, shared=True, rng=5),
}
ALL = {
    **{k: (f, None) for k, f in PLAIN.items()},
    **{k: (f, (3,)) for k, f in CONTEXT.items()},
    **{f"{k}, a row an arm": (f, (4, 3)) for k, f in CONTEXT.items()},
    **{f"{k}, shared": (f, (4, 3)) for k, f in SHARED.items()},
}
every = pytest.mark.parametrize("name", ALL)


def cases(shape, n, seed=1):
    return [None] * n if shape is None else np.random.default_rng(seed).normal(size=(n, *shape))


def train(p, shape, n=40, seed=2):
    rng = np.random.default_rng(seed)
    for x in cases(shape, n, seed):
        p.see(p.arms[rng.integers(4)], float(rng.integers(2)), x)
    return p


@every
def test_a_batch_of_picks_equals_single_picks_to_the_last_random_number(name):
    make, shape = ALL[name]
    one, many, x = (
        train(make(), shape),
        train(make(), shape),
        cases(shape, 4),
    )  # four contexts: as many as arms
    for xs in (x, cases(shape, 25)):
        batch = many.pick_many(len(xs) if shape is None else xs)
        if name == "top two":
            continue  # draws in another order; its shares are tested below
        assert [one.pick(c) for c in xs] == batch.tolist()
    assert len(many.pick_many(0 if shape is None else np.zeros((0, *shape)))) == 0


@every
def test_a_batch_of_results_equals_single_results(name):
    make, shape = ALL[name]
    rng, xs = np.random.default_rng(3), cases(shape, 30)
    one, many = make(), make()
    arms, rewards = [one.arms[i] for i in rng.integers(4, size=30)], rng.random(30)
    for a, r, x in zip(arms, rewards, xs):
        one.see(a, r, x)
    many.see_many(arms, rewards, None if shape is None else xs)
    assert one.state() == many.state()


@every
def test_a_policy_restored_mid_run_goes_on_identically(name):
    make, shape = ALL[name]
    p = train(make(), shape)
    q = Policy.from_state(p.state())
    assert (
        type(q) is type(p)
        and q.state() == p.state()
        and json.loads(json.dumps(p.state()))["policy"] == type(p).__name__
    )
    for t, x in enumerate(cases(shape, 60, 4)):
        arm = p.pick(x)
        assert q.pick(x) == arm
        for each in (p, q):
            each.see(arm, t % 3 == 0, x)
    assert q.state() == p.state()


@pytest.mark.parametrize(
    "bits",
    [np.random.PCG64, np.random.PCG64DXSM, np.random.MT19937, np.random.Philox, np.random.SFC64],
)
def test_every_numpy_generator_is_saved(bits):
    p = Thompson(3, rng=np.random.Generator(bits(3)))
    p.pick()
    q = Thompson.from_state(p.state())
    assert p.pick_many(20).tolist() == q.pick_many(20).tolist()


@every
def test_wrong_arms_rewards_and_contexts_are_refused_and_nothing_is_learnt(name):
    make, shape = ALL[name]
    p = make()
    good, before = None if shape is None else np.zeros(shape), p.state()
    for arm in ("z", 4, -1, None, [0], 1.5):
        with pytest.raises(ValueError, match="arm = "):
            p.see(arm, 1, good)
    for r in (np.nan, np.inf, -np.inf, "1", None):
        with pytest.raises(ValueError, match="reward = "):
            p.see(p.arms[0], r, good)
    with pytest.raises(ValueError):
        p.see_many([p.arms[0]] * 2, [1, np.nan], None if shape is None else np.zeros((2, *shape)))
    with pytest.raises(ValueError):
        p.see_many([p.arms[0]] * 2, [1], None if shape is None else np.zeros((2, *shape)))
    if shape is not None:
        for bad in (
            None,
            3,
            np.zeros(5),
            np.zeros((5, 3)),
            np.zeros((4, 2)),
            np.full(shape, np.nan),
            np.full(shape, np.inf),
            "abc",
        ):
            with pytest.raises(ValueError, match="context"):
                p.pick(bad)
            with pytest.raises(ValueError, match="context"):
                p.see(0, 1, bad)
    for bad in (-1, 1.5, True, "x"):
        with pytest.raises(ValueError):
            p.pick_many(bad)
        with pytest.raises(ValueError, match="rng"):
            p.pick(good, rng=bad if bad != 1.5 else -2)
    assert p.state() == before


@pytest.mark.parametrize(
    "make",
    [
        lambda: EpsilonGreedy(2, 1.1),
        lambda: EpsilonGreedy(2, np.nan),
        lambda: EpsilonGreedy(3, True),
        lambda: UCB1(2, scale=True),
        lambda: Thompson(2, window=True),
        lambda: EpsilonGreedy(0, 0.1),
        lambda: UCB1([]),
        lambda: UCB1("ab"),
        lambda: UCB1(["a", "a"]),
        lambda: Thompson(2, (0, 1)),
        lambda: Thompson(2, (1, 1, 1)),
        lambda: Thompson(2, discount=1.5),
        lambda: Thompson(2, window=-1),
        lambda: GaussianThompson(2, (0, -1)),
        lambda: LinUCB(2, 0, 1.0),
        lambda: LinUCB(2, 2, -1),
        lambda: LinUCB(2, 2, np.nan),
        lambda: LinThompson(2, 2, -0.1),
        lambda: LinThompson(2, 2, 0.1, ridge=0),
        lambda: LogisticThompson(2, 1.5),
        lambda: Thompson(2, rng="x"),
    ],
)
def test_knobs_out_of_range_are_refused(make):
    with pytest.raises(ValueError, match="expected"):
        make()


def test_states_that_are_no_policy_are_refused():
    text = json.dumps(Thompson(2, rng=1).state())
    for bad in (
        '""',
        "[]",
        "{}",
        "null",
        text.replace("Thompson", "Magic"),
        text.replace("PCG64", "os"),
        text.replace('"n": [0.0, 0.0]', '"n": [0.0]'),
        text.replace('"n": [0.0, 0.0]', '"n": [NaN, 0.0]'),
    ):
        with pytest.raises(ValueError):
            Policy.from_state(json.loads(bad))
    with pytest.raises(ValueError, match="expected a UCB1"):
        UCB1.from_state(json.loads(text))


@given(st.lists(st.tuples(st.integers(0, 2), st.floats(0, 1)), max_size=40))
@settings(deadline=None, derandomize=True)
def test_ucb1_is_the_formula_of_auer_and_others(rows):
    p = UCB1(3)
    for a, r in rows:
        p.see(a, r)
    n = np.array([sum(a == i for a, _ in rows) for i in range(3)])
    if (n == 0).any():
        assert p.pick() == int((n == 0).argmax())
    else:
        mean = np.array([np.mean([r for a, r in rows if a == i]) for i in range(3)])
        scores = mean + np.sqrt(2 * np.log(n.sum()) / n)
        assert p._scores() == pytest.approx(scores) and scores[p.pick()] == pytest.approx(
            scores.max()
        )


def test_thompson_picks_an_arm_as_often_as_it_is_probably_the_best():
    p = Thompson(3, rng=8)
    p.see_many(
        [0] * 30 + [1] * 30 + [2] * 5, [1] * 12 + [0] * 18 + [1] * 15 + [0] * 15 + [1] * 2 + [0] * 3
    )
    chance = prob_best([12, 15, 2], [30, 30, 5])
    counts = np.bincount(p.pick_many(20_000), minlength=3)
    for k, c in zip(counts, chance):
        assert binomtest(int(k), 20_000, c).pvalue > 1e-4


def test_gaussian_thompson_has_the_conjugate_posterior():
    p, x = GaussianThompson(1, prior=(2, 3), sd=1.5, rng=8), [1.0, 4.0, 2.5]
    p.see_many([0] * 3, x)
    precision = 1 / 9 + 3 / 1.5**2
    mean = (2 / 9 + sum(x) / 1.5**2) / precision
    draws = np.array([p._scores(p._rng)[0] for _ in range(20_000)])
    assert draws.mean() == pytest.approx(mean, abs=0.03) and draws.std() == pytest.approx(
        precision**-0.5, rel=0.03
    )


def test_epsilon_greedy_explores_as_often_as_it_says():
    p = EpsilonGreedy(5, 0.25, rng=8)
    p.see_many(range(5), [0.1, 0.2, 0.9, 0.3, 0.1])
    counts = np.bincount(p.pick_many(20_000), minlength=5)
    assert (
        binomtest(int(counts[2]), 20_000, 0.75 + 0.05).pvalue > 1e-4
        and binomtest(int(counts[0]), 20_000, 0.05).pvalue > 1e-4
    )


@pytest.mark.parametrize("seed", range(3))
def test_linucb_is_ridge_regression_and_its_doubt(seed):
    rng, p = np.random.default_rng(seed), LinUCB(3, 5, alpha=1.3, ridge=2.0)
    X, a, r = rng.normal(size=(400, 5)), rng.integers(3, size=400), rng.normal(size=400)
    p.see_many(a, r, X)
    x, scores = rng.normal(size=5), []
    for k in range(3):
        fit = Ridge(alpha=2.0, fit_intercept=False).fit(X[a == k], r[a == k])
        assert p.theta[k] == pytest.approx(fit.coef_, abs=1e-8)
        A = 2 * np.eye(5) + X[a == k].T @ X[a == k]
        scores.append(x @ fit.coef_ + 1.3 * np.sqrt(x @ np.linalg.solve(A, x)))
    assert p._scores(None, x) == pytest.approx(scores) and p.pick(x) == int(np.argmax(scores))


def test_linear_thompson_draws_from_its_posterior_also_when_shared():
    rng = np.random.default_rng(4)
    X, r, offer = rng.normal(size=(60, 3)), rng.normal(size=60), rng.normal(size=(2, 3))
    shared, each = LinThompson(2, 3, 0.8, shared=True, rng=1), LinThompson(2, 3, 0.8, rng=1)
    shared.see_many([0] * 60, r, np.stack([X, X], 1))
    each.see_many([0] * 60, r, X)
    A = np.eye(3) + X.T @ X
    for p, cov in (
        (shared, offer @ np.linalg.inv(A) @ offer.T),
        (each, np.diag([offer[0] @ np.linalg.solve(A, offer[0]), offer[1] @ offer[1]])),
    ):
        draws = p._scores(p._rng, np.broadcast_to(offer, (40_000, 2, 3)), 40_000)
        assert np.cov(draws.T) == pytest.approx(0.64 * cov, rel=0.05, abs=0.005)
        assert draws.mean(0)[0] == pytest.approx(offer[0] @ np.linalg.solve(A, X.T @ r), abs=0.02)


def test_logistic_thompson_comes_near_the_batch_mode():
    rng = np.random.default_rng(6)
    X, w = rng.normal(size=(3000, 4)), np.array([1.0, -1.0, 0.5, 0.0])
    y = (rng.random(3000) < 1 / (1 + np.exp(-X @ w))).astype(float)
    p = LogisticThompson(1, 4)
    p.see_many([0] * 3000, y, X)
    assert p.theta[0] == pytest.approx(
        LogisticRegression(C=1.0, fit_intercept=False).fit(X, y).coef_[0], abs=0.05
    )


@pytest.mark.parametrize(
    "options, weights",
    [({"window": 5}, lambda age: age < 5), ({"discount": 0.8}, lambda age: 0.8**age)],
)
def test_forgetting_is_what_it_says(options, weights):
    rng, p = np.random.default_rng(1), UCB1(3, **options)
    a, r = rng.integers(3, size=40), rng.random(40)
    p.see_many(a, r)
    w = np.array([float(weights(39 - t)) for t in range(40)])
    assert p.n == pytest.approx([w[a == k].sum() for k in range(3)]) and p.s == pytest.approx(
        [(w * r)[a == k].sum() for k in range(3)]
    )


@every
def test_runs_side_by_side_behave_as_single_runs_do(name):
    make, shape = ALL[name]
    p = train(make(), shape)
    from trending_now.bandits.regret import side_by_side

    rows, rng = side_by_side(p, 3), np.random.default_rng(0)
    xs = cases(shape, 3, 9)
    singles = [Policy.from_state(p.state()) for _ in range(3)]
    if not ("Thompson" in type(p).__name__ or type(p) in (EpsilonGreedy, TopTwo)):
        assert [p._where[q.pick(x)] for q, x in zip(singles, xs)] == rows._choose(rng, xs).tolist()
    arms, rewards = np.array([2, 0, 3]), np.array([1.0, 0.0, 1.0])
    rows._learn(np.arange(3) * 4 + arms, rewards, xs)
    for q, a, r, x in zip(singles, arms, rewards, xs):
        q.see(q.arms[a], r, x)
    for k in p._state:
        assert getattr(rows, k) == pytest.approx(np.concatenate([getattr(q, k) for q in singles]))


def test_regret_is_that_of_the_formula_for_a_policy_that_never_learns():
    d = simulate(EpsilonGreedy(2, 1.0, rng=1), [0.2, 0.6], 4000, 50, every=4000)
    assert d.cumulative_regret.mean() == pytest.approx(4000 * 0.4 / 2, rel=0.02)
    assert d.cumulative_reward.mean() == pytest.approx(4000 * 0.4, rel=0.02)


def test_thompson_respects_the_lower_bound_in_the_limit_and_beats_ucb1():
    means = [0.9, 0.6, 0.6]
    runs = {P: simulate(P(3, rng=2), means, 6000, 40, every=1000) for P in (Thompson, UCB1)}
    last = {P: d[d.step == 6000].cumulative_regret.mean() for P, d in runs.items()}
    assert last[Thompson] < last[UCB1]
    m = runs[Thompson].groupby("step").cumulative_regret.mean()
    assert 0.4 < (m[6000] - m[2000]) / np.log(3) / lai_robbins(means) < 2.5


@pytest.mark.parametrize("late", [{"delay": 200}, {"batch": 200}])
def test_late_feedback_costs_regret_and_more_for_ucb_than_for_thompson(late):
    cost = {
        P: [
            simulate(P(10, rng=3), Turnover(10), 4000, 40, every=4000, **k).cumulative_regret.mean()
            for k in ({}, late)
        ]
        for P in (Thompson, ChernoffUCB)
    }
    assert (
        cost[Thompson][0] < cost[Thompson][1] < cost[ChernoffUCB][1]
        and cost[ChernoffUCB][0] < cost[ChernoffUCB][1]
    )


def test_a_reward_is_known_exactly_after_its_delay():
    d = simulate(
        UCB1(3), [1.0, 1.0, 0.0], 9, delay=2, rng=0
    )  # arm 0 until its first reward is back after 3 steps, then arm 1, then arm 2
    assert d.cumulative_regret.tolist() == [0] * 6 + [1.0, 2.0, 3.0]


def test_simulating_leaves_the_policy_alone_and_repeats():
    p = Thompson(2, rng=4)
    before = p.state()
    a, b = (simulate(p, Bernoulli([0.2, 0.7]), 100, 3) for _ in range(2))
    assert (
        p.state() == before
        and a.equals(b)
        and list(a.columns) == ["repeat", "step", "cumulative_reward", "cumulative_regret"]
    )
    with pytest.raises(ValueError, match="2 arms, the world 3"):
        simulate(p, [0.1, 0.2, 0.3], 10)


def test_prob_best_is_that_of_two_proportions_and_of_draws():
    assert prob_best([20, 30], [100, 100])[1] == pytest.approx(
        bayes_proportions([20, 30], [100, 100]).prob_better, abs=1e-3
    )
    x, n = np.array([3, 5, 4, 40]), np.array([10, 12, 20, 120])
    draws = np.random.default_rng(5).beta(1 + x, 1 + n - x, (200_000, 4)).argmax(1)
    assert prob_best(x, n) == pytest.approx(np.bincount(draws, minlength=4) / 200_000, abs=0.005)
    assert value_remaining([500, 900], [10_000, 10_000], 1) == 0


def test_top_two_splits_its_picks_between_leader_and_challenger():
    p = TopTwo(3, rng=1)
    p.see_many([0] * 400 + [1] * 400 + [2] * 400, [1, 0] * 200 + [1, 0, 0, 0] * 100 + [0] * 400)
    single = np.bincount([p.pick() for _ in range(2000)], minlength=3)
    many = np.bincount(p.pick_many(2000), minlength=3)
    for counts in (single, many):
        assert binomtest(int(counts[0]), 2000, 0.5).pvalue > 1e-4 and counts[2] == 0


def test_averages_of_adaptive_data_are_too_low_and_weights_repair_them():
    used, reward, chance = adaptive_log([0.4, 0.4], 800, np.random.default_rng(21))
    naive = np.array([r[a == 0].mean() for a, r in zip(used, reward)])
    mended = [adaptive_mean(r, a == 0, p[:, 0]) for a, r, p in zip(used, reward, chance)]
    v = np.array([e.value for e in mended])
    assert (
        naive.mean() < 0.4 - 3 * naive.std() / 800**0.5
        and abs(v.mean() - 0.4) < 3.5 * v.std() / 800**0.5
    )
    assert np.mean([e.low <= 0.4 <= e.high for e in mended]) > 0.92
