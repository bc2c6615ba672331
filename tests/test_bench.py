"bench/: rows that agree before they are timed, runs that resume, a page that is what was measured."

import importlib, json, subprocess, sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BENCH = ROOT / "bench"
sys.path.append(str(BENCH))  # last: no library may find these files first

run, parts, results = (importlib.import_module(name) for name in ("run", "parts", "results"))

# Whole processes, or minutes of work: their sides run in the bench alone
SLOW = {"a page from cached predictions", "trending-now run", "the course"}
IMPORTS = "import trending_now."
ROWS = [(family, row) for family, row in run.all_rows()
        if row.name not in SLOW and not row.name.startswith(IMPORTS)]
MADE_UP = '''
from parts import Row, Side, close

TITLE, ABOUT = "Made up", "Nothing real."


def make(folder, numbers):
    if (folder.parent.parent / "stop").exists(): raise KeyboardInterrupt
    (folder / "numbers.txt").write_text(" ".join(map(str, range(numbers))))


def make_more(folder, numbers):
    make(folder, numbers)


def total(extra=0):
    def prepare(folder):
        def work():
            with open(folder.parent.parent / "calls.txt", "a") as calls: calls.write(f"{extra}\\n")
            return sum(map(int, (folder / "numbers.txt").read_text().split())) + extra
        return work
    return Side(prepare, numbers=lambda sum: {"sum": sum})


def broken(folder):
    raise OSError("no such library")


SIZE = {"numbers": 10}
ROWS = (
    Row("right", "ten numbers", make, SIZE, SIZE, total(), {"theirs": total()}, total(),
        "the sum"),
    Row("wrong", "ten numbers", make_more, SIZE, SIZE, total(),
        {"off by one": total(1), "right": total(), "broken": Side(broken)}),
)
'''


@pytest.fixture
def made_up(tmp_path, monkeypatch):
    "A case of two rows in a folder of its own, which is also where inputs go."
    (tmp_path / "cases").mkdir()
    (tmp_path / "cases" / "made_up.py").write_text(MADE_UP)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(run, "FAMILIES", ("made_up",))
    monkeypatch.setattr(run, "INPUTS", tmp_path / "inputs")
    monkeypatch.setattr(run, "code_of", lambda: "the same")
    monkeypatch.setattr(run, "ENOUGH", 0.)
    run.source_of.cache_clear()
    yield tmp_path
    sys.modules.pop("cases.made_up", None)


def rows_of(found): return {row["row"]: row["sides"] for row in found["rows"]}


def calls(folder, extra): return (folder / "calls.txt").read_text().split().count(str(extra))


# ------------------------------------------------------------ the cases

def test_the_page_is_what_was_measured():
    found = json.loads((BENCH / "results.json").read_text(encoding="utf-8"))
    assert (BENCH / "results.md").read_text(encoding="utf-8") == results.rendered(found)


def test_every_measured_row_is_one_of_the_cases():
    found = json.loads((BENCH / "results.json").read_text(encoding="utf-8"))
    known = {(family, row.name) for family, row in run.all_rows()}
    assert {(row["family"], row["row"]) for row in found["rows"]} <= known


def test_every_case_loads_without_any_library():
    code = (f"import sys, importlib; sys.path.insert(0, {str(BENCH)!r})\n"
            f"for family in {run.FAMILIES!r}: importlib.import_module('cases.' + family)")
    subprocess.run([sys.executable, "-S", "-I", "-c", code], check=True, timeout=60)


def test_names_of_rows_and_environments_are_clear():
    for family in run.FAMILIES:
        names = [row.name for row in run.case_of(family).ROWS]
        assert len(set(names)) == len(names)
        assert not any("/" in name for name in names)
    for _, row in run.all_rows():
        for side in row.sides.values():
            pins = BENCH / "environments" / f"{side.environment}.txt"
            assert side.environment == "ours" or pins.exists()


def test_environments_are_pinned():
    for pins in (BENCH / "environments").glob("*.txt"):
        for line in pins.read_text().splitlines(): assert line.count("==") == 1, (pins.name, line)


@pytest.mark.parametrize(("family", "row"), ROWS, ids=[f"{f}-{row.name}" for f, row in ROWS])
def test_the_sides_that_need_no_peer_agree(family, row, tmp_path):
    row.make(tmp_path, **row.small)
    sides = {name: side for name, side in row.sides.items() if side.environment == "ours"}
    said = {name: side.numbers(parts.once(side.prepare(tmp_path))) for name, side in sides.items()}
    json.dumps(said)
    for name, side in sides.items():
        bare = name == "limit" and not set(said[name]) & set(said["ours"])
        if name == "ours" or bare: continue
        assert (side.agree or row.agree)(said["ours"], said[name]) == ""


# ------------------------------------------------------------ the command

def test_a_wrong_result_is_refused_before_it_is_timed(made_up):
    found = run.run(run.all_rows(), 3, False, made_up / "results.json")
    sides = rows_of(found)["wrong"]
    assert sides["off by one"] == {
        "state": "differs", "note": "sum: 45 beside 46 at place 0", "seconds": []}
    assert calls(made_up, 1) == 1  # shown once, never timed
    assert sides["broken"]["state"] == "failed" and "no such library" in sides["broken"]["note"]
    assert len(sides["right"]["seconds"]) == len(sides["ours"]["seconds"]) == 3
    page = (made_up / "results.md").read_text()
    assert "off by one: **differs**" in page and "broken: **failed**" in page
    assert len(run.wrong(found, run.all_rows())) == 2


def test_a_side_that_fails_when_it_is_timed_is_said_so(made_up, monkeypatch):
    def refuse(worker): raise run.Failed("Traceback\nValueError: no such page")
    monkeypatch.setattr(run.Worker, "seconds", refuse)
    found = run.run(run.all_rows()[:1], 2, False, made_up / "results.json")
    assert rows_of(found)["right"]["ours"] == {
        "state": "failed", "note": "ValueError: no such page", "seconds": []}
    assert run.wrong(found, run.all_rows())


def test_the_exit_status_says_whether_all_was_equal(made_up, capsys):
    where = ["--results", str(made_up / "results.json"), "--repeats", "1"]
    assert run.main(["--only", "made_up/right", *where]) == 0
    assert run.main(where) == 1
    assert "made_up/wrong, off by one: differs" in capsys.readouterr().out


def test_an_interrupted_run_goes_on_where_it_stopped(made_up):
    path, rows = made_up / "results.json", run.all_rows()
    (made_up / "stop").touch()
    with pytest.raises(KeyboardInterrupt): run.run(rows, 2, False, path)
    assert not path.exists()
    (made_up / "stop").unlink()
    run.run(rows[:1], 2, False, path)  # as far as it came
    before = json.loads(path.read_text())["rows"][0], calls(made_up, 0)
    found = run.run(rows, 2, False, path)
    assert found["rows"][0] == before[0] and [r["row"] for r in found["rows"]] == ["right", "wrong"]
    assert calls(made_up, 0) == before[1] + 2 * 3  # ours and right, of the second row alone


def test_rows_are_measured_again_for_another_code_or_when_asked(made_up, monkeypatch):
    path, rows = made_up / "results.json", run.all_rows()[:1]
    run.run(rows, 1, False, path)
    once_measured = calls(made_up, 0)
    run.run(rows, 1, False, path)
    assert calls(made_up, 0) == once_measured
    run.run(rows, 1, True, path)
    assert calls(made_up, 0) == 2 * once_measured
    monkeypatch.setattr(run, "code_of", lambda: "another")
    run.run(rows, 1, False, path)
    assert calls(made_up, 0) == 3 * once_measured


def test_short_rows_are_timed_up_to_three_times_as_often(made_up, monkeypatch):
    monkeypatch.setattr(run, "ENOUGH", 600.)
    found = run.run(run.all_rows()[:1], 2, False, made_up / "results.json")
    assert {len(side["seconds"]) for side in rows_of(found)["right"].values()} == {6}


def test_an_environment_that_cannot_be_built_is_said_so(made_up, monkeypatch):
    def refuse(name): raise run.NotBuilt(f"environment {name}: no matching distribution")
    monkeypatch.setattr(run, "build", refuse)
    found = run.run(run.all_rows()[:1], 1, False, made_up / "results.json")
    side = rows_of(found)["right"]["ours"]
    assert side["state"] == "not installed" and "no matching distribution" in side["note"]


def test_a_row_that_is_not_there_is_refused(capsys):
    with pytest.raises(SystemExit) as left: run.main(["--only", "abc"])
    assert left.value.code == 2 and "expected a family or FAMILY/ROW" in capsys.readouterr().err


def test_results_of_another_machine_are_left_behind(tmp_path, monkeypatch):
    other = {"machine": {"cores": 64}, "versions": {}, "families": {}, "rows": [{}]}
    path = tmp_path / "results.json"
    path.write_text(json.dumps(other))
    assert run.opened(path)["rows"] == []


def test_ratios_are_of_pairs():
    assert results.ratios([2., 9.], [1., 3.]) == [2., 3.]
    assert results.spread([3., 1., 2.]) == "1 / 2 / 3" and results.spread([]) == "-"
