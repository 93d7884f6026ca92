"""Shards that an input names and that are not there: a run would be short of data unnoticed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..utils.files import expanded
from .pairs import find_pairs
from .records import expand_braces


@dataclass(frozen=True)
class Shards:
    """The shards that brace patterns name: how many, and the paths of those that are missing."""

    named: int
    missing: tuple[str, ...]


def named_shards(data: str, root: str | Path) -> Shards:
    """The shards named by the parts of `data` = "NAME+NAME" that are patterns with braces.

    `s/{00000..00331}.tar` names 332 files. Parts of other forms name none, and a part that holds
    wildcards too cannot be checked. TTDError as from `find_pairs`.
    """
    names: list[str] = []
    for place in find_pairs(data, root):
        if "{" in place and not expanded(place).exists():
            names += [name for name in expand_braces(place) if not set(name) & set("*?[")]
    missing = tuple(name for name in names if not expanded(name).exists())
    return Shards(len(names), missing)
