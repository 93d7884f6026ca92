"""COCO's objects and COCO-Stuff into the readers' layout."""

import json
from pathlib import Path

import numpy as np
import pytest
from paths import ROOT
from PIL import Image
from small_releases import STUFF_UNUSED, box, instances, make, result, stuff_release

from core.data.labels.datasets import open_dataset
from core.data.prepare import make_plan, run_plan
from core.data.prepare.coco import draw_instances
from core.errors import TTDError

FACTS = ROOT / "tests/support/facts/coco_instances.json"


def relabelled(raw, new):
    """Lists of the new values, each looked up by itself."""
    return np.vectorize(new.__getitem__)(raw).tolist()


def test_coco_stuff_removes_the_gaps(tmp_path):
    used = [raw for raw in range(182) if raw not in STUFF_UNUSED]
    raw = stuff_release(tmp_path / "s", [0, 10, 12, 89, 91, 181, 255])
    report = make("COCO-Stuff", tmp_path / "s", tmp_path / "r")
    assert (report.made, report.failed) == (1, [])  # not the labelTrainIds beside it
    got = result("COCO-Stuff", tmp_path / "r")["000000000139"]
    new = {value: label for label, value in enumerate(used)} | {255: 255}
    assert got.tolist() == relabelled(raw, new)


def test_coco_objects_from_stuff_maps(tmp_path):
    things = [raw for raw in range(91) if raw not in STUFF_UNUSED]
    raw = stuff_release(tmp_path / "s", [0, 10, 12, 89, 91, 181, 255])
    plan = make_plan("COCO2014", tmp_path / "s", tmp_path / "r")
    assert "stuffthingmaps" in plan.about
    run_plan(plan)
    got = result("COCO2014", tmp_path / "r")["000000000139"]
    new = dict.fromkeys(range(256), 0) | {value: label for label, value in enumerate(things, 1)}
    assert got.tolist() == relabelled(raw, new)


def test_raw_values_that_cannot_be(tmp_path):
    stuff_release(tmp_path / "s", [11])
    report = make("COCO-Stuff", tmp_path / "s", tmp_path / "r")
    assert report.made == 0 and "value 11 is none of this release" in report.failed[0]


def test_coco_instances_smaller_on_top(tmp_path):
    small = {
        "category_id": 32,
        "segmentation": box(4, 4, 6, 8),
        "area": 9999,
    }  # the json's area is not used
    large = {"category_id": 1, "segmentation": box(2, 2, 12, 12), "area": 1}
    run_lengths = {
        "category_id": 90,
        "segmentation": {"size": [20, 30], "counts": [590, 10]},
        "iscrowd": 1,
        "area": 10,
    }
    for number, order in enumerate(([small, large, run_lengths], [run_lengths, large, small])):
        source = instances(tmp_path / f"s{number}", order)
        plan = make_plan("COCO2014", source, tmp_path / f"r{number}")
        assert "instances.json, smaller objects on top" in plan.about
        run_plan(plan)
        got = result("COCO2014", tmp_path / f"r{number}")["7"]
        want = np.zeros((20, 30), int)
        want[2:12, 2:12] = 1
        want[4:8, 4:6] = 28  # tie
        want[10:, 29] = 80
        assert got.tolist() == want.tolist()
        mark = json.loads((tmp_path / f"r{number}/COCO2014/validation/prepared.json").read_text())
        assert mark == {
            "set": "COCO2014",
            "split": "val",
            "made_from": "instances.json, smaller objects on top",
            "pictures": 1,
            "left_out": 0,
        }


def test_instances_and_stuff_are_not_mixed(tmp_path):
    source = instances(tmp_path / "s", [{"category_id": 1, "segmentation": box(0, 0, 5, 5)}])
    make("COCO2014", source, tmp_path / "r")
    stuff_release(source, [0, 91])
    with pytest.raises(
        TTDError, match="made from something else.*instances.json.*stuffthingmaps.*--overwrite"
    ):
        make("COCO2014", source, tmp_path / "r", objects="stuff")
    make("COCO2014", source, tmp_path / "r", objects="stuff", overwrite=True)
    assert (
        "stuff"
        in json.loads((tmp_path / "r/COCO2014/validation/prepared.json").read_text())["made_from"]
    )


def test_categories_of_another_json_are_refused(tmp_path):
    source = instances(tmp_path / "s", [])
    content = json.loads((source / "instances.json").read_text())
    content["categories"] = [{"id": 1, "name": "cat"}]
    (source / "instances.json").write_text(json.dumps(content))
    with pytest.raises(TTDError, match='category 1 "cat" is none of COCO.s 80'):
        make_plan("COCO2014", source, tmp_path / "r")
    (source / "instances.json").write_text("{}")
    with pytest.raises(TTDError, match="no instances json"):
        make_plan("COCO2014", source, tmp_path / "r")


def test_an_excerpt_of_coco(tmp_path):
    """Twelve images of the release, of their sizes but without their pixels."""
    content = json.loads(FACTS.read_text(encoding="utf-8"))
    source = tmp_path / "s"
    (source / "images").mkdir(parents=True)
    (source / "instances.json").write_text(json.dumps(content))
    for item in content["images"]:
        blank = np.zeros((item["height"], item["width"], 3), np.uint8)
        Image.fromarray(blank).save(source / "images" / item["file_name"])
    make("COCO2014", source, tmp_path / "r", link=True)
    got = result("COCO2014", tmp_path / "r")
    names = {category["id"]: category["name"] for category in content["categories"]}
    classes = open_dataset("COCO2014", tmp_path / "r").classes
    assert len(got) == len(content["images"]) == 12
    for item in content["images"]:
        labels = got[Path(item["file_name"]).stem]
        own = [a for a in content["annotations"] if a["image_id"] == item["id"]]
        drawn = {classes[label - 1] for label in np.unique(labels) if label}
        assert labels.shape == (item["height"], item["width"])
        assert drawn == {names[annotation["category_id"]] for annotation in own}


def test_no_annotations_is_all_background():
    assert not draw_instances([], 3, 4).any()


def test_names_of_images_may_begin_with_their_folder(tmp_path):
    source = instances(tmp_path / "s", [{"category_id": 1, "segmentation": box(2, 2, 12, 12)}])
    path = source / "instances.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    folder = next(place.name for place in source.iterdir() if place.is_dir())
    name = content["images"][0]["file_name"]
    content["images"][0]["file_name"] = f"{folder}/{name}"
    path.write_text(json.dumps(content), encoding="utf-8")
    report = run_plan(make_plan("COCO2014", source, tmp_path / "r"))
    assert (report.made, report.failed) == (1, [])
