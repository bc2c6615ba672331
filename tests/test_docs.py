"""The built docs site in a real browser: no errors, no other host, diagrams, maths, search, links,
narrow screens, light and dark."""

import functools, http.server, json, re, threading
from collections import Counter
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from axe_playwright_python.sync_playwright import Axe
from bs4 import BeautifulSoup
from conftest import ROOT
from notebooks import notebooks, pages
from site_check import check_site

PAGES = sorted(pages(ROOT).values())
DESK, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        pass  # a reader who leaves a page breaks off what it was loading


@pytest.fixture(scope="session")
def address(site):
    "The built site's address on this machine."
    server = Server(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


@pytest.fixture(scope="session")
def open_page(browser, address):
    """open_page(name, viewport, scheme): a page with what went wrong while it opened in
    `.trouble`; other hosts are refused."""
    contexts = {}

    def watch(context, trouble):
        def refuse(route):
            inside = route.request.url.startswith((address, "data:", "blob:"))
            if not inside:
                trouble.append(f"asked another host: {route.request.url}")
            route.continue_() if inside else route.abort()

        context.route("**/*", refuse)

    def visit(name, viewport=DESK, scheme="light"):
        trouble = []
        context = contexts[len(contexts)] = browser.new_context(
            viewport=viewport, color_scheme=scheme, reduced_motion="reduce"
        )
        watch(context, trouble)
        page = context.new_page()
        page.set_default_timeout(120_000)
        page.on(
            "console",
            lambda m: (
                trouble.append(f"console: {m.text}") if m.type in ("error", "warning") else None
            ),
        )
        page.on("pageerror", lambda e: trouble.append(f"error in a script: {e}"))
        page.on("requestfailed", lambda r: trouble.append(f"failed: {r.url}"))
        page.on(
            "response",
            lambda r: trouble.append(f"{r.status}: {r.url}") if r.status >= 400 else None,
        )
        page.goto(address + name, wait_until="load")
        page.wait_for_function(
            "!document.querySelector('.diagram, pre.mermaid') || "
            "document.documentElement.dataset.diagramsDrawn",
            timeout=120_000,
        )
        return SimpleNamespace(page=page, trouble=trouble, close=context.close)

    yield visit


@pytest.fixture
def visit(open_page):
    "open_page, with its pages closed at the end of the test."
    opened = []

    def go(*args, **kw):
        opened.append(open_page(*args, **kw))
        return opened[-1].page

    yield go
    for o in opened:
        o.close()


def with_class(site, css_class):
    "The pages whose HTML has an element of this class."
    return [p for p in PAGES if re.search(rf'class="[^"]*\b{css_class}\b', (site / p).read_text())]


WIDE = """() => {
    const above = function*(n) { while (n = n.parentElement) yield n }
    const cuts = p => /auto|scroll|hidden|clip/.test(getComputedStyle(p).overflowX)
        && p.id !== 'quarto-content'
    return [...document.querySelectorAll('main *')]
        .filter(e => e.getBoundingClientRect().right > innerWidth + 1)
        .filter(e => ![...above(e)].some(cuts))
        .slice(0, 5).map(e => e.tagName + '.' + e.className)
}"""
CODE_THAT_SCROLLS = """() => [...document.querySelectorAll('main pre')]
    .filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.textContent.slice(0, 60))"""


# Tokens of code, and the sidebar, are of one kind on every page: KINDS below look at them
ALIKE = {"exclude": [["pre > code"], ["#quarto-sidebar"]]}


def barriers(page, context=None, **options):
    "What axe finds: the rule, and the first element of each."
    found = Axe().run(page, context, options or None).response["violations"]
    return [(v["id"], v["nodes"][0]["html"][:120], len(v["nodes"])) for v in found]


@contextmanager
def in_the_dark(page):
    "The other scheme, as a click on its button brings it; the next page opens in light again."
    click = page.locator(".quarto-color-scheme-toggle").first.click
    click()
    page.wait_for_function("document.documentElement.classList.contains('quarto-dark')")
    try: yield
    finally: click()


def told_by(page, address):
    "A list to which goes what a page complains of, and each request to another host."
    trouble = []
    inside = (address, "data:", "blob:")
    page.on("request", lambda r: r.url.startswith(inside) or trouble.append(f"asked for {r.url}"))
    left = "ERR_ABORTED"  # the reader has gone on to the next page
    page.on("requestfailed", lambda r: left in str(r.failure) or trouble.append(f"failed: {r.url}"))
    page.on("response", lambda r: r.status < 400 or trouble.append(f"{r.status}: {r.url}"))
    page.on("pageerror", lambda e: trouble.append(f"error in a script: {e}"))
    bad = ("error", "warning")
    page.on("console", lambda m: m.type not in bad or trouble.append(f"console: {m.text}"))
    return trouble


@pytest.fixture(scope="module")
def reader(browser, address):
    "One reader who goes through all pages: what the pages share is loaded once."
    context = browser.new_context(viewport=DESK, reduced_motion="reduce")
    page = context.new_page()
    page.set_default_timeout(120_000)
    yield SimpleNamespace(page=page, trouble=told_by(page, address))
    context.close()


def dark_diagrams_can_be_read(page):
    "Whether the labels of diagrams stand out once they have been drawn for the dark."
    page.wait_for_function("document.documentElement.dataset.diagramsDrawn === 'dark'")
    if not page.locator(".diagram .nodeLabel").count(): return True
    shapes = ".diagram .node :is(rect, polygon, path, circle)"
    return contrast(page, ".diagram .nodeLabel", shapes) >= 4.5


MATHS_IS_SET = """() => [...document.querySelectorAll('main .math')]
    .every(e => e.querySelector('.katex'))"""


@pytest.mark.parametrize("name", PAGES)
def test_a_page_opens_is_for_everybody_and_fits_a_phone(reader, address, site, name):
    page = reader.page
    reader.trouble.clear()
    page.set_viewport_size(DESK)
    page.goto(address + name, wait_until="load")
    page.wait_for_function(
        "!document.querySelector('.diagram, pre.mermaid') || "
        "document.documentElement.dataset.diagramsDrawn")
    page.evaluate("document.querySelectorAll('img').forEach(i => { i.loading = 'eager' })")
    page.wait_for_function("[...document.images].every(i => i.complete)")
    page.wait_for_function(MATHS_IS_SET)
    assert page.locator(".katex-error").count() == 0
    broken = page.evaluate("[...document.images].filter(i => !i.naturalWidth).map(i => i.src)")
    diagrams = page.locator(".diagram").count()
    assert diagrams == (site / name).read_text().count('class="mermaid"')
    assert diagrams == page.locator(".diagram > svg").count()
    assert page.locator(".diagram .error-icon").count() == 0
    assert barriers(page, ALIKE) == []
    with in_the_dark(page):
        assert barriers(page, ALIKE, runOnly=["color-contrast"]) == []
        if diagrams: assert dark_diagrams_can_be_read(page)
    page.set_viewport_size(PHONE)
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true })")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert page.evaluate(WIDE) == [] and page.evaluate(CODE_THAT_SCROLLS) == []
    assert (reader.trouble, broken) == ([], [])


# Code in colours and the sidebar too: plain text, a table, diagrams, maths, a coloured verdict, a
# difference of texts, an app, the longest list
KINDS = ["index", "mismatch", "lanes", "spending", "ab_testing", "prompts", "app", "ledger"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", [f"{kind}.html" for kind in KINDS])
def test_all_of_a_page_of_each_kind_can_be_read_in_both_schemes(visit, name, scheme):
    assert barriers(visit(name, scheme=scheme)) == []


def test_paper_shows_all_code_on_white(visit):
    page = visit("mismatch.html", {"width": 700, "height": 1000}, scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate(CODE_THAT_SCROLLS) == []
    assert page.locator("main p").first.evaluate(BACKGROUND) == "rgb(255, 255, 255)"
    assert contrast(page, "main p") >= 7


def test_the_page_s_own_entry_is_in_view_and_other_parts_are_folded(visit):
    page = visit("agreement.html")
    page.wait_for_timeout(500)
    box = page.locator("#quarto-sidebar .sidebar-link.active").bounding_box()
    assert 0 < box["y"] < DESK["height"] - 40
    assert page.locator("#quarto-sidebar .sidebar-section.show").count() == 1


def test_figures_on_a_phone_keep_labels_that_can_be_read(visit):
    page = visit("mismatch.html", PHONE)
    assert page.locator("figure.plot img").first.evaluate("i => i.width") > 480


@pytest.mark.parametrize("words, wanted", [
    ("ab.srm", ["reference.html#ab-srm"]),
    ("triggers.psi", ["reference.html#triggers-psi"]),
    ("thompson", ["reference.html#bandits-thompson", "arms.html#thompson"]),
    ("drift", ["reference.html#triggers-drift", "distances.html#drift", "drift.html"])])
def test_search_finds_a_function_by_its_name_first(visit, words, wanted):
    page = visit("index.html")
    look_up(page, words)
    first = page.locator(".search-result").first.get_attribute("href").rpartition("/")[2].lower()
    place, hash, anchor = first.partition("#")
    assert place + hash + anchor.replace(".", "-") in wanted


def test_a_word_is_linked_only_where_it_is_that_function(site):
    soup = BeautifulSoup((site / "when.html").read_text(), "html.parser")
    linked = {code.get_text() for code in soup.select("main a > code")}
    assert "AnyOf" in linked and "value" not in linked


def test_a_link_to_a_page_says_what_it_is_about(site):
    head = BeautifulSoup((site / "mismatch.html").read_text(), "html.parser").head
    said = {m["property"]: m["content"] for m in head.find_all("meta", property=True)}
    assert said["og:title"] == "A leak on the first day" and said["og:image"] == "preview.png"
    assert said["og:description"].startswith("Watch the split of a running test")
    assert (site / "preview.png").read_bytes().startswith(b"\x89PNG")
    assert "There is no such page" in (site / "404.html").read_text()


def test_maths_in_the_chapters_has_no_doubled_backslash_before_a_word():
    doubled = {
        p.name: found
        for p in notebooks(ROOT)
        if (
            found := [
                m
                for c in json.loads(p.read_text())["cells"]
                if c["cell_type"] == "markdown"
                for m in re.findall(r"\\\\[a-zA-Z]+", "".join(c["source"]))
            ]
        )
    }
    assert doubled == {}, "KaTeX reads two backslashes as a line break"


def test_every_page_link_and_anchor_is_there(site):
    assert check_site(site, PAGES) == []


def test_there_are_diagrams(site):
    assert len(with_class(site, "mermaid")) > 3  # each of them is looked at when its page opens


def test_maths_is_set(site, visit):
    with_maths = with_class(site, "math")
    assert len(with_maths) > 20  # each of them is looked at when it opens
    page = visit(with_maths[0])
    page.wait_for_function(MATHS_IS_SET)
    assert page.locator("main .math .katex").count() > 0


def test_text_is_set_in_the_site_s_own_fonts(visit):
    page = visit("index.html")
    page.evaluate("document.fonts.ready.then(() => 1)")
    assert page.evaluate(
        "[...document.fonts].filter(f => f.status === 'loaded').map(f => "
        "f.family.replaceAll('\"', ''))"
    ).count("Source Serif 4")


def rare_word(site, name):
    "A word of a page that stands on no other; '' if there is none."
    texts = Counter()
    for entry in json.loads((site / "search.json").read_text()):
        texts.update(
            {
                (w, entry["href"].partition("#")[0])
                for w in re.findall(r"\b[a-z]{8,14}\b", entry["text"])
            }
        )
    pages_of = Counter(word for word, _ in texts)
    rare = [w for w, page in texts if page == name and pages_of[w] == 1]
    return max(rare, key=lambda w: (len(w), w), default="")


def look_up(page, words):
    "Addresses of the pages that the search box finds."
    page.locator("#quarto-search input").fill(words)
    page.wait_for_selector(".search-result")
    return [
        a.partition("#")[0].rpartition("/")[2]
        for a in page.eval_on_selector_all(".search-result", "as => as.map(a => a.href)")
    ]


def test_search_finds_a_chapter_by_a_word_in_it(site, visit):
    chapters = [p for p in PAGES if p != "index.html"]
    chapter = next(p for p in chapters if rare_word(site, p))  # a list of names may have none
    assert chapter in look_up(visit("index.html"), rare_word(site, chapter))


def test_search_finds_a_chapter_by_its_title_and_goes_there(site, visit):
    chapter = next(p for p in PAGES if p != "index.html")
    page = visit("index.html")
    title = re.search(r'<h1 class="title">(.*?)</h1>', (site / chapter).read_text())[1]
    assert look_up(page, title)[0] == chapter
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/{chapter}*")


def test_search_and_chapters_can_be_reached_on_a_phone(visit):
    page = visit("index.html", PHONE)
    page.locator(".navbar-toggler").click()
    page.locator("#quarto-search input").wait_for(state="visible")
    page.locator(".quarto-btn-toggle").click()
    page.wait_for_function(
        "document.querySelector('#quarto-sidebar').getBoundingClientRect().left >= 0"
    )


LUMINANCE = """([fg, bg]) => {
    const linear = x => { x /= 255; return x <= .03928 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4 }
    const lum = c => {
        const v = c.match(/[\\d.]+/g).slice(0, 3).map(linear)
        return .2126 * v[0] + .7152 * v[1] + .0722 * v[2]
    }
    const [a, b] = [lum(fg), lum(bg)]
    return (Math.max(a, b) + .05) / (Math.min(a, b) + .05)
}"""
BACKGROUND = (
    "e => { while (e) { const c = getComputedStyle(e).backgroundColor; if "
    "(!/^rgba\\(.*, 0\\)$/.test(c)) return c; e = e.parentElement } return 'rgb(255, 255, 255)' }"
)


def contrast(page, selector, fill=None):
    """Contrast (WCAG) of the text of the first element that matches with its ground, or with the
    fill of a shape."""
    element = page.locator(selector).first
    ground = (
        page.locator(fill).first.evaluate("e => getComputedStyle(e).fill")
        if fill
        else element.evaluate(BACKGROUND)
    )
    return page.evaluate(LUMINANCE, [element.evaluate("e => getComputedStyle(e).color"), ground])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_search_box_and_sidebar_can_be_read(visit, scheme):
    page = visit("index.html", scheme=scheme)
    for selector in (
        "main p",
        "main h1",
        "main p a",
        "#quarto-search input",
        ".sidebar-link",
        "#TOC a",
        "footer .nav-footer-left",
    ):
        assert contrast(page, selector) >= 4.5, selector


def test_the_toggle_turns_the_page_dark_and_stays(visit):
    page = visit("index.html")
    before = page.locator("body").evaluate(BACKGROUND)
    page.locator(".quarto-color-scheme-toggle").click()
    page.wait_for_function("document.documentElement.classList.contains('quarto-dark')")
    assert page.locator("body").evaluate(BACKGROUND) != before and contrast(page, "main p") >= 7
    page.reload()
    assert page.evaluate("document.documentElement.classList.contains('quarto-dark')")


def test_figures_turn_dark_with_the_page(site, visit):
    for name in with_class(site, "plot")[:1]:
        page = visit(name, scheme="dark")
        assert "invert" in page.locator("figure.plot img").first.evaluate(
            "i => getComputedStyle(i).filter")
