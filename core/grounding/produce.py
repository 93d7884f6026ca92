"""Boxes for many images and phrases: batches by fixed index, towers once per image of a batch."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice

from torch import Tensor

from ..data.grounding_view import Seen, view
from ..data.records import Item, Record, Skipped, read_record, skipped
from ..errors import TTDError, UnreadableError
from ..tags.writer import Remade, TagWriter, of_batches
from ..utils.finite import check_finite
from ..utils.prefetch import prefetch
from .predict import Grounder

NAME = "boxes"  # of the one result that is written


@dataclass(frozen=True)
class Loaded:
    """A batch with its images read: records, the view of each record's image, what was skipped."""

    records: list[Record]
    places: list[int]
    views: list[Seen]
    skipped: list[Skipped]


def asked(items: Iterable[Item], phrases: Sequence[str] | None) -> Iterator[Item]:
    """The records to work on: as they are, or every image once with each of `phrases`."""
    if phrases is None:
        yield from items
        return
    # An unreadable caption may hide an image, and with it the numbers of all phrases behind it.
    number, last = 0, None
    for item in items:
        if isinstance(item, Skipped) and item.retry:
            raise UnreadableError(f"{item.id}: {item.reason}")
        if isinstance(item, Skipped):
            yield replace(item, index=number)
            number += 1
            continue
        if item.name == last:  # an image of several captions
            continue
        last = item.name
        for text in phrases:
            yield replace(item, index=number, text=text)
            number += 1


def batches_of(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of `size` items, the last one shorter."""
    stream = iter(items)
    while batch := list(islice(stream, size)):
        yield batch


def produce(
    grounder: Grounder,
    items: Callable[[], Iterable[Item]],
    writer: TagWriter,
    workers: int = 2,
    progress: Callable[[int], None] = lambda done: None,
) -> None:
    """Find the boxes of everything that `writer` does not hold yet, and append them.

    items: walks all records. Images that cannot be used are listed as skipped; what an earlier
    run could not read is read again first. TTDError: the disk is full.
    """
    size = grounder.model.config.image_size
    with closing(_remade(grounder, items, writer, workers)) as again:
        writer.mend(again)
    todo = batches_of(islice(iter(items()), writer.done, None), writer.batch)
    with closing(prefetch(lambda batch: load(batch, size), todo, 2, workers)) as read:
        for loaded in read:
            writer.write(_named(grounder, loaded), loaded.skipped)
            progress(len(loaded.records) + len(loaded.skipped))
    writer.finish()


def _remade(
    grounder: Grounder, items: Callable[[], Iterable[Item]], writer: TagWriter, workers: int
) -> Generator[Remade, None, None]:
    """The batches in which something could not be read, read again."""
    numbers, size = writer.to_mend, grounder.model.config.image_size
    if not numbers:
        return
    todo = batches_of(of_batches(items(), numbers, writer.batch), writer.batch)
    with closing(prefetch(lambda batch: load(batch, size), todo, 2, workers)) as again:
        for number, loaded in zip(numbers, again, strict=False):
            yield number, partial(_named, grounder, loaded), loaded.skipped


def _named(grounder: Grounder, loaded: Loaded) -> dict[str, list[str]]:
    return {NAME: lines_of(grounder, loaded)}


def load(batch: Sequence[Item], size: int) -> Loaded:
    """Read each image of a batch once."""
    loaded = Loaded([], [], [], [])
    known: dict[str, int | Exception] = {}
    for item in batch:
        if isinstance(item, Skipped):
            loaded.skipped.append(item)
            continue
        if item.name not in known:
            known[item.name] = _read(item, size, loaded.views)
        place = known[item.name]
        if isinstance(place, Exception):
            loaded.skipped.append(skipped(item, place))
            continue
        if not item.text.strip():
            loaded.skipped.append(Skipped(item.index, item.id, "an empty phrase"))
            continue
        loaded.records.append(item)
        loaded.places.append(place)
    return loaded


def _read(record: Record, size: int, views: list[Seen]) -> int | Exception:
    """The place of the image's view, which is added, or why it cannot be read."""
    try:
        views.append(view(read_record(record), size))
    except (TTDError, OSError) as error:
        return error
    return len(views) - 1


def lines_of(grounder: Grounder, loaded: Loaded) -> list[str]:
    """A JSON line per record: id, image, text, box (corners in pixels, two decimals)."""
    if not loaded.records:
        return []
    images = grounder.encode_views(loaded.views)
    texts = [record.text for record in loaded.records]
    boxes = rounded(
        grounder.locate(images, texts, loaded.places), [one.name for one in loaded.records]
    )
    lines = []
    for record, box in zip(loaded.records, boxes, strict=True):
        row = {"id": record.id, "image": record.name, "text": record.text, "box": box}
        lines.append(json.dumps(row, ensure_ascii=False) + "\n")
    return lines


def rounded(boxes: Tensor, names: Sequence[str]) -> list[list[float]]:
    """Boxes [N, 4] with two decimals. TTDError naming the image of one that is not finite."""
    rows: list[list[float]] = boxes.tolist()
    for box, name in zip(rows, names, strict=True):
        check_finite(box, name, "the grounder's weights do not fit its configuration")
    return [[round(value, 2) for value in box] for box in rows]
