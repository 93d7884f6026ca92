"""The 26 things of the world. Each has a silhouette and an inner pattern of its own.

A thing is drawn in one colour plus dark and light accents (`geometry.Part`).
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from . import shapes_made as made
from . import shapes_nature as nature
from .geometry import Part

# From the most frequent noun to the rarest; the order decides the class numbers, too.
SHAPES: dict[str, Callable[[], list[Part]]] = {
    "car": made.car,
    "tree": nature.tree,
    "house": made.house,
    "fish": nature.fish,
    "flower": nature.flower,
    "boat": made.boat,
    "umbrella": made.umbrella,
    "ball": made.ball,
    "mushroom": nature.mushroom,
    "star": nature.five_pointed_star,
    "clock": made.clock,
    "butterfly": nature.butterfly,
    "rocket": made.rocket,
    "cup": made.cup,
    "heart": nature.heart,
    "ladder": made.ladder,
    "snail": nature.snail,
    "crown": made.crown,
    "key": made.key,
    "cactus": nature.cactus,
    "kite": made.kite,
    "anchor": made.anchor,
    "gear": made.gear,
    "moon": nature.moon,
    "flag": made.flag,
    "bird": nature.bird,
}
NOUNS: tuple[str, ...] = tuple(SHAPES)
_PARTS: dict[str, list[Part]] = {noun: build() for noun, build in SHAPES.items()}


def parts_of(noun: str) -> list[Part]:
    """The painted parts of a noun, bottom first. KeyError for a noun that is not in `NOUNS`."""
    return _PARTS[noun]


def noun_frequencies() -> npt.NDArray[np.float64]:
    """Probability [N] of each of the N = 26 nouns, long-tailed: ~ 1 / (rank + 3), rank from 0.

    The first noun is 9 times as frequent as the last one.
    """
    weight = 1.0 / (np.arange(len(NOUNS), dtype=np.float64) + 3.0)
    share: npt.NDArray[np.float64] = weight / weight.sum()
    return share
