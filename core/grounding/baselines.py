"""What grounding scores without a grounding model: trivial boxes, and boxes around word maps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ..data.grounding import Phrase, read_phrases, read_rows
from ..data.images import read_image
from ..metrics.boxes import Values, box_iou
from ..predictor import Predictor

CENTRE = 0.5  # sides of the centre box, in shares of the image's
THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # of word maps, min-max normalized


def trivial_boxes(
    phrases: Sequence[Phrase], sizes: Mapping[str, tuple[int, int]], seed: int = 0
) -> dict[str, Values]:
    """Boxes that look at no pixel: {name: corners [N, 4]}; sizes: (H, W) by image."""
    rng = np.random.default_rng(seed)
    shapes = np.array([sizes[phrase.name][::-1] for phrase in phrases], np.float64)  # W, H
    corners = np.sort(rng.random((len(phrases), 2, 2)), axis=1) * shapes[:, None]
    low, high = shapes * (1 - CENTRE) / 2, shapes * (1 + CENTRE) / 2
    return {
        "random box": corners.reshape(-1, 4),
        "whole image": np.concatenate([np.zeros_like(shapes), shapes], 1),
        "centre": np.concatenate([low, high], 1),
    }


def largest_boxes(rows: Iterable[Mapping[str, Any]]) -> Values:
    """The largest of the true boxes of all things of an image, [N, 4]: it knows every object.

    rows: lines with "things", as the referring world has them.
    """
    boxes = []
    for row in rows:
        things = np.array(row["things"], np.float64)
        boxes.append(things[(things[:, 2:] - things[:, :2]).prod(1).argmax()])
    return np.array(boxes).reshape(-1, 4)


def map_boxes(
    predictor: Predictor, phrases: Sequence[Phrase], progress: Callable[[int], None]
) -> dict[float, Values]:
    """A box around each phrase's map, by threshold: {threshold: corners [N, 4]}.

    The soft mask, min-max normalized, is cut at the threshold; its largest connected part counts.
    """
    boxes: dict[float, list[npt.NDArray[np.float64]]] = {t: [] for t in THRESHOLDS}
    shown: str | None = None
    for phrase in phrases:
        if phrase.name != shown:
            predictor.set_image(read_image(phrase.image))
            shown = phrase.name
        soft = predictor.soft_masks([phrase.text])[0].cpu().numpy()
        soft = (soft - soft.min()) / max(float(soft.max() - soft.min()), 1e-9)
        for threshold in THRESHOLDS:
            boxes[threshold].append(largest_part(soft >= threshold))
        progress(1)
    return {threshold: np.array(found).reshape(-1, 4) for threshold, found in boxes.items()}


def largest_part(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """The box [4] around the largest 8-connected part of a mask [H, W]; the whole for none."""
    count, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    if count < 2:
        return np.array([0, 0, mask.shape[1], mask.shape[0]], np.float64)
    left, top, width, height, _ = stats[1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())]
    return np.array([left, top, left + width, top + height], np.float64)


def true_boxes(phrases: Sequence[Phrase]) -> Values:
    """Corners [N, 4]."""
    return np.array([phrase.box for phrase in phrases], np.float64).reshape(-1, 4)


def baseline_ious(
    path: str, predictors: Mapping[str, Predictor], limit: int | None = None
) -> dict[str, Values]:
    """IoUs [N] of every baseline on a list of phrases, or its first `limit`.

    predictors: backbones whose word maps are boxed; the threshold with the best Acc@0.5 on this
    very list is taken, in the baseline's favour.
    """
    phrases = read_phrases(path).phrases[:limit]
    truth = true_boxes(phrases)
    sizes = {name: read_image(image).shape[:2] for name, image in _images(phrases).items()}
    found = trivial_boxes(phrases, sizes)
    rows = list(read_rows(Path(path), None))[:limit]
    if all("things" in row for row in rows):
        found["largest object"] = largest_boxes(rows)
    for name, predictor in predictors.items():
        by_threshold = map_boxes(predictor, phrases, lambda done: None)
        scored = {t: float((box_iou(b, truth) >= 0.5).mean()) for t, b in by_threshold.items()}
        best = max(scored, key=lambda threshold: scored[threshold])
        found[f"word map of {name}, best cut"] = by_threshold[best]
    return {name: box_iou(boxes, truth) for name, boxes in found.items()}


def _images(phrases: Sequence[Phrase]) -> dict[str, Any]:
    return {phrase.name: phrase.image for phrase in phrases}
