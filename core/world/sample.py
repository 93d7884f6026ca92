"""One image with its caption and truth, as a function of (seed, split, index) alone."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..data.words import is_stopword, split_words
from .captions import true_tags, write_caption
from .objects import NOUNS
from .palette import COLOURS
from .picture import UNSEEN, Contents, draw_contents, index_map, render

SPLITS = {"train": 0, "val": 1}


@dataclass(frozen=True)
class Sample:
    """image: uint8 RGB [S, S, 3]; index: uint8 [S, S], see `picture.index_map`.

    text: the caption; tags: its true tags.
    """

    id: str
    image: npt.NDArray[np.uint8]
    index: npt.NDArray[np.uint8]
    contents: Contents
    text: str
    tags: list[str]


def sample_id(split: str, index: int) -> str:
    """File name of an image without its ending, such as "val_000007"."""
    return f"{split}_{index:06d}"


def make_sample(seed: int, split: str, index: int, size: int = 96, noise: float = 0.0) -> Sample:
    """Image `index` of a split ("train" or "val").

    It does not depend on how many are made, nor on the process that makes it. Training images and
    captions hold none of `palette.unseen_pairs()`; validation ones may. size: the side in pixels;
    noise: see `write_caption`, validation captions have none.
    """
    rng = np.random.default_rng([seed, SPLITS[split], index])
    contents = draw_contents(rng, size, unseen=split != "train")
    text = write_caption(contents, rng, split, noise)
    return Sample(
        id=sample_id(split, index),
        image=render(contents, rng, size),
        index=index_map(contents, size),
        contents=contents,
        text=text,
        tags=true_tags(text, contents),
    )


def tag_mask(sample: Sample, tag: str) -> npt.NDArray[np.bool_]:
    """Where a visible word is -> bool [S, S]: things of that noun or colour, or that scene."""
    values = [i for i, scene in enumerate(sample.contents.scenes) if scene == tag]
    for i, thing in enumerate(sample.contents.things):
        if tag in (thing.noun, thing.colour):
            values.append(2 + i)
    return np.isin(sample.index, values)


def class_map(sample: Sample, nouns: Sequence[str] = NOUNS) -> npt.NDArray[np.uint8]:
    """Nouns as classes -> uint8 [S, S]: 0 background, 1 + i the i-th of `nouns`."""
    table = np.zeros(256, np.uint8)
    for i, thing in enumerate(sample.contents.things):
        table[2 + i] = 1 + nouns.index(thing.noun)
    labels: npt.NDArray[np.uint8] = table[sample.index]
    return labels


@dataclass(frozen=True)
class Facts:
    """What one image adds to the statistics.

    words, content, true: its words, those that are no stop words, and those that are true tags;
    absent: whether a noun or colour is named that is not in the image; scene: whether a scene is
    named; painted: share of the pixels that the true tags cover; unseen: held-out pairs in it.
    """

    id: str
    words: int
    content: int
    true: int
    absent: bool
    scene: bool
    painted: float
    unseen: tuple[str, ...]


def facts(sample: Sample, names: Collection[str] = (*NOUNS, *COLOURS)) -> Facts:
    """Count the words of one caption and the area of its true tags.

    names: the nouns and colours of the world.
    """
    words = [w.text.casefold() for w in split_words(sample.text)]
    things = [w for w in words if w in names]
    painted = np.any([tag_mask(sample, tag) for tag in sample.tags], axis=0)
    unseen = [t for t in sample.contents.things if (t.noun, t.colour) in UNSEEN]
    return Facts(
        id=sample.id,
        words=len(words),
        content=sum(not is_stopword(w) for w in words),
        true=sum(w in sample.tags for w in words),
        absent=any(w not in sample.tags for w in things),
        scene=any(s in sample.tags for s in sample.contents.scenes),
        painted=float(painted.mean()),
        unseen=tuple(f"{t.colour} {t.noun}" for t in unseen),
    )


def summarise(rows: list[Facts]) -> dict[str, float]:
    """Statistics of a split; percent, but for the counts of images and of words per caption.

    Words are pooled over all captions, so that long captions weigh more (micro average).
    """
    words, content = sum(row.words for row in rows), sum(row.content for row in rows)
    true = sum(row.true for row in rows)
    precision = 100 * true / content

    def mean(values: list[float]) -> float:
        """The mean of shares, in percent."""
        return round(100 * float(np.mean(values)), 2)

    return {
        "pictures": len(rows),
        "words_per_caption": round(words / len(rows), 2),
        "true_tag_words": round(100 * true / words, 2),
        "content_words_precision": round(precision, 2),
        "content_words_f1": round(2 * precision * 100 / (precision + 100), 2),
        "all_foreground_caption_iou": mean([row.painted for row in rows]),
        "captions_naming_a_scene": mean([row.scene for row in rows]),
        "captions_with_an_absent_word": mean([row.absent for row in rows]),
        "pictures_with_an_unseen_pair": mean([bool(row.unseen) for row in rows]),
    }
