"""PASCAL VOC, PASCAL Context, ADE20K and Cityscapes into the readers' layout."""

import numpy as np
import pytest
from PIL import Image
from small_releases import (
    SIZE,
    cityscapes_release,
    context_release,
    make,
    mask,
    picture,
    result,
    values_of,
    voc_release,
)

from core.data.labels.dataset_checks import read_truth
from core.data.labels.dataset_yaml import load_shipped, voc_palette
from core.data.labels.datasets import open_dataset
from core.data.labels.mask_files import read_index
from core.data.prepare import make_plan
from core.errors import TTDError
from core.evaluation.label_maps import evaluate


def test_voc_from_every_place_people_point_at(tmp_path):
    truths = voc_release(tmp_path / "s")
    for number, source in enumerate(("s", "s/VOCdevkit", "s/VOCdevkit/VOC2012")):
        root = tmp_path / f"r{number}"
        report = make("VOC2012", tmp_path / source, root)
        assert (report.made, report.kept, report.failed) == (2, 0, [])
        got = result("VOC2012", root)
        assert got.keys() == truths.keys() and all(
            np.array_equal(got[key], truths[key]) for key in truths
        )
        made = Image.open(root / "VOC2012/validation/mask/2007_1.png")
        assert made.mode == "P" and bytes(made.getpalette()) == voc_palette().tobytes()
        original = tmp_path / "s/VOCdevkit/VOC2012/JPEGImages/2007_1.jpg"
        assert (root / "VOC2012/validation/image/2007_1.jpg").read_bytes() == original.read_bytes()


def test_ade_values_as_they_are(tmp_path):
    base = tmp_path / "s" / "ADEChallengeData2016"
    picture(base / "images/validation/ADE_val_1.jpg")
    picture(base / "images/training/ADE_train_1.jpg")
    want = mask(base / "annotations/validation/ADE_val_1.png", values_of([0, 1, 8, 150]))
    mask(base / "annotations/training/ADE_train_1.png", values_of([3]))
    make("ADE2016", tmp_path / "s", tmp_path / "r")
    got = result("ADE2016", tmp_path / "r")
    assert list(got) == ["ADE_val_1"] and np.array_equal(got["ADE_val_1"], want)
    data = open_dataset("ADE2016", tmp_path / "r")
    assert set(np.unique(read_truth(data, data.items()[0]))) == {1, 8, 150, 255}
    make("ADE2016", base, tmp_path / "r", split="train")
    assert (tmp_path / "r/ADE2016/train/mask/ADE_train_1.png").is_file()


def test_cityscapes_label_ids_by_the_standard_table(tmp_path):
    raw = cityscapes_release(tmp_path / "s", "labelIds", range(34))
    make("Cityscapes", tmp_path / "s", tmp_path / "r")
    got = result("Cityscapes", tmp_path / "r")["ulm_000000_000019"]
    train = {
        7: "road",
        8: "sidewalk",
        11: "building",
        12: "wall",
        13: "fence",
        17: "pole",
        19: "traffic light",
        20: "traffic sign",
        21: "vegetation",
        22: "terrain",
        23: "sky",
        24: "person",
        25: "rider",
        26: "car",
        27: "truck",
        28: "bus",
        31: "train",
        32: "motorcycle",
        33: "bicycle",
    }
    classes = open_dataset("Cityscapes", tmp_path / "r").classes
    for value, label in zip(raw.ravel().tolist(), got.ravel().tolist(), strict=True):
        assert (classes[label] == train[value]) if value in train else label == 255
    assert (tmp_path / "r/Cityscapes/validation/image/ulm_000000_000019.png").is_file()


def test_cityscapes_train_ids_stay(tmp_path):
    want = cityscapes_release(tmp_path / "s", "labelTrainIds", [*range(19), 255])
    make("Cityscapes", tmp_path / "s", tmp_path / "r")
    assert np.array_equal(result("Cityscapes", tmp_path / "r")["ulm_000000_000019"], want)


def test_pascal_context_459_classes(tmp_path):
    savemat = pytest.importorskip(
        "scipy.io", reason="scipy writes the .mat file of this test"
    ).savemat
    context_release(tmp_path / "s")
    (tmp_path / "s/trainval").mkdir()
    raw = np.resize(np.array([0, 1, 2, 9, 284, 431, 458, 459], np.uint16), SIZE)
    for key in ("a", "b"):
        savemat(tmp_path / f"s/trainval/{key}.mat", {"LabelMap": raw})
    make("PascalContext", tmp_path / "s", tmp_path / "r")
    got = result("PascalContext", tmp_path / "r")
    kept = {
        0: 0,
        2: 1,
        9: 2,
        284: 37,
        458: 59,
    }  # aeroplane, bag, person, wood; every other one is background
    assert list(got) == ["a", "b"]
    assert got["a"].tolist() == np.vectorize(lambda value: kept.get(value, 0))(raw).tolist()
    classes = load_shipped("PascalContext")["classes"]
    assert [classes[label - 1] for label in (1, 2, 37, 59)] == [
        "aeroplane",
        "bag",
        "person",
        "wood",
    ]


def test_pascal_context_converted_before(tmp_path):
    base = context_release(tmp_path / "s")
    want = mask(base / "SegmentationClassContext/a.png", values_of([0, 1, 59, 255]))
    make("PascalContext", tmp_path / "s", tmp_path / "r")
    assert np.array_equal(result("PascalContext", tmp_path / "r")["a"], want)


def test_scipy_is_asked_for_only_here(tmp_path, monkeypatch):
    import sys

    context_release(tmp_path / "s")
    (tmp_path / "s/trainval").mkdir()
    (tmp_path / "s/trainval/a.mat").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    report = make("PascalContext", tmp_path / "s", tmp_path / "r")
    assert report.made == 0 and "need scipy: pip install scipy" in report.failed[0]


@pytest.mark.parametrize(
    "name, wanted",
    [
        ("VOC2012", "JPEGImages/ and SegmentationClass/.*there is: readme"),
        ("ADE2016", "images/ and annotations/"),
        ("Cityscapes", "leftImg8bit/val/"),
        ("COCO2014", "instances_val2014.json.*nor stuffthingmaps"),
        ("COCO-Stuff", "stuffthingmaps/val2017"),
        ("PascalContext", "JPEGImages"),
        ("VOC20", "prepare that"),
        ("World", "no converter.*YAML"),
    ],
)
def test_what_was_looked_for_is_said(tmp_path, name, wanted):
    (tmp_path / "readme").write_text("x")
    with pytest.raises(TTDError, match=wanted) as caught:
        make_plan(name, tmp_path, tmp_path / "r")
    assert "\n" not in str(caught.value)
    with pytest.raises(TTDError):
        make_plan(name, tmp_path / "absent", tmp_path / "r")


def test_an_empty_or_absent_list_names_the_others(tmp_path):
    voc_release(tmp_path)
    lists = tmp_path / "VOCdevkit/VOC2012/ImageSets/Segmentation"
    with pytest.raises(
        TTDError, match=r"(?i)train.txt.*no such file.*there are val: choose one with --split"
    ):
        make_plan("VOC2012", tmp_path, tmp_path / "r", split="train")
    (lists / "val.txt").rename(lists / "trainaug.txt")
    (lists / "val.txt").write_text("\n")
    with pytest.raises(
        TTDError, match=r"val.txt: an empty list; there are trainaug: choose one with --split"
    ):
        make_plan("VOC2012", tmp_path, tmp_path / "r")


def test_another_split_may_be_made_the_validation_set(tmp_path):
    truths = voc_release(tmp_path / "s")
    lists = tmp_path / "s/VOCdevkit/VOC2012/ImageSets/Segmentation"
    (lists / "val.txt").rename(lists / "trainaug.txt")
    make("VOC2012", tmp_path / "s", tmp_path / "r", split="trainaug", to="validation")
    assert result("VOC2012", tmp_path / "r").keys() == truths.keys()


def test_the_masks_are_a_perfect_prediction_and_moved_down_they_are_not(tmp_path):
    for path, labels in voc_release(tmp_path / "s").items():
        large = np.kron(labels, np.ones((8, 8), np.uint8))
        mask(tmp_path / f"s/VOCdevkit/VOC2012/SegmentationClass/{path}.png", large, palette=True)
    make("VOC2012", tmp_path / "s", tmp_path)
    data = open_dataset("VOC2012", tmp_path)
    assert evaluate(data, data.masks).scores.means == (1, 0, 0)
    for item in data.items():
        mask(tmp_path / "moved" / item.mask.name, np.roll(read_index(item.mask), 2, axis=0))
    iou, fpr, fnr = evaluate(data, tmp_path / "moved").scores.means
    assert 0.2 < iou < 0.95 and iou + fpr + fnr == pytest.approx(1)


def test_labels_that_were_converted_already_are_refused(tmp_path):
    """detectron2's ADE20K: 1-150 became 0-149, and 0 became 255."""
    base = tmp_path / "s/ADEChallengeData2016"
    for number, labels in enumerate(([0, 5, 149], [255, 3])):
        picture(base / f"images/validation/{number}.jpg")
        mask(base / f"annotations/validation/{number}.png", values_of(labels))
    with pytest.raises(TTDError, match="converted already"):
        make("ADE2016", tmp_path / "s", tmp_path / "r")
    assert not (tmp_path / "r").exists()
    cityscapes_release(tmp_path / "c", "labelIds", [0, 18, 255])
    with pytest.raises(TTDError, match="converted already"):
        make("Cityscapes", tmp_path / "c", tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_lists_with_a_byte_order_mark_and_odd_ids(tmp_path):
    truths = voc_release(tmp_path / "s")
    lists = tmp_path / "s/VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt"
    lists.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(truths).encode())
    report = make("VOC2012", tmp_path / "s", tmp_path / "r")
    assert (report.made, report.failed) == (2, [])
    for name in ("../../X", "/etc/X", "a\0b", "x" * 300, "2007_1\n2007_1", "a/b"):
        lists.write_text(name)
        with pytest.raises(TTDError, match="val.txt: "):
            make("VOC2012", tmp_path / "s", tmp_path / "other")
    assert not (tmp_path / "other").exists()
