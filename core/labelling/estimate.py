"""What labelling a whole set would take, from a timed sample of some of its shards."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from ..data.records import Item
from ..errors import TTDError, UnreadableError
from ..utils.prefetch import prefetch
from .labeller import Clock, Labeller
from .places import fetched, stamp_of
from .settings import Settings
from .shard import Shard, records_of
from .table import row, schema_of, table_writer

READERS = 16  # threads that ask for sizes
SAMPLED = 3  # shards, evenly spread


@dataclass(frozen=True)
class Inventory:
    """What the shards are: bytes of each that is there, and those that cannot be read."""

    sizes: dict[Shard, int]
    missing: list[Shard]

    @property
    def total(self) -> int:
        """Bytes of all."""
        return sum(self.sizes.values())


@dataclass(frozen=True)
class Sample:
    """What a sample took.

    pairs: labelled, in `seconds` of wall time by one worker, to `stored` bytes; images: read;
    decode: seconds of its readers; model: seconds. density: pairs in a byte of input.
    """

    pairs: int
    seconds: float
    stored: int
    images: int
    decode: float
    model: float
    density: float


@dataclass(frozen=True)
class Projection:
    """The whole set by one kind of worker: pairs, worker-hours, their price, bytes of labels."""

    pairs: int
    rate: float
    hours: float
    cost: float
    stored: int


def inventory(shards: Sequence[Shard]) -> Inventory:
    """Sizes of all shards, asked for in threads."""
    sizes: dict[Shard, int] = {}
    missing = []
    with closing(prefetch(_size, shards, 64, READERS)) as found:
        for shard, size in zip(shards, found, strict=True):
            if size is None:
                missing.append(shard)
            else:
                sizes[shard] = size
    return Inventory(sizes, missing)


def _size(shard: Shard) -> int | None:
    try:
        return stamp_of(shard.url).size
    except UnreadableError:
        return None


def sample(settings: Settings, found: Inventory, pairs: int) -> Sample:
    """Label about so many pairs of up to three shards; nothing is kept.

    One batch before them is not timed. TTDError: none of these shards holds a pair.
    """
    labeller = Labeller(settings)
    shards = list(found.sizes)
    step = max(1, len(shards) // SAMPLED)
    chosen = shards[::step][:SAMPLED]
    each = -(-pairs // max(1, len(chosen)))
    counted = read = 0
    parts: list[tuple[int, float, int]] = []
    for number, shard in enumerate(chosen):
        with fetched(shard.url, found.sizes[shard]) as path:
            records = records_of(path)
            counted += records.count
            read += found.sizes[shard]
            if number == 0:
                warm = islice(records.iterate(), settings.batch)
                for _ in labeller.label(warm):
                    pass
                labeller.clock = Clock()
            parts.append(_timed(labeller, partial(records.iterate, 0, each)))
    done, seconds, stored = (sum(column) for column in zip(*parts, strict=True))
    if not done:
        raise TTDError(f"{chosen[0].url}: no usable pair in a sample of {len(chosen)} shards")
    clock = labeller.clock
    return Sample(
        int(done), seconds, int(stored), clock.images, clock.decode, clock.model, counted / read
    )


def _timed(labeller: Labeller, items: Callable[[], Iterator[Item]]) -> tuple[int, float, int]:
    """Pairs, seconds and bytes of the labels of some records."""
    settings, count = labeller.settings, 0
    with tempfile.TemporaryDirectory(prefix="ttd-sample-") as folder:
        path = Path(folder) / "sample.parquet"
        start = time.perf_counter()
        with (
            table_writer(path, schema_of(settings, {})) as table,
            closing(labeller.label(items())) as batches,
        ):
            for batch in batches:
                for labels in batch.labels:
                    table.add(row(labels, settings))
                    count += 1
        return count, time.perf_counter() - start, path.stat().st_size


def project(found: Inventory, taken: Sample, price: float) -> Projection:
    """The whole set at the sample's rate; price: of an hour of one worker."""
    pairs = round(found.total * taken.density)
    rate = taken.pairs / taken.seconds
    hours = pairs / rate / 3600
    return Projection(pairs, rate, hours, hours * price, round(pairs * taken.stored / taken.pairs))
