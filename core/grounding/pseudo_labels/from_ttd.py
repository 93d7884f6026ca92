"""The source without a detector: CLIP's own maps of a caption's words, as TTD reads them.

Words are scored against their nearest pixels and cut (TTD's tags); the map of every kept noun is
cut by Otsu's threshold; every connected region of it is an object, with the caption's adjectives
that were kept too. What comes out is a `Scene`, from which the template source makes phrases.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch

from ...data.grounding import Box
from ...data.words import split_words
from ...predictor import Predictor
from ...tags.selection import select
from .head_noun import noun_phrases, singular
from .objects import TINY
from .scenes import Detection, Scene

Map = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Named:
    """A noun that the image shows, and the word before it that it shows too.

    score: of the noun among the caption's words, normalized to [0, 1].
    """

    noun: str
    attribute: str | None
    score: float


@torch.no_grad()
def scene_from_captions(
    predictor: Predictor,
    pixels: npt.NDArray[np.uint8],
    captions: Sequence[str],
    file: str,
    regions: int = 3,
) -> Scene:
    """What the model itself finds of its captions in an image uint8 [H, W, 3] RGB.

    regions: objects per noun at most, the largest first. An object's score is the word's normalized
    score times the mean of its map inside the region.
    """
    height, width = pixels.shape[:2]
    predictor.set_image(pixels)
    named: dict[tuple[str, str | None], Named] = {}
    for caption in captions:
        for item in kept_nouns(predictor, caption):
            key = (item.noun, item.attribute)
            if key not in named or named[key].score < item.score:
                named[key] = item
    objects: list[Detection] = []
    for item in named.values():
        objects += objects_of(word_map(predictor, item), item, regions)
    return Scene(file, width, height, tuple(objects), captions=tuple(captions))


def kept_nouns(predictor: Predictor, caption: str) -> Iterator[Named]:
    """The heads of a caption's noun phrases that are tags, as TTD selects them.

    A word before a head is its attribute when it is a tag itself.
    """
    words = list(dict.fromkeys(word.text.lower() for word in split_words(caption)))
    if not words:
        return
    chosen, norms = select(predictor.scores(words).cpu())
    tags = {
        word: float(norm) for word, norm, kept in zip(words, norms, chosen, strict=True) if kept
    }
    for phrase in noun_phrases(caption):
        noun = phrase[-1]
        if noun in tags:
            before = phrase[-2] if len(phrase) > 1 else ""
            yield Named(noun, before if before in tags else None, tags[noun])


def word_map(predictor: Predictor, item: Named) -> Map:
    """The map [H, W] of a noun in [0, 1]; with an attribute, the smaller of the two words' maps."""
    texts = [item.noun] if item.attribute is None else [item.noun, item.attribute]
    maps = predictor.maps(texts).cpu().numpy()
    low, high = maps.min((1, 2), keepdims=True), maps.max((1, 2), keepdims=True)
    scaled = (maps - low) / np.maximum(high - low, 1e-6)
    smallest: Map = scaled.min(0)
    return smallest


def objects_of(values: Map, item: Named, regions: int) -> list[Detection]:
    """The `regions` largest connected regions of a map [H, W] above Otsu's threshold.

    Those smaller than the template source would drop are left out.
    """
    levels = np.round(255 * values).astype(np.uint8)
    _, mask = cv2.threshold(levels, 0, 1, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask)
    areas = stats[1:count, cv2.CC_STAT_AREA]
    found = []
    for number in (1 + np.argsort(-areas, kind="stable")[:regions]).tolist():
        box = _box(stats[number])
        if (box[2] - box[0]) * (box[3] - box[1]) >= TINY * values.size:
            certain = float(values[labels == number].mean()) * item.score
            found.append(
                Detection(singular(item.noun), box, min(max(certain, 0.0), 1.0), item.attribute)
            )
    return found


def _box(row: npt.NDArray[np.int32]) -> Box:
    left, top, width, height = (float(value) for value in row[:4])
    return left, top, left + width, top + height
