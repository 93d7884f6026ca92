"""The inputs of each kind of run, as `core.data.inputs.table` takes them down."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..grounding import Phrase
from ..labels.datasets import Dataset
from ..pairs import Pairs
from ..records import Packed, Record, RecordSet, Skipped
from .table import Inputs, Source


def inputs_of(records: RecordSet, limit: int | None = None, trust: bool = False) -> Inputs:
    """The inputs of a result made from `records`, or from its first `limit`.

    Shards are taken as files, whatever they hold: their captions lie in them too.
    """
    if records.files:
        return Inputs(shard_sources(records.files), trust=trust)
    return Inputs(map(record_source, records.iterate_in_threads(limit)), trust=trust)


def inputs_of_images(dataset: Dataset, limit: int | None = None, trust: bool = False) -> Inputs:
    """The inputs of label maps: the first `limit` images of a set. Its classes have a hash."""
    items = dataset.items()[:limit]
    return Inputs(((item.id, "", item.image.name, item.image) for item in items), trust=trust)


def record_source(item: Record | Skipped) -> Source:
    """A record; one that is skipped has no image, and no caption where it could not be read."""
    if isinstance(item, Skipped):
        return item.id, "" if item.retry else item.reason, "", None
    path = item.image.tar if isinstance(item.image, Packed) else item.image
    return item.id, item.text, item.name, path


def shard_sources(tars: Iterable[Path]) -> Iterator[Source]:
    """A record for each shard."""
    for path in tars:
        name = os.path.abspath(path)
        yield name, "", name, path


def pair_sources(pairs: Pairs) -> Iterator[Source]:
    """Training pairs; those of shards are taken as files."""
    for part in pairs.parts:
        if part.shards:
            yield from shard_sources(part.shards)
            continue
        for number in range(len(part)):
            yield record_source(part[number])


def truth_sources(dataset: Dataset) -> Iterator[Source]:
    """Images and true masks of a set that a model is scored on."""
    for item in dataset.items():
        yield item.id, "", str(item.image), item.image
        if item.mask is not None:
            yield f"mask of {item.id}", "", str(item.mask), item.mask


def phrase_sources(phrases: Iterable[Phrase]) -> Iterator[Source]:
    """Phrases and their images."""
    for phrase in phrases:
        yield phrase.id, f"{phrase.text} {phrase.box}", phrase.name, phrase.image
