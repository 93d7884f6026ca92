"""From records to result lines: images read ahead, words scored in batches, scores cut to tags."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from ..backbones.base import Backbone
from ..data.records import Item, Record, Skipped, read_reduced_record, skipped
from ..data.words import Word, split_words
from ..errors import TTDError
from ..maps.views import Prepared, Views, prepare
from ..utils.finite import check_finite
from ..utils.prefetch import prefetch_groups
from .protocol import TagProtocol
from .results import format_line
from .scoring import Scored, score_prepared
from .selection import select

AHEAD = 2  # batches of images in memory before the model asks for them

Pending = tuple[Item, "Future[Prepared] | None"]  # an item and its image, None without words


@dataclass(frozen=True)
class Batch:
    """Records whose images could be read, those images, and what had to be skipped."""

    records: list[Record]
    prepared: list[Prepared]
    skipped: list[Skipped]

    @property
    def captions(self) -> list[str]:
        """The texts of the records."""
        return [record.text for record in self.records]


@dataclass(frozen=True)
class Tagged:
    """A record and its K words: scores, normalized scores, what is selected, nearest pixels."""

    record: Record
    words: list[Word]
    scores: list[float]
    norms: list[float]
    selected: list[bool]
    xy: list[tuple[int, int]]


def load_batches(
    items: Iterable[Item],
    views: Views,
    batch: int,
    workers: int = 2,
    read: Callable[[Record, Views], Prepared] | None = None,
) -> Generator[Batch, None, None]:
    """Group items by `batch`, in order, and prepare their images for `views`.

    Images are read in `workers` threads, `AHEAD` batches early. read: in the place of
    `read_prepared`, for who wants more of an image.
    """
    items = iter(items)
    chunks = iter(lambda: list(islice(items, batch)), [])
    start = partial(_start, views=views, read=read or read_prepared)
    with closing(prefetch_groups(start, chunks, AHEAD, workers)) as groups:
        for pending in groups:
            yield _collect(pending)


def _start(
    pool: ThreadPoolExecutor,
    chunk: list[Item],
    views: Views,
    read: Callable[[Record, Views], Prepared],
) -> list[Pending]:
    """Ask for the image of every item that has words; captions of the same image share it."""
    asked: dict[object, Future[Prepared]] = {}
    pending: list[Pending] = []
    for item in chunk:
        future = None
        if isinstance(item, Record) and split_words(item.text):
            if item.image not in asked:
                asked[item.image] = pool.submit(read, item, views)
            future = asked[item.image]
        pending.append((item, future))
    return pending


def read_prepared(record: Record, views: Views) -> Prepared:
    """The image of a record, ready to be encoded. TTDError naming it when it cannot be used."""
    pixels, size = read_reduced_record(record, views.largest)
    return prepare(pixels, views, size)


def _collect(chunk: list[Pending]) -> Batch:
    """Wait for the images of a batch; what cannot be used is skipped with the reason."""
    batch = Batch([], [], [])
    for item, future in chunk:
        if isinstance(item, Skipped):
            batch.skipped.append(item)
        elif future is None:
            batch.skipped.append(Skipped(item.index, item.id, "no words in the caption"))
        else:
            try:
                batch.prepared.append(future.result())
                batch.records.append(item)
            except (TTDError, OSError) as error:
                batch.skipped.append(skipped(item, error))
    return batch


def tag_batch(
    backbone: Backbone, batch: Batch, protocol: TagProtocol, at_once: int = 2**30
) -> dict[str, list[str]]:
    """Result lines of a batch, one list per scorer of the protocol.

    at_once: captions that go through the model together; fewer need less memory and change scores
    by rounding only.
    """
    tagged = tag_records(backbone, batch, protocol, at_once)
    return {scorer: [_line(one) for one in rows] for scorer, rows in tagged.items()}


def tag_records(
    backbone: Backbone, batch: Batch, protocol: TagProtocol, at_once: int = 2**30
) -> dict[str, list[Tagged]]:
    """`tag_batch` before its lines are written: the words of every record by scorer."""
    if not batch.records:
        return {scorer: [] for scorer in protocol.scorers}
    scored: list[Scored] = []
    for start in range(0, len(batch.records), at_once):
        some = slice(start, start + at_once)
        scored += score_prepared(
            backbone, batch.prepared[some], batch.captions[some], protocol.views, protocol.scorers
        )
    return {
        scorer: _tagged(batch.records, scored, scorer, protocol, backbone.logit_scale)
        for scorer in protocol.scorers
    }


def _tagged(
    records: Sequence[Record],
    scored: Sequence[Scored],
    scorer: str,
    protocol: TagProtocol,
    logit_scale: float,
) -> list[Tagged]:
    """The words of all records for one scorer. TTDError for scores that are no numbers."""
    for record, one in zip(records, scored, strict=True):
        check_finite(one.scores[scorer], record.name)
    selected, norms = cut(scored, scorer, protocol, logit_scale)
    return [
        Tagged(record, one.words, one.scores[scorer].tolist(), norm, kept, one.xy.tolist())
        for record, one, norm, kept in zip(records, scored, norms, selected, strict=True)
    ]


def _line(one: Tagged) -> str:
    return format_line(one.record, one.words, one.scores, one.norms, one.selected, one.xy)


def cut(
    scored: Sequence[Scored], scorer: str, protocol: TagProtocol, logit_scale: float
) -> tuple[list[list[bool]], list[list[float]]]:
    """Normalize and cut one scorer's scores of many captions.

    Returns for each caption which of its K words are selected, and their normalized scores [K].
    """
    scores, mask = _pad([one.scores[scorer] for one in scored])
    rejected, _ = _pad([_rejected(one, protocol) for one in scored])
    selected, norms = select(
        scores,
        rejected,
        mask=mask,
        norm=protocol.normalize,
        threshold=protocol.threshold,
        logit_scale=logit_scale,
        min_score=protocol.min_score,
    )
    return _unpad(selected, mask), _unpad(norms, mask)


def _rejected(scored: Scored, protocol: TagProtocol) -> Tensor:
    """Which words of a caption may not be selected: bool [K]."""
    return torch.tensor([protocol.rejects(word.text) for word in scored.words])


def _pad(rows: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Rows [K_i] -> [B, K] padded with zeros, and a mask of what is real."""
    padded = torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
    counts = torch.tensor([len(row) for row in rows])
    return padded, torch.arange(padded.shape[1]) < counts[:, None]


def _unpad(padded: Tensor, mask: Tensor) -> list[list[Any]]:
    """[B, K] -> the real values of each row, as plain numbers."""
    counts = mask.sum(1).tolist()
    return [row[:count] for row, count in zip(padded.tolist(), counts, strict=True)]
