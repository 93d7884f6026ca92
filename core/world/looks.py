"""The looks that a world can have, and what of them world.yaml says."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from ..errors import TTDError
from .objects import NOUNS
from .palette import COLOURS, unseen_pairs
from .sample import Sample, make_sample
from .scenes import SCENES
from .second import picture as second
from .second.sample import make_second_sample
from .second.shapes import NOUNS as SECOND_NOUNS


@dataclass(frozen=True)
class Look:
    """Things, colours and scenes by name, (noun, colour) pairs kept out of training.

    make: (seed, split, index, size in pixels, noise) -> the image with its caption and truth.
    """

    nouns: tuple[str, ...]
    colours: tuple[str, ...]
    scenes: tuple[str, ...]
    unseen: tuple[tuple[str, str], ...]
    make: Callable[[int, str, int, int, float], Sample]


LOOKS = {
    "first": Look(NOUNS, tuple(COLOURS), SCENES, unseen_pairs(), make_sample),
    "second": Look(
        SECOND_NOUNS, tuple(second.COLOURS), tuple(second.SCENES), (), make_second_sample
    ),
    "third": Look(
        SECOND_NOUNS,
        tuple(second.COLOURS),
        tuple(second.SCENES),
        (),
        partial(make_second_sample, marked=True),
    ),
}


def look_of(name: str) -> Look:
    """One of `LOOKS`. TTDError, with the names there are, for another name."""
    if name not in LOOKS:
        raise TTDError(f"look {name!r}: choose one of {', '.join(LOOKS)}")
    return LOOKS[name]
