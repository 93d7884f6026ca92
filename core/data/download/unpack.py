"""Archives of releases: zip and tar, unpacked into one folder and nowhere else.

Names, links and sizes in an archive are a stranger's: a member that would land outside the folder,
a link or a device, and more bytes than stated end it in one line.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import IO, Any

from ...errors import TTDError
from ...utils.files import atomic, bad_id, read_json, safe_name, write_json, write_reason
from .sums import CHUNK

MOST_RATIO, MOST_EXTRA = 200, 1 << 30  # an archive of N bytes unpacks to at most 200 N and 1 GiB
MOST_FILES = 10_000_000
MOST_HEADER = 1 << 24  # bytes that tarfile may read at a time: names, not contents
OPENERS = (gzip.open, bz2.open, lzma.open)
# What zipfile, tarfile and the decompressors raise for files that are damaged.
DAMAGE = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError),
    *(ValueError, ArithmeticError, LookupError, RecursionError, NotImplementedError, RuntimeError),
)
MARKS = ".unpacked"


@dataclass(frozen=True)
class Member:
    """A file in an archive: its name, its bytes by its header, and how it is opened."""

    name: str
    size: int
    open: Callable[[], IO[bytes]]


def unpack(
    archive: Path,
    folder: Path,
    only: Sequence[str] = (),
    *,
    most: int | None = None,
    mark: str = "",
) -> int:
    """Unpack an archive into `folder`; the number of its files. Done before: nothing happens.

    only: patterns of the members that are wanted, such as `*/val2017/*`; () all. most: bytes that
    it may unpack to, None: by its own size. mark: what tells it from another of its name (its
    checksum).
    Every file is whole or not there, and FOLDER/.unpacked/NAME.json says that all of them are.
    Errors: TTDError in one line: no archive or a damaged one, a member that is refused, no member
    that is wanted, no room.
    """
    note = folder / MARKS / f"{archive.name}.json"
    asked = {"archive": archive.name, "sum": mark, "only": list(only)}
    done = read_json(note) or {}
    if {key: done.get(key) for key in asked} == asked:
        return int(done.get("files", 0))
    try:
        limit = most or MOST_RATIO * archive.stat().st_size + MOST_EXTRA
        count = _all_members(archive, folder, only, limit)
        note.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno is None:  # of a decompressor
            raise _damaged(archive, error) from None
        where = error.filename or folder
        raise TTDError(
            f"{where}: cannot be unpacked ({write_reason(error)}); make room or mend that, and run "
            "the same command again"
        ) from None
    write_json(note, {**asked, "files": count})
    return count


def _all_members(archive: Path, folder: Path, only: Sequence[str], most: int) -> int:
    """Unpack what is wanted, and count it."""
    count = total = 0
    try:
        for member in _members(archive):
            target = folder / _safe(member.name, archive)
            if only and not any(fnmatchcase(member.name, pattern) for pattern in only):
                continue
            count, total = count + 1, total + member.size
            if total > most or count > MOST_FILES:
                raise TTDError(f"{archive}: unpacks to more than {most} bytes; refused")
            _write(member, target, archive)
    except DAMAGE as error:
        raise _damaged(archive, error) from None
    if count == 0:
        wanted = f" that is called {' or '.join(only)}" if only else ""
        raise TTDError(f"{archive}: holds no file{wanted}; is it another release?")
    return count


def _damaged(archive: Path, error: Exception) -> TTDError:
    reason = " ".join(str(error).split())[:120] or type(error).__name__
    return TTDError(
        f"{archive}: damaged, or no archive that is read here ({reason}); delete it and run the "
        "same command again"
    )


def _members(archive: Path) -> Iterator[Member]:
    """The files of an archive, in its order; TTDError for links, devices and passwords."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as packed:
            yield from _zip_members(packed, archive)
        return
    with archive.open("rb") as file:
        begin = file.read(6)
        file.seek(0)
        yield from _tar_members(_unpressed(file, begin), archive)


def _zip_members(packed: zipfile.ZipFile, archive: Path) -> Iterator[Member]:
    for info in packed.infolist():
        kind = info.external_attr >> 28  # of Unix, 0 where it does not say
        if info.is_dir():
            _safe(info.filename, archive)
            continue
        if kind not in (0, 8):
            raise _refused(archive, info.filename, "a link or a device")
        if info.flag_bits & 1:
            raise _refused(archive, info.filename, "locked by a password")
        yield Member(info.filename, info.file_size, partial(packed.open, info))


def _unpressed(file: IO[bytes], begin: bytes) -> IO[bytes]:
    """What a compressed tar holds, by its first bytes; an uncompressed one as it is."""
    marks = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00")
    for mark, opened in zip(marks, OPENERS, strict=True):
        if begin.startswith(mark):
            return opened(file, "rb")  # type: ignore[operator,no-any-return]
    return file


class _Bounded:
    """A stream for tarfile, which would read a header of any stated length into memory."""

    def __init__(self, stream: IO[bytes]):
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        """`size` bytes. TTDError for more than any header or block has."""
        if not 0 <= size <= MOST_HEADER:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self._stream.read(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _tar_members(stream: IO[bytes], archive: Path) -> Iterator[Member]:
    bounded: Any = _Bounded(stream)
    with tarfile.open(fileobj=bounded, mode="r:") as packed:
        while (info := packed.next()) is not None:
            packed.members.clear()  # type: ignore[attr-defined]  # they would all be kept
            if info.isdir():
                _safe(info.name, archive)
                continue
            if not info.isreg() or info.issparse():
                raise _refused(archive, info.name, "a link, a device or of holes")
            yield Member(info.name, info.size, partial(_extracted, packed, info))


def _extracted(packed: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    opened = packed.extractfile(info)
    if opened is None:
        raise tarfile.ReadError(f"{info.name[:120]!r} has no content")
    return opened


def _safe(name: str, archive: Path) -> Path:
    """A member's name as a path inside a folder. TTDError for what would leave it."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    wrong = name.startswith("/") or ".." in parts or any(safe_name(p) != p for p in parts)
    if wrong or bad_id(name) or (parts and parts[0] == MARKS):
        raise _refused(archive, name, "not a plain name")
    return Path(*parts)


def _refused(archive: Path, name: str, what: str) -> TTDError:
    return TTDError(
        f"{archive}: its member {name[:120]!r} is {what}; nothing like that is unpacked"
    )


def _write(member: Member, target: Path, archive: Path) -> None:
    """One file, of exactly the bytes that its header states."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic(target) as part, member.open() as source, part.open("wb") as file:
        left = member.size
        while left and (chunk := source.read(min(left, CHUNK))):
            file.write(chunk)
            left -= len(chunk)
        if left or source.read(1):
            raise TTDError(f"{archive}: {member.name[:120]!r} is not of the size that it states")
