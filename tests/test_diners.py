"""The simulated visitors against their own truth, and the size of a million impressions."""

import json, subprocess, sys
from pathlib import Path
from dataclasses import replace
import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest, norm
from trending_now.catalogue import GENRES, labels, load_films, replay_weeks
from trending_now.diners import (
    Diners,
    EVENT_KINDS,
    build_page,
    corrupt,
    join_pages,
    service_time,
    slot_counts,
    trending,
    unit_ids,
)
from trending_now.settings import DinersKnobs as Knobs, stream

ROOT = Path(__file__).parents[1]
COLUMNS = [
    "event_id",
    "ts",
    "kind",
    "unit",
    "request_id",
    "film_id",
    "position",
    "model_version",
    "experiment",
    "variant",
    "value",
    "payload",
]


@pytest.fixture(scope="module")
def pool():
    return pd.concat([w.films for w in replay_weeks(load_films(), "2008-01", 8)], ignore_index=True)


@pytest.fixture(scope="module")
def page(pool):
    return build_page(pool, labels(pool), week=8, model_version="truth")


@pytest.fixture(scope="module")
def poor(pool):
    return build_page(
        pool, corrupt(labels(pool), 0.4, stream(7, "corrupt")), week=8, model_version="poor"
    )


@pytest.fixture(scope="module")
def pair(page, poor):
    return join_pages(page, poor, experiment="tags", variants=("good", "poor"))


@pytest.fixture(scope="module")
def busy():
    return Diners(20_000, 7, Knobs(visits_per_week=20_000.0))


@pytest.fixture(scope="module")
def log(busy, pair):
    return busy.visit(pair, stream(7, "log"), np.arange(20_000) % 2)


def small(**knobs):
    return Diners(3000, 7, Knobs(**knobs))


def humans(diners, events):
    return events[~events.unit.isin(unit_ids(np.flatnonzero(diners.bot)))].reset_index(drop=True)


# --- frequencies against truth ---


def test_clicks_agree_with_the_truth_in_every_cell_that_has_enough_of_them(busy, pair, log):
    """By page, slot and quarter of activity: 416 cells, each within a binomial bound at 0.001 /
    cells; and the squared z in total."""
    views = busy.truth(pair, stream(7, "log"), np.arange(20_000) % 2)
    quarter = np.searchsorted(np.quantile(busy.activity, [0.25, 0.5, 0.75]), busy.activity)[
        views.visitor
    ]
    p = busy.click_probability(pair, views.visitor.to_numpy(), views.page.to_numpy())
    request = log.request_id.str[-6:].astype(int)
    hit = np.zeros(p.shape, bool)
    click = (log.kind == "click").to_numpy()
    hit[request[click], log.position[click]] = True
    cell = (quarter * 2 + views.page.to_numpy())[:, None] * p.shape[1] + np.arange(p.shape[1])
    expected, got, var = (
        np.bincount(cell.ravel(), x.ravel(), 8 * p.shape[1])
        for x in (p, hit.astype(float), p * (1 - p))
    )
    use = var > 5
    z = (got - expected)[use] / np.sqrt(var[use])
    assert use.sum() > 200
    assert (
        np.abs(z).max() < norm.isf(0.001 / 2 / use.sum()) + 0.3
    )  # .3: the normal bound is a little narrow where few clicks are expected
    assert abs((z**2).mean() - 1) < 4 * np.sqrt(2 / len(z))


def test_click_probabilities_predict_single_visitors_not_only_averages(busy, pair, log):
    views = busy.truth(pair, stream(7, "log"), np.arange(20_000) % 2)
    clicks = np.bincount(
        log.request_id[log.kind == "click"].str[-6:].astype(int), minlength=len(views)
    )
    for chunk in np.array_split(np.argsort(views.clicks.to_numpy()), 10):
        e = views.clicks.to_numpy()[chunk].sum()
        assert abs(clicks[chunk].sum() - e) < 4.5 * np.sqrt(e)


def test_examination_falls_by_the_two_decays_and_the_click_rates_follow(pool, busy):
    looks = busy.examination(3, 4).reshape(3, 4)
    assert (
        np.allclose(looks[1:] / looks[:-1], 0.9)
        and np.allclose(looks[:, 1:] / looks[:, :-1], 0.85)
        and looks[0, 0] == 1
    )
    page = build_page(pool, labels(pool), week=8)
    where = np.arange(12)
    orders = np.array([stream(7, i).permutation(where) for i in range(400)])
    e = busy.visit(
        page.lists(orders),
        stream(7, "orders"),
        lambda v: stream(7, "send").integers(0, 400, len(v)),
    )
    shown, clicks = slot_counts(e, 12)
    rate = clicks / shown / (clicks / shown)[0]
    assert np.abs(rate - 0.85**where).max() < 5 * np.sqrt(1 / clicks.min()) * 1


def test_tastes_sum_to_one_and_follow_the_known_schedule():
    d = small()
    for week in (0, 29, 30, 200):
        assert np.allclose(d.tastes(week).sum(1), 1, atol=1e-5)
    ratio = np.log(d.tastes(30) / d.tastes(29))
    move = d.drift(30) - d.drift(29)
    assert np.allclose(ratio - ratio[:, :1], (move - move[0])[None], atol=1e-3)
    still = small(taste_trend=0.0, taste_season=0.0, taste_shift=0.0)
    assert np.allclose(still.tastes(0), still.tastes(60), atol=1e-6)


def test_a_wrong_row_leaves_the_stated_share_of_clicks(pool):
    wrong = build_page(pool, labels(pool), week=8)
    right = replace(wrong, tags=np.full_like(wrong.tags, -1))
    drama = replace(wrong, tags=np.zeros_like(wrong.tags))
    d = small(wrong_genre=0.25)
    a, b = d.click_probability(right, range(50)), d.click_probability(drama, range(50))
    taken = wrong.slots.ravel() >= 0
    has = wrong.truth[wrong.slots.ravel(), 0] == 1
    assert np.allclose((b / np.where(a > 0, a, 1))[:, taken], np.where(has, 1, 0.25)[taken])


def test_worse_tags_cost_clicks(pool):
    d = small()
    clicks = [
        [
            d.expected_clicks(build_page(pool, corrupt(labels(pool), s, stream(i, "c")), week=8))[0]
            for s in (0, 0.2, 0.4, 0.6)
        ]
        for i in range(6)
    ]
    assert (np.diff(np.mean(clicks, 0)) < 0).all()


# --- people ---


def test_activity_is_heavy_tailed_and_adds_up():
    d = Diners(50_000, 7)
    assert abs(d.activity.sum() / 500 - 1) < 0.05
    assert 0.4 < np.sort(d.activity)[-5000:].sum() / d.activity.sum() < 0.55
    assert np.allclose(Diners(100, 7, Knobs(activity_spread=0.0)).activity, 5)


def test_households_have_the_stated_size_and_more_alike_tastes():
    d = Diners(20_000, 7, Knobs(household_size=2.5))
    assert abs(20_000 / len(np.unique(d.household)) - 2.5) < 0.05
    t, same = d.tastes(0), d.household[1:] == d.household[:-1]
    gap = np.abs(t[1:] - t[:-1]).sum(1)
    assert gap[same].mean() < 0.9 * gap[~same].mean()


def test_new_visitors_have_no_past_and_returning_ones_do(page):
    d = small(visits_per_week=6000.0)
    units = {
        w: set(d.visit(replace(page, week=w, start=service_time(w)), stream(7, w)).unit)
        for w in range(12)
    }
    joined = {u: int(j) for u, j in zip(unit_ids(np.arange(d.n)), d.joined)}
    for w, seen in units.items():
        assert all(joined[u] <= w for u in seen)
    assert len(units[11] & units[3]) > 800  # a pre-period exists
    assert (
        len(units[11] - set().union(*(units[w] for w in range(11)))) > 0
    )  # so do people without one
    assert binomtest(int((d.joined > 0).sum()), d.n, 0.3).pvalue > 0.001


def test_the_week_has_its_hours_and_days(busy, log, page):
    e = log[log.kind == "exposure"]
    assert e.ts.min() >= page.start and e.ts.max() < page.start + pd.Timedelta(days=7)
    share = e.ts.dt.day_of_week.value_counts(normalize=True)
    assert share[5] > 1.4 * share[1] and (e.ts.dt.hour.between(6, 23)).all()


def test_a_visit_has_one_visitor_and_views_in_order(busy, page):
    v = busy.views(page, stream(7, "log"))
    assert (v.groupby("visit").visitor.nunique() == 1).all()
    assert abs(len(v) / v.visit.nunique() - 1.5) < 0.05
    gap = v.ts.diff()[v.view > 0]
    assert gap.min() >= pd.Timedelta(seconds=90) and gap.max() < pd.Timedelta(minutes=30)


# --- feedback ---


def test_corrections_are_wrong_at_the_noise_rate_and_name_their_prediction(pool, busy, log):
    c = log[log.kind == "correction"]
    said = pd.DataFrame(list(c.payload.map(json.loads)), c.index)
    true = pd.DataFrame(labels(pool), pool.film_id, list(GENRES)).stack()
    false = true.reindex(list(zip(c.film_id, said.genre))).to_numpy() != c.value.to_numpy()
    assert binomtest(int(false.sum()), len(c), 0.1).pvalue > 0.001 and len(c) > 500
    assert (said.wrong == (c.value == 0)).all()
    assert set(c.model_version) == {"poor"}  # the good tagger makes no mistake to correct
    assert set(c.request_id) <= set(log.request_id[log.kind == "exposure"])


def test_corrections_and_ratings_come_at_the_stated_rate(pool, page, poor, busy):
    e = busy.visit(poor, stream(7, "rates"))
    clicks = e[e.kind == "click"]
    n = e.kind.value_counts()
    assert binomtest(int(n["rating"]), int(n["click"]), 0.08).pvalue > 0.001
    mistaken = pd.Series((poor.shown[0] != poor.truth).any(1), poor.film_id)
    assert binomtest(int(n["correction"]), int(mistaken[clicks.film_id].sum()), 0.15).pvalue > 0.001
    assert "correction" not in set(busy.visit(page, stream(7, "rates")).kind)
    assert set(e.value[e.kind == "rating"]) == {1.0, 2.0, 3.0, 4.0, 5.0}


def test_delays_have_the_stated_mean_and_reach_into_later_weeks(log, page):
    clicked = (
        log[log.kind == "click"]
        .assign(key=lambda e: e.request_id + e.position.astype(str))
        .set_index("key")
        .ts
    )
    for kind, mean in (("rating", 1.5), ("correction", 3.0)):
        e = log[log.kind == kind]
        days = (
            e.ts.to_numpy() - clicked[e.request_id + e.position.astype(str)].to_numpy()
        ) / np.timedelta64(1, "D")
        assert (days > 0).all() and abs(days.mean() - mean) < 4 * mean / np.sqrt(len(e))
        assert (e.ts > page.start + pd.Timedelta(days=7)).any()


def test_dwell_is_shorter_for_a_film_that_its_row_misnames(busy, poor):
    e = busy.visit(poor, stream(7, "dwell"))
    clicks = e[(e.kind == "click")]
    wrong = poor.flat[2][0][clicks.position]
    dwell = np.log(clicks.value.to_numpy())
    assert (clicks.value > 0).all() and dwell[wrong].mean() < dwell[~wrong].mean() - 0.4


# --- the record, determinism, common luck ---


def test_events_are_the_agreed_record(log, pair):
    assert list(log.columns) == COLUMNS
    assert log.event_id.is_unique and log.ts.is_monotonic_increasing
    assert (
        str(log.ts.dtype) == "datetime64[us, UTC]"
        and log.value.dtype == float
        and log.position.dtype == np.int64
    )
    texts = [c for c in COLUMNS if c not in ("ts", "position", "value")]
    assert (log[texts].dtypes == pd.Series(["a"]).dtype).all() and not log[texts].isna().any().any()
    assert set(log.kind) == set(EVENT_KINDS)
    assert set(log.variant) == {"good", "poor"} and set(log.experiment) == {"tags"}
    page_events = log[log.kind == "exposure"]
    assert (page_events.position == -1).all() and (page_events.film_id == "").all()
    rest = log[log.kind != "exposure"]
    assert rest.position.between(0, 51).all() and set(rest.film_id) <= set(pair.film_id)
    assert all("visit" in json.loads(t) for t in page_events.payload[:50]) and set(
        log.payload[log.kind == "impression"]
    ) == {"{}"}


def test_events_of_other_weeks_and_streams_have_other_ids(page):
    d = small()
    runs = [
        d.visit(replace(page, week=w, start=service_time(w)), stream(s, "v", w))
        for w in (8, 9)
        for s in (1, 2)
    ]
    assert pd.concat(runs).event_id.is_unique


def test_events_survive_parquet(tmp_path, log):
    log[:2000].to_parquet(tmp_path / "e.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "e.parquet"), log[:2000])


def test_the_same_state_gives_the_same_events_and_another_does_not(page):
    a, b, c = (small().visit(page, stream(s, "v")) for s in (1, 1, 2))
    pd.testing.assert_frame_equal(a, b)
    assert len(a) != len(c) or not a.equals(c)


def test_the_order_of_calls_does_not_matter_only_the_state(page):
    d, rng = small(), stream(1, "v")
    first, second = d.visit(page, rng), d.visit(page, rng)
    rng = stream(1, "v")
    rng.integers(2**32)
    pd.testing.assert_frame_equal(d.visit(page, rng), second)
    assert not first.equals(second)


def test_two_pages_meet_the_same_visits_and_the_same_luck(page, poor):
    d = small(visits_per_week=5000.0)
    a, b = d.visit(page, stream(1, "v")), d.visit(poor, stream(1, "v"))
    came = lambda e: e[e.kind == "exposure"][["request_id", "ts", "unit"]].reset_index(drop=True)
    pd.testing.assert_frame_equal(came(a), came(b))
    clicked = [
        set(
            e.request_id[e.kind == "click"]
            + e.position[e.kind == "click"].astype(str)
            + e.film_id[e.kind == "click"]
        )
        for e in (a, b)
    ]
    same = [
        (page.slots[0].ravel() == poor.slots[0].ravel()) & ~(page.flat[2][0] ^ poor.flat[2][0])
    ][0]
    pick = [
        e[(e.kind == "click") & e.position.isin(np.flatnonzero(same))].event_id.tolist()
        for e in (a, b)
    ]
    assert same.any() and sorted(pick[0]) == sorted(pick[1])
    assert clicked[0] != clicked[1]


def test_assignment_by_array_function_and_none_agree(pair):
    d = small()
    array = np.arange(3000) % 2
    by_visitor = d.visit(pair, stream(1, "v"), array)
    pd.testing.assert_frame_equal(
        by_visitor, d.visit(pair, stream(1, "v"), lambda views: array[views.visitor])
    )
    out = d.visit(pair, stream(1, "v"), np.where(array == 1, -1, 0))
    assert (
        set(out.variant) == {"good", ""}
        and set(out.experiment[out.variant == ""]) == {""}
        and set(out.model_version) == {"truth"}
    )


def test_truth_of_a_week_is_what_visits_average_to(pair):
    d = small(visits_per_week=3000.0, crowd_talk=0.5, household_talk=0.5, novelty=0.3, bots=0.001)
    t = d.truth(pair, stream(1, "v"))
    e = d.visit(pair, stream(1, "v"))
    assert abs((e.kind == "click").sum() - t.clicks.sum()) < 4.5 * np.sqrt(t.clicks.sum())
    pd.testing.assert_frame_equal(t.drop(columns=["page", "clicks"]), d.views(pair, stream(1, "v")))


# --- optional effects change what they should and nothing else ---


def test_bots_are_added_and_people_stay_as_they_were(page):
    d, plain = small(bots=0.01, bot_clicks=0.4), small()
    e = d.visit(page, stream(1, "v"))
    bot = e[e.unit.isin(unit_ids(np.flatnonzero(d.bot)))]
    pd.testing.assert_frame_equal(humans(d, e), plain.visit(page, stream(1, "v")))
    n = bot.kind.value_counts()
    assert binomtest(int(n["click"]), int(n["impression"]), 0.4).pvalue > 0.001
    assert set(bot.kind) == {"exposure", "impression", "click"}
    rate = [
        bot[bot.kind == k].position.value_counts().reindex(range(52), fill_value=0)
        for k in ("click", "impression")
    ]
    assert (rate[0] / rate[1]).std() < 0.05  # no position bias


def test_novelty_moves_only_those_who_knew_the_old_page(page):
    new = replace(page, changed=(8,), week=9, start=service_time(9))
    d, plain = small(novelty=0.4, novelty_half_life=2.0), small()
    a, b = d.click_probability(new, np.arange(3000)), plain.click_probability(new, np.arange(3000))
    ratio = a[:, 0] / b[:, 0]
    assert np.allclose(ratio[d.joined >= 8], 1) and np.allclose(
        ratio[d.joined < 8].clip(max=1.5), 1 + 0.4 * 0.5**0.5, atol=1e-3
    )
    never = replace(new, changed=(-1,))
    pd.testing.assert_frame_equal(
        d.visit(never, stream(1, "v")), plain.visit(never, stream(1, "v"))
    )
    pd.testing.assert_frame_equal(d.views(new, stream(1, "v")), plain.views(new, stream(1, "v")))


def test_interference_is_off_by_default_and_by_a_known_amount_when_on(pair, page):
    plain, house, crowd = small(), small(household_talk=0.5), small(crowd_talk=0.5)
    one, all_b = np.zeros(3000, int), np.ones(3000, int)
    q = plain.expected_clicks(pair)
    for d in (house, crowd):  # everybody on page 0: nothing is better, nothing changes
        pd.testing.assert_frame_equal(
            d.visit(pair, stream(1, "v"), one), plain.visit(pair, stream(1, "v"), one)
        )
    a, b = (
        crowd.truth(pair, stream(1, "v"), all_b).clicks,
        plain.truth(pair, stream(1, "v"), all_b).clicks,
    )
    assert np.allclose(a / b, 1 + 0.5 * (q[1] / q[0] - 1), rtol=1e-4)
    a, b = house.truth(pair, stream(1, "v"), all_b), plain.truth(pair, stream(1, "v"), all_b)
    ratio = (a.clicks / b.clicks).to_numpy()
    company = a.groupby("household").visitor.transform("nunique").to_numpy() > 1
    assert np.allclose(ratio[~company], 1) and np.allclose(
        ratio[company], 1 + 0.5 * (q[1] / q[0] - 1), rtol=1e-4
    )


# --- pages ---


def test_the_ranker_respects_thresholds_shows_a_film_once_and_trends_by_decayed_clicks(pool, page):
    proba = stream(7, "p").random((len(pool), 12))
    p = build_page(pool, proba, thresholds=0.9)
    taken = p.slots[p.slots >= 0]
    assert len(np.unique(taken)) == len(taken)
    for r, g in enumerate(p.tags[0][1:], 1):
        row = p.slots[0, r][p.slots[0, r] >= 0]
        assert (proba[row, g] >= 0.9).all()
    now = pd.Timestamp("2024-02-26", tz="UTC")
    e = pd.DataFrame(
        {
            "kind": ["click", "click", "click", "impression", "click"],
            "film_id": ["a", "a", "b", "c", "d"],
            "ts": now - pd.to_timedelta([7, 14, 1, 1, -1], unit="D"),
        }
    )
    t = trending(e, now)
    assert t.index.tolist() == ["b", "a"] and np.isclose(t["a"], 0.75)


def test_joined_pages_show_what_the_single_ones_showed(page, poor, pair):
    for k, one in enumerate((page, poor)):
        taken = one.slots[0] >= 0
        assert ((pair.slots[k] >= 0) == taken).all()
        assert (pair.film_id[pair.slots[k][taken]] == one.film_id[one.slots[0][taken]]).all()
        d = small()
        assert np.allclose(
            d.click_probability(pair, range(20), k), d.click_probability(one, range(20)), rtol=1e-5
        )


def test_many_lists_can_be_served_one_for_each_view(page, busy):
    "What interleaving needs: as many pages as there are views."
    n = len(busy.views(page, stream(1, "v")))
    lists = page.lists(stream(7, "l").integers(0, len(page.film_id), (n, 10)), variant="mixed")
    e = busy.visit(lists, stream(1, "v"), lambda views: np.arange(len(views)))
    shown = e[e.kind == "impression"].iloc[:500]
    row = shown.request_id.str[-6:].astype(int).to_numpy()
    assert (lists.film_id[lists.slots[row, 0, shown.position]] == shown.film_id).all() and set(
        e.variant
    ) == {"mixed"}


@pytest.mark.parametrize(
    "knobs, word",
    [
        (dict(wrong_genre=1.5), "wrong_genre"),
        (dict(bots=-0.1), "bots"),
        (dict(rating_delay=float("nan")), "nan"),
        (dict(visits_per_week="many"), "many"),
    ],
)
def test_knobs_out_of_range_are_refused_by_name(knobs, word):
    with pytest.raises(ValueError, match=word):
        Diners(10, 7, Knobs(**knobs))


@pytest.mark.parametrize("n", [0, -3, 1.5, "ten", None])
def test_a_wrong_number_of_visitors_is_refused(n):
    with pytest.raises(ValueError, match="expected a whole number of visitors from 1"):
        Diners(n)


def test_wrong_pages_and_assignments_are_refused(pool, page, pair):
    d = small()
    for bad, word in (
        (labels(pool)[:5], "shape"),
        (labels(pool) + 0.5, "1.5"),
        (np.full((len(pool), 12), np.nan), "nan"),
    ):
        with pytest.raises(ValueError, match=word):
            build_page(pool, bad)
    with pytest.raises(ValueError, match="slots has values"):
        replace(page, slots=page.slots + 9999)
    with pytest.raises(ValueError, match="expected whole numbers from -1 to 1"):
        d.visit(pair, stream(1, "v"), np.full(3000, 7))
    with pytest.raises(ValueError, match="expected whole numbers"):
        d.visit(pair, stream(1, "v"), np.full(3000, 0.5))
    with pytest.raises(ValueError, match=r"expected \(3000,\)"):
        d.visit(pair, stream(1, "v"), [0, 1])


def test_a_week_without_visits_gives_an_empty_record(page):
    e = Diners(10, 7, Knobs(new_share=1.0)).visit(
        replace(page, week=0), stream(3, "nobody")
    )  # everybody joins later
    assert list(e.columns) == COLUMNS and len(e) == 0 and str(e.ts.dtype) == "datetime64[us, UTC]"
    talk = Diners(10, 7, Knobs(new_share=1.0, crowd_talk=0.5, household_talk=0.5))
    assert len(talk.visit(replace(page, week=0), stream(3, "nobody"))) == 0


# --- size ---


def test_a_million_impressions_fit_into_a_gigabyte():
    run = subprocess.run(
        [sys.executable, "bench/diners.py", "--json", "--runs", "1"],
        capture_output=True,
        text=True,
        cwd=str(ROOT),
        check=True,
    )
    out = json.loads(run.stdout)
    assert out["impressions"] >= 1_000_000 and out["peak_mb"] < 1000
