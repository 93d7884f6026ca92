"""Boxes drawn over images: one image with its phrases, and a gallery of right and wrong ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from .fonts import drawable
from .heat import heat_colours

Pixels = npt.NDArray[np.uint8]
COLOURS = ((220, 40, 40), (30, 110, 230), (20, 150, 60), (200, 120, 0), (150, 50, 190))
TRUE, FOUND = (20, 150, 60), (220, 40, 40)
SIDE = 480  # smaller images are enlarged until their long side has this many pixels
CELL = 260  # long side of an image in the gallery
ATTENTION = 0.45  # share of the heat colours
LINE, TEXT, GAP = 24, 15, 10


@dataclass(frozen=True)
class Labelled:
    """A box (corners in the image's pixels) and what is written at it."""

    box: Sequence[float]
    label: str
    colour: tuple[int, int, int]


def draw_boxes(image: Pixels, boxes: Sequence[Labelled], side: int = SIDE) -> Image.Image:
    """An image uint8 [H, W, 3] with boxes and labels, enlarged to `side` where it is smaller."""
    factor = max(1.0, side / max(image.shape[:2]))
    size = (round(image.shape[1] * factor), round(image.shape[0] * factor))
    sheet = Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(sheet)
    width = max(2, round(max(size) / 200))
    for item in boxes:
        corners = [value * factor for value in item.box]
        draw.rectangle(corners, outline=item.colour, width=width)
        _label(draw, (corners[0], corners[1]), item, size[0])
    return sheet


def _label(draw: ImageDraw.ImageDraw, at: tuple[float, float], item: Labelled, room: float) -> None:
    """The text above the box's corner, inside of it at the top of the image."""
    if not item.label or (shown := drawable(item.label, TEXT)) is None:
        return
    text: str = shown[0]
    font: Any = shown[1]  # Pillow's kinds of fonts share no type
    while len(text) > 1 and font.getlength(text) > room - 8:
        text = text[:-1]
    wide = font.getlength(text) + 8
    x = min(max(0.0, at[0]), room - wide)
    y = at[1] - LINE if at[1] >= LINE else at[1]
    draw.rectangle((x, y, x + wide, y + LINE - 2), fill=item.colour)
    draw.text((x + 4, y + 2), text, fill="white", font=font)


def draw_grounding(
    image: Pixels,
    phrases: Sequence[str],
    boxes: Sequence[Sequence[float]],
    attention: Sequence[npt.NDArray[np.float32]],
) -> Pixels:
    """All boxes over the image, then for each phrase where the model looked.

    Args: image uint8 [H, W, 3]; boxes: corners in its pixels; attention: [H, W] in [0, 1] each.
    Returns: uint8 [H', W', 3].
    """
    labelled = [
        Labelled(box, phrase, COLOURS[i % len(COLOURS)])
        for i, (phrase, box) in enumerate(zip(phrases, boxes, strict=True))
    ]
    tiles = [draw_boxes(image, labelled)]
    for item, seen in zip(labelled, attention, strict=True):
        heat = ATTENTION * heat_colours(seen) + (1 - ATTENTION) * image
        tiles.append(draw_boxes(np.round(heat).astype(np.uint8), [item]))
    return np.array(_row(tiles))


def draw_gallery(
    rows: Sequence[tuple[Pixels, str, Sequence[float], Sequence[float]]],
) -> Image.Image:
    """Images with true boxes in green and found ones in red: (image, text, true, found) each."""
    tiles = []
    for image, text, true, found in rows:
        boxes = [Labelled(true, "", TRUE), Labelled(found, "", FOUND)]
        picture = draw_boxes(image, boxes, CELL)
        picture.thumbnail((CELL, CELL))
        tile = Image.new("RGB", (CELL, CELL + LINE), "white")
        tile.paste(picture, (0, LINE))
        _label(ImageDraw.Draw(tile), (0, 0), Labelled((0, 0, 0, 0), text, (60, 60, 60)), CELL)
        tiles.append(tile)
    lines = [_row(tiles[start : start + 4]) for start in range(0, len(tiles), 4)]
    sheet = Image.new("RGB", (max(t.width for t in lines), sum(t.height for t in lines)), "white")
    y = 0
    for line in lines:
        sheet.paste(line, (0, y))
        y += line.height
    return sheet


def _row(tiles: Sequence[Image.Image]) -> Image.Image:
    """Images side by side."""
    width = sum(tile.width for tile in tiles) + GAP * (len(tiles) - 1)
    row = Image.new("RGB", (width, max(tile.height for tile in tiles)), "white")
    x = 0
    for tile in tiles:
        row.paste(tile, (x, 0))
        x += tile.width + GAP
    return row
