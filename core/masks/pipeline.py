"""What is segmented and into what: images with a list of classes, or images with captions.

Both give `jobs` (what to read) and `make` (an image to a mask uint8 [H, W] in the label values of
the result).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..backbones.base import Backbone
from ..data.images import read_image
from ..data.labels.datasets import Dataset
from ..data.records import Record, Skipped, read_record
from ..errors import TTDError
from ..maps.sliding import WINDOWS, Merged
from ..maps.views import Prepared, Views, prepare
from ..refine.pamr import PAMR
from ..tags.pipeline import cut
from ..tags.protocol import TagProtocol
from ..tags.scoring import score_batch
from ..text.encode import encode_texts
from ..text.prompts import embed_classes
from ..utils.files import reading_error
from ..utils.finite import check_finite
from ..utils.memory import in_smaller_batches
from ..utils.prefetch import prefetch
from .labels import Labels, Scores, decide
from .merge import merge
from .protocol import MaskProtocol

AHEAD = 3  # images read before the model asks for them, beside those that the threads are at
FOREGROUND = 255

Mask = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Job:
    """One image: its id and a call that reads it, uint8 [H, W, 3]; `caption` where it has one."""

    id: str
    read: Callable[[], npt.NDArray[np.uint8]]
    caption: str = ""


@dataclass(frozen=True)
class Loaded:
    """An image to be segmented: its pixels uint8 [H, W, 3], and ready to be encoded."""

    pixels: npt.NDArray[np.uint8]
    prepared: Prepared


def _merged(
    backbone: Backbone, image: Loaded, text: Tensor, used: MaskProtocol, batch: int
) -> tuple[Merged, int]:
    """`merge`, with fewer windows at a time where memory is short; how many fitted."""
    work = partial(merge, backbone, image.prepared, text, used)
    return in_smaller_batches(work, batch, "use a smaller --image")


def check_maps(merged: Merged, name: str) -> None:
    """TTDError naming the image whose averaged maps are not finite: their bounds tell."""
    check_finite(torch.stack([merged.highest, merged.lowest]), name)


class MasksFromTags:
    """Label maps over the classes of a set: `Dataset.classes`, prompted once."""

    def __init__(
        self, backbone: Backbone, dataset: Dataset, used: MaskProtocol, batch: int = WINDOWS
    ) -> None:
        """used: resolved protocol. Raises TTDError when the classes do not fit in 8-bit labels."""
        if dataset.first_label + len(dataset.classes) > dataset.ignore:
            raise TTDError(
                f"{dataset.name}: {len(dataset.classes)} classes do not fit into 8-bit labels"
            )
        self._backbone, self._used, self._batch = backbone, used, batch
        self._labels = Labels(dataset.first_label, 0 if dataset.background else 255)
        self._text = embed_classes(backbone, dataset.classes, used.templates)

    def make(self, job: Job, image: Loaded, scores: bool = False) -> tuple[Mask, Scores | None]:
        """Label map uint8 [H, W] of an image, and its soft maps with `scores`."""
        merged, self._batch = _merged(self._backbone, image, self._text, self._used, self._batch)
        check_maps(merged, job.id)
        pamr = self._backbone.pamr
        index, kept = decide(merged, image.pixels, self._used, scores=scores, pamr=pamr)
        return self._labels.of(index), kept


def label_image(
    backbone: Backbone,
    pixels: npt.NDArray[np.uint8],
    classes: Sequence[str],
    used: MaskProtocol,
    pamr: PAMR | None = None,
) -> Mask:
    """Label map uint8 [H, W] of one image uint8 [H, W, 3]: 0 for none, k for the k-th class.

    As `MasksFromTags` makes them. used: resolved protocol; pamr: see `decide`.
    """
    image = Loaded(pixels, prepare(pixels, used.views))
    text = embed_classes(backbone, classes, used.templates)
    merged, _ = _merged(backbone, image, text, used, WINDOWS)
    index, _ = decide(merged, pixels, used, pamr=pamr)
    return Labels(first=1, background=0).of(index)


class MasksFromText:
    """Foreground of a caption, 0 or 255.

    Where its own map exceeds the threshold, or that of any of its kept words.
    """

    def __init__(
        self,
        backbone: Backbone,
        used: MaskProtocol,
        tags: TagProtocol | None = None,
        batch: int = WINDOWS,
    ) -> None:
        """used: resolved protocol; tags: how words are kept, None for the caption's own map."""
        self._backbone, self._used, self._tags, self._batch = backbone, used, tags, batch

    def make(self, job: Job, image: Loaded, scores: bool = False) -> tuple[Mask, Scores | None]:
        """Foreground uint8 [H, W] of a caption's image.

        With `scores` also the soft map of the caption or of each kept word.
        """
        texts = [job.caption]
        if self._tags is not None:
            texts = self._kept_words(job.caption, image.pixels, self._tags)
        if not texts:
            return _nothing(image.prepared.size, scores)
        text = encode_texts(self._backbone, texts)
        merged, self._batch = _merged(self._backbone, image, text, self._used, self._batch)
        check_maps(merged, job.id)
        pamr = self._backbone.pamr
        index, kept = decide(merged, image.pixels, self._used, scores=scores, pamr=pamr)
        return np.where(index >= 0, FOREGROUND, 0).astype(np.uint8), kept

    def _kept_words(
        self, caption: str, pixels: npt.NDArray[np.uint8], tags: TagProtocol
    ) -> list[str]:
        """The distinct words that pixel-tag scoring keeps, as they stand."""
        scored = score_batch(self._backbone, [pixels], [caption], ["pixel"], tags.views)
        words = scored[0].words
        if not words:
            return []
        selected, _ = cut(scored, "pixel", tags, self._backbone.logit_scale)
        kept = [word.text for word, keep in zip(words, selected[0], strict=True) if keep]
        return list(dict.fromkeys(kept))


def _nothing(size: tuple[int, int], scores: bool) -> tuple[Mask, Scores | None]:
    """The mask of an image of which nothing is asked for, and no maps."""
    mask = np.zeros(size, np.uint8)
    if not scores:
        return mask, None
    return mask, Scores(np.zeros((0, *size), np.float16), np.zeros(0, np.int16))


def jobs_of_dataset(dataset: Dataset, limit: int | None = None) -> list[Job]:
    """The images of a set, by id."""
    return [Job(item.id, partial(read_image, item.image)) for item in dataset.items()[:limit]]


def jobs_of_records(records: Iterable[Record | Skipped]) -> tuple[list[Job], list[Skipped]]:
    """The captions of an input of images with captions, and what cannot be used.

    Masks lie in one folder: a / in an id becomes _. Raises TTDError when two ids are then the same.
    """
    jobs: dict[str, Job] = {}
    skipped: list[Skipped] = []
    for item in records:
        if isinstance(item, Skipped):
            skipped.append(item)
            continue
        name = item.id.replace("/", "_")
        if name in jobs:
            raise TTDError(
                f"{item.id}: two masks would be called {name}.png; "
                "give the images names of their own"
            )
        jobs[name] = Job(name, partial(read_record, item), item.text)
    return list(jobs.values()), skipped


def read_ahead(
    jobs: Sequence[Job], views: Views, threads: int = 1
) -> Generator[tuple[Job, Loaded | TTDError], None, None]:
    """Every job with its image, or with what is wrong with it, in order.

    Read in `threads` threads, a few early, and prepared for `views`.
    """
    ahead = AHEAD + threads - 1
    with closing(prefetch(partial(_read, views=views), jobs, ahead, threads)) as images:
        yield from zip(jobs, images, strict=True)


def _read(job: Job, views: Views) -> Loaded | TTDError:
    """The image of a job, or why there is none."""
    try:
        with torch.no_grad():
            pixels = job.read()
            return Loaded(pixels, prepare(pixels, views))
    except TTDError as error:
        return error
    except OSError as error:
        return reading_error(error, f"{job.id}: cannot be read ({error.strerror})")
