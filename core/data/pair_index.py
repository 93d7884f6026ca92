"""Millions of image-caption pairs, any one of them at once: memory-mapped random access.

An input of core/data/records (folders, JSONL, shards) is walked once; every usable pair becomes a
line in a cache file and two numbers beside it: where the line begins and a hash of its id. A line
takes about 150 bytes of disk; 15 million pairs take 240 MB of numbers, which the processes of one
machine share.
"""

from __future__ import annotations

import hashlib
import json
import os
from array import array
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import TTDError, UnreadableError
from ..utils.cache import cache_folder, make_private
from ..utils.files import atomic, expanded, resolved
from .records import Item, Packed, Record, RecordSet, Skipped, match_patterns, open_records
from .records.record import TEXTS
from .words import split_words

FORMAT = 3  # of the cache; raise it when the meaning of what is stored changes
ENDINGS = (".lines", ".json", ".npy")
REPORT = 1000  # pairs between two calls of `progress`


class PairIndex:
    """The usable pairs of one input: `len(index)`, `index[i] -> Record`.

    skipped: what cannot be used; digest: changes with ids and captions; description: a line about
    the input; shards: the tars it lies in, () for files.
    """

    def __init__(self, stem: Path) -> None:
        """Open what `open_index` stored under `stem`. Any error: absent or damaged."""
        # [n + 1, 2]: begin of a line, hash of its id
        self._table = np.load(stem.with_suffix(".npy"), mmap_mode="r")
        lines = stem.with_suffix(".lines")
        self._file, self._lines = lines, np.zeros(0, np.uint8)
        if lines.stat().st_size:
            self._lines = np.memmap(lines, np.uint8, "r")
        about = json.loads(stem.with_suffix(".json").read_text(encoding="utf-8"))
        self.digest: str = about["digest"]
        self.description: str = about["description"]
        self.skipped = [Skipped(**item) for item in about["skipped"]]
        self.shards = tuple(map(Path, about["shards"]))
        self.captions: str = about["captions"]
        shaped = self._table.ndim == 2 and self._table.shape[1] == 2 and len(self._table)
        if not shaped or self._table.dtype != np.uint64 or self._table[-1, 0] != len(self._lines):
            raise ValueError(f"{stem}: its files are not of one another")

    def __len__(self) -> int:
        return len(self._table) - 1

    def __getitem__(self, number: int) -> Record:
        begin, end = (int(at) for at in self._table[number : number + 2, 0])
        try:
            name, shown, text, image = json.loads(self._lines[begin:end].tobytes())
            if isinstance(image, str):
                return Record(number, name, Path(image), shown, text)
            tar, offset, size = image
            return Record(number, name, Packed(Path(tar), offset, size), shown, text)
        except (ValueError, TypeError):
            raise TTDError(f"{self._file}: damaged; delete it, it is made again") from None

    @property
    def hashes(self) -> npt.NDArray[np.uint64]:
        """A 64-bit hash of every id, uint64 [n]."""
        hashes: npt.NDArray[np.uint64] = self._table[:-1, 1]
        return hashes


def open_index(
    place: str,
    refresh: bool = False,
    progress: Callable[[int], None] = lambda done: None,
    trust: bool = False,
) -> PairIndex:
    """The index of one input, from the cache ($TTD_CACHE, else ~/.cache/ttd) or made now.

    A changed list, shard, folder or caption file is noticed by size and time, and the index is made
    again, as with `refresh`; with `trust`, caption files are not looked at. `progress` is called
    with the number of pairs read so far while the index is made. TTDError: nothing there, or a full
    disk; UnreadableError: captions that cannot be read now.
    """
    records = open_records(place)
    key = json.dumps([FORMAT, _stamps(place, records.files), records.description])
    cache = cache_folder()
    if cache is None:
        raise TTDError(
            "there is no home directory for the index of the pairs: set TTD_CACHE to a folder"
        )
    stem = cache / "pairs" / hashlib.sha256(key.encode()).hexdigest()[:24]
    captions = "" if trust else caption_stamps(place)
    index = None if refresh else _stored(stem)
    if index is None or captions not in ("", index.captions):
        try:
            make_private(stem.parent)
            _store(records, captions or caption_stamps(place), stem, progress)
        except OSError as error:
            raise TTDError(
                f"{stem.parent}: the index of the pairs cannot be written ({error.strerror}); "
                "make room, or set TTD_CACHE to another folder"
            ) from None
        index = PairIndex(stem)
    return index


def _stored(stem: Path) -> PairIndex | None:
    """The index under `stem`; None where it is absent or damaged."""
    try:
        return PairIndex(stem)
    except Exception:  # a damaged file raises a dozen kinds: each means to make it again
        return None


def hash_id(name: str) -> int:
    """64 bits of an id: among 15 million, two alike have a chance of 1 in 160,000."""
    data = name.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def caption_stamps(place: str) -> str:
    """Changes with names, sizes and times of a folder's caption files; "-" for other inputs."""
    root = expanded(place)
    if not root.is_dir():
        return "-"
    digest = hashlib.blake2b(digest_size=16)
    folders = [root]
    for folder in folders:
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda one: one.name):
                if folder is root and entry.is_dir():
                    folders.append(Path(entry.path))
                elif entry.name.lower().endswith(TEXTS):
                    own = entry.stat()
                    digest.update(repr((entry.name, own.st_size, own.st_mtime_ns)).encode())
    return digest.hexdigest()


def _stamps(place: str, shards: Sequence[Path]) -> list[list[Any]]:
    """Path, size and time of everything that tells whether an input has changed."""
    path = expanded(place)
    found = [path]
    if not path.exists():
        found = match_patterns(str(path))
    elif path.is_dir():
        found += [entry for entry in path.iterdir() if entry.is_dir() or _is_tar(entry)]
    stats = [(str(resolved(one)), one.stat()) for one in sorted({*found, *shards})]
    return [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats]


def _is_tar(path: Path) -> bool:
    return path.suffix.lower() == ".tar"


def _store(records: RecordSet, captions: str, stem: Path, progress: Callable[[int], None]) -> None:
    """Write the three files; the table is moved to its place last, so that it stands for all.

    UnreadableError where captions cannot be read now: the index would lack them for good.
    """
    paths = [stem.with_suffix(ending) for ending in reversed(ENDINGS)]
    starts, hashes, digest = array("Q", [0]), array("Q"), hashlib.sha256()
    skipped = []
    # Several processes may make the same index at the same time.
    with (
        atomic(paths[0], shared=True) as table,
        atomic(paths[1], shared=True) as about,
        atomic(paths[2], shared=True) as lines,
    ):
        with lines.open("wb") as file, closing(records.iterate_in_threads()) as items:
            for number, item in enumerate(items):
                record = _with_words(item)
                if isinstance(record, Skipped):
                    skipped.append(asdict(record))
                    continue
                digest.update(json.dumps([record.id, record.text]).encode())
                starts.append(starts[-1] + file.write(_line(record)))
                hashes.append(hash_id(record.id))
                if number % REPORT == REPORT - 1:
                    progress(number + 1)
        if lost := [item for item in skipped if item["retry"]]:
            raise UnreadableError(
                f"{len(lost)} captions could not be read, the first {lost[0]['id']} "
                f"({lost[0]['reason']}); mend that and run the same command again"
            )
        content = {
            "description": records.description,
            "digest": digest.hexdigest(),
            "skipped": skipped,
            "captions": captions,
            "shards": [os.path.abspath(tar) for tar in records.files],
        }
        about.write_text(json.dumps(content), encoding="utf-8")
        with table.open("wb") as file:
            np.save(file, _table(starts, hashes))


def _with_words(item: Item) -> Item:
    """The item, or why it cannot be used where its caption has no words."""
    if isinstance(item, Record) and not split_words(item.text):
        return Skipped(item.index, item.id, "no words in the caption")
    return item


def _table(starts: array[int], hashes: array[int]) -> npt.NDArray[np.uint64]:
    """Where lines begin [n + 1] beside the hashes of their ids [n] -> [n + 1, 2]."""
    own = np.append(np.frombuffer(hashes, np.uint64), np.uint64(0))
    return np.stack([np.frombuffer(starts, np.uint64), own], 1)


def _line(record: Record) -> bytes:
    """A record as JSON in ASCII, because file names need not be UTF-8."""
    where = record.image
    image: str | list[Any]
    if isinstance(where, Packed):
        image = [os.path.abspath(where.tar), where.offset, where.size]
    else:
        image = os.path.abspath(where)
    return json.dumps([record.id, record.name, record.text, image]).encode()
