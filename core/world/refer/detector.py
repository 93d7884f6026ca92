"""A simulated detector, scene-graph model and captioner for the referring world.

They know the truth and get some of it wrong, by shares that are stated: what CLIP-VG's pseudo-label
sources have to live with. `scene_row` is a line as core/grounding/pseudo_labels/scenes.py reads it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import numpy as np

from ..objects import NOUNS
from ..palette import COLOURS
from ..picture import Thing
from .expressions import MARGIN, RELATIONS, ReferSample

Box = tuple[float, float, float, float]
MOST_RELATIONS = 6


@dataclass(frozen=True)
class Noise:
    """Shares of what goes wrong.

    missed: things that are not detected; wrong_class, wrong_colour: of those that are; jitter:
    standard deviation of each side of a box, in shares of its width or height; wrong_relation:
    relations with another predicate; wrong_name: nouns of captions.
    """

    missed: float = 0.1
    wrong_class: float = 0.1
    wrong_colour: float = 0.1
    jitter: float = 0.08
    wrong_relation: float = 0.15
    wrong_name: float = 0.1


@dataclass(frozen=True)
class Seen:
    """A thing as the detector sees it."""

    noun: str
    colour: str
    box: Box
    score: float


def scene_row(sample: ReferSample, seed: int, noise: Noise | None = None) -> dict[str, Any]:
    """What the simulated models say of an image: the same whatever else is made."""
    noise = noise or Noise()
    size = sample.image.shape[0]
    split, number = sample.id.rsplit("_", 1)
    rng = np.random.default_rng([seed, 17, sum(split.encode()), int(number)])
    seen = [
        _detect(thing, box, size, noise, rng)
        for thing, box in zip(sample.contents.things, sample.boxes, strict=True)
        if rng.random() >= noise.missed
    ]
    return {
        "file": f"{sample.id}.jpg",
        "width": size,
        "height": size,
        "objects": [_object(item, rng) for item in seen],
        "relations": _relations(seen, size, noise, rng),
        "captions": [caption(sample.contents.things, noise, rng)],
    }


def _detect(
    thing: Thing, box: Sequence[float], size: int, noise: Noise, rng: np.random.Generator
) -> Seen:
    """A thing with a jittered box; where its class is wrong the score tends to be lower."""
    wrong = bool(rng.random() < noise.wrong_class)
    noun = str(rng.choice([n for n in NOUNS if n != thing.noun])) if wrong else thing.noun
    off = rng.random() < noise.wrong_colour
    colour = str(rng.choice([c for c in COLOURS if c != thing.colour])) if off else thing.colour
    left, top, right, bottom = box
    sides = np.array([right - left, bottom - top, right - left, bottom - top])
    moved = np.array(box) + rng.normal(0, noise.jitter, 4) * sides
    x0, y0, x1, y1 = (float(v) for v in np.clip(np.round(moved, 1), 0, size))
    score = float(rng.uniform(0.3, 0.8) if wrong else rng.uniform(0.5, 1.0))
    return Seen(noun, colour, (x0, y0, x1, y1), round(score, 3))


def _object(item: Seen, rng: np.random.Generator) -> dict[str, Any]:
    """An object; its colour is told with a probability that the sources' threshold cuts."""
    return {
        "label": item.noun,
        "box": list(item.box),
        "score": item.score,
        "attribute": item.colour,
        "attribute_score": round(float(rng.uniform(0.1, 1.0)), 3),
    }


def _relations(
    seen: Sequence[Seen], size: int, noise: Noise, rng: np.random.Generator
) -> list[dict[str, Any]]:
    """Some of the relations that hold between detected things, a few with another predicate."""
    found: list[tuple[Seen, str, Seen]] = []
    for subject, target in permutations(seen, 2):
        names = [name for name in RELATIONS if _holds(subject, name, target, size)]
        found += [(subject, name, target) for name in names]
    count = min(MOST_RELATIONS, len(found))
    rows = []
    for place in sorted(rng.choice(len(found), count, replace=False).tolist()) if found else ():
        subject, name, target = found[place]
        if rng.random() < noise.wrong_relation:
            name = str(rng.choice([other for other in RELATIONS if other != name]))
        first, second, third = (round(float(p), 3) for p in rng.uniform(0.15, 1.0, 3))
        rows.append(
            {
                "subject": subject.noun,
                "predicate": name,
                "object": target.noun,
                "subject_box": list(subject.box),
                "object_box": list(target.box),
                "p_sub": first,
                "p_pred": second,
                "p_obj": third,
            }
        )
    return rows


def _holds(subject: Seen, name: str, target: Seen, size: int) -> bool:
    axis, sign = RELATIONS[name]
    ahead = (subject.box[axis] + subject.box[axis + 2]) / 2
    behind = (target.box[axis] + target.box[axis + 2]) / 2
    return sign * (ahead - behind) > MARGIN * size


def caption(things: Sequence[Thing], noise: Noise, rng: np.random.Generator) -> str:
    """One sentence about the largest thing and, mostly, a second one."""
    main, *others = sorted(things, key=lambda thing: -thing.half)
    parts = [_named(main, noise, rng)]
    if others and rng.random() < 0.8:
        joint = str(rng.choice(["and", "next to", "with"]))
        parts += [joint, _named(others[int(rng.integers(len(others)))], noise, rng)]
    return " ".join(parts)


def _named(thing: Thing, noise: Noise, rng: np.random.Generator) -> str:
    wrong = rng.random() < noise.wrong_name
    noun = str(rng.choice([n for n in NOUNS if n != thing.noun])) if wrong else thing.noun
    words = f"{thing.colour} {noun}" if rng.random() < 0.5 else noun
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"
