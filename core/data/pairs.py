"""Millions of image-caption pairs, any one of them at once: an index on disk, made once, that memory hardly notices.

An input of core/data/records.py (folders, JSONL, shards) is walked once; every usable pair becomes
a line in a cache file and two numbers beside it: where the line begins and a hash of its id. A line
takes about 150 bytes of disk; in memory, 15 million pairs take 240 MB of numbers, which processes
of one machine share.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import uuid
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from ..errors import TTDError
from ..utils.cache import cache_folder
from ..utils.prefetch import prefetch
from .records import Item, Packed, Record, RecordSet, Skipped, expand_braces, open_records
from .words import split_words

FORMAT = 1  # of the cache; raise it when the meaning of what is stored changes
LIST_HEADER = "# ttd pruned list"
READERS, CHUNK = 8, 1000  # threads that read captions, and how many each takes at a time


class PairIndex:
    """The usable pairs of one input. `len(index)`, `index[i] -> Record`; `skipped` lists what cannot be used."""

    def __init__(self, stem: Path):
        """Open what `open_index` stored under `stem`."""
        self._table = np.load(
            stem.with_suffix(".npy"), mmap_mode="r"
        )  # (n + 1, 2): begin of a line, hash of its id
        lines = stem.with_suffix(".lines")
        self._lines = (
            np.memmap(lines, np.uint8, "r") if lines.stat().st_size else np.zeros(0, np.uint8)
        )
        about = json.loads(stem.with_suffix(".json").read_text(encoding="utf-8"))
        self.digest: str = about["digest"]
        self.description: str = about["description"]
        self.skipped = [Skipped(**item) for item in about["skipped"]]

    def __len__(self) -> int:
        return len(self._table) - 1

    def __getitem__(self, number: int) -> Record:
        begin, end = (int(at) for at in self._table[number : number + 2, 0])
        name, shown, text, image = json.loads(self._lines[begin:end].tobytes())
        return Record(
            number,
            name,
            Path(image) if isinstance(image, str) else Packed(Path(image[0]), *image[1:]),
            shown,
            text,
        )

    @property
    def hashes(self) -> np.ndarray:
        """A 64-bit hash of every id, uint64 [n]."""
        return self._table[:-1, 1]


class Pairs:
    """The pairs of several inputs as one sequence, what is pruned left out. `digest` changes with ids and captions."""

    def __init__(
        self,
        parts: Sequence[PairIndex],
        pruned: Sequence[str | Path | None] = (),
        limit: int | None = None,
    ):
        """pruned: lists of ids to keep: none, one for all inputs, or one per input. limit: the first so many only.

        TTDError: as many lists as neither 1 nor the inputs, lists that cannot be read, nothing
        left.
        """
        if len(pruned) not in (0, 1, len(parts)):
            raise TTDError(
                f"{len(pruned)} pruned lists for {len(parts)} sets: give one for all, or one for each"
            )
        self._parts = list(parts)
        self._starts = np.cumsum([0, *map(len, parts)])
        lists = list(pruned) * (len(parts) if len(pruned) == 1 else 1)
        self._kept = _keep(self._parts, self._starts, lists) if lists else None
        self._count = int(self._starts[-1]) if self._kept is None else len(self._kept)
        self._count = min(self._count, limit or self._count)
        if not self._count:
            raise TTDError(
                "no usable pair of an image and a caption in "
                + "; ".join(p.description for p in parts)
                + (", or the pruned list is of another set" if lists else "")
            )
        kept = (
            b"" if self._kept is None else np.ascontiguousarray(self._kept[: self._count]).tobytes()
        )
        own = json.dumps([[part.digest for part in parts], self._count]).encode()
        self.digest = hashlib.sha256(own + kept).hexdigest()[:32]

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> Record:
        """Pair `number` in [0, len). Any thread may ask."""
        whole = number if self._kept is None else int(self._kept[number])
        part = int(np.searchsorted(self._starts, whole, side="right")) - 1
        return self._parts[part][whole - int(self._starts[part])]

    @property
    def descriptions(self) -> list[str]:
        """A line about each input."""
        return [part.description for part in self._parts]

    @property
    def skipped(self) -> list[Skipped]:
        """What the inputs hold that cannot be used, as far as their index knows."""
        return [item for part in self._parts for item in part.skipped]


def open_pairs(
    data: str,
    root: str | Path = "../",
    pruned: Sequence[str] = (),
    limit: int | None = None,
    refresh: bool = False,
    progress: Callable[[int], None] = lambda done: None,
) -> Pairs:
    """The pairs of `data` = "NAME+NAME": each is ROOT/NAME/train, or a folder, JSONL, tar or pattern of tars.

    pruned, limit: see `Pairs`; `refresh` makes the index anew. TTDError for what is not there or
    holds no pair.
    """
    parts = [open_index(place, refresh, progress) for place in find_pairs(data, root)]
    return Pairs(parts, [None if name == "none" else name for name in pruned], limit)


def find_pairs(data: str, root: str | Path, domain: str = "train") -> list[str]:
    """Where the parts of `data` = "NAME+NAME" are: ROOT/NAME/DOMAIN, else ROOT/NAME, else the path or pattern itself.

    TTDError when no part is named, and for one that is not there.
    """
    parts = (
        [data]
        if data and Path(data).expanduser().exists()
        else [part for part in data.split("+") if part]
    )
    if not parts:
        raise TTDError("no data named: --data cc3m+cc12m, a folder, a JSONL or shards")
    return [_find_part(part, Path(root).expanduser(), domain) for part in parts]


def _find_part(name: str, root: Path, domain: str) -> str:
    for place in (root / name / domain, root / name) if not Path(name).is_absolute() else ():
        if place.is_dir():
            return str(place)
    if Path(name).expanduser().exists() or any(char in name for char in "*?{["):
        return name
    raise TTDError(
        f"no pairs called {name}: neither {root / name / domain} nor {name} is there; pass --root FOLDER, "
        "the parent of the sets, or a folder, a JSONL or shards as --data"
    )


def open_index(
    place: str, refresh: bool = False, progress: Callable[[int], None] = lambda done: None
) -> PairIndex:
    """The index of one input of core/data/records.py, from the cache ($TTD_CACHE, else ~/.cache/ttd) or made now.

    A changed list, shard or folder is noticed by size and time; a caption edited in place is not:
    `refresh`.
    progress hears how many pairs have been read while the index is made. TTDError: nothing there,
    or a full disk.
    """
    records = open_records(place)
    key = json.dumps([FORMAT, _stamps(place), records.description])
    cache = cache_folder()
    if cache is None:
        raise TTDError(
            "there is no home directory for the index of the pairs: set TTD_CACHE to a folder"
        )
    folder = cache / "pairs"
    stem = folder / hashlib.sha256(key.encode()).hexdigest()[:24]
    if refresh or not all(
        stem.with_suffix(ending).is_file() for ending in (".npy", ".lines", ".json")
    ):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _store(_walk(records, Path(place).expanduser()), records.description, stem, progress)
        except OSError as error:
            raise TTDError(
                f"{folder}: the index of the pairs cannot be written ({error.strerror}); make room, or set "
                "TTD_CACHE to another folder"
            ) from None
    return PairIndex(stem)


def read_pruned(path: str | Path) -> np.ndarray:
    """Hashes of the ids to keep, sorted uint64 [n], from a text file of one id a line. TTDError: missing, empty."""
    try:
        with Path(path).expanduser().open(encoding="utf-8-sig", newline="\n") as lines:
            ids = (line.rstrip("\r\n") for line in lines)
            hashes = array(
                "Q", (hash_id(name) for name in ids if name and not name.startswith(LIST_HEADER))
            )
    except OSError as error:
        raise TTDError(
            f"{path}: pruned list cannot be read ({error.strerror}); make it with tools/prune_pairs.py"
        ) from None
    except UnicodeDecodeError:
        raise TTDError(f"{path}: not a pruned list, which is text with one id a line") from None
    if not hashes:
        raise TTDError(f"{path}: the pruned list names no pair")
    return np.unique(np.frombuffer(hashes, np.uint64))


def hash_id(name: str) -> int:
    """64 bits of an id: among 15 million, two alike have a chance of 1 in 160,000."""
    return int.from_bytes(
        hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little"
    )


def _keep(
    parts: Sequence[PairIndex], starts: np.ndarray, lists: Sequence[str | Path | None]
) -> np.ndarray:
    """Numbers of the pairs, over all parts, that the lists keep."""
    known: dict[str, np.ndarray] = {str(name): read_pruned(name) for name in lists if name}
    kept = []
    for part, start, name in zip(parts, starts, lists, strict=False):
        flags = np.isin(part.hashes, known[str(name)]) if name else np.ones(len(part), bool)
        kept.append(np.flatnonzero(flags) + start)
    return np.concatenate(kept)


def _stamps(place: str) -> list:
    """Path, size and time of everything that tells whether an input has changed."""
    path = Path(place).expanduser()
    found = (
        [path]
        if path.exists()
        else [Path(hit) for part in expand_braces(str(path)) for hit in glob.glob(part)]
    )
    if path.is_dir():
        found += [
            entry for entry in path.iterdir() if entry.is_dir() or entry.suffix.lower() == ".tar"
        ]
    stats = [(str(one.resolve()), one.stat()) for one in sorted(found)]
    return [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats]


def _walk(records: RecordSet, place: Path) -> Iterator[Item]:
    """All records in order; captions that are files of their own are read in threads, as a disk likes it."""
    if not place.is_dir() or any(entry.suffix.lower() == ".tar" for entry in place.iterdir()):
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
    """Write the three files; the table last, so that its being there means that all are."""
    mark = uuid.uuid4().hex[:8]
    parts = {
        ending: stem.with_name(f"{stem.name}.{mark}{ending}")
        for ending in (".lines", ".json", ".npy")
    }
    starts, hashes, skipped, digest = array("Q", [0]), array("Q"), [], hashlib.sha256()
    with parts[".lines"].open("wb") as file:
        for number, item in enumerate(items):
            item = (
                item
                if isinstance(item, Skipped) or split_words(item.text)
                else Skipped(item.index, item.id, "no words in the caption")
            )
            if isinstance(item, Skipped):
                skipped.append(asdict(item))
                continue
            digest.update(json.dumps([item.id, item.text]).encode())
            starts.append(starts[-1] + file.write(_line(item)))
            hashes.append(hash_id(item.id))
            if number % 1000 == 999:
                progress(number + 1)
    table = np.stack(
        [
            np.frombuffer(starts, np.uint64),
            np.append(np.frombuffer(hashes, np.uint64), np.uint64(0)),
        ],
        1,
    )
    about = {"description": description, "digest": digest.hexdigest(), "skipped": skipped}
    parts[".json"].write_text(json.dumps(about), encoding="utf-8")
    with parts[".npy"].open("wb") as file:
        np.save(file, table)
    for ending, part in parts.items():
        os.replace(part, stem.with_suffix(ending))


def _line(record: Record) -> bytes:
    where = record.image
    packed = isinstance(where, Packed)
    image = (
        [os.path.abspath(where.tar), where.offset, where.size] if packed else os.path.abspath(where)
    )
    return json.dumps(
        [record.id, record.name, record.text, image]
    ).encode()  # ASCII: file names need not be UTF-8
