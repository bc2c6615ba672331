"""The public names that other code calls: where each is found, in which order it takes its
arguments, and with which defaults."""

import importlib, inspect
import pytest

NAMES = {
    "settings": ["load"],
    "catalogue": ["GENRES", "load_films", "replay_weeks(films, start, weeks)"],
    "genres": ["FilmFeatures(version)", "GenreBooster", "GenreBert", "evaluate(labels, proba)"],
    "diners": ["Diners(n, seed, settings)"],
    "triggers": [
        "psi(ref, cur, bins=10)",
        "ks(ref, cur)",
        "chi2(ref, cur)",
        "js(ref, cur, bins=10)",
        "Drift(statistic, p_value, drifted)",
        "psi_shares(expected, actual, floor=0.0001)",
        "js_shares(p, q, base=2)",
        "classifier_drift(ref, cur)",
        "ScheduleTrigger(cron)",
        "VolumeTrigger(min_new)",
        "PerformanceTrigger(metric, floor=None, drop=None, patience=1)",
        "DriftTrigger(test, threshold, features)",
        "ManualTrigger",
        "AnyOf(*triggers)",
        "Firing(trigger, reason, value, threshold, at)",
        "freshness_value",
        "best_interval",
    ],
    "curation": [
        "LatestWindow(weeks)",
        "AllHistory",
        "RecentPlusSample(weeks, sample)",
        "random_sample",
        "stratified_sample",
        "uncertainty_sample(proba, n, by='entropy')",
        "diverse_sample(embeddings, n)",
        "curate(films, window, sampler=None, rng=None)",
        "Lineage",
    ],
    "retraining": [
        "Stateless(window)",
        "Stateful(replay)",
        "Hybrid(full_every)",
        "compare(strategies, weeks)",
        "forgetting",
    ],
    "ab": [
        "sample_size_proportions(p1, p2, alpha=0.05, power=0.8, ratio=1.0, two_sided=True)",
        "sample_size_means(effect, sd, alpha=0.05, power=0.8, ratio=1.0, two_sided=True)",
        "power_proportions(p1, p2, n)",
        "duration_days(n_per_arm, arms, units_per_day, share=1.0)",
        "hash_unit(seed, unit)",
        "assign(unit, experiment, weights, coverage=1.0)",
        "assign_many(units, experiment, weights, coverage=1.0)",
        "srm(counts, weights=None)",
        "compare_proportions(successes, totals, alpha=0.05)",
        "compare_means(control, treatment, alpha=0.05)",
        "compare_means_from_stats(means, sds, ns, alpha=0.05)",
        "compare_ratios(num_c, den_c, num_t, den_t, alpha=0.05)",
        "Comparison(difference, relative, low, high, p_value, statistic, df)",
        "non_inferior(comparison, margin)",
        "cuped(y, x)",
        "always_valid(difference, se, n, alpha=0.05, tuning_n=5000)",
        "Sequence(low, high, p_value)",
        "group_sequential(looks, alpha=0.05, kind='obrien-fleming', two_sided=True)",
        "bayes_proportions(successes, totals, prior=(1, 1))",
        "BayesResult(prob_better, expected_loss, low, high)",
        "Experiment",
        "analyse(experiment, events)",
        "Report",
    ],
    "rollouts": ["choose_test"],
    "interleaving": [
        "team_draft(a, b, k, rng)",
        "balanced(a, b, k, rng)",
        "probabilistic(a, b, k, rng, tau=3.0)",
        "Interleaved(items, teams)",
        "credit(interleaved, clicks)",
        "preference(wins_a, wins_b, ties)",
        "Preference(delta, p_value, low, high)",
    ],
    "bandits": [
        "EpsilonGreedy(arms, epsilon)",
        "UCB1(arms)",
        "Thompson(arms, prior=(1, 1))",
        "LinUCB(arms, dim, alpha)",
        "LinThompson(arms, dim, v)",
        "simulate(policy, world, steps)",
        "ips(rewards, logged, target)",
        "snips(rewards, logged, target)",
        "direct(v_target)",
        "doubly_robust(rewards, logged, target, q_logged, v_target)",
        "Estimate(value, se, low, high)",
        "replay(rewards, logged_actions, policy_actions)",
    ],
    "loop": ["run(workspace, settings, weeks)", "STEPS", "run_step(name, workspace, week)"],
}
WANTED = [(module, name) for module, names in NAMES.items() for name in names]


@pytest.mark.parametrize("module, wanted", WANTED, ids=lambda x: x.partition("(")[0])
def test_a_public_name_is_where_it_is_promised_with_the_arguments_in_order(module, wanted):
    name, _, arguments = wanted.partition("(")
    have = getattr(importlib.import_module(f"trending_now.{module}"), name)
    if not arguments:
        return
    shown = [p for p in inspect.signature(have).parameters.values() if p.kind is not p.VAR_KEYWORD]
    promised = inspect.signature(eval(f"lambda {arguments[:-1]}: 0")).parameters.values()
    assert [p.name for p in shown][: len(promised)] == [p.name for p in promised]
    for is_now, was in zip(shown, promised):
        if was.default is not was.empty:
            assert is_now.default == was.default


@pytest.mark.parametrize("policy", ["EpsilonGreedy", "UCB1", "Thompson", "LinUCB", "LinThompson"])
def test_every_policy_has_the_same_verbs(policy):
    have = getattr(importlib.import_module("trending_now.bandits"), policy)
    assert all(callable(getattr(have, verb)) for verb in ("pick", "see", "pick_many", "see_many"))
