"""From raw detections to the people, garments and things that phrases are made of.

Pseudo-Q's clean-up (CVPR 2022, arXiv 2203.08481), which CLIP-VG takes over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ...data.grounding import Box
from .scenes import Detection, Scene
from .vocabulary import Vocabulary

TINY = 1 / 64  # share of the image below which people and things are dropped
OVERLAP = 0.4  # IoU above which the less certain of two objects is dropped
ATTRIBUTE_SCORE = 0.3  # an attribute must be more certain than this
SAME_OBJECT = 0.5  # IoU above which two detectors mean the same object
WORN = 0.75  # share of a garment that must lie inside its wearer's box
HAT_ABOVE, PANTS_BELOW = 0.75, 0.5  # heights of the garment's centre, in shares of the person's


@dataclass(frozen=True)
class Target:
    """An object that phrases may refer to. name: "[attribute ]class"; worn: garments likewise."""

    label: str
    name: str
    box: Box
    score: float
    person: bool = False
    worn: tuple[str, ...] = ()


def targets_of(scene: Scene, words: Vocabulary) -> list[Target]:
    """People, then things, in the order of detection, with their attributes and garments."""
    described = {kind: _described(scene, words, kind) for kind in ("people", "clothes", "things")}
    people = [
        replace(person, person=True, worn=_worn(person, described["clothes"], words))
        for person in described["people"]
    ]
    return people + described["things"]


def _described(scene: Scene, words: Vocabulary, kind: str) -> list[Target]:
    """The objects of a kind under their names."""
    others = without_overlaps(_of_kind(scene.attributes, words, kind))
    items = without_overlaps(_large_enough(scene, words, kind))
    return [_target(item, others) for item in items]


def seen_objects(scene: Scene, words: Vocabulary) -> list[Detection]:
    """People, clothes and things that are large enough, each seen once, as detected."""
    found: list[Detection] = []
    for kind in ("people", "clothes", "things"):
        found += without_overlaps(_large_enough(scene, words, kind))
    return found


def _large_enough(scene: Scene, words: Vocabulary, kind: str) -> list[Detection]:
    """The objects of a kind; garments may be tiny."""
    items = _of_kind(scene.objects, words, kind)
    least = 0.0 if kind == "clothes" else TINY * scene.width * scene.height
    return [item for item in items if area(item.box) >= least]


def _of_kind(items: Sequence[Detection], words: Vocabulary, kind: str) -> list[Detection]:
    return [item for item in usable(items) if words.kind(item.label) == kind]


def usable(items: Sequence[Detection]) -> list[Detection]:
    """Detections whose box has an area; corners at 0 become 1, as published."""
    moved = [replace(item, box=_inside(item.box)) for item in items]
    return [item for item in moved if item.box[0] < item.box[2] and item.box[1] < item.box[3]]


def _inside(box: Box) -> Box:
    left, top, right, bottom = box
    return left or 1.0, top or 1.0, right, bottom


def area(box: Box) -> float:
    """Width times height, of a box that has both."""
    return (box[2] - box[0]) * (box[3] - box[1])


def intersection(first: Box, second: Box) -> float:
    """The area that two boxes share."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    return max(width, 0.0) * max(height, 0.0)


def overlap(first: Box, second: Box) -> float:
    """IoU of two boxes that have an area."""
    shared = intersection(first, second)
    return shared / (area(first) + area(second) - shared)


def without_overlaps(items: Sequence[Detection]) -> list[Detection]:
    """Drop whatever overlaps a more certain one of the list by more than `OVERLAP`.

    Every pair of the list as given is compared, whatever its class: one that is dropped itself
    still drops others. Of two as certain the later one goes.
    """
    return [item for place, item in enumerate(items) if not _beaten(items, place)]


def _beaten(items: Sequence[Detection], place: int) -> bool:
    """Whether any other of the items overlaps that one and wins."""
    item = items[place]
    return any(
        overlap(item.box, other.box) > OVERLAP and _wins(other, rival, item, place)
        for rival, other in enumerate(items)
        if rival != place
    )


def _wins(other: Detection, rival: int, item: Detection, place: int) -> bool:
    """Whether `other` is more certain than `item`, or as certain and earlier."""
    return (other.score, -rival) > (item.score, -place)


def _target(item: Detection, others: Sequence[Detection]) -> Target:
    """A detection under its name, with the attribute that either detector is certain of."""
    attribute = _attribute(item)
    for other in others:
        same = other.label == item.label and overlap(item.box, other.box) > SAME_OBJECT
        if same and _attribute(other):
            attribute = _attribute(other)  # the last match wins
    name = item.label
    if attribute:  # a class "white shirt" that is white is no white white shirt
        name = f"{attribute} {name.replace(f'{attribute} ', '')}"
    return Target(label=item.label, name=name, box=item.box, score=item.score)


def _attribute(item: Detection) -> str | None:
    return item.attribute if item.attribute_score > ATTRIBUTE_SCORE else None


def _worn(person: Target, clothes: Sequence[Target], words: Vocabulary) -> tuple[str, ...]:
    """Names of the garments that lie on a person, where the kind of garment is worn."""
    return tuple(item.name for item in clothes if _wears(person.box, item, words))


def _wears(person: Box, item: Target, words: Vocabulary) -> bool:
    if intersection(person, item.box) / area(item.box) <= WORN:
        return False
    middle = (item.box[1] + item.box[3]) / 2
    height = (person[3] - middle) / (person[3] - person[1])  # 1 at the head, 0 at the feet
    kind = words.garment(item.label)
    if kind == "hat":
        return height > HAT_ABOVE
    return height < PANTS_BELOW if kind == "pants" else True
