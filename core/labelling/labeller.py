"""Records to labels: a model in memory, images read in threads, batches by fixed index.

labeller = Labeller(Settings(("tags", "masks")))
for batch in labeller.label(records.iterate()): ...          # `Labelled`
"""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ..backbones import load_backbone
from ..data.grounding_view import Seen, view
from ..data.images import Pixels, Size, is_giant
from ..data.records import Item, Record, Skipped, read_record, read_reduced_record
from ..grounding.predict import Grounder, load_grounder
from ..grounding.produce import rounded
from ..grounding.weights.checkpoint import model_file
from ..maps.views import Prepared, Views, prepare
from ..masks.protocol import MaskProtocol
from ..refine.pamr import PAMR
from ..tags.pipeline import Batch, Tagged, load_batches, tag_records
from ..utils.config import plain
from ..utils.memory import in_smaller_batches
from ..utils.prefetch import prefetch
from .masks import TextMasks
from .settings import BACKGROUND, Box, Labels, Settings

SMALLER = "use a smaller --image or fewer --scales"
MANY = 1 << 20  # images of a job: more than any path of PAMR must be worth its compilation
AHEAD = 3  # images prepared for their masks before the model asks for them


@dataclass(frozen=True)
class Pictured(Prepared):
    """An image ready for its tags, and its pixels uint8 [H, W, 3].

    Without pixels of a giant: it is read again.
    """

    pixels: Pixels | None = None


@dataclass
class Clock:
    """Seconds that were spent: by threads that read, by the model; and images that were read."""

    decode: float = 0.0
    model: float = 0.0
    images: int = 0


@dataclass(frozen=True)
class Labelled:
    """A batch: what could be labelled, what could not and why."""

    labels: list[Labels]
    skipped: list[Skipped]


@dataclass(frozen=True)
class _More:
    """What masks and boxes need of an image: its views, the pixels for PAMR, the grounder's."""

    prepared: Prepared | None
    pixels: Pixels
    seen: Seen | None


class Labeller:
    """The models of a worker. identity: all that decides the labels; digest: a hash of it."""

    def __init__(self, settings: Settings) -> None:
        """Load everything. TTDError: no such weights, or settings that the model cannot serve."""
        self.settings, self.clock = settings, Clock()
        torch.set_num_threads(settings.threads)
        self.backbone = load_backbone(
            settings.arch,
            weights=settings.weights,
            lora=settings.lora,
            head=settings.head,
            dtype=settings.dtype,
            device=settings.device,
        )
        self.backbone.pamr = PAMR(pictures=MANY)
        self.tags = settings.tags(self.backbone.image_size)
        self.tags.views.check(self.backbone.patch)
        self._masks = self._text_masks() if settings.wants("masks") else None
        self._grounder: Grounder | None = None
        if settings.grounder:
            self._grounder = load_grounder(settings.grounder, device=self.backbone.device)
        self.identity = self._identity()
        self.digest = digest_of(self.identity)

    def _text_masks(self) -> TextMasks:
        chosen, own = self.settings.masks, self.backbone.own.defaults
        if chosen.name == "ttd" and chosen.image is None and own.image is not None:
            chosen = replace(chosen, image=own.image)
        backbone = self.backbone
        used = chosen.resolve(backbone.arch, backbone.image_size, "threshold", BACKGROUND)
        used.views.check(backbone.patch)
        return TextMasks(backbone, used, self.settings.windows)

    @property
    def mask_protocol(self) -> MaskProtocol | None:
        """The resolved protocol of masks, None where none are made."""
        return None if self._masks is None else self._masks.used

    def _identity(self) -> dict[str, Any]:
        """All that decides the labels, as JSON holds it."""
        settings, backbone = self.settings, self.backbone
        found = {
            "want": sorted(settings.want),
            "arch": _called(settings.arch),
            "head": backbone.head,
            "dtype": settings.dtype,
            "device": backbone.device.type,
            "weights": backbone.checksum,
            "batch": settings.batch,
            "threads": settings.threads,
            "draft": settings.draft,
            "png": settings.png,
            "tags": plain(self.tags),
        }
        if self._masks is not None:
            used = self._masks.used
            kernel = backbone.pamr.kernel(backbone.device) if used.pamr else None
            found["masks"] = used.as_dict() | {"windows": settings.windows, "pamr_kernel": kernel}
        if settings.grounder:
            content = model_file(settings.grounder).read_bytes()
            found["grounder"] = hashlib.sha256(content).hexdigest()[:32]
        return found

    def label(self, items: Iterable[Item]) -> Generator[Labelled, None, None]:
        """Label records, `settings.batch` at a time.

        TTDError: values that are not finite, memory that is short.
        """
        size, settings = self.settings.batch, self.settings
        views, threads = self.tags.views, settings.decoders
        with closing(load_batches(items, views, size, threads, read=self._read)) as batches:
            for batch in batches:
                start = time.perf_counter()
                work = partial(tag_records, self.backbone, batch, self.tags)
                tagged, size = in_smaller_batches(work, size, SMALLER)
                labels = self._with_places(batch, tagged["pixel"])
                self.clock.model += time.perf_counter() - start
                yield Labelled(labels, batch.skipped)

    def _read(self, record: Record, views: Views) -> Prepared:
        """The image of a record for its tags, and its pixels where masks or boxes want them."""
        start = time.perf_counter()
        target = self._largest if self.settings.draft else views.largest
        pixels, size = read_reduced_record(record, target, self.settings.draft)
        ready = prepare(pixels, views, size)
        if self._masks is not None or self._grounder is not None:
            kept = None if is_giant(size) else pixels
            ready = Pictured(ready.size, ready.scaled, kept)
        self.clock.decode += time.perf_counter() - start
        self.clock.images += 1
        return ready

    def _largest(self, height: int, width: int) -> Size:
        """The largest copy that is looked at of an image of height x width pixels."""
        sizes = [self.tags.views.largest(height, width)]
        if self._masks is not None:
            sizes.append(self._masks.used.views.largest(height, width))
        return max(sizes)

    # --- masks and boxes ---

    def _with_places(self, batch: Batch, tagged: Sequence[Tagged]) -> list[Labels]:
        """The labels of a batch: words, then masks and boxes where they are wanted."""
        found = [
            Labels(row_of(one), image.size)
            for one, image in zip(tagged, batch.prepared, strict=True)
        ]
        if self._masks is None and self._grounder is None:
            return found
        work = partial(self._more, keep=self.settings.png)
        todo = list(zip(batch.records, batch.prepared, strict=True))
        seen: list[Seen] = []
        with closing(prefetch(work, todo, AHEAD, self.settings.decoders)) as more:
            for row, (one, extra) in enumerate(zip(tagged, more, strict=True)):
                if self._masks is not None and extra.prepared is not None:
                    found[row] = self._with_masks(found[row], one, extra)
                if extra.seen is not None:
                    seen.append(extra.seen)
        if self._grounder is not None:
            return list(self._with_boxes(self._grounder, found, batch, seen))
        return found

    def _more(self, pair: tuple[Record, Prepared], keep: bool) -> _More:
        """What masks and boxes need of an image; in a thread."""
        record, ready = pair
        start = time.perf_counter()
        pixels = ready.pixels if isinstance(ready, Pictured) else None
        if pixels is None:
            pixels = read_record(record)
        prepared = seen = None
        if self._masks is not None:
            prepared = prepare(pixels, self._masks.used.views, ready.size)
        if self._grounder is not None:
            seen = view(pixels, self._grounder.model.config.image_size)
        self.clock.decode += time.perf_counter() - start
        return _More(prepared, pixels, seen)

    def _with_masks(self, labels: Labels, tagged: Tagged, more: _More) -> Labels:
        """The same with the caption's mask and one of each tag, and their boxes."""
        assert self._masks is not None and more.prepared is not None
        words = labels.row["tags"]
        record = tagged.record
        caption, each = self._masks.make(
            record.name, record.text, words, more.pixels, more.prepared, png=self.settings.png
        )
        boxes: list[Box] = []
        if self.settings.wants("boxes") and self._grounder is None:
            boxes = [one.box for one in (caption, *each) if one.box is not None]
        pngs = [one.png for one in (caption, *each) if self.settings.png]
        masks = tuple(one.mask for one in each)
        return replace(
            labels, caption_mask=caption.mask, masks=masks, boxes=tuple(boxes), pngs=tuple(pngs)
        )

    def _with_boxes(
        self, grounder: Grounder, labels: Sequence[Labels], batch: Batch, seen: Sequence[Seen]
    ) -> Iterator[Labels]:
        """The same with the grounder's boxes: of each caption, then of its tags."""
        if not labels:
            return
        images = grounder.encode_views(seen)
        names = [record.name for record in batch.records]
        captions = [record.text for record in batch.records]
        whole = rounded(grounder.locate(images, captions, range(len(names))), names)
        owners = [row for row, one in enumerate(labels) for _ in one.row["tags"]]
        texts = list(itertools.chain.from_iterable(one.row["tags"] for one in labels))
        named = [names[row] for row in owners]
        parts = iter(rounded(grounder.locate(images, texts, owners), named))
        for one, caption, box in zip(labels, captions, whole, strict=True):
            boxes = [Box(caption, "grounder", _corners(box))]
            boxes += [Box(tag, "grounder", _corners(next(parts))) for tag in one.row["tags"]]
            yield replace(one, boxes=tuple(boxes))


def _corners(box: Sequence[float]) -> tuple[float, float, float, float]:
    left, top, right, bottom = box
    return left, top, right, bottom


def _called(arch: str) -> str:
    """A model without the folders that it lies in: its checksum tells, wherever it is."""
    kind, colon, path = arch.partition(":")
    return f"{kind}:{Path(path).name}" if colon and kind != "hf-hub" else arch


def row_of(tagged: Tagged) -> dict[str, Any]:
    """The columns that every record has; scores with 5 decimals, as result lines have them."""
    words = [
        {
            "word": word.text,
            "start": word.start,
            "end": word.end,
            "score": round(score, 5),
            "norm": round(norm, 5),
            "selected": kept,
            "x": xy[0],
            "y": xy[1],
        }
        for word, score, norm, kept, xy in zip(
            tagged.words, tagged.scores, tagged.norms, tagged.selected, tagged.xy, strict=True
        )
    ]
    chosen = [entry["word"] for entry in words if entry["selected"]]
    return {
        "key": tagged.record.id,
        "image": tagged.record.name.encode("utf-8", "backslashreplace").decode(),
        "caption": tagged.record.text,
        "words": words,
        "tags": list(dict.fromkeys(chosen)),
    }


def digest_of(identity: dict[str, Any]) -> str:
    """A hash of plain values, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:32]
