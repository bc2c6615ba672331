"""Strategies side by side, the facts about XGBoost that they rest on, and runs that resume to the
bit."""

import subprocess, sys
from dataclasses import dataclass
import numpy as np
import pytest
import xgboost as xgb
from trending_now.retraining.trees import QuickBooster, refresh_leaves
from trending_now.catalogue import before, labels, load_films, replay_weeks
from trending_now.genres import FilmFeatures, GenreBooster
from trending_now.retraining import Frozen, Hybrid, Stateful, Stateless, compare, forgetting
from trending_now.settings import stream


@pytest.fixture(scope="module")
def films():
    return load_films()


@pytest.fixture(scope="module")
def past(films):
    return before(films, "2008-01").tail(600).reset_index(drop=True)


@pytest.fixture(scope="module")
def weeks(films):
    return list(replay_weeks(films, "2008-01", 4))


@pytest.fixture
def model(past):
    return GenreBooster("v1", trees=8, depth=3).fit(past, labels(past))


@dataclass(frozen=True)
class Spy:
    "A strategy that notes what it was shown."

    seen: list

    def update(self, model, history, week, rng):
        self.seen.append(
            (week.number, history.arrived.max(), week.films.arrived.min(), week.films.arrived.max())
        )
        return model


def test_a_strategy_is_never_shown_a_film_of_a_later_week(past, weeks, model):
    spy = Spy([])
    compare({"spy": spy}, weeks, model=model, history=past)
    assert [n for n, *_ in spy.seen] == [0, 1, 2, 3]
    for n, old, first, last in spy.seen:
        assert old < first and last < weeks[n].date + np.timedelta64(31, "D")


def test_every_strategy_predicts_a_week_before_it_learns_it(past, weeks, model):
    t = compare(
        {"never": Frozen(), "full": Stateless()}, weeks, model=model, history=past
    ).set_index(["strategy", "week"])
    assert t.micro_f1["never", 0] == t.micro_f1["full", 0]


def test_the_same_seed_gives_the_same_table(past, weeks, model):
    once, again = (
        compare({"s": Stateful(50)}, weeks, model=model, history=past, seed=3).drop(
            columns=["cpu_seconds", "cpu_features", "cpu_predict"]
        )
        for _ in range(2)
    )
    assert once.equals(again)


def test_an_update_leaves_the_old_model_as_it_was(past, weeks, model):
    was = model.model.save_raw("ubj")
    for s in (Stateless(), Stateful(20), Hybrid(2)):
        s.update(model, past, weeks[0], stream(7, "u"))
    assert model.model.save_raw("ubj") == was


def test_a_hybrid_starts_again_when_its_time_has_come(past, weeks, model):
    t = compare({"h": Hybrid(2)}, weeks, model=model, history=past).set_index("week")
    assert t.trees.tolist() == [9, 8, 9, 8] and t.updates.tolist() == [1, 1, 2, 1]


def test_appending_to_a_slice_gives_the_bytes_of_xgboosts_own_continuation(past):
    shared = FilmFeatures("v1")
    quick, slow = (
        kind(shared, trees=6, depth=3).fit(past, labels(past))
        for kind in (QuickBooster, GenreBooster)
    )
    new = past.tail(60)
    for m in (quick, slow):
        m.partial_fit(new, labels(new), 2)
    assert (
        np.array_equal(quick.predict_proba(past), slow.predict_proba(past))
        and quick.model.num_boosted_rounds() == 8
    )


def test_refreshing_with_fewer_rounds_shrinks_a_booster_in_silence_and_ours_refuses(past, model):
    data = xgb.DMatrix(model.features.transform(past), labels(past))
    params = dict(
        objective="binary:logistic",
        process_type="update",
        updater="refresh",
        refresh_leaf=True,
        nthread=1,
    )
    assert xgb.train(params, data, 3, xgb_model=model.model).num_boosted_rounds() == 3
    with pytest.raises(ValueError, match="rounds = 3"):
        refresh_leaves(model.model, data, rounds=3)
    assert refresh_leaves(model.model, data).num_boosted_rounds() == 8


def test_forgetting_is_the_drop_from_the_best_and_transfer_the_change_since_learning():
    R = [[0.8, np.nan], [0.9, 0.5], [0.6, 0.7]]
    f = forgetting(R)
    assert (
        f.per_task == pytest.approx((0.3, -0.2))
        and f.forgetting == pytest.approx(0.05)
        and f.backward_transfer == pytest.approx(((0.6 - 0.8) + (0.7 - 0.5)) / 2)
    )
    with pytest.raises(ValueError, match="expected"):
        forgetting([[0.5]])


CODE = """
import sys
from trending_now.genres.bert import GenreBert
from trending_now.retraining.finetune import FineTune, resume
from trending_now.catalogue import labels, load_films
films = load_films().tail(24).reset_index(drop=True)
y = labels(films)
model = GenreBert(epochs=1, top_layers=1, max_tokens=12, threads=1).fit(films, y)
run = FineTune(model, films, y, epochs=2)
how, folder = sys.argv[1:]
if how == 'straight': run.run().save(folder)
if how == 'first': run.run(1); run.save(folder)
if how == 'second': resume(folder, films, y).run().save(folder + '-done')
"""


def test_a_run_that_goes_on_in_another_process_ends_with_the_same_bytes(tmp_path):
    for how, folder in (("straight", "a"), ("first", "b"), ("second", "b")):
        subprocess.run(
            [sys.executable, "-c", CODE, how, str(tmp_path / folder)],
            check=True,
            capture_output=True,
            timeout=600,
        )
    assert (tmp_path / "a" / "model.safetensors").read_bytes() == (
        tmp_path / "b-done" / "model.safetensors"
    ).read_bytes()
