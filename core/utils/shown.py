"""Lists in messages: the first few of many, so that a message stays one line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def first_few(names: Sequence[str], limit: int = 5) -> str:
    """The first `limit` names and how many more there are: `a, b and 7 more`."""
    rest = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + rest


def beginning(values: Iterable[object], limit: int = 3) -> str:
    """The first `limit` values, and dots where there are more: `1, 2, 3, ...`."""
    texts = [str(value) for value in values]
    dots = ["..."] if len(texts) > limit else []
    return ", ".join(texts[:limit] + dots)
