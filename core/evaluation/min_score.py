"""The lowest score of a word that is in the image, from image-caption pairs without labels.

The words of a caption are scored in its own image and in another pair's. Both sets are mixtures of
words that are there and words that are not, the first with more of those that are; the cut that
keeps the most of the first beyond the second,

    argmax_c  P(score >= c | own image) - P(score >= c | other image),

is also the one that best tells words that are there from words that are not, because the
difference of two mixtures is that of their parts, times a constant (Menon et al., ICML 2015).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ..backbones.base import Backbone
from ..data.records import Record
from ..data.words import is_stopword
from ..errors import TTDError
from ..maps.views import Views
from ..tags.pipeline import Batch, load_batches
from ..tags.scoring import Scored, score_prepared

BATCH = 32  # pairs at a time

Scores = npt.NDArray[np.float64]


@dataclass(frozen=True)
class MinScore:
    """A cut, and the shares in [0, 1] of words at or above it in their own and in other images.

    words: how many were scored in their own images; pairs: of how many captions.
    """

    cut: float
    own: float
    other: float
    words: int
    pairs: int


def calibrate_min_score(backbone: Backbone, records: Sequence[Record]) -> MinScore:
    """The cut for a model, at its own size and scale 1; stop words do not take part.

    records: pairs of images and captions; each also gets the caption half of the list further on.
    Raises TTDError for fewer than two usable pairs.
    """
    half = len(records) // 2
    others = {
        record.index: records[(row + half) % len(records)].text
        for row, record in enumerate(records)
    }
    own: list[float] = []
    other: list[float] = []
    pairs = 0
    views = Views(backbone.image_size)
    with closing(load_batches(records, views, BATCH)) as batches:
        for batch in batches:
            pairs += len(batch.records)
            texts = [others[record.index] for record in batch.records]
            for true, wrong in _scored(backbone, batch, texts, views):
                own += _content(true, set())
                other += _content(wrong, {word.text.casefold() for word in true.words})
    if pairs < 2 or not own or not other:
        raise TTDError(f"{pairs} usable pairs with words: a cut needs two at least, better 1,000")
    return replace(best_cut(np.array(own), np.array(other)), pairs=pairs)


def _scored(
    backbone: Backbone, batch: Batch, texts: Sequence[str], views: Views
) -> Iterator[tuple[Scored, Scored]]:
    """Every pair's own caption and another one, scored in its image, which is encoded once."""
    if batch.records:
        count = len(batch.records)
        captions = [*batch.captions, *texts]
        found = score_prepared(backbone, batch.prepared * 2, captions, views, ("pixel",))
        yield from zip(found[:count], found[count:], strict=True)


def _content(scored: Scored, known: set[str]) -> list[float]:
    """Scores of a caption's words; stop words and those in `known` are left out."""
    scores = scored.scores["pixel"].tolist()
    return [
        score
        for word, score in zip(scored.words, scores, strict=True)
        if not is_stopword(word.text) and word.text.casefold() not in known
    ]


def best_cut(own: Scores, other: Scores) -> MinScore:
    """The cut with the largest difference of shares: of scores [N] and [M], the lowest of equals.

    It is one of the scores; a word is kept when its score is at or above it.
    """
    cuts = np.unique(np.concatenate([own, other]))
    kept, wrong = _shares(own, cuts), _shares(other, cuts)
    best = int((kept - wrong).argmax())
    return MinScore(float(cuts[best]), float(kept[best]), float(wrong[best]), len(own), 0)


def _shares(scores: Scores, cuts: Scores) -> Scores:
    """Share of scores [N] at or above each of the cuts [C]: [C]."""
    return 1 - np.searchsorted(np.sort(scores), cuts, side="left") / len(scores)
