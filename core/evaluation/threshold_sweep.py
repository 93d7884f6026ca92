"""Scores of saved soft maps at many background thresholds at once, and their image.

The winning class of a pixel does not depend on the threshold, only whether it wins against the
background: one histogram of (winner's value, truth, winner) gives the confusion matrices of all
thresholds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ..data.dataset_checks import read_truth
from ..data.datasets import Dataset
from ..errors import TTDError
from ..masks.results import load_scores
from ..metrics.segmentation import SegScores, scores_from_counts
from ..plots.curves import COLOURS
from ..plots.fonts import find_font
from .predictions import Problems, in_threads, saved_scores

WIDTH, HEIGHT, LEFT, TOP, BELOW, LINE = 1200, 760, 110, 50, 110, 46  # in pixels, before halving


def sweep_labels(
    dataset: Dataset,
    folder: Path,
    thresholds: Sequence[float],
    *,
    allow_missing: bool = False,
    workers: int = 4,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[SegScores, Problems]:
    """Scores per threshold and label, fields [S, L], from FOLDER/scores/ID.npz, and what was left out.

    Pixels at or below a threshold are background where the set has one, else nothing (a false
    negative).
    Raises TTDError: no scores there, some missing (unless `allow_missing`), another size than the
    truth, thresholds that do not ascend.
    """
    items = {item.id: item for item in dataset.items()}
    with_mask = [name for name, item in items.items() if item.mask is not None]
    found, problems = saved_scores(folder, with_mask, allow_missing, items)

    def work(names: list[str]) -> np.ndarray:
        return sum(
            label_counts(
                *_winners(found[name], dataset),
                _truth(dataset, items[name], found[name]),
                len(dataset.label_values),
                thresholds,
            )
            for name in names
        )

    total = 0
    for count, part in in_threads(work, list(found), workers):
        total = total + part
        progress(count)
    return scores_from_counts(counts_at_thresholds(total, dataset.background)), problems


def label_counts(
    values: np.ndarray,
    winners: np.ndarray,
    truth: np.ndarray,
    labels: int,
    thresholds: Sequence[float],
) -> np.ndarray:
    """Pixels by number of thresholds below their value, true label and winner: int64 [S + 1, L, L + 1].

    values float [H, W] of the winners int [H, W]; winners and truth are label numbers below L, L =
    not scored (truth) or nobody (winner).
    """
    cuts = np.asarray(thresholds, np.float32)
    if (np.diff(cuts) <= 0).any():
        raise TTDError("thresholds must ascend")
    scored = truth < labels
    above = np.searchsorted(cuts, values[scored].astype(np.float32), side="left")
    index = (above * labels + truth[scored]) * (labels + 1) + winners[scored]
    counts = np.bincount(index, minlength=(len(cuts) + 1) * labels * (labels + 1))
    return counts.reshape(len(cuts) + 1, labels, labels + 1).astype(np.int64, copy=False)


def counts_at_thresholds(counts: np.ndarray, background: bool) -> np.ndarray:
    """`label_counts` -> TP, FP, FN int64 [S, L, 3]; label 0 is what stays below, where the set has a background."""
    kept = counts[::-1].cumsum(0)[::-1][1:]  # [S, L, L + 1]: pixels over threshold s
    below = counts.sum(0)[None] - kept
    predicted = kept[..., :-1].copy()
    if background:
        predicted[..., 0] += below.sum(-1) + kept[..., -1]
    hits = np.diagonal(predicted, axis1=1, axis2=2)  # [S, L]
    return np.stack([hits, predicted.sum(1) - hits, counts.sum((0, 2)) - hits], axis=-1)


def _winners(path: Path, dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Value and label number of the best class at every pixel, [H, W] each."""
    maps, classes = load_scores(path)
    nobody = len(dataset.label_values)
    if not len(classes):
        return np.zeros(maps.shape[1:], np.float32), np.full(maps.shape[1:], nobody)
    if classes.max() >= len(dataset.classes):
        raise TTDError(
            f"{path}: scores of class {classes.max()}, but {dataset.name} has {len(dataset.classes)}"
        )
    return maps.max(0), classes.astype(np.int64)[maps.argmax(0)] + int(dataset.background)


def _truth(dataset: Dataset, item: object, path: Path) -> np.ndarray:
    """Label numbers of the truth, int64 [H, W]; as many as there are labels where nothing is scored."""
    numbers = np.full(256, len(dataset.label_values))
    numbers[list(dataset.label_values)] = range(len(dataset.label_values))
    truth = numbers[read_truth(dataset, item)]
    with np.load(path) as stored:
        size = tuple(stored["size"].tolist())
    if size != truth.shape:
        raise TTDError(f"{path}: maps of {size}, but the truth has {truth.shape}")
    return truth


@dataclass(frozen=True)
class Line:
    """One line of the image: its name and a value in [0, 1] for every threshold."""

    label: str
    values: np.ndarray
    dashed: bool = False


def draw_sweep(
    thresholds: Sequence[float], lines: Sequence[Line], score: str, marks: Mapping[float, str] = {}
) -> Image.Image:
    """The image, RGB: thresholds to the right, values upwards, a legend below, `marks` as vertical lines.

    Every undashed line has its maximum marked. Drawn at twice the size and halved, so that lines
    are smooth.
    """
    font, small = find_font("score", 30), find_font("score", 26)
    width = max(
        LEFT + WIDTH + 60, LEFT + 110 + int(max(font.getlength(line.label) for line in lines))
    )
    image = Image.new("RGB", (width, TOP + HEIGHT + BELOW + LINE * len(lines) + 20), "white")
    draw = ImageDraw.Draw(image)
    top = max(0.1, float(np.ceil(10 * max(np.nanmax(line.values) for line in lines)) / 10))

    def at(threshold: float, value: float) -> tuple[float, float]:
        return LEFT + WIDTH * threshold, TOP + HEIGHT * (1 - value / top)

    for tick in np.linspace(0, 1, 11):
        draw.line([at(tick, 0), at(tick, top)], fill="#dddddd", width=2)
        draw.text(
            (at(tick, 0)[0], TOP + HEIGHT + 10),
            f"{tick:.1f}",
            fill="black",
            font=small,
            anchor="ma",
        )
        draw.line([at(0, tick * top), at(1, tick * top)], fill="#dddddd", width=2)
        draw.text(
            (LEFT - 12, at(0, tick * top)[1]),
            f"{100 * tick * top:.0f}",
            fill="black",
            font=small,
            anchor="rm",
        )
    for threshold, name in marks.items():
        draw.line([at(threshold, 0), at(threshold, top)], fill="#888888", width=3)
        draw.text((at(threshold, top)[0] + 8, TOP + 6), name, fill="#555555", font=small)
    draw.rectangle([at(0, top), at(1, 0)], outline="black", width=2)
    draw.text(
        (LEFT + WIDTH / 2, TOP + HEIGHT + 50),
        "background threshold",
        fill="black",
        font=font,
        anchor="ma",
    )
    draw.text((LEFT, TOP - 10), f"{score}, in percent", fill="black", font=small, anchor="lb")
    for number, line in enumerate(lines):
        colour, y = COLOURS[number % len(COLOURS)], TOP + HEIGHT + BELOW + LINE * number
        _draw_line(
            draw,
            [at(t, v) for t, v in zip(thresholds, line.values.tolist(), strict=True)],
            line,
            colour,
        )
        _draw_line(
            draw,
            [(LEFT + 10 * i, y + 20) for i in range(6)],
            Line("", np.zeros(6), line.dashed),
            colour,
        )
        draw.text((LEFT + 70, y), line.label, fill="black", font=find_font(line.label, 30) or font)
    return image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS)


def _draw_line(
    draw: ImageDraw.ImageDraw, points: list[tuple[float, float]], line: Line, colour: str
) -> None:
    """A line through points, its highest one marked unless it is dashed."""
    if line.dashed:
        for start in range(0, len(points) - 1, 2):
            draw.line(points[start : start + 2], fill=colour, width=4)
        return
    draw.line(points, fill=colour, width=5, joint="curve")
    if line.label and not np.isnan(line.values).all():
        x, y = points[int(np.nanargmax(line.values))]
        draw.ellipse([x - 11, y - 11, x + 11, y + 11], fill=colour, outline="white", width=3)
