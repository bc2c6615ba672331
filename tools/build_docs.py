#!/usr/bin/env python
"""Build the docs site into _docs/, offline and strict: with Quarto where it is on PATH, else with
smalldocs."""

import argparse, base64, hashlib, json, os, posixpath, re, shutil, sys
from contextlib import chdir
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import quote

import yaml
from bs4 import BeautifulSoup

from notebooks import (
    PARTS,
    ROOT,
    call,
    command,
    joined,
    load,
    notebooks,
    options,
    page_name,
    pages,
    path_in_book,
    picture,
    relink,
    source,
    target_place,
)
from site_check import check_site

SITE = Path(__file__).resolve().parent / "site"
STAMP = "build.json"
FIGURES = "figures"
# Pages that had another name: an old address leads to the new page. No page of today has one of
# these names.
MOVED = {
    "annotation": "labels",
    "peeking": "sequential",
    "booster_updates": "trees",
    "bert_updates": "finetune",
    "multileaving": "mixing",
    "online_learning": "online",
    "bandit_or_ab": "stopping",
}
# How nbdev marks the descriptions of symbols that it adds, and the source of exported cells
SHOW_DOC = re.compile(r"(?:#\|[^\n]*\n)*show_doc\(([\w.]+)")
EXPORTED_FOLD = '#| code-fold: show\n#| code-summary: "Exported source"\n'


class Broken(Exception):
    "The site cannot be built; the message has a line for each problem."


# ---------------------------------------------------------------- before: what nbdev writes


def configure(root) -> None:
    """Write nbs/nbdev.yml, as nbdev-docs does, and nbs/sidebar.yml (`custom_sidebar` keeps nbdev
    from writing a flat one)."""
    from nbdev.quarto import refresh_quarto_yml

    with chdir(root):
        refresh_quarto_yml()
    contents = {
        "website": {
            "sidebar": {"contents": sidebar([path_in_book(root, p) for p in notebooks(root)])}
        }
    }
    Path(root, "nbs", "sidebar.yml").write_text(
        "# Written by tools/build_docs.py --sidebar\n" + yaml.safe_dump(contents, sort_keys=False),
        encoding="utf-8",
    )


def sidebar(places) -> list:
    """The pages in reading order, those of one part below its title; between them what lies in no
    part."""
    found = []
    for place in places:
        part = place.partition("/")[0]
        if "/" not in place:
            found.append(place)
        elif found and isinstance(found[-1], dict) and found[-1]["part"] == part:
            found[-1]["contents"].append(place)
        else:
            found.append({"section": PARTS.get(part, part), "part": part, "contents": [place]})
    bare = lambda entry: {key: entry[key] for key in ("section", "contents")}
    return [bare(entry) if isinstance(entry, dict) else entry for entry in found]


def check_sources(root) -> None:
    """Refuse notebooks whose stored outputs hold an error, and links to notebooks that do not
    exist."""
    names, found = pages(root), []
    for path in notebooks(root):
        here = path_in_book(root, path)
        for n, cell in enumerate(load(path)["cells"]):
            if any(o.get("output_type") == "error" for o in cell.get("outputs", [])):
                found.append(f"{here}, cell {n}: its stored output is an error")
            if cell["cell_type"] == "markdown":
                relink(
                    source(cell), lambda target: found.extend(lost(here, target, names)) or target
                )
    if not names:
        found.append("nbs/: no notebooks")
    if found:
        raise Broken("\n".join(found))


def lost(where: str, target: str, names: dict) -> list[str]:
    "A complaint about a link to a notebook that does not exist, or nothing."
    file = target.partition("#")[0]
    known = "://" in target or not file.endswith(".ipynb") or target_place(where, file) in names
    return [] if known else [f"{where}: link to a notebook that does not exist: {target}"]


def process(root) -> Path:
    """Run nbdev's processors over the notebooks (signatures, doc links, hidden cells); the folder
    of the processed ones."""
    import nbdev.doclinks
    from nbdev.serve import proc_nbs

    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(root), *filter(None, [os.environ.get("PYTHONPATH")])]
    )  # this copy of the package, also in workers
    with chdir(root):
        nbdev.doclinks._build_modidx()
        try:
            return proc_nbs(str(Path(root) / "nbs"), force=True, n_workers=os.cpu_count() or 1)
        except Exception as e:
            raise Broken(f"a notebook cell raised an error: {e}") from e


# ---------------------------------------------------------------- smalldocs


def stage(processed: Path, root, folder: Path) -> None:
    """Copy the processed notebooks into `folder` under their pages' names, with links changed and
    pictures in files; and the configuration."""
    rename = {old: new.replace(".html", ".ipynb") for old, new in pages(root).items()}
    for path in Path(root, "nbs").rglob("*"):
        if (
            path.suffix not in (".ipynb", ".yml", ".json")
            and path.is_file()
            and not any(p[0] in "._" for p in path.relative_to(root).parts)
        ):
            copy_under(path, Path(root, "nbs"), folder)
    for old, new in rename.items():
        nb = load(processed / old)
        stage_cells(
            nb,
            folder / FIGURES,
            Path(new).stem,
            lambda target, old=old: renamed(old, target, rename),
        )
        (folder / new).write_text(json.dumps(nb), encoding="utf-8")
    (folder / "_quarto.yml").write_text(
        yaml.safe_dump(site_config(root, rename), sort_keys=False), encoding="utf-8"
    )


def copy_under(path: Path, base: Path, folder: Path) -> None:
    "Copy a file from under `base` to the same place under `folder`."
    to = folder / path.relative_to(base)
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, to)


def stage_cells(nb: dict, figures: Path, stem: str, change) -> None:
    """Change a notebook's cells in place: targets of links by `change`, descriptions of symbols,
    and pictures into files in `figures`."""
    n = 0
    stage_symbols(nb["cells"])
    for cell in nb["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"] = relink(source(cell), change)
        if cell["cell_type"] == "raw":
            cell["source"] = without(source(cell), ("output-file", "format-links"))
        opts, _ = options(source(cell)) if cell["cell_type"] == "code" else ({}, "")
        for i, output in enumerate(cell.get("outputs", [])):
            if "text/markdown" in (data := output.get("data", {})):
                data["text/markdown"] = relink("".join(data["text/markdown"]), change)
            if (found := picture(output, stem, n + 1, opts)) is None:
                continue
            n += 1
            figures.mkdir(exist_ok=True)
            (figures / found.name).write_bytes(found.data)
            cell["outputs"][i] = {
                "output_type": "display_data",
                "metadata": {},
                "data": {"text/html": found.figure(FIGURES)},
            }


def stage_symbols(cells: list) -> None:
    """Shorten nbdev's descriptions of symbols: no link to source on a host that is not configured,
    no signature where the source is shown."""
    cells[:] = names_first(cells)
    below = None
    for cell in reversed(cells):
        if not described(cell):
            below = cell
        else:
            stage_symbol(
                cell,
                shown=below is not None
                and EXPORTED_FOLD in source(below)
                and place(cell, below) >= 0,
            )
    for cell in cells:
        cell["source"] = source(cell).replace(EXPORTED_FOLD, "")


def names_first(cells: list) -> list:
    """The cells, with the descriptions of all symbols of an exported cell before it, in its order
    (nbdev leaves all but one behind it)."""
    out = []
    for cell in cells:
        at = len(out)
        owner = (
            next((i for i in reversed(range(at)) if not described(out[i])), None)
            if described(cell)
            else None
        )
        if (
            owner is not None
            and EXPORTED_FOLD in source(out[owner])
            and (here := place(cell, out[owner])) >= 0
        ):
            at, code = owner, out[owner]
            while at and described(out[at - 1]) and here < place(out[at - 1], code):
                at -= 1
        out.insert(at, cell)
    return out


def described(cell) -> str | None:
    "The symbol that a cell describes, if that is what it does."
    found = SHOW_DOC.match(source(cell))
    return found and found[1]


def place(cell, code) -> int:
    "Where the symbol that `cell` describes is defined in the cell `code`; -1: it is not."
    found = re.search(rf"(?m)^\s*(def|class) {described(cell).rpartition('.')[2]}\b", source(code))
    return found.start() if found else -1


def stage_symbol(cell, shown: bool) -> None:
    "Shorten one description in place: all but its name if the source is `shown` below."
    for output in cell.get("outputs", []):
        if "text/markdown" not in output.get("data", {}):
            continue
        text = re.sub(r"\A---\n+", "", joined(output["data"]["text/markdown"]))
        text = re.sub(r"(?m)^\[source\]\((?!https?:)[^\n]*\n+", "", text)
        if shown:
            text = text.partition("\n```")[0]
        output["data"]["text/markdown"] = re.sub(
            r"(?m)^(#{2,6} [^\n{]+)$", r"\1 {.symbol}", text, count=1
        )


def renamed(where: str, target: str, rename: dict) -> str:
    """A link's target on the page at `where`, as it must be on a site whose pages all lie in one
    folder."""
    file, hash, fragment = target.partition("#")
    if "://" in target or not file:
        return target
    if file.endswith((".ipynb", ".html")):
        meant = target_place(where, file.removesuffix(".html").removesuffix(".ipynb") + ".ipynb")
        return rename.get(meant, posixpath.basename(file)) + hash + fragment
    return target


def without(front: str, keys) -> str:
    "Front matter without some keys."
    body = front.strip().removeprefix("---").removesuffix("---")
    kept = {k: v for k, v in (yaml.safe_load(body) or {}).items() if k not in keys}
    return f"---\n{yaml.safe_dump(kept, allow_unicode=True, sort_keys=False)}---\n"


def site_config(root, rename: dict) -> dict:
    """The configuration that smalldocs reads: _quarto.yml with the two files of nbdev merged in,
    less what only Quarto understands."""
    read = lambda name: yaml.safe_load(Path(root, "nbs", name).read_text(encoding="utf-8")) or {}
    config = read("_quarto.yml")
    for name in config.pop("metadata-files", []):
        config = merge(read(name), config)
    for key in ("format-links", "execute"):
        config.pop(key, None)
    config["format"] = {
        "html": {
            k: v
            for k, v in config["format"]["html"].items()
            if k not in ("html-math-method", "keep-md")
        }
    }
    config["project"] = {"type": "website", "output-dir": "_site"}
    web = config["website"]
    if entries := web["navbar"].get("left"):
        here = [entry for entry in entries if entry["href"] in rename]
        web["navbar"]["left"] = [{**entry, "href": rename[entry["href"]]} for entry in here]
        if web.get("repo-url"):
            web["navbar"]["left"].append({"text": "Code", "href": web["repo-url"]})
    web["sidebar"]["contents"] = rename_contents(web["sidebar"].get("contents", []), rename)
    if not str(web.get("site-url", "")).startswith("http"):
        web.pop("site-url", None)
    for key in ("repo-actions", "repo-url", "repo-branch"):
        web.pop(key, None)
    return config


def merge(outer: dict, inner: dict) -> dict:
    "Two configurations in one; `inner` wins."
    both = {
        k: merge(outer[k], inner[k])
        for k in outer.keys() & inner.keys()
        if isinstance(outer[k], dict) and isinstance(inner[k], dict)
    }
    return {**outer, **inner, **both}


def rename_contents(items: list, rename: dict) -> list:
    "A sidebar's contents with the notebooks renamed."
    change = lambda i: (
        {**i, "contents": rename_contents(i.get("contents", []), rename)}
        if isinstance(i, dict)
        else rename.get(i, i)
    )
    return [change(i) for i in items]


def build_smalldocs(root, out: Path) -> None:
    "Build the site with smalldocs into `out`; raises Broken."
    import smalldocs.site

    with TemporaryDirectory() as tmp:
        folder = Path(tmp).resolve() / "site"
        folder.mkdir()
        stage(process(root), root, folder)
        site = smalldocs.site.build(folder, quiet=True)
        if site.warnings:
            raise Broken("\n".join(site.warnings))
        shutil.copytree(folder / "_site", out)
        for name in (FIGURES, "images"):
            if (folder / name).is_dir():
                shutil.copytree(folder / name, out / name, dirs_exist_ok=True)


def build_quarto(root, out: Path) -> None:
    "Build the site with Quarto (nbdev-docs) into `out`; raises Broken."
    done = call([command("nbdev-docs")], root)
    if done.returncode:
        raise Broken(f"nbdev-docs failed:\n{done.stdout}{done.stderr}")
    shutil.move(Path(root) / "_docs", out)


# ---------------------------------------------------------------- after: what both need


def finish(out: Path, root) -> None:
    "Make the built pages independent of other hosts, and mend what the builders leave undone."
    libs = out / "site_libs"
    for name in ("katex", "mermaid", "fonts"):
        shutil.copytree(SITE / name, libs / name, dirs_exist_ok=True)
    shutil.copy(SITE / "site.js", libs / "site.js")
    for css in out.rglob("*.css"):
        css.write_text(
            re.sub(
                r"@import\s+url\([\"']?https?://[^)]*\)\s*;?", "", css.read_text(encoding="utf-8")
            ),
            encoding="utf-8",
        )
    soups = {
        p: BeautifulSoup(p.read_text(encoding="utf-8"), "html.parser")
        for p in sorted(out.rglob("*.html"))
    }
    ids = {
        p.resolve(): {slug(t["id"]): t["id"] for t in soup.find_all(id=True)}
        for p, soup in soups.items()
    }
    names = {name.rpartition("/")[2]: page for name, page in pages(root).items()}
    spoken = {page_name(p): names_of(p) for p in notebooks(root)}
    about = about_site(root)
    preview = write_preview(root, out)
    for path, soup in soups.items():
        up = "../" * (len(path.relative_to(out).parts) - 1)
        use_own_katex(soup, up)
        use_own_mermaid(soup, up)
        soup.head.append(soup.new_tag("script", src=f"{up}site_libs/site.js", defer=True))
        mend_links(soup, path, names, ids)
        unlink_words(soup, spoken.get(path.name, set()))
        mend_labels(soup)
        mend_tables(soup)
        mend_headings(soup)
        describe(soup, path.relative_to(out).as_posix(), about, preview)
        path.write_text(str(soup), encoding="utf-8")
    write_not_found(out, about)
    write_sitemap(out, about["address"], names.values())
    redirect_moved(out)


# ---------------------------------------------------------------- what others read of a page


def about_site(root) -> dict:
    """The site's title, description, and address, '' while it has none. The address is
    Documentation in [project.urls] of pyproject.toml, which nbdev makes site-url of."""
    text = Path(root, "nbs", "nbdev.yml").read_text(encoding="utf-8")
    site = (yaml.safe_load(text) or {}).get("website") or {}
    address = str(site.get("site-url") or "")
    address = address.rstrip("/") + "/" if address.startswith("http") else ""
    words = {key: str(site.get(key) or "") for key in ("title", "description")}
    return {"address": address, **words}


def write_preview(root, out: Path) -> str:
    "The first figure of the index as a PNG, which a link to the site shows; its name, or ''."
    for cell in load(Path(root, "nbs", "index.ipynb"))["cells"]:
        for output in cell.get("outputs", []):
            if picture := output.get("data", {}).get("image/png"):
                (out / "preview.png").write_bytes(base64.b64decode(joined(picture)))
                return "preview.png"
    return ""


def describe(soup, page: str, about: dict, preview: str) -> None:
    "What a link to the page shows elsewhere; its one address, where the site has one."
    title = soup.select_one("h1.title")
    said = soup.select_one(".quarto-title-block .description")
    words = said.get_text(" ", strip=True) if said else about["description"]
    tags = {"og:type": "article", "og:site_name": about["title"],
            "og:title": title.get_text(strip=True) if title else about["title"],
            "og:description": words, "og:image": about["address"] + preview if preview else ""}
    if about["address"]:
        tags["og:url"] = about["address"] + page
        for link in soup.find_all("link", rel="canonical"): link.decompose()
        soup.head.append(soup.new_tag("link", rel="canonical", href=tags["og:url"]))
    for found in soup.find_all("meta", property=re.compile("^og:")): found.decompose()
    for key, value in tags.items():
        if value: soup.head.append(soup.new_tag("meta", property=key, content=value))
    if not soup.find("meta", attrs={"name": "description"}):
        meta = {"name": "description", "content": words}
        soup.head.append(soup.new_tag("meta", attrs=meta))


def write_not_found(out: Path, about: dict) -> None:
    "404.html, which servers show for an address that is not there: the index with other words."
    soup = BeautifulSoup((out / "index.html").read_text(encoding="utf-8"), "html.parser")
    main = soup.find("main")
    main.clear()
    main.append(BeautifulSoup(
        "<h1 class='title'>There is no such page</h1><p>It may have another name by now. The "
        "search above finds pages and functions; <a href='index.html'>the index</a> lists "
        "all.</p>", "html.parser"))
    for nav in soup.select("#quarto-margin-sidebar, .page-navigation"): nav.clear()
    for tag in soup.select("link[rel=canonical], meta[property^=og]"): tag.decompose()
    soup.title.string = f"There is no such page – {about['title']}"
    soup.head.append(soup.new_tag("meta", attrs={"name": "robots", "content": "noindex"}))
    if about["address"]:  # it is shown at any address, and its links are relative to the site's
        soup.head.insert(0, soup.new_tag("base", href=about["address"]))
    (out / "404.html").write_text(str(soup), encoding="utf-8")


def write_sitemap(out: Path, address: str, names) -> None:
    "sitemap.xml and robots.txt, which need the address of the site; nothing while it has none."
    if not address: return
    rows = "".join(f"  <url><loc>{address}{name}</loc></url>\n" for name in sorted(set(names)))
    space = "http://www.sitemaps.org/schemas/sitemap/0.9"
    head = '<?xml version="1.0" encoding="UTF-8"?>\n'
    text = f'{head}<urlset xmlns="{space}">\n{rows}</urlset>\n'
    (out / "sitemap.xml").write_text(text, encoding="utf-8")
    (out / "robots.txt").write_text(f"Sitemap: {address}sitemap.xml\n", encoding="utf-8")


def redirect_moved(out: Path) -> None:
    """Leave a page at the old address of each page that has another name now, which leads to the
    new one."""
    for old, new in MOVED.items():
        if not (out / f"{new}.html").exists():
            continue
        to = (
            f'<meta http-equiv="refresh" content="0; url={new}.html"><link rel="canonical" '
            f'href="{new}.html">'
        )
        page = (
            f'<!doctype html><html lang="en"><meta '
            f'charset="utf-8">{to}<title>{new}</title><p>This page is now <a '
            f'href="{new}.html">{new}</a>.</p></html>\n'
        )
        (out / f"{old}.html").write_text(page, encoding="utf-8")


def use_own_katex(soup, up: str) -> None:
    "Point KaTeX's files to ours."
    for tag, key in [
        (t, k)
        for k in ("href", "src")
        for t in soup.find_all(["link", "script"], {k: re.compile("^https?://.*katex", re.I)})
    ]:
        tag[key] = f"{up}site_libs/katex/{tag[key].rpartition('/')[2]}"


def use_own_mermaid(soup, up: str) -> None:
    "Replace the builder's way of drawing diagrams by ours, on pages that have some."
    for script in soup.find_all("script", type="module"):
        if "mermaid" in (script.string or ""):
            script.decompose()
    if not soup.find("pre", class_="mermaid"):
        return
    script = f"{up}site_libs/mermaid/mermaid.tiny.js"
    soup.head.append(soup.new_tag("script", src=script, defer=True))


def slug(anchor: str) -> str:
    """What stays the same between JupyterLab's, a code host's and this site's name of a heading's
    anchor."""
    return re.sub(r"[^a-z0-9]+", "", anchor.lower())


def mend_links(soup, path: Path, names: dict, ids: dict) -> None:
    """Point links in outputs to pages instead of notebooks, and anchors to the page's spelling of
    them."""
    for a in soup.find_all("a", href=True):
        file, hash, fragment = a["href"].partition("#")
        if "://" in file:
            continue
        file = names.get(file, file)
        target = ids.get((path.parent / file).resolve() if file else path.resolve(), {})
        if fragment and fragment not in target.values():
            fragment = target.get(slug(fragment), fragment)
            if fragment.startswith("_") and a.find("code"):  # a private name, which has no place
                a.unwrap()
                continue
        a["href"] = file + hash + fragment


def names_of(notebook: Path) -> set[str]:
    "The names that a page imports or defines."
    code = "\n".join(options(source(c))[1] for c in load(notebook)["cells"]
                     if c["cell_type"] == "code")
    defined = re.findall(r"(?m)^\s*(?:def|class) (\w+)", code)
    imported = re.findall(r"(?m)^\s*(?:from \S+ )?import (.+)$", code)
    return {*defined, *re.findall(r"\w+", " ".join(imported))}


def unlink_words(soup, known: set[str]) -> None:
    """nbdev links every word in backticks that is a function somewhere: `value` is one. Take the
    link from words that the page does not import or define."""
    for link in soup.select("main a[href*='#']:has(> code)"):
        if re.fullmatch(r"[a-z]+", link.get_text()) and link.get_text() not in known:
            link.unwrap()


def mend_labels(soup) -> None:
    """Give wide boxes to the keyboard and controls their names, and leave nothing that only looks
    like a link."""
    boxes = ".cell-output-display:has(table), .sd-table, pre, figure.plot, .math.display"
    for box in soup.select(boxes):
        box["tabindex"] = "0"
    named = {".navbar": "Site", "#quarto-sidebar": "Pages", "#TOC": "On this page",
             ".page-navigation": "Next and last page", ".quarto-page-breadcrumbs": "Breadcrumbs"}
    for selector, name in named.items():
        for nav in soup.select(f"nav{selector}"):
            if not nav.get("aria-labelledby"): nav["aria-label"] = name
    for toggle in soup.select("a.quarto-color-scheme-toggle"):
        toggle["href"], toggle["role"], toggle["aria-label"] = (
            "#",
            "button",
            "Switch between light and dark",
        )
    for anchor in soup.select(".sidebar-item-toggle:not([href])"):
        anchor["tabindex"] = "0"
    for anchor in soup.select("a[role=navigation]"):  # it opens and closes a part of the sidebar
        anchor["role"] = "button"


def mend_headings(soup) -> None:
    "No heading is more than one level below the last: a symbol before the first section is one."
    last = 1
    for heading in soup.select("main :is(h2, h3, h4, h5, h6)"):
        level = min(int(heading.name[1]), last + 1)
        heading.name, last = f"h{level}", level


def mend_tables(soup) -> None:
    """Mark the cells of pandas' columns of words, which read better from the left; the empty
    corner above its index is no header of anything."""
    for corner in soup.select("table th"):
        if not corner.get_text(strip=True) and not corner.find("img"): corner.name = "td"
    number = re.compile(r"[-+−]?[\d.,]+(e[-+]?\d+)?\s*%?|nan|inf|", re.I)
    for table in soup.select("table.dataframe:not(:has([colspan], [rowspan]))"):
        rows = [row.find_all(["th", "td"]) for row in table.find_all("tr")]
        for column in zip(*rows):
            if not all(
                number.fullmatch(cell.get_text(strip=True)) for cell in column if cell.name == "td"
            ):
                for cell in column:
                    cell["class"] = [*cell.get("class", []), "words"]


# ---------------------------------------------------------------- the whole


def digest(root) -> str:
    "A hash of everything that the site is made from."
    root = Path(root)
    kinds = [
        root.glob(g)
        for g in (
            "nbs/**/*",
            "trending_now/**/*.py",
            "_quarto.yml",
            "pyproject.toml",
            "tools/*.py",
            "tools/site/**/*",
        )
    ]
    files = sorted(
        {
            p
            for kind in kinds
            for p in kind
            if p.is_file()
            and not any(
                part.startswith(".") or part == "__pycache__" for part in p.relative_to(root).parts
            )
        }
    )
    sha = hashlib.sha256(
        f"{version('nbdev')} {version('smalldocs')} {bool(shutil.which('quarto'))}".encode()
    )
    for p in files:
        sha.update(
            quote(p.relative_to(root).as_posix()).encode()
            + b"\0"
            + hashlib.sha256(p.read_bytes()).digest()
        )
    return sha.hexdigest()


def is_current(root, out: Path) -> bool:
    "Whether the built site is the one that the present files give."
    try:
        return json.loads((out / STAMP).read_text(encoding="utf-8"))["inputs"] == digest(root)
    except (OSError, ValueError, KeyError):
        return False


def build(root=ROOT, out=None, engine="auto") -> Path:
    """Build the site of the project in `root`; raises Broken, and then leaves an earlier site as
    it was (nbdev-docs, with Quarto, removes it)."""
    root = Path(root).resolve()
    out = Path(out or root / "_docs").resolve()
    if engine == "auto":
        engine = "quarto" if shutil.which("quarto") else "smalldocs"
    configure(root)
    check_sources(root)
    new = out.with_name(out.name + ".tmp")
    shutil.rmtree(new, ignore_errors=True)
    try:
        {"quarto": build_quarto, "smalldocs": build_smalldocs}[engine](root, new)
        finish(new, root)
        if found := check_site(new, pages(root).values()):
            raise Broken("\n".join(found))
        (new / STAMP).write_text(
            json.dumps({"built_with": engine, "inputs": digest(root)}) + "\n", encoding="utf-8"
        )
        replace(out, new)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return out


def replace(out: Path, new: Path) -> None:
    "Put the new site in the old one's place."
    if (
        out.exists()
        and any(out.iterdir())
        and not (out / STAMP).exists()
        and not (out / "site_libs").exists()
    ):
        raise Broken(f"{out} is not a built site: empty it or choose another folder")
    shutil.rmtree(out, ignore_errors=True)
    new.rename(out)


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="Exit status: 0 built, 1 a problem in the notebooks or their links (each printed "
        "on a line).",
    )
    parser.add_argument(
        "--root", type=Path, default=ROOT, help="the project's folder (default: this one)"
    )
    parser.add_argument(
        "--out", type=Path, help="where the site goes (default: _docs in the project)"
    )
    parser.add_argument(
        "--engine",
        choices=("auto", "quarto", "smalldocs"),
        default="auto",
        help="what builds the pages (default: Quarto where it is on PATH, else smalldocs)",
    )
    parser.add_argument(
        "--if-stale",
        action="store_true",
        help="do nothing if the site is already built from the present files",
    )
    parser.add_argument(
        "--sidebar", action="store_true", help="only write nbs/sidebar.yml and nbs/nbdev.yml"
    )
    args = parser.parse_args(argv)
    out = (args.out or args.root / "_docs").resolve()
    if args.sidebar:
        return configure(args.root.resolve()) or 0
    if args.if_stale and is_current(args.root, out):
        return print(f"{out.name}/ is current") or 0
    try:
        print(f"{len(pages(args.root))} pages in {build(args.root, out, args.engine)}")
    except (Broken, ValueError) as e:
        return print(f"the site was not built:\n{e}", file=sys.stderr) or 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
