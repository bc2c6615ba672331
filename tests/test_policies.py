"""The policy layer and the online learner: what they find where the truth is known, what they
refuse, how they fall back and resume."""

import json
from dataclasses import replace
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings as budget, strategies as st
from scipy import sparse
from scipy.stats import binomtest
from trending_now.catalogue import GENRES, labels, load_films
from trending_now.diners import Diners
from trending_now.retraining.online import (
    OnlineLogistic,
    RiverTagger,
    river_logistic,
    test_then_learn as stream_through,
)
from trending_now.policies import (
    DEFAULT,
    WEIGHTS,
    Day,
    Dial,
    HarmCheck,
    Layer,
    PagePolicy,
    RowThompson,
    live,
    read_day,
    within,
)
from trending_now.policies.seasons import Refit
from trending_now.settings import (
    DinersKnobs as World,
    PolicyKnobs as Knobs,
    SettingsError,
    load,
    stream,
)

FILMS = load_films()
POOL = FILMS[(FILMS.arrived >= "2008-01") & (FILMS.arrived < "2008-09")].reset_index(drop=True)
PROBA = np.where(labels(POOL) == 1, 0.8, 0.05)  # a tagger that is always right
PEOPLE = Diners(
    2000, 7, World(visits_per_week=1500.0, taste_trend=0.0, taste_season=0.0, taste_shift=0.0)
)
BUSY = Knobs(layer="rows", min_views=50.0)


def made_up(policies, clicks, views=200, seed=0, row=1):
    "A day in which page k gets `clicks[k]` clicks a view, all in one row, one view a visit."
    rng, page = stream(seed, "made up"), np.arange(views) % len(policies)
    rows = np.zeros((views, 13))
    rows[:, row] = rng.poisson(np.asarray(clicks, float)[page])
    tags = np.array([(-1, *p.order) for p in policies])
    return Day(page, np.arange(views), rows, tags, np.full(tags.shape, 3.0))


def weeks_of(layer, first, last, people=PEOPLE, seed=7):
    return [live(layer, people, POOL, PROBA, week, seed) for week in range(first, last)]


# ---------------------------------------------------------------- rows


def test_rows_that_are_wanted_come_to_the_top_whatever_place_they_start_from():
    truth = np.linspace(0.05, 0.3, 12)
    rows, rng = RowThompson(), stream(7, "top")
    for _ in range(60):
        order = rows.pick(rng)
        looks = np.empty(12)
        looks[list(order)] = 300 * 0.9 ** np.arange(12)
        rows.see(rng.binomial(looks.astype(int), truth), looks)
    mean = np.mean(
        [np.argsort(rows.pick(rng)) for _ in range(50)], axis=0
    )  # mean place of each genre
    assert np.corrcoef(mean, -truth)[0, 1] > 0.95


def test_rows_follow_a_change_within_days_and_not_without_fading():
    def days_until(keep):
        rows, rng = RowThompson(keep), stream(7, "change")
        old, new = np.full(12, 0.1), np.full(12, 0.1)
        old[0], new[11] = 0.3, 0.3
        for _ in range(60):
            rows.see(rng.binomial(200, old), np.full(12, 200.0))
        for day in range(60):
            if rows.pick(rng)[0] == 11:
                return day
            rows.see(rng.binomial(200, new), np.full(12, 200.0))
        return 60

    assert days_until(0.85) <= 7 < 30 < days_until(1.0)


def test_a_wrong_idea_of_how_rows_are_looked_at_still_finds_the_best_half():
    truth = np.linspace(0.3, 0.05, 12)[stream(7, "shuffle").permutation(12)]
    for believed in (0.8, 1.0):
        rows, rng = RowThompson(), stream(7, "wrong look")
        for _ in range(80):
            order = rows.pick(rng)
            place = np.argsort(order)
            rows.see(rng.binomial((400 * 0.9**place).astype(int), truth), 400 * believed**place)
        assert len(set(rows.pick(rng)[:6]) & set(np.argsort(-truth)[:6].tolist())) >= 4


@given(st.permutations(list(range(12))), st.integers(0, 11))
@budget(max_examples=200, derandomize=True)
def test_no_row_stands_further_from_its_place_than_the_reach(order, reach):
    out = within(order, reach)
    assert (
        sorted(out) == list(range(12))
        and max(abs(g - place) for place, g in enumerate(out)) <= reach
    )
    if reach == 11:
        assert out == tuple(order)


@pytest.mark.parametrize(
    "clicks, looks",
    [([1] * 11, [1] * 12), ([float("nan")] * 12, [1] * 12), ([1] * 12, [-1] * 12), ([1] * 12, 5)],
)
def test_evidence_of_another_size_or_kind_is_refused_and_nothing_is_learned(clicks, looks):
    rows = RowThompson().see([1] * 12, [9] * 12)
    with pytest.raises(ValueError, match="expected 12 numbers from 0"):
        rows.see(clicks, looks)
    assert rows.looks.tolist() == [9.0] * 12


# ---------------------------------------------------------------- dials


def test_a_dial_finds_the_better_value_and_refuses_what_is_none():
    dial, rng = Dial((0, 1, 2)), stream(7, "dial")
    for _ in range(40):
        shown = [dial.pick(rng) for _ in range(60)]
        dial.see(shown, rng.poisson([3 + (v == 2) for v in shown]))
    assert np.mean([dial.pick(rng) == 2 for _ in range(50)]) > 0.9
    before = dial.bandit.state()
    for values, rewards in (([5], [1.0]), ([1], [float("nan")]), ([1, 2], [1.0])):
        with pytest.raises(ValueError, match="expected values of"):
            dial.see(values, rewards)
    assert dial.bandit.state() == before


# ---------------------------------------------------------------- guardrails


def test_the_harm_check_keeps_its_promise_where_there_is_no_harm():
    def false_alarm(seed):
        check, rng = HarmCheck(0.05, 28), stream(seed, "no harm")
        for _ in range(28):
            moved = rng.random(120) < 0.8
            check.see(moved, rng.negative_binomial(1, 0.25, 120))
            found = check.sequence()
            if found and found[2] < 0:
                return True
        return False

    alarms = sum(false_alarm(s) for s in range(300))
    assert binomtest(alarms, 300, 0.05, alternative="greater").pvalue > 0.01


def test_harm_leads_back_to_the_default_page_with_a_reason_and_after_a_rest_it_tries_again():
    layer, rng, tripped = Layer(replace(BUSY, rest_days=3)), stream(7, "harm"), None
    for day in range(60):
        shown = layer.propose(rng)
        layer.see(made_up([p for p, _ in shown], [3.0] + [1.5] * (len(shown) - 1), seed=day), shown)
        if layer.rest:
            tripped = day
            break
    assert tripped is not None and tripped < 20
    entry = layer.log[-1]
    assert entry["what"] == "fallback" and "clicks a visit on moved pages" in entry["why"]
    for day in range(3):
        assert layer.propose(rng) == [(DEFAULT, 1.0)] and "resting" in layer.held()
        layer.see(made_up([DEFAULT], [3.0]), [DEFAULT])
    assert [e["what"] for e in layer.log[-2:]] == ["tries again", "moves"] and len(
        layer.propose(rng)
    ) == 5
    for day in range(60):
        shown = layer.propose(rng)
        layer.see(made_up([p for p, _ in shown], [3.0] + [1.5] * (len(shown) - 1), seed=day), shown)
        if layer.rest:
            break
    assert layer.rest == 6, "a second fall is followed by twice the rest"


def test_too_little_traffic_keeps_or_brings_back_the_default_page():
    layer, rng = Layer(replace(BUSY, min_views=300.0)), stream(7, "traffic")
    for _ in range(2):
        layer.see(made_up([DEFAULT], [2.0], views=120), [DEFAULT])
    assert layer.propose(rng) == [(DEFAULT, 1.0)] and "300 are needed" in layer.held()
    layer.see(made_up([DEFAULT], [2.0], views=120), [DEFAULT])
    assert len(layer.propose(rng)) == 5
    for _ in range(4):
        shown = layer.propose(rng)
        layer.see(made_up([p for p, _ in shown], [2.0] * len(shown), views=10), shown)
    assert layer.propose(rng) == [(DEFAULT, 1.0)] and layer.log[-1]["what"] == "default page"


def test_no_proposed_policy_leaves_its_limits():
    layer, rng = (
        Layer(Knobs(layer="all", min_views=1.0, reach=3, max_shift=0.05, pages=20)),
        stream(7, "limits"),
    )
    layer.see(made_up([DEFAULT], [2.0]), [DEFAULT])
    for policy, _ in layer.propose(rng)[1:]:
        assert max(abs(g - place) for place, g in enumerate(policy.order)) <= 3
        assert (
            max(abs(t - 0.33) for t in policy.thresholds) <= 0.05 + 1e-9
            and (policy.quality, policy.fresh) in WEIGHTS
        )


def test_the_holdout_gets_its_share_of_visits_and_a_visit_stays_on_its_side():
    layer = Layer(replace(BUSY, holdout=0.3))
    ((events, pages, at),) = weeks_of(layer, 1, 2)
    shown = events[events.kind == "exposure"]
    visit = shown.payload.str.extract(r'"visit": (\d+)')[0].astype(int)
    late = shown.ts >= pages.start + pd.Timedelta(days=2)
    side = shown.variant[late].groupby(visit[late])
    assert (side.nunique() == 1).all()
    held = side.first() == "default"
    assert binomtest(int(held.sum()), len(held), 0.3).pvalue > 0.001


# ---------------------------------------------------------------- live weeks


def test_what_is_learned_in_a_week_is_what_its_log_says():
    layer = Layer(replace(BUSY, keep=1.0))
    ((events, pages, at),) = weeks_of(layer, 1, 2)
    clicks, looks = read_day(events, pages).by_genre()
    np.testing.assert_allclose(layer.rows.clicks, clicks)
    np.testing.assert_allclose(layer.rows.looks, looks)
    assert layer.day == 7 and layer.whole.sums[:, 1].sum() > 0


def test_a_layer_that_may_not_move_serves_what_the_default_page_serves():
    events = weeks_of(Layer(Knobs(layer="rows", min_views=1e9)), 1, 2)[0][0]
    plain = PEOPLE.visit(DEFAULT.page(POOL, PROBA, week=1), stream(7, "visit", 1))
    same = [c for c in events.columns if c not in ("experiment", "variant")]
    pd.testing.assert_frame_equal(events[same], plain[same])


def test_with_all_the_evidence_the_layer_earns_more_true_clicks_than_the_default_page():
    layer = Layer(replace(BUSY, keep=0.95))
    weeks_of(layer, 0, 3)
    ((_, pages, at),) = weeks_of(layer, 3, 4)
    true = [
        PEOPLE.truth(
            pages, stream(7, "visit", 3), lambda v, a=a: np.broadcast_to(a, len(v))
        ).clicks.sum()
        for a in (at, 0)
    ]
    assert true[0] > true[1]


@pytest.mark.parametrize("which", ["rows", "all"])
def test_a_layer_restored_from_json_in_the_middle_goes_on_identically(which):
    knobs = Knobs(layer=which, min_views=50.0)
    whole = Layer(knobs)
    weeks_of(whole, 0, 2)
    first = Layer(knobs)
    weeks_of(first, 0, 1)
    again = Layer.from_state(json.loads(json.dumps(first.state())))
    weeks_of(again, 1, 2)
    assert json.dumps(again.state()) == json.dumps(whole.state())


@pytest.mark.parametrize("state", [{}, None, {"knobs": {"layer": "rows"}}, {"knobs": {"oven": 1}}])
def test_what_is_no_state_is_refused(state):
    with pytest.raises(ValueError, match="expected what `state` gave"):
        Layer.from_state(state)


def test_a_state_of_the_wrong_size_is_refused():
    state = Layer(BUSY).state()
    with pytest.raises(ValueError):
        Layer.from_state({**state, "clicks": [1.0, 2.0]})
    with pytest.raises(ValueError):
        Layer.from_state({**state, "check": [1, [[0, 0]]]})


def test_pages_and_policies_that_do_not_belong_together_are_refused():
    layer = Layer(Knobs(layer="weights", min_views=50.0))
    with pytest.raises(ValueError, match="1 pages, 2 policies"):
        layer.see(made_up([DEFAULT], [1.0]), [DEFAULT, DEFAULT])
    strange = [DEFAULT, PagePolicy(quality=4.0)]
    before = layer.state()
    with pytest.raises(ValueError, match="expected values of"):
        layer.see(made_up(strange, [1.0, 1.0]), strange)
    assert layer.state() == before


def test_a_refit_changes_nothing_until_its_day_comes():
    plan = Refit(every=7, window=7)
    for day in range(7):
        assert plan.propose(None) == [(DEFAULT, 1.0)]
        plan.see(made_up([DEFAULT], [2.0], seed=day, row=12), [DEFAULT])
    assert plan.propose(None)[0][0].order[0] == 11


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize(
    "key, value, words",
    [
        ("layer", "bandit", "one of off, rows, weights, all"),
        ("keep", "0", "0.01 to 1"),
        ("reach", "12", "0 to 11"),
        ("holdout", "0", "0.01 to 0.9"),
        ("harm_alpha", "nan", "0.0001 to 0.5"),
        ("pages", "1.5", "a whole number"),
    ],
)
def test_a_policy_knob_out_of_range_is_named(tmp_path, key, value, words):
    path = tmp_path / "settings.ini"
    path.write_text(f"[policy]\n{key} = {value}\n")
    with pytest.raises(SettingsError, match=rf"\[policy\] {key} = '{value}': expected .*{words}"):
        load(path, {})


def test_the_layer_is_off_unless_it_is_switched_on():
    assert (
        load(None, {}).policy.layer == "off"
        and load(None, {"TRENDING_NOW_POLICY_LAYER": "rows"}).policy.layer == "rows"
    )


# ---------------------------------------------------------------- online learning


def problem(n=300, columns=40, seed=7):
    "Sparse rows and labels of a logistic world."
    rng = stream(seed, "online")
    X = sparse.random(n, columns, 0.2, "csr", rng=rng)
    X = sparse.hstack([X, np.ones((n, 1))], format="csr")
    return X, (
        rng.random((n, len(GENRES)))
        < 1 / (1 + np.exp(-3 * X @ rng.standard_normal((columns + 1, len(GENRES)))))
    ).astype(int)


def test_the_online_learner_is_rivers_to_nine_digits():
    X, y = problem()
    ours, theirs = (
        stream_through(m, X, y, 0, 300).proba
        for m in (OnlineLogistic(41), RiverTagger(river_logistic))
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-9)


def test_the_online_learner_approaches_the_truth_that_made_the_data():
    X, y = problem(6000)
    run = stream_through(OnlineLogistic(41), X, y, 0, 6000)
    loss = lambda p: -np.where(y[-1000:] == 1, np.log(p), np.log(1 - p)).mean()
    assert loss(np.clip(run.proba[-1000:], 1e-6, 1 - 1e-6)) < 0.9 * loss(
        np.broadcast_to(y[:-1000].mean(0), (1000, 12))
    )


def test_nothing_is_learned_from_a_film_before_it_is_predicted():
    X, y = problem(60)
    other = y.copy()
    other[40:] = 1 - other[40:]
    a, b = (
        stream_through(OnlineLogistic(41), X, labels, 0, 60, batch=10).proba
        for labels in (y, other)
    )
    assert (a[:50] == b[:50]).all() and (a[50:] != b[50:]).any()


@budget(max_examples=25, derandomize=True, deadline=None)
@given(st.integers(1, 40), st.integers(1, 60))
def test_batches_cover_the_stream_once(batch, last):
    X, y = problem(60)
    run = stream_through(OnlineLogistic(41), X, y, 0, last, batch)
    assert run.updates == -(-last // batch) and len(run.proba) == last


def test_an_online_learner_restored_in_the_middle_goes_on_identically():
    X, y = problem()
    whole, half = OnlineLogistic(41), OnlineLogistic(41)
    stream_through(whole, X, y, 0, 300, 7)
    stream_through(half, X, y, 0, 140, 7)
    again = OnlineLogistic.from_state(half.state())
    stream_through(again, X, y, 140, 300, 7)
    assert again.state() == whole.state()


@pytest.mark.parametrize("rate", [0, -1, float("nan")])
def test_a_step_that_cannot_be_is_refused(rate):
    with pytest.raises(ValueError, match="rate = .*: expected a number above 0"):
        OnlineLogistic(5, rate)
