"""How many words BERT's basic tokenizer makes of a text: it decides which narratives are scored.

Control characters go, letters are lower-cased and lose their accents, white space and punctuation
separate words, and each punctuation mark and each CJK character is a word of its own.
"""

from __future__ import annotations

import unicodedata

CJK = (
    (0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F),
)  # fmt: skip
SPACES = "\t\n\r"


def basic_words(text: str) -> list[str]:
    """The words of a text.

    >>> basic_words("A café, isn't it?")
    ['a', 'cafe', ',', 'isn', "'", 't', 'it', '?']
    """
    spaced = "".join(map(_separated, text))
    words: list[str] = []
    for part in spaced.split():
        plain = unicodedata.normalize("NFD", part.lower())
        kept = "".join(char for char in plain if unicodedata.category(char) != "Mn")
        words += "".join(f" {c} " if _is_punctuation(c) else c for c in kept).split()
    return words


def _separated(char: str) -> str:
    """A character as it goes on: gone, a space, or with spaces around it."""
    if char in SPACES or unicodedata.category(char) == "Zs":
        return " "
    if char in "\x00\ufffd" or unicodedata.category(char).startswith("C"):
        return ""
    return f" {char} " if any(low <= ord(char) <= high for low, high in CJK) else char


def _is_punctuation(char: str) -> bool:
    """Unicode's punctuation, and every mark of ASCII, such as $ and ^."""
    mark = char.isascii() and char.isprintable() and not char.isalnum() and char != " "
    return mark or unicodedata.category(char).startswith("P")
