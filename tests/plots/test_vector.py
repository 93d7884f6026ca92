"""The same sheet as PNG, SVG and PDF."""

import base64
import io
import sys
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from core.errors import TTDError
from core.plots.sheet import Box, Picture, Sheet
from core.plots.vector import encoded

SVG, LINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}href"


@pytest.fixture
def sheet():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    sheet = Sheet(200, 100)
    sheet.items += [Picture(5, 7, pixels), Box(1, 2, 3, 4, (255, 0, 16))]
    sheet.write((10, 90), 'a "red" <dog> & её 狗', 15, (20, 20, 20))
    return sheet


def test_a_png_has_the_sheets_pixels(sheet):
    image = Image.open(io.BytesIO(encoded(sheet, "png")))
    np.testing.assert_array_equal(np.asarray(image), sheet.pixels())


def test_an_svg_has_texts_as_texts_and_images_as_they_are(sheet):
    root = ElementTree.fromstring(encoded(sheet, "svg"))
    assert root.get("viewBox") == "0 0 200 100"
    texts = root.findall(f"{SVG}text")
    assert "".join(text.text for text in texts) == 'a "red" <dog> & её 狗'
    lengths = [float(text.get("textLength")) for text in texts]
    starts = [float(text.get("x")) for text in texts]
    np.testing.assert_allclose(np.diff([*starts, starts[-1] + lengths[-1]]), lengths, atol=0.1)
    image = root.find(f"{SVG}image")
    assert (image.get("x"), image.get("width"), image.get("height")) == ("5", "30", "20")
    kind, data = image.get(LINK).split(",")
    assert kind == "data:image/png;base64"
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))
    np.testing.assert_array_equal(pixels, sheet.items[0].pixels)
    box = root.findall(f"{SVG}rect")[1]
    assert box.get("fill") == "#ff0010" and box.get("width") == "3"


def test_a_pdf_is_one_page_of_the_sheets_size_and_the_same_twice(sheet):
    pytest.importorskip("fpdf", reason="requirements-pdf.txt is not installed")
    first = encoded(sheet, "pdf")
    assert first.startswith(b"%PDF-") and first == encoded(sheet, "pdf")
    assert b"/MediaBox [0 0 48.00 24.00]" in first  # 0.24 points a pixel
    assert first.count(b"/Subtype /Image") == 1 and b"/FontFile2" in first  # a font, embedded


def test_pdf_without_its_package_says_what_to_install(sheet, monkeypatch):
    monkeypatch.setitem(sys.modules, "fpdf", None)
    with pytest.raises(TTDError, match=r"requirements-pdf\.txt, or use --format svg"):
        encoded(sheet, "pdf")


def test_another_format_is_refused(sheet):
    with pytest.raises(TTDError, match="png, svg, pdf"):
        encoded(sheet, "gif")
