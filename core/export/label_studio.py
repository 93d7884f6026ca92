"""Label Studio: tasks with predictions, to be imported and corrected, and the labelling interface.

https://labelstud.io/guide/predictions. Masks are brush strokes in its own run lengths, boxes are
in percent of the image's sides.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from ..utils.files import atomic
from .brush import brush_rle
from .source import Category, Picture, Region, Source
from .walk import Walk

TASKS, INTERFACE = "tasks.json", "interface.xml"
LOCAL = "/data/local-files/?d="  # of files in LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT
FROM, TO = "label", "image"


def write_label_studio(source: Source, out: Path, walk: Walk, url: str = LOCAL) -> None:
    """Write OUT/tasks.json and OUT/interface.xml. OSError when that fails.

    url: what stands before the (quoted) name of an image.
    """
    out.mkdir(parents=True, exist_ok=True)
    with atomic(out / INTERFACE, shared=True) as part:
        part.write_text(interface(source.categories, source.masks), encoding="utf-8")
    with atomic(out / TASKS, shared=True) as part, part.open("w", encoding="ascii") as file:
        comma = "\n"
        for picture, regions, name in walk(source):
            address = url + quote(name.encode("utf-8", "surrogateescape"))
            file.write(("[" if comma == "\n" else "") + comma)
            file.write(json.dumps(task(picture, regions, address)))
            comma = ",\n"
        file.write("[]\n" if comma == "\n" else "\n]\n")


def interface(categories: tuple[Category, ...], masks: bool) -> str:
    """The labelling interface of a project that can take these tasks."""
    kind = "BrushLabels" if masks else "RectangleLabels"
    lines = ["<View>", '  <Image name="image" value="$image" zoom="true"/>']
    lines.append(f"  <{kind} name={quoteattr(FROM)} toName={quoteattr(TO)}>")
    for one in categories:
        colour = "#{:02x}{:02x}{:02x}".format(*one.color)
        lines.append(f'    <Label value={quoteattr(one.name)} background="{colour}"/>')
    return "\n".join([*lines, f"  </{kind}>", "</View>"]) + "\n"


def task(picture: Picture, regions: list[Region], address: str) -> dict[str, Any]:
    """An image with one prediction that holds all its regions."""
    numbered = enumerate(regions, start=1)
    results = [result(f"{picture.number}-{k}", picture, region) for k, region in numbered]
    return {
        "data": {"image": address},
        "predictions": [{"model_version": "TTD", "result": results}],
    }


def result(number: str, picture: Picture, region: Region) -> dict[str, Any]:
    """A region of a prediction."""
    width, height, _ = picture.header
    mask = region.mask
    kind = "rectanglelabels" if mask is None else "brushlabels"
    value: dict[str, Any] = {kind: [region.category.name]}
    if mask is not None:
        value |= {"format": "rle", "rle": brush_rle(mask)}
    else:
        left, top, wide, high = region.box
        value |= {"x": 100 * left / width, "y": 100 * top / height, "rotation": 0}
        value |= {"width": 100 * wide / width, "height": 100 * high / height}
    entry = {
        "id": number,
        "type": kind,
        "from_name": FROM,
        "to_name": TO,
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": value,
    }
    if region.text:
        entry["meta"] = {"text": [region.text]}
    return entry
