#!/usr/bin/env python
"""Begin a page: a copy of tools/page_template.ipynb in its part, under the next number, with the
module that it exports. The copy runs, exports and passes the style check as it is."""

import argparse, json, re, sys
from pathlib import Path

from notebooks import PACKAGE, PARTS, ROOT, load, notebooks, page_name, path_in_book

TEMPLATE = Path(__file__).resolve().with_name("page_template.ipynb")
NEXT = """\
{page} is there. Next:
  make lab                                             # write it
  .venv/bin/nbdev-export                               # write {module}
  .venv/bin/nbdev-test {page} --save
  .venv/bin/python tools/check_generated.py --fix      # sidebar, README, clean notebooks
  make check
Then link it from nbs/index.ipynb, and name what it exports in its family's page in
nbs/8_families."""


def refusal(root, part: str, module: str) -> str:
    "Why there can be no such page, or ''."
    if part not in PARTS: return f"no part {part!r}: expected one of {', '.join(PARTS)}"
    if not re.fullmatch(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)?", module):
        return f"module {module!r}: expected a name such as 'claims' or 'ab.sizing'"
    path = Path(root, PACKAGE, *module.split(".")).with_suffix(".py")
    if path.exists(): return f"{path.relative_to(root)} exists: another page exports it"
    name = module.rpartition(".")[2]
    same = [p for p in notebooks(root) if page_name(p) == f"{name}.html"]
    if same: return f"there is a page {name!r}: {path_in_book(root, same[0])}"
    return ""


def next_number(folder: Path) -> int:
    "One more than the largest number of a page in the folder."
    return 1 + max((int(p.name[:2]) for p in folder.glob("[0-9][0-9]_*.ipynb")), default=0)


def filled(module: str, title: str) -> dict:
    "The template with its module and title, each cell with an id of its own in the project."
    nb = load(TEMPLATE)
    name = module.rpartition(".")[2]
    for cell in nb["cells"]:
        cell["id"] = f"{name}-{cell['id']}"[:64]
        cell["source"] = [
            line.replace("TITLE", title).replace("MODULE", module) for line in cell["source"]]
    return nb


def write(root, part: str, module: str, title: str) -> Path:
    "Write the page; ValueError where there can be none."
    if why := refusal(root, part, module): raise ValueError(why)
    name = module.rpartition(".")[2]
    folder = Path(root, "nbs", part)
    folder.mkdir(exist_ok=True)
    path = folder / f"{next_number(folder):02}_{name}.ipynb"
    page = filled(module, title or name.replace("_", " ").capitalize())
    path.write_text(json.dumps(page, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return path


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog="Exit status: 0 written, 2 there can be no such page.")
    add = parser.add_argument
    add("part", metavar="PART", help="a folder of nbs/, such as 3_testing")
    add("module", metavar="MODULE",
        help="what it exports, such as ab.sizing; its last part is the name of the page")
    add("--title", default="", help="the H1 (default: from the name)")
    add("--root", type=Path, default=ROOT, help="the project's folder (default: this one)")
    args = parser.parse_args(argv)
    root = args.root.resolve()
    try: path = write(root, args.part, args.module, args.title)
    except ValueError as e:
        print(e, file=sys.stderr)
        return 2
    where = f"{PACKAGE}/{args.module.replace('.', '/')}.py"
    print(NEXT.format(page=path.relative_to(root), module=where))
    return 0


if __name__ == "__main__": sys.exit(main())
