"tools/build_docs.py refuses what would be a broken site, and site_check sees it."

import pytest
from bs4 import BeautifulSoup
from conftest import code, markdown, tool, write_notebook
from notebooks import png_size, relink, svg_size
from site_check import check_site

RAISED = {
    "output_type": "error",
    "ename": "ValueError",
    "evalue": "no",
    "traceback": ["ValueError: no"],
}
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="72pt" height="36pt"></svg>'
PLOT = {"output_type": "display_data", "metadata": {}, "data": {"image/svg+xml": SVG}}


def build(root, *cells):
    "Build the small project with more cells on its second page; the finished process."
    if cells:
        write_notebook(
            root / "nbs/00_other.ipynb",
            markdown("# Other\n\n> Another page."),
            markdown("## A part of it"),
            *cells,
        )
    return tool("build_docs.py", "--engine", "smalldocs", root=root)


def test_builds_in_a_path_with_a_space_and_a_second_time(project):
    for _ in range(2):
        done = build(project)
        assert done.returncode == 0, done.stderr
    made = {p.name for p in (project / "_docs").glob("*.html")}
    assert made == {"404.html", "index.html", "other.html"}
    assert 'href="other.html#a-part-of-it"' in (project / "_docs/index.html").read_text()
    assert "is current" in tool("build_docs.py", "--if-stale", root=project).stdout


def test_the_address_of_the_site_is_one_setting(project):
    path = project / "pyproject.toml"
    urls = '[project.urls]\nDocumentation = "https://films.example.org/course/"\n'
    urls += 'Repository = "https://code.example.org/ada/films"\n'
    path.write_text(path.read_text() + urls)
    assert build(project).returncode == 0
    page = BeautifulSoup((project / "_docs/other.html").read_text(), "html.parser")
    where = "https://films.example.org/course/"
    assert [a["href"] for a in page.find_all("link", rel="canonical")] == [where + "other.html"]
    assert page.find("meta", property="og:url")["content"] == where + "other.html"
    assert page.select_one(".navbar a:-soup-contains(Code)")["href"].endswith("/ada/films")
    assert f"<loc>{where}other.html</loc>" in (project / "_docs/sitemap.xml").read_text()


def test_writes_the_same_configuration_each_time(project):
    assert tool("build_docs.py", "--sidebar", root=project).returncode == 0
    first = {n: (project / "nbs" / n).read_bytes() for n in ("sidebar.yml", "nbdev.yml")}
    build(project)
    assert first == {n: (project / "nbs" / n).read_bytes() for n in first}


@pytest.mark.parametrize(
    "cell, complaint",
    [
        (code("1/0", RAISED), "stored output is an error"),
        (code("#| export\nimport json\nraise ValueError('broken cell')"), "broken cell"),
        (markdown("[gone](07_gone.ipynb)"), "07_gone.ipynb"),
        (markdown("[gone](nothing.txt)"), "nothing.txt"),
        (markdown("[gone](index.ipynb#no-such-part)"), "broken anchor index.html#no-such-part"),
        (markdown("[gone](#nor-this)"), "broken anchor #nor-this"),
        (markdown("![a picture](images/gone.png)"), "images/gone.png"),
        (markdown("![a picture](https://example.com/a.png)"), "from another host"),
        (markdown('<script src="https://example.com/a.js"></script>'), "from another host"),
        (code("plot()", PLOT), "without alt text"),
    ],
    ids=[
        "stored error",
        "raising cell",
        "notebook",
        "file",
        "anchor",
        "own anchor",
        "picture",
        "outside picture",
        "outside script",
        "no alt text",
    ],
)
def test_refuses(project, cell, complaint):
    done = build(project, cell)
    assert done.returncode == 1 and complaint in done.stderr
    assert not (project / "_docs").exists()


def test_a_failed_build_leaves_the_earlier_site(project):
    assert build(project).returncode == 0
    before = (project / "_docs/other.html").read_text()
    assert build(project, markdown("[gone](07_gone.ipynb)")).returncode == 1
    assert (project / "_docs/other.html").read_text() == before


def test_figures_become_files_with_size_and_words(project):
    assert build(project, code('#| fig-alt: "A \\"plot\\""\nplot()', PLOT)).returncode == 0
    assert (project / "_docs/figures/other-1.svg").read_text().strip() == SVG
    assert (
        '<img alt=\'A "plot"\' height="48" loading="lazy" src="figures/other-1.svg" width="96"/>'
        in (project / "_docs/other.html").read_text()
    )


def test_sizes_of_pictures():
    png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (1280).to_bytes(4) + (960).to_bytes(4)
    assert png_size(png) == (1280, 960)
    assert png_size(png + b"pHYs" + (7559).to_bytes(4) * 2 + b"\1") == (640, 480)
    assert svg_size(SVG.encode()) == (96, 48)


def test_links_in_code_are_left_alone():
    text = "[a](x.ipynb) `[b](x.ipynb)`\n```\n[c](x.ipynb)\n```\n<a href='x.ipynb'>d</a>"
    assert (
        relink(text, str.upper)
        == "[a](X.IPYNB) `[b](x.ipynb)`\n```\n[c](x.ipynb)\n```\n<a href='X.IPYNB'>d</a>"
    )


@pytest.mark.parametrize(
    "html, complaint",
    [
        ('<link rel="stylesheet" href="https://fonts.example.com/a.css">', "from another host"),
        ('<link rel="preconnect" href="//fonts.example.com">', "from another host"),
        ('<style>@import url("https://example.com/a.css")</style>', "from another host"),
        ('<p style="background: url(http://example.com/a.png)">', "from another host"),
        (
            '<script type="module">import x from "https://example.com/x.mjs"</script>',
            "from another host",
        ),
        ('<img alt="a" srcset="//example.com/a.png 2x">', "from another host"),
        ('<a href="/root.html">a</a>', "server's root"),
        ('<a href="b.ipynb">a</a>', "no page of the site"),
        ('<div class="cell-output cell-output-error"></div>', "raised an error"),
    ],
)
def test_site_check_sees(tmp_path, html, complaint):
    (tmp_path / "a.html").write_text(html)
    assert complaint in "\n".join(check_site(tmp_path))


def test_site_check_accepts_links_to_other_sites_and_misses_no_page(tmp_path):
    (tmp_path / "a.html").write_text(
        '<a id="x" href="https://example.com">out</a> <a href="#x">x</a> <img alt="dot" '
        'src="data:image/png;base64,AAAA">'
    )
    assert check_site(tmp_path, ["a.html"]) == []
    assert check_site(tmp_path, ["b.html"]) == ["b.html: page is missing"]
