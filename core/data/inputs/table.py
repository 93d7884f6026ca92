"""What a result is made from: ids, captions and image files; and which of them changed since.

A result that is found again must come from the same inputs, and a run that was killed must not
resume with others. Beside every result lies a table of hashes and file stamps (`SUFFIX`), 24 bytes
a record and 32 a file. A file counts as changed when its size differs, or its time and its content:
a copy or a touched file is the same file. Content is compared by `sample_of`; shards, of which a
sample says little, by their time alone.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import stat
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from ...errors import TTDError
from ...utils.files import atomic, write_errors
from ...utils.prefetch import prefetch
from ...utils.shown import first_few

SUFFIX = ".inputs.npz"
THREADS, CHUNK = 16, 500  # that look at files, and how many each takes at a time
BLOCKS, BLOCK = 16, 4096  # of a large file that are read, and their bytes
UNKNOWN, UNSAMPLED = 0, 1  # hashes of what could not be read, and of a shard
NOWHERE = -1  # size of a file that is not there
WAY_OUT = (
    "choose another --out, add --overwrite to begin again, or --trust-inputs where the images are "
    "known to be the same"
)

Hashes: TypeAlias = npt.NDArray[np.uint64]
Numbers: TypeAlias = npt.NDArray[np.int64]
Found = TypeVar("Found")
Source: TypeAlias = tuple[str, str, str, Path | None]  # id, caption, image's name, image's file


@dataclass(frozen=True)
class Table:
    """What is stored: hashes of the n records, and of the m files their stamps.

    ids, texts, images: uint64 [n], UNKNOWN where a caption could not be read. files: hashes of the
    names, uint64 [m]; sizes (bytes), times (ns): int64 [m]; samples: uint64 [m]. m is 0 where the
    files were trusted.
    """

    ids: Hashes
    texts: Hashes
    images: Hashes
    files: Hashes
    sizes: Numbers
    times: Numbers
    samples: Hashes


class Inputs:
    """The inputs of a run, as they are now."""

    def __init__(self, sources: Iterable[Source], *, trust: bool = False):
        """Take down the records; files are looked at later. trust: do not look at files."""
        self.trust = trust
        self._columns = (array("Q"), array("Q"), array("Q"))
        self._names: list[str] = []  # of the records
        self._paths: dict[str, Path] = {}  # of the files by name
        for name, text, image, path in sources:
            for column, value in zip(self._columns, (name, text, image), strict=True):
                column.append(hash_of(value) if value else UNKNOWN)
            self._names.append(name)
            if path is not None and not trust:
                self._paths[image] = path

    def differences(self, path: Path) -> list[str]:
        """What differs from the table stored at `path`, a phrase each; [] for nothing.

        TTDError when the table is damaged.
        """
        stored = load_table(path)
        if stored is None:
            return [] if self.trust else ["what it was made from is not recorded"]
        found = self._of_records(stored)
        if found or self.trust or not len(stored.files):
            return found
        return self._of_files(stored)

    def save(self, path: Path) -> None:
        """Store the table at `path`, whole or not at all. TTDError: the disk is full.

        What an earlier table knows of what cannot be read now is taken over.
        """
        stored = load_table(path) if path.exists() else None
        with write_errors(path, "make room, or choose another --out"):
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic(path) as part, part.open("wb") as file:
                np.savez(file, **vars(self._table(stored)))

    def _table(self, stored: Table | None) -> Table:
        ids, texts, images = (np.array(column, np.uint64) for column in self._columns)
        if stored is not None and np.array_equal(ids, stored.ids):
            texts = np.where(texts == UNKNOWN, stored.texts, texts)
            images = np.where(images == UNKNOWN, stored.images, images)
        if self.trust and stored is not None:
            return replace(stored, ids=ids, texts=texts, images=images)
        return Table(ids, texts, images, *self._stamped(stored))

    def _of_records(self, stored: Table) -> list[str]:
        ids, texts, images = (np.array(column, np.uint64) for column in self._columns)
        if not np.array_equal(ids, stored.ids):
            new = np.flatnonzero(~np.isin(ids, stored.ids))
            gone = int((~np.isin(stored.ids, ids)).sum())
            if not len(new) and not gone:
                return ["captions: in another order, or repeated"]
            names = f" ({first_few([self._names[at] for at in new], 3)})" if len(new) else ""
            return [f"captions: {len(new)} of {len(ids)} are new{names}, {gone} are gone"]
        found = []
        for what, old, now in (
            ("captions changed", stored.texts, texts),
            ("captions with other images", stored.images, images),
        ):
            other = np.flatnonzero((old != now) & (old != UNKNOWN) & (now != UNKNOWN))
            found += _changed(what, [self._names[at] for at in other], len(ids))
        return found

    def _of_files(self, stored: Table) -> list[str]:
        names = list(self._paths)
        rows = {int(name): row for row, name in enumerate(stored.files)}
        sizes, times = stamps_of([self._paths[name] for name in names])
        doubtful: list[tuple[str, int]] = []
        changed: list[str] = []
        for name, size, time in zip(names, sizes.tolist(), times.tolist(), strict=True):
            row = rows.get(hash_of(name))
            if row is None or NOWHERE in (size, stored.sizes[row]):
                continue  # its records say so, or it could not be read: then or now
            if size != stored.sizes[row]:
                changed.append(name)
            elif time != stored.times[row]:
                doubtful.append((name, row))
        found = samples_of([self._paths[name] for name, _ in doubtful])
        for (name, row), sample in zip(doubtful, found.tolist(), strict=True):
            if sample in (UNKNOWN, UNSAMPLED) or sample != stored.samples[row]:
                changed.append(name)
        return _changed("files changed", changed, len(names))

    def _stamped(self, stored: Table | None) -> tuple[Hashes, Numbers, Numbers, Hashes]:
        """Names, sizes, times and samples of the files; only what is new is sampled."""
        paths = list(self._paths.values())
        names = np.array([hash_of(name) for name in self._paths], np.uint64)
        sizes, times = stamps_of(paths)
        samples = np.zeros(len(paths), np.uint64)
        rows = {} if stored is None else {int(name): row for row, name in enumerate(stored.files)}
        for at, name in enumerate(names.tolist()):
            row = rows.get(name)
            if stored is None or row is None:
                continue
            if sizes[at] == NOWHERE:
                sizes[at], times[at] = stored.sizes[row], stored.times[row]
            if (sizes[at], times[at]) == (stored.sizes[row], stored.times[row]):
                samples[at] = stored.samples[row]
        new = np.flatnonzero((samples == UNKNOWN) & (sizes != NOWHERE))
        samples[new] = samples_of([paths[at] for at in new])
        return names, sizes, times, samples


def check_inputs(path: Path, inputs: Inputs, where: Path) -> None:
    """TTDError naming what changed since the result at `where` was made; its table is at `path`."""
    if found := inputs.differences(path):
        raise TTDError(f"{where} was made from other inputs ({'; '.join(found)}): {WAY_OUT}")


def hash_of(text: str) -> int:
    """64 bits of a text, never `UNKNOWN`."""
    data = text.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little") or 2


def load_table(path: Path) -> Table | None:
    """A stored table, None where there is none. TTDError: damaged."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return Table(**{name: archive[name] for name in archive.files})
    except FileNotFoundError:
        return None
    except Exception:  # a damaged archive raises a dozen kinds of error
        raise TTDError(
            f"{path}: damaged; delete it and add --trust-inputs where the inputs are the same, or "
            "--overwrite to begin again"
        ) from None


def inputs_digest(path: Path) -> str | None:
    """A digest of the inputs whose table lies at `path`: ids, captions, names and content of files.

    The same wherever and whenever they were stored. None where there is no table, or none of ours.
    """
    try:
        table = load_table(path)
    except TTDError:
        return None
    if table is None:
        return None
    digest = hashlib.blake2b(digest_size=16)
    for column in (table.ids, table.texts, table.images, table.files, table.samples):
        digest.update(len(column).to_bytes(8, "little") + column.astype("<u8").tobytes())
    return digest.hexdigest()


def stamps_of(paths: Sequence[Path]) -> tuple[Numbers, Numbers]:
    """Sizes in bytes, `NOWHERE` for files that are not there, and times in ns: int64 [m] each."""
    found = itertools.chain.from_iterable(_in_threads(_stamps, paths))
    stamps = np.array(list(found), np.int64).reshape(-1, 2)
    return stamps[:, 0], stamps[:, 1]


def samples_of(paths: Sequence[Path]) -> Hashes:
    """`sample_of` every file, `UNKNOWN` where it cannot be read: uint64 [m]."""
    found = itertools.chain.from_iterable(_in_threads(_samples, paths))
    return np.array(list(found), np.uint64)


def sample_of(path: Path) -> int:
    """64 bits of a file's content: all of it up to 64 KiB, else 16 evenly spread blocks of 4 KiB.

    `UNSAMPLED` for a shard, of which that says little. OSError when it cannot be read.
    """
    if path.suffix.lower() == ".tar":
        return UNSAMPLED
    digest = hashlib.blake2b(digest_size=8)
    with path.open("rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        if size <= BLOCKS * BLOCK:
            digest.update(file.read())
        else:
            for number in range(BLOCKS):
                file.seek((size - BLOCK) * number // (BLOCKS - 1))
                digest.update(file.read(BLOCK))
    return int.from_bytes(digest.digest(), "little") or 2


def _in_threads(
    work: Callable[[Sequence[Path]], list[Found]], paths: Sequence[Path]
) -> Iterator[list[Found]]:
    chunks = [paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK)]
    return prefetch(work, chunks, 2 * THREADS, THREADS)


def _stamps(paths: Sequence[Path]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for path in paths:
        try:
            own = os.stat(path)
        except (OSError, ValueError):
            found.append((NOWHERE, 0))
            continue
        regular = stat.S_ISREG(own.st_mode)  # reading a pipe may wait for ever
        found.append((own.st_size, own.st_mtime_ns) if regular else (NOWHERE, 0))
    return found


def _samples(paths: Sequence[Path]) -> list[int]:
    found = []
    for path in paths:
        try:
            found.append(sample_of(path))
        except (OSError, ValueError):
            found.append(UNKNOWN)
    return found


def _changed(what: str, names: Sequence[str], count: int) -> list[str]:
    if not names:
        return []
    return [f"{what}: {len(names)} of {count}, the first {names[0]}"]
