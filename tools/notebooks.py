"""What the tools share: the notebooks of the project, the pages they become, the pictures in
their outputs, what has changed, and subprocesses."""

import base64, html, json, os, posixpath, re, struct, subprocess, sys
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
# The parts of the course: the folder of each, and its title in the sidebar and the index
PARTS = {
    "0_start": "Start here",
    "1_service": "The film service",
    "2_retraining": "When, on what, how",
    "3_testing": "Testing in production",
    "4_adapting": "Adapting while it runs",
    "5_prompts": "Testing prompts",
    "6_product": "The product",
    "7_operating": "The running system",
    "8_families": "The package by family",
}
PACKAGE = "trending_now"
# Kinds of pictures, the preferred first
PICTURES = {"image/svg+xml": "svg", "image/png": "png", "image/jpeg": "jpg"}
# A link in Markdown, [text](target), or in HTML, href="target"; and what holds no links
LINK = re.compile(r"""(?P<before>\]\(|href=["'])(?P<target>[^)"'\s]+)""")
CODE = re.compile(r"(?ms)^(`{3,}).*?^\1`*\s*$|(`+)(?!`).+?(?<!`)\2(?!`)")


def book(root) -> Path:
    "The folder of the notebooks."
    return Path(root) / "nbs"


def notebooks(root) -> list[Path]:
    """The notebooks that become pages, in reading order: the index, the parts'
    `N_part/NN_page.ipynb`, and what else lies beside the index."""
    beside = sorted(book(root).glob("*.ipynb"), key=lambda p: (p.stem != "index", p.name))
    found = beside[:1] + sorted(book(root).glob("[0-9]_*/*.ipynb")) + beside[1:]
    return [p for p in found if p.name[0] not in "._"]


def path_in_book(root, notebook) -> str:
    "Where a notebook lies below the folder of the notebooks, such as '1_service/03_booster.ipynb'."
    return Path(notebook).relative_to(book(root)).as_posix()


def page_name(notebook) -> str:
    "The page of a notebook: '1_service/03_booster.ipynb' becomes 'booster.html'."
    return re.sub(r"^\d+_", "", Path(notebook).stem.lower()) + ".html"


def pages(root) -> dict[str, str]:
    "{notebook's place: page's file name}; ValueError where two notebooks claim one page."
    out = {path_in_book(root, p): page_name(p) for p in notebooks(root)}
    for page in set(out.values()):
        clash = [n for n, p in out.items() if p == page]
        if len(clash) > 1:
            raise ValueError(f"{' and '.join(clash)} would both become {page}: rename one")
    return out


def target_place(where: str, file: str) -> str:
    "The place that a relative link `file` on the page at `where` means."
    return posixpath.normpath(posixpath.join(posixpath.dirname(where), file))


def source(cell) -> str:
    "A cell's source as one string."
    return joined(cell.get("source", ""))


def joined(text) -> str:
    "Text that a notebook may store as a list of lines."
    return "".join(text) if isinstance(text, list) else text


def options(code: str) -> tuple[dict, str]:
    "The `#| key: value` options at the top of a code cell, and the code below them."
    lines, found = code.splitlines(), {}
    while lines and lines[0].startswith("#|"):
        key, _, value = lines.pop(0)[2:].partition(":")
        try: found[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError: found[key.strip()] = value.strip()
    return found, "\n".join(lines).strip("\n")


def relink(markdown: str, change) -> str:
    "`markdown` with `change` applied to the target of every link outside code."
    out, at = [], 0
    swap = lambda text: LINK.sub(lambda m: m["before"] + change(m["target"]), text)
    for code in CODE.finditer(markdown):
        out += [swap(markdown[at:code.start()]), code[0]]
        at = code.end()
    return "".join(out + [swap(markdown[at:])])


@dataclass
class Picture:
    "A picture from a cell's output."
    name: str    # File name
    data: bytes  # Its content
    alt: str     # What it shows, in words; '' where the cell does not say
    caption: str # Caption, or ''
    width: int   # Size on the page, in CSS pixels
    height: int

    def figure(self, folder: str) -> str:
        "HTML that shows the picture, its file being in `folder`."
        q = html.escape
        size = f'width="{self.width}" height="{self.height}"'
        img = f'<img src="{folder}/{self.name}" alt="{q(self.alt)}" {size} loading="lazy">'
        caption = f"<figcaption>{q(self.caption)}</figcaption>" if self.caption else ""
        return f'<figure class="plot">{img}{caption}</figure>'


def png_size(data: bytes) -> tuple[int, int]:
    """Size of a PNG in CSS pixels. One that states its resolution (matplotlib's do) is shown at
    its size in inches, never enlarged."""
    width, height = struct.unpack(">II", data[16:24])
    at = data.find(b"pHYs")
    if at < 0: return width, height
    per_metre, _, unit = struct.unpack(">IIB", data[at + 4:at + 13])
    scale = min(1, 96 / (per_metre * .0254)) if unit == 1 and per_metre else 1
    return round(width * scale), round(height * scale)


def svg_size(data: bytes) -> tuple[int, int]:
    "Size of an SVG in CSS pixels, from its width and height, else from its view box."
    head = re.search(rb"<svg\b[^>]*>", data)[0].decode()
    sizes = [re.search(rf'\b{k}="([\d.]+)(pt|px)?"', head) for k in ("width", "height")]
    if all(sizes): return tuple(round(float(m[1]) * (4 / 3 if m[2] == "pt" else 1)) for m in sizes)
    box = re.search(r'viewBox="([\d.\s-]+)"', head)
    return tuple(round(float(v)) for v in box[1].split()[2:]) if box else (640, 480)


def picture(output, stem: str, n: int, opts: dict) -> Picture | None:
    "The picture in one output of a cell, or None; `stem` and `n` name its file."
    bundle = output.get("data", {})
    mime = next((m for m in PICTURES if m in bundle), None)
    if mime is None or "text/html" in bundle: return None
    value = joined(bundle[mime])
    kind = PICTURES[mime]
    data = (value.strip() + "\n").encode() if kind == "svg" else base64.b64decode(value)
    measure = {"svg": svg_size, "png": png_size}.get(kind, lambda data: (640, 480))
    words = [str(opts.get(key) or "") for key in ("fig-alt", "fig-cap")]
    return Picture(f"{stem}-{n}.{kind}", data, *words, *measure(data))


def load(path) -> dict:
    "A notebook as a plain dict."
    return json.loads(Path(path).read_text(encoding="utf-8"))


def command(name: str) -> str:
    "The path of a command that is installed beside this Python (or on PATH)."
    beside = Path(sys.executable).with_name(name)
    return str(beside) if beside.exists() else name


def environment(root) -> dict[str, str]:
    "The environment in which commands use the project in `root`, whichever copy is installed."
    kept = {k: v for k, v in os.environ.items() if k != "IN_TEST"}
    return kept | {"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}


def call(argv, root, **kw) -> subprocess.CompletedProcess:
    "Run a command in `root` on the project that lies there; its output is captured as text."
    argv = [str(a) for a in argv]
    return subprocess.run(
        argv, cwd=root, env=environment(root), text=True, capture_output=True, **kw)


def changed_files(root, rev="HEAD") -> list[str]:
    "Files of the project that differ from the git revision `rev` or that git does not know yet."
    names = git_names(root, "diff", "--name-only", "--relative", rev)
    names += git_names(root, "ls-files", "--others", "--exclude-standard")
    return sorted(n for n in set(names) if Path(root, n).is_file())


def git_names(root, *args) -> list[str]:
    "The file names that a git command lists; ValueError with git's words where it fails."
    done = call(["git", *args, "-z", "--", "."], root)
    if done.returncode: raise ValueError(f"git {' '.join(args)}: {done.stderr.strip()}")
    return [name for name in done.stdout.split("\0") if name]
