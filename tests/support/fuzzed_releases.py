"""Readers to fuzz: releases of phrases with boxes."""

import json
import pickle

import numpy as np
from fuzzed import Reader, stored
from small_records import write

from core.data.prepare.grounding_releases import flickr_rows, read_reviews, refer_rows, referit_rows

READERS: dict[str, Reader] = {}

REFS = [
    {
        "split": "val",
        "ann_id": 5,
        "image_id": 7,
        "sentences": [{"sent_id": 0, "sent": "a cat"}, {"sent_id": 1, "sent": "it"}],
    }
]
INSTANCES = {
    "annotations": [{"id": 5, "bbox": [0, 0, 3, 2]}],
    "images": [{"id": 7, "file_name": "7.jpg"}],
}


def refer_release(folder):
    write(folder, {"refcoco/instances.json": INSTANCES})
    return stored("refcoco/refs(unc).p", pickle.dumps(REFS, protocol=2))(folder)


def rows_of(read, parents, dataset="unc"):
    def rows(path):
        for row in read(path.parents[parents], dataset, "val"):
            assert len(row["box"]) == 4 and all(np.isfinite(row["box"]))

    return rows


READERS["refer pickle"] = Reader(refer_release, rows_of(refer_rows, 1))


def refer_instances(folder):
    refer_release(folder)
    return folder / "refcoco/instances.json"


READERS["refer instances"] = Reader(refer_instances, rows_of(refer_rows, 1), INSTANCES)
QUERIES = {"7_1": ["a cat", "it"], "8_2": ["a dog"]}


def referit_release(folder):
    write(folder, {"referit_bbox.json": {"7_1": [0, 0, 3, 2], "8_2": [1, 1, 2, 2]}})
    return stored("referit_query_val.json", json.dumps(QUERIES).encode())(folder)


READERS["referit queries"] = Reader(referit_release, rows_of(referit_rows, 0, "referit"), QUERIES)


def referit_boxes(folder):
    referit_release(folder)
    return folder / "referit_bbox.json"


READERS["referit boxes"] = Reader(
    referit_boxes, rows_of(referit_rows, 0, "referit"), {"7_1": [0, 0, 3, 2], "8_2": [1, 1, 2, 2]}
)
XML = (
    b"<annotation><object><name>1</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>3</xmax>"
    b"<ymax>4</ymax></bndbox></object></annotation>"
)


def flickr_release(folder):
    files = {"val.txt": "12\n", "Sentences/12.txt": "[/EN#1/people A man] in [/EN#2/x a hat]\n"}
    write(folder, files)
    return stored("Annotations/12.xml", XML)(folder)


READERS["flickr xml"] = Reader(flickr_release, rows_of(flickr_rows, 1, "flickr"))


def flickr_sentences(folder):
    flickr_release(folder)
    return folder / "Sentences/12.txt"


READERS["flickr sentences"] = Reader(flickr_sentences, rows_of(flickr_rows, 1, "flickr"))


def flickr_ids(folder):
    flickr_release(folder)
    return folder / "val.txt"


READERS["flickr ids"] = Reader(flickr_ids, rows_of(flickr_rows, 0, "flickr"))
REVIEWS = [{"file_name": "a.jpg", "caption": "a cat", "clean": "yes"}]
READERS["reviews"] = Reader(
    stored("r.json", json.dumps(REVIEWS).encode()),
    lambda path: read_reviews(path, "clean", "yes"),
    REVIEWS,
)
