#!/usr/bin/env python
"Check a built site: pages, links, anchors, pictures, and that nothing is loaded from another host."

import argparse, re, sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# What a page loads by itself, in contrast to what it links to
LOADS = {
    ("script", "src"),
    ("img", "src"),
    ("iframe", "src"),
    ("source", "src"),
    ("video", "src"),
    ("audio", "src"),
    ("embed", "src"),
    ("object", "data"),
    ("image", "href"),
    ("image", "xlink:href"),
    ("use", "href"),
    ("use", "xlink:href"),
    ("video", "poster"),
}
LOADING_RELS = {
    "stylesheet",
    "icon",
    "preload",
    "modulepreload",
    "preconnect",
    "dns-prefetch",
    "prefetch",
    "manifest",
    "apple-touch-icon",
}
CSS_URL = re.compile(r"""@import\s+["']([^"']+)|url\(\s*["']?([^"')]+)""")
JS_IMPORT = re.compile(r"""(?:\bfrom|\bimport)\s*\(?\s*["']((?:https?:)?//[^"']+)""")


@dataclass
class Page(HTMLParser):
    "What one HTML page holds, links to and loads."

    path: Path
    ids: set = field(default_factory=set)
    links: list = field(default_factory=list)  # href of each <a>
    loads: list = field(default_factory=list)  # address of each thing loaded
    nameless: list = field(default_factory=list)  # pictures without alt text
    errors: int = 0  # outputs of cells that raised
    inside: str = ""

    def __post_init__(self):
        HTMLParser.__init__(self, convert_charrefs=True)
        self.feed(self.path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        a = {k: v or "" for k, v in attrs}
        self.inside = tag if tag in ("style", "script") else ""
        if a.get("id"):
            self.ids.add(a["id"])
        if tag == "a":
            if a.get("name"):
                self.ids.add(a["name"])
            if "href" in a:
                self.links.append(a["href"])
        self.loads += [a[k] for t, k in LOADS if t == tag and a.get(k)]
        if tag == "link" and LOADING_RELS & set(a.get("rel", "").split()):
            self.loads.append(a.get("href", ""))
        self.loads += [part.split()[0] for part in a.get("srcset", "").split(",") if part.strip()]
        self.loads += css_addresses(a.get("style", ""))
        if tag == "img" and not a.get("alt", "").strip():
            self.nameless.append(a.get("src", "")[:60])
        self.errors += "cell-output-error" in a.get("class", "").split()

    def handle_endtag(self, tag):
        if tag in ("style", "script"):
            self.inside = ""

    def handle_data(self, data):
        if self.inside == "style":
            self.loads += css_addresses(data)
        if self.inside == "script":
            self.loads += JS_IMPORT.findall(data)


def css_addresses(css: str) -> list[str]:
    "Every address that a stylesheet imports or shows."
    return [a or b for a, b in CSS_URL.findall(css)]


def local(base: Path, address: str) -> tuple[Path, str] | None:
    "The file and the fragment that a relative address means; None for data and other schemes."
    u = urlsplit(address)
    if u.scheme or u.netloc:
        return None
    return ((base.parent / unquote(u.path)) if u.path else base), unquote(u.fragment)


def outside(address: str) -> bool:
    "Whether loading the address asks another host."
    u = urlsplit(address.strip())
    return bool(u.netloc) or u.scheme in ("http", "https", "ws", "wss", "ftp")


def check_load(where: str, base: Path, address: str) -> list[str]:
    "What is wrong with something that is loaded."
    if outside(address):
        return [f"{where}: loads {address} from another host"]
    if address.startswith("/"):
        return [f"{where}: {address} starts at the server's root: write it relative to the page"]
    target = local(base, address)
    return (
        [f"{where}: missing file {address}"]
        if target and not target[0].is_file() and target[0] != base
        else []
    )


def check_link(where: str, base: Path, address: str, pages: dict) -> list[str]:
    "What is wrong with a link."
    target = local(base, address)
    if target is None or not address.strip("#"):
        return []
    path, fragment = target[0].resolve(), target[1]
    if address.startswith("/"):
        return [
            f"{where}: broken link {address}: it starts at the server's root; write it relative "
            f"to the page"
        ]
    if path.is_dir():
        path = path / "index.html"
    if path.suffix == ".ipynb":
        return [f"{where}: link to a notebook that is no page of the site: {address}"]
    if not path.is_file():
        return [f"{where}: broken link {address}"]
    if fragment and path in pages and fragment not in pages[path].ids:
        return [f"{where}: broken anchor {address}"]
    return []


def check_page(page: Page, folder: Path, pages: dict) -> list[str]:
    "Every problem of one page."
    where = page.path.relative_to(folder).as_posix()
    found = [f"{where}: a cell raised an error"] * bool(page.errors)
    found += [
        f"{where}: picture without alt text ({src}): give its cell `#| fig-alt:`"
        for src in page.nameless
    ]
    for address in page.loads:
        found += check_load(where, page.path, address)
    for address in page.links:
        found += check_link(where, page.path, address, pages)
    return found


def check_site(
    folder,  # The built site
    expected=(),  # Names of pages that must be there
) -> list[str]:  # One line for each problem, sorted
    "Every problem of a built site."
    folder = Path(folder).resolve()
    pages = {p: Page(p) for p in sorted(folder.rglob("*.html"))}
    found = [f"{name}: page is missing" for name in expected if folder / name not in pages]
    for page in pages.values():
        found += check_page(page, folder, pages)
    for css in folder.rglob("*.css"):
        for address in css_addresses(css.read_text(encoding="utf-8")):
            found += check_load(css.relative_to(folder).as_posix(), css, address)
    return sorted(set(found))


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of the built site, such as _docs")
    found = check_site(parser.parse_args(argv).folder)
    print("\n".join(found))
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
