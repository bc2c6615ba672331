"""Properties of the genre models that the pages do not show: what a feature may know, what an
interval covers, how a reloaded model goes on learning."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score
from trending_now.catalogue import labels, load_films, replay_weeks
from trending_now.genres import (
    FilmFeatures,
    GenreBooster,
    check_seal,
    evaluate,
    prequential,
    seal,
    tune_thresholds,
)


@pytest.fixture(scope="module")
def films():
    return load_films()


@pytest.fixture(scope="module")
def recent(films):
    return films.tail(800).reset_index(drop=True)


def booster(**kw):
    return GenreBooster(**{"features": "v2", "trees": 4, **kw})


def same(a, b):
    return a.shape == b.shape and a.nnz == b.nnz and (a != b).nnz == 0


def reloaded(model, folder):
    model.save(folder)
    return GenreBooster.load(folder)


@pytest.mark.parametrize("seed", range(3))
def test_features_do_not_depend_on_the_order_of_observing(films, seed):
    rng = np.random.default_rng(seed)
    some = films.iloc[rng.choice(len(films), 900, replace=False)]
    mixed = some.iloc[rng.permutation(len(some))]
    features = FilmFeatures()
    for part in np.array_split(np.arange(len(mixed)), 4):
        features.observe(mixed.iloc[part], labels(mixed.iloc[part]))
    assert same(
        features.transform(some), FilmFeatures().observe(some, labels(some)).transform(some)
    )


def test_features_hold_neither_the_film_itself_nor_films_of_its_day(recent):
    one_day = recent.assign(arrived=recent.arrived.iloc[0])
    assert same(
        FilmFeatures().observe(one_day, labels(one_day)).transform(one_day),
        FilmFeatures().transform(one_day),
    )


def test_features_match_a_count_by_hand(films):
    his = films[films.directors.map(lambda d: "Woody Allen" in d)]
    some = his[his.directors.map(len) == 1]
    dense = FilmFeatures().observe(films, labels(films)).transform(some).toarray()
    start = FilmFeatures("v1").transform(some).shape[1]
    before = [(his.arrived < day).sum() for day in some.arrived]
    assert before[-1] > 30
    np.testing.assert_allclose(np.expm1(dense[:, start + 12]), before, atol=1e-3)


def test_observing_twice_changes_nothing(recent):
    once = FilmFeatures().observe(recent, labels(recent))
    n, twice = len(once.log.entries()[0]), pd.concat([recent, recent])
    assert len(once.observe(recent, 1 - labels(recent)).log.entries()[0]) == n
    assert len(FilmFeatures().observe(twice, labels(twice)).log.entries()[0]) == n


@pytest.mark.parametrize("seed", range(10))
def test_f1_of_rare_and_absent_genres_agrees_with_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    y = (rng.random((rng.integers(1, 60), 12)) < rng.random(12) * 0.6).astype(int)
    p = rng.random(y.shape)
    s = evaluate(y, p, thresholds=0.6, n_boot=10)
    assert s.macro_f1 == pytest.approx(f1_score(y, p >= 0.6, average="macro", zero_division=0))
    np.testing.assert_allclose(s.per_genre.f1, f1_score(y, p >= 0.6, average=None, zero_division=0))


def test_intervals_cover_the_true_f1_about_as_often_as_they_say():
    rng, share = np.random.default_rng(7), np.linspace(0.2, 0.5, 12)

    def draw(n):
        y = (rng.random((n, 12)) < share).astype(int)
        return y, np.clip(0.25 + 0.3 * y + rng.normal(0, 0.2, y.shape), 0, 1)

    truth = evaluate(*draw(200_000), n_boot=2).micro_f1
    bounds = [evaluate(*draw(300), n_boot=200).intervals["micro_f1"] for _ in range(200)]
    covered = sum(low <= truth <= high for low, high in bounds)
    assert (
        covered >= 178
    )  # fewer than 178 of 200 has a probability below 1e-3 where the rate is 95%


def test_slices_score_the_films_they_name(recent):
    y = labels(recent)
    p = np.random.default_rng(7).random(y.shape)
    s = evaluate(y, p, recent, n_boot=20).slices
    row = s[(s["slice"] == "language") & (s.value == "English")].iloc[0]
    english = recent.languages.map(lambda l: l[:1] == ["English"]).to_numpy()
    assert row.films == english.sum()
    assert row.micro_f1 == pytest.approx(f1_score(y[english], p[english] >= 0.33, average="micro"))


def test_another_seed_gives_another_model(recent):
    a, b = (booster(seed=s).fit(recent, labels(recent)).predict_proba(recent) for s in (7, 8))
    assert (a != b).any()


def test_a_reloaded_model_goes_on_learning_as_the_one_in_memory(recent, tmp_path):
    y = labels(recent)
    model = booster().fit(recent, y)
    copy = reloaded(model, tmp_path / "m").partial_fit(recent, y)
    np.testing.assert_array_equal(
        copy.predict_proba(recent), model.partial_fit(recent, y).predict_proba(recent)
    )


def test_a_model_can_be_reloaded_beside_features_that_are_shared(recent, tmp_path):
    model = booster().fit(recent, labels(recent))
    model.save(tmp_path / "m")
    beside = GenreBooster.load(tmp_path / "m", model.features)
    assert beside.features is model.features
    np.testing.assert_array_equal(beside.predict_proba(recent), model.predict_proba(recent))
    with pytest.raises(ValueError, match="features of version v1: .* reads v"):
        GenreBooster.load(tmp_path / "m", FilmFeatures("v1"))


def test_no_films_have_no_probabilities_and_are_no_error(recent):
    none = booster().fit(recent, labels(recent)).predict_proba(recent.head(0))
    assert none.shape == (0, 12)


def test_trees_appended_after_reloading_see_other_columns_each_time(recent, tmp_path):
    y, share = labels(recent), 0.005
    model = booster(features="v1", trees=1, colsample=share).fit(recent, y)
    for k in range(8):
        model = reloaded(model, tmp_path / str(k)).partial_fit(recent, y, trees=1)
    used = set(model.model.trees_to_dataframe().Feature) - {"Leaf"}
    assert (
        len(used) > share * model.features.transform(recent).shape[1]
    )  # more than one draw of columns can give


def test_thresholds_survive_saving(recent, tmp_path):
    model = booster().fit(recent, labels(recent))
    model.thresholds = np.linspace(0.2, 0.4, 12)
    np.testing.assert_array_equal(
        reloaded(model, tmp_path / "m").predict(recent), model.predict(recent)
    )


def test_a_seal_notices_a_new_file_and_a_missing_seal(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(FileNotFoundError, match="checksums.json"):
        check_seal(tmp_path)
    seal(tmp_path)
    check_seal(tmp_path)
    (tmp_path / "b.txt").write_text("b")
    with pytest.raises(ValueError, match="b.txt was not there"):
        check_seal(tmp_path)


@pytest.mark.parametrize("value", [0, 1])
def test_a_window_where_a_genre_is_in_no_film_or_in_all_works(recent, value):
    window = recent.head(60)
    y = labels(window)
    y[:, 6] = value
    p = booster(trees=20).fit(window, y).partial_fit(window, y).predict_proba(recent)
    assert np.isfinite(p).all() and ((p > 0) & (p < 1)).all()
    assert abs(p[:, 6] - value).max() < 0.5


def test_credit_profiles_beat_the_film_alone_on_films_to_come(films):
    old, new = (
        films[films.arrived.between("2000", "2010", inclusive="left")],
        list(replay_weeks(films, "2010-01", 12)),
    )
    v1, v2 = (
        evaluate(*prequential(GenreBooster(v, trees=40).fit(old, labels(old)), new, labels)[::-1])
        for v in ("v1", "v2")
    )
    assert v2.intervals["micro_f1"][0] > v1.intervals["micro_f1"][1]


def test_thresholds_fit_the_films_they_were_tuned_on():
    rng = np.random.default_rng(7)
    y = (rng.random((3000, 12)) < 0.15).astype(int)
    p = np.clip(0.12 + 0.12 * y + rng.normal(0, 0.05, y.shape), 0, 1)
    assert (
        evaluate(y, p, thresholds=tune_thresholds(y, p), n_boot=2).macro_f1
        > evaluate(y, p, n_boot=2).macro_f1 + 0.2
    )
    assert np.isfinite(tune_thresholds(np.zeros((5, 12)), np.full((5, 12), 0.4))).all()


REFUSALS = {
    "'v9'": lambda f, y: FilmFeatures("v9"),
    "labels have shape": lambda f, y: FilmFeatures("v1").observe(f, y[:, :3]),
    "no films": lambda f, y: GenreBooster().fit(f.head(0), y[:0]),
    "labels hold 2: expected 0 or 1": lambda f, y: GenreBooster().fit(f, y * 2),
    "labels hold nan": lambda f, y: GenreBooster().fit(f, y * np.nan),
    "call fit first": lambda f, y: GenreBooster().predict(f),
    "has not been fitted": lambda f, y: GenreBooster().save("unused"),
    "a probability is 2.0": lambda f, y: evaluate(y, y * 2.0),
    "3 films for 800 rows": lambda f, y: evaluate(y, y, f.head(3)),
    "thresholds have shape": lambda f, y: evaluate(y, y, thresholds=np.ones(5)),
    "a probability is nan": lambda f, y: tune_thresholds(y, y * np.nan),
}


@pytest.mark.parametrize("words", REFUSALS)
def test_bad_input_is_refused_in_words(recent, words):
    with pytest.raises(ValueError, match=words):
        REFUSALS[words](recent, labels(recent))
