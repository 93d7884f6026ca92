"""One image of the second world with its caption and truth, from (seed, split, index) alone."""

import numpy as np

from ...data.words import split_words
from ..sample import SPLITS, Sample, sample_id
from .captions import visible_words, write_caption
from .picture import draw_contents, index_map, render


def make_second_sample(
    seed: int, split: str, index: int, size: int = 96, noise: float = 0.0, marked: bool = False
) -> Sample:
    """Image `index` of a split ("train" or "val"), as `core.world.sample.make_sample`.

    noise: must be 0, as its captions have none. marked: the third look.
    """
    rng = np.random.default_rng([2, seed, SPLITS[split], index])
    contents = draw_contents(rng, size)
    text = write_caption(contents, rng, split)
    visible = visible_words(contents)
    words = (word.text.casefold() for word in split_words(text))
    return Sample(
        id=sample_id(split, index),
        image=render(contents, rng, size, marked),
        index=index_map(contents, size),
        contents=contents,
        text=text,
        tags=list(dict.fromkeys(word for word in words if word in visible)),
    )
