"""Policies against brute force and reference libraries, batch against single, saving and
restoring, simulation, stopping, and what is refused."""

import json
from fractions import Fraction
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.optimize import brentq
from scipy.special import expit
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
    Uniform,
    lai_robbins,
    prob_best,
    simulate,
    value_remaining,
)
from trending_now.bandits.regret import side_by_side
from trending_now.bandits.stopping import adaptive_log, adaptive_mean, run_until

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
        assert [one.pick(c) for c in xs] == batch.tolist()
    assert len(many.pick_many(0 if shape is None else np.zeros((0, *shape)))) == 0
    assert one.state() == many.state()


@every
def test_equal_arms_are_used_equally_and_alike_in_a_batch_and_one_by_one(name):
    make, shape = ALL[name]
    one, many, x = make(), make(), cases(shape and shape[-1:], 400)
    if shape and len(shape) == 2:
        x = [np.tile(row, (4, 1)) for row in x]  # each arm has the same features
    batch = many.pick_many(400 if shape is None else x).tolist()
    assert [one.pick(c) for c in x] == batch and one.state() == many.state()
    assert all(binomtest(batch.count(arm), 400, 0.25).pvalue > 1e-5 for arm in one.arms)


@pytest.mark.parametrize("kind", [UCB1, ChernoffUCB, lambda n, rng: EpsilonGreedy(n, 0.0, rng=rng)])
def test_of_three_arms_the_two_best_share_the_picks(kind):
    p = kind(3, rng=3)
    p.see_many([0, 1, 2] * 100, [0, 1, 1] * 100)
    counts = np.bincount(p.pick_many(1000), minlength=3)
    assert counts[0] == 0 and binomtest(int(counts[1]), 1000).pvalue > 1e-4


@pytest.mark.parametrize("epsilon", [0.0, 0.1])
def test_epsilon_greedy_uses_equal_arms_equally(epsilon):
    p = EpsilonGreedy(3, epsilon, rng=4)
    p.see_many([0, 0, 1, 1, 2], [0.1 + 0.2, 0.3, 0.3, 0.3, 0])  # equal but for rounding
    single = [p.pick() for _ in range(3000)]
    for picks in (single, p.pick_many(3000).tolist()):
        leaders = (1 - epsilon) / 2 + epsilon / 3
        assert all(binomtest(picks.count(arm), 3000, leaders).pvalue > 1e-4 for arm in (0, 1))


def test_close_scores_that_are_not_equal_are_no_tie():
    p = EpsilonGreedy(2, 0.0, rng=4)
    p.see_many([0, 1], [1e9, 1e9 + 1e-3])
    assert set(p.pick_many(100)) == {1}


def test_thompson_draws_that_round_to_the_same_number_are_ties():
    p = Thompson(2, prior=(1e-3, 1e-3), rng=4)  # most draws are 0 or 1
    counts = np.bincount(p.pick_many(2000), minlength=2)
    assert binomtest(int(counts[0]), 2000).pvalue > 1e-4


@every
def test_no_picks_take_no_chance(name):
    make, shape = ALL[name]
    p = make()
    before = p.state()
    p.pick_many(0 if shape is None else np.zeros((0, *shape)))
    assert p.state() == before


IN_ONE_PIECE = {"linucb", "lints", "linucb, a row an arm", "lints, a row an arm"}


@every
def test_a_batch_of_results_equals_single_results(name):
    make, shape = ALL[name]
    rng, xs = np.random.default_rng(3), cases(shape, 30)
    one, many = make(), make()
    arms, rewards = [one.arms[i] for i in rng.integers(4, size=30)], rng.random(30)
    for a, r, x in zip(arms, rewards, xs):
        one.see(a, r, x)
    many.see_many(arms, rewards, None if shape is None else xs)
    if name not in IN_ONE_PIECE:
        assert one.state() == many.state()
        return
    assert many.theta == pytest.approx(one.theta, rel=1e-10)
    inverses = [p.root @ p.root.transpose(0, 2, 1) for p in (one, many)]
    assert inverses[1] == pytest.approx(inverses[0], rel=1e-10, abs=1e-14)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e5, 1e9])
def test_a_batch_is_learnt_to_as_many_digits_as_row_by_row(scale):
    rng = np.random.default_rng(3)
    xs, arms = scale * rng.normal(size=(200, 5)), rng.integers(3, size=200)
    one, many = LinUCB(3, 5, 1.0), LinUCB(3, 5, 1.0)
    for arm, x in zip(arms.tolist(), xs):
        one.see(arm, 1.0, x)
    many.see_many(arms.tolist(), np.ones(200), xs)
    for arm in range(3):
        own = [[Fraction(v) for v in row] for row in xs[arms == arm].tolist()]
        gram = [[sum(row[i] * row[j] for row in own) + (i == j) for j in range(5)]
                for i in range(5)]
        wrong = [far_from_one(p.root[arm], gram) for p in (one, many)]
        assert wrong[1] <= max(2 * wrong[0], 1e-12)


def far_from_one(root, gram):
    "How far root' A root is from 1, in exact arithmetic: 0 where root root' is the inverse of A."
    root = [[Fraction(v) for v in row] for row in root.tolist()]
    size = range(len(gram))
    half = [[sum(root[k][i] * gram[k][j] for k in size) for j in size] for i in size]
    full = [[sum(half[i][k] * root[k][j] for k in size) for j in size] for i in size]
    return max(abs(float(full[i][j] - (i == j))) for i in size for j in size)


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


COMING = {**ALL, "uniform": (lambda: Uniform(4, rng=5), None)}
coming = pytest.mark.parametrize("name", COMING)


def wider(shape, arms):
    "The shape of a context for so many arms."
    return (arms, 3) if shape and len(shape) == 2 else shape


@coming
def test_a_removed_arm_is_never_picked_again_and_the_others_are(name):
    make, shape = COMING[name]
    one = make()
    one.remove_arm(one.arms[2])
    many = Policy.from_state(json.loads(json.dumps(one.state())))
    xs = cases(shape, 400)
    batch = many.pick_many(400 if shape is None else xs).tolist()
    assert [one.pick(x) for x in xs] == batch and one.state() == many.state()
    assert set(batch) == set(one.arms) - {one.arms[2]} and many.removed == (one.arms[2],)


@coming
def test_a_late_reward_of_a_removed_arm_is_learnt_and_nothing_moves(name):
    make, shape = COMING[name]
    gone, kept, xs = make(), make(), cases(shape, 30)
    gone.remove_arm(gone.arms[1])
    for p in (gone, kept):
        for t, x in enumerate(xs[:20]):
            p.see(p.arms[t % 4], t % 3 == 0, x)
        p.see_many([p.arms[1]] * 10, [1] * 10, None if shape is None else xs[20:])
    assert gone.state()["state"] == kept.state()["state"] and gone.arms == kept.arms
    assert gone.arms[1] not in {gone.pick(x) for x in xs}


@coming
def test_an_added_arm_is_picked_and_learnt_and_saved_and_the_others_stay(name):
    make, shape = COMING[name]
    p = train(make(), shape)
    before = p.state()["state"]
    place = p.add_arm("new" if isinstance(p.arms[0], str) else None)
    assert place == 4 and p.arms[:4] == make().arms and p.arms[4] in ("new", 4)
    for field, old in before.items():
        now = p.state()["state"][field]
        assert now[: len(old)] == old and len(now) == len(old) + ("shared" not in name)
    xs = cases(wider(shape, 5), 300, 6)
    picked = [p.pick(x) for x in xs]
    assert p.arms[4] in picked
    p.see(p.arms[4], 1.0, xs[0])
    q = Policy.from_state(json.loads(json.dumps(p.state())))
    q.see(q.arms[4], 0.0, xs[1])
    p.see(p.arms[4], 0.0, xs[1])
    assert [p.pick(x) for x in xs[:40]] == [q.pick(x) for x in xs[:40]] and p.state() == q.state()
    twin = Policy.from_state(p.state())
    batch = twin.pick_many(40 if shape is None else xs[:40]).tolist()
    assert [p.pick(x) for x in xs[:40]] == batch and p.state() == twin.state()


@coming
def test_a_policy_with_an_added_arm_is_one_that_began_with_it(name):
    make, shape = COMING[name]
    small, xs = make(), cases(wider(shape, 5), 60, 8)
    small.add_arm(9 if isinstance(small.arms[0], int) else "e")
    knobs = {knob: getattr(small, knob) for knob in small._args}
    large = type(small)(small.arms, **knobs, rng=5)
    for t, x in enumerate(xs):
        arm = small.pick(x)
        assert large.pick(x) == arm
        for p in (small, large):
            p.see(arm, t % 2, x)
    assert small.state() == large.state()


@coming
def test_one_arm_is_always_left(name):
    make, shape = COMING[name]
    p = make()
    for arm in p.arms[:3]:
        p.remove_arm(arm)
    state = p.state()
    with pytest.raises(ValueError, match="this one is the last"):
        p.remove_arm(p.arms[3])
    assert p.state() == state
    assert {p.pick(x) for x in cases(shape, 20)} == {p.arms[3]}
    p.add_arm("next")
    p.remove_arm(p.arms[3])
    assert {p.pick(x) for x in cases(wider(shape, 5), 20)} == {"next"}


def test_arms_that_cannot_be_added_or_removed_are_refused_and_nothing_changes():
    p = Thompson(["a", "b"], rng=1)
    p.remove_arm("a")
    before = p.state()
    for name in ("a", "b", None, 1.5, ["c"]):
        with pytest.raises(ValueError, match="name = .*expected a text or a whole number"):
            p.add_arm(name)
    with pytest.raises(ValueError, match="arm = 'a': expected one that was not removed before"):
        p.remove_arm("a")
    with pytest.raises(ValueError, match="arm = 'z': expected one of 'a', 'b'"):
        p.remove_arm("z")
    assert p.state() == before
    with pytest.raises(ValueError, match="side by side keep their arms"):
        side_by_side(Thompson(2), 3).add_arm()
    with pytest.raises(ValueError, match="side by side keep their arms"):
        side_by_side(Thompson(2), 3).remove_arm(0)
    assert Thompson([3, 8]).add_arm() == 2 and Thompson([3, 8]).arms == (3, 8)
    with pytest.raises(ValueError, match="expected one of"):
        Policy.from_state(Thompson(2).state() | {"removed": [7]})
    with pytest.raises(ValueError, match="the last"):
        Policy.from_state(Thompson(2).state() | {"removed": [0, 1]})


@every
def test_runs_side_by_side_leave_a_removed_arm_alone(name):
    make, shape = ALL[name]
    p = make()
    p.remove_arm(p.arms[3])
    runs, rng = side_by_side(p, 50), np.random.default_rng(3)
    x = None if shape is None else rng.normal(size=(50, *shape))
    assert {int(i) for _ in range(10) for i in runs._choose(rng, x)} == {0, 1, 2}


def test_a_window_and_an_added_arm_go_together():
    p = UCB1(2, window=3, rng=1)
    p.see_many([0, 1, 0], [1, 1, 1])
    p.add_arm()
    p.see_many([2, 2], [1, 0])
    assert p.n.tolist() == [1, 0, 2] and p.s.tolist() == [1, 0, 1]


@pytest.mark.parametrize("discount", [1.0, 0.5])
def test_chernoffs_bound_is_its_formula_also_for_faded_counts(discount):
    p = ChernoffUCB(2, discount=discount, rng=1)
    p.see_many([0] + [1] * 6, [1] + [0, 1] * 3)
    c = np.log(p.n.sum()) / 2
    mean = p.s / p.n
    formula = mean + np.sqrt(2 * mean * c / p.n) + 2 * c / p.n
    assert p._scores() == pytest.approx(formula)
    assert (p.n[0] < 1) == (discount < 1)


def test_an_arm_that_has_faded_is_tried_again_by_either_bound():
    for kind in (UCB1, ChernoffUCB):
        p = kind(2, discount=0.9, rng=1)
        p.see_many([0] + [1] * 60, [0] + [1] * 60)
        assert p.n[0] < 0.01 and p.pick() == 0


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
        lambda: Thompson(2, (True, 1)),
        lambda: GaussianThompson(2, (0, True)),
        lambda: Turnover(2, prior=(4, 0)),
        lambda: Turnover(2, prior=4),
        lambda: prob_best((1, 2), (10, 10), prior=(-1, 1)),
        lambda: prob_best((1, 2), (10, 10), prior=(1,)),
        lambda: prob_best((1, 2), (10, 10), prior=(np.nan, 1)),
        lambda: value_remaining((1, 2), (10, 10), 1, prior=(1, 0)),
        lambda: value_remaining((1, 2), (10, 10), 1, prior=2),
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
        assert n[p.pick()] == 0
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


def exact_ridge(rows, rewards, x, ridge):
    "(prediction, x' A^-1 x) of ridge regression in whole fractions."
    d = len(x)
    F = [[Fraction(v) for v in row] for row in rows]
    A = [[sum(f[i] * f[j] for f in F) + ridge * (i == j) for j in range(d)] for i in range(d)]
    b = [sum(f[i] * Fraction(r) for f, r in zip(F, rewards)) for i in range(d)]
    M = [row + [b[i], Fraction(x[i])] for i, row in enumerate(A)]
    for i in range(d):
        M[i] = [v / M[i][i] for v in M[i]]
        for k in range(d):
            if k != i:
                M[k] = [v - M[k][i] * w for v, w in zip(M[k], M[i])]
    theta, solved = ([row[col] for row in M] for col in (-2, -1))
    return tuple(float(sum(Fraction(u) * v for u, v in zip(x, y))) for y in (theta, solved))


@pytest.mark.parametrize(
    "rows",
    [
        [[1.7e9]] * 3,  # a Unix time
        [[1.0, 1.7e9 + 86400 * day] for day in range(8)],
        [[1.7e9, 1.7e9], [1.7e9, 1.7e9]],  # one direction only
        [[1.0, 19990.0, 0.5], [1.0, 250000.0, 0.1], [1.0, 19.0, 0.7], [1.0, 19990.0, 0.2]],
        [[3e-9, 1.0], [2e-9, -1.0]],
    ],
)
@pytest.mark.parametrize("kind", [LinUCB, LinThompson])
def test_raw_features_keep_their_digits(rows, kind):
    p, rewards = kind(2, len(rows[0]), 1.0), [float(i % 2 == 0) for i in range(len(rows))]
    for x, r in zip(rows, rewards):
        p.see(0, r, x)
    for x in rows:
        mean, var = p._terms(np.array(x), None)
        assert (mean[0], var[0]) == pytest.approx(exact_ridge(rows, rewards, x, 1), rel=1e-5)
        means, variances = p._terms(np.array([x, x]), 2)
        assert (means[1, 0], variances[1, 0]) == pytest.approx((mean[0], var[0]), rel=1e-5)
    assert set(p.pick_many(rows)) <= {0, 1}


def test_the_score_of_a_feature_seen_once_is_what_was_earned_and_one_deviation():
    p = LinUCB(2, 1, 1.0)
    p.see(0, 1.0, [1.7e9])
    assert p._scores(None, np.array([1.7e9]))[0] == pytest.approx(2, rel=1e-6)


@pytest.mark.parametrize("kind", [LinUCB, LinThompson, LogisticThompson])
def test_features_too_large_to_be_kept_are_refused_and_nothing_is_learnt(kind):
    p = kind(2, 2, 1.0)
    before = p.state()
    for bad in ([1.0, 1.7e12], [-1e11, 0.0], [1e200, 1.0]):
        with pytest.raises(ValueError, match="scale the features"):
            p.see(0, 1.0, bad)
        with pytest.raises(ValueError, match="scale the features"):
            p.see_many([0, 0], [1.0, 1.0], [[1.0, 1.0], bad])
        with pytest.raises(ValueError, match="scale the features"):
            p.pick(bad)
    assert p.state() == before
    kind(2, 2, 1.0, ridge=1e6).see(0, 1.0, [1.0, 1.7e12])  # a stronger ridge leaves room


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


COUNTS = {
    "epsilon": lambda **k: EpsilonGreedy(3, 0.1, rng=1, **k),
    "ucb": lambda **k: UCB1(3, rng=1, **k),
    "thompson": lambda **k: Thompson(3, rng=1, **k),
    "gaussian": lambda **k: GaussianThompson(3, rng=1, **k),
    "top two": lambda **k: TopTwo(3, rng=1, **k),
    "chernoff": lambda **k: ChernoffUCB(3, rng=1, **k),
}


@pytest.mark.parametrize(
    "r, mean, variance, right",
    [(1.0, -4.0, 50.0, 1.9936), (0.0, 4.0, 50.0, -1.9936), (1.0, 0.0, 1e20, None)]
    + [(r, m, c, None) for r in (0.0, 0.3, 1.0) for m in (-800.0, 3.0) for c in (0.01, 7.0, 1e6)],
)
def test_the_logit_after_a_row_is_the_root_that_bisection_finds(r, mean, variance, right):
    def gap(z):
        return z - mean - variance * (r * expit(-z) - (1 - r) * expit(z))

    exact = brentq(gap, mean - variance - 1, mean + variance + 1, xtol=1e-13, maxiter=500)
    assert right is None or exact == pytest.approx(right, abs=1e-4)
    p = LogisticThompson(1, 1)
    step, evidence = p._fit(r, mean, variance)
    assert mean + variance * step == pytest.approx(exact, rel=1e-7, abs=1e-7)
    assert evidence == pytest.approx(expit(exact) * expit(-exact), rel=1e-6)
    steps, _ = p._fit(np.array([r, r]), np.array([mean, 0.0]), np.array([variance, 1.0]))
    assert steps[0] == pytest.approx(step)


def test_logistic_thompson_is_its_recursion_with_exact_roots():
    p, theta, precision = LogisticThompson(2, 1, ridge=0.01, rng=0), 0.0, 0.01
    for r in (0, 0, 0, 1):
        p.see(0, r, [1.0])
        before, c = theta, 1 / precision
        theta = brentq(lambda z: z - before - c * (r - expit(z)), before - c, before + c)
        precision += expit(theta) * expit(-theta)
        assert p.theta[0, 0] == pytest.approx(theta, abs=1e-8)
        assert p.inv[0, 0, 0] == pytest.approx(1 / precision)
    assert theta == pytest.approx(0.546, abs=1e-3)


@pytest.mark.parametrize("seed", range(3))
def test_many_features_and_few_clicks_fit_better_than_a_constant(seed):
    rng = np.random.default_rng(seed)
    X, w = rng.normal(size=(1000, 100)), 0.1 * rng.normal(size=100)
    X[:, 0], w[0] = 1, -2.7
    y = (rng.random(1000) < expit(X @ w)).astype(float)
    p = LogisticThompson(1, 100)
    p.see_many([0] * 1000, y, X)
    z, share = X @ p.theta[0], y.mean()
    fit = np.mean(y * np.log(expit(z)) + (1 - y) * np.log(expit(-z)))
    constant = share * np.log(share) + (1 - share) * np.log(1 - share)
    assert -0.25 < fit < -0.18 and fit > constant + 0.05


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("discount, window", [(1, 5), (0.8, 0), (0.5, 2), (0.99, 100), (0.9, 90)])
def test_forgetting_is_what_it_says(name, discount, window):
    rng, p = np.random.default_rng(1), COUNTS[name](discount=discount, window=window)
    a, r = rng.integers(3, size=300), rng.random(300)
    a[200:] = rng.integers(2, size=100)  # the last arm leaves the shorter windows
    p.see_many(a, r)
    age = 299 - np.arange(300)
    w = float(discount) ** age * (age < (window or 300))
    assert p.n == pytest.approx([w[a == k].sum() for k in range(3)], rel=1e-9)
    assert p.s == pytest.approx([(w * r)[a == k].sum() for k in range(3)], rel=1e-9)
    if window:
        assert p.n[2] == p.s[2] == 0
    assert p.pick() in range(3)


def test_what_leaves_a_fading_window_leaves_at_its_faded_weight():
    p = Thompson(2, discount=0.5, window=2, rng=0)
    for arm in (0, 0, 1, 1):
        p.see(arm, 1)
    assert p.n.tolist() == [0, 1.5] and p.s.tolist() == [0, 1.5] and p.pick() in (0, 1)


def test_a_window_from_which_an_arm_was_renewed_is_saved_and_put_side_by_side():
    from trending_now.bandits.regret import side_by_side

    p = UCB1(2, discount=0.9, window=3, rng=1)
    p.see_many([0, 1, 0], [1, 1, 0])
    p.renew(0)
    q, rows = Policy.from_state(json.loads(json.dumps(p.state()))), side_by_side(p, 2)
    assert q.state() == p.state()
    for policy in (p, q):
        policy.see_many([1, 1], [0, 1])
    rows._learn(np.array([1, 3]), np.zeros(2))
    rows._learn(np.array([1, 3]), np.ones(2))
    assert p.n == pytest.approx([0, 1.9]) and q.n == pytest.approx(p.n)
    assert rows.n == pytest.approx(np.tile(p.n, 2))


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
    p = UCB1(2)
    p.see(0, 0.0)  # arm 1 until its first reward is back after 3 steps, then by the scores
    d = simulate(p, [0.0, 1.0], 3, delay=2, rng=0)
    assert d.cumulative_regret.tolist() == [0] * 3
    p = EpsilonGreedy(2, 0.0)
    p.see_many([0, 1], [0.5, 0.4])  # arm 0 until its failure is back after 3 steps, then arm 1
    d = simulate(p, [0.0, 1.0], 6, delay=2, rng=0)
    assert d.cumulative_regret.tolist() == [1.0, 2.0, 3.0, 3.0, 3.0, 3.0]


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


def test_an_even_split_gives_the_arms_as_many_visits_until_it_stops():
    means = np.array([0.1, 0.3])
    runs = run_until(means, 200, np.random.default_rng(7), even=True)
    share = runs.lost / (means.max() - means.min()) / (100 * runs.days)
    assert share.mean() == pytest.approx(0.5, abs=4 * 0.5 / np.sqrt(100 * runs.days.sum()))
    learned = run_until(means, 200, np.random.default_rng(7))
    assert learned.lost.mean() < runs.lost.mean() / 2


@pytest.mark.parametrize("means", [(0.02, 0.03), (0.05, 0.08), (0.1, 0.2), (0.5, 0.7)])
@pytest.mark.parametrize("stable", [False, True])
def test_the_repaired_interval_covers_in_the_documented_range(means, stable):
    used, reward, chance = adaptive_log(means, 150, np.random.default_rng(31), floor=0.02)
    for arm in (0, 1):
        rows = zip(reward, used == arm, chance[:, :, arm])
        es = [adaptive_mean(r, u, p, stable=stable) for r, u, p in rows]
        hits = sum(e.low <= means[arm] <= e.high for e in es)
        assert binomtest(hits, 150, 0.95, alternative="less").pvalue > 1e-3


def test_bounds_of_other_rewards_repair_the_losers_interval():
    used, reward, chance = adaptive_log((0.05, 0.08), 200, np.random.default_rng(32))
    hits = {None: 0, (0, 7): 0}
    for r, u, p in zip(reward, used == 0, chance[:, :, 0]):
        for bounds in hits:
            e = adaptive_mean(7 * r, u, p, bounds=bounds)
            hits[bounds] += e.low <= 7 * 0.05 <= e.high
    assert hits[None] / 200 < 0.92 and hits[0, 7] / 200 > 0.95


def test_the_stable_mean_is_the_weighted_one_of_hadad_and_others():
    rng = np.random.default_rng(33)
    p = rng.uniform(0.1, 0.9, 60)
    u, r = (rng.random(60) < p).astype(float), (rng.random(60) < 0.4).astype(float)
    seen, won = np.cumsum(u) - u, np.cumsum(u * r) - u * r
    guess = (won + 0.5) / (seen + 1)
    gamma, h = guess + u / p * (r - guess), np.sqrt(p)
    mean = (h * gamma).sum() / h.sum()
    e = adaptive_mean(r, u, p, stable=True)
    assert e.value == pytest.approx(mean)
    n = 60 / 59  # their variance divides by n, a standard error here by n - 1
    variance = n * (h**2 * (gamma - mean) ** 2).sum() / h.sum() ** 2
    assert e.se == pytest.approx(variance**0.5)
    even = np.full(60, 0.5)
    a, b = adaptive_mean(r, u, even, stable=True), adaptive_mean(r, u, even)
    assert (a.value, a.se, a.low, a.high) == pytest.approx((b.value, b.se, b.low, b.high))


def test_an_adaptive_mean_refuses_what_is_no_probability_or_bound():
    log = [1.0, 0.0], [1, 0], [0.5, 0.5]
    for stable in (1, "yes", None):
        with pytest.raises(ValueError, match="stable = "):
            adaptive_mean(*log, stable=stable)
    for stable in (False, True):
        with pytest.raises(ValueError, match="within the bounds"):
            adaptive_mean([1.0, 3.0], [1, 0], [0.5, 0.5], bounds=(0, 2), stable=stable)
        for chance in ([0.5, 0.0], [0.5, 1.5], [0.5, np.nan]):
            with pytest.raises(ValueError, match="logged|chance"):
                adaptive_mean([1.0, 0.0], [1, 1], chance, stable=stable)
