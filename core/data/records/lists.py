"""JSONL lists: a line names an image and its captions."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ...errors import TTDError, UnreadableError
from ...utils.files import is_there
from ..image_lists import LISTS, find_beside
from .ids import Distinct
from .record import Item, Record, RecordSet, Skipped, Source, lacking, make_record, reason_of

__all__ = ["LISTS", "open_jsonl"]


def open_jsonl(path: Path) -> RecordSet:
    """The records of a list.

    A line is {"image": path, "text": str} or {"image": path, "captions": [str, ...]}, with "id" and
    "tags" where they are known. Paths are relative to the list's folder, or to images/ or image/ in
    it. The id is the path without its ending; several captions of an image get #0, #1, ... behind
    it. TTDError when the list cannot be read or holds no line.
    """
    if is_there(path) and not path.is_file():
        raise TTDError(f"{path}: not a regular file; name a list")
    count, images, repeated, distinct = 0, dict[str, Path](), 0, Distinct()
    try:
        for item in _walk(path):
            count += 1
            if isinstance(item, Record):
                repeated += distinct(item.id) != item.id
            if isinstance(item, Record) and isinstance(item.image, Path):
                images[item.name] = item.image
    except OSError as error:
        raise TTDError(
            f"{path}: cannot be read ({error.strerror}); check its permissions"
        ) from None
    except UnicodeDecodeError:
        raise TTDError(f"{path}: not UTF-8 text; save the list as UTF-8") from None
    if not count:
        raise TTDError(f'{path}: no lines; each must be {{"image": path, "text": caption}}')
    missing = sum(not (is_there(image) and image.is_file()) for image in images.values())
    description = (
        f"{path}: {count} captions of {len(images)} images; {lacking(missing, 'missing images')}"
    )
    if repeated:
        description += f"; {repeated} ids occur again and are numbered #1, #2, ..."
    return RecordSet(description, count, True, partial(_walk_from, path))


def _walk_from(path: Path, start: int) -> Iterator[Item]:
    """The records from number `start` on. UnreadableError when the list cannot be read now."""
    try:
        yield from itertools.islice(_walk(path), start, None)
    except OSError as error:
        raise UnreadableError(
            f"{path}: cannot be read ({error.strerror}); the same command resumes where it stopped"
        ) from None


@dataclass(frozen=True)
class _Line:
    """A line's image: name and place; its captions, and its id and tags where it gives them."""

    name: str
    image: Path
    captions: list[Any]
    id: str
    tags: Any


def _walk(path: Path) -> Iterator[Item]:
    number = itertools.count()
    with path.open(encoding="utf-8-sig", newline="\n") as lines:
        for at, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = _parse(line, path.parent)
            except (ValueError, KeyError, TypeError, RecursionError, OSError) as error:
                reason = f"not a line with image and text ({reason_of(error)})"
                yield Skipped(next(number), f"{path.name}:{at}", reason)
                continue
            yield from _records(row, number)


def _parse(line: str, folder: Path) -> _Line:
    """A line of a list. ValueError, KeyError or TypeError where it is none."""
    row = json.loads(line)
    name = row["image"]
    if not isinstance(name, str) or not name:
        raise TypeError('"image" is no path')
    captions = row["captions"] if "captions" in row else [row["text"]]
    if not isinstance(captions, list):
        raise TypeError('"captions" is no list')
    shown = Path(name).name if Path(name).is_absolute() else name
    own = str(row.get("id") or os.path.splitext(shown)[0])
    return _Line(name, find_beside(folder, name), captions, own, row.get("tags"))


def _records(row: _Line, number: Iterator[int]) -> Iterator[Item]:
    """A record per caption of a line."""
    for k, text in enumerate(row.captions):
        key = f"{row.id}#{k}" if len(row.captions) > 1 else row.id
        source = Source(next(number), key, row.image, row.name)
        yield make_record(source, partial(dict[str, Any], text=text, tags=row.tags))
