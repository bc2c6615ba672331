"""Genre models across processes, and properties over random films."""

import json, subprocess, sys
import numpy as np
import pytest
from sklearn.metrics import f1_score
from trending_now.catalogue import labels, load_films
from trending_now.genres import FilmFeatures, GenreBooster, evaluate, seal


@pytest.fixture(scope="module")
def films():
    return load_films().tail(1500).reset_index(drop=True)


@pytest.mark.parametrize("seed", range(5))
def test_features_do_not_change_when_later_films_are_observed(films, seed):
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(films))[:600]
    a, b = films.iloc[order[:300]], films.iloc[order[300:]]
    day = films.arrived.iloc[order].sort_values().iloc[300]
    early, late = a[a.arrived < day], b[b.arrived >= day]
    f = FilmFeatures("v2").observe(early, labels(early))
    before = f.transform(early)
    f.observe(late, labels(late)).observe(late, labels(late))
    assert (before != f.transform(early)).nnz == 0 and before.nnz == f.transform(early).nnz


def test_a_saved_model_predicts_the_same_in_another_process(films, tmp_path):
    m = GenreBooster("v2", trees=8).fit(films[:1000], labels(films[:1000]))
    m.save(tmp_path / "m")
    np.save(tmp_path / "p.npy", m.predict_proba(films[1000:]))
    code = (
        "import sys, numpy as np; from trending_now.catalogue import load_films; from "
        "trending_now.genres import GenreBooster\n"
        "d = sys.argv[1]; p = GenreBooster.load(d + "
        "'/m').predict_proba(load_films().tail(1500).reset_index(drop=True)[1000:])\n"
        "assert np.array_equal(p, np.load(d + '/p.npy'))"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, timeout=600)


@pytest.mark.parametrize("name", ["model.ubj", "features.npz", "config.json"])
def test_a_damaged_or_missing_file_is_refused_by_name(films, tmp_path, name):
    GenreBooster("v2", trees=2).fit(films[:200], labels(films[:200])).save(tmp_path / "m")
    path = tmp_path / "m" / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=f"{name} has changed"):
        GenreBooster.load(tmp_path / "m")
    path.unlink()
    with pytest.raises(ValueError, match=f"{name} is missing"):
        GenreBooster.load(tmp_path / "m")


def test_scores_agree_with_scikit_learn():
    rng = np.random.default_rng(3)
    for _ in range(20):
        y, p = rng.integers(0, 2, (50, 12)), rng.random((50, 12))
        s = evaluate(y, p, thresholds=0.6, n_boot=10)
        assert s.micro_f1 == pytest.approx(f1_score(y, p >= 0.6, average="micro"))
        assert s.macro_f1 == pytest.approx(f1_score(y, p >= 0.6, average="macro", zero_division=0))


@pytest.mark.parametrize(
    "change, words",
    [
        (dict(leaves=3), r"config.json was written by .*: it lacks \[\] and has \['leaves'\]"),
        (dict(depth=None), r"config.json was written by .*: it lacks \['depth'\] and has \[\]"),
        (dict(thresholds=None), "it lacks .'thresholds'."),
        (dict(features=None), "it lacks .'features'."),
        (dict(kind=None), "holds a None: expected a GenreBooster"),
        (dict(kind="GenreForest"), "holds a GenreForest: expected a GenreBooster"),
    ],
)
def test_a_model_that_another_release_saved_is_refused_in_words(films, tmp_path, change, words):
    GenreBooster("v2", trees=2).fit(films[:200], labels(films[:200])).save(tmp_path / "m")
    path = tmp_path / "m" / "config.json"
    config = json.loads(path.read_text()) | change
    path.write_text(json.dumps({name: v for name, v in config.items() if v is not None}))
    seal(tmp_path / "m")
    with pytest.raises(ValueError, match=words):
        GenreBooster.load(tmp_path / "m")


def test_features_that_another_release_saved_are_refused_in_words(films, tmp_path):
    GenreBooster("v2", trees=2).fit(films[:200], labels(films[:200])).save(tmp_path / "m")
    np.savez(tmp_path / "m" / "features.npz", key=[], day=[], genres=[])
    seal(tmp_path / "m")
    with pytest.raises(ValueError, match="features.npz was written by .*: it lacks .'seen'."):
        GenreBooster.load(tmp_path / "m")
