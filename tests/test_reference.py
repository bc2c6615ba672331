"""The reference has every public name once, with an import and an example that stand by themselves;
the glossary is linked both ways."""

import ast, importlib, inspect, re, subprocess, sys

import pytest
import yaml
from conftest import ROOT
from notebooks import PACKAGE, load, notebooks, source

import reference

TEXT = "\n".join(source(c) for c in load(ROOT / "nbs/reference.ipynb")["cells"])
ENTRIES = dict(re.findall(r"(?ms)^### (\S+)\n(.*?)(?=^### |^## |\Z)", TEXT))
# What others import: each function and class has an example
FOR_OTHERS = (
    "genres diners triggers curation retraining ab rollouts interleaving bandits policies prompts "
    "platform feedback registry catalogue claims checks show lab"
).split()


# What cannot be shown without a server, an account or a model that the extras bring
NEEDS_MORE = {
    "prompts.model_file", "prompts.vibe_similarity", "platform.LocalPostgres", "registry.track_run"}


def code_of(name):
    return re.search(r"(?s)```python\n(.*?)```", ENTRIES[name])[1]


def test_every_public_name_has_one_entry():
    families = reference.FAMILIES + reference.MODULES
    modules = {f: importlib.import_module(f"{PACKAGE}.{f}") for f in families}
    assert set(ENTRIES) == {f"{f}.{name}" for f, m in modules.items() for name in m.__all__}
    tops = {p.stem if p.is_file() else p.name for p in (ROOT / PACKAGE).iterdir()}
    assert set(families) == {t for t in tops if not t.startswith("_") and t != "dags_files"}


@pytest.mark.parametrize("family", FOR_OTHERS)
def test_what_others_import_has_an_example(family):
    module = importlib.import_module(f"{PACKAGE}.{family}")
    called = [f"{family}.{n}" for n in module.__all__ if callable(getattr(module, n))]
    short = {n for n in called if len(code_of(n).splitlines()) < 2}
    assert short - NEEDS_MORE == set()


def test_an_example_needs_nothing_but_its_own_imports(tmp_path):
    for name in ENTRIES: (tmp_path / f"{name.replace('.', '-')}.py").write_text(code_of(name))
    ruff = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F821,E9", tmp_path]
    done = subprocess.run(ruff, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]


def test_the_imports_of_all_examples_work():
    lines = {line for name in ENTRIES for line in code_of(name).splitlines()
             if re.match(r"(from|import) ", line)}
    exec("\n".join(sorted(lines)), {})


def test_every_entry_says_what_the_name_is_and_help_of_srm_what_it_returns():
    for name in ENTRIES:
        family, _, own = name.partition(".")
        thing = getattr(importlib.import_module(f"{PACKAGE}.{family}"), own)
        assert not callable(thing) or inspect.getdoc(thing), name
    said = {name: ENTRIES[name].split("```")[0] for name in ENTRIES}
    assert min(map(len, said.values())) > 30
    assert "p-value" in inspect.getdoc(importlib.import_module(f"{PACKAGE}.ab").srm)


TERMS = yaml.safe_load((ROOT / "nbs/glossary.yml").read_text())


@pytest.mark.parametrize("term", TERMS)
def test_a_word_of_the_glossary_is_linked_where_it_is_explained(term):
    anchor = f"glossary.ipynb#{term.replace(' ', '-')})"
    page = next(p for p in notebooks(ROOT) if p.stem[3:] == TERMS[term]["page"])
    book = "\n".join(source(c) for c in load(page)["cells"] if c["cell_type"] == "markdown")
    assert anchor in book, f"{page.name} does not link to {anchor}"


def test_nothing_of_this_machine_stands_in_it():
    for sign in (" at 0x", "environ(", sys.prefix, str(ROOT)): assert sign not in TEXT


def test_what_an_example_needs_is_found():
    assert reference.needed("x = f(y)\nz = [a for a in x]") == ["f", "y"]
    assert reference.needed("import os\nos.sep, len(b)") == ["b"]
    assert ast.parse(code_of("ab.srm"))
