"The data pipeline with the real DVC, in a copy of the project."

import os, shutil, subprocess, sys
from pathlib import Path

import pandas as pd
import pytest
from conftest import ROOT
from trending_now.catalogue import load_films

BUILT = shutil.ignore_patterns("cache", "tmp", "__pycache__", "*.parquet", "weeks", "config.local")
TRACKED = ("dvc.yaml", "dvc.lock", ".dvcignore", "settings.ini", "pyproject.toml")


def sh(cwd, *args):
    "What a command says; it must succeed."
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "DVC_NO_ANALYTICS": "1", "PATH": path, "PYTHONPATH": str(cwd)}
    done = subprocess.run(args, cwd=cwd, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def clone(tmp_path):
    "What a clone of the project holds of the pipeline: no data yet."
    new = tmp_path / "a clone"
    new.mkdir()
    for name in ("trending_now", ".dvc", "data"):
        shutil.copytree(ROOT / name, new / name, ignore=BUILT)
    for name in TRACKED:
        shutil.copy(ROOT / name, new / name)
    sh(new, "git", "init", "-q")
    return new


def turn(clone, old, new):
    "Change a line of the settings."
    path = clone / "settings.ini"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_repro_gives_the_recorded_data_and_a_remote_gives_it_back(clone, tmp_path):
    sh(clone, "dvc", "repro", "-q")
    recorded = (ROOT / "dvc.lock").read_text()
    stale = "dvc.lock is out of date: run dvc repro and commit it"
    assert (clone / "dvc.lock").read_text() == recorded, stale
    for name in ("source.json", "replay.json"):
        assert (clone / "data" / name).read_text() == (ROOT / "data" / name).read_text(), stale
    films = load_films(clone / "data" / "films.parquet")
    pd.testing.assert_frame_equal(films, load_films())
    sh(clone, "dvc", "remote", "add", "--local", "-d", "store", str(tmp_path / "store"))
    sh(clone, "dvc", "push", "-q")
    shutil.rmtree(clone / "data" / "weeks")
    shutil.rmtree(clone / ".dvc" / "cache")
    sh(clone, "dvc", "pull", "-q")
    assert (clone / "data" / "weeks" / "week-0000.parquet").exists()


def test_only_the_replay_section_of_the_settings_makes_the_weeks_out_of_date(clone):
    lock = clone / "dvc.lock"
    sh(clone, "dvc", "repro", "-q")
    before = lock.read_text()

    turn(clone, "\ntrees = 60\n", "\ntrees = 61\n")
    assert "Stage 'weeks' didn't change, skipping" in sh(clone, "dvc", "repro")
    assert lock.read_text() == before
    assert "up to date" in sh(clone, "dvc", "status", "weeks")

    turn(clone, "\nmonths_per_week = 3\n", "\nmonths_per_week = 6\n")
    sh(clone, "dvc", "repro", "-q", "clock")
    assert "data/replay.json" in sh(clone, "dvc", "status", "weeks")
    sh(clone, "dvc", "repro", "-q")
    assert lock.read_text() != before
    assert len(list((clone / "data" / "weeks").glob("week-*.parquet"))) == 40
