"""Interleaving: fairness, properties, the published rules against brute force, calibration of
intervals, and what sensitivity promises."""

import itertools, math
from collections import Counter
from fractions import Fraction
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from scipy.stats import binom, binomtest, norm, permutation_test
from trending_now.ab import compare_means, sample_size_means
from trending_now.interleaving import (
    Interleaved,
    balanced,
    bootstrap_preference,
    credit,
    credits,
    marginal_credit,
    multileave,
    preference,
    probabilistic,
    tally,
    team_draft,
    team_draft_many,
)  # those of votes and multileaving too: one place to import from
from trending_now.settings import stream

METHODS = {"team draft": team_draft, "balanced": balanced, "probabilistic": probabilistic}
LOOK = 0.4 * 0.8 ** np.arange(20)
ranking = st.lists(st.integers(0, 12), unique=True, max_size=10)
quick = settings(max_examples=150, deadline=None, derandomize=True)


def careless(n, rng):
    return np.flatnonzero(rng.random(n) < LOOK[:n])


def decisions(mix, a, b, k, rng, n, rule=credit):
    "Differences of credit in n views by visitors who do not care what they see."
    return np.array(
        [np.subtract(*rule(m := mix(a, b, k, rng), careless(len(m), rng))) for _ in range(n)]
    )


class Coins:
    "Every sequence of coin falls once, through the interface of a random generator."

    def __new__(cls, falls):
        rng = np.random.default_rng(0)

        class Fixed(np.random.Generator):
            def random(self, n=None):
                return (
                    np.array([0.0 if f else 0.9 for f in falls[:n]])
                    if n is not None
                    else (0.0 if falls[0] else 0.9)
                )

        return Fixed(rng.bit_generator)


# --- fairness ---


@pytest.mark.parametrize("method", METHODS)
def test_two_equal_rankers_win_equally_often(method):
    "Two shuffles of the same films, drawn anew for each view: neither is better."
    rng, wins = stream(7, "equal", method), Counter()
    for _ in range(4000):
        a, b = (rng.permutation(12).tolist() for _ in "ab")
        m = METHODS[method](a, b, 8, rng)
        wins[np.sign(np.subtract(*credit(m, careless(8, rng))))] += 1
    assert binomtest(wins[1], wins[1] + wins[-1]).pvalue > 0.001
    assert wins[1] + wins[-1] > 1500


@pytest.mark.parametrize(
    "a, b",
    [
        ("abcd", "bcda"),
        ("abcdefgh", "hgfedcba"),
        ("abcdef", "uvwxyz"),
        ("abc", "bca"),
        ("abcdef", "a"),
        ("ab", "xyzabcd"),
        ("abcdef", "abcdef"),
    ],
)
@pytest.mark.parametrize("method", ["team draft", "probabilistic"])
def test_careless_visitors_prefer_nobody_whatever_the_lists(method, a, b):
    d = decisions(METHODS[method], a, b, 6, stream(7, "careless", method, a, b), 3000)
    assert binomtest(int((d > 0).sum()), max(1, int((d != 0).sum()))).pvalue > 0.001
    assert abs(d.mean()) < 4 * d.std() / math.sqrt(len(d)) + 1e-9


@given(ranking, ranking, st.integers(1, 8))
@quick
def test_each_place_of_a_team_draft_belongs_to_both_teams_equally_often(a, b, k):
    "Exactly, over all falls of the coins; this is why places cancel."
    rounds, seen = (min(k, len(a) + len(b)) + 1) // 2, Counter()
    for falls in itertools.product([True, False], repeat=rounds):
        for place, team in enumerate(team_draft(a, b, k, Coins(falls)).teams):
            seen[place, team] += 1
    assert all(seen[p, "a"] == seen[p, "b"] for p in range(k))


def test_a_new_first_place_for_each_coin_cancels_position_bias_that_turns_do_not():
    a, b = "abcdef", "uvwxyz"
    turns = lambda a, b, k, rng: Interleaved(
        [x for p in zip(a, b) for x in p][:k], ["a", "b"] * (k // 2)
    )
    d = decisions(turns, a, b, 6, stream(7, "turns"), 3000)
    assert binomtest(int((d > 0).sum()), int((d != 0).sum())).pvalue < 1e-6


def test_balanced_interleaving_prefers_a_list_that_nobody_prefers():
    "One click anywhere: abcd against bcda goes to b in three cases of four, whichever list starts."
    for start in (True, False):
        m = balanced("abcd", "bcda", 4, Coins([start]))
        assert [np.sign(np.subtract(*credit(m, [m.items.index(x)]))) for x in "abcd"] == [
            1,
            -1,
            -1,
            -1,
        ]


def test_every_place_of_a_balanced_list_is_the_same_film_list_with_roles_swapped():
    for a, b in (("abcd", "bcda"), ("abc", "xbz")):
        assert balanced(a, b, 4, Coins([True])).items == balanced(b, a, 4, Coins([False])).items


# --- properties ---


@given(ranking, ranking, st.integers(1, 25), st.sampled_from(sorted(METHODS)), st.integers(0, 5))
@quick
def test_a_mixed_list_has_no_duplicates_and_as_many_films_as_there_are(a, b, k, method, seed):
    m = METHODS[method](a, b, k, stream(seed, "x"))
    assert len(set(m.items)) == len(m.items) == len(m.teams) == min(k, len(set(a + b)))
    assert all(x in {"a": a, "b": b}.get(t, a + b) for x, t in zip(m.items, m.teams))


@given(
    ranking, ranking, st.integers(1, 20), st.integers(0, 5), st.sampled_from([team_draft, balanced])
)
@quick
def test_the_items_are_the_top_of_both_lists_and_a_longer_page_only_adds(a, b, k, seed, mix):
    m, longer = mix(a, b, k, stream(seed, "x")), mix(a, b, k + 1, stream(seed, "x"))
    assert (longer.items[: len(m)], longer.teams[: len(m)]) == (m.items, m.teams)
    tops = {
        (i, j)
        for i in range(len(a) + 1)
        for j in range(len(b) + 1)
        if set(m.items) == set(a[:i]) | set(b[:j])
    }
    assert tops


@given(ranking, ranking, st.integers(1, 20), st.integers(0, 5))
@quick
def test_teams_of_a_draft_differ_by_one_at_most_at_every_place(a, b, k, seed):
    teams = team_draft(a, b, k, stream(seed, "x")).teams
    lead = np.cumsum([{"a": 1, "b": -1, None: 0}[t] for t in teams])
    assert not len(teams) or np.abs(lead).max() <= 1


@given(ranking, st.integers(1, 10), st.integers(0, 5), st.sampled_from([team_draft, balanced]))
@quick
def test_two_equal_lists_stay_as_they_are(a, k, seed, mix):
    assert list(mix(a, a, k, stream(seed, "x")).items) == a[:k]


@given(ranking, ranking, st.integers(1, 12), st.integers(0, 3))
@quick
def test_the_other_names_give_the_mirrored_teams(a, b, k, seed):
    falls = (stream(seed, "falls").random(15) < 0.5).tolist()
    m, other = team_draft(a, b, k, Coins(falls)), team_draft(b, a, k, Coins([not f for f in falls]))
    assert m.items == other.items and [{"a": "b", "b": "a"}.get(t) for t in m.teams] == list(
        other.teams
    )


@given(ranking, ranking, st.integers(1, 12))
@quick
def test_teams_of_a_balanced_list_name_the_winner_of_a_lone_click(a, b, k):
    m = balanced(a, b, k, stream(7, "x"))
    for i, t in enumerate(m.teams):
        assert np.sign(np.subtract(*credit(m, [i]))) == {"a": 1, "b": -1, None: 0}[t]


@given(ranking, ranking, st.integers(1, 10), st.data())
@quick
def test_balanced_credit_is_the_published_rule(a, b, k, data):
    "Chapelle et al. 2012, section 3.1, written out with ranks from 1."
    m = balanced(a, b, k, stream(7, "x"))
    clicks = data.draw(st.lists(st.integers(0, len(m) - 1), max_size=6)) if len(m) else []
    if not clicks:
        return
    lowest = m.items[max(clicks)]
    depth = min(j for j in range(1, 30) if lowest in a[j - 1 : j] or lowest in b[j - 1 : j])
    assert credit(m, clicks) == tuple(
        len({m.items[c] for c in clicks} & set(r[:depth])) for r in (a, b)
    )


def test_a_team_draft_of_two_rounds_has_the_four_outcomes_of_its_coins():
    got = {
        falls: team_draft("abcd", "bcda", 4, Coins(falls))
        for falls in itertools.product([True, False], repeat=2)
    }
    assert {f: "".join(m.items) for f, m in got.items()} == {
        (True, True): "abcd",
        (True, False): "abcd",
        (False, True): "bacd",
        (False, False): "bacd",
    }
    assert {f: "".join(m.teams) for f, m in got.items()} == {
        (True, True): "abab",
        (True, False): "abba",
        (False, True): "baab",
        (False, False): "baba",
    }


def test_a_draft_leaves_places_that_one_list_alone_can_fill_to_nobody():
    assert team_draft([1, 2, 3, 4], [9], 4, stream(7, "x")).teams[2:] == (None, None)
    for falls in ([True] * 3, [False] * 3):
        assert team_draft("xyz", "x", 3, Coins(falls)).teams == (
            {True: "a", False: "b"}[falls[0]],
            None,
            None,
        )
    assert set(team_draft(range(10), range(5, 15), 10, stream(7, "x")).teams) == {"a", "b"}


# --- probabilistic ---


def share(ranking, taken, item, tau):
    w = {x: Fraction(1, r**tau) for r, x in enumerate(ranking, 1) if x not in taken}
    return w.get(item, Fraction(0)) / sum(w.values())


@pytest.mark.parametrize("tau", [1, 3])
def test_probabilistic_lists_come_as_often_as_the_paper_says(tau):
    a, b, n, rng = "abc", "bca", 6000, stream(7, "paper", tau)
    seen = Counter("".join(probabilistic(a, b, 3, rng, tau=tau).items) for _ in range(n))
    for p in map("".join, itertools.permutations(a)):
        want = math.prod(
            (share(a, p[:i], x, tau) + share(b, p[:i], x, tau)) / 2 for i, x in enumerate(p)
        )
        assert binomtest(seen[p], n, float(want)).pvalue > 0.001


def test_marginal_credit_is_the_mean_over_all_assignments():
    a, b, tau = "abcd", "cdba", 2
    for s in range(10):
        m = probabilistic(a, b, 4, stream(s, "m"), tau=tau)
        odds = [[share(r, m.items[:i], x, tau) for r in (a, b)] for i, x in enumerate(m.items)]
        total, mean = Fraction(0), [Fraction(0), Fraction(0)]
        for teams in itertools.product((0, 1), repeat=4):
            p = math.prod(o[t] for o, t in zip(odds, teams))
            total += p
            for c in (0, 2, 3):
                mean[teams[c]] += p
        assert marginal_credit(m, [0, 2, 3]) == pytest.approx(
            [float(x / total) for x in mean], abs=1e-12
        )


def test_marginal_credit_has_the_same_mean_and_less_variance():
    rng, pairs = stream(7, "marginal"), []
    for _ in range(3000):
        m = probabilistic(range(8), [3, 1, 0, 2, 7, 6, 5, 4], 6, rng)
        c = careless(6, rng)
        pairs.append((np.subtract(*credit(m, c)), np.subtract(*marginal_credit(m, c))))
    simple, marginal = np.array(pairs).T
    assert abs((simple - marginal).mean()) < 4 * (simple - marginal).std() / math.sqrt(3000)
    assert marginal.var() < 0.6 * simple.var()


@pytest.mark.parametrize("tau", [0, 1e-3, 50, 1e6])
def test_any_steepness_gives_a_full_list(tau):
    m = probabilistic(range(30), range(29, -1, -1), 20, stream(7, "t"), tau=tau)
    assert len(set(m.items)) == 20
    assert sum(marginal_credit(m, range(20))) == pytest.approx(20)


# --- multileaving ---


def test_equal_rankers_in_a_multileaving_earn_equally():
    rng, total = stream(7, "multi"), np.zeros(5)
    for _ in range(3000):
        m = multileave([rng.permutation(15).tolist() for _ in range(5)], 8, rng)
        total += credits(m, careless(8, rng))
    for x in total:
        assert binomtest(int(x), int(total.sum()), 0.2).pvalue > 0.001


@given(st.lists(ranking, min_size=2, max_size=5), st.integers(1, 25), st.integers(0, 3))
@quick
def test_multileaved_teams_differ_by_one_at_most_and_nothing_is_lost(rankings, k, seed):
    m = multileave(rankings, k, stream(seed, "x"))
    counts = [m.teams.count(i) for i in range(len(rankings))]
    assert max(counts) - min(counts) <= 1
    assert len(set(m.items)) == len(m) == min(k, len(set(sum(rankings, []))))
    assert sum(credits(m, range(len(m)))) == sum(t is not None for t in m.teams)


def test_a_better_ranker_wins_a_multileaving():
    rng, total = stream(7, "best"), np.zeros(3)
    good, middle, bad = list(range(10)), [5, 0, 6, 1, 7, 2, 8, 3, 9, 4], list(range(9, -1, -1))
    for _ in range(2000):
        m = multileave([middle, good, bad], 6, rng)
        total += credits(m, [i for i in careless(6, rng) if rng.random() < 1 / (1 + m.items[i])])
    assert total[1] > total[0] > total[2]


# --- preference ---

counts = st.integers(0, 60)


@given(counts, counts, counts)
@quick
def test_preference_is_scipys_sign_test_and_chapelles_delta(a, b, t):
    if a + b + t == 0:
        return
    p = preference(a, b, t)
    assert p.delta == pytest.approx((a + t / 2) / (a + b + t) - 0.5, abs=1e-12)
    assert p.p_value == pytest.approx(binomtest(a, a + b).pvalue if a + b else 1, abs=1e-9)
    assert -0.5 <= p.low <= p.delta <= p.high <= 0.5
    assert (p.low > 0 or p.high < 0) == (p.p_value <= 0.05)


@given(counts, counts)
@quick
def test_without_ties_the_interval_holds_the_exact_one(a, b):
    if a + b == 0:
        return
    p, exact = preference(a, b, 0), binomtest(a, a + b).proportion_ci()
    assert p.low <= exact.low - 0.5 + 1e-9 and p.high >= exact.high - 0.5 - 1e-9
    assert p.low >= exact.low - 0.5 - 0.06 and p.high <= exact.high - 0.5 + 0.06 or a + b < 12


@pytest.mark.parametrize(
    "n, p",
    [
        (30, (0.3, 0.3)),
        (30, (0.6, 0.1)),
        (200, (0.02, 0.05)),
        (200, (0.45, 0.45)),
        (400, (0.85, 0.05)),
        (1000, (0.1, 0.2)),
        (15, (0.0, 0.2)),
    ],
)
def test_the_interval_for_delta_covers_as_it_says_with_any_share_of_ties(n, p):
    rng, runs = stream(7, "cover", n, *p), 1500
    draws = Counter(map(tuple, rng.multinomial(n, [*p, 1 - sum(p)], runs).tolist()))
    true = (p[0] - p[1]) / 2
    hit = sum(
        m
        for w, m in draws.items()
        if preference(*w).low - 1e-12 <= true <= preference(*w).high + 1e-12
    )
    assert binomtest(hit, runs, 0.95, alternative="less").pvalue > 0.001
    assert hit / runs < 0.995 or n * min(sum(p), 1) < 20


def test_under_no_difference_the_sign_test_keeps_its_level():
    rng = stream(7, "level")
    rejected = sum(
        preference(*w).p_value <= 0.05
        for w in rng.multinomial(300, [0.35, 0.35, 0.3], 3000).tolist()
    )
    assert binomtest(rejected, 3000, 0.05, alternative="greater").pvalue > 0.001


def heavy(rng, n=150):
    rate = rng.lognormal(0, 1.2, n)
    return rng.poisson(1.2 * rate), rng.poisson(rate)


@pytest.mark.parametrize("weigh", ["clicks", "visitors"])
def test_the_bootstrap_covers_the_true_share_among_heavy_users(weigh):
    "Percentile intervals of skewed shares are a little narrow, so 93% is asked for."
    big = heavy(stream(7, "big"), 2_000_000)
    true = 1.2 / 2.2 - 0.5 if weigh == "clicks" else np.sign(big[0] - big[1]).mean() / 2
    hit, runs = 0, 250
    for s in range(runs):
        p = bootstrap_preference(
            *heavy(stream(s, "sample"), 400), stream(s, "drawn"), weigh=weigh, repeats=250
        )
        hit += p.low <= true <= p.high
    assert binomtest(hit, runs, 0.93, alternative="less").pvalue > 0.001 and hit < runs


def test_a_bootstrap_of_votes_agrees_with_the_formula():
    a, b = heavy(stream(7, "votes"), 2000)
    boot, exact = (
        bootstrap_preference(a, b, stream(7, "b"), weigh="visitors"),
        preference((a > b).sum(), (a < b).sum(), (a == b).sum()),
    )
    assert boot.delta == pytest.approx(exact.delta, abs=1e-12)
    assert [boot.low, boot.high] == pytest.approx([exact.low, exact.high], abs=0.004)


def test_few_visitors_are_judged_as_exactly_as_by_a_sign_test():
    for n in (1, 2, 3, 5, 6, 9):
        p = bootstrap_preference([2] * n, [0] * n, 7)
        assert p.p_value == pytest.approx(binomtest(n, n).pvalue)
        assert p.low < p.delta == p.high == 0.5
        assert (p.low > 0) == (p.p_value <= 0.05)
    alone = bootstrap_preference([6], [4], 7)
    assert (alone.p_value, alone.low, alone.high) == (1, -0.5, 0.5)


def test_the_sign_flip_test_is_the_permutation_test_of_scipy():
    a, b = heavy(stream(7, "flips"), 9)
    for weigh, x, y in (("clicks", a, b), ("visitors", np.sign(a - b), 0 * a)):
        exact = permutation_test(
            (x, y), lambda x, y: (x - y).sum(), permutation_type="samples", n_resamples=np.inf
        ).pvalue
        assert bootstrap_preference(a, b, 7, weigh).p_value == pytest.approx(exact)


@pytest.mark.parametrize("n", [3, 5, 10, 50])
def test_a_bootstrap_of_any_number_of_visitors_keeps_its_level(n):
    rng, runs = stream(7, "few", n), 200
    false_alarms = 0
    for _ in range(runs):
        a = rng.poisson(1, n) + (rng.random(n) < 0.1) * rng.poisson(30, n)
        b = rng.poisson(1, n) + (rng.random(n) < 0.1) * rng.poisson(30, n)
        if (a + b).any():
            p = bootstrap_preference(a, b, rng, repeats=59)
            false_alarms += p.p_value <= 0.05
            assert p.low <= 0 <= p.high or p.p_value <= 0.05
    assert false_alarms / runs <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / runs)


@pytest.mark.parametrize("n", [3, 10])
def test_a_strong_preference_of_few_visitors_is_covered(n):
    "The plain percentile interval holds it in a quarter of the samples of three."
    rng, hits = stream(7, "strong", n), 0
    for _ in range(100):
        for_a = rng.random(n) < 0.9
        p = bootstrap_preference(for_a, ~for_a, rng, repeats=100)
        hits += p.low <= 0.4 <= p.high
    assert binomtest(hits, 100, 0.95, alternative="less").pvalue > 0.001


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=12), st.data()
)
@quick
def test_delta_is_in_the_interval_and_everything_turns_with_the_sides(credit, data):
    a, b = np.array(credit).T
    if not (a + b).any():
        return
    repeats, weigh = (
        data.draw(st.integers(1, 40)),
        data.draw(st.sampled_from(["clicks", "visitors"])),
    )
    p, q = (bootstrap_preference(x, y, 7, weigh, repeats) for x, y in ((a, b), (b, a)))
    assert -0.5 <= p.low <= p.delta <= p.high <= 0.5
    assert [q.delta, q.p_value, q.low, q.high] == pytest.approx(
        [-p.delta, p.p_value, -p.high, -p.low], abs=1e-12
    )


def test_equal_fractions_are_ties_whatever_rounding_makes_of_them():
    for weigh in ("clicks", "visitors"):
        assert bootstrap_preference([0.1 + 0.2, 1], [0.3, 1], 7, weigh).p_value == 1
        assert bootstrap_preference([0.1 + 0.2, 1], [0.3, 1], 7, weigh).delta == 0


@pytest.mark.parametrize(
    "bad, says",
    [
        (dict(alpha=2), "alpha = 2"),
        (dict(alpha=0), "alpha = 0"),
        (dict(repeats=0), "repeats = 0"),
        (dict(repeats=2.5), "repeats = 2.5"),
    ],
)
def test_bootstraps_that_cannot_be_are_refused(bad, says):
    with pytest.raises(ValueError, match=says):
        bootstrap_preference([3, 1], [1, 0], 7, **bad)


@pytest.mark.parametrize("a, b", [(10**10 + 10**6, 10**10), (2**31 + 10**5, 2**31), (10**9, 10**9)])
def test_votes_by_the_billion_are_the_normal_tail(a, b):
    p = preference(a, b)
    assert p.p_value == pytest.approx(min(1, 2 * norm.sf((a - b - 1) / math.sqrt(a + b))), rel=1e-6)
    assert (p.p_value <= 0.05) == (p.low > 0) and p.p_value == preference(b, a).p_value
    with pytest.raises(ValueError, match="wins_a = 10000000000000000"):
        preference(10**16, 1)


def test_intervals_of_any_level_hold_the_exact_one():
    "Clopper and Pearson's end is where a count so low has half of alpha."
    for alpha in (1e-30, 1e-20, 1e-17, 1e-12, 0.05, 0.3):
        p = preference(60, 40, 0, alpha)
        assert -0.5 < p.low <= 0.1 <= p.high < 0.5
        assert binom.cdf(60, 100, 0.5 + p.high) <= alpha / 2 * (1 + 1e-6)
        assert binom.sf(59, 100, 0.5 + p.low) <= alpha / 2 * (1 + 1e-6)
    narrow = preference(60, 40, 0, 1 - 1e-15)
    assert narrow.low <= 0.1 <= narrow.high


def test_a_two_sample_test_on_paired_credit_errs_in_both_directions():
    rng = stream(7, "mistake")

    def rate(draw, test, runs=600):
        return sum(test(*draw()) for _ in range(runs)) / runs

    two_sample = lambda a, b: compare_means(a, b).p_value < 0.05
    sign = lambda a, b: preference((a > b).sum(), (a < b).sum(), (a == b).sum()).p_value < 0.05

    def once():
        a = rng.integers(0, 2, 200)
        return a, 1 - a

    assert rate(once, two_sample) > 0.12 > 0.08 > rate(once, sign)  # false alarms
    same = lambda: (lambda r: (rng.poisson(1.25 * r), rng.poisson(r)))(rng.lognormal(0, 1.2, 300))
    assert rate(same, two_sample) < 0.35 < 0.7 < rate(same, sign)  # missed


# --- many at once ---


@given(st.integers(1, 12), st.integers(1, 14), st.integers(1, 8), st.integers(0, 99))
@quick
def test_many_merges_are_the_plain_ones_coin_for_coin(k, length, n, seed):
    a, b = (
        stream(seed, x).permuted(np.tile(np.arange(length + 2), (n, 1)), axis=1)[:, :length]
        for x in "ab"
    )
    items, teams = team_draft_many(a, b, k, stream(seed, "coins"))
    rng = stream(seed, "coins")
    for x, y, i, t in zip(a, b, items, teams):
        m = team_draft(x, y, k, rng)
        assert i[i >= 0].tolist() == list(m.items)
        assert [None if v < 0 else "ab"[v] for v in t[: len(m)]] == list(m.teams)


@given(ranking, ranking, st.integers(1, 14), st.integers(0, 9))
@quick
def test_padded_short_lists_are_merged_as_the_plain_ones(a, b, k, seed):
    wide = lambda xs: np.array([xs + [-1] * (10 - len(xs))])
    items, teams = team_draft_many(wide(a), wide(b), k, stream(seed, "x"))
    m = team_draft(a, b, k, stream(seed, "x"))
    assert (
        items[0][: len(m)].tolist() == list(m.items)
        and (items[0][len(m) :] == -1).all()
        and (teams[0][len(m) :] == -1).all()
    )
    assert [None if v < 0 else "ab"[v] for v in teams[0][: len(m)]] == list(m.teams)


@pytest.mark.parametrize("types", [*itertools.product(["int32", "int64", "uint64"], repeat=2)])
@pytest.mark.parametrize("large", [2**31, 2**40, 2**62 + 1])
def test_ids_stay_as_they_are_whatever_integers_hold_them(types, large):
    small, wide = [[1, 2, 3]], [[large, 3, 2]]
    for a, b, kinds in ((small, wide, types), (wide, small, types[::-1])):
        hold = [t if rows is small or t != "int32" else "int64" for rows, t in zip((a, b), kinds)]
        items, teams = team_draft_many(*map(np.array, (a, b), hold), 4, stream(7, "ids"))
        m = team_draft(a[0], b[0], 4, stream(7, "ids"))
        assert items[0].tolist() == list(m.items)
        assert [None if v < 0 else "ab"[v] for v in teams[0]] == list(m.teams)


@pytest.mark.parametrize("a, b", [([], [2, 3]), ([2, 3], []), ([], [])])
@pytest.mark.parametrize("k", [1, 2, 5])
def test_empty_lists_are_merged_as_the_plain_ones(a, b, k):
    items, teams = team_draft_many([a], [b], k, 7)
    m = team_draft(a, b, k, 7)
    assert (items[0].tolist(), teams[0].tolist()) == (list(m.items), [-1] * len(m))


def test_no_merges_at_all_are_no_rows():
    items, teams = team_draft_many(np.empty((0, 2), int), np.empty((0, 2)), 3, 7)
    assert items.shape == teams.shape == (0, 3)


# --- refusals ---


@pytest.mark.parametrize(
    "mix", [team_draft, balanced, probabilistic, lambda a, b, k, rng: multileave([a, b], k, rng)]
)
@pytest.mark.parametrize(
    "a, k, says",
    [
        ([1, 1], 2, "1 is there twice"),
        ([1, 2], 0, "k = 0"),
        ([1, 2], 1.5, "k = 1.5"),
        ({1, 2}, 2, "has no order"),
        (None, 2, "None"),
        ([1, None], 2, "missing"),
        ([[1], [2]], 2, "cannot be an item"),
    ],
)
def test_lists_that_cannot_be_rankings_are_refused(mix, a, k, says):
    with pytest.raises(ValueError, match=says):
        mix(a, [1, 2], k, stream(7, "x"))


@pytest.mark.parametrize(
    "bad, says",
    [
        ((-1, 2, 0), "wins_a = -1"),
        ((1, 0.5, 0), "wins_b = 0.5"),
        ((1, 2, math.nan), "ties = nan"),
        ((0, 0, 0), "at least one"),
        (("x", 1, 1), "wins_a"),
    ],
)
def test_counts_that_cannot_be_are_refused(bad, says):
    with pytest.raises(ValueError, match=says):
        preference(*bad)


@pytest.mark.parametrize("clicks", [[3], [-1], [0.5], [True], 1, ["0"]])
def test_clicks_outside_the_list_are_refused(clicks):
    with pytest.raises(ValueError, match="clicks"):
        credit(Interleaved("xyz", "aba"), clicks)


def test_pandas_numpy_and_texts_are_rankings_too():
    want = team_draft(list("abc"), list("cab"), 3, stream(7, "x"))
    assert team_draft("abc", pd.Series(list("cab")), 3, stream(7, "x")) == want
    assert team_draft(np.array(list("abc")), tuple("cab"), 3, stream(7, "x")) == want
    assert credit(want, np.array([0, 2])) == credit(want, pd.Series([0, 2])) == credit(want, {0, 2})


@pytest.mark.parametrize("method", METHODS)
def test_a_seed_mixes_as_its_generator_does(method):
    mix = METHODS[method]
    assert mix("abcd", "bcda", 4, 7) == mix("abcd", "bcda", 4, np.random.default_rng(7))
    with pytest.raises(ValueError, match="rng = 'coin'"):
        mix("abcd", "bcda", 4, "coin")


def test_votes_are_by_visitor():
    assert tally([1, 1, 2, 3, 3], [1, 0, 0, 0.1, 0.2], [0, 3, 0, 0.3, 0]) == (0, 1, 2)
    assert tally(pd.Series(["x", "y"]), [1, 0], [0, 2]) == (1, 1, 0)


@pytest.mark.parametrize(
    "visitors, says",
    [
        ([math.nan, math.nan, 1.0], "2 missing"),
        ([None, "a", "a"], "1 missing"),
        (pd.Series(["a", pd.NA, None]), "2 missing"),
        (pd.to_datetime(["2012-01-01", None, None]), "2 missing"),
        ([[1], [2], [3]], "expected texts or numbers in a row"),
        (np.eye(3), "expected texts or numbers in a row"),
        ({1, 2, 3}, "expected texts or numbers in a row"),
        ("abc", "1 visitors"),
    ],
)
def test_views_without_a_visitor_are_refused(visitors, says):
    with pytest.raises(ValueError, match=says):
        tally(visitors, [1, 1, 0], [0, 0, 1])


def test_long_numbers_and_mixed_kinds_of_ids_are_told_apart():
    assert tally([2**63, 2**63 + 1, -1], [1, 1, 0], [0, 0, 1]) == (2, 1, 0)
    assert tally([2**100, 2**100, 5], [1, 1, 0], [0, 0, 1]) == (1, 1, 0)
    for mixed in ([7, "7", 8], pd.Series([7, "7", 8]), [np.int64(7), "7", 8]):
        assert tally(mixed, [1, 1, 0], [0, 0, 1]) == (1, 1, 0)


@pytest.mark.parametrize(
    "call, says",
    [
        (lambda: credits(team_draft([1, 2], [3, 4], 2, 7), [0, 1]), "for two rankers use `credit`"),
        (lambda: credits(balanced("ab", "ba", 2, 7), [0]), "method = 'balanced'"),
        (lambda: credits(Interleaved("xy", (0, 1), "multileave"), [0]), "one of 0 lists"),
        (lambda: credit(multileave(["ab", "ba"], 2, 7), [0]), "use `credits`"),
        (lambda: credit(Interleaved("xy", (None,) * 2, "multileave"), [0]), "use `credits`"),
        (lambda: credit(Interleaved("xy", "ab", "balanced"), [0]), r"lists = \(\)"),
        (
            lambda: credit(Interleaved("xy", "ab", "balanced", ("x", "z")), [1]),
            "the items are from",
        ),
        (lambda: marginal_credit(Interleaved("xy", "ab", "probabilistic"), [0]), "tau = None"),
        (
            lambda: marginal_credit(Interleaved("xy", "ab", "probabilistic", tau=3.0), [0]),
            r"lists = \(\)",
        ),
    ],
)
def test_records_of_another_kind_or_without_their_lists_are_refused(call, says):
    with pytest.raises(ValueError, match=says):
        call()


# --- sensitivity ---


@pytest.fixture(scope="module")
def played():
    from trending_now.catalogue import load_films, replay_weeks
    from trending_now.interleaving.sensitivity import Ranker, audience, compare_methods, rank

    films = pd.concat(
        [w.films for w in replay_weeks(load_films(), "2008-01", 8)], ignore_index=True
    )
    crowd = audience(films, 6000)
    lists = [rank(crowd, Ranker(n, 0.5, 0.3)) for n in (5, 20)]
    return crowd, lists, compare_methods(crowd, *lists)


def test_the_audience_likes_what_the_diners_like(played):
    from trending_now.catalogue import labels
    from trending_now.diners import Diners, build_page
    from trending_now.settings import DinersKnobs as Knobs

    crowd, lists, _ = played
    d = Diners(6000, 7, Knobs(visits_per_week=3000))
    row = build_page(crowd.films, labels(crowd.films), week=8).lists(lists[0][:50, :10])
    assert np.allclose(
        d.click_probability(row, np.arange(50), np.arange(50)),
        crowd.like[np.arange(50)[:, None], lists[0][:50, :10]] * crowd.look,
        rtol=1e-4,
    )


def test_clicks_scatter_around_what_is_expected(played):
    _, _, t = played
    for n in "ab":
        gap = t[f"clicks_{n}"] - t[f"expected_{n}"]
        assert abs(gap.mean()) < 4 * gap.std() / math.sqrt(len(t))
    assert (t.clicks_a.sum() + t.clicks_b.sum()) / 2 == pytest.approx(
        t.credit_a.sum() + t.credit_b.sum(), rel=0.05
    )


def test_equal_rankers_need_no_end_of_visitors_and_win_equally_often(played):
    from trending_now.interleaving.sensitivity import compare_methods

    crowd, lists, _ = played
    t = compare_methods(crowd, lists[0], lists[0], seed=3)
    p = preference(
        (t.credit_a > t.credit_b).sum(),
        (t.credit_a < t.credit_b).sum(),
        (t.credit_a == t.credit_b).sum(),
    )
    assert p.p_value > 0.001 and abs(p.delta) < 0.05


def test_sizes_agree_with_the_ab_chapter_and_grow_with_power(played):
    from trending_now.interleaving.sensitivity import METRICS, visitors_needed

    t = played[2]
    need, weaker = visitors_needed(t).iloc[0], visitors_needed(t, power=0.8).iloc[0]
    d, sd = (
        t.expected_b.mean() - t.expected_a.mean(),
        math.sqrt((t.clicks_a.var() + t.clicks_b.var()) / 2),
    )
    assert need["clicks per visitor"] == pytest.approx(
        2 * sample_size_means(d, sd, power=0.95), rel=0.01
    )
    assert (weaker[list(METRICS)] < need[list(METRICS)]).all()
    assert (
        need["the same with CUPED"] < need["clicks per visitor"] and need.idxmin() == "interleaving"
    )


def test_clicks_per_session_with_cuped_is_what_a_regression_on_the_past_leaves(played):
    from trending_now.interleaving.sensitivity import visitors_needed

    def part(clicks, sessions):
        return clicks - clicks.sum() / sessions.sum() * sessions

    t, z = played[2], 1.959964 + 1.644854
    past, left, unexplained = part(t.before, t.views_before), 0.0, 0.0
    for arm in "ab":
        y = part(t[f"clicks_{arm}"], t.sessions)
        left += np.mean((y - np.polyval(np.polyfit(past, y, 1), past)) ** 2)
        unexplained += np.mean(y**2)
    gain = t.expected_b.mean() - t.expected_a.mean()
    need = visitors_needed(t).iloc[0]
    for metric, variance in (("", unexplained), (" with CUPED", left)):
        expected = 2 * z**2 * variance / gain**2
        assert need[f"clicks per session{metric}"] == pytest.approx(expected, rel=1e-6)
    assert need["clicks per session with CUPED"] < need["clicks per session"]


def test_weights_of_one_are_no_weights_and_a_doubled_table_needs_the_same(played):
    from trending_now.interleaving.sensitivity import visitors_needed

    t = played[2]
    assert np.allclose(visitors_needed(t), visitors_needed(t, weights=np.ones((1, len(t)))))
    assert np.allclose(visitors_needed(t), visitors_needed(pd.concat([t, t])))


def test_the_size_gives_the_power_that_was_asked_for(played):
    from trending_now.interleaving.sensitivity import found, visitors_needed

    t = played[2]
    for metric, runs in (("interleaving", 600), ("clicks per session", 300)):
        n = round(visitors_needed(t)[metric].iloc[0])
        assert found(t, metric, n, stream(7, "power", metric), runs) == pytest.approx(
            0.95, abs=0.05
        )


def test_pairs_are_reproducible_and_their_first_ones_do_not_depend_on_the_number():
    from trending_now.interleaving.agreement import random_pairs

    assert random_pairs(3, stream(7, "pairs")) == random_pairs(50, stream(7, "pairs"))[:3]


@pytest.mark.parametrize("bad", [dict(alpha=0), dict(alpha=1.2), dict(power=1.0)])
def test_levels_that_cannot_be_are_refused(played, bad):
    from trending_now.interleaving.sensitivity import visitors_needed

    with pytest.raises(ValueError, match=next(iter(bad))):
        visitors_needed(played[2], **bad)


@pytest.mark.parametrize(
    "votes",
    [
        (500, 520, 10_000),
        (10**6, 10**6 + 5000, 10**5),
        (0, 0, 1),
        (1, 0, 0),
        (0, 7, 0),
        (6, 0, 3),
        (10**9, 10**9, 0),
    ],
)
def test_any_numbers_of_votes_have_a_sane_interval_that_turns_with_the_sides(votes):
    p, q = preference(*votes), preference(votes[1], votes[0], votes[2])
    assert -0.5 <= p.low <= p.delta <= p.high <= 0.5 and (p.low > 0 or p.high < 0) == (
        p.p_value <= 0.05
    )
    assert [q.delta, q.p_value, q.low, q.high] == pytest.approx(
        [-p.delta, p.p_value, -p.high, -p.low], abs=1e-9
    )


@pytest.mark.parametrize(
    "a, b, says",
    [
        ([[1, -1, 2]], [[1, 2, 3]], "end of a row only"),
        ([[1, 2]], [[1, 2], [2, 1]], "1 rows of a, 2 of b"),
        ([[4, 4]], [[1, 2]], "4 twice in row 0"),
        ([[1.0, 2.0]], [[1, 2]], "whole numbers"),
        ([[-2, 1]], [[1, 2]], "holds -2"),
        ([[1, 2], [3]], [[1, 2]], "a: expected rows of one length"),
        (np.array([[2**63, 1]], "uint64"), [[1, 2]], "below 2"),
        ([[2**63, 1]], [[1, 2]], "below 2"),
        ([[2**64, 1]], [[1, 2]], "below 2"),
    ],
)
def test_tables_that_cannot_be_rankings_are_refused(a, b, says):
    with pytest.raises(ValueError, match=says):
        team_draft_many(a, b, 2, stream(7, "x"))


def test_tiny_levels_need_finite_numbers_of_visitors(played):
    from trending_now.interleaving.sensitivity import visitors_needed

    need = [visitors_needed(played[2], alpha).iloc[0] for alpha in (1e-15, 1e-18)]
    assert np.isfinite(need[1]).all() and (need[0] < need[1]).all()


@pytest.mark.parametrize(
    "call, says",
    [
        (lambda s, t: s.savings(t, 7, repeats=0), "repeats = 0"),
        (lambda s, t: s.savings(t, 7, repeats=2.5), "repeats = 2.5"),
        (lambda s, t: s.savings(t, 7, alpha=2), "alpha = 2"),
        (lambda s, t: s.savings(t[:3], 7), "3 visitors"),
        (lambda s, t: s.savings(t[:0], 7), "0 visitors"),
        (lambda s, t: s.found(t, "interleaving", 10, 7, runs=0), "runs = 0"),
        (lambda s, t: s.found(t, "interleaving", 0, 7), "n = 0"),
        (lambda s, t: s.found(t, "interleaving", "x", 7), "n = 'x'"),
        (lambda s, t: s.found(t[:0], "interleaving", 10, 7), "the table is empty"),
    ],
)
def test_trials_that_cannot_be_are_refused(played, call, says):
    from trending_now.interleaving import sensitivity

    with pytest.raises(ValueError, match=says):
        call(sensitivity, played[2])


@pytest.mark.parametrize(
    "call, says",
    [
        (lambda s, crowd: s.rank(crowd, s.Ranker(-5, 0.5, 0.3)), "clicks = -5"),
        (lambda s, crowd: s.rank(crowd, s.Ranker(5, "x", 0.3)), "critic = 'x'"),
        (lambda s, crowd: s.rank(crowd, s.Ranker(5, 0.5, 0.3), 12.5), "length = 12.5"),
        (lambda s, crowd: s.audience(crowd.films, 0), "people = 0"),
        (lambda s, crowd: s.audience(crowd.films, 10, week="x"), "week = 'x'"),
        (lambda s, crowd: s.audience(crowd.films, 10, weeks=1.5), "weeks = 1.5"),
        (lambda s, crowd: s.audience(crowd.films, 10, places=0), "places = 0"),
    ],
)
def test_crowds_and_rankers_that_cannot_be_are_refused(played, call, says):
    from trending_now.interleaving import sensitivity

    with pytest.raises(ValueError, match=says):
        call(sensitivity, played[0])


@pytest.mark.parametrize("share", [0, -1, 1.5, "x"])
def test_a_share_of_the_visitors_that_cannot_be_is_refused(played, share):
    from trending_now.interleaving.agreement import judge
    from trending_now.interleaving.sensitivity import Ranker

    with pytest.raises(ValueError, match="share = "):
        judge(played[0], Ranker(5, 0.5, 0.3), Ranker(20, 0.5, 0.3), share)
