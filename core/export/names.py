"""Names that every reader takes: files without blanks, labels that are told apart."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePosixPath

from ..utils.files import safe_id
from ..utils.shown import ACTING

BREAKING = re.compile(r"[:,;#\"'<>&\s]+")  # what labelmap.txt and lists of ids are cut at


def file_stem(name: str) -> str:
    """A file's name without folders' slashes, blanks and ending, for lists with an id a line.

    >>> file_stem("a b/c.d.jpg")
    'a_b_c.d'
    """
    path = PurePosixPath(name)
    stem = path.with_suffix("").as_posix() if path.name else name
    return re.sub(r"\s+", "_", safe_id(stem))


def plain_label(name: str) -> str:
    """A label's name without what separates fields and lines in VOC's text files."""
    return BREAKING.sub("_", ACTING.sub("_", name)).strip("_") or "_"


def visible_label(name: str) -> str:
    """A label's name without line breaks and characters that XML or a terminal cannot take."""
    return (
        " ".join(ACTING.sub("_", name).replace("\ufffe", "_").replace("\uffff", "_").split()) or "_"
    )


def distinct(names: Iterable[str], mark: str = "-{}") -> list[str]:
    """The names, equal ones told apart by a number: a, a -> a, a-2. Upper and lower case are equal.

    mark: what is put behind a name, with its number for {}.
    """
    found: list[str] = []
    taken: set[str] = set()
    for name in names:
        own, number = name, 1
        while own.casefold() in taken:
            number += 1
            own = name + mark.format(number)
        taken.add(own.casefold())
        found.append(own)
    return found
