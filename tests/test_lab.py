"""The pages in a real JupyterLab: pictures before anybody has trusted them, labels of what is
folded, files that reading leaves alone; and every cell under Run all."""

import os, re, shutil, socket, subprocess, sys, time, urllib.request
from pathlib import Path

import nbformat
import pytest
from conftest import ROOT
from nbclient import NotebookClient
from notebooks import load, notebooks, source

PAGE = "3_testing/10_mismatch.ipynb"
TOKEN = "for-this-test"


def git(*args, cwd):
    who = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    done = subprocess.run(["git", *who, *args], cwd=cwd, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    "A small project under git with one page."
    folder = tmp_path_factory.mktemp("book")
    for name in (".gitignore", "pyproject.toml", f"nbs/{PAGE}", "tools/lab_config.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    git("init", "-q", cwd=folder)
    git("add", "-A", cwd=folder)
    git("commit", "-qm", "all", cwd=folder)
    return folder


@pytest.fixture(scope="module")
def lab(book, tmp_path_factory):
    "The address of a JupyterLab, as `make lab` starts it, for somebody who has trusted nothing."
    home = tmp_path_factory.mktemp("home")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    named = {f"JUPYTER_{n}_DIR": str(home / n) for n in ("CONFIG", "DATA", "RUNTIME")}
    env = os.environ | named | {"PYTHONPATH": str(ROOT), "HOME": str(home)}
    argv = [sys.executable, "-m", "jupyterlab", "--config=tools/lab_config.py", "--no-browser"]
    argv += [f"--ServerApp.port={port}", f"--IdentityProvider.token={TOKEN}", "--allow-root"]
    argv += ["--LabApp.news_url=None", "--LabApp.check_for_updates_class="
             "jupyterlab.NeverCheckForUpdate"]
    log = open(home / "log", "w")
    process = subprocess.Popen(argv, cwd=book, env=env, stdout=log, stderr=log)
    url = f"http://127.0.0.1:{port}/lab/tree/nbs/{PAGE}?token={TOKEN}"
    until = time.monotonic() + 240
    while time.monotonic() < until and process.poll() is None:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/api?token={TOKEN}", timeout=5)
            break
        except OSError: time.sleep(.5)
    else: raise AssertionError((home / "log").read_text()[-3000:])
    yield url
    process.terminate()
    process.wait(60)


@pytest.fixture(scope="module")
def opened(lab, browser):
    "The page in JupyterLab, its kernel at rest."
    context = browser.new_context(viewport={"width": 1440, "height": 1000})
    page = context.new_page()
    page.set_default_timeout(240_000)
    page.goto(lab)
    page.wait_for_selector(".jp-Notebook .jp-Cell")
    page.wait_for_selector('.jp-Notebook-ExecutionIndicator[data-status="idle"]', state="attached")
    yield page
    context.close()


def see(page, selector):
    "Scroll through the notebook until something is there: only what is near the screen is drawn."
    pane = page.locator(".jp-WindowedPanel-outer")
    for top in range(0, 60_000, 500):
        pane.evaluate(f"e => {{ e.scrollTop = {top} }}")
        page.wait_for_timeout(150)
        if page.locator(selector).count(): return page.locator(selector).first
    raise AssertionError(f"nothing on the page matches {selector}")


def test_a_picture_is_seen_before_anybody_has_trusted_the_page(opened):
    picture = see(opened, '.jp-OutputArea-output img[src^="data:image/png"]')
    picture.wait_for(state="visible")
    assert picture.evaluate("i => i.naturalWidth > 600 && i.width < i.naturalWidth")


def test_a_folded_cell_says_what_is_in_it(opened):
    assert see(opened, '.jp-InputPlaceholder:has-text("Imports of the page")').is_visible()
    assert see(opened, '.jp-InputPlaceholder:has-text("Show one solution")').is_visible()


def test_opening_and_saving_a_page_changes_no_file(opened, book):
    assert opened.locator(".lm-TabBar-tab.jp-mod-dirty").count() == 0
    opened.locator(".jp-Notebook").first.click(position={"x": 5, "y": 5})
    opened.keyboard.press("Control+s")
    opened.wait_for_timeout(3000)
    assert opened.locator(".jp-Dialog").count() == 0
    assert git("status", "--porcelain", "--", "nbs", cwd=book) == ""


LEFT_OUT = re.compile(r"(?m)^#\| *(eval: *false|notest|slow|live)")


@pytest.mark.parametrize("page", notebooks(ROOT), ids=lambda p: p.stem)
def test_no_cell_is_left_out_where_jupyter_would_run_it(page):
    cells = [c for c in load(page)["cells"] if c["cell_type"] == "code"]
    assert [c["id"] for c in cells if LEFT_OUT.search(source(c))] == []


@pytest.mark.parametrize(
    "name", ["1_service/16_lab", "3_testing/10_mismatch", "2_retraining/09_windows"])
def test_run_all_in_a_kernel_goes_to_the_end_and_writes_nothing(name):
    path = Path(ROOT, "nbs", f"{name}.ipynb")
    page = nbformat.read(path, as_version=4)
    before = {p: p.stat().st_mtime_ns for p in (ROOT / "nbs").rglob("*") if p.is_file()}
    NotebookClient(page, timeout=600, resources={"metadata": {"path": path.parent}}).execute()
    stubs = [c for c in page.cells if c.cell_type == "code" and "# yours" in c.source]
    told = ["".join(o.get("data", {}).get("text/plain", "") for o in c.outputs) for c in stubs]
    assert stubs and all(words.startswith("Write ") for words in told)
    kept = {p: at for p, at in before.items() if "claims" not in p.parts}
    assert {p for p, at in kept.items() if p.stat().st_mtime_ns != at} == set()
