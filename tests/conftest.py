"""Fixtures that several test files share: the project's folder, the tools in tools/, the built
site, and a small project to build."""

import gc, json, os, shutil, subprocess, sys
from pathlib import Path

import hypothesis
import pytest
from filelock import FileLock

# The same examples in every run, so that a change fails by its own doing;
# HYPOTHESIS_PROFILE=default explores others
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

SMALL = '[project]\nname = "small"\nversion = "1"\n[tool.nbdev]\ntitle = "Small"\n'
KERNEL = {"display_name": "python3", "language": "python", "name": "python3"}


# What takes longest begins first, so that both workers end at about the same time
LONGEST = [
    "test_docs.py",
    "test_dags.py",
    "test_loop.py",
    "test_triggers.py",
    "test_generated.py",
    "test_prompts.py",
    "test_delivery.py",
    "test_app.py",
    "test_platform.py",
    "test_run_pages.py",
]


def pytest_collection_modifyitems(items):
    "Files in the order of LONGEST, then the others as they come."
    rank = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.name, len(LONGEST)))


def pytest_collection_finish(session):
    "Thousands of tests stay as they are: whoever collects garbage need not look at them again."
    gc.collect()
    gc.freeze()


def tool(name, *args, root=ROOT):
    "Run a script of tools/ on a project; the finished process, its output as text."
    script = str(ROOT / "tools" / name)
    env = {k: v for k, v in os.environ.items() if k not in ("IN_TEST", "PYTHONPATH")}
    return subprocess.run(
        [sys.executable, script, "--root", str(root), *map(str, args)],
        cwd=root,
        env=env,
        capture_output=True,
        text=True,
        timeout=900,
    )


@pytest.fixture(scope="session")
def writing():
    "A lock for what writes into the project's folder, and what must find it undisturbed."
    folder = ROOT / ".stamps"
    folder.mkdir(exist_ok=True)
    return FileLock(folder / "writing.lock", timeout=900)


@pytest.fixture(scope="session")
def site(writing):
    "The folder of the built docs site; built here, by one worker, if it is not current."
    with writing:
        done = tool("build_docs.py", "--if-stale")
    assert done.returncode == 0, done.stderr
    return ROOT / "_docs"


FLAGS = [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
INSTALL = (
    "Chromium is missing. Install it (`apt-get install chromium`, or `python -m playwright "
    "install chromium`) or name it in the variable CHROMIUM."
)


def chromium(playwright):
    "The path of a Chromium, or None."
    own = playwright.chromium.executable_path
    found = [
        os.environ.get("CHROMIUM"),
        *(shutil.which(n) for n in ("chromium", "chromium-browser", "google-chrome")),
        own,
    ]
    return next((p for p in found if p and os.path.exists(p)), None)


@pytest.fixture(scope="session")
def browser():
    "A running Chromium; a failure, not a skip, where there is none."
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = chromium(playwright)
        if path is None:
            pytest.fail(INSTALL, pytrace=False)
        flags = FLAGS + (["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else [])
        running = playwright.chromium.launch(executable_path=path, args=flags)
        yield running
        running.close()


def markdown(text):
    "A Markdown cell."
    return {
        "cell_type": "markdown",
        "id": f"m{abs(hash(text)) % 10**8}",
        "metadata": {},
        "source": text,
    }


def code(text, *outputs):
    "A code cell with its outputs."
    return {
        "cell_type": "code",
        "id": f"c{abs(hash(text)) % 10**8}",
        "metadata": {},
        "source": text,
        "outputs": list(outputs),
        "execution_count": None,
    }


def write_notebook(path, *cells):
    "Write a notebook of cells made by `markdown` and `code`."
    nb = {
        "cells": list(cells),
        "metadata": {"kernelspec": KERNEL},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    path.write_text(json.dumps(nb, indent=1) + "\n")


@pytest.fixture
def project(tmp_path):
    "A project of two notebooks, in a folder with a space in its name, with this project's look."
    root = tmp_path / "a folder with spaces"
    nbs = root / "nbs"
    nbs.mkdir(parents=True)
    (root / "pyproject.toml").write_text(SMALL)
    for name in ("_quarto.yml", "nbs/styles.css", "nbs/favicon.svg"):
        shutil.copy(ROOT / name, root / name)
    (nbs / "_quarto.yml").symlink_to("../_quarto.yml")
    link = "See [the other](00_other.ipynb#A-part-of-it)."
    write_notebook(nbs / "index.ipynb", markdown("# Small\n\n> A page.\n"), markdown(link))
    part = "## A part of it\n\nText."
    write_notebook(nbs / "00_other.ipynb", markdown("# Other\n\n> Another page."), markdown(part))
    return root
