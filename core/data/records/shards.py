"""webdataset shards: tars in which consecutive files of one name belong together."""

from __future__ import annotations

import glob
import itertools
import os
import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ...errors import TTDError, UnreadableError
from ...utils.files import is_away
from ...utils.shown import beginning
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

ADJACENT = "the files of a record must be adjacent and alike up to the first dot"
MOST_TEXT = 1 << 24  # bytes of a caption
MOST_SHARDS = 1_000_000  # that a pattern may name
# tarfile passes on what numbers and texts of headers raise, and walks nested ones by recursion.
DAMAGE = (
    *(tarfile.TarError, OSError, EOFError, ValueError, ArithmeticError, LookupError),
    RecursionError,
)


def expand_braces(pattern: str) -> list[str]:
    """`a{00..02}.tar` -> a00.tar, a01.tar, a02.tar; `{x,y}` -> both; the rest stays as it is."""
    match = re.search(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}", pattern)
    if not match:
        return [pattern]
    low, high, names = match.groups()
    if names:
        values = names.split(",")
    else:
        if len(low) > 9 or len(high) > 9 or int(high) - int(low) >= MOST_SHARDS:
            raise TTDError(f"{pattern}: a pattern of more than {MOST_SHARDS} files")
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

    As webdataset reads them: in each tar, consecutive files of one name up to its first dot are a
    record; what follows the dot says what a file is, whatever its case: an image
    (jpg|jpeg|png|webp) and a caption (txt|json). Names that begin with a dot (macOS's `._` files)
    are ignored.
    """
    for path in tars:
        if not path.is_file():
            raise TTDError(f"{path}: not a regular file; name a tar")
    first = sum(1 for _ in _walk_shard(tars[0], root, itertools.count()))
    size = tars[0].stat().st_size or 1
    exact = len(tars) == 1
    count = first if exact else round(first * sum(tar.stat().st_size for tar in tars) / size)

    def walk(start: int) -> Iterator[Item]:
        """The items from number `start` on."""
        number = itertools.count()
        items = itertools.chain.from_iterable(_walk_shard(tar, root, number) for tar in tars)
        return itertools.islice(items, start, None)

    about = f"{count} pairs" if exact else f"about {count} pairs ({first} in the first)"
    shards = f"{len(tars)} webdataset shard{'s' * (len(tars) > 1)}"
    return RecordSet(f"{root}: {shards}, {about}", count, exact, walk, files=tuple(tars))


@dataclass(frozen=True)
class _Shard:
    """An open tar: where it is, and its name in messages."""

    tar: tarfile.TarFile
    path: Path
    name: str


def _walk_shard(path: Path, root: Path, number: Iterator[int]) -> Iterator[Item]:
    """All groups of files of one tar; a damaged tar ends with a `Skipped` that says so.

    UnreadableError where the system cannot read it now.
    """
    name = path.relative_to(root).as_posix()
    problems: list[Exception] = []
    try:
        with tarfile.open(path, "r:") as tar:
            shard = _Shard(tar, path, name)
            for key, files in itertools.groupby(_files(tar, problems), _key):
                parts = [(_ending(member), member) for member in files]
                tar.members.clear()  # type: ignore[attr-defined]  # it keeps every file it has seen
                yield _group(shard, next(number), key, parts)
    except DAMAGE as error:
        problems.append(error)
    if problems and is_away(problems[0]):
        # How many records are lost is not known, so the numbers of those behind them are not.
        raise UnreadableError(
            f"{path}: cannot be read ({reason_of(problems[0])}); the same command resumes where "
            "it stopped"
        )
    if problems:
        reason = f"damaged or compressed tar: {reason_of(problems[0])}"
        yield Skipped(next(number), name, reason)


def _group(
    shard: _Shard, index: int, key: str, files: Sequence[tuple[str, tarfile.TarInfo]]
) -> Item:
    """The record of files of one name, by their endings."""
    parts = dict(files)
    image = next((parts[ending] for ending in SUFFIXES if ending in parts), None)
    text = next((parts[ending] for ending in TEXTS if ending in parts), None)
    if problem := _problem(shard, files):
        return Skipped(index, key, problem)
    if image is None or text is None:
        lost = "image" if image is None else "caption"
        return Skipped(index, key, f"no {lost} in {shard.name} among {_names(files)}; {ADJACENT}")
    packed = Packed(shard.path, image.offset_data, image.size)
    source = Source(index, key, packed, f"{shard.name}/{image.name}")
    return make_record(source, partial(_read_caption, shard.tar, text))


def _problem(shard: _Shard, files: Sequence[tuple[str, tarfile.TarInfo]]) -> str:
    """Why a group of files is no record; "" where it may be one."""
    endings = [ending for ending, _ in files]
    if twice := [ending for ending in endings if endings.count(ending) > 1]:
        return f"several files {twice[0]} of this name in {shard.name}: {_names(files)}"
    if len(images := [ending for ending in endings if ending in SUFFIXES]) > 1:
        return f"several images of this name in {shard.name}: {' and '.join(images)}; keep one"
    size = shard.path.stat().st_size
    if any(member.offset_data + member.size > size for _, member in files):
        return f"cut: {shard.name} ends before the file does"
    return ""


def _names(files: Sequence[tuple[str, tarfile.TarInfo]]) -> str:
    return beginning([os.path.basename(member.name) for _, member in files])


def _files(tar: tarfile.TarFile, problems: list[Exception]) -> Iterator[tarfile.TarInfo]:
    """The files of a tar up to its first damage, which goes into `problems`."""
    last = -1
    try:
        for member in tar:
            if member.size < 0 or member.offset <= last:  # it would be walked for ever
                raise tarfile.ReadError("a header with a size below 0")
            last = member.offset
            if member.isfile() and not os.path.basename(member.name).startswith("."):
                yield member
    except DAMAGE as error:
        problems.append(error)


def _key(member: tarfile.TarInfo) -> str:
    """webdataset's key: the path up to the first dot of the file's own name."""
    folder, base = os.path.split(member.name)
    return os.path.join(folder, base.split(".")[0])


def _ending(member: tarfile.TarInfo) -> str:
    """What follows the first dot of the file's own name, with the dot, in lower case."""
    _, dot, ending = os.path.basename(member.name).partition(".")
    return (dot + ending).lower()


def _read_caption(tar: tarfile.TarFile, member: tarfile.TarInfo) -> dict[str, Any]:
    """The caption in a tar. ValueError or OSError with the reason."""
    if member.size > MOST_TEXT:
        raise ValueError(f"a caption of {member.size} bytes")
    file = tar.extractfile(member)
    data = b"" if file is None else file.read()
    return parse_caption(data, _ending(member))
