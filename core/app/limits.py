"""What one visitor may ask for: sizes of pictures and texts; anything more is one clear line."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..data.words import split_words, unescaped
from ..errors import TTDError

MEGABYTE = 2**20
LETTERS = 1000  # of a caption, and of a list of tags; CLIP reads 77 tokens at most
WORDS = 48  # of a caption
TAGS, PHRASES = 32, 8
TAG_LETTERS = 100


@dataclass(frozen=True)
class Limits:
    """Bounds of a page.

    upload: bytes of a picture's file. side: larger pictures are reduced to this long side, in
    pixels. memory: bytes that all pictures together may hold. models: how many are held loaded.
    """

    upload: int = 20 * MEGABYTE
    side: int = 2048
    memory: int = 1024 * MEGABYTE
    models: int = 4


def caption_of(text: str | None) -> tuple[str, list[str]]:
    """A caption as it is scored, and its words. TTDError: none, or too long a text."""
    caption = unescaped(_bounded(text, "caption", "write one, such as: a red house under a tree"))
    words = [word.text for word in split_words(caption)]
    if not words:
        raise TTDError("the caption has no words: write some, such as: a red house under a tree")
    if len(words) > WORDS:
        raise TTDError(f"the caption has {len(words)} words; {WORDS} are looked for at most")
    return caption, words


def tags_of(text: str | None) -> list[str]:
    """Tags from a text, one to a line or between commas. TTDError: none, too many, too long."""
    given = _bounded(text, "list of tags", "write some, such as: house, tree, bird")
    return _items(given, r"[,;\n]", "tags", TAGS)


def phrases_of(text: str | None) -> list[str]:
    """Phrases from a text, one to a line. TTDError: none, too many, too long."""
    given = _bounded(text, "phrase", "write one, such as: the red star on the left")
    return _items(given, r"\n", "phrases", PHRASES)


def _bounded(text: str | None, what: str, advice: str) -> str:
    """A text that is there and not too long."""
    given = (text or "").strip()
    if not given:
        raise TTDError(f"no {what} yet: {advice}")
    if len(given) > LETTERS:
        raise TTDError(f"the {what} has {len(given)} letters; at most {LETTERS} are read")
    return given


def _items(text: str, separator: str, what: str, most: int) -> list[str]:
    """The distinct items of a list, in their order."""
    split = (" ".join(item.split()) for item in re.split(separator, text))
    items = list({item.casefold(): item for item in reversed([*filter(None, split)])}.values())
    items.reverse()
    if not items:
        raise TTDError(f"no {what} in this text: write some")
    if len(items) > most:
        raise TTDError(f"{len(items)} {what}; at most {most} are answered at a time")
    for item in items:
        if len(item) > TAG_LETTERS:
            raise TTDError(f"{item[:20]!r}... has {len(item)} letters; at most {TAG_LETTERS}")
    return items
