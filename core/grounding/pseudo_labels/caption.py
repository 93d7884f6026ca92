"""The caption source: a whole caption stands for the object that it is about."""

from __future__ import annotations

from collections.abc import Callable

from .head_noun import head_words
from .objects import seen_objects
from .scenes import Scene
from .template import SEED, Labelled, sample
from .vocabulary import Vocabulary

MOST = 6  # phrases of an image


def caption_phrases(
    scene: Scene,
    words: Vocabulary,
    most: int = MOST,
    *,
    seed: int = SEED,
    parser: Callable[[str], list[str]] = head_words,
) -> list[Labelled]:
    """Every caption with the box of each object whose class its head noun phrase names.

    parser: the words of a caption's head noun phrase, in the singular too. Garments count as
    objects here. All objects of the class get the caption, right or wrong, as published. More than
    `most` phrases of an image: some are drawn by `seed` and the image's name.
    """
    objects = seen_objects(scene, words)
    found = []
    for caption in scene.captions:
        heads = set(parser(caption))
        found += [Labelled(caption, o.box) for o in objects if o.label.lower() in heads]
    return sample(found, most, f"{seed} {scene.file}")
