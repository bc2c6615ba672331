"Fixtures that several test files share: the project's folder, the tools in tools/, the built site, and a small project to build."

import json, os, shutil, subprocess, sys
from pathlib import Path

import hypothesis
import pytest

# The same examples in every run, so that a change fails by its own doing; HYPOTHESIS_PROFILE=default explores others
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))


def tool(name, *args, root=ROOT):
    "Run a script of tools/ on a project; the finished process, its output as text."
    env = {k: v for k, v in os.environ.items() if k not in ("IN_TEST", "PYTHONPATH")}
    return subprocess.run([sys.executable, str(ROOT / "tools" / name), "--root", str(root), *map(str, args)], cwd=root, env=env, capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="session")
def site():
    "The folder of the built docs site; built here if it is missing or not from the present files."
    done = tool("build_docs.py", "--if-stale")
    assert done.returncode == 0, done.stderr
    return ROOT / "_docs"


def markdown(text): return {"cell_type": "markdown", "id": f"m{abs(hash(text)) % 10**8}", "metadata": {}, "source": text}


def code(text, *outputs): return {"cell_type": "code", "id": f"c{abs(hash(text)) % 10**8}", "metadata": {}, "source": text, "outputs": list(outputs), "execution_count": None}


def write_notebook(path, *cells):
    "Write a notebook of cells made by `markdown` and `code`."
    nb = {"cells": list(cells), "metadata": {"kernelspec": {"display_name": "python3", "language": "python", "name": "python3"}}, "nbformat": 4, "nbformat_minor": 5}
    path.write_text(json.dumps(nb, indent=1) + "\n")


@pytest.fixture
def project(tmp_path):
    "A project of two notebooks, in a folder with a space in its name, with this project's look."
    root = tmp_path / "a folder with spaces"
    (root / "nbs").mkdir(parents=True)
    (root / "pyproject.toml").write_text('[project]\nname = "small"\nversion = "1"\n[tool.nbdev]\ntitle = "Small"\n')
    for name in ("_quarto.yml", "nbs/styles.css", "nbs/favicon.svg"): shutil.copy(ROOT / name, root / name)
    (root / "nbs/_quarto.yml").symlink_to("../_quarto.yml")
    write_notebook(root / "nbs/index.ipynb", markdown("# Small\n\n> A page.\n"), markdown("See [the other](00_other.ipynb#A-part-of-it)."))
    write_notebook(root / "nbs/00_other.ipynb", markdown("# Other\n\n> Another page."), markdown("## A part of it\n\nText."))
    return root
