"Every stored figure is there as PNG, for a notebook that nobody trusts yet, and as SVG."

import base64, io

import pytest
from conftest import ROOT
from notebooks import load, notebooks
from PIL import Image

PAGES = notebooks(ROOT)


def figures(notebook):
    "(output, its pictures by kind) of each figure of a page."
    for cell in load(notebook)["cells"]:
        for output in cell.get("outputs", []):
            kinds = {kind for kind in output.get("data", {}) if kind.startswith("image/")}
            if kinds:
                yield output, kinds


def test_there_are_figures():
    assert sum(len(list(figures(page))) for page in PAGES) >= 50


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_a_figure_is_stored_as_png_and_svg(page):
    for output, kinds in figures(page):
        assert kinds == {"image/png", "image/svg+xml"}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_a_png_has_two_dots_for_each_pixel_and_weighs_little(page):
    for output, _ in figures(page):
        data = base64.b64decode(output["data"]["image/png"])
        image, shown = Image.open(io.BytesIO(data)), output["metadata"]["image/png"]
        assert shown == {"width": image.width // 2, "height": image.height // 2}
        assert len(data) < 150_000
