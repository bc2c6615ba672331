#!/usr/bin/env python
"""Write README.md from nbs/index.ipynb, with its figures in nbs/images/; or check that it is
current."""

import argparse, difflib, html, re, sys
from pathlib import Path

from notebooks import PACKAGE, ROOT, joined, load, options, pages, picture, relink, source

NOTE = (
    "<!-- Written from nbs/index.ipynb by tools/readme.py: change that notebook, then run "
    "`python tools/readme.py`. -->\n"
)
IMAGES = "nbs/images"
HIDDEN = re.compile(r"(?m)^#\|\s*(hide|export|exporti|default_exp)\b")
STYLE = re.compile(r"(?s)<style.*?</style>\s*")


def symbols(root) -> dict[str, str]:
    """{name: notebook that documents it} for everything that the package exports, from nbdev's
    index of it."""
    index, notebook = {}, {page: nb for nb, page in pages(root).items()}
    exec((Path(root) / PACKAGE / "_modidx.py").read_text(encoding="utf-8"), index)
    for module, names in index["d"]["syms"].items():
        for name, (where, _) in names.items():
            page = notebook.get(where.partition("#")[0].rpartition("/")[2])
            if page:
                index.setdefault("links", {}).update(
                    {name: page, name.removeprefix(module + "."): page} | index.get("links", {})
                )
    return index.get("links", {})


def doc_links(text: str, links: dict) -> str:
    """`text` with the names in backticks that the package documents linked to their notebooks,
    outside code and links."""
    name = re.compile(r"(?<!\[)`([A-Za-z_][\w.]*)(\(\))?`(?!\])")
    link = lambda m: f"[{m[0]}]({links[m[1]]})" if m[1] in links else m[0]
    fence, lines = False, []
    for line in text.split("\n"):
        if line.startswith("```"):
            fence = not fence
        lines.append(line if fence or line.startswith("#") else name.sub(link, line))
    return "\n".join(lines)


def repository_link(root, target: str) -> str:
    "A link's target as seen from the README: a chapter's notebook, or a file beside it."
    file, hash, fragment = target.partition("#")
    if not file:  # a heading, whose anchor code hosts write in small letters, without punctuation
        return hash + re.sub(r"[^a-z0-9_-]", "", fragment.lower())
    if "://" in file or file.startswith("mailto:"):
        return target
    path = Path("nbs", file)
    return (
        (
            path.as_posix()
            if (Path(root) / path).exists() and ".." not in path.parts
            else file.removeprefix("../")
        )
        + hash
        + fragment
    )


def markdown_cell(root, cell, links: dict) -> str:
    "A Markdown cell, with its links and pictures seen from the README."
    text = doc_links(source(cell), links)
    text = re.sub(r"""(<img[^>]*\bsrc=["'])(?!https?:|data:|/)""", r"\1nbs/", text)
    return relink(text, lambda target: repository_link(root, target)).strip()


def output_text(output, figure) -> str:
    "One output of a cell in Markdown; `figure` is its picture, where it has one."
    bundle = output.get("data", {})
    if output["output_type"] == "stream":
        return f"```text\n{joined(output['text']).strip()}\n```"
    if figure:
        return (
            f'<img src="{IMAGES}/{figure.name}" alt="{html.escape(figure.alt)}" '
            f'width="{figure.width}">'
        )
    if "text/markdown" in bundle:
        return joined(bundle["text/markdown"]).strip()
    if "text/html" in bundle:
        return STYLE.sub("", joined(bundle["text/html"])).strip()
    return f"```text\n{joined(bundle.get('text/plain', '')).strip()}\n```"


def code_cell(cell, figures: list) -> str:
    "A code cell and its outputs, as its `#|` options ask; its pictures are added to `figures`."
    opts, code = options(source(cell))
    if HIDDEN.search(source(cell)) or opts.get("include") is False:
        return ""
    parts = [f"```python\n{code}\n```"] if code and opts.get("echo", True) is not False else []
    for output in cell["outputs"] if opts.get("output", True) is not False else []:
        figure = picture(output, "index", len(figures) + 1, opts)
        if figure:
            figures.append(figure)
        parts.append(output_text(output, figure))
    return "\n\n".join(parts)


def render(root) -> dict[str, bytes]:
    "{path in the repository: content} of the README and its figures."
    figures, parts, links = [], [NOTE.strip()], symbols(root)
    for cell in load(Path(root) / "nbs/index.ipynb")["cells"]:
        parts.append(
            markdown_cell(root, cell, links)
            if cell["cell_type"] == "markdown"
            else code_cell(cell, figures)
        )
    text = "\n\n".join(p for p in parts if p) + "\n"
    return {"README.md": text.encode(), **{f"{IMAGES}/{f.name}": f.data for f in figures}}


def left_over(root, files) -> list[Path]:
    "Figures of an earlier README that no longer belong to it."
    return [
        p
        for p in sorted((Path(root) / IMAGES).glob("index-*"))
        if p.relative_to(root).as_posix() not in files
    ]


def differences(root, files) -> list[str]:
    """What differs between the README that is there and the one that should be: a unified diff,
    and a line for each figure."""
    read = lambda name: (Path(root) / name).read_bytes() if (Path(root) / name).exists() else b""
    lines = lambda data: data.decode(errors="replace").splitlines(keepends=True)
    out = list(
        difflib.unified_diff(
            lines(read("README.md")),
            lines(files["README.md"]),
            "README.md as it is",
            "README.md as nbs/index.ipynb has it",
        )
    )
    out += [
        f"{name} differs\n"
        for name, data in files.items()
        if name != "README.md" and read(name) != data
    ]
    return out + [f"{p.relative_to(root)} is left over\n" for p in left_over(root, files)]


def write(root, files) -> None:
    "Write the README and its figures, and remove figures that are left over."
    for path in left_over(root, files):
        path.unlink()
    for name, data in files.items():
        path = Path(root) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_bytes() != data:
            path.write_bytes(data)


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="Exit status: 0 written or current, 1 not current (with --check; the difference is "
        "printed).",
    )
    parser.add_argument(
        "--root", type=Path, default=ROOT, help="the project's folder (default: this one)"
    )
    parser.add_argument("--check", action="store_true", help="write nothing; say what differs")
    args = parser.parse_args(argv)
    files = render(args.root)
    if not args.check:
        return write(args.root, files) or 0
    found = differences(args.root, files)
    print("".join(found), end="")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
