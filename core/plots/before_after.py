"""A figure of what training changed: photo, caption, and the maps of its words before and after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from ..errors import TTDError
from .fonts import drawable
from .heat import Pixels, heat_colours, quiet_colours
from .sheet import wrapped

Colour: TypeAlias = tuple[int, int, int]
Corner: TypeAlias = tuple[int, int]  # (x, y)

TILE, GAP, MARGIN = 168, 8, 16  # side of a map, space between maps and around everything, in pixels
SIDE = 84  # width of the column with the rows' names
PHOTO = 2 * TILE + GAP  # the photo is as high as two rows
HEADING, NOTE, TEXT, LEGEND = 21, 15, 20, 17  # sizes of letters
HEAD = 58  # height of the two lines above a column
DARK, GREY, GOOD, BAD = (25, 25, 25), (110, 110, 110), (20, 110, 50), (165, 30, 30)
NOTES = {None: DARK, True: GOOD, False: BAD}  # colours of a cell's note
WHITE, ABSENT = (255, 255, 255), (235, 235, 235)
BAR = (180, 14)  # the key of the colours, in pixels
LEADING = 6  # pixels between lines
SMALLEST = 9  # letters that must fit are made smaller down to this


@dataclass(frozen=True)
class Cell:
    """A map [H, W] in [0, 1] and what is written in its corner; `good` colours the note.

    good None: a neutral note. quiet: in grey, as the map of a rejected word.
    """

    values: npt.NDArray[np.floating]
    note: str = ""
    good: bool | None = None
    quiet: bool = False


@dataclass(frozen=True)
class Column:
    """A word (or the caption): its name, a line about it, a cell per row, and its true mask.

    truth: bool [H, W], None for what the image does not show.
    """

    title: str
    about: str
    cells: tuple[Cell, ...]
    truth: npt.NDArray[np.bool_] | None


@dataclass(frozen=True)
class _Style:
    """How text is written: size and colour of its letters, and which of its points is placed."""

    size: int
    colour: Colour = GREY
    anchor: str = "la"


TITLE, SMALL = _Style(HEADING, DARK), _Style(NOTE)


def draw_before_after(
    photo: Pixels,
    caption: str,
    columns: Sequence[Column],
    rows: Sequence[str] = ("before", "after"),
    legend: Sequence[str] = (),
) -> Pixels:
    """Draw the photo over its caption, a row of maps per name in `rows`, the truth, the legend.

    photo: uint8 [H, W, 3]. Maps may have any size; they and the photo are put into squares, with
    their aspect kept. Returns uint8 [PH, PW, 3]. Raises TTDError for a column without one cell per
    row.
    """
    if any(len(column.cells) != len(rows) for column in columns):
        raise TTDError(f"every column needs {len(rows)} maps, one for each of {', '.join(rows)}")
    left = MARGIN + PHOTO + GAP + SIDE
    width = left + len(columns) * (TILE + GAP) + MARGIN
    top = MARGIN + HEAD
    bottom = top + (len(rows) + 1) * (TILE + GAP)
    sheet = Image.new("RGB", (width, bottom + len(legend) * (LEGEND + 8) + MARGIN + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    _photo(sheet, draw, photo, caption, top)
    for k, name in enumerate((*rows, "truth")):
        middle = top + k * (TILE + GAP) + TILE // 2
        _write(draw, (left - GAP - 4, middle), name, _Style(HEADING, DARK, "rm"))
    for k, column in enumerate(columns):
        _column(sheet, draw, column, (left + k * (TILE + GAP), top))
    _legend(sheet, draw, legend, bottom + GAP)
    return np.asarray(sheet)


def _photo(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, photo: Pixels, caption: str, top: int
) -> None:
    """The photo, and the caption below it, with the key of the colours."""
    _write(draw, (MARGIN, top - HEAD + 6), "image and caption", TITLE)
    about = "training sees pairs like this one, and no more"
    _write(draw, (MARGIN, top - HEAD + 34), about, SMALL)
    sheet.paste(_square(Image.fromarray(photo), PHOTO), (MARGIN, top))
    y = top + PHOTO + GAP + 4
    key = top + PHOTO + GAP + TILE - BAR[1] - 22
    size, lines = _caption(f"“{caption}”", key - y)
    for line in lines:
        _write(draw, (MARGIN, y), line, _Style(size, DARK))
        y += size + LEADING
    _key(sheet, draw, key)


def _caption(text: str, room: int) -> tuple[int, list[str]]:
    """The whole caption in letters so large that its lines fit into `room` pixels: size, lines."""
    for size in range(TEXT, SMALLEST, -1):
        lines = wrapped(text, size, PHOTO)
        if len(lines) * (size + LEADING) <= room:
            return size, lines
    return SMALLEST, wrapped(text, SMALLEST, PHOTO)[: room // (SMALLEST + LEADING)]


def _key(sheet: Image.Image, draw: ImageDraw.ImageDraw, top: int) -> None:
    """What the colours of the maps mean."""
    width, height = BAR
    key = heat_colours(np.tile(np.linspace(0, 1, width), (height, 1)))
    sheet.paste(Image.fromarray(key), (MARGIN, top))
    draw.rectangle((MARGIN, top, MARGIN + width, top + height), outline=GREY)
    _write(draw, (MARGIN, top + height + 4), "not here", SMALL)
    _write(draw, (MARGIN + width, top + height + 4), "here", _Style(NOTE, anchor="ra"))


def _column(sheet: Image.Image, draw: ImageDraw.ImageDraw, column: Column, corner: Corner) -> None:
    """Heading, maps and truth of one word, from `corner` (x, y) of its first map down."""
    x, y = corner
    _write(draw, (x, y - HEAD + 6), column.title, TITLE, TILE)
    _write(draw, (x, y - HEAD + 34), column.about, SMALL, TILE)
    for cell in column.cells:
        _tile(sheet, draw, (x, y), _enlarged(cell.values), cell.quiet)
        if cell.note:
            _note(draw, (x + 8, y + 6), cell.note, NOTES[cell.good])
        y += TILE + GAP
    if column.truth is None:
        draw.rectangle((x, y, x + TILE - 1, y + TILE - 1), fill=ABSENT, outline=GREY)
        middle = (x + TILE // 2, y + TILE // 2)
        _write(draw, middle, "not in the image", _Style(NOTE, anchor="mm"))
        return
    _tile(sheet, draw, (x, y), column.truth.astype(np.float32))


def _tile(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    corner: Corner,
    values: npt.NDArray[np.floating],
    quiet: bool = False,
) -> None:
    """A map [H, W] as heat colours, or in grey, in a framed square."""
    x, y = corner
    pixels = quiet_colours(values) if quiet else heat_colours(values)
    sheet.paste(_square(Image.fromarray(pixels), TILE), corner)
    draw.rectangle((x, y, x + TILE - 1, y + TILE - 1), outline=GREY)


def _note(draw: ImageDraw.ImageDraw, place: Corner, text: str, colour: Colour) -> None:
    """Text in white on a box of a colour; left out where no font has its letters."""
    if (found := drawable(text, NOTE)) is None:
        return
    left, top, right, bottom = draw.textbbox(place, found[0], font=found[1], anchor="la")
    draw.rectangle((left - 4, top - 4, right + 4, bottom + 4), fill=colour)
    _write(draw, place, text, _Style(NOTE, WHITE))


def _legend(sheet: Image.Image, draw: ImageDraw.ImageDraw, lines: Sequence[str], top: int) -> None:
    for k, line in enumerate(lines):
        place, room = (MARGIN, top + k * (LEGEND + 8)), sheet.width - 2 * MARGIN
        _write(draw, place, line, _Style(LEGEND), room)


def _write(
    draw: ImageDraw.ImageDraw, place: Corner, text: str, style: _Style, room: int | None = None
) -> None:
    """Text in a font that can draw it, made smaller until it fits into `room` pixels.

    It is left out where no font has its letters.
    """
    size, found = style.size, drawable(text, style.size)
    while found and room and size > SMALLEST and found[1].getlength(found[0]) > room:
        size -= 1
        found = drawable(text, size)
    if found:
        draw.text(place, found[0], font=found[1], fill=style.colour, anchor=style.anchor)


def _enlarged(values: npt.NDArray[np.floating]) -> npt.NDArray[np.float32]:
    """A map [H, W] -> floats whose longer side is TILE, bilinear.

    Values are interpolated, not their colours.
    """
    image = Image.fromarray(np.asarray(values, np.float32))
    return np.asarray(image.resize(_fitted(image.size, TILE), Image.Resampling.BILINEAR))


def _fitted(size: tuple[int, int], side: int) -> tuple[int, int]:
    """(W, H) of an image whose longer side becomes `side`."""
    longer = max(size)
    width, height = (max(1, round(length * side / longer)) for length in size)
    return width, height


def _square(image: Image.Image, side: int) -> Image.Image:
    """The image at the largest size that fits into a square of `side`, in its middle."""
    grows = max(image.size) < side
    method = Image.Resampling.BICUBIC if grows else Image.Resampling.BOX
    small = image.resize(_fitted(image.size, side), method)
    sheet = Image.new("RGB", (side, side), ABSENT)
    sheet.paste(small, ((side - small.width) // 2, (side - small.height) // 2))
    return sheet
