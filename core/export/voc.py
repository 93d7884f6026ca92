"""The layout of Pascal VOC: images, boxes as XML, label maps as index PNGs, lists of ids.

OUT/JPEGImages/ID.jpg (or .png)      a copy, upright
OUT/Annotations/ID.xml               a box per class or phrase, from 1, both ends included
OUT/SegmentationClass/ID.png         0 background, 1 ... the classes in order, 255 void
OUT/ImageSets/{Main,Segmentation}/default.txt, OUT/labelmap.txt
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
import numpy.typing as npt

from ..data.labels.dataset_yaml import voc_palette
from ..errors import TTDError
from ..masks.writer import save_mask
from ..utils.files import atomic
from ..utils.shown import visible
from .names import distinct, plain_label
from .source import VOID, Box, Picture, Region, Source, read_labels
from .walk import Walk

Labels = npt.NDArray[np.uint8]
OWN = ("background", "ignored")  # labels that are in every labelmap.txt
IMAGES, BOXES, MASKS, SETS = "JPEGImages", "Annotations", "SegmentationClass", "ImageSets"


def write_voc(source: Source, out: Path, walk: Walk) -> None:
    """Write all files. OSError when that fails; TTDError: more classes than 8 bits hold.

    A label's name has no blanks or punctuation here: labelmap.txt is cut at them.
    """
    if source.masks and len(source.categories) >= VOID:
        raise TTDError(f"{len(source.categories)} classes; VOC's label maps hold {VOID - 1}")
    named = map(plain_label, (one.name for one in source.categories))
    labels = distinct([*OWN, *named], "-{}")[len(OWN) :]
    names = dict(zip((one.id for one in source.categories), labels, strict=True))
    for name in (IMAGES, BOXES, f"{SETS}/Main", *[MASKS, f"{SETS}/Segmentation"] * source.masks):
        (out / name).mkdir(parents=True, exist_ok=True)
    walk.folder = out / IMAGES
    stems = []
    for picture, regions, name in walk(source):
        stem = Path(name).stem
        stems.append(stem)
        _write(out / BOXES / f"{stem}.xml", annotation(picture, regions, name, names))
        if source.masks:
            path = out / MASKS / f"{stem}.png"
            save_mask(path, label_map(source, picture), voc_palette())
    _write(out / "labelmap.txt", labelmap(labels))
    for kind in ("Main", *["Segmentation"] * source.masks):
        _write(out / SETS / kind / "default.txt", "".join(f"{stem}\n" for stem in stems))


def _write(path: Path, text: str) -> None:
    with atomic(path, shared=True) as part:
        part.write_text(text, encoding="utf-8")


def labelmap(labels: Sequence[str]) -> str:
    """The classes with VOC's colours, as CVAT and Datumaro read them."""
    lines = ["# label:color_rgb:parts:actions"]
    colours = voc_palette().tolist()
    background, ignored = OWN
    named = [(background, colours[0]), *zip(labels, colours[1:], strict=False)]
    for name, colour in [*named, (ignored, colours[VOID])]:
        lines.append(f"{name}:{','.join(map(str, colour))}::")
    return "\n".join(lines) + "\n"


def label_map(source: Source, picture: Picture) -> Labels:
    """The classes of an image by their place, uint8 [H, W]; where several say more, the last one.

    0 where nothing is marked, 255 where a label map says so.
    """
    width, height, _ = picture.header
    found = np.zeros((height, width), np.uint8)
    table = np.zeros(256, np.uint8)
    table[VOID] = VOID
    for place, one in enumerate(source.categories, start=1):
        table[one.value or 0] = place
    for item in picture.items:
        own = table[read_labels(item, picture)]
        found = np.where(own > 0, own, found)
    return found


def annotation(
    picture: Picture, regions: Sequence[Region], name: str, names: dict[int, str]
) -> str:
    """The XML of an image. names: of the classes by id."""
    width, height, _ = picture.header
    lines = [
        "<annotation>",
        f"  <folder>{IMAGES}</folder>",
        f"  <filename>{_text(name)}</filename>",
        "  <source><database>TTD</database></source>",
        f"  <size><width>{width}</width><height>{height}</height><depth>3</depth></size>",
        f"  <segmented>{int(any(one.labels is not None for one in regions))}</segmented>",
    ]
    for region in regions:
        left, top, right, bottom = corners(region.box, width, height)
        lines += [
            "  <object>",
            f"    <name>{_text(names[region.category.id])}</name>",
            "    <pose>Unspecified</pose>",
            "    <truncated>0</truncated>",
            "    <difficult>0</difficult>",
            "    <occluded>0</occluded>",
            f"    <bndbox><xmin>{left}</xmin><ymin>{top}</ymin>"
            f"<xmax>{right}</xmax><ymax>{bottom}</ymax></bndbox>",
            "  </object>",
        ]
    return "\n".join([*lines, "</annotation>"]) + "\n"


def corners(box: Box, width: int, height: int) -> tuple[int, int, int, int]:
    """The first and last pixels that a box touches, counted from 1: (left, top, right, bottom)."""
    left, top, wide, high = box
    first = (min(math.floor(left), width - 1) + 1, min(math.floor(top), height - 1) + 1)
    last = (math.ceil(round(left + wide, 6)), math.ceil(round(top + high, 6)))
    return (*first, max(first[0], last[0]), max(first[1], last[1]))


def _text(text: str) -> str:
    return escape(visible(text))
