"""The template source: phrases by pattern from classes, attributes, garments and places.

Pseudo-Q's generator (CVPR 2022), which CLIP-VG calls its template pseudo-labels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...data.grounding import Box
from .objects import Target, targets_of
from .scenes import Scene
from .spatial import APART, placed, spatial_words
from .vocabulary import Vocabulary

SEED = 20211024
# Objects and phrases of an image, by benchmark: Pseudo-Q's settings.
SETTINGS = {
    "unc": (3, 6),
    "unc+": (3, 12),
    "gref": (2, 4),
    "gref_umd": (2, 4),
    "referit": (6, 15),
    "flickr": (7, 28),
}


@dataclass(frozen=True)
class Labelled:
    """A phrase and the box it stands for, corners in pixels."""

    text: str
    box: Box


def template_phrases(
    scene: Scene,
    words: Vocabulary,
    objects: int = 3,
    phrases: int = 6,
    *,
    seed: int = SEED,
    apart: float = APART,
    parity: bool = False,
) -> list[Labelled]:
    """Up to `phrases` phrases about the `objects` most certain objects of an image.

    People come first. Where there are more candidates, some are drawn by `seed` and the image's
    name, so that an image's phrases do not depend on the others. apart, parity: as in
    `spatial_words`.
    """
    candidates = all_phrases(scene, words, objects, apart=apart, parity=parity)
    return sample(candidates, phrases, f"{seed} {scene.file}")


def all_phrases(
    scene: Scene, words: Vocabulary, objects: int, *, apart: float = APART, parity: bool = False
) -> list[Labelled]:
    """Every phrase that the patterns give, object by object."""
    targets = targets_of(scene, words)
    places = _places(targets, scene, apart, parity)
    people = [i for i, target in enumerate(targets) if target.person]
    things = [i for i, target in enumerate(targets) if not target.person]
    chosen = _surest(people, targets)[:objects]
    chosen += _surest(things, targets)[: objects - len(chosen)]
    said: list[Labelled] = []
    for i in chosen:
        said += [Labelled(text, targets[i].box) for text in patterns(targets[i], places[i])]
    return said


def _surest(numbers: Sequence[int], targets: Sequence[Target]) -> list[int]:
    return sorted(numbers, key=lambda i: -targets[i].score)


def _places(
    targets: Sequence[Target], scene: Scene, apart: float, parity: bool
) -> list[tuple[str, ...]]:
    """The spatial words of every target, among those of its class."""
    places: list[tuple[str, ...]] = [()] * len(targets)
    for label in dict.fromkeys(target.label for target in targets):
        numbers = [i for i, target in enumerate(targets) if target.label == label]
        boxes = [targets[i].box for i in numbers]
        found = spatial_words(boxes, scene.width, scene.height, apart=apart, parity=parity)
        for number, words in zip(numbers, found, strict=True):
            places[number] = words
    return places


def patterns(target: Target, places: Sequence[str]) -> list[str]:
    """The phrases of one object, each once: n its name, a a garment, r a spatial word.

    n; n r; r n; n P r; for people also n a; a n; and with both, in every order that is said.
    """
    name = target.name
    said = [name]
    for place in places:
        said += [f"{name} {place}", f"{place} {name}", *_if(placed(name, place))]
    for garment in target.worn if target.person else ():
        said += [f"{name} {garment}", f"{garment} {name}"]
        for place in places:
            said += _with_both(name, garment, place)
    return list(dict.fromkeys(said))


def _with_both(name: str, garment: str, place: str) -> list[str]:
    orders = [
        f"{name} {garment} {place}",
        f"{name} {place} {garment}",
        f"{garment} {name} {place}",
        f"{garment} {place} {name}",
        f"{place} {name} {garment}",
        f"{place} {garment} {name}",
    ]
    where = placed("", place)
    if where is None:
        return orders
    where = where.strip()
    return [
        *orders,
        f"{name} {garment} {where}",
        f"{name} {where} {garment}",
        f"{garment} {name} {where}",
    ]


def _if(text: str | None) -> list[str]:
    return [] if text is None else [text]


def sample(candidates: Sequence[Labelled], count: int, key: str) -> list[Labelled]:
    """All candidates, or `count` of them drawn without replacement, in their order."""
    if len(candidates) <= count:
        return list(candidates)
    digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
    drawn = sorted(rng.choice(len(candidates), count, replace=False).tolist())
    return [candidates[i] for i in drawn]
