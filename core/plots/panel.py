"""The panel: an image, then one blue-white-red heat map per tag with `tag: score` in its corner."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..errors import TTDError
from .fonts import drawable

MIN_SIDE = 256  # smaller images are enlarged until their long side has this many pixels
MAX_SIDE = 2000  # larger ones are reduced to this
MIN_TILE = (96, 224)  # smallest tile (H, W): room for a label; thin images are centred in it
MIN_THICKNESS = 24  # a 5000 x 1 image is drawn this thick, or nobody would see it
MAX_PIXELS = 48_000_000  # of the whole panel: with many tags, tiles are reduced to stay below
PANEL_ASPECT = 2.2  # width / height that the arrangement in rows and columns aims at
GAP = 6  # pixels between tiles
GAP_COLOUR, MAT_COLOUR = (
    (255, 255, 255),
    (225, 225, 225),
)  # between tiles; around a thin image in its tile
LABEL_ON, LABEL_OFF = (
    (20, 20, 20),
    (120, 120, 120),
)  # label boxes: chosen tags, tags that were not chosen
OVERLAY = 0.6  # share of the heat colours in an overlay


@dataclass(frozen=True)
class Layout:
    """Sizes in pixels: `image` (H, W) inside a `tile` (H, W); `columns` tiles a row, `rows` rows."""

    picture: tuple[int, int]
    tile: tuple[int, int]
    columns: int
    rows: int

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the whole panel."""
        return (self.rows * (self.tile[0] + GAP) + GAP, self.columns * (self.tile[1] + GAP) + GAP)


def plan(height: int, width: int, tags: int) -> Layout:
    """Arrange an image of `height` x `width` pixels and `tags` heat maps.

    Tiles have the image's size, within the bounds at the top of this file. Maps need no more
    pixels than `Layout.image`, so that is the size to ask the predictor for.
    """
    count, long = tags + 1, max(height, width)
    affordable = math.sqrt(MAX_PIXELS / count * long / min(height, width))
    factor = max(MIN_SIDE, min(long, MAX_SIDE, affordable)) / long
    picture = (
        max(MIN_THICKNESS, round(height * factor)),
        max(MIN_THICKNESS, round(width * factor)),
    )
    tile = (max(MIN_TILE[0], picture[0]), max(MIN_TILE[1], picture[1]))
    columns = _columns(count, tile)
    return Layout(picture, tile, columns, math.ceil(count / columns))


def _columns(count: int, tile: tuple[int, int]) -> int:
    """The number of columns whose panel comes closest to `PANEL_ASPECT` with few empty places."""

    def cost(columns: int) -> float:
        rows = math.ceil(count / columns)
        aspect = columns * tile[1] / (rows * tile[0])
        return abs(math.log(aspect / PANEL_ASPECT)) + 1.5 * (rows * columns - count) / count

    return min(range(1, count + 1), key=cost)


def heat_colours(values: np.ndarray) -> np.ndarray:
    """Values [...] in [0, 1] -> uint8 [..., 3]: 0 blue, 0.5 white, 1 red, straight lines between; clipped outside."""
    v = np.clip(np.nan_to_num(np.asarray(values, dtype=np.float32)), 0, 1)
    red, blue = np.minimum(1, 2 * v), np.minimum(1, 2 - 2 * v)
    return np.round(255 * np.stack([red, np.minimum(red, blue), blue], axis=-1)).astype(np.uint8)


def blend(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Heat colours over the image in grey, both uint8 [H, W, 3]: grey, or its colours would mix with the heat."""
    grey = image.mean(axis=2, keepdims=True)
    return np.round(OVERLAY * heat + (1 - OVERLAY) * grey).astype(np.uint8)


def draw_panel(
    image: np.ndarray,
    maps: np.ndarray,
    tags: Sequence[str],
    scores: Sequence[float],
    *,
    selected: Sequence[bool] | None = None,
    overlay: bool = False,
) -> np.ndarray:
    """Draw the panel.

    Args:
        image: uint8 [H, W, 3].
        maps: [K, h, w] in [0, 1], of any size; the size of `plan(H, W, K).image` needs no
        resizing.
        tags, scores: K names and the K numbers written beside them.
        selected: K flags; labels of tags that were not chosen are grey. None: all are chosen.
        overlay: blend the heat maps over the image.
    Returns: uint8 [PH, PW, 3].
    Raises TTDError when the lengths differ.
    """
    selected = [True] * len(tags) if selected is None else selected
    if not len(maps) == len(tags) == len(scores) == len(selected):
        raise TTDError(
            f"{len(maps)} maps, {len(tags)} tags, {len(scores)} scores: one of each per tag is needed"
        )
    layout = plan(*image.shape[:2], len(tags))
    picture = _resized(image, layout.picture)
    panel = Image.new("RGB", layout.size[::-1], GAP_COLOUR)
    _place(panel, layout, 0, picture)
    for index, (tag, score, chosen) in enumerate(zip(tags, scores, selected, strict=True), start=1):
        heat = heat_colours(_resized_map(maps[index - 1], layout.picture))
        corner = _place(panel, layout, index, blend(picture, heat) if overlay else heat)
        _label(
            panel,
            corner,
            layout.tile,
            index,
            tag,
            f"{score:.2f}",
            LABEL_ON if chosen else LABEL_OFF,
        )
    return np.asarray(panel)


def _place(panel: Image.Image, layout: Layout, index: int, content: np.ndarray) -> tuple[int, int]:
    """Paste content [h, w, 3] in the middle of tile `index` (row-major); returns the tile's corner (x, y)."""
    (height, width), row, column = layout.tile, index // layout.columns, index % layout.columns
    x, y = GAP + column * (width + GAP), GAP + row * (height + GAP)
    panel.paste(MAT_COLOUR, (x, y, x + width, y + height))
    panel.paste(
        Image.fromarray(content),
        (x + (width - content.shape[1]) // 2, y + (height - content.shape[0]) // 2),
    )
    return x, y


def _label(
    panel: Image.Image,
    corner: tuple[int, int],
    tile: tuple[int, int],
    number: int,
    tag: str,
    score: str,
    colour: tuple[int, int, int],
) -> None:
    """Write `tag: score` on a box in the tile's corner, shortened with an ellipsis to the tile's width.

    A tag that no font can draw, not even without its accents, is written as `#number`, its row in
    the demo's table.
    """
    size = round(min(max(15, min(tile) / 15), 72))
    tag, font = drawable(tag, size) or drawable(f"#{number}", size)
    padding = max(3, size // 4)
    text = _shorten(tag, f": {score}", font, tile[1] - 2 * padding - 4)
    draw = ImageDraw.Draw(panel)
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font, anchor="ls")
    ascent, descent = max(-top, round(0.75 * size)), max(bottom, round(0.25 * size))
    x, y = corner
    draw.rectangle(
        (x, y, x + right - min(left, 0) + 2 * padding, y + ascent + descent + 2 * padding),
        fill=colour,
    )
    draw.text(
        (x + padding - min(left, 0), y + padding + ascent),
        text,
        font=font,
        fill="white",
        anchor="ls",
    )


def _shorten(tag: str, ending: str, font: ImageFont.FreeTypeFont, room: float) -> str:
    """`tag + ending`, with the tag cut and an ellipsis put where it is wider than `room` pixels."""
    if len(tag) < 2 or font.getlength(tag + ending) <= room:
        return tag + ending
    shorter = [
        tag[:keep].rstrip() + "..." + ending for keep in range(min(len(tag) - 1, 500), 0, -1)
    ]  # ever narrower
    first = bisect.bisect_left(shorter, -room, key=lambda text: -font.getlength(text))
    return shorter[min(first, len(shorter) - 1)]


def _resized(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 [H, W, 3] -> [h, w, 3]: bilinear when it grows, mean of the covered pixels when it shrinks."""
    if image.shape[:2] == size:
        return image
    method = (
        Image.Resampling.BILINEAR
        if size[0] * size[1] >= image.shape[0] * image.shape[1]
        else Image.Resampling.BOX
    )
    return np.asarray(Image.fromarray(image).resize(size[::-1], method))


def _resized_map(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """[h, w] floats -> [H, W], bilinear."""
    values = np.asarray(values, dtype=np.float32)
    return (
        values
        if values.shape == size
        else np.asarray(Image.fromarray(values).resize(size[::-1], Image.Resampling.BILINEAR))
    )
