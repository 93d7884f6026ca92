"""Text for people: nothing in it acts on a terminal, and lists in messages stay one line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

# What acts on a terminal or is not what it looks like: C0 and C1 controls (ANSI escapes begin with
# one) but tab and line feed, line and paragraph separators, marks that turn the direction of
# writing, invisible tags, lone surrogates. Joiners stay: words and emoji are written with them.
ACTING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)

# The folders of an absolute path, at its beginning, where a name follows.
FOLDERS = re.compile(r"(?<![^\s\"'(\[=:,])~?/(?!/)(?:[^\s\"'/]+/)*(?=[^\s\"'/])")


def visible(text: str) -> str:
    r"""Text in which every character that acts on a terminal is written as its number.

    >>> visible("a \x1b[2J b")
    'a \\u001b[2J b'
    """
    return ACTING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def without_folders(text: str) -> str:
    """Text whose absolute paths are only the names of their files, for pages that are passed on.

    >>> without_folders("lora /data/me/a.pt, local-dir:/srv/b, weights/c.pt, https://d/e")
    'lora a.pt, local-dir:b, weights/c.pt, https://d/e'
    """
    return FOLDERS.sub("", text)


def first_few(names: Sequence[str], limit: int = 5) -> str:
    """The first `limit` names and how many more there are: `a, b and 7 more`."""
    rest = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + rest


def beginning(values: Iterable[object], limit: int = 3) -> str:
    """The first `limit` values, and dots where there are more: `1, 2, 3, ...`."""
    texts = [str(value) for value in values]
    dots = ["..."] if len(texts) > limit else []
    return ", ".join(texts[:limit] + dots)


def decimals(values: Iterable[float], usual: int = 1) -> int:
    """Decimals of a column of numbers: `usual`, one more where that shows a difference.

    That is where two of the values look alike with `usual` decimals, but not with one more.
    """
    few: dict[str, set[str]] = {}
    for value in values:
        few.setdefault(f"{value:.{usual}f}", set()).add(f"{value:.{usual + 1}f}")
    return usual + any(len(alike) > 1 for alike in few.values())
