"""Trials: a week is decided once, nobody changes sides while a share grows, whatever is saved comes
back, harm ends a trial and nothing seldom does."""

import json
import re
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from trending_now.ab.comparisons import ratio_values
from trending_now.catalogue import labels, load_films
from trending_now.diners import Diners, build_page, corrupt, join_pages, unit_ids
from trending_now.interleaving import Votes, preference
from trending_now.loop.mixed_trials import InterleavingTrial
from trending_now.loop.planning import PlanError, plan_trial, trial_from_state
from trending_now.loop.serving import events_of
from trending_now.loop.trials import VARIANTS, ShadowTrial, ShadowWeek, Trial
from trending_now.loop.visitor_trials import ABTrial, CanaryTrial
from trending_now.loop.watching import Watch
from trending_now.loop.workspace import Workspace
from trending_now.rollouts import run_shadow
from trending_now.settings import DinersKnobs, stream

TRAFFIC = dict(visitors_per_week=330, visits_per_week=500)
KINDS = "shadow canary ab interleaving watch".split()
ONLINE = KINDS[1:]
CROWD = Diners(1200, seed=7, settings=DinersKnobs(visits_per_week=400.0))
IDS = unit_ids(np.arange(len(CROWD.bot)))
FILMS = load_films().tail(160)


def small(test, name="tags-v2", **options):
    "A trial for a small crowd."
    given = {"min_units": 30, "effect": 0.4, "holdback": 0.3, "max_weeks": 4} | options
    return plan_trial(name, test=test, visitors_per_week=240, visits_per_week=400, **given)


def both_pages(week, worse, good=0.2):
    "The champion's page, and one of a tagger that is wrong for another share of the films."
    champion = corrupt(labels(FILMS), good, stream(7, "champion", week))
    candidate = corrupt(champion, worse, stream(7, "candidate", week))
    return [
        build_page(FILMS, tags.astype(float), week=week, model_version=version)
        for tags, version in ((champion, "v1"), (candidate, "v2"))
    ]


def visits(trial, week, worse):
    "A week of events of a trial."
    champion, candidate = both_pages(week, worse)
    rng = stream(7, "visit", week)
    if isinstance(trial, InterleavingTrial):
        pages, assign = trial.pages(champion, candidate), trial.assign_views
    else:
        pages = join_pages(champion, candidate, experiment=trial.name, variants=VARIANTS)
        assign = trial.assign(IDS)
    events = CROWD.visit(pages, rng, assign=assign)
    return events[events.kind != "impression"].reset_index(drop=True)


def shadow_week(failed=0, films=30):
    "Probabilities of a week, with so many answers missing."
    p = np.random.default_rng(3).random((films, 12))
    q = p.copy()
    q[:failed, 0] = np.nan
    return {"champion": p, "candidate": q}


def run(trial, worse=0.0, weeks=20):
    "Observe a trial week by week until it ends; the trial after each week."
    seen = [CROWD.visit(both_pages(0, 0)[0], stream(7, "before")).head(300)]
    while trial.phase == "running" and len(seen) <= weeks:
        at = trial.begin + len(seen) - 1
        if isinstance(trial, ShadowTrial):
            trial.observe(trial.measure(shadow_week(failed=int(worse > 0))), at)
            seen.append(None)
        else:
            seen.append(visits(trial, at, worse))
            trial.observe(trial.measure(pd.concat(seen)), at)
        yield trial


def end(trial, worse=0.0):
    "The trial at its end."
    *_, last = run(trial, worse)
    return last


def visitors(rng, change=1.0, n=400, holdback=0.5, fixes=0.2):
    "A table of visitors as `measure` gives it; the candidate changes clicks a view by a factor."
    views = rng.geometric(0.4, n).astype(float)
    arm = (rng.random(n) > holdback).astype(np.int8)
    clicks = rng.poisson(views * rng.gamma(4, 0.5, n) * np.where(arm, change, 1)).astype(float)
    return pd.DataFrame(
        {
            "unit": IDS[:n],
            "arm": arm,
            "clicks a view": clicks,
            "clicks a view / per": views,
            "corrections a click": rng.binomial(clicks.astype(int), fixes).astype(float),
            "corrections a click / per": clicks,
        }
    )


# what a loop asks


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_a_trial_and_brings_its_state_back_in_every_phase(kind):
    for worse in (0.0, 1.0):
        phases = set()
        for trial in run(small(kind, since=5), worse):
            assert isinstance(trial, Trial)
            again = trial_from_state(json.loads(json.dumps(trial.state())))
            assert type(again) is type(trial) and again.state() == trial.state()
            assert (again.phase, again.since, again.share) == (
                trial.phase,
                trial.since,
                trial.share,
            )
            assert (again.assign(IDS) == trial.assign(IDS)).all()
            assert again.log == trial.log
            phases.add(trial.phase)
        assert phases & {"passed", "halted"}, "it has come to an end"


@pytest.mark.parametrize("kind", KINDS)
def test_a_fresh_trial_comes_back_and_goes_on_as_the_first_would(kind):
    trial = small(kind)
    again = trial_from_state(json.loads(json.dumps(trial.state())))
    for one, other in zip(run(trial, 0.3, weeks=2), run(again, 0.3, weeks=2)):
        assert one.log == other.log


@pytest.mark.parametrize("kind", KINDS)
def test_a_week_that_was_decided_is_decided_no_second_time(kind):
    for trial in run(small(kind), 0.5):
        before = json.dumps(trial.state())
        for decision in trial.log:
            assert trial.observe("whatever a restart may hand over", decision.at) is decision
        assert json.dumps(trial.state()) == before


def test_a_step_that_was_advanced_measures_nobody_and_answers_for_the_week_again():
    trial = small("canary")
    for _ in run(trial):
        if trial.log[-1].action == "advance":
            break
    week = trial.log[-1].at
    assert trial.since == week + 1
    table = trial.measure(visits(trial, week, 0.0))
    assert len(table) == 0
    assert trial.observe(table, week).action == "advance"


@pytest.mark.parametrize("kind", KINDS)
def test_a_trial_that_is_over_stays_over(kind):
    trial = end(small(kind), 1.0)
    log = list(trial.log)
    last = log[-1].at
    later = trial.observe(None, last + 1)
    assert later.action == "hold" and trial.phase in later.reasons[0]
    assert trial.log == log


@pytest.mark.parametrize("at", [0, 3, 2.5, "4", None, True])
def test_a_week_before_the_trial_or_that_is_none_is_refused(at):
    with pytest.raises(ValueError, match="at = "):
        small("ab", since=4).observe(visitors(np.random.default_rng(0)), at)


def test_a_week_between_two_that_were_decided_is_refused():
    trial = small("watch", max_weeks=9)
    table = visitors(np.random.default_rng(0), holdback=0.3)
    trial.observe(table, 0)
    trial.observe(table, 2)
    with pytest.raises(ValueError, match="at = 1: expected a week from 3"):
        trial.observe(table, 1)


# who sees what


@pytest.mark.parametrize("name", ["tags-v2", "tags-v3", "é"])
def test_whoever_has_the_candidate_keeps_it_while_the_share_grows(name):
    trial = CanaryTrial(name, steps=(0.1, 0.3, 0.5), patience=1, max_weeks=8, min_units=2)
    seen, shares = [trial.assign(IDS)], [trial.share]
    rng = np.random.default_rng(1)
    while trial.phase == "running":
        table = visitors(rng, holdback=1 - trial.share, n=1200)
        trial.observe(table, len(seen) - 1)
        seen.append(trial.assign(IDS))
        shares.append(trial.share)
    assert trial.phase == "passed" and shares == [0.1, 0.3, 0.5, 0.5]
    assert all((after >= before).all() for before, after in pairwise(seen))
    assert np.allclose([who.mean() for who in seen], shares, atol=0.04)


@pytest.mark.parametrize("kind", ["ab", "watch", "canary"])
def test_a_visitor_has_the_same_page_all_weeks_and_alone_or_among_others(kind):
    trial = small(kind)
    everybody = trial.assign(IDS)
    assert (trial.assign(IDS[300:310]) == everybody[300:310]).all()
    assert set(everybody) == {0, 1}
    trial.observe(visitors(np.random.default_rng(0), n=2), 0)
    assert (trial.assign(IDS) == everybody).all()


@pytest.mark.parametrize("kind", ONLINE)
def test_after_a_halt_everybody_has_the_champion(kind):
    trial = end(small(kind, effect=0.5, max_weeks=8), 1.0)
    assert trial.phase == "halted" and trial.share == 0
    assert (trial.assign(IDS) == 0).all()


def test_after_a_watch_has_passed_everybody_has_the_new_champion():
    trial = Watch("v2", max_weeks=1)
    trial.observe(visitors(np.random.default_rng(0), holdback=0.1), 0)
    assert trial.phase == "passed" and trial.share == 1 and trial.assign(IDS).all()


# what is measured


@pytest.mark.parametrize("kind", ["ab", "watch", "canary"])
def test_visitors_are_counted_by_hand(kind):
    trial = small(kind, since=3)
    events = visits(trial, 3, 0.3)
    before = visits(small(kind, since=2), 2, 0.3)
    table = trial.measure(pd.concat([before, events])).set_index("unit")
    assert len(table) == events.unit.nunique()
    assert (table.arm == pd.Series(trial.assign(IDS), IDS)[table.index]).all()
    for kind_of, column in (
        ("exposure", "clicks a view / per"),
        ("click", "clicks a view"),
        ("correction", "corrections a click"),
    ):
        counted = events[events.kind == kind_of].groupby("unit").size()
        assert (table[column] == counted.reindex(table.index, fill_value=0)).all()


def test_late_corrections_of_an_earlier_step_do_not_count():
    trial = small("canary", since=0)
    events = visits(trial, 0, 1.0)
    late = events.ts >= pd.Timestamp(events.ts.min()) + pd.Timedelta(days=7)
    assert (late & (events.kind == "correction")).any()
    assert len(small("canary", since=1).measure(events)) == 0


@pytest.mark.parametrize("kind", ONLINE)
def test_events_of_another_test_are_nobodys(kind):
    trial = small(kind, name="mine")
    stats_ = trial.measure(visits(small(kind, name="another"), 0, 0.0))
    assert sum(stats_) == 0 if kind == "interleaving" else len(stats_) == 0
    decision = trial.observe(stats_, 0)
    assert decision.action == "hold" and "needed" in decision.reasons[0]


@pytest.mark.parametrize("kind", ONLINE)
def test_events_without_a_column_are_refused_by_its_name(kind):
    events = visits(small(kind), 0, 0.0).drop(columns=["request_id", "variant"])
    with pytest.raises(ValueError, match="request_id, variant"):
        small(kind).measure(events)


@pytest.mark.parametrize("kind", KINDS)
def test_statistics_of_another_kind_are_refused(kind):
    for wrong in (None, {}, (1, 2), pd.DataFrame({"arm": [0, 1]})):
        with pytest.raises(ValueError, match="stats"):
            small(kind).observe(wrong, 0)


# each kind


def test_a_shadow_passes_after_its_good_weeks_and_halts_on_a_missing_answer():
    trial = ShadowTrial("v2", weeks=2)
    assert trial.observe(trial.measure(shadow_week()), 0).action == "hold"
    assert trial.observe(trial.measure(shadow_week(films=0)), 1).action == "hold"
    assert trial.observe(trial.measure(shadow_week()), 2).action == "pass"
    broken = ShadowTrial("v2")
    assert broken.observe(broken.measure(shadow_week(failed=1)), 0).action == "halt"
    assert (trial.assign(IDS) == 0).all() and trial.share == 0


@pytest.mark.parametrize(
    "week, word",
    [(ShadowWeek(30, 0, 0.5, 1.0), "agreement"), (ShadowWeek(30, 0, 0.9, 9.0), "slower")],
)
def test_a_shadow_that_differs_or_is_slow_never_passes(week, word):
    trial = ShadowTrial("v2", max_weeks=3)
    actions = [trial.observe(week, at) for at in range(3)]
    assert [d.action for d in actions] == ["hold", "hold", "halt"]
    assert any(word in reason for reason in actions[0].reasons)


def test_a_shadow_reads_what_run_shadow_reports_and_times_that_were_taken():
    requests = [np.array([[0.1, 0.4]]), np.array([[0.2, 0.3]])]
    report = run_shadow(lambda x: x, lambda x: x / 2, requests, timeout=30)
    week = ShadowTrial("v2").measure(report)
    assert week[:3] == (2, 0, 0.75) and week.latency_ratio == report.latency_ratio
    found = shadow_week() | {"champion_seconds": [1.0, 1.0], "candidate_seconds": [2.0, 2.0]}
    assert ShadowTrial("v2").measure(found) == ShadowWeek(30, 0, 1.0, 2.0)


@pytest.mark.parametrize("need, action", [("win", "halt"), ("no harm", "pass")])
def test_an_even_split_of_equal_pages_halts_for_a_win_and_passes_for_no_harm(need, action):
    rng = np.random.default_rng(5)
    trial = ABTrial("v2", need=need, max_weeks=1, margin=0.15)
    decision = trial.observe(visitors(rng, n=1200), 0)
    assert decision.action == action, decision


@pytest.mark.parametrize("change, action", [(1.4, "pass"), (0.6, "halt")])
def test_an_even_split_finds_a_large_change_in_both_directions(change, action):
    trial = ABTrial("v2", max_weeks=4, guard_margin=5.0)
    rng = np.random.default_rng(5)
    actions = [trial.observe(visitors(rng, change, n=300 * (at + 1)), at) for at in range(3)]
    assert action in [decision.action for decision in actions]


def test_an_even_split_that_finds_nothing_says_so_in_the_last_week():
    trial = ABTrial("v2", max_weeks=2)
    rng = np.random.default_rng(8)
    assert trial.observe(visitors(rng, n=300), 0).action == "hold"
    last = trial.observe(visitors(rng, n=500), 1)
    assert last.action == "halt" and "no difference" in " ".join(last.reasons)


@pytest.mark.parametrize("kind", ["ab", "canary", "watch"])
def test_a_broken_split_ends_a_trial(kind):
    table = visitors(np.random.default_rng(0), holdback=0.02)
    assert "mismatch" in small(kind).observe(table, 0).reasons[0]
    both = visitors(np.random.default_rng(0)).assign(arm=-1)
    trial = small(kind)
    assert trial.observe(both, 0).action == "halt" and trial.phase == "halted"
    assert trial_from_state(trial.state()).phase == "halted"


def test_a_mixed_page_holds_rows_of_both_and_each_film_once():
    trial = small("interleaving")
    champion, candidate = both_pages(0, 0.5)
    mixed = trial.pages(champion, candidate)
    assert len(mixed) == trial.mixes and mixed.slots.shape[1:] == champion.slots.shape[1:]
    assert trial.pages(champion, candidate).variants == mixed.variants
    teams = np.array([list(variant.removeprefix("mix ")) for variant in mixed.variants])
    for page, slots in enumerate(mixed.slots):
        shown = slots[slots >= 0]
        assert len(set(shown)) == len(shown)
        for row, films in enumerate(slots):
            ids = [
                {*page_.film_id[page_.slots[0, row][page_.slots[0, row] >= 0]]}
                for page_ in (champion, candidate)
            ]
            team = teams[page].reshape(slots.shape)[row]
            for film, side in zip(films, team):
                assert film < 0 or mixed.film_id[film] in ids[0] | ids[1]
                assert side == "." or mixed.film_id[film] in ids["ab".index(side)]
    shares = [(teams == side).mean() for side in "ab"]
    assert abs(shares[0] - shares[1]) < 0.05


def test_a_row_that_only_the_champion_has_is_the_champions_and_nobodys_credit():
    trial = small("interleaving")
    champion = both_pages(0, 0.0)[0]
    other = build_page(
        FILMS, labels(FILMS).astype(float), week=0, rows=[11, *range(11)], model_version="v2"
    )
    other.tags[0, 1] = -1  # the candidate has no row of genre 11
    teams = [list(name.removeprefix("mix ")) for name in trial.pages(champion, other).variants]
    of_last = np.array(teams).reshape(len(teams), *champion.slots.shape[1:])[:, -1]
    assert (of_last == ".").all()


def test_votes_are_counted_by_hand():
    trial = small("interleaving")
    events = visits(trial, 0, 0.6)
    lead = dict.fromkeys(events.unit[events.kind == "exposure"], 0)
    for event in events[events.kind == "click"].itertuples():
        side = event.variant[len("mix ") + event.position]
        lead[event.unit] += {"a": 1, "b": -1, ".": 0}[side]
    leads = np.array(list(lead.values()))
    counted = Votes(int((leads > 0).sum()), int((leads < 0).sum()), int((leads == 0).sum()))
    assert trial.measure(events) == counted


def test_equal_pages_split_the_votes_and_a_worse_candidate_loses():
    equal, worse = small("interleaving"), small("interleaving", name="other")
    champion, _ = both_pages(0, 0.0)
    pages = equal.pages(champion, champion)
    votes = Votes(
        *np.sum(
            [
                equal.measure(CROWD.visit(pages, stream(7, "even", k), assign=equal.assign_views))
                for k in range(6)
            ],
            axis=0,
        ).tolist()
    )
    assert preference(*votes).p_value > 0.01
    teams = np.array([list(variant.removeprefix("mix ")) for variant in pages.variants])
    assert ((teams == "a").sum(0) == (teams == "b").sum(0)).all(), "each place is as often of both"
    assert end(worse, 1.0).phase == "halted"
    assert "the champion is preferred" in worse.log[-1].reasons


def test_a_view_has_its_mixed_page_whenever_it_is_asked():
    trial = small("interleaving")
    views = CROWD.views(both_pages(0, 0.0)[0], stream(7, "views"))
    assert (trial.assign_views(views) == trial.assign_views(views)).all()
    assert (trial.assign_views(views[5:9]) == trial.assign_views(views)[5:9]).all()
    assert len(set(trial.assign_views(views))) == trial.mixes
    assert trial.assign_views(views[:0]).shape == (0,)


# how often they err


def deployments(rng, change, weeks=4, n=300, holdback=0.1, runs=100):
    "Phases of watches over visitors that come back."
    for k in range(runs):
        trial = Watch(f"v{k}", max_weeks=weeks, holdback=holdback, min_units=15)
        whole = visitors(rng, change, n=n, holdback=holdback)
        for week in range(weeks):
            if trial.phase == "running":
                trial.observe(whole[: n // weeks * (week + 1)], week)
        yield trial.phase


def test_a_watch_takes_back_what_does_no_harm_as_seldom_as_it_promises():
    halted = sum(phase == "halted" for phase in deployments(np.random.default_rng(11), 1.0))
    assert halted <= stats.binom.ppf(0.999, 100, 0.05)


def test_a_watch_takes_back_what_harms_a_lot():
    phases = list(deployments(np.random.default_rng(12), 0.5, runs=40))
    assert phases.count("halted") > 30


def test_an_interleaving_trial_errs_as_seldom_as_it_promises():
    rng, wrong = np.random.default_rng(13), 0
    for k in range(400):
        trial, votes = InterleavingTrial(f"v{k}", max_weeks=4, min_units=2), np.zeros(3, int)
        for week in range(4):
            votes += rng.multinomial(100, [0.35, 0.35, 0.3])
            decision = trial.observe(Votes(*votes.tolist()), week)
            wrong += "preferred" in decision.reasons[0]
    assert wrong <= stats.binom.ppf(0.999, 400, 0.05)


def reading_of(trial, table, metric):
    "(old, new, z, bound) of a metric as a watch says them."
    said = next(text for text in trial.observe(table, 0).reasons if metric in text)
    told = r"([\d.]+) with the old, ([\d.]+) with the new \(z of the loss (\S+), bound (\S+)\)"
    found = re.search(told, said)
    return tuple(map(float, found.groups()))


def test_the_watch_reads_a_ratio_by_the_delta_method_and_the_larger_error():
    table = visitors(np.random.default_rng(2), 0.4, holdback=0.3)
    trial = Watch("v2", holdback=0.3, max_weeks=1)
    before, now, z, bound = reading_of(trial, table, "clicks a view")
    old, new = (
        ratio_values(rows["clicks a view"].to_numpy(), rows["clicks a view / per"].to_numpy(), "x")
        for rows in (table[table.arm == arm] for arm in (0, 1))
    )
    apart = np.sqrt(old.var(ddof=1) / len(old) + new.var(ddof=1) / len(new))
    spread = (len(old) * old.var(ddof=1) + len(new) * new.var(ddof=1)) / len(table)
    together = np.sqrt(spread * (1 / len(old) + 1 / len(new)))
    assert before == pytest.approx(old.mean(), rel=0.01)
    assert now == pytest.approx(new.mean(), rel=0.01)
    assert z == pytest.approx((old.mean() - new.mean()) / max(apart, together), abs=0.006)
    assert trial.phase == "halted" and stats.norm.isf(0.0125 + 0.0125) < bound < 2.5


@pytest.mark.parametrize("of_holdback, action", [(5, "hold"), (8, "hold"), (0, "halt")])
def test_a_holdback_with_few_corrections_is_no_harm_unless_it_has_far_too_few(of_holdback, action):
    table = visitors(np.random.default_rng(4), n=600, holdback=0.1, fixes=0.0)
    who = {arm: np.flatnonzero(table.arm == arm) for arm in (0, 1)}
    fixes = np.zeros(600)
    fixes[who[0][:of_holdback]] = 1
    fixes[who[1][:110]] = 1  # as many a visitor as 12 in the holdback
    clicks = np.maximum(table["clicks a view"], 1.0)
    table = table.assign(
        **{
            "corrections a click": fixes,
            "clicks a view": clicks,
            "corrections a click / per": clicks,
        }
    )
    trial = Watch("v2", max_weeks=12)
    assert trial.observe(table, 0).action == action


def test_a_steep_rise_of_corrections_is_harm():
    table = visitors(np.random.default_rng(4), n=900, holdback=0.3, fixes=0.1)
    clicks, arm = table["clicks a view"].to_numpy(), table.arm.to_numpy()
    fixes = np.random.default_rng(5).binomial(clicks.astype(int), np.where(arm, 0.3, 0.1))
    trial = Watch("v2", holdback=0.3, max_weeks=12)
    decision = trial.observe(table.assign(**{"corrections a click": fixes.astype(float)}), 0)
    assert decision.action == "halt" and "corrections a click" in decision.reasons[0]


# plans


@pytest.mark.parametrize("kind", KINDS)
def test_a_plan_is_of_the_kind_that_was_asked_for_and_starts_when_it_was_told(kind):
    trial = plan_trial("v2", test=kind, effect=0.2, since=12, **TRAFFIC)
    names = {"ab": "ABTrial", "watch": "Watch"}
    assert type(trial).__name__ == names.get(kind, f"{kind.title()}Trial")
    assert trial.since == 12 and trial.name == "v2" and trial.phase == "running"


def test_the_risk_decides_where_nobody_asked_for_a_kind():
    assert isinstance(plan_trial("v2", risk="high", **TRAFFIC), CanaryTrial)
    assert isinstance(plan_trial("v2", risk="low", **TRAFFIC), InterleavingTrial)


@pytest.mark.parametrize("visitors_per_week", [130, 200, 330, 800, 5000, 100_000])
@pytest.mark.parametrize("max_weeks", [4, 8, 12])
def test_each_step_of_a_canary_has_its_visitors_within_a_week(visitors_per_week, max_weeks):
    traffic = dict(visitors_per_week=visitors_per_week, visits_per_week=2 * visitors_per_week)
    trial = plan_trial("v2", test="canary", max_weeks=max_weeks, **traffic)
    assert list(trial.steps) == sorted(trial.steps) and trial.steps[-1] == 0.5
    assert trial.steps[0] * visitors_per_week >= trial.min_units
    assert trial.patience * len(trial.steps) <= max_weeks
    assert all(after <= 2.6 * before for before, after in pairwise(trial.steps))


@pytest.mark.parametrize(
    "options, word",
    [
        (dict(test="canary", min_units=200), "min_units = 200"),
        (dict(test="ab", effect=0.02), "effect = 0.02"),
        (dict(test="ab", min_units=900), "min_units = 900"),
        (dict(test="watch", holdback=0.01), "1% of visitors_per_week"),
        (dict(test="interleaving", min_units=5000), "min_units = 5000"),
        (dict(test="auto", effect=0.01), "effect = 0.01"),
        (dict(test="ab", need="no harm", margin=0.001), "margin = 0.001"),
        (dict(test="interleaving", need="no harm", margin=0.001), "margin = 0.001"),
        (dict(test="interleaving", min_units=5000), "100% of visitors_per_week = "),
        (dict(test="canary", max_weeks=1, min_units=20), "max_weeks = 1"),
        (dict(test="auto", visitors_per_week=3, visits_per_week=5), "visitors_per_week = 3"),
    ],
)
def test_a_plan_that_cannot_move_is_refused_with_the_number_in_its_way(options, word):
    with pytest.raises(PlanError, match=word):
        plan_trial("v2", **TRAFFIC | options)


def test_where_no_harm_is_to_be_shown_the_effect_is_not_asked():
    wish = dict(test="ab", need="no harm", margin=0.5, effect=0.01)
    assert plan_trial("v2", **TRAFFIC | wish).need == "no harm"


@pytest.mark.parametrize(
    "options, word",
    [
        (dict(test="a/b"), "test = 'a/b'"),
        (dict(risk="middling"), "risk"),
        (dict(effect=0), "effect"),
        (dict(alpha=0.7), "alpha"),
        (dict(alpha=float("nan")), "alpha"),
        (dict(max_weeks=0), "max_weeks"),
        (dict(max_weeks=2.5), "max_weeks"),
        (dict(min_units=1), "min_units"),
        (dict(visits_per_week=10), "visits_per_week"),
        (dict(visitors_per_week=True), "visitors_per_week"),
        (dict(test="watch", holdback=0), "holdback"),
        (dict(test="ab", need="luck"), "need"),
        (dict(test="ab", margin=2), "margin"),
        (dict(since=-1), "begin"),
    ],
)
def test_a_plan_of_what_is_no_number_is_refused_by_name(options, word):
    with pytest.raises(ValueError, match=word):
        plan_trial("v2", **TRAFFIC | options)


# states


def damaged(state, *path, value):
    "A state with one value replaced."
    new = json.loads(json.dumps(state))
    place = new
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return new


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "path, value",
    [
        (("kind",), "Trial"),
        (("kind",), "__main__.Anything"),
        (("kind",), None),
        (("kind",), ["Watch"]),
        (("format",), 2),
        (("format",), True),
        (("plan",), {}),
        (("plan",), None),
        (("plan", "name"), ""),
        (("plan", "max_weeks"), -1),
        (("plan", "max_weeks"), "8"),
        (("plan", "begin"), 1.5),
        (("plan", "log"), []),
        (("log",), None),
        (("log",), "hold"),
        (("log",), {"at": 0}),
        (("log", 0), None),
        (("log", 0, "at"), -3),
        (("log", 0, "at"), float("nan")),
        (("log", 0, "action"), "explode"),
        (("log", 0, "share"), 7),
        (("log", 0, "reasons"), "why"),
        (("log", 0, "reasons"), [1]),
        (("log", 0, "action"), "pass"),
        (("log", 1, "at"), 0),
        (("memory",), None),
        (("memory",), {"log": 1}),
        (("memory",), [1]),
    ],
)
def test_a_damaged_state_is_refused(kind, path, value):
    trial = small(kind, max_weeks=5)
    for at in range(2):
        if kind == "shadow":
            trial.observe(ShadowWeek(0, 0, 1.0, 1.0), at)
        elif kind == "interleaving":
            trial.observe(Votes(1, 1, 1), at)
        else:
            trial.observe(visitors(np.random.default_rng(0), n=8), at)
    assert len(trial.log) == 2 and trial.phase == "running"
    with pytest.raises(ValueError):
        trial_from_state(damaged(trial.state(), *path, value=value))


@pytest.mark.parametrize("state", [None, {}, [], 3, "Watch", {"kind": "Watch"}])
def test_what_is_no_state_is_refused(state):
    with pytest.raises(ValueError):
        trial_from_state(state)
    with pytest.raises(ValueError):
        Watch.from_state(state)


def test_a_state_of_another_kind_is_refused():
    with pytest.raises(ValueError, match="kind = 'Watch'"):
        ABTrial.from_state(Watch("v2").state())


def test_a_canary_whose_memory_disagrees_with_its_plan_or_log_is_refused():
    state = CanaryTrial("v2").state()
    with pytest.raises(ValueError, match="rules"):
        trial_from_state(damaged(state, "memory", "plan", "steps", value=[0.9]))
    with pytest.raises(ValueError, match="step 1"):
        trial_from_state(damaged(state, "memory", "step", value=1))
    with pytest.raises(ValueError, match="step 0"):
        trial_from_state(damaged(state, "memory", "halted", value=True))


@pytest.mark.parametrize(
    "make",
    [
        lambda: ShadowTrial("v2", weeks=9),
        lambda: ShadowTrial("v2", latency=0),
        lambda: CanaryTrial("v2", steps=(0.5, 0.2)),
        lambda: CanaryTrial("v2", patience=5),
        lambda: CanaryTrial(""),
        lambda: ABTrial("v2", margin=0),
        lambda: ABTrial("v2", alpha=0.6),
        lambda: InterleavingTrial("v2", mixes=0),
        lambda: InterleavingTrial("v2", mixes=15),
        lambda: Watch("v2", holdback=0.6),
        lambda: Watch("v2", guard_margin=-1),
        lambda: Watch("v2", max_weeks=201),
    ],
)
def test_rules_that_cannot_be_kept_are_refused(make):
    with pytest.raises(ValueError):
        make()


@pytest.mark.parametrize("kind", [ABTrial, CanaryTrial, InterleavingTrial, Watch])
def test_weeks_in_which_nobody_came_are_measured_as_nothing(tmp_path, kind):
    nothing = events_of(Workspace(tmp_path), [-1])
    found = kind("v2").measure(nothing)
    assert sum(found) == 0 if isinstance(found, Votes) else len(found) == 0
