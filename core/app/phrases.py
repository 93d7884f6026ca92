"""Phrases about a picture: a box for each, and where the model looked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..plots.boxes import draw_grounding
from ..plots.heat import resized, resized_map
from .limits import phrases_of
from .pictures import SHOWN, fitted_size
from .studio import Studio


@dataclass(frozen=True)
class Located:
    """Boxes of phrases.

    view: uint8 [h, w, 3], all boxes, then for each phrase where the model looked. boxes: by phrase,
    [left, top, right, bottom] in whole pixels of the picture.
    """

    view: npt.NDArray[np.uint8]
    boxes: dict[str, list[int]]


def ask_phrases(studio: Studio, path: str | None, text: str | None, grounder: str) -> Located:
    """A box for every phrase of a text (one to a line) in the picture of a file. TTDError."""
    with studio.picture(path) as picture:
        phrases = phrases_of(text)
        asked = studio.grounder(picture, grounder)
        boxes = asked.boxes(phrases).tolist()
        seen = [asked.attention(phrase).numpy() for phrase in phrases]
        view = drawn(picture.pixels, phrases, boxes, seen)
    rounded = [[round(value) for value in box] for box in boxes]
    return Located(view, dict(zip(phrases, rounded, strict=True)))


def drawn(
    pixels: npt.NDArray[np.uint8],
    phrases: Sequence[str],
    boxes: Sequence[Sequence[float]],
    seen: Sequence[npt.NDArray[np.float32]],
) -> npt.NDArray[np.uint8]:
    """Boxes over a copy for the eye of an image [H, W, 3]; seen: [H, W] in [0, 1] by phrase."""
    size = fitted_size(pixels, SHOWN)
    factor = size[0] / pixels.shape[0], size[1] / pixels.shape[1]
    small = [[x * factor[1], y * factor[0], r * factor[1], b * factor[0]] for x, y, r, b in boxes]
    maps = [resized_map(values, size) for values in seen]
    return draw_grounding(resized(pixels, size), phrases, small, maps)
