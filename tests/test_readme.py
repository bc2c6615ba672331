"The README is what nbs/index.ipynb says, and the commands that it names exist."

import re

import pytest
from conftest import ROOT, code, markdown, tool, write_notebook
from notebooks import relink

PLOT = {
    "output_type": "display_data",
    "metadata": {},
    "data": {"image/svg+xml": '<svg width="72pt" height="36pt"></svg>'},
}


def targets(makefile):
    "The targets of a Makefile."
    return set(re.findall(r"(?m)^([a-z][\w-]*)\s*:(?!=)", makefile))


def test_the_readme_is_current():
    done = tool("readme.py", "--check")
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_make_command_of_the_readme_exists():
    named = set(
        re.findall(
            r"\bmake ([a-z][\w-]*)",
            " ".join(re.findall(r"(?s)```.*?```|`[^`\n]+`", (ROOT / "README.md").read_text())),
        )
    )
    assert {"run", "test"} <= named
    assert named <= targets((ROOT / "Makefile").read_text())


def test_the_makefile_has_the_promised_targets():
    assert {"run", "test", "lab", "docs", "bench", "help"} <= targets(
        (ROOT / "Makefile").read_text()
    )


def test_files_that_the_readme_links_to_exist():
    wanted = []
    relink((ROOT / "README.md").read_text(), lambda t: wanted.append(t) or t)
    wanted += re.findall(r'src="([^"]+)"', (ROOT / "README.md").read_text())
    assert [
        t
        for t in wanted
        if "://" not in t and not t.startswith("#") and not (ROOT / t.partition("#")[0]).exists()
    ] == []


@pytest.fixture
def readme(project):
    "Write the README of the small project from cells; its text."
    (project / "trending_now").mkdir()
    (project / "trending_now/_modidx.py").write_text(
        "d = {'syms': {'trending_now.other': {'trending_now.other.psi': ('other.html#psi', "
        "'trending_now/other.py')}}, 'settings': {}}\n"
    )

    def write(*cells):
        write_notebook(project / "nbs/index.ipynb", markdown("# Small"), *cells)
        done = tool("readme.py", root=project)
        assert done.returncode == 0, done.stderr
        return (project / "README.md").read_text()

    return write


def test_links_and_names_lead_to_notebooks(readme):
    text = readme(
        markdown(
            "[other](00_other.ipynb#A-part), `psi`, `psi()`, `chi`\n```\n`psi` "
            "[x](00_other.ipynb)\n```"
        )
    )
    assert (
        "[other](nbs/00_other.ipynb#A-part), [`psi`](nbs/00_other.ipynb), "
        "[`psi()`](nbs/00_other.ipynb), `chi`\n```\n`psi` [x](00_other.ipynb)\n```" in text
    )


def test_hidden_cells_and_hidden_code_stay_out(readme):
    text = readme(
        code("#| hide\nsecret = 1"),
        code(
            "#| echo: false\nplain()",
            {"output_type": "stream", "name": "stdout", "text": "shown\n"},
        ),
    )
    assert "secret" not in text and "plain" not in text and "shown" in text


def test_figures_lie_beside_and_old_ones_go(readme, project):
    assert '<img src="nbs/images/index-1.svg" alt="A plot" width="96">' in readme(
        code("#| fig-alt: A plot\nplot()", PLOT)
    )
    assert (project / "nbs/images/index-1.svg").exists()
    readme(markdown("No figure."))
    assert not (project / "nbs/images/index-1.svg").exists()


def test_check_shows_the_difference_and_writes_nothing(readme, project):
    readme(markdown("One."))
    (project / "README.md").write_text("Two.\n")
    done = tool("readme.py", "--check", root=project)
    assert done.returncode == 1 and "-Two." in done.stdout and "+One." in done.stdout
    assert (project / "README.md").read_text() == "Two.\n"


def test_links_within_the_readme_are_written_as_code_hosts_write_them():
    text = (ROOT / "README.md").read_text()
    wanted = set(re.findall(r"\]\(#([^)]+)\)", text))
    headings = re.findall(r"(?m)^#+ (.+)$", text)
    there = {re.sub(r"[^a-z0-9_-]", "", h.lower().replace(" ", "-")) for h in headings}
    assert wanted and wanted <= there
