"""The loop as processes: killed, resumed, locked."""
import hashlib, json, os, random, signal, subprocess, sys, time
from pathlib import Path
import pytest

ENV = {**os.environ, "TRENDING_NOW_GENRES_TREES": "6", "TRENDING_NOW_LOOP_ALL_HISTORY_EVERY": "3", "TRENDING_NOW_DINERS_VISITORS": "300"}


def cli(*args, **env):
    return [sys.executable, "-m", "trending_now.cli", *map(str, args)], {**ENV, **env}


def state(folder):
    "SHA-256 of every file that must not depend on when or how often the process was killed."
    skip = {".lock", "report.html"}
    files = (p for p in sorted(Path(folder).rglob("*")) if p.is_file() and p.name not in skip and p.parent.name != "costs")
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def run_to_the_end(ws, weeks=5):
    args, env = cli("run", "--weeks", weeks, "--workspace", ws)
    return subprocess.run(args, env=env, capture_output=True, text=True, timeout=200)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    ws = tmp_path_factory.mktemp("whole") / "ws"
    begun = time.time()
    done = run_to_the_end(ws)
    assert done.returncode == 0, done.stderr
    return state(ws), time.time() - begun


@pytest.mark.parametrize("seed", [1, 2])
def test_a_run_killed_at_random_moments_ends_in_the_same_state(tmp_path, uninterrupted, seed):
    want, seconds = uninterrupted
    rng, kills = random.Random(seed), 0
    args, env = cli("run", "--weeks", 5, "--workspace", tmp_path / "ws")
    for _ in range(3):
        p = subprocess.Popen(args, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(rng.uniform(.15, .6) * seconds / (1 + kills))
        kills += p.poll() is None
        p.send_signal(signal.SIGKILL)
        p.wait()
    done = run_to_the_end(tmp_path / "ws")
    assert done.returncode == 0, done.stderr
    assert kills > 0, "no process was killed before it ended: the test has tested nothing"
    assert state(tmp_path / "ws") == want


def test_a_half_written_version_is_thrown_away(tmp_path, uninterrupted):
    ws = tmp_path / "ws"
    assert run_to_the_end(ws, 1).returncode == 0
    (ws / "models" / "tmp-weekly-0001").mkdir()
    (ws / "models" / "tmp-weekly-0001" / "model.ubj").write_text("half")
    assert run_to_the_end(ws).returncode == 0
    assert state(ws) == uninterrupted[0]


def test_the_command_says_what_is_wrong_and_exits_with_its_code(tmp_path):
    args, env = cli("run", "--workspace", tmp_path, TRENDING_NOW_LOOP_WINDOW_WEEKS="0")
    done = subprocess.run(args, env=env, capture_output=True, text=True)
    assert done.returncode == 2 and "TRENDING_NOW_LOOP_WINDOW_WEEKS = '0': expected a whole number from 1 to 84" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_report_needs_nothing_from_elsewhere(tmp_path):
    assert run_to_the_end(tmp_path / "ws", 2).returncode == 0
    page = (tmp_path / "ws" / "report.html").read_text()
    assert page.count("<svg") == 2 and not any(f'{a}="http' in page for a in ("src", "href"))


@pytest.mark.parametrize("module", ["catalogue", "settings", "claims", "diners", "cli"])
def test_a_light_module_loads_no_heavy_library(module):
    code = f"import sys, trending_now.{module}; print([m for m in ('xgboost', 'torch', 'transformers', 'wandb', 'dvc', 'airflow') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_every_claim_in_the_ledger_is_recorded_by_its_chapter():
    root = Path(__file__).parents[1]
    for path in (root / "nbs" / "claims").glob("*.json"):
        source = (root / "nbs" / f"{path.stem}.ipynb").read_text()
        for claim in json.loads(path.read_text()):
            assert claim["id"] in source, f"{claim['id']} is in {path.name}, but no cell of the chapter records it"
