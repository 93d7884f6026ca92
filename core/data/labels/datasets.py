"""Segmentation sets and the caption set with masks: their files, and what their labels mean.

`open_dataset` looks at folders only; mask values are checked as they are read
(core/data/labels/dataset_checks.py).
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...errors import TTDError
from ...utils.files import expanded, visible_names
from ...utils.shown import beginning
from ..records import Record, RecordSet, open_records
from .dataset_yaml import (
    IGNORED,
    NAMES,
    Palette,
    load_shipped,
    load_user,
    parse_background_threshold,
    parse_drawn,
    parse_labels,
    parse_palette,
    voc_palette,
)
from .mask_files import read_foreground
from .turned import turned_mask

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
CAPTION_NAMES = ("CC3M", "World")
CAPTION_FOLDER = "cc3m_for_evaluation"  # the layout of CC3M-TagMask
MASKS_OF_TAGS = "mask_using_HQ-SAM"  # in it: ID/TAG.png


@dataclass(frozen=True)
class Item:
    """An image of a set; `mask` is None where it has none."""

    id: str
    image: Path
    mask: Path | None


@dataclass(frozen=True)
class Dataset:
    """A segmentation set.

    images, masks: folders of ID.jpg (or another image) and ID.png; without masks nothing can be
    scored. classes: the N prompted classes in label order, "a|b" = synonyms; classes[0] has the
    label `first_label`. background: label 0 is a class of its own. rule: "threshold" (below
    `background_threshold` is background) or "none" (arg-max only). ignore: label that is never
    scored; zero_ignored: nor is label 0. palette: uint8 [256, 3] by label value. expected: number
    of images of the official set, where there is one. colours_known: masks with a palette have
    this set's; masks_drawn: see `parse_drawn`.
    """

    name: str
    images: Path
    masks: Path | None
    classes: tuple[str, ...]
    first_label: int
    background: bool
    rule: str
    background_threshold: float
    ignore: int = IGNORED
    zero_ignored: bool = False
    palette: Palette = field(default_factory=voc_palette, repr=False, compare=False)
    expected: int | None = None
    colours_known: bool = False
    masks_drawn: str | None = None

    @property
    def label_values(self) -> tuple[int, ...]:
        """The label values that are scored, background first where it is a class."""
        values = range(self.first_label, self.first_label + len(self.classes))
        return (0, *values) if self.background else tuple(values)

    @property
    def label_names(self) -> tuple[str, ...]:
        """Their names, as classes stand in the list."""
        return ("background", *self.classes) if self.background else self.classes

    @property
    def digest(self) -> str:
        """Changes with the classes, their order and what label 0 is."""
        labels = repr((self.classes, self.first_label, self.background))
        return hashlib.sha256(labels.encode()).hexdigest()[:16]

    def items(self) -> list[Item]:
        """All images, sorted by id, with their masks where there are any."""
        masks = self._mask_paths
        return [Item(key, path, masks.get(key)) for key, path in self._image_paths.items()]

    def describe(self) -> str:
        """What was found and what is missing, in one line."""
        images, masks = self._image_paths.keys(), self._mask_paths.keys()
        line = f"{self.name}: {len(images)} images in {self.images}, "
        classes = f"{len(self.classes)} classes"
        if len(self.label_values) == 1:
            classes = "one class and no background, so every pixel becomes it"
        if self.masks is None:
            return line + f"no masks, {classes}"
        line += (
            f"{len(masks)} masks, {classes}{' and background' * self.background}; "
            f"{_some(images - masks, 'images without a mask')}, "
            f"{_some(masks - images, 'masks without an image')}"
        )
        if self.expected is not None and len(images) != self.expected:
            line += f"; the official set has {self.expected} images"
        return line

    @cached_property
    def _image_paths(self) -> dict[str, Path]:
        return _files(self.images, SUFFIXES)

    @cached_property
    def _mask_paths(self) -> dict[str, Path]:
        return {} if self.masks is None else _files(self.masks, (".png",))


def open_dataset(name: str, root: str | Path = "..") -> Dataset:
    """The set `name` under its parent folder `root`, or that of a YAML file.

    VOC2012, for example, lies in ROOT/VOC2012/validation/{image,mask}; VOC20 reads VOC2012's
    folder, Context59 PascalContext's. World: ROOT/world/world.yaml, else ROOT/world.yaml, else
    ROOT/World/validation. Raises TTDError for an unknown name (all are listed), a folder that is
    missing or without images, and YAML files with something wrong.
    """
    path = expanded(name)
    if path.suffix.lower() in (".yaml", ".yml"):
        return _from_yaml(path)
    root = expanded(root)
    content = load_shipped(name)
    if name == "World":
        for place in (root / "world" / "world.yaml", root / "world.yaml"):
            if place.is_file():
                return _from_yaml(place)
    folder = root / content["folder"] / "validation"
    images, masks = folder / "image", folder / "mask"
    if not images.is_dir():
        raise TTDError(f"{images}: no such folder, so {name} is not there; {_how_to_make(name)}")
    given = masks if masks.is_dir() else None
    return _dataset(content, name, images, given, name)


def _how_to_make(name: str) -> str:
    if name == "World":
        return "make it with tools/make_world.py"
    tool = f"tools/prepare_dataset.py {name}"
    return f"make it with {tool}, or name the folder that holds it with --root"


def _from_yaml(path: Path) -> Dataset:
    content = load_user(path)
    images = path.parent / content["images"]
    masks = path.parent / content["masks"] if content.get("masks") else None
    for folder in (images, masks):
        if folder is not None and not folder.is_dir():
            hint = "; without ground truth, leave `masks` out" if folder == masks else ""
            raise TTDError(
                f"{path}: {folder} is no folder; paths are relative to the YAML file{hint}"
            )
    return _dataset(content, content.get("name") or path.stem, images, masks, path)


def _dataset(
    content: dict[str, Any], name: str, images: Path, masks: Path | None, where: str | Path
) -> Dataset:
    labels = parse_labels(content, where)
    dataset = Dataset(
        name,
        images,
        masks,
        background_threshold=parse_background_threshold(content, where),
        expected=content.get("expected"),
        rule="threshold" if labels["background"] else "none",
        palette=parse_palette(content, labels["first_label"], where),
        colours_known=where in NAMES or "palette" in content,
        masks_drawn=parse_drawn(content, where) or ("stored" if where in NAMES else None),
        **labels,
    )
    if not dataset._image_paths:
        raise TTDError(f"{images}: no images in this folder ({', '.join(SUFFIXES)})")
    return dataset


@dataclass(frozen=True)
class CaptionSet:
    """Captions with true tags and a mask for each tag; records: see core.data.records."""

    name: str
    root: Path
    records: RecordSet

    def describe(self) -> str:
        """What was found, in one line."""
        return self.records.description

    def tag_mask(self, record: Record, tag: str) -> npt.NDArray[np.bool_]:
        """The mask of one true tag on the upright image, bool [H, W].

        TTDError when it is missing, or of a turned image and not known to be turned as well.
        """
        path = self.mask_file(record, tag)
        mask = read_foreground(path)
        if not isinstance(record.image, Path):
            return mask
        return turned_mask(mask.astype(np.uint8), record.image, None, path, advice="").astype(bool)

    def mask_file(self, record: Record, tag: str) -> Path:
        """Where that mask is or would be."""
        return self.root / MASKS_OF_TAGS / record.id / f"{tag}.png"

    def truth_mask(self, record: Record) -> npt.NDArray[np.bool_]:
        """The foreground of a caption, bool [H, W]: union of its true tags' masks.

        Raises TTDError when a mask is missing, sizes differ, or the caption has no true tag.
        """
        if not record.tags:
            raise TTDError(
                f"{record.id}: no true tags, so no foreground; see json_refined/{record.id}.json"
            )
        masks = [self.tag_mask(record, tag) for tag in record.tags]
        if len({mask.shape for mask in masks}) > 1:
            shapes = zip(record.tags, (mask.shape for mask in masks), strict=True)
            sizes = ", ".join(f"{tag} {width}x{height}" for tag, (height, width) in shapes)
            raise TTDError(
                f"{self.root / MASKS_OF_TAGS / record.id}: masks of several sizes ({sizes})"
            )
        union: npt.NDArray[np.bool_] = np.logical_or.reduce(masks)
        return union


def open_caption_set(name: str = "CC3M", root: str | Path = "..") -> CaptionSet:
    """The caption set with masks: ROOT/cc3m_for_evaluation, for World in ROOT/world or ROOT.

    Raises TTDError for other names and when the folder or its masks are missing.
    """
    root = expanded(root)
    if name not in CAPTION_NAMES:
        raise TTDError(f"{name}: no caption set of this name; there are {', '.join(CAPTION_NAMES)}")
    place = root / CAPTION_FOLDER
    if name == "World" and (root / "world" / CAPTION_FOLDER).is_dir():
        place = root / "world" / CAPTION_FOLDER
    if not place.is_dir():
        raise TTDError(
            f"{place}: no such folder, so {name} is not there; --root is the folder that holds it"
        )
    if not (place / MASKS_OF_TAGS).is_dir():
        raise TTDError(f"{place}: no {MASKS_OF_TAGS} in it, so there is no truth to compare with")
    return CaptionSet(name, place, open_records(place))


def _files(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """The files of a folder by id, sorted by id. TTDError for two of one id."""
    files: dict[str, str] = {}
    for name in visible_names(folder):
        stem, ending = os.path.splitext(name)
        if ending.lower() in suffixes and files.setdefault(stem, name) != name:
            raise TTDError(f"{folder}: both {files[stem]} and {name}; keep one")
    return {stem: folder / name for stem, name in sorted(files.items())}


def _some(ids: set[str], what: str) -> str:
    """`no images without a mask`, or how many and the first few."""
    named = f" ({beginning(sorted(ids))})" if ids else ""
    return f"{len(ids) or 'no'} {what}{named}"


__all__ = [
    "CAPTION_NAMES",
    "NAMES",
    "CaptionSet",
    "Dataset",
    "Item",
    "open_caption_set",
    "open_dataset",
]
