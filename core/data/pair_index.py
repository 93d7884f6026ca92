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
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import TTDError
from ..utils.cache import cache_folder
from ..utils.files import atomic, expanded, resolved
from ..utils.prefetch import prefetch
from .records import Item, Packed, Record, RecordSet, Skipped, match_patterns, open_records
from .words import split_words

FORMAT = 2  # of the cache; raise it when the meaning of what is stored changes
ENDINGS = (".lines", ".json", ".npy")
READERS, CHUNK = 8, 1000  # threads that read captions, and how many captions each takes at a time
REPORT = 1000  # pairs between two calls of `progress`


class PairIndex:
    """The usable pairs of one input: `len(index)`, `index[i] -> Record`.

    skipped: what cannot be used; digest: changes with ids and captions; description: a line about
    the input.
    """

    def __init__(self, stem: Path) -> None:
        """Open what `open_index` stored under `stem`."""
        # [n + 1, 2]: begin of a line, hash of its id
        self._table = np.load(stem.with_suffix(".npy"), mmap_mode="r")
        lines = stem.with_suffix(".lines")
        self._lines: npt.NDArray[np.uint8] = np.zeros(0, np.uint8)
        if lines.stat().st_size:
            self._lines = np.memmap(lines, np.uint8, "r")
        about = json.loads(stem.with_suffix(".json").read_text(encoding="utf-8"))
        self.digest: str = about["digest"]
        self.description: str = about["description"]
        self.skipped = [Skipped(**item) for item in about["skipped"]]

    def __len__(self) -> int:
        return len(self._table) - 1

    def __getitem__(self, number: int) -> Record:
        begin, end = (int(at) for at in self._table[number : number + 2, 0])
        name, shown, text, image = json.loads(self._lines[begin:end].tobytes())
        if isinstance(image, str):
            return Record(number, name, Path(image), shown, text)
        tar, offset, size = image
        return Record(number, name, Packed(Path(tar), offset, size), shown, text)

    @property
    def hashes(self) -> npt.NDArray[np.uint64]:
        """A 64-bit hash of every id, uint64 [n]."""
        hashes: npt.NDArray[np.uint64] = self._table[:-1, 1]
        return hashes


def open_index(
    place: str, refresh: bool = False, progress: Callable[[int], None] = lambda done: None
) -> PairIndex:
    """The index of one input, from the cache ($TTD_CACHE, else ~/.cache/ttd) or made now.

    A changed list, shard or folder is noticed by size and time; a caption edited in place is not:
    `refresh` makes the index again. `progress` is called with the number of pairs read so far while
    the index is made. TTDError: nothing there, or a full disk.
    """
    records = open_records(place)
    key = json.dumps([FORMAT, _stamps(place), records.description])
    cache = cache_folder()
    if cache is None:
        raise TTDError(
            "there is no home directory for the index of the pairs: set TTD_CACHE to a folder"
        )
    stem = cache / "pairs" / hashlib.sha256(key.encode()).hexdigest()[:24]
    if refresh or not all(stem.with_suffix(ending).is_file() for ending in ENDINGS):
        try:
            stem.parent.mkdir(parents=True, exist_ok=True)
            _store(_walk(records, expanded(place)), records.description, stem, progress)
        except OSError as error:
            raise TTDError(
                f"{stem.parent}: the index of the pairs cannot be written ({error.strerror}); "
                "make room, or set TTD_CACHE to another folder"
            ) from None
    return PairIndex(stem)


def hash_id(name: str) -> int:
    """64 bits of an id: among 15 million, two alike have a chance of 1 in 160,000."""
    data = name.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def _stamps(place: str) -> list[list[Any]]:
    """Path, size and time of everything that tells whether an input has changed."""
    path = expanded(place)
    found = [path]
    if not path.exists():
        found = match_patterns(str(path))
    elif path.is_dir():
        found += [entry for entry in path.iterdir() if entry.is_dir() or _is_tar(entry)]
    stats = [(str(resolved(one)), one.stat()) for one in sorted(found)]
    return [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats]


def _is_tar(path: Path) -> bool:
    return path.suffix.lower() == ".tar"


def _walk(records: RecordSet, place: Path) -> Iterator[Item]:
    """All records in order; captions that are files of their own are read in threads."""
    if not place.is_dir() or any(_is_tar(entry) for entry in place.iterdir()):
        # one file after the other: only a folder of captions can be begun anywhere
        yield from records.iterate()
        return

    def read(start: int) -> list[Item]:
        return list(records.iterate(start, start + CHUNK))

    for chunk in prefetch(read, range(0, records.count, CHUNK), 2 * READERS, READERS):
        yield from chunk


def _store(
    items: Iterable[Item], description: str, stem: Path, progress: Callable[[int], None]
) -> None:
    """Write the three files; the table is moved to its place last, so that it stands for all."""
    paths = [stem.with_suffix(ending) for ending in reversed(ENDINGS)]
    starts, hashes, digest = array("Q", [0]), array("Q"), hashlib.sha256()
    skipped = []
    # Several processes may make the same index at the same time.
    with (
        atomic(paths[0], shared=True) as table,
        atomic(paths[1], shared=True) as about,
        atomic(paths[2], shared=True) as lines,
    ):
        with lines.open("wb") as file:
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
        content = {"description": description, "digest": digest.hexdigest(), "skipped": skipped}
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
