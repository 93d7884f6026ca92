"""What is segmented and into what: images with a list of classes, or images with captions.

Both give `jobs` (what to read) and `make` (an image to a mask uint8 [H, W] in the label values of
the result).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ..backbones.base import Backbone
from ..data.datasets import Dataset
from ..data.images import read_image
from ..data.records import Record, Skipped, read_record
from ..errors import TTDError
from ..maps.sliding import WINDOWS, Merged, Picture, merge_views, prepare
from ..tags.pipeline import cut
from ..tags.protocol import TagProtocol
from ..tags.scoring import score_batch
from ..text.encode import encode_texts
from ..text.prompts import embed_classes
from ..utils.memory import in_smaller_batches
from ..utils.prefetch import prefetch
from .labels import Labels, Scores, decide
from .protocol import MaskProtocol

AHEAD = 3  # images read before the model asks for them, beside those that the threads are at
FOREGROUND = 255


@dataclass(frozen=True)
class Job:
    """One image: its id and a call that reads it, uint8 [H, W, 3]; `caption` where it has one."""

    id: str
    read: Callable[[], np.ndarray]
    caption: str = ""


def _merged(
    backbone: Backbone, picture: Picture, text: Tensor, used: MaskProtocol, batch: int
) -> tuple[Merged, int]:
    """`merge_views`, with fewer windows at a time where memory is short; how many fitted, for the next image."""
    return in_smaller_batches(
        partial(merge_views, backbone, picture, text, used), batch, "use a smaller --image"
    )


class MasksFromTags:
    """Label maps over the classes of a set: `Dataset.classes`, prompted once."""

    def __init__(
        self, backbone: Backbone, dataset: Dataset, used: MaskProtocol, batch: int = WINDOWS
    ):
        """used: resolved protocol. Raises TTDError when the classes do not fit into 8-bit labels."""
        if dataset.first_label + len(dataset.classes) > dataset.ignore:
            raise TTDError(
                f"{dataset.name}: {len(dataset.classes)} classes do not fit into 8-bit labels"
            )
        self._backbone, self._used, self._batch = backbone, used, batch
        self._labels = Labels(dataset.first_label, 0 if dataset.background else 255)
        self._text = embed_classes(backbone, dataset.classes, used.templates)

    def make(
        self, job: Job, picture: Picture, scores: bool = False
    ) -> tuple[np.ndarray, Scores | None]:
        """Label map uint8 [H, W] of an image, and its soft maps with `scores`."""
        merged, self._batch = _merged(self._backbone, picture, self._text, self._used, self._batch)
        index, kept = decide(merged, picture, self._used, scores=scores, pamr=self._backbone.pamr)
        return self._labels.of(index), kept


class MasksFromText:
    """Foreground of a caption, 0 or 255: its own map above the threshold, or the union of its kept words' maps."""

    def __init__(
        self,
        backbone: Backbone,
        used: MaskProtocol,
        tags: TagProtocol | None = None,
        batch: int = WINDOWS,
    ):
        """used: resolved protocol; tags: how words are kept, None for the caption's own map."""
        self._backbone, self._used, self._tags, self._batch = backbone, used, tags, batch

    def make(
        self, job: Job, picture: Picture, scores: bool = False
    ) -> tuple[np.ndarray, Scores | None]:
        """Foreground uint8 [H, W] of a caption's image; with `scores` the soft map of the caption or of each word."""
        texts = (
            [job.caption] if self._tags is None else self._kept_words(job.caption, picture.pixels)
        )
        if not texts:
            nothing = Scores(np.zeros((0, *picture.size), np.float16), np.zeros(0, np.int16))
            return np.zeros(picture.size, np.uint8), nothing if scores else None
        text = encode_texts(self._backbone, texts)
        merged, self._batch = _merged(self._backbone, picture, text, self._used, self._batch)
        index, kept = decide(merged, picture, self._used, scores=scores, pamr=self._backbone.pamr)
        return np.where(index >= 0, FOREGROUND, 0).astype(np.uint8), kept

    def _kept_words(self, caption: str, pixels: np.ndarray) -> list[str]:
        """The distinct words that pixel-tag scoring keeps, as they stand."""
        tags = self._tags
        scored = score_batch(
            self._backbone,
            [pixels],
            [caption],
            ["pixel"],
            image_size=tags.image_size,
            scales=tags.scales,
            hflip=tags.hflip,
        )
        if not scored[0].words:
            return []
        selected, _ = cut(scored, "pixel", tags, self._backbone.logit_scale)
        kept = [word.text for word, keep in zip(scored[0].words, selected[0], strict=True) if keep]
        return list(dict.fromkeys(kept))


def jobs_of_dataset(dataset: Dataset, limit: int | None = None) -> list[Job]:
    """The images of a set, by id."""
    return [
        Job(item.id, lambda path=item.image: read_image(path)) for item in dataset.items()[:limit]
    ]


def jobs_of_records(records: Iterable[Record | Skipped]) -> tuple[list[Job], list[Skipped]]:
    """The captions of an input of images with captions, and what cannot be used.

    Masks lie in one folder: a / in an id becomes _. Raises TTDError when two ids are then the same.
    """
    jobs, skipped = {}, []
    for item in records:
        if isinstance(item, Skipped):
            skipped.append(item)
            continue
        name = item.id.replace("/", "_")
        if name in jobs:
            raise TTDError(
                f"{item.id}: two masks would be called {name}.png; give the images names of their own"
            )
        jobs[name] = Job(name, lambda item=item: read_record(item), item.text)
    return list(jobs.values()), skipped


def read_ahead(
    jobs: Sequence[Job], used: MaskProtocol, threads: int = 1
) -> Iterator[tuple[Job, Picture | TTDError]]:
    """Every job with its image, or with what is wrong with it, in order; read in `threads` threads, a few early."""
    pictures = prefetch(partial(_read, used=used), jobs, AHEAD + threads - 1, threads)
    yield from zip(jobs, pictures, strict=True)


def _read(job: Job, used: MaskProtocol) -> Picture | TTDError:
    try:
        with torch.no_grad():
            return prepare(job.read(), used)
    except TTDError as error:
        return error
    except OSError as error:
        return TTDError(f"{job.id}: cannot be read ({error.strerror})")
