"""A figure of results: a row each with image, truth, prediction and what the colours mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from .fonts import drawable
from .sheet import wrapped

Pixels: TypeAlias = npt.NDArray[np.uint8]
Line: TypeAlias = tuple[int | None, str]  # of a legend: a label's colour, or None for plain text

CELL = (220, 330)  # largest image in a row (H, W), in pixels
LEGEND = 320  # its width in pixels
NARROWEST = 200  # column: room for a title
GAP = 10
TITLE, LINE, TEXT = 30, 20, 15  # heights of a heading and of a line, size of its letters
# Of a label's colour in its map; the rest is the image in grey, so that outlines can be compared.
COLOUR_SHARE = 0.75
COMMON = 9  # labels in a legend


@dataclass(frozen=True)
class Row:
    """An image uint8 [H, W, 3] with true and predicted labels uint8 [H, W].

    title: written above; notes: written beside it.
    """

    title: str
    image: Pixels
    truth: Pixels
    prediction: Pixels
    notes: tuple[str, ...] = ()


def best_and_worst(scores: Mapping[str, float], count: int) -> list[str]:
    """Ids of the `count` best and the `count` worst scores, best first, none twice.

    Equal ones are sorted by id; NaN is left out.
    """
    known = [name for name, score in scores.items() if not np.isnan(score)]
    ranked = sorted(known, key=lambda name: (-scores[name], name))
    if len(ranked) <= 2 * count:
        return ranked
    return ranked[:count] + ranked[len(ranked) - count :]


def draw_gallery(rows: Sequence[Row], names: Mapping[int, str], palette: Pixels) -> Image.Image:
    """The rows below each other, RGB. names: of the label values; palette: uint8 [256, 3]."""
    column = max([NARROWEST, *(_fitted_size(row.image)[0] for row in rows)]) + GAP
    texts = [_legend(row, names) for row in rows]
    heights = [TITLE + max(CELL[0], _lines(lines) * LINE) + GAP for lines in texts]
    sheet = Image.new("RGB", (GAP + 3 * column + LEGEND + GAP, sum(heights) + GAP), "white")
    y = GAP
    for row, lines, height in zip(rows, texts, heights, strict=True):
        _draw_row(sheet, y, column, row, lines, palette)
        y += height
    return sheet


def _draw_row(
    sheet: Image.Image, y: int, column: int, row: Row, lines: Sequence[Line], palette: Pixels
) -> None:
    """A row from `y` down, its images `column` pixels apart."""
    draw = ImageDraw.Draw(sheet)
    cells = (
        (row.title, row.image),
        ("truth", coloured(row.image, row.truth, palette)),
        ("prediction", coloured(row.image, row.prediction, palette)),
    )
    for index, (heading, pixels) in enumerate(cells):
        x = GAP + index * column
        _write(draw, (x, y), heading, column - GAP)
        sheet.paste(_fitted(pixels), (x, y + TITLE))
    _draw_legend(draw, (GAP + 3 * column, y + TITLE), lines, palette)


def _draw_legend(
    draw: ImageDraw.ImageDraw, at: tuple[int, int], lines: Sequence[Line], palette: Pixels
) -> None:
    """The lines from `at` (x, y) down, each label with its colour before it."""
    x, y = at
    for label, text in lines:
        indent = 0
        if label is not None:
            indent, colour = LINE, tuple(palette[label].tolist())
            draw.rectangle((x, y + 2, x + LINE - 6, y + LINE - 4), fill=colour, outline="grey")
        for line in wrapped(text, TEXT, LEGEND - indent):
            _write(draw, (x + indent, y), line, LEGEND - indent)
            y += LINE


def _legend(row: Row, names: Mapping[int, str]) -> list[Line]:
    """Labels of the row with their share of true and predicted pixels; then the notes.

    The commonest labels come first, `COMMON` at most.
    """
    true = np.bincount(row.truth.ravel(), minlength=256) / row.truth.size
    predicted = np.bincount(row.prediction.ravel(), minlength=256) / row.prediction.size
    order = np.argsort(-np.maximum(true, predicted), kind="stable").tolist()
    shown = [label for label in order if true[label] + predicted[label] > 0]
    lines: list[Line] = []
    for label in shown[:COMMON]:
        shares = f"{_percent(true[label])} true, {_percent(predicted[label])} predicted"
        lines.append((label, f"{names.get(label, 'not scored')}: {shares}"))
    return lines + [(None, note) for note in row.notes]


def _lines(legend: Sequence[Line]) -> int:
    """How many lines a legend is, its long ones broken."""
    indents = [0 if label is None else LINE for label, _ in legend]
    texts = (text for _, text in legend)
    pairs = zip(texts, indents, strict=True)
    return sum(len(wrapped(text, TEXT, LEGEND - indent)) for text, indent in pairs)


def _percent(share: float) -> str:
    """`27%`, and `0.3%` where rounding would make it none."""
    return f"{100 * share:.1f}%" if 0 < share < 0.01 else f"{100 * share:.0f}%"


def coloured(image: Pixels, labels: Pixels, palette: Pixels) -> Pixels:
    """Labels uint8 [H, W] in their colours over the image [H, W, 3] in grey -> uint8 [H, W, 3].

    Without the image where its size is another one.
    """
    colours = palette[labels].astype(np.float32)
    if image.shape[:2] == labels.shape:
        grey = image.mean(axis=2, keepdims=True)
        colours = COLOUR_SHARE * colours + (1 - COLOUR_SHARE) * grey
    rounded: Pixels = np.round(colours).astype(np.uint8)
    return rounded


def _fitted(pixels: Pixels) -> Image.Image:
    """The image [H, W, 3] at the largest size that fits into `CELL`.

    Small ones grow by nearest neighbour, as is usual for masks.
    """
    size = _fitted_size(pixels)
    grows = size[0] > pixels.shape[1]
    method = Image.Resampling.NEAREST if grows else Image.Resampling.BOX
    return Image.fromarray(pixels).resize(size, method)


def _fitted_size(pixels: Pixels) -> tuple[int, int]:
    """(W, H) of an image [H, W, ...] in `CELL`."""
    height, width = pixels.shape[:2]
    factor = min(CELL[0] / height, CELL[1] / width)
    return max(1, round(width * factor)), max(1, round(height * factor))


def _write(draw: ImageDraw.ImageDraw, at: tuple[int, int], text: str, room: int) -> None:
    """One line of text, cut with an ellipsis to `room` pixels.

    It is left out where no font has its letters.
    """
    if (shown := drawable(text, TEXT)) is None:
        return
    plain, font = shown
    cut, keep = plain, len(plain)
    while keep > 1 and font.getlength(cut) > room:
        keep -= 1
        cut = plain[:keep] + "..."
    draw.text(at, cut, fill="black", font=font)
