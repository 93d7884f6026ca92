"""An image of results: a row each with the image, its truth, the prediction and what the colours mean."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from .fonts import drawable

CELL = (220, 330)  # largest image in a row (H, W), in pixels
LEGEND, LETTERS = 320, 44  # its width in pixels, and in letters of a note
NARROWEST = 200  # column: room for a title
GAP = 10
TITLE, LINE, TEXT = 30, 20, 15  # heights of a heading and of a line, size of its letters
COLOUR_SHARE = (
    0.75  # of a label in its map; the rest is the image in grey, so that outlines can be compared
)
COMMON = 9  # labels in a legend


@dataclass(frozen=True)
class Row:
    """An image uint8 [H, W, 3] with true and predicted labels uint8 [H, W]; `notes` are written beside it."""

    title: str
    image: np.ndarray
    truth: np.ndarray
    prediction: np.ndarray
    notes: tuple[str, ...] = ()


def best_and_worst(scores: Mapping[str, float], count: int) -> list[str]:
    """Ids of the `count` best and the `count` worst scores, best first, none twice; equal ones by id; no NaN."""
    ranked = sorted(
        (name for name, score in scores.items() if score == score),
        key=lambda name: (-scores[name], name),
    )
    return ranked if len(ranked) <= 2 * count else ranked[:count] + ranked[len(ranked) - count :]


def draw_gallery(rows: Sequence[Row], names: Mapping[int, str], palette: np.ndarray) -> Image.Image:
    """The rows below each other, RGB. names: of the label values; palette: uint8 [256, 3]."""
    column = max([NARROWEST, *(_fitted_size(row.image)[0] for row in rows)]) + GAP
    texts = [_legend(row, names) for row in rows]
    heights = [TITLE + max(CELL[0], len(lines) * LINE) + GAP for lines in texts]
    sheet = Image.new("RGB", (GAP + 3 * column + LEGEND + GAP, sum(heights) + GAP), "white")
    y = GAP
    for row, lines, height in zip(rows, texts, heights, strict=True):
        _draw_row(sheet, y, column, row, lines, palette)
        y += height
    return sheet


def _draw_row(
    sheet: Image.Image, y: int, column: int, row: Row, lines: Sequence[Line], palette: np.ndarray
) -> None:
    """A row from `y` down, its images `column` pixels apart."""
    draw = ImageDraw.Draw(sheet)
    maps = (row.image, _coloured(row, row.truth, palette), _coloured(row, row.prediction, palette))
    for index, (heading, pixels) in enumerate(
        zip((row.title, "truth", "prediction"), maps, strict=True)
    ):
        x = GAP + index * column
        _write(draw, (x, y), heading, column - GAP)
        sheet.paste(_fitted(pixels), (x, y + TITLE))
    x, y = GAP + 3 * column, y + TITLE
    for label, text in lines:
        if label is not None:
            draw.rectangle(
                (x, y + 2, x + LINE - 6, y + LINE - 4),
                fill=tuple(palette[label].tolist()),
                outline="grey",
            )
        indent = 0 if label is None else LINE
        _write(draw, (x + indent, y), text, LEGEND - indent)
        y += LINE


Line = tuple[int | None, str]  # of a legend: a label's colour, or None for plain text


def _legend(row: Row, names: Mapping[int, str]) -> list[Line]:
    """Labels of the row, commonest first, with their share of true and predicted pixels; then the notes."""
    true = np.bincount(row.truth.ravel(), minlength=256) / row.truth.size
    predicted = np.bincount(row.prediction.ravel(), minlength=256) / row.prediction.size
    order = [
        int(label)
        for label in np.argsort(-np.maximum(true, predicted), kind="stable")
        if true[label] + predicted[label] > 0
    ]
    lines: list[Line] = [
        (
            label,
            f"{names.get(label, 'not scored')}: {_percent(true[label])} true, "
            f"{_percent(predicted[label])} predicted",
        )
        for label in order[:COMMON]
    ]
    return lines + [(None, line) for note in row.notes for line in textwrap.wrap(note, LETTERS)]


def _percent(share: float) -> str:
    """`27%`, and `0.3%` where rounding would make it none."""
    return f"{100 * share:.1f}%" if 0 < share < 0.01 else f"{100 * share:.0f}%"


def _coloured(row: Row, labels: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """Labels [H, W] in their colours over the image in grey; without it where the sizes differ. uint8 [H, W, 3]."""
    colours = palette[labels].astype(np.float32)
    if row.image.shape[:2] == labels.shape:
        grey = row.image.mean(axis=2, keepdims=True)
        colours = COLOUR_SHARE * colours + (1 - COLOUR_SHARE) * grey
    return np.round(colours).astype(np.uint8)


def _fitted(pixels: np.ndarray) -> Image.Image:
    """The image at the largest size that fits into `CELL`; small ones grow by nearest neighbour, as masks do."""
    size = _fitted_size(pixels)
    grows = size[0] > pixels.shape[1]
    return Image.fromarray(pixels).resize(
        size, Image.Resampling.NEAREST if grows else Image.Resampling.BOX
    )


def _fitted_size(pixels: np.ndarray) -> tuple[int, int]:
    """(W, H) of an image [H, W, ...] in `CELL`."""
    height, width = pixels.shape[:2]
    factor = min(CELL[0] / height, CELL[1] / width)
    return max(1, round(width * factor)), max(1, round(height * factor))


def _write(draw: ImageDraw.ImageDraw, at: tuple[int, int], text: str, room: int) -> None:
    """One line of text, cut with an ellipsis to `room` pixels; left out where no font has its letters."""
    if (shown := drawable(text, TEXT)) is None:
        return
    plain, font = shown
    keep = len(plain)
    while keep > 1 and font.getlength(plain[:keep] + "..." * (keep < len(plain))) > room:
        keep -= 1
    draw.text(at, plain[:keep] + "..." * (keep < len(plain)), fill="black", font=font)
