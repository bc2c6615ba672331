"""The loop as processes: killed, resumed, locked."""

import hashlib, json, os, random, signal, subprocess, sys, time
from pathlib import Path
from dataclasses import replace
import pandas as pd
import pytest
from trending_now.loop import report as reporting, steps as loop
from trending_now.catalogue import load_films, replay_weeks
from trending_now.claims import page_of
from trending_now.curation import Lineage
from trending_now.settings import GenresKnobs, LoopKnobs, ReplayKnobs, RetrainingKnobs, Settings
from trending_now.settings import TriggersKnobs

ENV = {
    **os.environ,
    "TRENDING_NOW_GENRES_TREES": "6",
    "TRENDING_NOW_LOOP_ALL_HISTORY_EVERY": "3",
    "TRENDING_NOW_DINERS_VISITORS": "300",
    "TRENDING_NOW_TRIGGERS_SCHEDULE": "0 0 * * 1",
    "TRENDING_NOW_TRIGGERS_COOLDOWN_WEEKS": "0",
    "TRENDING_NOW_RETRAINING_STRATEGY": "hybrid",
    "TRENDING_NOW_RETRAINING_FULL_EVERY": "4",
}


def cli(*args, **env):
    return [sys.executable, "-m", "trending_now.cli", *map(str, args)], {**ENV, **env}


def state(folder):
    "SHA-256 of every file that must not depend on when or how often the process was killed."
    skip = {".lock", "report.html"}
    files = (
        p
        for p in sorted(Path(folder).rglob("*"))
        if p.is_file() and p.name not in skip and p.parent.name != "costs"
    )
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files
    }


def run_to_the_end(ws, weeks=5):
    args, env = cli("run", "--weeks", weeks, "--workspace", ws)
    return subprocess.run(args, env=env, capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    ws = tmp_path_factory.mktemp("whole") / "ws"
    done = run_to_the_end(ws)
    assert done.returncode == 0, done.stderr
    return state(ws)


def count_files(folder):
    """Files below a folder that another process is writing to; folders that vanish meanwhile hold
    none."""
    return sum(len(names) for _, _, names in os.walk(folder))


def kill_when(args, env, ws, files):
    """Start the process, and kill it as soon as the workspace holds so many files; whether it was
    still running."""
    p = subprocess.Popen(args, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while p.poll() is None and count_files(ws) < files:
        time.sleep(0.005)
    running = p.poll() is None
    p.send_signal(signal.SIGKILL)
    p.wait()
    return running


@pytest.mark.parametrize("seed", [1, 2])
def test_a_run_killed_at_random_moments_ends_in_the_same_state(tmp_path, uninterrupted, seed):
    args, env = cli("run", "--weeks", 5, "--workspace", tmp_path / "ws")
    moments = sorted(random.Random(seed).sample(range(1, len(uninterrupted) - 5), 4))
    killed = [kill_when(args, env, tmp_path / "ws", n) for n in moments]
    assert sum(killed) >= 3, (
        "the processes ended before they were killed: the test has tested little"
    )
    done = run_to_the_end(tmp_path / "ws")
    assert done.returncode == 0, done.stderr
    assert state(tmp_path / "ws") == uninterrupted


def test_models_fitted_ahead_by_a_second_process_are_the_same_to_the_byte(tmp_path, monkeypatch):
    s = replace(
        Settings(),
        genres=GenresKnobs(trees=6),
        loop=LoopKnobs(all_history_every=2),
        retraining=RetrainingKnobs(full_every=4),
    )
    taken, fitted = [], loop._fitted_ahead
    monkeypatch.setattr(
        loop,
        "_fitted_ahead",
        lambda ws, name, week: (found := fitted(ws, name, week)) and (taken.append(name) or found),
    )
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    for ahead in (False, True):
        loop.run(tmp_path / str(ahead), s, weeks=7, progress=False, ahead=ahead)
    weekly = [name for name in taken if name.startswith("weekly")]
    assert weekly == [f"weekly-{week:04}" for week in (0, 1, 2, 3, 4, 6)]
    assert taken.count("all-0001") == taken.count("all-0005") == 1
    assert taken.count("all-0003") == 2, "the service stands on the booster of `all`"
    assert state(tmp_path / "True") == state(tmp_path / "False")


def test_a_second_process_that_has_died_is_not_waited_for(tmp_path, monkeypatch):
    s, start = (
        replace(Settings(), genres=GenresKnobs(trees=3), loop=LoopKnobs(all_history_every=84)),
        loop.Popen,
    )
    monkeypatch.setattr(
        loop, "Popen", lambda args, **kw: start([sys.executable, "-c", "raise SystemExit(1)"], **kw)
    )
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    assert loop.run(tmp_path, s, weeks=4, progress=False).retrained_weekly.all()


def test_a_half_written_version_is_thrown_away(tmp_path, uninterrupted):
    ws = tmp_path / "ws"
    assert run_to_the_end(ws, 1).returncode == 0
    (ws / "models" / "tmp-service-0001").mkdir()
    (ws / "models" / "tmp-service-0001" / "model.ubj").write_text("half")
    assert run_to_the_end(ws).returncode == 0
    assert state(ws) == uninterrupted


def test_the_command_says_what_is_wrong_and_exits_with_its_code(tmp_path):
    args, env = cli("run", "--workspace", tmp_path, TRENDING_NOW_LOOP_WINDOW_WEEKS="0")
    done = subprocess.run(args, env=env, capture_output=True, text=True)
    assert (
        done.returncode == 2
        and "TRENDING_NOW_LOOP_WINDOW_WEEKS = '0': expected a whole number from 1 to 1000"
        in done.stderr
    )
    assert "Traceback" not in done.stderr


def test_the_report_needs_nothing_from_elsewhere(tmp_path):
    assert run_to_the_end(tmp_path / "ws", 2).returncode == 0
    page = (tmp_path / "ws" / "report.html").read_text()
    assert page.count("<svg") == 3 and not any(f'{a}="http' in page for a in ("src", "href"))


def test_a_version_can_be_made_again_from_its_lineage_bit_for_bit(tmp_path):
    ws = tmp_path / "ws"
    assert run_to_the_end(ws, 3).returncode == 0
    for name in ("service-0002", "weekly-0002"):
        folder = ws / "models" / name
        lineage = Lineage.from_json((folder / "lineage.json").read_text())
        rows = lineage.verify(root=ws, features=loop._features(ws, 3)).films
        again = loop._fit(ws, 3, rows, lineage.parent, name.partition("-")[0])
        kept = loop._version(folder, again.features)
        assert (again.predict_proba(rows) == kept.predict_proba(rows)).all()
    assert (
        lineage.parent is None
        and Lineage.from_json((ws / "models" / "service-0002" / "lineage.json").read_text()).parent
        == "service-0001"
    )


def test_bad_rows_an_empty_week_and_a_flood_are_set_aside_and_the_loop_goes_on(
    tmp_path, monkeypatch
):
    films = load_films()
    month = lambda text: (
        (films.arrived >= f"{text}-01")
        & (films.arrived < pd.Timestamp(f"{text}-01") + pd.DateOffset(months=1))
    )
    new = films[month("2008-01")].reset_index(drop=True)
    broken = pd.concat(
        [
            new.iloc[[0]],
            new.iloc[[1]].assign(film_id="x1", runtime=99_999.0),
            new.iloc[[2]].assign(film_id="x2"),
        ],
        ignore_index=True,
    )
    broken.at[2, "genres"] = ["Drama", "Cooking"]
    again = new.iloc[[3]].assign(arrived=pd.Timestamp("2008-03-05"))
    flood = pd.concat([new.iloc[[4]]] * 50_000, ignore_index=True).assign(
        arrived=pd.Timestamp("2008-04-05"), film_id=[f"f{i}" for i in range(50_000)]
    )
    world = pd.concat(
        [films[~month("2008-02") & (films.arrived < "2008-06")], broken, again, flood],
        ignore_index=True,
    ).sort_values(["arrived", "film_id"], ignore_index=True)
    monkeypatch.setattr(loop, "_source", lambda: world)
    monkeypatch.setattr(
        loop, "_replayed", lambda start, months, weeks: list(replay_weeks(world, start, 5))
    )
    table = loop.run(
        tmp_path / "ws",
        replace(
            Settings(),
            replay=ReplayKnobs(start="2008-01", months_per_week=1),
            genres=GenresKnobs(trees=4),
            loop=LoopKnobs(all_history_every=3),
        ),
        weeks=5,
        progress=False,
    )
    assert table.films.tolist()[1] == 0 and table.films.sum() < 1000
    aside = loop.set_aside(tmp_path / "ws")
    why = {w: " ".join(r.reason) for w, r in aside.groupby("week")}
    assert all(
        word in why[0]
        for word in ("duplicate", "impossible runtime", "label outside the list: Cooking")
    )
    assert (
        "earlier week" in why[2]
        and "week held: 50050 films" in why[3]
        and (aside.week == 3).sum() >= 50_000
    )
    page = reporting.write_report(tmp_path / "ws").read_text()
    assert "impossible runtime" in page and "50,050" in page and len(page) < 3_000_000


def test_label_drift_is_a_trigger_and_waits_for_labels_that_are_late(tmp_path):
    on = TriggersKnobs(schedule="", drift="labels", drift_threshold=0.99)
    small = replace(Settings(), genres=GenresKnobs(trees=4), triggers=on)
    late = replace(small, replay=ReplayKnobs(label_weeks=2))
    for name, settings, fires in (("at once", small, [1, 1]), ("late", late, [0, 0])):
        loop.run(tmp_path / name, settings, weeks=2, progress=False)
        told = [
            json.loads((tmp_path / name / "weeks" / f"{w:04}" / "trigger.json").read_text())
            for w in range(2)
        ]
        assert [bool(t["fired"]) for t in told] == fires
        assert not fires[0] or "genres" in told[0]["fired"]["reason"]


def test_every_claim_in_the_ledger_is_recorded_by_its_page():
    root = Path(__file__).parents[1]
    for path in (root / "nbs" / "claims").glob("*.json"):
        source = (root / "nbs" / page_of(path.stem)).read_text()
        for claim in json.loads(path.read_text()):
            assert claim["id"] in source, (
                f"{claim['id']} is in {path.name}, but no cell of the page records it"
            )


def test_a_run_with_the_policy_layer_killed_and_resumed_ends_in_the_same_state(tmp_path):
    layer = {"TRENDING_NOW_POLICY_LAYER": "all", "TRENDING_NOW_POLICY_MIN_VIEWS": "100"}
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for ws, moments in ((whole, ()), (broken, (12, 24))):
        args, env = cli("run", "--weeks", 3, "--workspace", ws, **layer)
        for moment in moments:
            assert kill_when(args, env, ws, moment)
        assert (
            subprocess.run(args, env=env, capture_output=True, text=True, timeout=600).returncode
            == 0
        )
    assert state(broken) == state(whole)
    saved = [
        json.loads((whole / "weeks" / f"{w:04}" / "policy.json").read_text()) for w in range(3)
    ]
    assert [s["day"] for s in saved] == [7, 14, 21] and saved[0]["log"][0]["what"] == "moves"
    assert "What the policy layer did" in (whole / "report.html").read_text()
