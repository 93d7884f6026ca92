"""Class names of a description: what stands for the background, what is no class, what repeats."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...errors import TTDError

# How tools write label 0. labelme begins its lists with __ignore__ (-1, stored as 255) and
# _background_ (0).
BACKGROUND = frozenset(("background", "backgrounds", "bg", "back ground"))
IGNORE = "__ignore__"
# Label 0 of other tools, where it may mean the background or what is not scored.
UNCLEAR = frozenset((
    "ignore", "ignored", "unlabeled", "unlabelled", "void", "unknown", "other", "others", "none",
    "unannotated", "undefined", "nothing", "null", "n/a", "no label", "nolabel", "not labeled",
    "no class", "unclassified", "unassigned", "dont care", "don't care", "ignore region",
    "ignore regions", "invalid",
))  # fmt: skip


def parse_classes(value: Any, background: bool, where: str | Path) -> tuple[str, ...]:
    """The prompted class names, as they stand, without what stands for the background.

    background: label 0 is the background. A first name such as `background`, `_background_`, `bg`
    or `background|wall` then names label 0 and is left out; `__ignore__` before it (labelme's 255)
    is left out always. Raises TTDError: no list of names (numbers and switches that YAML made of
    names are refused, because 'on' or 07 would change silently), names that are the same but for
    case and blanks, the background anywhere but first, and names of label 0 that may mean
    background or ignored.
    """
    names = _texts(value, where)
    if _bare(names[0]) == "ignore" and names[0].strip().startswith("_"):
        names = names[1:]
    if background and names and _is_background(names[0]):
        names = names[1:]
    for number, name in enumerate(names):
        _check_name(name, number, background, where)
    _check_distinct(names, where)
    return tuple(names)


def _check_name(name: str, number: int, background: bool, where: str | Path) -> None:
    """TTDError for a name that is no class."""
    unclear = any(_bare(part) in UNCLEAR for part in name.split("|"))
    if background and _is_background(name):
        raise TTDError(
            f"{where}: class {number + 1} is '{name}', but background: 0 says that label 0 is the "
            "background; put it first, or leave it out and renumber the masks"
        )
    if name.strip().startswith("_") and name.strip().endswith("_"):
        raise TTDError(
            f"{where}: '{name}' is no class but a mark of a tool; for a background at label 0, put "
            "it first and set background: 0; labels that are not scored are `ignore`"
        )
    if number == 0 and background and unclear:
        raise TTDError(
            f"{where}: the first class is '{name}', but under background: 0 the classes begin at "
            "label 1; leave it out (label 0 is then the background), or leave out background and "
            "set ignore: [0, 255] (label 0 is then not scored)"
        )


def _check_distinct(names: Sequence[str], where: str | Path) -> None:
    """TTDError for two classes that differ in case, blanks or Unicode form only."""
    seen: dict[str, str] = {}
    for name in names:
        key = "|".join(sorted(_key(part) for part in name.split("|")))
        other = seen.setdefault(key, name)
        if other is not name or names.count(name) > 1:
            same = "twice" if other == name else f"twice, as '{other}' too"
            raise TTDError(f"{where}: class '{name}' is listed {same}")


def _texts(value: Any, where: str | Path) -> list[str]:
    """A list of non-empty names. TTDError."""
    if not isinstance(value, list) or not value or not all(_is_text(name) for name in value):
        raise TTDError(
            f"{where}: classes must be a list of names; put those in quotes that YAML takes for "
            'numbers or switches ("1", "on")'
        )
    for name in value:
        if not all(_is_text(synonym) for synonym in name.split("|")):
            raise TTDError(f"{where}: a class has an empty synonym; write person|human|man")
    return list(value)


def _is_background(name: str) -> bool:
    """Whether any synonym of a name says background."""
    return any(_bare(part) in BACKGROUND for part in name.split("|"))


def _bare(name: str) -> str:
    """`__Ignore__ ` -> `ignore`, `no_label` -> `no label`."""
    return " ".join(_key(name).strip("_-<>[]() ").replace("_", " ").replace("-", " ").split())


def _key(name: str) -> str:
    """A name without case, outer and repeated blanks, in one Unicode form."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())
