#!/usr/bin/env python
"""What to run before a commit, in under a minute: generated files, style, the pages that have
changed, and the tests that import what has changed. `make test` runs everything."""

import argparse, ast, subprocess, sys, time
from pathlib import Path

from notebooks import PACKAGE, ROOT, changed_files, environment

# These build the whole site or copy the whole project: only `make test` runs them
LONG = ("test_docs.py", "test_generated.py")


def imported(text: str) -> set[str]:
    "Dotted names of all that Python code imports: modules, and names from modules."
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import): found |= {a.name for a in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{a.name}" for a in node.names}
    return found


def modules(files) -> set[str]:
    "Dotted names of the changed modules of the package, and plain names of changed tools."
    dotted = lambda f: f.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    own = {dotted(f) for f in files if f.startswith(f"{PACKAGE}/") and f.endswith(".py")}
    tools = {Path(f).stem for f in files if f.startswith("tools/") and f.endswith(".py")}
    return own - {PACKAGE, f"{PACKAGE}._modidx"} | tools


def uses(text: str, changed: set[str]) -> bool:
    "Whether Python code imports a changed module, or its family, or runs a changed tool."
    names = imported(text) - {PACKAGE}
    of_family = lambda name: any(m == name or m.startswith(name + ".") for m in changed)
    return any(map(of_family, names)) or any(f'"{m}.py"' in text for m in changed)


def chosen_tests(root, files) -> list[str]:
    "The test files that have changed or that use what has changed, without the long ones."
    changed, found = modules(files), []
    for path in sorted(Path(root, "tests").glob("test_*.py")):
        name = path.relative_to(root).as_posix()
        if path.name in LONG: continue
        if name in files or uses(path.read_text(encoding="utf-8"), changed): found.append(name)
    return found


def steps(root, rev) -> dict[str, list]:
    "{name: command} of all there is to do."
    tool = lambda name, *args: [sys.executable, str(ROOT / "tools" / name), "--root", root, *args]
    tests = chosen_tests(root, changed_files(root, rev))
    return {
        "generated files": tool("check_generated.py"),
        "style": tool("style.py"),
        "changed pages": tool("run_pages.py", "--changed", rev),
        "their tests": [sys.executable, "-m", "pytest", "-q", *tests] if tests else [],
    }


def run(name: str, argv: list, root) -> tuple[bool, str]:
    "Run one step; whether it passed, and a line about it."
    begun = time.monotonic()
    print(f"--- {name}", flush=True)
    done = subprocess.run(argv, cwd=root, env=environment(root)) if argv else None
    if done is None: print("none imports what has changed")
    passed = done is None or done.returncode == 0
    return passed, f"{'ok' if passed else 'FAILED':8}{time.monotonic() - begun:5.1f} s  {name}"


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="Exit status: 0 all is well, 1 a step failed, 2 git failed.")
    add = parser.add_argument
    add("rev", nargs="?", default="HEAD", metavar="REV",
        help="what has changed since this git revision (default: HEAD)")
    add("--root", type=Path, default=ROOT, help="the project's folder (default: this one)")
    args = parser.parse_args(argv)
    root = args.root.resolve()
    try: todo = steps(root, args.rev)
    except ValueError as e:
        print(e, file=sys.stderr)
        return 2
    results = [run(name, command, root) for name, command in todo.items()]
    print("---", *(line for _, line in results), sep="\n")
    return int(not all(passed for passed, _ in results))


if __name__ == "__main__": sys.exit(main())
