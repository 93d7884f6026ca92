"""Readers to fuzz: lists of labels, releases of phrases with masks or boxes, predictions."""

import json

import numpy as np
from fuzzed import Reader, jsonl, stored
from small_multilabel import write_coco, write_nus, write_voc
from small_phrases import box_mask, narrative, results, write_png, write_saco

from core.data.multilabel import read_set
from core.data.multilabel.label_sets import LabelSet
from core.data.multilabel.own import read_own, with_list
from core.data.phrases.png import read_narratives
from core.data.phrases.ref_l4 import read_annotations, read_boxes
from core.data.phrases.saco import find_subsets, read_predictions, read_subset
from core.evaluation.multilabel.scoring import read_scores
from core.evaluation.phrases.png import masks_of, narrative_ious, read_masks
from core.evaluation.phrases.saco import score_subset

READERS: dict[str, Reader] = {}

LABELS = [{"image": "a.jpg", "labels": ["dog"], "ignored": ["cat"]}, {"image": "b", "labels": []}]
READERS["labels jsonl"] = Reader(stored("l.jsonl", jsonl(LABELS)), read_own, LABELS, lines=True)
READERS["labels csv"] = Reader(stored("l.csv", b"image,cat,dog\na.jpg,1,?\nb.jpg,0,1\n"), read_own)
READERS["labels txt"] = Reader(
    stored("l.txt", b"a 0 1\nb\n"), lambda path: read_own(path, ["cat", "dog"])
)


def voc_column(folder):
    return write_voc(folder) / "ImageSets/Main/dog_test.txt"


READERS["voc list"] = Reader(voc_column, lambda path: read_set("voc07", path.parents[2]))


def coco_file(folder):
    return write_coco(folder) / "annotations/instances_val2014.json"


def content_of(make):
    """The JSON that `make` writes, for changes of fields."""
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        return json.loads(make(Path(folder)).read_text())


READERS["coco labels"] = Reader(
    coco_file, lambda path: read_set("coco14", path.parents[1]), content_of(coco_file)
)


def nus_list(folder):
    return write_nus(folder) / "ImageList/TestImagelist.txt"


READERS["nus list"] = Reader(nus_list, lambda path: read_set("nus", path.parents[1]))


def array(folder):
    np.save(folder / "x_images.npy", np.array(["000001.jpg", "000004.jpg"]))
    np.save(folder / "x_labels.npy", np.eye(20)[:2])
    write_voc(folder)
    return folder / "x_labels.npy"


READERS["labels npy"] = Reader(array, lambda path: with_list(read_set("voc07", path.parent), path))

SCORES = [{"image": "a", "scores": {"cat": 0.5, "dog": 1}}]
ONE = LabelSet("own", "own", ("cat", "dog"), ("a",), (), ())
READERS["class scores"] = Reader(
    stored("s.jsonl", jsonl(SCORES)), lambda path: read_scores(path, ONE), SCORES, lines=True
)

MASK = box_mask(0, 0, 3, 4)


def saco_file(folder):
    place = write_saco(folder, {"a": {1: [MASK, (MASK, 1)]}}, {1: {}, 2: {}})
    return place / "gold_tiny_merged_a_release_test.json"


def score_saco(path):
    subset = read_subset("tiny", next(iter(find_subsets([path]).values())))
    score_subset(subset, {})


READERS["saco"] = Reader(saco_file, score_saco, content_of(saco_file))


def saco_found(folder):
    saco_file(folder)
    path = folder / "found.json"
    path.write_text(json.dumps(results({1: [MASK]})))
    return path


def score_found(path):
    subset = read_subset("tiny", find_subsets([path.parent])["tiny"])
    score_subset(subset, read_predictions(path))


READERS["saco predictions"] = Reader(saco_found, score_found, content_of(saco_found))
NARRATIVE = [narrative(("two dogs", [7, 300]), ("on", []), ("grass", ["70000"]))]


def png_file(folder):
    return write_png(folder, NARRATIVE) / "annotations/png_coco_val2017.json"


def panoptic_file(folder):
    return write_png(folder, NARRATIVE) / "annotations/panoptic_val2017.json"


def panoptic_png(folder):
    return next(write_png(folder, NARRATIVE).rglob("*.png"))


def png_masks(folder):
    write_png(folder, NARRATIVE)
    rows = [
        {"narrative": 0, "phrase": place, "segmentation": results({0: [MASK]})[0]["segmentation"]}
        for place in (0, 2)
    ]
    return stored("m.jsonl", jsonl(rows))(folder)


def score_narratives(path):
    predictions = read_masks(path)
    for one in read_narratives(path.parent).rows:
        narrative_ious(one, masks_of(one, predictions))


def read_truths(root):
    return [row.truths() for row in read_narratives(root).rows]


READERS["narratives"] = Reader(png_file, lambda path: read_truths(path.parents[1]), NARRATIVE)
READERS["panoptic json"] = Reader(
    panoptic_file, lambda path: read_truths(path.parents[1]), content_of(panoptic_file)
)
READERS["panoptic png"] = Reader(panoptic_png, lambda path: read_truths(path.parents[3]))
READERS["narrative masks"] = Reader(png_masks, score_narratives)

ROW = {"id": "1", "caption": "a", "bbox": [0, 0, 3, 4], "ori_category_id": "o365_1"}
REF = [{**ROW, "file_name": "x.jpg"}]
BOXES = [{"id": "1", "pred_bbox": [0, 0, 3, 4], "format": "xywh"}]
READERS["ref-l4 rows"] = Reader(
    stored("r.jsonl", jsonl(REF)), lambda path: read_annotations([path]), REF, lines=True
)
READERS["ref-l4 boxes"] = Reader(
    stored("b.json", json.dumps(BOXES).encode()), lambda path: read_boxes(path, ["1"]), BOXES
)
