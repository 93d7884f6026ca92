"""What the releases of phrases with boxes look like, and their rows, split by split.

refer     FOLDER/{refcoco,refcoco+,refcocog}/{refs(unc).p, refs(google).p, refs(umd).p,
          instances.json}: pickles of Python 2, read as data
referit   FOLDER/referit_{query_train,query_val,query_test,bbox}.json
flickr    FOLDER/{Sentences/ID.txt, Annotations/ID.xml, train.txt, val.txt, test.txt}
labels    FOLDER/SET/SET_SPLIT.pth: CLIP-VG's and TransVG's lists
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from ...errors import TTDError
from ...utils.files import regular_bytes, regular_text
from ...utils.json_lines import load_json
from ...utils.tensors.torch_files import read_torch_file
from ..grounding import Box, label_rows, whole_box
from ..grounding_sets import GroundingSet, grounding_set
from .places import read_split

Row = dict[str, Any]
REFER = {
    "unc": ("refcoco", "refs(unc).p"),
    "unc+": ("refcoco+", "refs(unc).p"),
    "gref": ("refcocog", "refs(google).p"),
    "gref_umd": ("refcocog", "refs(umd).p"),
}
PHRASE = re.compile(r"\[/EN#(\d+)/\S+ ([^\]]*)\]")
MOST_XML = 1 << 22  # bytes of an image's annotation
CROP = re.compile(r"(\d+)_\d+")
WHOLE = re.compile(r"[0-9]{1,9}")


def refer_rows(folder: Path, dataset: str, split: str) -> Iterator[Row]:
    """RefCOCO, RefCOCO+, RefCOCOg: a row for every sentence of every reference of the split.

    TTDError: files missing, or not of the release's form.
    """
    place, refs = REFER[dataset]
    instances = _json(folder / place / "instances.json")
    boxes = _by_id(instances, "annotations", "bbox", folder)
    names = _by_id(instances, "images", "file_name", folder)
    content = read_torch_file(folder / place / refs)
    if not isinstance(content.data, list):
        raise TTDError(f"{content.path}: holds no list of references")
    for number, ref in enumerate(content.data, start=1):
        where = f"{content.path}: reference {number}"
        try:
            if ref["split"] != split:
                continue
            box = whole_box(boxes[ref["ann_id"]], True, where)
            for sentence in ref["sentences"]:
                label = str(sentence["sent_id"])
                image = names[ref["image_id"]]
                yield {"id": label, "image": image, "box": list(box), "text": sentence["sent"]}
        except (KeyError, TypeError) as error:
            raise TTDError(f"{where}: not of the refer release's form ({error})") from None


def referit_rows(folder: Path, dataset: str, split: str) -> Iterator[Row]:
    """ReferItGame: phrases by region, "IMAGE_REGION", and the regions' corners.

    The corners count whole pixels, as the release has them.
    """
    queries = _json(folder / f"referit_query_{split}.json")
    boxes = dict(_items(_json(folder / "referit_bbox.json"), folder))
    for region, phrases in _items(queries, folder):
        match = CROP.fullmatch(region)
        if match is None or region not in boxes or not isinstance(phrases, list):
            raise TTDError(f"{folder}: region {region[:40]!r} has no image, box or phrases")
        box = list(whole_box(boxes[region], False, f"{folder}: region {region}"))
        for number, text in enumerate(phrases):
            name = f"{match[1]}.jpg"
            yield {"id": f"{region}_{number}", "image": name, "box": box, "text": text}


def flickr_rows(folder: Path, dataset: str, split: str) -> Iterator[Row]:
    """Flickr30k Entities: every phrase with a box; of several boxes the one around them all."""
    for name in read_split(folder / f"{split}.txt"):
        boxes = _entity_boxes(folder / "Annotations" / f"{name}.xml")
        sentences = _text(folder / "Sentences" / f"{name}.txt").split("\n")
        for line, sentence in enumerate(sentences):
            for number, (entity, text) in enumerate(PHRASE.findall(sentence)):
                if entity in boxes:
                    label, image = f"{name}_{line}_{number}", f"{name}.jpg"
                    box = list(boxes[entity])
                    yield {"id": label, "image": image, "box": box, "text": text}


def _entity_boxes(path: Path) -> dict[str, Box]:
    """The box around all boxes of each entity of an image, by its number."""
    try:
        data = regular_bytes(path, MOST_XML)
        if b"<!DOCTYPE" in data.upper() or b"\0" in data:
            raise TTDError(f"{path}: declares a document type, which the release never does")
        root = ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise TTDError(f"{path}: not XML ({error})") from None
    boxes: dict[str, Box] = {}
    for item in root.iter("object"):
        found = item.find("bndbox")
        if found is None:
            continue
        corners = [found.findtext(key, "") for key in ("xmin", "ymin", "xmax", "ymax")]
        if not all(WHOLE.fullmatch(corner.strip()) for corner in corners):
            raise TTDError(f"{path}: a box without its four numbers")
        left, top, right, bottom = (float(corner) for corner in corners)
        for name in item.findall("name"):
            box = boxes.get(str(name.text), (left, top, right, bottom))
            low = min(box[0], left), min(box[1], top)
            boxes[str(name.text)] = (*low, max(box[2], right), max(box[3], bottom))
    return boxes


def list_rows(folder: Path, dataset: str, split: str) -> Iterator[Row]:
    """The label lists of CLIP-VG and TransVG, read as data; the image's name and number as id."""
    known: GroundingSet = grounding_set(dataset)
    path = folder / dataset / f"{dataset}_{split}.pth"
    for number, row in enumerate(label_rows(path, known.xywh)):
        yield {"id": str(number), **row}


def release_of(folder: Path, dataset: str) -> Callable[[Path, str, str], Iterator[Row]]:
    """The reader for what lies in a folder. TTDError that lists what was looked for."""
    grounding_set(dataset)
    if (folder / dataset).is_dir() and any((folder / dataset).glob(f"{dataset}_*.pth")):
        return list_rows
    if dataset in REFER and (folder / REFER[dataset][0] / "instances.json").is_file():
        return refer_rows
    if dataset == "referit" and (folder / "referit_bbox.json").is_file():
        return referit_rows
    if dataset == "flickr" and (folder / "Sentences").is_dir():
        return flickr_rows
    raise TTDError(
        f"{folder}: holds no release of {dataset}; looked for {dataset}/{dataset}_SPLIT.pth, "
        "refcoco*/instances.json with refs(...).p, referit_bbox.json with "
        "referit_query_SPLIT.json, and Flickr30k Entities' Sentences/ and Annotations/"
    )


def read_reviews(path: Path, key: str, right: str) -> dict[tuple[str, str], bool]:
    """Ref-L4's reviewed lists: {(image file, phrase): whether the label is right}.

    A list of objects (or one under "annotations") with `file_name`, `caption` (or `sent`) and
    `key`, which has the value `right` where the label is right.
    Errors: TTDError: no such list, or no entry has the key.
    """
    content = _json(path)
    entries = content.get("annotations") if isinstance(content, dict) else content
    if not isinstance(entries, list):
        raise TTDError(f"{path}: no list of reviewed phrases")
    reviews = {}
    for entry in entries:
        if not isinstance(entry, dict) or key not in entry or "file_name" not in entry:
            continue
        text = str(entry.get("caption", entry.get("sent", ""))).strip().lower()
        reviews[Path(str(entry["file_name"])).name, text] = str(entry[key]) == right
    if not reviews:
        raise TTDError(f"{path}: no entry has file_name and {key}; name the key with --review-key")
    return reviews


def _json(path: Path) -> Any:
    return load_json(path, "check --source")


def _text(path: Path) -> str:
    try:
        return regular_text(path)
    except TTDError as error:
        raise TTDError(f"{error}; check --source") from None


def _by_id(content: Any, key: str, wanted: str, folder: Path) -> dict[Any, Any]:
    """{id: its `wanted` value} of a list in instances.json. TTDError."""
    if not isinstance(content, dict) or not isinstance(content.get(key), list):
        raise TTDError(f"{folder}: instances.json has no list of {key}")
    try:
        return {item["id"]: item[wanted] for item in content[key] if item["id"] is not None}
    except (KeyError, TypeError):
        raise TTDError(f"{folder}: {key} of instances.json without id or {wanted}") from None


def _items(content: Any, folder: Path) -> list[tuple[str, Any]]:
    if not isinstance(content, dict):
        raise TTDError(f"{folder}: phrases or boxes are no mapping from regions")
    return list(content.items())
