"""From records to result lines: images read ahead in threads, words scored in batches, scores cut to tags."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice

import torch
from torch import Tensor

from ..backbones.base import Backbone
from ..data.records import Item, Record, Skipped, read_record
from ..data.words import split_words
from ..errors import TTDError
from ..utils.prefetch import prefetch_groups
from .protocol import TagProtocol
from .results import format_line
from .scoring import Prepared, Scored, prepare, score_prepared
from .selection import select

AHEAD = 2  # batches of images in memory before the model asks for them


@dataclass(frozen=True)
class Batch:
    """Records whose images could be read, those images, and what had to be skipped."""

    records: list[Record]
    pictures: list[Prepared]
    skipped: list[Skipped]


def load_batches(
    items: Iterable[Item], protocol: TagProtocol, batch: int, workers: int = 2
) -> Iterator[Batch]:
    """Group items by `batch`, in order, and read their images in `workers` threads, `AHEAD` batches early."""
    items = iter(items)
    chunks = iter(lambda: list(islice(items, batch)), [])
    for pending in prefetch_groups(partial(_start, protocol=protocol), chunks, AHEAD, workers):
        yield _collect(pending)


def _start(
    pool: ThreadPoolExecutor, chunk: list[Item], protocol: TagProtocol
) -> list[tuple[Item, Future | None]]:
    """Ask for the image of every item that has words; captions of the same image share it."""
    asked: dict[object, Future] = {}
    for item in chunk:
        if isinstance(item, Record) and item.image not in asked and split_words(item.text):
            asked[item.image] = pool.submit(_read, item, protocol)
    return [
        (
            item,
            asked.get(item.image) if isinstance(item, Record) and split_words(item.text) else None,
        )
        for item in chunk
    ]


def _read(record: Record, protocol: TagProtocol) -> Prepared:
    return prepare(read_record(record), protocol.image_size, protocol.scales)


def _collect(chunk: list[tuple[Item, Future | None]]) -> Batch:
    batch = Batch([], [], [])
    for item, future in chunk:
        if isinstance(item, Skipped):
            batch.skipped.append(item)
        elif future is None:
            batch.skipped.append(Skipped(item.index, item.id, "no words in the caption"))
        else:
            try:
                batch.pictures.append(future.result())
                batch.records.append(item)
            except (TTDError, OSError) as error:
                batch.skipped.append(Skipped(item.index, item.id, " ".join(str(error).split())))
    return batch


def tag_batch(
    backbone: Backbone, batch: Batch, protocol: TagProtocol, at_once: int = 2**30
) -> dict[str, list[str]]:
    """Result lines of a batch, one list per scorer of the protocol.

    at_once: captions that go through the model together; fewer need less memory and change scores
    by rounding only.
    """
    if not batch.records:
        return {scorer: [] for scorer in protocol.scorers}
    scored = []
    for start in range(0, len(batch.records), at_once):
        some = slice(start, start + at_once)
        captions = [record.text for record in batch.records[some]]
        scored += score_prepared(
            backbone,
            batch.pictures[some],
            captions,
            protocol.scorers,
            scales=protocol.scales,
            hflip=protocol.hflip,
        )
    lines = {}
    for scorer in protocol.scorers:
        selected, norms = cut(scored, scorer, protocol, backbone.logit_scale)
        lines[scorer] = [
            format_line(record, one.words, one.scores[scorer].tolist(), norm, kept, one.xy.tolist())
            for record, one, norm, kept in zip(batch.records, scored, norms, selected, strict=True)
        ]
    return lines


def cut(
    scored: Sequence[Scored], scorer: str, protocol: TagProtocol, logit_scale: float
) -> tuple[list[list[bool]], list[list[float]]]:
    """Normalize and cut one scorer's scores of many captions -> per caption: selected [K], normalized [K]."""
    scores, mask = _pad([one.scores[scorer] for one in scored])
    rejected, _ = _pad(
        [torch.tensor([protocol.rejects(word.text) for word in one.words]) for one in scored]
    )
    selected, norms = select(
        scores,
        rejected,
        mask=mask,
        norm=protocol.normalize,
        threshold=protocol.threshold,
        logit_scale=logit_scale,
    )
    counts = [len(one.words) for one in scored]
    return (
        [row[:count] for row, count in zip(selected.tolist(), counts, strict=True)],
        [row[:count] for row, count in zip(norms.tolist(), counts, strict=True)],
    )


def _pad(rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Rows [K_i] -> [B, K] padded with zeros, and a mask of what is real."""
    padded = torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
    counts = torch.tensor([len(row) for row in rows])
    return padded, torch.arange(padded.shape[1]) < counts[:, None]
