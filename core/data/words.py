"""Captions as words: splitting on white space, and the list of stop words."""

import html
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ..errors import TTDError

APOSTROPHES = dict.fromkeys(map(ord, "\u2019\u2018\u02bc\uff07`\u00b4"), "'")


@dataclass(frozen=True)
class Word:
    """One word of a caption; `text == caption[start:end]`."""

    text: str
    start: int
    end: int


# Joiners, variation selectors and other characters that show nothing.
INVISIBLE = ("Cf", "Cc", "Mn", "Me", "Cs")


def _edge(char: str) -> bool:
    """Whether a character is stripped from the ends of words: what is neither letter nor digit.

    Unicode punctuation and symbols, and what shows nothing by itself (joiners, selectors).
    """
    category = unicodedata.category(char)
    return category[0] in "PS" or category in INVISIBLE


def unescaped(text: str) -> str:
    """HTML entities as characters, twice, as CLIP's tokenizer does: `&amp;amp;` -> `&`.

    Also the old ones that HTML reads without their semicolon (`&amp`).

    >>> unescaped("Tom &amp; Jerry&#39;s &quot;cat&quot;")
    'Tom & Jerry\'s "cat"'
    """
    return html.unescape(html.unescape(text)) if "&" in text else text


def tag_key(text: str) -> str:
    """A word or tag as it is compared: composed, without case, outer blanks and odd apostrophes.

    >>> tag_key(" Cafe\u0301 ") == tag_key("caf\u00e9"), tag_key("child\u2019s")
    (True, "child's")
    """
    composed = unicodedata.normalize("NFC", text.strip()).casefold()
    return composed.translate(APOSTROPHES)


def _accent(text: str, start: int, end: int) -> bool:
    """Whether the last character of text[start:end] is a mark of a letter before it."""
    if unicodedata.category(text[end - 1]) != "Mn" or "\ufe00" <= text[end - 1] <= "\ufe0f":
        return False
    before = text[start:end].rstrip(text[end - 1])
    return bool(before) and unicodedata.category(before[-1])[0] in "LM"


def split_words(text: str) -> list[Word]:
    """Split a caption on white space; strip punctuation and symbols from both ends of each piece.

    Hyphens and apostrophes inside a word stay ("mother-in-law's"); a piece without a letter or a
    digit is no word. Entities must have been replaced before: see `unescaped`.

    >>> [(w.text, w.start, w.end) for w in split_words("A jacuzzi, “in” 2")]
    [('A', 0, 1), ('jacuzzi', 2, 9), ('in', 12, 14), ('2', 16, 17)]
    """
    words, position = [], 0
    for piece in text.split():
        start = text.index(piece, position)
        end = position = start + len(piece)
        while start < end and _edge(text[start]):
            start += 1
        while end > start and _edge(text[end - 1]) and not _accent(text, start, end):
            end -= 1
        if any(char.isalnum() for char in text[start:end]):
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
