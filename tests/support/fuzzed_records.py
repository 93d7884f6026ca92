"""Readers to fuzz: lists, captions, shards, phrases with boxes, COCO."""

import csv
import io
import json
import tarfile

import numpy as np
import torch
from fuzzed import Reader, beside_images, jsonl, stored
from small_records import picture, write

from core.data.grounding import read_phrases
from core.data.image_lists import list_images
from core.data.labels.rle import decode, encode
from core.data.prepare.coco import draw_instances, read_instances
from core.data.records import Record, open_records
from core.data.records.record import read_record
from core.errors import TTDError

READERS: dict[str, Reader] = {}

ROWS = [
    {"image": "a.png", "text": "a cat", "id": "one", "tags": ["cat"]},
    {"image": "images/b.png", "captions": ["a dog", "a cow"], "id": 7},
]


def read_pairs(path):
    """All records with their images; what cannot be used must be `Skipped` with id and reason."""
    found = list(open_records(path).iterate())
    for item in found:
        assert item.id and "\n" not in item.id
        item.id.encode()
        if not isinstance(item, Record):
            assert item.reason
            continue
        item.text.encode()
        try:
            read_record(item)
        except TTDError as error:
            assert str(error)
    assert len({item.id for item in found if isinstance(item, Record)}) == sum(
        isinstance(item, Record) for item in found
    )
    return found


READERS["records jsonl"] = Reader(
    beside_images("list.jsonl", jsonl(ROWS)), read_pairs, ROWS, lines=True
)
READERS["image list jsonl"] = Reader(
    beside_images("list.jsonl", jsonl(ROWS)), lambda path: list_images([path]), ROWS, lines=True
)
CAPTION = {"text": "a cat and &amp; a dog", "tags": ["cat", "dog"], "caption": "a cow"}


def captions_folder(folder):
    write(folder, {"image/a.png": picture(), "image/b.png": picture(), "json/b.json": CAPTION})
    return stored("json/a.json", json.dumps(CAPTION).encode())(folder)


READERS["caption json"] = Reader(captions_folder, lambda path: read_pairs(path.parents[1]), CAPTION)


def shard(folder):
    path = folder / "00000.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in (
            ("a.png", picture()),
            ("a.json", json.dumps(CAPTION).encode()),
            ("é" * 60 + ".png", picture(3)),
            ("é" * 60 + ".txt", b"a dog"),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


READERS["webdataset tar"] = Reader(shard, read_pairs)

PHRASES = [
    {"image": "a.png", "box": [0, 0, 2, 2], "text": "a cat", "id": "x", "clean": True},
    {"image": "b.png", "box": [0.5, 0, 2, 1.5], "text": "a dog"},
]


def read_boxes(path):
    read = read_phrases(path)
    return [phrase.row() for phrase in read.phrases], read.digest


READERS["phrases jsonl"] = Reader(
    beside_images("list.jsonl", jsonl(PHRASES)), read_boxes, PHRASES, lines=True
)


def csv_bytes():
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["image", "text", "left", "top", "right", "bottom"])
    writer.writerow(["a.png", 'a "big" cat', 0, 0, 2, 2])
    writer.writerow(["b.png", "a dog, here", 0, 0, 1, 1])
    return text.getvalue().encode()


READERS["phrases csv"] = Reader(beside_images("list.csv", csv_bytes()), read_boxes)


def label_list(folder):
    write(folder, {"a.png": picture(), "b.png": picture()})
    rows = [
        ("a.png", "m", torch.tensor([0.0, 0.0, 2.0, 2.0]), "a cat", None),
        ("b.png", "m", [0, 0, 1, 1], "a dog", [1]),
    ]
    torch.save(rows, folder / "list.pth")
    return folder / "list.pth"


READERS["phrases pth"] = Reader(label_list, read_boxes)

COCO = {
    "images": [{"id": 7, "file_name": "7.jpg", "height": 8, "width": 9}],
    "categories": [{"id": 1, "name": "person"}, {"id": 32, "name": "tie"}],
    "annotations": [
        {"image_id": 7, "id": 1, "category_id": 1, "segmentation": [[0, 0, 8, 0, 8, 7, 0, 7]]},
        {
            "image_id": 7,
            "id": 2,
            "category_id": 32,
            "segmentation": {"size": [8, 9], "counts": [10, 20, 42]},
        },
        {
            "image_id": 7,
            "id": 3,
            "category_id": 32,
            "segmentation": {"size": [8, 9], "counts": ":d0R1"},
        },
    ],
}


def read_coco(path):
    found = read_instances(path)
    for one in found.images:
        try:
            labels = draw_instances(found.objects.get(one.id, []), one.height, one.width)
        except TTDError:
            continue
        assert labels.shape == (one.height, one.width)
    return found


READERS["coco json"] = Reader(stored("i.json", json.dumps(COCO).encode()), read_coco, COCO)
RLE = encode(np.random.default_rng(0).random((5, 6)) > 0.5)


def read_rle(path):
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError):  # JSON is its reader's matter
        return None
    if not isinstance(content, dict):
        return None
    mask = decode(content)
    assert mask.dtype == bool and list(mask.shape) == [int(side) for side in content["size"]]
    return mask


READERS["rle"] = Reader(stored("rle.json", json.dumps(RLE).encode()), read_rle, RLE)
