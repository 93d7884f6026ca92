"""True tags against the words of a caption."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from .words import split_words, tag_key


def truth_of(words: Iterable[str], tags: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Which of K consecutive words of a caption are true tags: bool [K].

    Compared by `tag_key` (case, Unicode form, apostrophes). A tag of several words makes them true
    where they follow each other.
    """
    return matched(words, tags)[0]


def matched(words: Iterable[str], tags: Sequence[str]) -> tuple[npt.NDArray[np.bool_], list[str]]:
    """`truth_of` bool [K], and the tags that match no word."""
    keys = [tag_key(word) for word in words]
    true, unmatched = np.zeros(len(keys), dtype=bool), []
    for tag in tags:
        parts = [tag_key(word.text) for word in split_words(tag)]
        count = len(parts)
        starts = [at for at in range(len(keys) - count + 1) if keys[at : at + count] == parts]
        for at in starts:
            true[at : at + count] = True
        if not starts or not count:
            unmatched.append(tag)
    return true, unmatched
