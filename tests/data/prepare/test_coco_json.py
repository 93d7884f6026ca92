"""COCO's json: every malformed entry is one line with its id, and nothing is written then."""

import json

import numpy as np
import pytest
from PIL import Image
from small_releases import make

from core.data.labels.datasets import open_dataset
from core.data.labels.mask_files import read_index
from core.data.prepare import make_plan
from core.data.prepare.coco_json import parse_instances
from core.errors import TTDError

BOX = [[2, 2, 6, 2, 6, 6, 2, 6]]
NAMES = {1: "person", 2: "bicycle"}


def content(annotation=(), image=(), **more):
    return {
        "images": [{"id": 7, "file_name": "7.jpg", "height": 8, "width": 10, **dict(image)}],
        "categories": [{"id": 1, "name": "person"}],
        "annotations": [
            {"id": 31, "image_id": 7, "category_id": 1, "segmentation": BOX, **dict(annotation)}
        ],
    } | more


def write(folder, value):
    (folder / "images").mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((8, 10, 3), np.uint8)).save(folder / "images/7.jpg")
    (folder / "instances.json").write_text(json.dumps(value))
    return folder / "instances.json"


@pytest.mark.parametrize(
    "wrong",
    [
        {"segmentation": None}, {"segmentation": [2, 2, 6, 2, 6, 6]},
        {"segmentation": [[2, 2, 6, 2, 6]]}, {"segmentation": [["2", "2", "6", "2", "6", "6"]]},
        {"segmentation": [[2, 2, float("nan"), 2, 6, 6]]},
        {"segmentation": [BOX[0], [2, 2, 4, 4]]}, {"segmentation": [[2, 2]]},
        {"segmentation": [[2, 2, 1e400, 2, 6, 6]]},
        {"segmentation": {"size": [8], "counts": [80]}}, {"segmentation": {"size": [8, 10]}},
        {"category_id": 91}, {"category_id": None}, {"category_id": [1]}, {"image_id": None},
    ],
)  # fmt: skip
def test_a_malformed_annotation_is_named(tmp_path, wrong):
    path = write(tmp_path, content(wrong))
    with pytest.raises(TTDError, match="annotation 31: ") as error:
        parse_instances(path, NAMES)
    assert "\n" not in str(error.value) and str(path) in str(error.value)


@pytest.mark.parametrize("wrong", [{"id": None}, {"id": "a1"}, {"id": True}, {"id": 1.5}])
def test_ids_that_are_none(tmp_path, wrong):
    with pytest.raises(TTDError, match="id is missing or no whole number"):
        parse_instances(write(tmp_path, content(wrong)), NAMES)


def test_without_an_id_the_place_is_named(tmp_path):
    value = content()
    del value["annotations"][0]["id"]
    with pytest.raises(TTDError, match=r"annotations\[0\]: id is missing"):
        parse_instances(write(tmp_path, value), NAMES)


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"height": None}, "image 7: height x width"), ({"width": 0}, "image 7: height x width"),
        ({"height": 10**6, "width": 10**6}, "image 7: height x width"),
        ({"file_name": None}, "image 7: file_name"), ({"file_name": "../x.jpg"}, "leaves the"),
        ({"file_name": "/etc/x.jpg"}, "leaves the"), ({"file_name": "a\0.jpg"}, "no file name"),
    ],
)  # fmt: skip
def test_a_malformed_image_is_named(tmp_path, wrong, message):
    with pytest.raises(TTDError, match=message):
        parse_instances(write(tmp_path, content(image=wrong)), NAMES)


@pytest.mark.parametrize("value", [[], {}, {"images": 3}, content(categories=[{"id": 1}]),
                                   content(annotations=[3]), content(images="x")])  # fmt: skip
def test_what_is_no_instances_json(tmp_path, value):
    with pytest.raises(TTDError):
        parse_instances(write(tmp_path, value), NAMES)


def test_deep_nesting_and_long_numbers(tmp_path):
    path = tmp_path / "a.json"
    for text in ("[" * 100_000, '{"images": ' + "9" * 10_000 + "}"):
        path.write_text(text)
        with pytest.raises(TTDError, match="no instances json"):
            parse_instances(path, NAMES)


@pytest.mark.parametrize("image, annotation", [(7, "7"), ("7", 7), ("7", "7"), ("a", "a")])
def test_ids_as_text_are_matched(tmp_path, image, annotation):
    value = content({"image_id": annotation}, {"id": image})
    write(tmp_path / "s", value)
    report = make("COCO2014", tmp_path / "s", tmp_path / "r")
    assert (report.made, report.failed) == (1, [])
    expected = np.zeros((8, 10), np.uint8)
    expected[2:6, 2:6] = 1
    item = open_dataset("COCO2014", tmp_path / "r").items()[0]
    assert read_index(item.mask).tolist() == expected.tolist()


def test_annotations_of_no_image_are_counted(tmp_path):
    value = content()
    value["annotations"].append(value["annotations"][0] | {"id": 32, "image_id": 99})
    write(tmp_path / "s", value)
    about = make_plan("COCO2014", tmp_path / "s", tmp_path / "r").about
    assert "1 annotations of images that it does not list" in about


def test_names_in_two_folders_are_refused_before_anything_is_written(tmp_path):
    value = content()
    value["images"] = [
        value["images"][0] | {"id": number, "file_name": name}
        for number, name in enumerate(("a/1.jpg", "b/1.jpg"))
    ]
    write(tmp_path / "s", value)
    with pytest.raises(TTDError, match="a/1.jpg and .*b/1.jpg"):
        make("COCO2014", tmp_path / "s", tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_an_image_of_another_size_than_the_json_says(tmp_path):
    write(tmp_path / "s", content(image={"height": 10, "width": 8}))
    report = make("COCO2014", tmp_path / "s", tmp_path / "r")
    assert report.made == 0 and "is 10x8, but 8x10 in the json" in report.failed[0]


def test_run_lengths_are_checked_with_the_annotation(tmp_path):
    for shape in ({"size": [8, 10], "counts": [3]}, {"size": [8, 10], "counts": "\u00e9"},
                  {"size": [80000, 80000], "counts": [1]},
                  {"size": [8, 10], "counts": [1.5, 78.5]}):  # fmt: skip
        write(tmp_path / "s", content({"segmentation": shape}))
        report = make("COCO2014", tmp_path / "s", tmp_path / "r")
        assert report.made == 0 and "annotation 31" in report.failed[0]
