"""One image of the second world with its caption and truth, from (seed, split, index) alone."""

import numpy as np

from ...data.words import split_words
from ..picture import Contents
from ..sample import SPLITS, Sample, sample_id
from .captions import plain_caption, visible_words, write_caption
from .picture import draw_contents, index_map, render


def make_second_sample(
    seed: int, split: str, index: int, size: int = 96, plain: float = 0.0
) -> Sample:
    """Image `index` of a split ("train" or "val"), as `core.world.sample.make_sample`.

    plain: chance that a training image shows the largest of its things alone, before one scene, and
    its caption says no more. From such pairs a small CLIP learns the nouns in a fraction of the
    time; evaluation images are never plain.
    """
    rng = np.random.default_rng([2, seed, SPLITS[split], index])
    contents = draw_contents(rng, size)
    if plain and split == "train" and rng.random() < plain:
        largest = max(contents.things, key=lambda thing: thing.half)
        contents = Contents((largest,), contents.scenes[:1])
        text = plain_caption(contents, rng)
    else:
        text = write_caption(contents, rng, split)
    visible = visible_words(contents)
    words = (word.text.casefold() for word in split_words(text))
    return Sample(
        id=sample_id(split, index),
        image=render(contents, rng, size),
        index=index_map(contents, size),
        contents=contents,
        text=text,
        tags=list(dict.fromkeys(word for word in words if word in visible)),
    )
