"""Intervals by the bootstrap: how far a score of a set depends on which images happen to be in it.

Images (not pixels, words or phrases, which depend on each other) are drawn with replacement. Runs
over the same images draw the same ones, so that their differences are paired. Efron, Tibshirani:
An Introduction to the Bootstrap, 1993, chapter 13 (percentile intervals).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import TTDError

DRAWS, SEED, LEVEL = 2000, 0, 0.95
CHUNK_VALUES = 1 << 22  # weights in memory at a time

Floats = npt.NDArray[np.float64]
Statistic = Callable[[Floats], Floats]  # sums over a draw [D, M] -> a score each [D], or K [D, K]


@dataclass(frozen=True)
class Interval:
    """A score and the range in which it would lie with other images: `LEVEL` of the draws."""

    value: float
    low: float
    high: float


def draws_of(images: int, draws: int = DRAWS, seed: int = SEED) -> Iterator[Floats]:
    """How often each image is drawn, float64 [d, images] at a time, `draws` rows in all.

    The same numbers always give the same draws. TTDError without images.
    """
    if images < 1:
        raise TTDError("no images, so there is nothing to draw")
    rng, step = np.random.default_rng(seed), max(1, CHUNK_VALUES // images)
    share = np.full(images, 1 / images)
    for start in range(0, draws, step):
        yield rng.multinomial(images, share, size=min(step, draws - start)).astype(np.float64)


def replicates(
    sums: npt.ArrayLike, statistic: Statistic, draws: int = DRAWS, seed: int = SEED
) -> Floats:
    """The score of every draw, [draws], or K scores [draws, K].

    sums: [images, M], what the score is made of, by image.
    """
    values = np.asarray(sums, np.float64)
    parts = [statistic(weights @ values) for weights in draws_of(len(values), draws, seed)]
    return np.concatenate(parts)


def interval(value: float, scores: Floats, level: float = LEVEL) -> Interval:
    """The middle `level` of the scores of all draws, around the score of the set itself."""
    known = scores[~np.isnan(scores)]
    if not len(known):
        return Interval(value, float("nan"), float("nan"))
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2]).tolist()
    return Interval(value, low, high)


# Scores from sums over images


def mean_of(sums: Floats) -> Floats:
    """A mean over entries: sums [D, 2] of the values and of their number -> [D]."""
    return _ratio(sums[:, 0], sums[:, 1])


def iou_of(sums: Floats) -> Floats:
    """The mean over classes of TP / (TP + FP + FN): sums [D, L * 3] -> [D].

    Classes that are neither in truth nor in prediction of a draw are left out of it.
    """
    counts = sums.reshape(len(sums), -1, 3)  # [D, L, 3]
    total = counts.sum(-1)
    shares = np.divide(counts[..., 0], total, out=np.zeros_like(total), where=total > 0)
    return _ratio(shares.sum(1), (total > 0).sum(1).astype(np.float64))


def f1_of(sums: Floats) -> Floats:
    """F1 = 2 TP / (2 TP + FP + FN): sums [D, 3] of TP, FP, FN -> [D]; 0 where nothing is right."""
    hits = 2 * sums[:, 0]
    total = hits + sums[:, 1] + sums[:, 2]
    scores: Floats = np.divide(hits, total, out=np.zeros_like(hits), where=total > 0)
    return scores


def by_image(names: Sequence[str], values: npt.ArrayLike) -> Floats:
    """Sums of the entries of each image, [images, M], in the order in which images first occur.

    names: [N], of each entry's image; values: [N, M] or [N].
    """
    rank: dict[str, int] = {}  # no array of names, which is as wide as the longest of them
    place = np.array([rank.setdefault(name, len(rank)) for name in names], np.int64)
    entries = np.asarray(values, np.float64).reshape(len(place), -1)
    sums = np.zeros((len(rank), entries.shape[1]))
    np.add.at(sums, place, entries)
    return sums


def _ratio(above: Floats, below: Floats) -> Floats:
    """[D] / [D], NaN where there is nothing below."""
    shares: Floats = np.divide(above, below, out=np.full(len(above), np.nan), where=below > 0)
    return shares
