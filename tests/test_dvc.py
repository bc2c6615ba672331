"""The data pipeline with the real DVC, in a copy of the project."""
import os, shutil, subprocess, sys
from pathlib import Path
import pandas as pd
import pytest
from trending_now.catalogue import load_films

ROOT = Path(__file__).parents[1]


def sh(cwd, *args):
    env = {**os.environ, "DVC_NO_ANALYTICS": "1", "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(args, cwd=cwd, env=env, check=True, capture_output=True, text=True, timeout=120).stdout


@pytest.fixture
def clone(tmp_path):
    new = tmp_path / "a clone"
    new.mkdir()
    for name in ("trending_now", ".dvc", "data"):
        shutil.copytree(ROOT / name, new / name, ignore=shutil.ignore_patterns("cache", "tmp", "__pycache__", "*.parquet", "weeks", "config.local"))
    for name in ("dvc.yaml", "dvc.lock", ".dvcignore", "settings.ini", "pyproject.toml"):
        shutil.copy(ROOT / name, new / name)
    sh(new, "git", "init", "-q")
    return new


def test_repro_gives_the_recorded_data_and_a_remote_gives_it_back(clone, tmp_path):
    sh(clone, "dvc", "repro", "-q")
    assert (clone / "dvc.lock").read_text() == (ROOT / "dvc.lock").read_text(), "dvc.lock is out of date: run dvc repro and commit it"
    pd.testing.assert_frame_equal(load_films(clone / "data" / "films.parquet"), load_films())
    sh(clone, "dvc", "remote", "add", "--local", "-d", "store", str(tmp_path / "store"))
    sh(clone, "dvc", "push", "-q")
    shutil.rmtree(clone / "data" / "weeks")
    shutil.rmtree(clone / ".dvc" / "cache")
    sh(clone, "dvc", "pull", "-q")
    assert (clone / "data" / "weeks" / "week-0000.parquet").exists()
