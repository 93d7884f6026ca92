"""Histograms side by side: bars with their values' names below, drawn with Pillow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from ..fonts import Font, default_font
from .axes import COLOURS, FRAME, GRID

WIDTH, HEIGHT = 920, 420  # of a panel, before halving
MARGIN, TOP, BELOW = 90, 76, 64
TITLE, TICK = 32, 24
NAMES = 12  # of bars at most, so that they do not overlap


@dataclass(frozen=True)
class Histogram:
    """A title, the names of the bars, and for each series its name and a count for each bar."""

    title: str
    names: Sequence[str]
    series: Sequence[tuple[str, Sequence[int]]]


def draw_histograms(panels: Sequence[Histogram], columns: int = 2) -> Image.Image:
    """Panels in `columns`, each scaled to its own largest share: RGB."""
    rows = -(-len(panels) // columns)
    sheet = Image.new("RGB", (columns * WIDTH, rows * HEIGHT), "white")
    for number, panel in enumerate(panels):
        place = (number % columns * WIDTH, number // columns * HEIGHT)
        _draw(ImageDraw.Draw(sheet), place, panel)
    return sheet.resize((sheet.width // 2, sheet.height // 2), Image.Resampling.LANCZOS)


def _draw(draw: ImageDraw.ImageDraw, place: tuple[int, int], panel: Histogram) -> None:
    left, top = place[0] + MARGIN, place[1] + TOP
    right, bottom = place[0] + WIDTH - 20, place[1] + HEIGHT - BELOW
    small, title = default_font(TICK), default_font(TITLE)
    draw.text((left, place[1] + 10), panel.title, fill=FRAME, font=title)
    shares = [_shares(counts) for _, counts in panel.series]
    highest = max((max(one, default=0.0) for one in shares), default=0.0) or 1.0
    for part in (0.5, 1.0):
        level = bottom - part * (bottom - top)
        draw.line([(left, level), (right, level)], fill=GRID, width=2)
        text = f"{100 * part * highest:.0f} %"
        draw.text((left - 6, level), text, fill=FRAME, font=small, anchor="rs")
    step = (right - left) / max(1, len(panel.names))
    width = step * 0.8 / max(1, len(shares))
    for row, values in enumerate(shares):
        for bar, value in enumerate(values):
            x = left + step * (bar + 0.1) + width * row
            y = bottom - value / highest * (bottom - top)
            draw.rectangle([x, y, x + width, bottom], fill=COLOURS[row % len(COLOURS)])
    draw.line([(left, bottom), (right, bottom)], fill=FRAME, width=2)
    _names(draw, panel, (left, bottom, step), small)
    _legend(draw, panel, (right, place[1] + 12), small)


def _shares(counts: Sequence[int]) -> list[float]:
    total = sum(counts)
    return [count / total if total else 0.0 for count in counts]


def _names(
    draw: ImageDraw.ImageDraw, panel: Histogram, at: tuple[float, float, float], font: Font
) -> None:
    """What the bars are: every one, or every second, ... where they are many."""
    left, bottom, step = at
    every = -(-len(panel.names) // NAMES)
    for bar, name in enumerate(panel.names):
        if bar % every == 0:
            middle = left + step * (bar + 0.5)
            draw.text((middle, bottom + 8), name, fill=FRAME, font=font, anchor="ma")


def _legend(
    draw: ImageDraw.ImageDraw, panel: Histogram, at: tuple[float, float], font: Font
) -> None:
    """The names of several series, from the right."""
    x, y = at
    for row in reversed(range(len(panel.series) if len(panel.series) > 1 else 0)):
        name = panel.series[row][0]
        x -= font.getlength(name) + 24
        draw.text((x, y), name, fill=COLOURS[row % len(COLOURS)], font=font)
