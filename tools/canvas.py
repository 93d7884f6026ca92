"""A page for drawings of boxes, arrows and words, smooth lines."""

from __future__ import annotations

from collections.abc import Sequence

from cli import ROOT  # noqa: F401  (makes `core` importable)
from PIL import Image, ImageDraw, ImageFont

from core.errors import TTDError
from core.plots.fonts import find_font

Point = tuple[float, float]
Colour = tuple[int, int, int]

OVERSAMPLING = 3  # drawn that much larger, then reduced: smooth lines
PAPER = (255, 255, 255)


class Canvas:
    """A page in pixels of the finished picture; drawn larger, so that lines are smooth."""

    def __init__(self, width: int, height: int) -> None:
        self._size = (width, height)
        large = (width * OVERSAMPLING, height * OVERSAMPLING)
        self._image = Image.new("RGB", large, PAPER)
        self._draw = ImageDraw.Draw(self._image)

    def rounded(self, edges: Sequence[float], fill: Colour, outline: Colour) -> None:
        """A box with round corners; edges: left, top, right, bottom."""
        large = [OVERSAMPLING * edge for edge in edges]
        width = 2 * OVERSAMPLING
        self._draw.rounded_rectangle(large, 14 * OVERSAMPLING, fill, outline, width)

    def arrow(self, points: Sequence[Point], colour: Colour) -> None:
        """A line through `points` (level or upright pieces) with a head at the last one."""
        head = 15
        (x0, y0), (x1, y1) = points[-2:]
        along = (_sign(x1 - x0), _sign(y1 - y0))
        neck = (x1 - head * along[0], y1 - head * along[1])
        self._line([*points[:-1], neck], colour)
        side = (0.55 * head * along[1], 0.55 * head * along[0])
        corners = [(x1, y1), (neck[0] + side[0], neck[1] + side[1])]
        corners.append((neck[0] - side[0], neck[1] - side[1]))
        self._draw.polygon([_large(corner) for corner in corners], fill=colour)

    def write(
        self,
        at: Point,
        text: str,
        size: int,
        colour: Colour,
        anchor: str = "lm",
        *,
        halo: float = 0,
        halo_colour: Colour = PAPER,
    ) -> None:
        """A line of text. anchor: Pillow's. halo: pixels of `halo_colour` around the letters.

        A third of a pixel in the letters' own colour makes them bolder.
        """
        font = _font(size * OVERSAMPLING)
        place, stroke = _large(at), round(halo * OVERSAMPLING)
        self._draw.text(
            place, text, colour, font, anchor, stroke_width=stroke, stroke_fill=halo_colour
        )

    def width_of(self, text: str, size: int) -> float:
        """Pixels that a line takes."""
        return float(_font(size * OVERSAMPLING).getlength(text)) / OVERSAMPLING

    def finished(self) -> Image.Image:
        """The picture at its own size."""
        reduced = self._image.resize(self._size, Image.Resampling.LANCZOS)
        return reduced.quantize(256, dither=Image.Dither.NONE)

    def _line(self, points: Sequence[Point], colour: Colour) -> None:
        """Pieces joined by round corners."""
        self._draw.line([_large(point) for point in points], colour, 4 * OVERSAMPLING, "curve")


def _large(point: Point) -> Point:
    return point[0] * OVERSAMPLING, point[1] * OVERSAMPLING


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)


def _font(size: int) -> ImageFont.FreeTypeFont:
    found = find_font("core", size)
    if found is None:
        raise TTDError("no font that draws Latin letters was found")
    return found
