#!/usr/bin/env python
"""Write nbs/reference.ipynb: every public name with a sentence, an import, an example and the page
that teaches it; and nbs/glossary.ipynb from nbs/glossary.yml."""

import argparse, ast, builtins, doctest, importlib, inspect, json, re, sys, textwrap
from functools import cache
from pathlib import Path
from types import ModuleType

import yaml
from trending_now.show import first_sentence

from notebooks import PACKAGE, ROOT, load, page_name, pages, path_in_book, notebooks, source

# In the order of the course. A family is a package with a facade; the others are single modules
FAMILIES = (
    "genres diners triggers curation retraining ab rollouts interleaving bandits policies prompts "
    "platform app feedback registry loop delivery dags scale"
).split()
MODULES = "catalogue settings claims checks show lab cli".split()
REFERENCE = """\
# Reference

> Find a function by its name: what it does, how to import it, an example where it can be shown \
in a few lines, and the page that teaches it.

Written from the package itself: {names} public names in {families} families and {modules} \
modules. Every example is run by the tests. `help(name)` says more: each argument with its unit, \
what comes back, and which errors are raised. Where a function draws by chance, `rng` is a NumPy \
generator or a seed; a default of `None` is fresh chance, or what the argument's comment says."""
GLOSSARY = """\
# Glossary

> What a word means here, in one or two sentences, and the page that explains it."""


# ---------------------------------------------------------------- what the package says


def homes(root) -> dict[str, str]:
    "{module: notebook that exports it}, from the `#| default_exp` of each page."
    found = {}
    for path in notebooks(root):
        for cell in load(path)["cells"]:
            if name := re.match(r"#\| default_exp ([\w.]+)", source(cell)):
                found[f"{PACKAGE}.{name[1]}"] = path_in_book(root, path)
    return found


@cache
def title(root, place: str) -> str:
    "The H1 of a page."
    return re.match(r"# (.+)", source(load(Path(root, "nbs", place))["cells"][0]))[1]


def signature(thing) -> str:
    "The arguments with their defaults as they are written, without types; '' where there are none."
    made = vars(thing).get("__init__") if inspect.isclass(thing) else thing
    try: tree = ast.parse(textwrap.dedent(inspect.getsource(made)))
    except (OSError, TypeError, SyntaxError): return of_fields(thing)
    given = next(node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)).args
    for arg in ast.walk(given):
        if isinstance(arg, ast.arg): arg.annotation = None
    words = ast.unparse(given)
    return f"({re.sub(r'^self(, )?', '', words)})" if inspect.isclass(thing) else f"({words})"


def of_fields(thing) -> str:
    "The arguments of a class whose `__init__` nobody wrote, such as a dataclass."
    try: found = inspect.signature(thing).parameters.values()
    except (TypeError, ValueError): return ""
    bare = [p.replace(annotation=inspect.Parameter.empty) for p in found]
    words = str(inspect.Signature(bare))
    return "(...)" if " at 0x" in words or str(ROOT) in words or sys.prefix in words else words


def verbs(thing) -> list[str]:
    "The public methods of a class, those that it inherits from this package included."
    if not inspect.isclass(thing): return []
    own = [c for c in thing.__mro__ if c.__module__.startswith(PACKAGE)]
    names = dict.fromkeys(n for c in own for n, f in vars(c).items() if not n.startswith("_")
                          and (inspect.isroutine(f) or isinstance(f, (classmethod, staticmethod))))
    return [*names]


def example(thing) -> str:
    "The example of a docstring as code that can be copied, each result in a comment; or ''."
    lines = []
    for one in doctest.DocTestParser().get_examples(inspect.getdoc(thing) or ""):
        lines.append(one.source.rstrip("\n"))
        lines += [f"# {line}" for line in one.want.rstrip("\n").split("\n") if line]
    return "\n".join(lines)


def needed(code: str) -> list[str]:
    "The names that code uses and neither makes nor imports, in the order in which they come."
    names = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)]
    made = {node.id for node in names if not isinstance(node.ctx, ast.Load)} | set(dir(builtins))
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)): made.add(node.name)
        if isinstance(node, ast.arg): made.add(node.arg)
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            made |= {alias.asname or alias.name.split(".")[0] for alias in node.names}
    names.sort(key=lambda node: (node.lineno, node.col_offset))
    return [n for n in dict.fromkeys(node.id for node in names) if n not in made]


def by_family(code: str, family: str) -> str:
    "The same code with its imports from modules of the family turned into imports of the family."
    names = importlib.import_module(f"{PACKAGE}.{family}").__all__
    lines = []
    for line in code.split("\n"):
        found = re.match(rf"from {PACKAGE}\.{family}\.\w+ import ([\w, ]+)$", line)
        if found and set(found[1].split(", ")) <= set(names):
            line = f"from {PACKAGE}.{family} import {found[1]}"
        lines.append(line)
    return "\n".join(lines)


def imports(family: str, name: str, code: str, of) -> list[str]:
    "The import of a name from its family, and of what else its example takes from its module."
    facade = importlib.import_module(f"{PACKAGE}.{family}")
    known = vars(sys.modules[of.__module__]) if hasattr(of, "__module__") else {}
    whole, own, others = [], {name}, []
    for other in needed(code):
        thing = known.get(other)
        if isinstance(thing, ModuleType):
            short = thing.__name__ if thing.__name__ == other else f"{thing.__name__} as {other}"
            whole.append(f"import {short}")
        elif other in facade.__all__: own.add(other)
        elif other in known:
            others.append(f"from {home_of(other, thing, of)} import {other}")
    if re.search(rf"(?m)^from {PACKAGE}.*import.*\b{name}\b", code): own.discard(name)
    mine = [f"from {PACKAGE}.{family} import {', '.join(sorted(own))}"] if own else []
    return [*sorted(whole), *mine, *sorted(others)]


def home_of(name: str, thing, of) -> str:
    "The module of the package in which a name is public; for what has none, where it was used."
    for module in (getattr(thing, "__module__", ""), of.__module__):
        if name in getattr(sys.modules.get(module), "__all__", ()): return module
    for module, loaded in sorted(sys.modules.items()):
        if module.startswith(PACKAGE) and name in getattr(loaded, "__all__", ()): return module
    return getattr(thing, "__module__", of.__module__)


def maker(name: str, things: dict):
    "The function that returns a class of this name and has an example; None if there is none."
    for thing in things.values():
        returned = getattr(thing, "__annotations__", {}).get("return")
        returned = getattr(returned, "__name__", returned)
        if not inspect.isclass(thing) and returned == name and example(thing): return thing
    return None


# ---------------------------------------------------------------- what is written


def entry(family: str, name: str, things: dict, page: tuple) -> str:
    "The Markdown of one name."
    thing = things[name]
    lines = [f"### {family}.{name}", ""]
    words = first_sentence(thing)
    if callable(thing): lines.append(f"`{name}{signature(thing)}`  \n{words}. ")
    else: lines.append(f"A constant: `{words.removeprefix('constant: ')}`. ")
    if methods := verbs(thing):
        lines[-1] += "Verbs: " + ", ".join(f"`.{verb}`" for verb in methods) + ". "
    lines[-1] += f"Taught on [{page[0]}]({page[1]})."
    of = thing if not inspect.isclass(thing) or example(thing) else maker(name, things)
    shown = by_family(example(of), family) if callable(of) else ""
    code = [*imports(family, name, shown, of), *shown.split("\n")]
    return "\n".join([*lines, "", "```python", *filter(None, code), "```"])


def group(root, family: str, where: dict) -> str:
    "The Markdown of one family or module: a title, what it is for, and its names."
    module = importlib.import_module(f"{PACKAGE}.{family}")
    things = {name: getattr(module, name) for name in module.__all__}
    things = dict(sorted(things.items(), key=lambda item: not callable(item[1])))
    intro = inspect.getdoc(module).split("\n\n")[0]
    lines = [f"## {family}", "", " ".join(intro.split())]
    here = where.get(module.__name__) or where[f"{module.__name__}.__init__"]
    for name, thing in things.items():
        place = where.get(getattr(thing, "__module__", ""), here)
        lines += ["", entry(family, name, things, (title(root, place), place))]
    return "\n".join(lines)


def reference(root) -> list[str]:
    "The texts of the cells of the reference."
    where = homes(root)
    names = sum(len(importlib.import_module(f"{PACKAGE}.{f}").__all__) for f in FAMILIES + MODULES)
    told = REFERENCE.format(names=names, families=len(FAMILIES), modules=len(MODULES))
    title, intro = told.rsplit("\n\n", 1)
    groups = [group(root, family, where) for family in FAMILIES + MODULES]
    return ["---\ntoc-depth: 2\n---", title, intro, *groups]


def glossary(root) -> list[str]:
    "The texts of the cells of the glossary."
    terms = yaml.safe_load(Path(root, "nbs", "glossary.yml").read_text(encoding="utf-8"))
    places = {page_name(Path(place)).removesuffix(".html"): place for place in pages(root)}
    cells = [GLOSSARY]
    for term in sorted(terms, key=str.lower):
        said, page = terms[term]["is"], terms[term]["page"]
        if page not in places: raise ValueError(f"{term}: there is no page {page!r}")
        link = f"[{title(root, places[page])}]({places[page]})"
        cells.append(f"## {term}\n\n{said.strip()} Explained on {link}.")
    return cells


def notebook(texts: list[str]) -> str:
    "A notebook of Markdown cells; a first text with a front matter becomes a raw cell."
    cells = []
    for at, text in enumerate(texts):
        kind = "raw" if text.startswith("---\n") else "markdown"
        lines = text.splitlines(True)
        cells.append({"cell_type": kind, "id": f"cell-{at}", "metadata": {}, "source": lines})
    kernel = {"display_name": "python3", "language": "python", "name": "python3"}
    book = {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(book, ensure_ascii=False, indent=1, sort_keys=True) + "\n"


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=ROOT, help="the project's folder")
    root = parser.parse_args(argv).root.resolve()
    for name, texts in (("reference", reference(root)), ("glossary", glossary(root))):
        (root / "nbs" / f"{name}.ipynb").write_text(notebook(texts), encoding="utf-8")
    return 0


if __name__ == "__main__": sys.exit(main())
