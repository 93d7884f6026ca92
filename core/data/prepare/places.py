"""Where the files of a release are: people point at different folders of it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from ...errors import TTDError
from ...utils.files import bad_id, regular_text, safe_id
from ...utils.shown import first_few

IMAGES = (".jpg", ".jpeg", ".png")
LISTED = 8  # other lists that a message names
ENTRIES = 6  # entries of a folder, likewise


def find_base(source: Path, bases: Sequence[str], needed: Sequence[str]) -> Path:
    """The first of SOURCE/base that has all the needed folders.

    TTDError that says what was looked for and what is there.
    """
    for base in bases:
        if all((source / base / part).is_dir() for part in needed):
            return source / base
    there = "it is a file"
    if source.is_dir():
        there = ", ".join(sorted(os.listdir(source))[:ENTRIES]) or "nothing"
    folders = " and ".join(f"{part}/" for part in needed)
    tried = ", ".join(base for base in bases if base != ".")
    raise TTDError(f"{source}: no {folders} in it or in {tried}; there is: {there}")


def existing_folders(parts: Sequence[str], *places: Path) -> Iterator[Path]:
    """Those of PLACE/part that are folders: all places for the first part, then for the next."""
    for part in parts:
        for place in dict.fromkeys(places):
            if (place / part).is_dir():
                yield place / part


def first_with(pattern: str, folders: Iterator[Path]) -> Path | None:
    """The first of the folders with a file of that pattern, None where none has one."""
    return next((folder for folder in folders if any(folder.glob(pattern))), None)


def part_of(base: Path, kind: str, part: str) -> Path:
    """BASE/kind/part, or BASE/kind where the release has only one part."""
    folder = base / kind / part
    return folder if folder.is_dir() else base / kind


def images_in(folder: Path) -> list[tuple[str, Path]]:
    """(id, path) of the images directly in a folder, sorted, without hidden ones."""
    visible = (path for path in sorted(folder.iterdir()) if not path.name.startswith("."))
    return [(path.stem, path) for path in visible if path.suffix.lower() in IMAGES]


def read_split(path: Path) -> list[str]:
    """Ids of a split list: the first word of each line.

    TTDError when it cannot be read or is empty, naming the release's other lists, and when an id
    repeats or is no plain name.
    """
    try:
        lines = regular_text(path).split("\n")
    except TTDError as error:
        raise TTDError(f"{error}; it is the list of the split{_other_lists(path)}") from None
    ids = [line.split()[0] for line in lines if line.strip()]
    for name in ids:
        if problem := bad_id(name) or ("" if safe_id(name) == name else "an id that is a path"):
            raise TTDError(f"{path}: {name[:80]!r}: {problem}")
    if twice := [name for name, count in Counter(ids).items() if count > 1]:
        raise TTDError(f"{path}: {first_few(twice)} listed more than once")
    if not ids:
        raise TTDError(f"{path}: an empty list{_other_lists(path)}")
    return ids


def _other_lists(path: Path) -> str:
    """What to do instead of reading the list `path`, where there are other ones in its folder."""
    others = sorted(other.stem for other in path.parent.glob("*.txt") if other != path)
    if not others:
        return ""
    names = ", ".join(others[:LISTED])
    return f"; there are {names}: choose one with --split, and its folder with --to"
