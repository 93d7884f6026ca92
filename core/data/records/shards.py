"""webdataset shards: tars in which consecutive files of one name belong together."""

from __future__ import annotations

import glob
import itertools
import os
import re
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from .record import (
    SUFFIXES,
    TEXTS,
    Item,
    Packed,
    RecordSet,
    Skipped,
    Source,
    make_record,
    parse_caption,
    reason_of,
)

DAMAGE = (tarfile.TarError, OSError, EOFError)


def expand_braces(pattern: str) -> list[str]:
    """`a{00..02}.tar` -> a00.tar, a01.tar, a02.tar; `{x,y}` -> both; the rest stays as it is."""
    match = re.search(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}", pattern)
    if not match:
        return [pattern]
    low, high, names = match.groups()
    if names:
        values = names.split(",")
    else:
        values = [f"{i:0{len(low)}d}" for i in range(int(low), int(high) + 1)]
    before, after = pattern[: match.start()], pattern[match.end() :]
    expanded = (expand_braces(before + value + after) for value in values)
    return list(itertools.chain.from_iterable(expanded))


def match_patterns(pattern: str) -> list[Path]:
    """The files of a glob pattern that may have braces (`expand_braces`), each once, sorted."""
    hits: set[str] = set()
    for part in expand_braces(pattern):
        hits.update(glob.glob(part))
    return sorted(map(Path, hits))


def open_shards(tars: list[Path], root: Path) -> RecordSet:
    """The records of tars, one after the other; names are relative to `root`.

    In each tar, consecutive files of one name up to its first dot are a record: an image
    (jpg|jpeg|png|webp) and a caption (txt|json).
    """
    first = sum(1 for _ in _walk_shard(tars[0], root, itertools.count()))
    size = tars[0].stat().st_size or 1
    exact = len(tars) == 1
    count = first if exact else round(first * sum(tar.stat().st_size for tar in tars) / size)

    def walk(start: int) -> Iterator[Item]:
        number = itertools.count()
        items = itertools.chain.from_iterable(_walk_shard(tar, root, number) for tar in tars)
        return itertools.islice(items, start, None)

    about = f"{count} pairs" if exact else f"about {count} pairs ({first} in the first)"
    shards = f"{len(tars)} webdataset shard{'s' * (len(tars) > 1)}"
    return RecordSet(f"{root}: {shards}, {about}", count, exact, walk)


@dataclass(frozen=True)
class _Shard:
    """An open tar: where it is, and its name in messages."""

    tar: tarfile.TarFile
    path: Path
    name: str


def _walk_shard(path: Path, root: Path, number: Iterator[int]) -> Iterator[Item]:
    """All groups of files of one tar; a damaged tar ends with a `Skipped` that says so."""
    name = path.relative_to(root).as_posix()
    problems: list[Exception] = []
    try:
        with tarfile.open(path, "r:") as tar:
            shard = _Shard(tar, path, name)
            for key, files in itertools.groupby(_files(tar, problems), _key):
                parts = {os.path.splitext(member.name)[1].lower(): member for member in files}
                tar.members.clear()  # type: ignore[attr-defined]  # it keeps every file it has seen
                yield _group(shard, next(number), key, parts)
    except DAMAGE as error:
        problems.append(error)
    if problems:
        reason = f"damaged or compressed tar: {reason_of(problems[0])}"
        yield Skipped(next(number), name, reason)


def _group(shard: _Shard, index: int, key: str, parts: Mapping[str, tarfile.TarInfo]) -> Item:
    """The record of files of one name, by their endings."""
    image = next((parts[ending] for ending in SUFFIXES if ending in parts), None)
    text = next((parts[ending] for ending in TEXTS if ending in parts), None)
    if image is None or text is None:
        lost = "image" if image is None else "caption"
        return Skipped(index, key, f"no {lost} in {shard.name}")
    packed = Packed(shard.path, image.offset_data, image.size)
    source = Source(index, key, packed, f"{shard.name}/{image.name}")
    return make_record(source, partial(_read_caption, shard.tar, text))


def _files(tar: tarfile.TarFile, problems: list[Exception]) -> Iterator[tarfile.TarInfo]:
    """The files of a tar up to its first damage, which goes into `problems`."""
    try:
        yield from (member for member in tar if member.isfile())
    except DAMAGE as error:
        problems.append(error)


def _key(member: tarfile.TarInfo) -> str:
    """webdataset's key: the path up to the first dot of the file's own name."""
    folder, base = os.path.split(member.name)
    return os.path.join(folder, base.split(".")[0])


def _read_caption(tar: tarfile.TarFile, member: tarfile.TarInfo) -> dict[str, Any]:
    """The caption in a tar. ValueError or OSError with the reason."""
    file = tar.extractfile(member)
    data = b"" if file is None else file.read()
    return parse_caption(data, Path(member.name).suffix)
