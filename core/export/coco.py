"""COCO's annotation files: images and classes with integer ids, boxes, masks as run lengths.

https://cocodataset.org/#format-data. One annotation for every class in an image: semantic masks
have no instances.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..data.labels.rle import compress
from ..utils.files import atomic
from .source import Category, Region, Source
from .walk import Walk

NAME = Path("annotations") / "instances_default.json"


def write_coco(source: Source, out: Path, walk: Walk) -> None:
    """Write OUT/annotations/instances_default.json. OSError when that fails.

    The images stay where they are, `file_name` is relative to their folder; OUT/images is empty,
    for those tools that look for it.
    """
    (out / "images").mkdir(parents=True, exist_ok=True)
    write_annotations(source, out / NAME, walk)


def write_annotations(source: Source, path: Path, walk: Walk) -> None:
    """One file with "categories", "annotations" and "images", written as it goes.

    Plain ASCII, so that readers which do not ask for UTF-8 take it too.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    images: list[str] = []
    with atomic(path, shared=True) as part, part.open("w", encoding="ascii") as file:
        head: dict[str, Any] = {"info": {"description": "made by TTD"}, "licenses": []}
        head["categories"] = [category_entry(one) for one in source.categories]
        file.write(json.dumps(head)[:-1] + ', "annotations": [')
        count = 0
        for picture, regions, name in walk(source):
            width, height, _ = picture.header
            entry = {"id": picture.number, "file_name": name, "width": width, "height": height}
            images.append(json.dumps(entry))
            for region in regions:
                comma = ",\n" if count else "\n"
                count += 1
                file.write(comma + json.dumps(annotation(count, picture.number, region)))
        file.write('],\n"images": [\n' + ",\n".join(images) + "]}\n")


def category_entry(category: Category) -> dict[str, Any]:
    """A class; its colour as [red, green, blue], its value in label maps where it has one."""
    entry = {"id": category.id, "name": category.name, "supercategory": ""}
    if category.value is not None:
        entry["label_value"] = category.value
    return {**entry, "color": list(category.color)}


def annotation(number: int, image: int, region: Region) -> dict[str, Any]:
    """A region; of masks with COCO's compressed run lengths, of boxes with none."""
    entry: dict[str, Any] = {
        "id": number,
        "image_id": image,
        "category_id": region.category.id,
        "bbox": list(region.box),
        "area": region.area,
        "iscrowd": 0,
    }
    mask = region.mask
    entry["segmentation"] = [] if mask is None else compress(mask)
    if region.text:
        entry["caption"] = region.text
    return entry


__all__ = ["NAME", "annotation", "category_entry", "write_annotations", "write_coco"]
