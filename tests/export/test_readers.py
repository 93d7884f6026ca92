"""Exports read by the tools that they are for: pycocotools, Datumaro, Label Studio, supervision.

None is a dependency: `pip install -r requirements-export-test.txt` brings them.
"""

import json
import warnings
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image
from small_results import BOXES, NAMES, label_maps, write_boxes, write_labels

from core.export.formats import FORMATS, export, open_source

pytestmark = pytest.mark.slow
WHY = "{} is not installed: pip install -r requirements-export-test.txt"


def needs(name):
    return pytest.importorskip(name, reason=WHY.format(name))


def export_all(place, result):
    for form in FORMATS:
        assert not export(form, open_source(result), place / form).problems
    return place


@pytest.fixture(scope="module")
def masks(tmp_path_factory):
    place = tmp_path_factory.mktemp("masks")
    return export_all(place, write_labels(place))


@pytest.fixture(scope="module")
def boxes(tmp_path_factory):
    place = tmp_path_factory.mktemp("boxes")
    return export_all(place, write_boxes(place))


def classes_in(name):
    return [value for value in np.unique(label_maps()[name]).tolist() if value not in (0, 255)]


def test_pycocotools_reads_masks_boxes_and_areas(masks):
    coco = needs("pycocotools.coco").COCO(str(masks / "coco/annotations/instances_default.json"))
    coder = needs("pycocotools.mask")
    truth = label_maps()
    assert len(coco.getImgIds()) == len(NAMES)
    for image in coco.loadImgs(coco.getImgIds()):
        own = coco.loadAnns(coco.getAnnIds(image["id"]))
        assert [one["category_id"] for one in own] == classes_in(image["file_name"])
        for one in own:
            want = truth[image["file_name"]] == one["category_id"]
            rle = coco.annToRLE(one)
            assert (coco.annToMask(one) == want).all()
            assert coder.area(rle) == one["area"] == want.sum()
            assert coder.toBbox(rle).tolist() == [float(value) for value in one["bbox"]]


def test_pycocotools_scores_an_export_against_itself(masks):
    """COCOeval takes it as ground truth, and its own regions as a detector's: all are right."""
    path = masks / "coco/annotations/instances_default.json"
    coco = needs("pycocotools.coco").COCO(str(path))
    keys = ("image_id", "category_id", "segmentation", "bbox")
    annotations = json.loads(path.read_text())["annotations"]
    found = [{"score": 1, **{key: one[key] for key in keys}} for one in annotations]
    for kind in ("segm", "bbox"):
        measure = needs("pycocotools.cocoeval").COCOeval(coco, coco.loadRes(found), kind)
        measure.evaluate(), measure.accumulate(), measure.summarize()
        assert measure.stats[0] == pytest.approx(1.0)


def test_datumaro_reads_coco(masks):
    dataset = needs("datumaro").Dataset.import_from(str(masks / "coco"), "coco")
    truth = {name.rsplit(".", 1)[0]: labels for name, labels in label_maps().items()}
    assert {item.id for item in dataset} == set(truth)
    for item in dataset:
        seen = [one for one in item.annotations if one.type.name == "mask"]
        want = [v for v in np.unique(truth[item.id]).tolist() if v not in (0, 255)]
        assert len(seen) == len(want)
        for one, value in zip(sorted(seen, key=lambda one: one.label), want, strict=True):
            assert (np.asarray(one.image, bool) == (truth[item.id] == value)).all()


STEMS = {"a_b": "a b.png", "it's": "it's.webp", "turned": "turned.jpg"}


def test_datumaro_reads_voc(masks):
    dataset = needs("datumaro").Dataset.import_from(str(masks / "voc"), "voc")
    labels = dataset.categories()[list(dataset.categories())[0]]
    items = {item.id: item for item in dataset}
    assert len(items) == len(NAMES) and set(STEMS) <= set(items)
    for stem, name in STEMS.items():
        truth = label_maps()[name]
        assert items[stem].media.data.shape[:2] == truth.shape
        for one in items[stem].annotations:
            place = [k for k, label in enumerate(labels.items) if k == one.label][0]
            if one.type.name == "mask" and 0 < place < 7:
                assert (np.asarray(one.image, bool) == (truth == place)).all()
        kinds = [one.type.name for one in items[stem].annotations]
        assert kinds.count("bbox") == len(classes_in(name))


def test_supervision_reads_coco_with_masks(masks):
    sv = needs("supervision")
    folder = masks / "supervision"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = sv.DetectionDataset.from_coco(
            str(folder / "images"), str(folder / "annotations.json"), force_masks=True
        )
    assert len(dataset) == len(NAMES)
    seen = 0
    for path, image, found in dataset:
        name = STEMS.get(path.rsplit("/", 1)[1].rsplit(".", 1)[0])
        if name is None:
            continue
        truth, seen = label_maps()[name], seen + 1
        assert image.shape[:2] == truth.shape
        for mask, value in zip(found.mask, classes_in(name), strict=True):
            assert (mask == (truth == value)).all()
    assert seen == len(STEMS)


def test_supervision_reads_voc_boxes(masks):
    sv = needs("supervision")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = sv.DetectionDataset.from_pascal_voc(
            str(masks / "voc/JPEGImages"), str(masks / "voc/Annotations")
        )
    for path, _, found in dataset:
        name = STEMS.get(path.rsplit("/", 1)[1].rsplit(".", 1)[0])
        if name is None:
            continue
        for box, value in zip(found.xyxy.tolist(), classes_in(name), strict=True):
            rows, columns = np.nonzero(label_maps()[name] == value)
            want = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert box == [float(edge) for edge in want]


def test_label_studios_decoder_reads_the_strokes(masks):
    """Its own reader of brush strokes; the alpha channel is the mask."""
    brush = needs("label_studio_sdk.converter.brush")
    for task in json.loads((masks / "label-studio/tasks.json").read_text()):
        for region in task["predictions"][0]["result"]:
            size = region["original_height"], region["original_width"], 4
            alpha = brush.decode_rle(region["value"]["rle"]).reshape(size)[..., 3]
            name = next(n for n, a in label_maps().items() if a.shape == size[:2])
            names = ["cat", 'a "dog" & <b>', "bus: red", "猫", "Cat (2)"]
            value = 1 + names.index(region["value"]["brushlabels"][0])
            assert ((alpha > 0) == (label_maps()[name] == value)).all()


@pytest.mark.parametrize("kind", ["masks", "boxes"])
def test_label_studios_interface_takes_the_tasks(request, kind):
    folder = request.getfixturevalue(kind) / "label-studio"
    objects = needs("label_studio_sdk.label_interface")
    face = objects.LabelInterface((folder / "interface.xml").read_text("utf-8"))
    tasks = json.loads((folder / "tasks.json").read_text())
    for task in tasks:
        assert face.validate_task({"data": task["data"]})
        for prediction in task["predictions"]:
            assert face.validate_prediction(prediction)
    assert len(tasks) == (len(NAMES) if kind == "masks" else len(BOXES))


def test_boxes_open_everywhere(boxes):
    coco = needs("pycocotools.coco").COCO(str(boxes / "coco/annotations/instances_default.json"))
    assert sorted(one["bbox"] for one in coco.loadAnns(coco.getAnnIds())) == [
        [0, 0, 30, 20], [0, 4.0, 5.5, 21.0], [2.5, 3.25, 7.5, 9.5],
    ]  # fmt: skip
    sv = needs("supervision")
    folder = boxes / "supervision"
    dataset = sv.DetectionDataset.from_coco(
        str(folder / "images"), str(folder / "annotations.json")
    )
    assert sum(len(found) for _, _, found in dataset) == 3
    items = needs("datumaro").Dataset.import_from(str(boxes / "voc"), "voc")
    found = [one for item in items for one in item.annotations if one.type.name == "bbox"]
    assert len(found) == 3
    for path in (boxes / "voc/Annotations").iterdir():
        size = ET.parse(path).find("size")
        image = Image.open(next((boxes / "voc/JPEGImages").glob(f"{path.stem}.*")))
        assert (int(size.findtext("width")), int(size.findtext("height"))) == image.size
