"""Rollouts: a candidate in the shadow cannot touch a visitor, a canary halts and never restarts,
and the choice of a test is one table."""

import itertools
import json
import math
import os
import re
import subprocess
import sys
import threading
import time
from importlib import import_module

import numpy as np
import pandas as pd
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import accuracy_score, jaccard_score
from statsmodels.stats.proportion import proportion_confint

from trending_now.rollouts import canary as canary_page
from trending_now.rollouts import choosing
from trending_now.ab import (
    sample_size_proportions,
    always_valid,
    compare_means_from_stats,
    crossing,
    group_sequential,
    hash_unit,
    non_inferior,
)
from trending_now.rollouts import (
    METHODS,
    RULES,
    Arms,
    Canary,
    Guardrail,
    Plan,
    Shadow,
    choose_test,
    decision_diagram,
    false_halts,
    gain_interval,
    inflation,
    simulate_rollouts,
    visitor_stats,
)
from trending_now.rollouts.shadow import run_shadow
from trending_now.settings import stream

# ---------------------------------------------------------------- shadow


def halve(x):
    return np.asarray(x) / 2


def boom(x):
    raise RuntimeError("no")


def forever(x):
    time.sleep(3600)


def spins(x):
    while True:
        pass


def nan(x):
    return np.full(np.shape(x), np.nan)


def shape(x):
    return np.zeros((3, 3, 3))


def words(x):
    return "a comedy"


def leaves(x):
    sys.exit(3)


def dies(x):
    os._exit(9)


def mutates(x):
    x[:] = -1
    return x


BAD = {
    boom: "RuntimeError",
    forever: "timeout",
    spins: "timeout",
    nan: "not finite",
    shape: "wrong shape",
    words: "ValueError",
    leaves: "SystemExit",
    dies: "crash",
    mutates: "ok",
}
for f in (halve, *BAD):
    f.__module__ = "__main__"  # sent as code: the worker does not import this file


@pytest.mark.parametrize("candidate", BAD, ids=lambda f: f.__name__)
def test_whatever_the_candidate_does_the_champion_answers_the_same_and_on_time(candidate):
    requests, slowest = [np.array([i, i + 1.0]) for i in range(12)], 0.0
    with Shadow(halve, candidate, timeout=4.0, places=3, restarts=0) as s:
        assert s.ready()
        for i, x in enumerate(requests):
            start = time.perf_counter()
            answer = s.answer(x)
            slowest = max(slowest, time.perf_counter() - start)
            assert answer.tolist() == [i / 2, (i + 1) / 2] and x.tolist() == [i, i + 1]
    report = s.report()
    assert slowest < 3.5  # the time limit alone is longer
    assert report.requests == 12 and sum(report.outcomes.values()) == 12
    assert set(report.outcomes) - {"dropped", "given up"} == {BAD[candidate]}
    assert s._worker.process is None  # nothing is left running


def test_a_candidate_that_recovers_is_started_again():
    def sometimes(x):
        if x[0] == 1:
            os._exit(1)
        return x

    report = run_shadow(
        halve, sometimes, [np.array([float(i)]) for i in range(4)], restarts=1, timeout=30
    )
    assert report.outcomes == {"ok": 3, "crash": 1} and report.failed == 1


def test_after_its_last_life_a_candidate_stays_off():
    report = run_shadow(halve, dies, [np.ones(2)] * 5, restarts=1, timeout=30)
    assert report.outcomes == {"crash": 2, "given up": 3}
    assert any("switched off" in p for p in report.problems())


def test_a_candidate_that_cannot_be_loaded_is_given_up():
    class Trap:
        def __reduce__(self):
            return int, ("no number",)

        def __call__(self, x):
            return x

    report = run_shadow(halve, Trap(), [np.ones(2)] * 3, restarts=1)
    assert report.outcomes == {"given up": 3}


def test_a_request_that_cannot_be_copied_is_counted_and_answered():
    with Shadow(lambda lock: 1.0, halve) as s:
        assert s.answer(threading.Lock()) == 1.0
    assert s.report().outcomes == {"not sendable": 1}


def test_a_champion_that_fails_is_not_hidden():
    with Shadow(boom, halve) as s, pytest.raises(RuntimeError):
        s.answer(np.ones(1))


def test_the_report_agrees_with_scikit_learn():
    rng = stream(7, "shadow")
    w = rng.random((3, 12))

    def other(x):
        return np.clip(x @ w.T @ w / 9, 0, 1)

    requests = [rng.random((6, 12)) for _ in range(10)]

    def one(x):
        return np.clip(x, 0, 1)

    report = run_shadow(one, other, requests, timeout=30, thresholds=0.5)
    a, b = (np.concatenate([f(x) for x in requests]) >= 0.5 for f in (one, other))
    for c in range(12):
        row = report.columns.loc[c]
        assert row.agreement == pytest.approx(accuracy_score(a[:, c], b[:, c]))
        assert row.overlap == pytest.approx(jaccard_score(a[:, c], b[:, c], zero_division=1.0))
    assert report.overlap == pytest.approx(jaccard_score(a, b, average="micro"))
    assert (report.examples.champion - report.examples.candidate).abs().is_monotonic_decreasing
    assert report.error_bound == pytest.approx(proportion_confint(0, 10, 0.1, "beta")[1])


def test_a_request_without_rows_is_a_request():
    report = run_shadow(
        halve, halve, [np.zeros((0, 3)), np.ones((2, 3)), np.zeros(0)], timeout=30, names="abc"
    )
    assert report.outcomes == {"ok": 3} and len(report.columns) == 3 and report.agreement == 1
    alone = run_shadow(halve, halve, [np.zeros((0, 3))], timeout=30)
    assert alone.outcomes == {"ok": 1} and math.isnan(alone.agreement)


def test_answers_of_different_widths_are_refused_in_words():
    with pytest.raises(ValueError, match=r"\[3, 4\] columns"):
        run_shadow(halve, halve, [np.ones((2, 3)), np.ones((2, 4))], timeout=30)


def test_a_share_limits_what_the_candidate_costs():
    with Shadow(halve, halve, share=0.25) as s:
        for _ in range(40):
            s.answer(np.ones(1))
    assert sum(s.report().outcomes.values()) == 10


def test_a_slow_candidate_is_reported_as_slow():
    def slow(x):
        time.sleep(0.2)
        return x / 2

    report = run_shadow(lambda x: (time.sleep(0.005), x / 2)[1], slow, [np.ones(2)] * 8, timeout=30)
    assert report.candidate_ms[0] >= 200 and report.latency_ratio > 2 and report.agreement == 1
    assert any("latency" in p for p in report.problems(errors=1))


def test_a_killed_service_leaves_no_candidate_behind(tmp_path):
    code = f"""
import sys, time
from trending_now.rollouts import Shadow
def hang(x):
    import os
    open({str(tmp_path / "pid")!r}, "w").write(str(os.getpid()))
    while True: pass
s = Shadow(lambda x: x, hang, timeout=600)
s.answer(1.)
time.sleep(600)
"""
    pid = tmp_path / "pid"
    service = subprocess.Popen([sys.executable, "-c", code])
    try:
        wait_for(lambda: pid.exists() and pid.read_text())
        worker = psutil.Process(int(pid.read_text()))
    finally:
        service.kill()
        service.wait()
    wait_for(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE)


def wait_for(happens, seconds=120):
    end = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_a_plain_script_without_a_main_guard_works(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from trending_now.rollouts.shadow import "
        "run_shadow\nprint('run')\nprint(run_shadow(lambda x: x, lambda x: x + 1, [1., 2.], "
        "timeout=30).outcomes)\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["run", "{'ok': 2}"]


# ---------------------------------------------------------------- canary

PLAN = Plan("t", [Guardrail("clicked")], steps=(0.05, 0.25, 0.5, 1.0), tuning_n=10_000)
shares = st.lists(st.integers(1, 10_000), min_size=1, max_size=6, unique=True).map(
    lambda xs: tuple(x / 10_000 for x in sorted(xs))
)


@settings(max_examples=30, deadline=None)
@given(shares, st.text("abcdef", min_size=1, max_size=5))
def test_nobody_who_has_seen_the_candidate_goes_back_while_the_share_grows(steps, name):
    units = np.arange(2000)
    canary = Canary(Plan(name, [Guardrail("clicked")], steps=steps))
    before = np.zeros(2000, int)
    for canary.step in range(len(steps)):
        now = canary.assign(units)
        assert (now >= before).all() and now.tolist() == [
            int(hash_unit(name, u) < steps[canary.step]) for u in range(2000)
        ]
        before = now


def drive(plan, p, q, rng, looks=20, visitors=20_000):
    "A rollout by the object, one look at a time; through JSON at each look."
    canary, n, x, lost = Canary(plan), np.zeros(2), np.zeros(2), 0.0
    for at in range(1, looks + 1):
        n1 = rng.binomial(visitors, np.array([canary.share]))[0]
        n, x = (
            n + (visitors - n1, n1),
            x + (rng.binomial(np.array([visitors - n1]), p)[0], rng.binomial(np.array([n1]), q)[0]),
        )
        lost += n1 * (p - q)
        step = canary.step
        canary = Canary.from_state(json.loads(json.dumps(canary.state())))
        canary.observe({"clicked": Arms.counts(x, n)}, at)
        if canary.step != step:
            n, x = np.zeros(2), np.zeros(2)
    return canary, lost


@pytest.mark.parametrize("change", [0.1, 0.0, -0.1, -0.25, -0.4])
def test_the_fast_simulation_decides_as_the_canary_does(change):
    for seed in range(6):
        plan = Plan("t", [Guardrail("clicked")], min_units=30, tuning_n=40_000, srm_alpha=0)
        canary, lost = drive(plan, 0.1, 0.1 * (1 + change), stream(7, "same", seed))
        row = simulate_rollouts(0.1, change, stream(7, "same", seed), rollouts=1).iloc[0]
        assert (canary.phase == "halted") == row.halted and lost == pytest.approx(row.lost)
        full = [d.at for d in canary.log if d.share == 1]
        assert (full[:1] or [math.nan]) == pytest.approx([row.full_at], nan_ok=True)


@pytest.mark.parametrize(
    "steps, patience",
    [((0.01, 0.05, 0.25, 0.5, 1.0), 2), ((0.05, 0.25, 0.5, 1.0), 10), ((0.5, 1.0), 40)],
)
def test_false_halts_stay_below_alpha_however_often_one_looks(steps, patience):
    runs = simulate_rollouts(
        0.1,
        0.0,
        stream(7, "null", patience),
        rollouts=3000,
        visitors=4000,
        steps=steps,
        patience=patience,
        horizon=60,
    )
    assert stats.binomtest(int(runs.halted.sum()), 3000, 0.05, alternative="greater").pvalue > 0.01


def test_peeking_with_a_z_test_halts_many_times_too_often():
    z, valid = (false_halts([1, 50], stream(7, "peek"), rule) for rule in ("z", "always valid"))
    assert stats.binomtest(int(z[1]), 2000, 0.05, alternative="greater").pvalue < 1e-6
    assert stats.binomtest(int(valid[1]), 2000, 0.05, alternative="greater").pvalue > 0.01


def test_false_halts_stay_below_alpha_for_heavy_tails():
    """Clicks of visitors whose habits differ (log-normal, spread 1.2), 5% exposed, five looks: a
    step's part of alpha."""
    rng, halted = stream(7, "heavy"), 0
    for _ in range(800):
        y = rng.poisson(6 * np.exp(1.2 * rng.standard_normal(10_000) - 0.72))
        treated = rng.random(10_000) < 0.05
        canary = Canary(Plan("h", [Guardrail("click")], steps=(0.05, 1.0), patience=5, srm_alpha=0))
        for k in range(1, 6):
            canary.observe(
                {
                    "click": Arms.of(
                        y[: 2000 * k][~treated[: 2000 * k]], y[: 2000 * k][treated[: 2000 * k]]
                    )
                },
                k,
            )
        halted += canary.phase == "halted"
    assert stats.binomtest(halted, 800, 0.05, alternative="greater").pvalue > 0.01


def test_a_broken_candidate_is_always_halted_and_costs_little():
    with_brake, without = (
        simulate_rollouts(0.1, -0.4, stream(7, "b"), rollouts=500, **kw)
        for kw in ({}, dict(rule="none", steps=(1.0,)))
    )
    assert with_brake.halted.all() and with_brake.lost.mean() < 0.05 * without.lost.mean()


def test_the_interval_is_the_ab_chapters():
    low, high = gain_interval((900, 100), (5.0, 4.0), (3.0, 2.0), alpha=0.02, tuning_n=700)
    there = always_valid(-1.0, math.sqrt(9 / 900 + 4 / 100), 1000, 0.02, 700)
    assert (low, high) == pytest.approx((there.low, there.high))
    fixed = compare_means_from_stats((5.0, 4.0), (3.0, 2.0), (900, 100), 0.02)
    assert low < fixed.low < fixed.high < high and not non_inferior(fixed, 0.5)


def test_no_click_yet_is_no_harm_and_no_error_yet_is_no_proof():
    "None of 100 at a rate of 1% happens 37 times in 100; none of 100 leaves up to 3% of errors."
    click = Canary(Plan("new", [Guardrail("click")]))
    first = click.observe({"click": Arms.counts((99, 0), (9900, 100))}, 1)
    assert first.action == "hold" and "still open" in first.reasons
    errors = Guardrail("error", margin=0.001, more_is_better=False)
    none = {"error": Arms.counts((0, 0), (9900, 100))}
    assert Canary(Plan("new", [errors], need_proof=True)).observe(none, 1).action == "hold"
    assert Canary(Plan("new", [errors])).observe(none, 1).action == "hold"
    many = {"error": Arms.counts((0, 0), (990_000, 10_000))}
    assert Canary(Plan("new", [errors], need_proof=True)).observe(many, 1).action == "advance"


@pytest.mark.parametrize(
    "rate, visitors",
    [(0.01, 10_000), (0.01, 20_000), (0.003, 50_000), (0.001, 10_000), (0.001, 50_000)],
)
def test_rare_events_halt_at_most_alpha_of_the_harmless_rollouts(rate, visitors):
    runs = simulate_rollouts(
        rate,
        0.0,
        stream(7, "rare", visitors),
        rollouts=2000,
        visitors=visitors,
        horizon=8,
        min_units=100,
        tuning_n=5000,
    )
    assert runs.halted.mean() <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 2000)


@pytest.mark.parametrize("champion, candidate", [(0.0, 0.01), (0.001, 0.01), (0.001, 0.0021)])
def test_a_candidate_that_errs_beyond_the_margin_is_seldom_proven_harmless(champion, candidate):
    "At any of 40 looks of a step, at the whole alpha: what one step may do at most."
    rng, looks, rollouts = stream(7, "proof"), 40, 1000
    new = rng.binomial(1000, 0.05, (rollouts, looks))
    n = (1000 - new).cumsum(1), new.cumsum(1)
    fine = [rng.binomial(m, 1 - p).cumsum(1) for m, p in ((1000 - new, champion), (new, candidate))]
    _, safe = canary_page._brake("always valid", n, fine, 0.05, 0.001, 0.05, 5000)
    proven = int(safe.any(1).sum())
    assert stats.binomtest(proven, rollouts, 0.05, alternative="greater").pvalue > 0.01


def test_real_harm_at_a_common_rate_is_still_halted():
    runs = simulate_rollouts(
        0.1, -0.2, stream(7, "harm"), visitors=10_000, horizon=10, min_units=100, tuning_n=5000
    )
    assert runs.halted.mean() > 0.9
    total = simulate_rollouts(0.1, -0.2, stream(7, "harm"), rule="none", steps=(1.0,), horizon=10)
    assert runs.lost.mean() < 0.05 * total.lost.mean()


@pytest.mark.parametrize("rate", [0.001, 0.02, 0.5, 0.99])
def test_a_bet_on_the_true_rate_is_fair_and_the_intervals_are_found_by_brute_force(rate):
    k = np.arange(61)
    won = np.exp(canary_page._log_bet(k, 60, 7.0, rate))
    assert (stats.binom.pmf(k, 60, rate) * won).sum() == pytest.approx(1)
    x, n, worth, alpha = (30.0, 3.0), (300.0, 100.0), (90.0, 10.0), 0.0125
    p = np.linspace(0.0005, 0.9995, 2000)
    one, other = (canary_page._log_bet(x[i], n[i], worth[i], p) for i in (0, 1))
    left = one[:, None] + other < -math.log(alpha)
    gains = (p - p[:, None])[left]
    low, high = canary_page._rate_interval(x, n, worth, alpha)
    assert (low, high) == pytest.approx((gains.min(), gains.max()), abs=2e-3)


def test_the_canary_and_the_fast_brake_read_rare_events_alike():
    rng = stream(7, "alike")
    plan = Plan("t", [Guardrail("clicked", 0.002)], steps=(0.1, 1.0), alpha=0.05, srm_alpha=0)
    for rate in (0.0, 0.002, 0.02, 0.3):
        for _ in range(8):
            n = np.array([9000, 1000]) * rng.integers(1, 20)
            x = rng.binomial(n, [rate, rate / 2])
            halt, safe = canary_page._brake(
                "always valid", n[:, None], x[:, None], 0.1, 0.002, 0.05, 5000
            )
            action = Canary(plan).observe({"clicked": Arms.counts(x, n)}, 1).reasons[0]
            assert halt.item() == action.startswith("harm")
            assert safe.item() == action.startswith("no harm")


def test_a_mean_without_spread_is_no_evidence():
    "A group of equal values is given the spread of all visitors, and is never proven harmless."
    plan = Plan("m", [Guardrail("seconds", more_is_better=False)], steps=(0.5, 1.0), srm_alpha=0)
    same = {"seconds": Arms.of([0.6] * 592, [0.6] * 579)}
    canary = Canary(plan)
    for at in range(1, 5):
        said = canary.observe(same, at)
        assert said.action == "hold" and "the same for all visitors" in " ".join(said.reasons)
    assert canary.looks == 0
    assert Canary(plan).observe({"seconds": Arms.of([0.0] * 592, [6.0] * 579)}, 1).action == "halt"
    assert gain_interval((92, 79), (0.6, 0.6), (1e-16, 0)) == (-math.inf, math.inf)
    rare = [0.0] * 9899 + [2.0]
    none = Arms.of(rare, [0.0] * 100)
    proof = Plan("p", [Guardrail("errors", 0.01, False)], need_proof=True)
    assert Canary(proof).observe({"errors": none}, 1).action == "hold"
    big = Arms.of([1e9 + 0.1] * 500, [1e9 + 0.1] * 500)
    assert Canary(plan).observe({"seconds": big}, 1).action == "hold"


def test_a_state_holds_plain_numbers_whatever_numbers_came():
    guard = Guardrail("clicked", np.float32(0.25), np.True_)
    plan = Plan(
        "t",
        [guard],
        steps=np.array([0.5, 1.0], np.float32),
        alpha=np.float32(0.5),
        patience=np.int64(2),
        min_units=np.int32(100),
        tuning_n=np.int64(10_000),
        need_proof=np.False_,
        srm_alpha=np.float32(0),
    )
    canary = Canary(plan)
    same = Arms.counts(np.array([500, 500]), np.array([5000, 5000]))
    canary.observe({"clicked": same}, np.int64(1))
    canary.rollback(np.int32(2), "enough")
    text = json.dumps(canary.state())
    assert Canary.from_state(json.loads(text)).state() == canary.state()
    assert [type(d.at) for d in canary.log] == [int, int]
    assert type(plan.patience) is int and type(guard.margin) is float
    for at in ("4", None, 1.5, True):
        with pytest.raises(ValueError, match=re.escape(f"at = {at!r}")):
            Canary(PLAN).observe({"clicked": same}, at)
        with pytest.raises(ValueError, match=re.escape(f"at = {at!r}")):
            Canary(PLAN).rollback(at, "enough")


@pytest.mark.parametrize(
    "change, name",
    [
        (dict(guardrails=None), "guardrails"),
        (dict(guardrails=[5]), "guardrails"),
        (dict(steps=None), "steps"),
        (dict(steps=0.5), "steps"),
        (dict(need_proof=1), "need_proof"),
    ],
)
def test_a_plan_that_is_none_is_refused_in_words(change, name):
    with pytest.raises(ValueError, match=name):
        Plan(**{"name": "t", "guardrails": [Guardrail("clicked")], **change})


def test_a_damaged_state_and_statistics_that_are_none_are_refused_in_words():
    state = Canary(PLAN).state()
    for name, value in (("looks", "two"), ("halted", "no"), ("step", 1.5)):
        with pytest.raises(ValueError, match=name):
            Canary.from_state({**state, name: value})
    with pytest.raises(ValueError, match="stats = None"):
        Canary(PLAN).observe(None, 1)
    with pytest.raises(ValueError, match="more_is_better = 'no'"):
        Guardrail("clicked", more_is_better="no")


@pytest.mark.parametrize(
    "successes, totals",
    [
        ((5, 0), (0, 10)),
        ((1.5, 3), (4, 10)),
        ((1, 3), (4, 10.5)),
        ((-1, 3), (4, 10)),
        (None, (4, 10)),
        ((1, 3), None),
        ((None, 3), (4, 10)),
        ((1, 2, 3), (4, 5, 6)),
    ],
)
def test_counts_that_cannot_be_are_refused_in_words(successes, totals):
    with pytest.raises(ValueError, match="successes|totals"):
        Arms.counts(successes, totals)


def test_an_empty_group_without_successes_is_allowed():
    empty = Arms.counts((0, 3), (0, 10))
    assert (empty.n, empty.mean, empty.sd[0]) == ((0, 10), (0, 0.3), 0)
    with pytest.raises(ValueError, match="shares"):
        Arms((4, 4), (0.5, 2), (1, 1), yes_or_no=True)


def test_a_halted_rollout_never_restarts_and_a_look_counts_once():
    canary = Canary(PLAN)
    bad, good = Arms.counts([950, 10], [9500, 500]), Arms.counts([950, 200], [9500, 500])
    first = canary.observe({"clicked": bad}, 1)
    assert first.action == "halt" and canary.observe({"clicked": good}, 1) == first
    for at in range(2, 6):
        assert canary.observe({"clicked": good}, at).share == 0
    assert canary.assign(np.arange(1000)).sum() == 0 and len(canary.log) == 1
    back = Canary.from_state(json.loads(json.dumps(canary.state())))
    assert back.state() == canary.state() and back.phase == "halted"


def test_a_state_travels_between_processes():
    canary = Canary(PLAN)
    canary.observe({"clicked": Arms.counts([950, 52], [9500, 500])}, 1)
    code = (
        "import json, sys; from trending_now.rollouts import *; c = "
        "Canary.from_state(json.load(sys.stdin)); c.observe({'clicked': Arms.counts([1900, 102], "
        "[19000, 1000])}, 2); print(json.dumps(c.state()))"
    )
    there = json.loads(
        subprocess.run(
            [sys.executable, "-c", code],
            input=json.dumps(canary.state()),
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    )
    canary.observe({"clicked": Arms.counts([1900, 102], [19_000, 1000])}, 2)
    assert there == canary.state() and canary.share == 0.25


def test_every_guardrail_can_halt_and_alpha_is_divided_among_them():
    plan = Plan(
        "g",
        [Guardrail("clicked"), Guardrail("errors", more_is_better=False)],
        steps=(0.5, 1.0),
        tuning_n=10_000,
    )
    same = Arms.counts([500, 500], [5000, 5000])
    d = Canary(plan).observe({"clicked": same, "errors": Arms.counts([10, 100], [5000, 5000])}, 1)
    assert d.action == "halt" and "errors" in d.reasons[0] and plan.tests == 2
    d = Canary(plan).observe({"clicked": same, "errors": Arms.counts([0, 5000], [5000, 5000])}, 1)
    assert d.action == "halt"
    assert (
        Canary(plan)
        .observe({"clicked": same, "errors": Arms.counts([0, 0], [5000, 5000])}, 1)
        .action
        == "hold"
    )


def test_visitor_stats_counts_visitors_and_not_events():
    rng = stream(7, "log")
    units = [f"v{i}" for i in range(60)]
    variant = {u: ("a", "b")[i % 2] for i, u in enumerate(units)}
    rows = [("exposure", u) for u in rng.choice(units, 300)] + [
        ("click", u) for u in rng.choice(units, 90)
    ]
    events = pd.DataFrame(rows, columns=["kind", "unit"])
    events = events[events.unit.isin(events.unit[events.kind == "exposure"])].assign(
        variant=lambda e: e.unit.map(variant)
    )
    got = visitor_stats(events, ("a", "b"), ["click"])["click"]
    table = (
        events.groupby("unit")
        .agg(variant=("variant", "first"), clicks=("kind", lambda k: (k == "click").sum()))
        .groupby("variant")
        .clicks
    )
    assert (
        got.n == tuple(table.count())
        and got.mean == pytest.approx(tuple(table.mean()))
        and got.sd == pytest.approx(tuple(table.std()))
    )


# ---------------------------------------------------------------- the choice of a test

ANSWERS = dict(
    risk=("low", "high"),
    ranking=(False, True),
    delay_days=(0.0, 7.0),
    reversible=(False, True),
    variants=(2, 4),
    earn=(False, True),
    interference=(False, True),
    context=(False, True),
    per_day=(50.0, 50_000.0),
)
ALONE = [dict(zip(ANSWERS, values)) for values in itertools.product(*ANSWERS.values())]
CASES = ALONE + [case | {"group_size": 3.0} for case in ALONE if case["interference"]]


def walk(text, facts):
    "Follow a printed diagram from its first question, then from what is asked of every method."
    labels = dict(re.findall(r'(\w+)[\[{]+"([^"]+)"[\]}]', text))
    edges = {
        (a, answer): b
        for a, answer, b in re.findall(r"^\s+(\w+) -->\|(yes|no)\| (\w+)", text, re.M)
    }
    at, asked = "q0", []

    def ask():
        answer = facts[labels[at]]
        asked.append((labels[at], answer))
        return edges[at, "yes" if answer else "no"]

    while at.startswith("q"):
        at = ask()
    method = labels[at]
    assert '  any(["whichever it is"]) --> late' in text.split("\n")
    at = "late"
    end = labels[ask()]
    return (method if end == "do it" else end), tuple(asked)


def facts_of(case):
    "What each rule asks for, from the answers."
    names = ("risk", "ranking", "delay_days", "reversible", "variants", "earn", "interference")
    group_size = case.get("group_size", 0)
    facts = choosing._facts(*[case[name] for name in names], case["context"], group_size > 0)
    return {rule.question: bool(facts[rule.fact]) for rule in RULES[:-1]}


def test_each_case_has_one_answer_every_answer_is_reached_and_the_printed_diagram_gives_the_same():
    text, met = decision_diagram(), {}
    for case in CASES:
        c, patient = choose_test(**case), choose_test(**case, max_days=1e9)
        late = {"Longer than anybody waits for?": patient.days > 56}
        assert walk(text, facts_of(case) | late) == (c.method, c.path)
        (rule,) = (r for r in RULES if r.method == patient.method)
        assert patient.reason == rule.reason and c.path[:-1] == patient.path[:-1]
        assert (c.n > 0) == (c.days > 0) == (c.method != "offline only")
        met.setdefault(c.method, case)
    assert len(CASES) == 768 and set(met) == set(METHODS) and len(set(METHODS)) == len(RULES) + 1


def test_safety_comes_before_statistics():
    for case in CASES:
        method = choose_test(**case, max_days=1e9).method
        if case["risk"] == "high" and not case["reversible"]:
            assert method == "shadow"
        elif case["interference"]:
            assert method == ("A/B by cluster" if "group_size" in case else "switchback")
        elif case["risk"] == "high":
            assert method == "canary"
        if case["delay_days"] > 1:
            assert method not in ("interleaving", "bandit", "contextual bandit", "A/B sequential")


def test_nothing_is_recommended_that_the_package_cannot_run_and_read():
    for rule in (*RULES, choosing._TOO_LONG):
        assert len(rule.tools) >= 2, rule.method
        for name in rule.tools:
            module, tool = name.split(".")
            assert callable(getattr(import_module(f"trending_now.{module}"), tool)), name


@pytest.mark.parametrize("group, alike, times", [(1, 0.5, 1), (3, 0.1, 1.2), (5, 1, 5), (9, 0, 1)])
def test_groups_cost_their_design_effect(group, alike, times):
    words = dict(interference=True, group_size=group, alike=alike, max_days=1e9)
    plain = 2 * sample_size_proportions(0.1, 0.105)
    c = choose_test(**words)
    assert (c.method, c.n) == ("A/B by cluster", math.ceil(plain * times))


def test_large_groups_hold_no_test_in_time_and_days_take_turns_where_there_are_none():
    assert choose_test(interference=True, group_size=50_000).method == "offline only"
    assert choose_test(interference=True).method == "switchback"


@pytest.mark.parametrize("facts", [dict(interference=True), dict(risk="high")])
def test_designs_for_one_candidate_take_turns_with_several(facts):
    "Each of three candidates is tried as the one would be that has a third of the errors."
    one, three = (
        choose_test(**facts, variants=variants, per_day=1e6, max_days=1e9) for variants in (2, 4)
    )
    assert three.days == 3 * one.days and three.n == 3 * one.n


def test_groups_without_interference_or_of_less_than_one_are_refused():
    for words, said in (
        (dict(group_size=3), "interference = False"),
        (dict(group_size=0.5, interference=True), "group_size = 0.5"),
        (dict(alike=1.5), "alike = 1.5"),
    ):
        with pytest.raises(ValueError, match=said):
            choose_test(**words)


def test_more_visitors_never_make_a_test_longer():
    for case in CASES:
        if case["per_day"] > 1000:
            continue
        slow, fast = (
            choose_test(**{**case, "per_day": v}, max_days=1e9) for v in (500.0, 50_000.0)
        )
        assert slow.method == fast.method and fast.days <= slow.days


@pytest.mark.parametrize(
    "looks, power, pocock, obrien",
    [
        (2, 0.8, 1.110, 1.008),
        (3, 0.8, 1.166, 1.017),
        (5, 0.8, 1.229, 1.028),
        (10, 0.8, 1.301, 1.040),
        (20, 0.8, 1.363, 1.047),
        (2, 0.9, 1.100, 1.007),
        (5, 0.9, 1.207, 1.026),
        (10, 0.9, 1.271, 1.037),
        (15, 0.9, 1.305, 1.042),
        (20, 0.9, 1.327, 1.045),
    ],
)
def test_inflation_agrees_with_the_published_tables(looks, power, pocock, obrien):
    assert (inflation(looks, power=power, kind="pocock"), inflation(looks, power=power)) == (
        pytest.approx((pocock, obrien), abs=6e-4)
    )


@pytest.mark.parametrize("alpha, power", [(0.05, 0.8), (0.05, 0.1), (0.5, 0.6), (1e-4, 0.999)])
def test_inflation_is_at_least_one_and_counts_the_right_direction_only(alpha, power):
    assert inflation(1, alpha, power) == 1
    for kind in ("pocock", "obrien-fleming"):
        sizes = [inflation(k, alpha, power, kind) for k in (1, 2, 3, 6)]
        assert sizes == sorted(sizes)
        bounds = group_sequential(6, alpha, kind)
        for drift in (0.0, 0.3, 1.2):
            right, wrong = (choosing._wins(bounds, d) for d in (drift, -drift))
            assert right + wrong == pytest.approx(crossing(bounds, drift).sum(), abs=1e-9)
            assert right >= wrong - 1e-12


def test_the_size_for_two_hundred_looks_has_its_power():
    bounds, size = group_sequential(200), inflation(200)
    drift = (stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) * (size / 200) ** 0.5
    right, wrong = (choosing._wins(bounds, d) for d in (drift, -drift))
    assert right == pytest.approx(0.8, abs=1e-9)
    assert right + wrong == pytest.approx(crossing(bounds, drift).sum(), abs=1e-9)
    assert inflation(100) < size < 1.06


@pytest.mark.parametrize("most", [1, 20, 30])
def test_no_method_is_chosen_that_takes_longer_than_anybody_waits_for(most):
    for case in CASES:
        c, patient = choose_test(**case, max_days=most), choose_test(**case, max_days=1e9)
        assert c.days <= most
        assert (c.method == "offline only") == (patient.days > most)
        if patient.days > most:
            assert c.reason.startswith(f"{patient.method} would take {patient.days:,} days")
    assert "unbiased" not in choose_test().reason and "overstates" in choose_test().reason


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(
        [
            "per_day",
            "group_size",
            "alike",
            "delay_days",
            "variants",
            "effect",
            "max_days",
            "sensitivity",
            "baseline",
            "alpha",
            "power",
        ]
    ),
    st.sampled_from([-1, math.nan, math.inf, None, "many", True]),
)
def test_what_is_no_answer_is_refused_in_words(name, value):
    with pytest.raises(ValueError, match=re.escape(repr(value))) as e:
        choose_test(**{name: value})
    assert name in str(e.value)
