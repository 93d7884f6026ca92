"""Label maps for the eye: labels over their image, a legend with names, a sheet of many images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from .fonts import Font, default_font, drawable

Pixels: TypeAlias = npt.NDArray[np.uint8]
Floats: TypeAlias = npt.NDArray[np.floating]
Colour: TypeAlias = tuple[int, int, int]

OPACITY = 0.6  # of a class's colour; where there is no class the photograph is as it was
LIGHT = 90  # the darkest grey under a colour
EDGE_SHARE = 250  # an outline is one pixel for so many of the image's short side
CELL = (240, 320)  # largest image in a sheet (H, W), in pixels
COLUMNS = 4  # of a sheet, at most
TEXT, LINE, SWATCH, GAP = 16, 26, 18, 10  # size of letters, height of a line, side of a colour
SMALLEST = 320  # width of a legend, in pixels
INK, FRAME = (20, 20, 20), (120, 120, 120)


@dataclass(frozen=True)
class Entry:
    """What a label is called and its colour."""

    label: int
    name: str
    colour: Colour


@dataclass(frozen=True)
class Tile:
    """One image of a sheet, uint8 [H, W, 3], and what is written below it."""

    image: Pixels
    title: str


def overlay(image: Pixels, labels: Pixels, entries: Sequence[Entry]) -> Pixels:
    """Labels uint8 [H, W] over an image uint8 [H, W, 3] -> uint8 [H, W, 3].

    What has an entry is tinted in its colour, over a light grey so that colours stay true, with a
    white outline; everything else is the photograph, untouched.
    """
    colours = np.zeros((256, 3), np.float32)
    shown = np.zeros(256, bool)
    for entry in entries:
        colours[entry.label], shown[entry.label] = entry.colour, True
    tinted = _tinted(colours[labels], image.mean(axis=2, keepdims=True))
    inside = shown[labels]
    result = np.where(inside[..., None], tinted.round(), image).astype(np.uint8)
    result[_edges(labels, inside)] = 255
    return result


def _tinted(colours: Floats, grey: Floats | float) -> Floats:
    """Colours [..., 3] over grey values 0-255, which are lifted: dark ones would hide dark colours.

    Of the legend, too, so that it shows what is seen.
    """
    light = LIGHT + (1 - LIGHT / 255) * grey
    return np.asarray(OPACITY * colours + (1 - OPACITY) * light)


def _edges(labels: Pixels, inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Outlines bool [H, W]: pixels of a class that lie at another label."""
    edge = np.zeros(labels.shape, bool)
    width = max(1, round(min(labels.shape) / EDGE_SHARE))
    for step in range(1, width + 1):
        for axis in (0, 1):
            before = np.take(labels, range(0, max(0, labels.shape[axis] - step)), axis)
            after = np.take(labels, range(step, labels.shape[axis]), axis)
            differs = before != after
            room = [(0, 0), (0, 0)]
            room[axis] = (0, labels.shape[axis] - differs.shape[axis])
            edge |= np.pad(differs, room)
            room[axis] = room[axis][::-1]
            edge |= np.pad(differs, room)
    return edge & inside


def with_legend(image: Pixels, entries: Sequence[Entry]) -> Pixels:
    """An image uint8 [H, W, 3] with the entries named below it, uint8 [H', W', 3].

    Nothing is added where there are no entries.
    """
    if not entries:
        return image
    return np.asarray(_stacked(Image.fromarray(image), legend(entries, image.shape[1])))


def legend(entries: Sequence[Entry], width: int) -> Image.Image:
    """Colours and names in as many columns as fit into `width` pixels (at least `SMALLEST`).

    Names are written whole where they can be: the columns are as wide as the longest. What no font
    can draw is written as its number.
    """
    width = max(width, SMALLEST)
    room = width - 3 * GAP - SWATCH
    texts = [_text(entry, room) for entry in entries]
    widest = max((font.getlength(text) for text, font in texts), default=0.0)
    cell = math.ceil(widest) + SWATCH + 3 * GAP
    columns = max(1, (width - GAP) // cell)
    rows = math.ceil(len(entries) / columns)
    sheet = Image.new("RGB", (width, rows * LINE + 2 * GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for place, (entry, (text, font)) in enumerate(zip(entries, texts, strict=True)):
        column, row = divmod(place, rows)
        x, y = GAP + column * cell, GAP + row * LINE
        box = (x, y + (LINE - SWATCH) // 2, x + SWATCH, y + (LINE + SWATCH) // 2)
        seen = _tinted(np.array(entry.colour, np.float32), 128.0).round().astype(int).tolist()
        draw.rectangle(box, fill=tuple(seen), outline=FRAME)
        draw.text((x + SWATCH + GAP, y + LINE // 2), text, font=font, fill=INK, anchor="lm")
    return sheet


def _text(entry: Entry, room: float) -> tuple[str, Font]:
    """A name as it is drawn, cut with an ellipsis to `room` pixels, and its font."""
    return fitted(entry.name, room) or (f"label {entry.label}", default_font(TEXT))


def fitted(text: str, room: float) -> tuple[str, Font] | None:
    """A line of text cut to `room` pixels, and the font that draws it; None where none can."""
    if (found := drawable(text, TEXT)) is None:
        return None
    whole, font = found
    cut, keep = whole, len(whole)
    while keep > 1 and font.getlength(cut) > room:
        keep -= 1
        cut = whole[:keep].rstrip() + "…"
    return cut, font


def contact_sheet(tiles: Sequence[Tile], entries: Sequence[Entry]) -> Image.Image:
    """Many images on one sheet, each with its title, and one legend for all, RGB."""
    columns = min(COLUMNS, math.ceil(math.sqrt(len(tiles))))
    width = columns * (CELL[1] + GAP) + GAP
    titles = [_lines(tile.title, CELL[1]) for tile in tiles]
    cell = CELL[0] + LINE * max(len(lines) for lines in titles) + GAP
    sheet = Image.new("RGB", (width, math.ceil(len(tiles) / columns) * cell + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    for place, (tile, lines) in enumerate(zip(tiles, titles, strict=True)):
        row, column = divmod(place, columns)
        x, y = GAP + column * (CELL[1] + GAP), GAP + row * cell
        small = _fitted_image(tile.image)
        left, top = (CELL[1] - small.width) // 2, (CELL[0] - small.height) // 2
        sheet.paste(small, (x + left, y + top))
        for number, (text, font) in enumerate(lines):
            middle = (x + CELL[1] // 2, y + CELL[0] + LINE * number + LINE // 2)
            draw.text(middle, text, font=font, fill=INK, anchor="mm")
    return _stacked(sheet, legend(entries, width)) if entries else sheet


def _lines(text: str, room: float) -> list[tuple[str, Font]]:
    """A title in one line, or two where it is longer than `room` pixels; the second may be cut."""
    if (found := drawable(text, TEXT)) is None:
        return []
    whole, font = found
    words, first = whole.split(), ""
    while words and font.getlength(f"{first} {words[0]}") <= room:
        first = f"{first} {words.pop(0)}".strip()
    lines = [fitted(part, room) for part in (first, " ".join(words)) if part]
    return [line for line in lines if line]


def _fitted_image(pixels: Pixels) -> Image.Image:
    """The image [H, W, 3] at the largest size that fits into `CELL`."""
    height, width = pixels.shape[:2]
    factor = min(CELL[0] / height, CELL[1] / width)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    method = Image.Resampling.BICUBIC if factor > 1 else Image.Resampling.BOX
    return Image.fromarray(pixels).resize(size, method)


def _stacked(top: Image.Image, bottom: Image.Image) -> Image.Image:
    """One image above the other, on white."""
    size = (max(top.width, bottom.width), top.height + bottom.height)
    sheet = Image.new("RGB", size, "white")
    sheet.paste(top, (0, 0))
    sheet.paste(bottom, (0, top.height))
    return sheet
