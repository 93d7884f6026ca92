"""One image with its caption and truth, as a function of (seed, split, index) alone."""

from dataclasses import dataclass

import numpy as np

from ..data.words import is_stopword, split_words
from .captions import true_tags, write_caption
from .objects import NOUNS
from .palette import COLOURS
from .picture import UNSEEN, Contents, draw_contents, index_map, render

SPLITS = {"train": 0, "val": 1}


@dataclass(frozen=True)
class Sample:
    """`image` uint8 RGB [S, S, 3]; `index` uint8 [S, S] (`image.index_map`); `tags` the caption's true tags."""

    id: str
    image: np.ndarray
    index: np.ndarray
    contents: Contents
    text: str
    tags: list[str]


def sample_id(split: str, index: int) -> str:
    """File name of an image without its ending, such as "val_000007"."""
    return f"{split}_{index:06d}"


def make_sample(seed: int, split: str, index: int, size: int = 96, noise: float = 0.0) -> Sample:
    """Image `index` of a split ("train" or "val"): never depends on how many are made, or by which process.

    Training images and captions hold none of `palette.unseen_pairs()`; validation ones may.
    noise: see `write_caption`; validation captions have none.
    """
    rng = np.random.default_rng([seed, SPLITS[split], index])
    contents = draw_contents(rng, size, unseen=split != "train")
    text = write_caption(contents, rng, split, noise)
    visible = index_map(contents, size)
    image = render(contents, visible, rng)
    return Sample(
        sample_id(split, index), image, visible, contents, text, true_tags(text, contents)
    )


def tag_mask(sample: Sample, tag: str) -> np.ndarray:
    """Where a visible word is -> bool [S, S]: things of that noun or colour, or what shows of that scene."""
    values = [i for i, scene in enumerate(sample.contents.scenes) if scene == tag]
    values += [
        2 + i for i, thing in enumerate(sample.contents.things) if tag in (thing.noun, thing.colour)
    ]
    return np.isin(sample.index, values)


def class_map(sample: Sample) -> np.ndarray:
    """Nouns as classes -> uint8 [S, S]: 0 background, 1 + i the i-th of `objects.NOUNS`."""
    table = np.zeros(256, np.uint8)
    for i, thing in enumerate(sample.contents.things):
        table[2 + i] = 1 + NOUNS.index(thing.noun)
    return table[sample.index]


@dataclass(frozen=True)
class Facts:
    """What one image adds to the statistics: words, stop words, true and lying words, share painted by true tags."""

    id: str
    words: int
    content: int
    true: int
    absent: bool
    scene: bool
    painted: float
    unseen: tuple[str, ...]


def facts(sample: Sample) -> Facts:
    """Count the words of one caption and the area of its true tags."""
    words = [w.text.casefold() for w in split_words(sample.text)]
    painted = np.any([tag_mask(sample, tag) for tag in sample.tags], axis=0)
    return Facts(
        id=sample.id,
        words=len(words),
        content=sum(not is_stopword(w) for w in words),
        true=sum(w in sample.tags for w in words),
        absent=any((w in NOUNS or w in COLOURS) and w not in sample.tags for w in words),
        scene=any(s in sample.tags for s in sample.contents.scenes),
        painted=float(painted.mean()),
        unseen=tuple(
            f"{t.colour} {t.noun}" for t in sample.contents.things if (t.noun, t.colour) in UNSEEN
        ),
    )


def summarise(rows: list[Facts]) -> dict[str, float]:
    """Statistics of a split, in percent unless said: see the keys. Word counts are micro, over all captions."""
    words, content, true = (
        sum(getattr(r, key) for r in rows) for key in ("words", "content", "true")
    )
    precision = 100 * true / content
    return {
        "pictures": len(rows),
        "words_per_caption": round(words / len(rows), 2),
        "true_tag_words": round(100 * true / words, 2),
        "content_words_precision": round(precision, 2),
        "content_words_f1": round(2 * precision * 100 / (precision + 100), 2),
        "all_foreground_caption_iou": round(100 * float(np.mean([r.painted for r in rows])), 2),
        "captions_naming_a_scene": round(100 * float(np.mean([r.scene for r in rows])), 2),
        "captions_with_an_absent_word": round(100 * float(np.mean([r.absent for r in rows])), 2),
        "pictures_with_an_unseen_pair": round(
            100 * float(np.mean([bool(r.unseen) for r in rows])), 2
        ),
    }
