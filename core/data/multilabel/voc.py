"""PASCAL VOC 2007 test and 2012 val from ImageSets/Main: 1 there, -1 not there, 0 only difficult.

`diningtable_test.txt` holds a line `000001 -1` for every image of the split.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...errors import TTDError
from ...utils.files import bad_id, expanded, regular_text
from ...utils.shown import first_few
from .label_sets import LabelSet, Variant, plain_variant

CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip
# (year, scored split, split of the unlabelled images): PIAA's.
SPLITS = {"voc07": ("VOC2007", "test", "trainval"), "voc12": ("VOC2012", "val", "train")}
# Images and positives of the published lists.
PUBLISHED = {
    ("voc07", "PIAA"): (4952, 7013),
    ("voc07", "TagCLIP"): (4952, 7632),
    ("voc12", "PIAA"): (5823, 8351),
}

Numbers = npt.NDArray[np.int8]


def read_voc(root: str | Path, key: str) -> LabelSet:
    """The scored split of `voc07` or `voc12`.

    root: VOC2007 or VOC2012 itself, VOCdevkit, or the folder above that. TTDError naming the file
    and line: a wrong folder, other values than -1, 0 and 1, classes with other images.
    """
    year, split, train = SPLITS[key]
    place = _place(expanded(root), year, f"{CLASSES[0]}_{split}.txt")
    ids, marks = _marks(place / "ImageSets" / "Main", split)
    variants = [*_variants(key, marks)]
    if key == "voc12":
        variants += _of_segmentation(place, ids, marks)
    return LabelSet(
        key,
        f"{year} {split}",
        CLASSES,
        tuple(ids),
        tuple(_image(place, name) for name in ids),
        tuple(variants),
        tuple(_image(place, name) for name in _train_ids(place, train)),
    )


def _place(root: Path, year: str, wanted: str) -> Path:
    """The folder of one year's release."""
    for place in (root, root / year, root / "VOCdevkit" / year):
        if (place / "ImageSets" / "Main" / wanted).is_file():
            return place
    raise TTDError(
        f"{root}: no ImageSets/Main/{wanted} in it or in {year} below it; --root is the unpacked "
        f"release, VOCdevkit/{year}"
    )


def _marks(folder: Path, split: str) -> tuple[list[str], Numbers]:
    """Ids of the N images and their marks int8 [N, 20]."""
    columns = [_column(folder / f"{name}_{split}.txt") for name in CLASSES]
    ids = list(columns[0])
    for name, column in zip(CLASSES, columns, strict=True):
        if column.keys() != columns[0].keys():
            others = sorted(column.keys() ^ columns[0].keys())
            raise TTDError(
                f"{folder}/{name}_{split}.txt: other images than those of {CLASSES[0]} "
                f"({first_few(others, 3)}); unpack the release again"
            )
    return ids, np.array([[column[name] for column in columns] for name in ids], np.int8)


def _column(path: Path) -> dict[str, int]:
    """The mark of every image in one class's file."""
    found: dict[str, int] = {}
    for number, line in enumerate(regular_text(path).splitlines(), start=1):
        parts = line.split()
        if not parts:
            continue
        if len(parts) != 2 or parts[1] not in ("-1", "0", "1") or not _sound(parts[0]):
            raise TTDError(f"{path}:{number}: {line[:60]!r}; a line is an id and -1, 0 or 1")
        if parts[0] in found:
            raise TTDError(f"{path}:{number}: image {parts[0]} is listed twice")
        found[parts[0]] = int(parts[1])
    if not found:
        raise TTDError(f"{path}: no images in it; unpack the release again")
    return found


def _sound(name: str) -> bool:
    """Whether an id names a file of the images' folder."""
    return not bad_id(name) and "/" not in name and "\\" not in name and not name.startswith(".")


def _image(place: Path, name: str) -> Path:
    return place / "JPEGImages" / f"{name}.jpg"


def _variants(key: str, marks: Numbers) -> list[Variant]:
    """The three readings of the marks [N, 20]: PIAA's, TagCLIP's and VOC's own."""
    there, doubtful, rows = marks == 1, marks == 0, np.ones(len(marks), bool)
    return [
        plain_variant("PIAA", "difficult: not there", there, None, PUBLISHED[key, "PIAA"]),
        plain_variant(
            "TagCLIP", "difficult: there", there | doubtful, None, PUBLISHED.get((key, "TagCLIP"))
        ),
        Variant("VOC", "difficult: not scored", rows, there, ~doubtful),
    ]


def _of_segmentation(place: Path, ids: list[str], marks: Numbers) -> list[Variant]:
    """TagCLIP's voc2012 list: the images of the segmentation val split, where that is there."""
    path = place / "ImageSets" / "Segmentation" / "val.txt"
    if not path.is_file():
        return []
    chosen = set(regular_text(path).split())
    rows = np.array([name in chosen for name in ids], bool)
    if not rows.any():
        return []
    meaning = "segmentation val, difficult: there"
    return [plain_variant("TagCLIP 1,449", meaning, marks >= 0, rows)]


def _train_ids(place: Path, split: str) -> list[str]:
    """Ids of the training split, whose labels are not read; [] where it is not there."""
    path = place / "ImageSets" / "Main" / f"{split}.txt"
    names = regular_text(path).split() if path.is_file() else []
    for name in names:
        if not _sound(name):
            raise TTDError(f"{path}: {name[:60]!r} is no id of an image")
    return names
