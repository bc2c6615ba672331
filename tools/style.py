#!/usr/bin/env python
"""Check how the code reads: ruff (its rules stand in pyproject.toml) over notebooks, tools, tests,
bench and the package, and lines of the package that are too long."""

import argparse, ast, sys
from pathlib import Path

from notebooks import PACKAGE, ROOT, call, command

FOLDERS = ("nbs", "tools", "tests", "bench", PACKAGE)
COLUMNS = 100


def ruff(root, shown: str = "concise") -> list[str]:
    "What ruff finds, a line for each; 'statistics' counts by rule instead."
    folders = [f for f in FOLDERS if Path(root, f).is_dir()]
    how = ["--statistics"] if shown == "statistics" else ["--output-format", shown]
    done = call([command("ruff"), "check", "--quiet", *how, *folders], root)
    if done.returncode > 1: raise RuntimeError(done.stderr)
    return done.stdout.splitlines()


def by_nbdev(text: str) -> set[int]:
    "Numbers of the lines that nbdev writes by itself: the module's docstring and `__all__`."
    body = ast.parse(text).body
    is_all = lambda n: isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "__all__"
    docstring = body[:1] if ast.get_docstring(ast.parse(text)) else []
    own = docstring + [n for n in body if is_all(n)]
    return {line for n in own for line in range(n.lineno, n.end_lineno + 1)}


def long_lines(root) -> list[str]:
    "A line for each line of the package that is too long and comes from a notebook."
    found = []
    for path in sorted(Path(root, PACKAGE).rglob("*.py")):
        if path.name == "_modidx.py": continue
        text = path.read_text(encoding="utf-8")
        own = by_nbdev(text)
        found += [
            f"{path.relative_to(root)}:{n}: {len(line)} columns, more than {COLUMNS}"
            for n, line in enumerate(text.splitlines(), 1)
            if len(line) > COLUMNS and n not in own]
    return found


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="Exit status: 0 nothing found, 1 something (each on a line).")
    add = parser.add_argument
    add("--root", type=Path, default=ROOT, help="the project's folder (default: this one)")
    add("--statistics", action="store_true", help="count what is found by rule")
    args = parser.parse_args(argv)
    root = args.root.resolve()
    found, long = ruff(root, "statistics" if args.statistics else "concise"), long_lines(root)
    if args.statistics and long: long = [f"{len(long)} lines of {PACKAGE}/ are too long"]
    print("\n".join(found + long) or "style: nothing found")
    return int(bool(found or long))


if __name__ == "__main__": sys.exit(main())
