"""An image of what training changed: photo and caption, then the maps of its words before, after, and the truth."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from ..errors import TTDError
from .fonts import drawable
from .panel import heat_colours

TILE, GAP, MARGIN = 168, 8, 16  # side of a map, space between maps and around everything, in pixels
SIDE = 84  # width of the column with the rows' names
PHOTO = 2 * TILE + GAP  # the photo is as high as two rows
HEADING, NOTE, TEXT, LEGEND = 21, 15, 20, 17  # sizes of letters
HEAD = 58  # height of the two lines above a column
DARK, GREY, GOOD, BAD = (25, 25, 25), (110, 110, 110), (20, 110, 50), (165, 30, 30)
ABSENT = (235, 235, 235)
BAR = (180, 14)  # the key of the colours, in pixels


@dataclass(frozen=True)
class Cell:
    """A map [H, W] in [0, 1] and what is written in its corner; `good` colours the note (None: neutral)."""

    values: np.ndarray
    note: str = ""
    good: bool | None = None


@dataclass(frozen=True)
class Column:
    """A word (or the caption): its name, a line about it, a cell per row, and its true mask bool [H, W].

    truth is None for what the image does not show.
    """

    title: str
    about: str
    cells: tuple[Cell, ...]
    truth: np.ndarray | None


def draw_before_after(
    photo: np.ndarray,
    caption: str,
    columns: Sequence[Column],
    rows: Sequence[str] = ("before", "after"),
    legend: Sequence[str] = (),
) -> np.ndarray:
    """Draw it: the photo uint8 [H, W, 3] over its caption, a row of maps per name in `rows`, the truth, the legend.

    Maps may have any size; they and the photo are drawn as squares of theirs, aspect kept. Returns
    uint8 [PH, PW, 3]. Raises TTDError for a column without one cell per row.
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
        _write(
            draw, (left - GAP - 4, top + k * (TILE + GAP) + TILE // 2), name, HEADING, DARK, "rm"
        )
    for k, column in enumerate(columns):
        _column(sheet, draw, column, (left + k * (TILE + GAP), top))
    _legend(sheet, draw, legend, bottom + GAP)
    return np.asarray(sheet)


def _photo(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, photo: np.ndarray, caption: str, top: int
) -> None:
    """The photo, and the caption below it, with the key of the colours."""
    _write(draw, (MARGIN, top - HEAD + 6), "image and caption", HEADING, DARK, "la")
    _write(
        draw,
        (MARGIN, top - HEAD + 34),
        "training sees pairs like this one, and no more",
        NOTE,
        GREY,
        "la",
    )
    sheet.paste(_square(Image.fromarray(photo), PHOTO), (MARGIN, top))
    y = top + PHOTO + GAP + 4
    for line in textwrap.wrap(f"“{caption}”", width=34)[:4]:
        _write(draw, (MARGIN, y), line, TEXT, DARK, "la")
        y += TEXT + 6
    key_top = top + PHOTO + GAP + TILE - BAR[1] - 22
    key = heat_colours(np.tile(np.linspace(0, 1, BAR[0]), (BAR[1], 1)))
    sheet.paste(Image.fromarray(key), (MARGIN, key_top))
    draw.rectangle((MARGIN, key_top, MARGIN + BAR[0], key_top + BAR[1]), outline=GREY)
    _write(draw, (MARGIN, key_top + BAR[1] + 4), "not here", NOTE, GREY, "la")
    _write(draw, (MARGIN + BAR[0], key_top + BAR[1] + 4), "here", NOTE, GREY, "ra")


def _column(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, column: Column, corner: tuple[int, int]
) -> None:
    """Heading, maps and truth of one word, from `corner` (x, y) of its first map down."""
    x, y = corner
    _write(draw, (x, y - HEAD + 6), column.title, HEADING, DARK, "la", TILE)
    _write(draw, (x, y - HEAD + 34), column.about, NOTE, GREY, "la", TILE)
    for cell in column.cells:
        heat = Image.fromarray(heat_colours(_enlarged(cell.values)))
        sheet.paste(_square(heat, TILE), (x, y))
        draw.rectangle((x, y, x + TILE - 1, y + TILE - 1), outline=GREY)
        if cell.note:
            colour = {None: DARK, True: GOOD, False: BAD}[cell.good]
            box = draw.textbbox(
                (x + 8, y + 6), cell.note, font=drawable(cell.note, NOTE)[1], anchor="la"
            )
            draw.rectangle((box[0] - 4, box[1] - 4, box[2] + 4, box[3] + 4), fill=colour)
            _write(draw, (x + 8, y + 6), cell.note, NOTE, (255, 255, 255), "la")
        y += TILE + GAP
    if column.truth is None:
        draw.rectangle((x, y, x + TILE - 1, y + TILE - 1), fill=ABSENT, outline=GREY)
        _write(draw, (x + TILE // 2, y + TILE // 2), "not in the image", NOTE, GREY, "mm")
        return
    sheet.paste(
        _square(Image.fromarray(heat_colours(column.truth.astype(np.float32))), TILE), (x, y)
    )
    draw.rectangle((x, y, x + TILE - 1, y + TILE - 1), outline=GREY)


def _legend(sheet: Image.Image, draw: ImageDraw.ImageDraw, lines: Sequence[str], top: int) -> None:
    for k, line in enumerate(lines):
        _write(
            draw,
            (MARGIN, top + k * (LEGEND + 8)),
            line,
            LEGEND,
            GREY,
            "la",
            sheet.width - 2 * MARGIN,
        )


def _write(
    draw: ImageDraw.ImageDraw,
    place: tuple[int, int],
    text: str,
    size: int,
    colour: tuple[int, int, int],
    anchor: str,
    room: int | None = None,
) -> None:
    """Text in a font that can draw it (left out where there is none), made smaller until it fits into `room`."""
    found = drawable(text, size)
    while found and room and size > 9 and found[1].getlength(found[0]) > room:
        size -= 1
        found = drawable(text, size)
    if found:
        draw.text(place, found[0], font=found[1], fill=colour, anchor=anchor)


def _enlarged(values: np.ndarray) -> np.ndarray:
    """Map [H, W] -> floats whose longer side is TILE, bilinear: interpolated as values, not as colours."""
    height, width = values.shape
    size = (
        max(1, round(width * TILE / max(height, width))),
        max(1, round(height * TILE / max(height, width))),
    )
    return np.asarray(
        Image.fromarray(np.asarray(values, np.float32)).resize(size, Image.Resampling.BILINEAR)
    )


def _square(image: Image.Image, side: int) -> Image.Image:
    """The image at the largest size that fits into a square of `side`, in its middle."""
    factor = side / max(image.size)
    small = image.resize(
        (max(1, round(image.width * factor)), max(1, round(image.height * factor))),
        Image.Resampling.BICUBIC if max(image.size) < side else Image.Resampling.BOX,
    )
    sheet = Image.new("RGB", (side, side), ABSENT)
    sheet.paste(small, ((side - small.width) // 2, (side - small.height) // 2))
    return sheet
