"""Descriptions of sets: the shipped ones, and a user's own YAML with its mistakes."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from small_sets import make_set

from core.data.labels.dataset_checks import read_truth
from core.data.labels.dataset_yaml import CONFIGS, GENERATOR_KEYS, NAMES, load_shipped, voc_palette
from core.data.labels.datasets import open_dataset
from core.errors import TTDError


def test_published_thresholds():
    assert {
        n: load_shipped(n)["bg"] for n in ("VOC2012", "Cityscapes", "COCO-Stuff")
    } == dict.fromkeys(("VOC2012", "Cityscapes", "COCO-Stuff"), 0.40)
    assert {load_shipped(n)["bg"] for n in ("COCO2014", "ADE2016", "PascalContext")} == {0.45}


def test_voc_palette_known_colours():
    palette = voc_palette()
    known = {
        0: (0, 0, 0),
        1: (128, 0, 0),
        2: (0, 128, 0),
        7: (128, 128, 128),
        8: (64, 0, 0),
        15: (192, 128, 128),
        20: (0, 64, 128),
        255: (224, 224, 192),
    }
    assert {label: tuple(palette[label].tolist()) for label in known} == known
    assert len({tuple(colour) for colour in palette.tolist()}) == 256


def test_raw_maps_against_their_rule():
    stuff, objects = load_shipped("COCO-Stuff")["raw"], load_shipped("COCO2014")["raw"]
    unused = {11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90}
    used = [raw for raw in range(182) if raw not in unused]
    assert stuff == {raw: rank for rank, raw in enumerate(used)} | {255: 255}
    assert objects == {raw: rank + 1 if raw < 91 else 0 for rank, raw in enumerate(used)} | {255: 0}
    assert load_shipped("COCO2014")["classes"] == load_shipped("COCO-Stuff")["classes"][:80]
    city = load_shipped("Cityscapes")["raw"]
    train = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]
    assert city == {raw: train.index(raw) if raw in train else 255 for raw in range(34)}
    context = load_shipped("PascalContext")["raw"]
    assert (
        list(context.values()) == list(range(60))
        and list(context) == sorted(context)
        and max(context) <= 459
    )


def test_shipped_files_are_all_known():
    assert {path.stem for path in CONFIGS.glob("*.yaml")} == set(NAMES)


def write_yaml(folder: Path, **content) -> Path:
    make_set(folder, "VOC2012", {"x": np.array([[0, 1], [2, 255]], np.uint8)})
    path = folder / "mine.yaml"
    base = {
        "images": "VOC2012/validation/image",
        "masks": "VOC2012/validation/mask",
        "classes": ["cat", "dog|hound"],
    }
    path.write_text(yaml.safe_dump({k: v for k, v in (base | content).items() if v != "drop"}))
    return path


@pytest.mark.parametrize(
    "background, first, has",
    [(0, 1, True), (True, 1, True), (False, 0, False), (None, 0, False), ("drop", 0, False)],
)
def test_yaml_background(tmp_path, background, first, has):
    data = open_dataset(str(write_yaml(tmp_path, background=background)), "nowhere")
    assert (data.first_label, data.background, data.rule) == (
        first,
        has,
        "threshold" if has else "none",
    )
    assert (
        data.name == "mine"
        and data.background_threshold == 0.4
        and data.classes == ("cat", "dog|hound")
    )
    assert data.items()[0].id == "x"


def test_yaml_all_keys(tmp_path):
    path = write_yaml(
        tmp_path, name="Pets", background=False, ignore=[0, 254], bg=0.6, palette=[[9, 8, 7]]
    )
    data = open_dataset(str(path))
    assert (
        data.name,
        data.first_label,
        data.zero_ignored,
        data.ignore,
        data.background_threshold,
    ) == ("Pets", 1, True, 254, 0.6)
    assert data.palette[1].tolist() == [9, 8, 7] and data.palette[0].tolist() == [0, 0, 0]
    with pytest.raises(TTDError, match="label 255"):  # 254 is ignored here, 255 is not a label
        read_truth(data, data.items()[0])


def test_yaml_background_among_the_classes_is_not_prompted(tmp_path):
    data = open_dataset(
        str(write_yaml(tmp_path, background=0, classes=["Background", "cat", "dog"]))
    )
    assert data.classes == ("cat", "dog") and data.label_names == ("background", "cat", "dog")
    literal = open_dataset(
        str(write_yaml(tmp_path, background=False, classes=["background", "cat"]))
    )
    assert literal.classes == ("background", "cat") and literal.first_label == 0


@pytest.mark.parametrize(
    "content, wanted",
    [
        ({"colour": 3}, "unknown colour; a set has name, images"),
        ({"scenes": ["x"]}, "unknown scenes"),
        ({"classes": "drop"}, "no 'classes'"),
        ({"images": "drop"}, "no 'images'"),
        ({"images": "elsewhere"}, "elsewhere is no folder; paths are relative"),
        ({"masks": "elsewhere"}, "elsewhere is no folder.*leave `masks` out"),
        ({"images": 3}, "images: 3 is no text"),
        ({"classes": ["cat", True]}, "quotes"),
        ({"classes": ["cat", "cat"]}, "'cat' is listed twice"),
        ({"classes": ["cat||dog"]}, "empty synonym"),
        ({"classes": ["background"], "background": True}, "0 classes"),
        ({"classes": [str(i) for i in range(255)], "background": True}, "255 classes"),
        ({"background": 3}, "background: 3; give 0 or true"),
        ({"background": "yes"}, "background: 'yes'"),
        ({"ignore": 1}, "ignore: 1 is the label of 'dog|hound'"),
        ({"ignore": 300}, "ignore: 300"),
        ({"ignore": [1, 2]}, r"ignore: \[1, 2\]"),
        ({"ignore": [0, 255], "background": True}, "label 0 is the background and ignored"),
        ({"bg": 2}, "bg: 2 is no number"),
        ({"bg": True}, "bg: True"),
        ({"palette": [[1, 2]]}, "palette"),
        ({"palette": [[1, 2, 256]]}, "palette"),
        ({"palette": [[1, -1, 2]]}, "palette"),
    ],
)
def test_yaml_mistakes_in_one_line(tmp_path, content, wanted):
    wanted = wanted.replace("|", r"\|")
    with pytest.raises(TTDError, match=wanted) as caught:
        open_dataset(str(write_yaml(tmp_path, **content)))
    assert "mine.yaml" in str(caught.value) and "\n" not in str(caught.value)


def test_yaml_that_is_none(tmp_path):
    for text, wanted in (("a: [", "not YAML"), ("- a", "lines of `name"), ("", "no 'images'")):
        (tmp_path / "x.yaml").write_text(text)
        with pytest.raises(TTDError, match=wanted):
            open_dataset(str(tmp_path / "x.yaml"))
    with pytest.raises(TTDError, match="cannot be read"):
        open_dataset(str(tmp_path / "absent.yaml"))


def test_generator_keys_only_beside_made_with(tmp_path):
    extra = {key: {} for key in GENERATOR_KEYS}
    assert open_dataset(str(write_yaml(tmp_path, **extra))).classes[0] == "cat"
    del extra["made_with"]
    with pytest.raises(TTDError, match="unknown colours"):
        open_dataset(str(write_yaml(tmp_path, **extra)))
    with pytest.raises(TTDError, match="unknown typo"):
        open_dataset(str(write_yaml(tmp_path, made_with={}, typo=1)))
