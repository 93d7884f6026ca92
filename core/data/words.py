"""Captions as words: splitting on white space, and the list of stop words."""

import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ..errors import TTDError


@dataclass(frozen=True)
class Word:
    """One word of a caption; `text == caption[start:end]`."""

    text: str
    start: int
    end: int


def _edge(char: str) -> bool:
    """Whether a character is stripped from the ends of words: Unicode punctuation and symbols."""
    return unicodedata.category(char)[0] in "PS"


def split_words(text: str) -> list[Word]:
    """Split a caption on white space; strip punctuation and symbols from both ends of each piece.

    Hyphens and apostrophes inside a word stay ("mother-in-law's"); a piece of nothing but
    punctuation is no word.

    >>> [(w.text, w.start, w.end) for w in split_words("A jacuzzi, “in” 2")]
    [('A', 0, 1), ('jacuzzi', 2, 9), ('in', 12, 14), ('2', 16, 17)]
    """
    words, position = [], 0
    for piece in text.split():
        start = text.index(piece, position)
        end = position = start + len(piece)
        while start < end and _edge(text[start]):
            start += 1
        while end > start and _edge(text[end - 1]):
            end -= 1
        if start < end:
            words.append(Word(text[start:end], start, end))
    return words


@lru_cache(maxsize=2)
def stopwords(source: str = "shipped") -> frozenset[str]:
    """Stop words (function words), lower case: those of this project, or NLTK's English ones.

    source: "shipped" (stopwords.txt beside this file) or "nltk".
    Raises TTDError for "nltk" where NLTK or its list is not installed, and for another source.
    """
    if source == "nltk":
        return _nltk_stopwords()
    if source != "shipped":
        raise TTDError(f"unknown list of stop words {source!r}: use shipped or nltk")
    lines = (Path(__file__).parent / "stopwords.txt").read_text(encoding="utf-8").splitlines()
    return frozenset(" ".join(line for line in lines if not line.startswith("#")).split())


def _nltk_stopwords() -> frozenset[str]:
    try:
        from nltk.corpus import stopwords as corpus

        return frozenset(corpus.words("english"))
    except (ImportError, LookupError):
        raise TTDError(
            "NLTK's stop words are not installed: run 'python -m nltk.downloader stopwords', "
            "or use the list that ships (--stopwords alone)"
        ) from None


def is_stopword(word: str, source: str = "shipped") -> bool:
    """Whether `word` is a stop word, whatever its case and whichever kind of apostrophe it has."""
    return word.casefold().replace("’", "'") in stopwords(source)
