"""The words of a caption in one image: scores, which are kept, and where each is nearest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..tags.selection import select
from .predictor import Predictor


@dataclass(frozen=True)
class Row:
    """A word, or the caption as a whole.

    score: cosine with the nearest pixel, in [-1, 1]. norm: the scores of one image's words from 0
    to 1; None for the caption, which does not compete with its words. x, y: the nearest pixel.
    """

    text: str
    score: float
    norm: float | None
    selected: bool
    x: int
    y: int


def score_words(
    predictor: Predictor,
    words: Sequence[str],
    caption: str | None = None,
    least: float | None = None,
) -> list[Row]:
    """The caption first, then each distinct word once, in the order they stand.

    Normalization and the cut (Otsu) look at every word of the caption, repeated ones too; words
    below the cosine `least` are rejected whatever that says. TTDError: no words, no image set.
    """
    selected, norms = select(predictor.scores(words).cpu(), min_score=least)
    distinct: dict[str, int] = {}  # first occurrence of each
    for i, word in enumerate(words):
        distinct.setdefault(word.casefold(), i)
    kept = list(distinct.values())
    texts = [words[i] for i in kept]
    marks: list[tuple[float | None, bool]] = [(float(norms[i]), bool(selected[i])) for i in kept]
    if caption is not None:
        texts, marks = [caption, *texts], [(None, True), *marks]
    scores, peaks = predictor.scores(texts).tolist(), predictor.peaks(texts).tolist()
    return [
        Row(text, value, *mark, *peak)
        for text, value, mark, peak in zip(texts, scores, marks, peaks, strict=True)
    ]
