"""Axes for charts, drawn with Pillow: a plot area with grid and titles, and a legend below it.

Charts are drawn at twice their size and halved, so that lines are smooth.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from PIL import Image, ImageDraw

from ..fonts import Font, default_font, find_font

Point: TypeAlias = tuple[float, float]  # (x, y) in pixels

# Told apart also by those who confuse red and green (Okabe and Ito's colours, and two dark ones).
COLOURS = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#882255", "#444444",
)  # fmt: skip
GRID, FRAME, MARK, NOTE = "#dddddd", "black", "#888888", "#555555"
LEFT, RIGHT = 110, 60  # beside the plot area, in pixels before halving, like all lengths here
TITLE, TICK = 30, 26  # sizes of letters
LINE, SAMPLE, INDENT = 46, 50, 70  # of the legend: height, length of the colour, where text begins
RADIUS = 11  # of a marked point


@dataclass(frozen=True)
class Layout:
    """Sizes of a chart: its plot area, `top` above and `below` under it.

    end: under the legend; room: beside the text of the legend; x_title, y_title: distance of the
    titles from the area.
    """

    width: int
    height: int
    top: int
    below: int
    end: int
    room: int
    x_title: int
    y_title: int


class Axes:
    """A chart to draw on: x from 0 to 1 to the right, y from 0 to `y_max` upwards."""

    def __init__(self, layout: Layout, labels: Sequence[str], y_max: float = 1.0) -> None:
        """An empty chart with room for the legend's `labels`."""
        self.layout, self.y_max = layout, y_max
        self.bottom = layout.top + layout.height
        self._font, self._small = default_font(TITLE), default_font(TICK)
        widest = int(max(self._legend_font(label).getlength(label) for label in labels))
        width = max(LEFT + layout.width + RIGHT, LEFT + layout.room + widest)
        height = self.bottom + layout.below + LINE * len(labels) + layout.end
        self._sheet = Image.new("RGB", (width, height), "white")
        self.draw = ImageDraw.Draw(self._sheet)

    def at(self, x: float, y: float) -> Point:
        """Where a value is on the sheet."""
        layout = self.layout
        return LEFT + layout.width * x, layout.top + layout.height * (1 - y / self.y_max)

    def grid(self, steps: int, y_text: Callable[[float], str]) -> None:
        """Lines and numbers at `steps` equal steps of both axes; `y_text` writes a value of y."""
        for share in np.linspace(0, 1, steps + 1).tolist():
            level = share * self.y_max
            (x, _), (_, y) = self.at(share, 0), self.at(0, level)
            self.draw.line([self.at(share, 0), self.at(share, self.y_max)], fill=GRID, width=2)
            self.draw.line([self.at(0, level), self.at(1, level)], fill=GRID, width=2)
            self._text((x, self.bottom + 10), f"{share:.1f}", self._small, anchor="ma")
            self._text((LEFT - 12, y), y_text(level), self._small, anchor="rm")

    def mark_x(self, x: float, name: str) -> None:
        """A vertical line with its name."""
        top = self.at(x, self.y_max)
        self.draw.line([self.at(x, 0), top], fill=MARK, width=3)
        self._text((top[0] + 8, self.layout.top + 6), name, self._small, NOTE)

    def frame(self, x_title: str, y_title: str) -> None:
        """The border of the plot area, and what the axes show."""
        layout = self.layout
        self.draw.rectangle([self.at(0, self.y_max), self.at(1, 0)], outline=FRAME, width=2)
        middle = LEFT + layout.width / 2
        self._text((middle, self.bottom + layout.x_title), x_title, self._font, anchor="ma")
        self._text((LEFT, layout.top - layout.y_title), y_title, self._small, anchor="lb")

    def legend(self, row: int, label: str) -> list[Point]:
        """Write a label; returns six points in a line before it, to draw a sample through."""
        y = self.bottom + self.layout.below + LINE * row
        self._text((LEFT + INDENT, y), label, self._legend_font(label))
        return [(LEFT + SAMPLE * k / 5, y + 20) for k in range(6)]

    def dot(self, centre: Point, colour: str, *, square: bool = False) -> None:
        """A marked point."""
        x, y = centre
        box = [x - RADIUS, y - RADIUS, x + RADIUS, y + RADIUS]
        shape = self.draw.rectangle if square else self.draw.ellipse
        shape(box, fill=colour, outline="white", width=3)

    def image(self) -> Image.Image:
        """The chart, RGB, at half the size."""
        size = self._sheet.width // 2, self._sheet.height // 2
        return self._sheet.resize(size, Image.Resampling.LANCZOS)

    def note(self, text: str, end: float) -> None:
        """A small line below the legend, `end` pixels above the sheet's end."""
        self._text((LEFT, self._sheet.height - end), text, self._small, NOTE)

    def _legend_font(self, label: str) -> Font:
        """A font that has a label's letters, where there is one."""
        return find_font(label, TITLE) or self._font

    def _text(
        self, at: Point, text: str, font: Font, colour: str = "black", anchor: str = "la"
    ) -> None:
        self.draw.text(at, text, fill=colour, font=font, anchor=anchor)
