"""Held-out captions with their truth in memory: what a model is scored on while it trains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import TTDError
from ..utils.config import read_yaml
from ..utils.files import expanded
from .inputs.sources import record_source
from .inputs.table import Source
from .labels.datasets import MASKS_OF_TAGS, CaptionSet, open_caption_set
from .records import Record, open_records, read_record
from .tag_words import truth_of
from .words import is_stopword, split_words


@dataclass(frozen=True)
class Item:
    """An image uint8 [H, W, 3] with its caption: K words, T true tags and their masks.

    words, tags: as they stand in the caption; truth, stop: which words are true tags and which are
    stop words, bool [K]; masks: bool [T, H, W].
    """

    id: str
    image: npt.NDArray[np.uint8]
    text: str
    words: tuple[str, ...]
    truth: npt.NDArray[np.bool_]
    stop: npt.NDArray[np.bool_]
    tags: tuple[str, ...]
    masks: npt.NDArray[np.bool_]


def make_item(
    name: str,
    image: npt.NDArray[np.uint8],
    text: str,
    tags: Sequence[str],
    masks: npt.NDArray[np.bool_],
) -> Item:
    """An `Item` from an image uint8 [H, W, 3], a caption, its T true tags, their masks [T, H, W].

    Raises TTDError for a caption without words and for masks of another number or size.
    """
    words = tuple(word.text for word in split_words(text))
    if not words:
        raise TTDError(f"{name}: the caption {text!r} has no words, so there is nothing to score")
    if masks.shape != (len(tags), *image.shape[:2]):
        raise TTDError(
            f"{name}: masks of {masks.shape} for {len(tags)} tags on an image of "
            f"{image.shape[:2]} pixels: there must be one mask of the image's size per tag"
        )
    return Item(
        id=name,
        image=image,
        text=text,
        words=words,
        truth=truth_of(words, tags),
        stop=np.array([is_stopword(word) for word in words], dtype=bool),
        tags=tuple(tags),
        masks=masks,
    )


def load_heldout(root: str | Path, limit: int | None = None) -> list[Item]:
    """The images of a set in CC3M-TagMask's layout with masks, in the order of their ids.

    root: the folder of image/, json_refined/ID.json and mask_using_HQ-SAM/ID/TAG.png, or the folder
    above it (ROOT/cc3m_for_evaluation); limit: only the first so many images. Everything is held in
    memory: 500 images of 500 x 375 take about 0.5 GB. Raises TTDError where there is none, for an
    unreadable image and for a missing mask.
    """
    captions = _open(expanded(root))
    items = [_load(captions, record) for record in islice(captions.records.usable(), limit)]
    if not items:
        raise TTDError(
            f"{captions.root}: no captions to score a model on; "
            "tools/make_world.py --out FOLDER makes some"
        )
    return items


def heldout_sources(root: str | Path, limit: int | None = None) -> Iterator[Source]:
    """The records and true masks of `load_heldout`, to be found changed later."""
    captions = _open(expanded(root))
    for record in islice(captions.records.usable(), limit):
        yield record_source(record)
        for tag in record.tags or ():
            place = captions.mask_file(record, tag)
            yield f"{record.id}: {tag}", "", str(place), place


def unseen_items(root: str | Path, items: Sequence[Item]) -> list[Item]:
    """Those of a world's items that show a noun-colour pair which no training image has.

    [] for other sets. TTDError when ROOT/world.yaml is damaged.
    """
    path = expanded(root) / "world.yaml"
    if not path.is_file():
        return []
    unseen = read_yaml(path).get("unseen_ids") or {}
    return [item for item in items if item.id in unseen]


def _open(root: Path) -> CaptionSet:
    if (root / "json_refined").is_dir() and (root / MASKS_OF_TAGS).is_dir():
        return CaptionSet(root.name, root, open_records(root))
    return open_caption_set("CC3M", root)


def _load(captions: CaptionSet, record: Record) -> Item:
    image = read_record(record)
    if record.tags is None:
        raise TTDError(
            f"{captions.root}: {record.id} has no true tags; wanted "
            f'json_refined/{record.id}.json with {{"text": caption, "tags": [word, ...]}}'
        )
    masks = [captions.tag_mask(record, tag) for tag in record.tags]
    if any(mask.shape != image.shape[:2] for mask in masks):
        raise TTDError(
            f"{captions.root / MASKS_OF_TAGS / record.id}: a mask has another size than the "
            f"image ({image.shape[1]}x{image.shape[0]})"
        )
    stacked = np.stack(masks) if masks else np.zeros((0, *image.shape[:2]), bool)
    return make_item(record.id, image, record.text, record.tags, stacked)
