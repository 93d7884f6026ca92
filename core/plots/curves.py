"""A precision-recall image, drawn with Pillow: curves with the point where each method cut, and single points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from .fonts import find_font

COLOURS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
    "#882255",
    "#444444",
)  # safe for all eyes
SIDE, LEFT, TOP, BOTTOM = 900, 110, 40, 100  # of the plot and around it, in pixels, before halving
LINE = 46  # of the legend


@dataclass(frozen=True)
class Curve:
    """Recall [N] and precision [N] of a method, and where it cut: (recall, precision)."""

    label: str
    recall: np.ndarray
    precision: np.ndarray
    cut: tuple[float, float]


@dataclass(frozen=True)
class Point:
    """A method without scores."""

    label: str
    recall: float
    precision: float


def draw_precision_recall(curves: Sequence[Curve], points: Sequence[Point]) -> Image.Image:
    """The image, RGB: recall to the right and precision upwards, both 0 to 1; legend below.

    Drawn at twice the size and halved, so that lines are smooth. Curves are steps, as average
    precision sums them.
    """
    font, small = find_font("precision", 30), find_font("recall", 26)
    labels = [curve.label for curve in curves] + [point.label for point in points]
    width = max(LEFT + SIDE + 60, int(max(font.getlength(label) for label in labels)) + LEFT + 100)
    height = TOP + SIDE + BOTTOM + LINE * len(labels) + 30
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    _axes(draw, font, small)
    for number, item in enumerate([*curves, *points]):
        colour, y = COLOURS[number % len(COLOURS)], TOP + SIDE + BOTTOM + LINE * number
        if isinstance(item, Curve):
            _steps(draw, item, colour)
            draw.line([(LEFT, y + 20), (LEFT + 50, y + 20)], fill=colour, width=6)
            _mark(draw, _at(*item.cut), colour, round_=True)
        else:
            _mark(draw, (LEFT + 25, y + 20), colour, round_=False)
            _mark(draw, _at(item.recall, item.precision), colour, round_=False)
        draw.text((LEFT + 70, y), item.label, fill="black", font=find_font(item.label, 30) or font)
    return image.resize((width // 2, height // 2), Image.Resampling.LANCZOS)


def _at(recall: float, precision: float) -> tuple[float, float]:
    return LEFT + SIDE * recall, TOP + SIDE * (1 - precision)


def _axes(draw: ImageDraw.ImageDraw, font, small) -> None:
    for tick in np.linspace(0, 1, 6):
        draw.line([_at(tick, 0), _at(tick, 1)], fill="#dddddd", width=2)
        draw.line([_at(0, tick), _at(1, tick)], fill="#dddddd", width=2)
        (x, y), (left, level) = _at(tick, 0), _at(0, tick)
        draw.text((x, y + 10), f"{tick:.1f}", fill="black", font=small, anchor="ma")
        draw.text((left - 12, level), f"{tick:.1f}", fill="black", font=small, anchor="rm")
    draw.rectangle([_at(0, 1), _at(1, 0)], outline="black", width=2)
    draw.text((LEFT + SIDE / 2, TOP + SIDE + 44), "recall", fill="black", font=font, anchor="ma")
    draw.text((LEFT, TOP - 8), "precision", fill="black", font=small, anchor="lb")


def _steps(draw: ImageDraw.ImageDraw, curve: Curve, colour: str) -> None:
    path, last = [], 0.0
    for recall, precision in zip(curve.recall.tolist(), curve.precision.tolist(), strict=True):
        path += [_at(last, precision), _at(recall, precision)]
        last = recall
    draw.line(path, fill=colour, width=4, joint="curve")


def _mark(
    draw: ImageDraw.ImageDraw, centre: tuple[float, float], colour: str, round_: bool
) -> None:
    (x, y), r = centre, 11
    shape = draw.ellipse if round_ else draw.rectangle
    shape([x - r, y - r, x + r, y + r], fill=colour, outline="white", width=3)
