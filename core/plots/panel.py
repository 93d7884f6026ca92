"""The panel: an image, then one blue-white-red heat map per tag with `tag: score` in its corner."""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from ..errors import TTDError
from .fonts import Font, default_font, drawable

Pixels: TypeAlias = npt.NDArray[np.uint8]  # [H, W, 3] RGB
Maps: TypeAlias = npt.NDArray[np.float32]
Colour: TypeAlias = tuple[int, int, int]

MIN_SIDE = 256  # smaller images are enlarged until their long side has this many pixels
MAX_SIDE = 2000  # larger ones are reduced to this
MIN_TILE = (96, 224)  # smallest tile (H, W): room for a label; thin images are centred in it
MIN_THICKNESS = 24  # a 5000 x 1 image is drawn this thick, or nobody would see it
MAX_PIXELS = 48_000_000  # of the whole panel: with many tags, tiles are reduced to stay below
PANEL_ASPECT = 2.2  # width / height that the arrangement in rows and columns aims at
GAP = 6  # pixels between tiles
GAP_COLOUR = (255, 255, 255)  # between tiles
MAT_COLOUR = (225, 225, 225)  # around a thin image in its tile
LABEL_ON, LABEL_OFF = (20, 20, 20), (120, 120, 120)  # boxes of tags that were chosen or not
OVERLAY = 0.6  # share of the heat colours in an overlay
LETTERS = 500  # of a tag that are tried, at most
ROOM_COST = 1.5  # of an empty place in the arrangement, see `_columns`


@dataclass(frozen=True)
class Layout:
    """Sizes in pixels: `picture` (H, W) inside a `tile` (H, W); `rows` of `columns` tiles."""

    picture: tuple[int, int]
    tile: tuple[int, int]
    columns: int
    rows: int

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the whole panel."""
        height, width = self.tile
        return self.rows * (height + GAP) + GAP, self.columns * (width + GAP) + GAP


def plan(height: int, width: int, tags: int) -> Layout:
    """Arrange an image of `height` x `width` pixels and `tags` heat maps.

    Tiles have the image's size, within the bounds at the top of this file. Maps need no more
    pixels than `Layout.picture`, so that is the size to ask the predictor for.
    """
    count, long = tags + 1, max(height, width)
    affordable = math.sqrt(MAX_PIXELS / count * long / min(height, width))
    factor = max(MIN_SIDE, min(long, MAX_SIDE, affordable)) / long
    high, wide = (max(MIN_THICKNESS, round(side * factor)) for side in (height, width))
    picture, tile = (high, wide), (max(MIN_TILE[0], high), max(MIN_TILE[1], wide))
    columns = _columns(count, tile)
    return Layout(picture, tile, columns, math.ceil(count / columns))


def _columns(count: int, tile: tuple[int, int]) -> int:
    """The number of columns whose panel comes closest to `PANEL_ASPECT` with few empty places."""

    def cost(columns: int) -> float:
        rows = math.ceil(count / columns)
        aspect = columns * tile[1] / (rows * tile[0])
        empty = rows * columns - count
        return abs(math.log(aspect / PANEL_ASPECT)) + ROOM_COST * empty / count

    return min(range(1, count + 1), key=cost)


def heat_colours(values: npt.ArrayLike) -> Pixels:
    """Values [...] in [0, 1] -> uint8 [..., 3]: 0 is blue, 0.5 white, 1 red, linear between.

    Values outside are clipped; NaN is 0.
    """
    v = np.clip(np.nan_to_num(np.asarray(values, dtype=np.float32)), 0, 1)
    red, blue = np.minimum(1, 2 * v), np.minimum(1, 2 - 2 * v)
    colours = np.stack([red, np.minimum(red, blue), blue], axis=-1)
    rounded: Pixels = np.round(255 * colours).astype(np.uint8)
    return rounded


def blend(image: Pixels, heat: Pixels) -> Pixels:
    """Heat colours over the image, both uint8 [H, W, 3].

    The image is made grey, or its colours would mix with the heat.
    """
    grey = image.mean(axis=2, keepdims=True)
    rounded: Pixels = np.round(OVERLAY * heat + (1 - OVERLAY) * grey).astype(np.uint8)
    return rounded


def draw_panel(
    image: Pixels,
    maps: Maps,
    tags: Sequence[str],
    scores: Sequence[float],
    *,
    selected: Sequence[bool] | None = None,
    overlay: bool = False,
) -> Pixels:
    """Draw the panel.

    Args:
        image: uint8 [H, W, 3].
        maps: [K, h, w] in [0, 1], of any size; that of `plan(H, W, K).picture` needs no resizing.
        tags, scores: K names and the K numbers written beside them.
        selected: K flags; labels of tags that were not chosen are grey. None: all are chosen.
        overlay: blend the heat maps over the image.
    Returns: uint8 [PH, PW, 3].
    Raises TTDError when the lengths differ.
    """
    selected = [True] * len(tags) if selected is None else selected
    if not len(maps) == len(tags) == len(scores) == len(selected):
        raise TTDError(
            f"{len(maps)} maps, {len(tags)} tags, {len(scores)} scores: "
            "one of each per tag is needed"
        )
    height, width = image.shape[:2]
    layout = plan(height, width, len(tags))
    picture = _resized(image, layout.picture)
    panel = Image.new("RGB", layout.size[::-1], GAP_COLOUR)
    _place(panel, layout, 0, picture)
    for index, (tag, score, chosen) in enumerate(zip(tags, scores, selected, strict=True), start=1):
        heat = heat_colours(_resized_map(maps[index - 1], layout.picture))
        corner = _place(panel, layout, index, blend(picture, heat) if overlay else heat)
        label = _Label(tag, index, f": {score:.2f}", LABEL_ON if chosen else LABEL_OFF)
        _draw_label(panel, corner, layout.tile, label)
    return np.asarray(panel)


def _place(panel: Image.Image, layout: Layout, index: int, content: Pixels) -> tuple[int, int]:
    """Paste content [h, w, 3] in the middle of tile `index` (row-major).

    Returns the tile's corner (x, y).
    """
    (height, width), (row, column) = layout.tile, divmod(index, layout.columns)
    x, y = GAP + column * (width + GAP), GAP + row * (height + GAP)
    panel.paste(MAT_COLOUR, (x, y, x + width, y + height))
    left, top = (width - content.shape[1]) // 2, (height - content.shape[0]) // 2
    panel.paste(Image.fromarray(content), (x + left, y + top))
    return x, y


@dataclass(frozen=True)
class _Label:
    """The label of a map: its tag, its row in the demo's table, an ending, and its colour."""

    tag: str
    number: int
    ending: str
    colour: Colour


def _draw_label(
    panel: Image.Image, corner: tuple[int, int], tile: tuple[int, int], label: _Label
) -> None:
    """Write a label on a box in the tile's corner, shortened to the tile's width.

    A tag that no font can draw, not even without its accents, is written as `#number`.
    """
    size = round(min(max(15, min(tile) / 15), 72))
    tag, font = drawable(label.tag, size) or (f"#{label.number}", default_font(size))
    padding = max(3, size // 4)
    text = _shorten(tag, label.ending, font, tile[1] - 2 * padding - 4)
    draw = ImageDraw.Draw(panel)
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font, anchor="ls")
    ascent, descent = max(-top, round(0.75 * size)), max(bottom, round(0.25 * size))
    x, y = corner
    width, height = right - min(left, 0) + 2 * padding, ascent + descent + 2 * padding
    draw.rectangle((x, y, x + width, y + height), fill=label.colour)
    baseline = (x + padding - min(left, 0), y + padding + ascent)
    draw.text(baseline, text, font=font, fill="white", anchor="ls")


def _shorten(tag: str, ending: str, font: Font, room: float) -> str:
    """`tag + ending`, with the tag cut and an ellipsis put where it is wider than `room` pixels."""
    if len(tag) < 2 or font.getlength(tag + ending) <= room:
        return tag + ending
    lengths = range(min(len(tag) - 1, LETTERS), 0, -1)  # ever narrower
    shorter = [f"{tag[:keep].rstrip()}...{ending}" for keep in lengths]
    first = bisect.bisect_left(shorter, -room, key=lambda text: -font.getlength(text))
    return shorter[min(first, len(shorter) - 1)]


def _resized(image: Pixels, size: tuple[int, int]) -> Pixels:
    """uint8 [H, W, 3] -> [h, w, 3]: bilinear when it grows, mean of the pixels when it shrinks."""
    if image.shape[:2] == size:
        return image
    grows = size[0] * size[1] >= image.shape[0] * image.shape[1]
    method = Image.Resampling.BILINEAR if grows else Image.Resampling.BOX
    return np.asarray(Image.fromarray(image).resize(size[::-1], method))


def _resized_map(values: Maps, size: tuple[int, int]) -> Maps:
    """Floats [h, w] -> [H, W], bilinear."""
    values = np.asarray(values, dtype=np.float32)
    if values.shape == size:
        return values
    return np.asarray(Image.fromarray(values).resize(size[::-1], Image.Resampling.BILINEAR))
