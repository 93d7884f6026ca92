"""A sheet as SVG or PDF: texts stay texts, which sharpen with the page and can be searched."""

from __future__ import annotations

import base64
import io
import logging
from datetime import datetime, timezone
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from xml.sax.saxutils import escape

from PIL import Image

from ..errors import TTDError
from .fonts import Font
from .heat import Pixels
from .sheet import Box, Colour, Picture, Sheet, Text

FAMILIES = "Helvetica, Arial, 'DejaVu Sans', 'Noto Sans', sans-serif"
POINTS = 0.24  # of a PDF, for a pixel: 300 pixels an inch
EPOCH = datetime(2024, 1, 1, tzinfo=timezone.utc)  # in every PDF: the same sheet is the same file


def encoded(sheet: Sheet, kind: str) -> bytes:
    """The sheet as a file of `kind`: png, svg or pdf.

    Raises TTDError for another kind, and for pdf where fpdf2 is not installed.
    """
    makers = {"png": _png_sheet, "svg": _svg, "pdf": _pdf}
    if kind not in makers:
        raise TTDError(f"unknown format {kind!r}: choose one of {', '.join(makers)}")
    return makers[kind](sheet)


def require_pdf() -> Any:
    """The package that writes PDF. TTDError where it is not installed."""
    try:
        import fpdf
    except ImportError:
        raise TTDError(
            "--format pdf needs fpdf2: pip install -r requirements-pdf.txt, or use --format svg"
        ) from None
    return fpdf


def _png_sheet(sheet: Sheet) -> bytes:
    return _png(sheet.pixels())


def _png(pixels: Pixels) -> bytes:
    """uint8 [H, W, 3] as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def _svg(sheet: Sheet) -> bytes:
    """An SVG file. `textLength` keeps every text as wide as it was planned in any font."""
    size = f'width="{sheet.width}" height="{sheet.height}"'
    view = f'viewBox="0 0 {sheet.width} {sheet.height}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'{size} {view} font-family="{FAMILIES}">',
        f'<rect {size} fill="white"/>',
        *[_svg_item(item) for item in sheet.items],
        "</svg>\n",
    ]
    return "\n".join(lines).encode()


def _svg_item(item: Text | Picture | Box) -> str:
    """One element."""
    at = f'x="{item.x:g}" y="{item.y:g}"'
    if isinstance(item, Text):
        long = item.font.getlength(item.text)
        return (
            f'<text {at} font-size="{item.font.size:g}" fill="{_hex(item.colour)}" '
            f'textLength="{long:.1f}" lengthAdjust="spacingAndGlyphs" xml:space="preserve">'
            f"{escape(item.text)}</text>"
        )
    if isinstance(item, Picture):
        height, width = item.pixels.shape[:2]
        data = base64.b64encode(_png(item.pixels)).decode()
        link = f"data:image/png;base64,{data}"
        return f'<image {at} width="{width}" height="{height}" xlink:href="{link}"/>'
    size = f'width="{item.width}" height="{item.height}"'
    if item.filled:
        return f'<rect {at} {size} fill="{_hex(item.colour)}"/>'
    return f'<rect {at} {size} fill="none" stroke="{_hex(item.colour)}"/>'


def _hex(colour: Colour) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def _pdf(sheet: Sheet) -> bytes:
    """A PDF of one page, with the fonts that the sheet was planned with."""
    fpdf = require_pdf()
    # Letters that no font has are boxes here as in the PNG: seen, so not worth a warning.
    logging.getLogger("fpdf").setLevel(logging.ERROR)
    page = fpdf.FPDF(unit="pt", format=(sheet.width * POINTS, sheet.height * POINTS))
    page.set_creation_date(EPOCH)
    page.set_auto_page_break(False)
    page.add_page()
    with TemporaryDirectory() as folder:
        fonts = _PDFFonts(page, Path(folder))
        for item in sheet.items:
            _pdf_item(page, item, fonts)
        return bytes(page.output())


def _pdf_item(page: Any, item: Text | Picture | Box, fonts: _PDFFonts) -> None:
    """One text, image or box on the page."""
    x, y = item.x * POINTS, item.y * POINTS
    if isinstance(item, Text):
        page.set_font(fonts.name(item.font), size=item.font.size * POINTS)
        page.set_text_color(*item.colour)
        page.text(x, y, item.text)
    elif isinstance(item, Picture):
        height, width = (side * POINTS for side in item.pixels.shape[:2])
        page.image(io.BytesIO(_png(item.pixels)), x, y, width, height)
    else:
        page.set_line_width(POINTS)
        page.set_draw_color(*item.colour)
        page.set_fill_color(*item.colour)
        style = "F" if item.filled else "D"
        page.rect(x, y, item.width * POINTS, item.height * POINTS, style=style)


class _PDFFonts:
    """The fonts of a page, each embedded once under a name."""

    def __init__(self, page: Any, folder: Path) -> None:
        self._page, self._folder = page, folder
        self._names: dict[str, str] = {}

    def name(self, font: Font) -> str:
        """What a font is called on the page."""
        key = " ".join(map(str, font.getname()))
        if key not in self._names:
            self._names[key] = f"font{len(self._names)}"
            self._page.add_font(self._names[key], fname=self._file(font))
        return self._names[key]

    def _file(self, font: Font) -> Path:
        """A font's file; Pillow's own one is written, for it lies inside of a module."""
        if isinstance(font.path, str):
            return Path(font.path)
        path = self._folder / "own.ttf"
        path.write_bytes(font.path.getvalue())
        return path
