"""One image with its caption, and what is wrong where it cannot be used."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ...errors import UnreadableError
from ...utils.files import is_away
from ...utils.prefetch import prefetch
from ..images import Target, decode_reduced, read_reduced
from ..words import unescaped

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")  # of images, in the order in which they are preferred
TEXTS = (".txt", ".json")  # of captions, likewise
READERS, CHUNK = 8, 1000  # threads that read captions, and how many captions each takes at a time


@dataclass(frozen=True)
class Packed:
    """A file inside an uncompressed tar: `size` bytes from `offset` on."""

    tar: Path
    offset: int
    size: int

    def read(self) -> bytes:
        """The file's bytes. OSError when the tar cannot be read."""
        with self.tar.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size)


@dataclass(frozen=True)
class Record:
    """An image and one caption.

    index: its number in the input; name: the image relative to the input; tags: the true ones,
    None where they are not known.
    """

    index: int
    id: str
    image: Path | Packed
    name: str
    text: str
    tags: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Skipped:
    """A record that cannot be used, and why.

    retry: it could not be read, which says nothing about what it holds: the next run tries again.
    """

    index: int
    id: str
    reason: str
    retry: bool = False

    def row(self) -> dict[str, Any]:
        """As plain values; `retry` only where it is so."""
        values = asdict(self)
        if not self.retry:
            del values["retry"]
        return values

    def line(self) -> str:
        """As a line of a list of skipped records."""
        return json.dumps(self.row(), ensure_ascii=False) + "\n"


Item: TypeAlias = Record | Skipped


@dataclass(frozen=True)
class RecordSet:
    """What an input holds: one line about it, and a way to walk its records.

    count: how many records there are, an estimate unless `exact`; walk: all from an index on;
    distinct: no id occurs twice, whatever it holds, and any part is walked as quickly as the first.
    files: the shards that hold everything; () where captions and images are files of their own.
    """

    description: str
    count: int
    exact: bool
    walk: Callable[[int], Iterator[Item]]
    distinct: bool = False
    files: tuple[Path, ...] = ()

    def iterate(self, start: int = 0, stop: int | None = None) -> Iterator[Item]:
        """Records `start` to `stop` (exclusive; None = all), always in the same order."""
        count = None if stop is None else max(0, stop - start)
        return itertools.islice(self.walk(start), count)

    def usable(self, stop: int | None = None) -> Iterator[Record]:
        """All records that can be used, of the first `stop`, for what counts them.

        UnreadableError for a caption that cannot be read now: a smaller set has other scores.
        """
        for item in self.iterate(0, stop):
            if isinstance(item, Record):
                yield item
            elif item.retry:
                raise UnreadableError(f"{item.id}: {item.reason}; mend that and score again")

    def iterate_in_threads(self, stop: int | None = None) -> Generator[Item, None, None]:
        """`iterate(0, stop)`; captions that are files of their own are read in threads."""
        if not self.distinct:
            yield from self.iterate(0, stop)
            return
        count = self.count if stop is None else min(stop, self.count)

        def read(start: int) -> list[Item]:
            """The next `CHUNK` items from number `start` on."""
            return list(self.iterate(start, min(start + CHUNK, count)))

        with closing(prefetch(read, range(0, count, CHUNK), 2 * READERS, READERS)) as chunks:
            for chunk in chunks:
                yield from chunk


def read_record(record: Record) -> npt.NDArray[np.uint8]:
    """The image of a record, uint8 [H, W, 3] RGB.

    TTDError naming it when it cannot be used, UnreadableError when it cannot be read now.
    """
    return read_reduced_record(record)[0]


def read_reduced_record(
    record: Record, target: Target | None = None, draft: bool = False
) -> tuple[npt.NDArray[np.uint8], tuple[int, int]]:
    """The image of a record for what is looked at small, uint8 [H, W, 3], and its own size.

    See `core.data.images.read_reduced`.
    """
    if not isinstance(record.image, Packed):
        return read_reduced(record.image, target, draft)
    try:
        data = record.image.read()
    except OSError as error:
        reason = error.strerror or error
        raise UnreadableError(f"{record.name}: cannot be read ({reason})") from None
    return decode_reduced(data, record.name, target, draft)


def skipped(item: Record, error: Exception) -> Skipped:
    """The record as one that cannot be used because of `error`, a TTDError or OSError."""
    reason = " ".join(str(error).split())
    return Skipped(item.index, item.id, reason, is_away(error))


@dataclass(frozen=True)
class Source:
    """Where a record comes from: its number and id, its image, and the image's name in messages."""

    index: int
    id: str
    image: Path | Packed
    name: str


def make_record(source: Source, load: Callable[[], Mapping[str, Any]]) -> Item:
    """A `Record` from what `load` returns, or a `Skipped` that says what is wrong with it.

    load: returns {"text": str, "tags": [str, ...]}, "caption" in place of "text", no "tags" where
    they are not known; what it raises on damaged files is caught.
    """
    try:
        content = load()
        text = content["text"] if "text" in content else content["caption"]
        tags = content.get("tags")
        str(text).encode()  # half a surrogate pair, which JSON can hold, is no text
    except OSError as error:
        reason = f"caption cannot be read ({error.strerror})"
        return Skipped(source.index, source.id, reason, is_away(error))
    except UnreadableError as error:
        return Skipped(source.index, source.id, f"caption cannot be read: {error}", True)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f'bad caption file, wanted {{"text": caption}} ({reason_of(error)})'
        return Skipped(source.index, source.id, reason)
    if not isinstance(text, str) or not (tags is None or _strings(tags)):
        reason = 'bad caption file: "text" must be a string, "tags" a list of strings'
        return Skipped(source.index, source.id, reason)
    if not text.strip():
        return Skipped(source.index, source.id, "empty caption")
    true = None if tags is None else tuple(tags)
    shown = unescaped(text)  # as CLIP's tokenizer would: words are then what it reads
    return Record(source.index, source.id, source.image, source.name, shown, tags=true)


def parse_caption(data: bytes, ending: str) -> dict[str, Any]:
    """A caption file's bytes -> {"text": ..., ...}: the whole text of a .txt, else JSON.

    ValueError for anything that is not UTF-8 or not JSON.
    """
    text = data.decode("utf-8-sig")
    if ending.lower() == ".txt":
        return {"text": text.strip("\r\n")}
    content: dict[str, Any] = json.loads(text)
    return content


def reason_of(error: Exception) -> str:
    """An error in a few words."""
    if isinstance(error, KeyError):
        return f'no "{error.args[0]}"'
    return " ".join(str(error).split())[:120] or type(error).__name__


def lacking(count: int, what: str) -> str:
    """`no captions without an image`, or how many."""
    return f"{count or 'no'} {what}"


def _strings(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
