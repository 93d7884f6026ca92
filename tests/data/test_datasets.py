"""Sets: the shipped descriptions, YAML of one's own, what lies in folders, and what is wrong with masks."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from core.data.dataset_checks import check, read_truth, wrong_labels
from core.data.dataset_yaml import CONFIGS, GENERATOR_KEYS, NAMES, load_shipped, voc_palette
from core.data.datasets import Dataset, open_caption_set, open_dataset
from core.data.mask_files import read_foreground, read_index
from core.errors import TTDError

# name: classes, first label, background, 0 ignored, bg, two landmarks (label: name)
FACTS = {
    "VOC2012": (20, 1, True, False, 0.40, {1: "aeroplane", 15: "person", 20: "tvmonitor"}),
    "VOC20": (20, 1, False, True, 0.40, {1: "aeroplane", 20: "tvmonitor"}),
    "COCO2014": (80, 1, True, False, 0.45, {1: "person", 17: "dog", 80: "toothbrush"}),
    "ADE2016": (150, 1, False, True, 0.45, {1: "wall", 8: "bed ", 150: "flag"}),
    "Cityscapes": (19, 0, False, False, 0.40, {0: "road", 11: "person", 18: "bicycle"}),
    "COCO-Stuff": (
        171,
        0,
        False,
        False,
        0.40,
        {0: "person", 79: "toothbrush", 80: "banner", 170: "wood"},
    ),
    "PascalContext": (59, 1, True, False, 0.45, {1: "aeroplane", 59: "wood"}),
    "Context59": (59, 1, False, True, 0.45, {1: "aeroplane", 59: "wood"}),
    "World": (26, 1, True, False, 0.40, {1: "car", 26: "bird"}),
}


def save(path: Path, values, mode=None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values), mode).save(path) if mode else Image.fromarray(
        np.asarray(values)
    ).save(path)
    return path


def make_set(root: Path, name: str, masks: dict[str, np.ndarray]) -> Path:
    """ROOT/FOLDER/validation with a grey image for each mask."""
    base = root / load_shipped(name)["folder"] / "validation"
    for key, mask in masks.items():
        save(base / "image" / f"{key}.jpg", np.full((*mask.shape[:2], 3), 128, np.uint8))
        save(base / "mask" / f"{key}.png", mask)
    return base


def test_every_set_has_its_facts(tmp_path):
    assert set(FACTS) == set(NAMES)
    for name, (
        count,
        first,
        background,
        zero_ignored,
        background_threshold,
        landmarks,
    ) in FACTS.items():
        make_set(tmp_path / name, name, {"a": np.full((2, 3), first, np.uint8)})
        data = open_dataset(name, tmp_path / name)
        assert (data.name, len(data.classes), data.first_label) == (name, count, first)
        assert (data.background, data.zero_ignored, data.background_threshold, data.ignore) == (
            background,
            zero_ignored,
            background_threshold,
            255,
        )
        assert data.rule == ("threshold" if background else "none")
        assert data.label_values == tuple(range(0 if background else first, first + count))
        named = dict(zip(data.label_values, data.label_names, strict=True))
        assert {label: named[label] for label in landmarks} == landmarks
        assert named.get(0) == ("background" if background else named.get(0))
        assert len(set(data.classes)) == count
        assert data.palette.shape == (256, 3) and data.palette.dtype == np.uint8


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


def test_items_pair_pictures_with_masks(tmp_path):
    base = make_set(
        tmp_path, "VOC2012", {key: np.zeros((2, 2), np.uint8) for key in ("b", "a", "c")}
    )
    (base / "mask" / "c.png").unlink()
    save(base / "mask" / "z.png", np.zeros((2, 2), np.uint8))
    (base / "image" / ".hidden.jpg").write_bytes(b"")
    (base / "mask" / ".b.png.part").write_bytes(b"")
    data = open_dataset("VOC2012", tmp_path)
    assert [item.id for item in data.items()] == ["a", "b", "c"]
    assert data.items()[0].mask == base / "mask" / "a.png" and data.items()[2].mask is None
    line = data.describe()
    assert "3 images" in line and "3 masks" in line and "1 images without a mask (c)" in line
    assert "1 masks without an image (z)" in line and "official set has 1449" in line


def test_without_masks_it_still_opens(tmp_path):
    save(tmp_path / "VOC2012/validation/image/a.jpg", np.zeros((4, 4, 3), np.uint8))
    data = open_dataset("VOC2012", tmp_path)
    assert data.masks is None and data.items()[0].mask is None and "no masks" in data.describe()
    with pytest.raises(TTDError, match="no mask for a"):
        read_truth(data, data.items()[0])


def test_two_pictures_of_one_id(tmp_path):
    base = make_set(tmp_path, "VOC2012", {"a": np.zeros((2, 2), np.uint8)})
    save(base / "image" / "a.png", np.zeros((2, 2, 3), np.uint8))
    with pytest.raises(TTDError, match="a.jpg and a.png"):
        open_dataset("VOC2012", tmp_path)


def test_unknown_and_absent_sets_in_one_line(tmp_path):
    with pytest.raises(TTDError, match="VOC2012, COCO2014, ADE2016.*YAML"):
        open_dataset("PASCAL", tmp_path)
    with pytest.raises(TTDError, match="prepare_dataset.py ADE2016.*--root") as caught:
        open_dataset("ADE2016", tmp_path)
    assert "\n" not in str(caught.value)
    (tmp_path / "Cityscapes/validation/image").mkdir(parents=True)
    with pytest.raises(TTDError, match="no images"):
        open_dataset("Cityscapes", tmp_path)


def test_voc20_and_context59_share_their_folders(tmp_path):
    make_set(tmp_path, "VOC2012", {"a": np.array([[0, 20, 255]], np.uint8)})
    make_set(tmp_path, "PascalContext", {"a": np.array([[0, 59, 255]], np.uint8)})
    for name, with_zero in (
        ("VOC2012", 0),
        ("VOC20", 255),
        ("PascalContext", 0),
        ("Context59", 255),
    ):
        data = open_dataset(name, tmp_path)
        truth = read_truth(data, data.items()[0])
        assert truth.tolist() == [[with_zero, len(data.classes), 255]]


# A user's own YAML -------------------------------------------------------------------------------------------------


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
        ({"masks": "elsewhere"}, "elsewhere is no folder"),
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
        ({"palette": [[1, 2, 300]]}, "palette"),
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


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    from core.world.writer import WorldConfig, make_world

    out = tmp_path_factory.mktemp("root") / "world"
    make_world(out, WorldConfig(train=0, val=12, seed=3, size=64))
    return out


def test_world_in_its_three_places(world):
    places = {"parent": world.parent, "itself": world}
    sets = {key: open_dataset("World", root) for key, root in places.items()}
    sets["yaml"] = open_dataset(str(world / "world.yaml"))
    assert (
        len(
            {
                (data.images, data.classes, data.background_threshold, data.rule)
                for data in sets.values()
            }
        )
        == 1
    )
    assert len(sets["yaml"].items()) == 12 and check(sets["yaml"]) == []
    assert "no images without a mask" in sets["yaml"].describe()
    (world / "world.yaml").rename(world / "kept")
    bare = open_dataset("World", world)
    (world / "kept").rename(world / "world.yaml")
    assert bare.classes == sets["yaml"].classes and bare.label_values == sets["yaml"].label_values


def test_caption_set_of_the_world(world):
    for name, root in (("World", world.parent), ("World", world), ("CC3M", world)):
        captions = open_caption_set(name, root)
        assert "12 captions" in captions.describe()
    for record in captions.records.iterate():
        folder = world / "cc3m_for_evaluation/mask_using_HQ-SAM" / record.id
        tags = json.loads(
            (world / f"cc3m_for_evaluation/json_refined/{record.id}.json").read_text()
        )["tags"]
        union = sum(np.asarray(Image.open(folder / f"{tag}.png")).astype(int) for tag in tags) > 0
        assert np.array_equal(captions.truth_mask(record), union) and union.dtype == bool


def test_caption_set_mistakes(tmp_path, world):
    with pytest.raises(TTDError, match="CC3M, World"):
        open_caption_set("VOC2012", tmp_path)
    with pytest.raises(TTDError, match="no such folder.*--root"):
        open_caption_set("CC3M", tmp_path)
    (tmp_path / "cc3m_for_evaluation").mkdir()
    with pytest.raises(TTDError, match="mask_using_HQ-SAM"):
        open_caption_set("CC3M", tmp_path)
    captions = open_caption_set("World", world)
    record = next(iter(captions.records.iterate()))
    from dataclasses import replace

    with pytest.raises(TTDError, match="nothere.png: no such file"):
        captions.truth_mask(replace(record, tags=("nothere",)))
    with pytest.raises(TTDError, match="no true tags"):
        captions.truth_mask(replace(record, tags=()))


# Masks ------------------------------------------------------------------------------------------------------------


def index_set(tmp_path, mask, name="VOC2012") -> Dataset:
    make_set(tmp_path, name, {"a": mask})
    return open_dataset(name, tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_every_label_of_every_set_is_read(tmp_path, name):
    first, count = FACTS[name][1], FACTS[name][0]
    values = np.arange(first, first + count, dtype=np.uint8)[None]
    data = index_set(tmp_path, np.concatenate([values, [[255]]], axis=1).astype(np.uint8), name)
    truth = read_truth(data, data.items()[0])
    assert truth.tolist() == [[*range(first, first + count), 255]] and check(data) == []
    beyond = np.full((1, 1), first + count, np.uint8)
    save(data.items()[0].mask, beyond)
    with pytest.raises(
        TTDError, match=f"label {first + count}.*{name} has .*and .*255 \\(ignored\\)"
    ):
        read_truth(data, data.items()[0])
    assert wrong_labels(data, beyond) and not wrong_labels(data, values)
    assert not wrong_labels(data, np.full((1, 1), 255, np.uint8))
    assert not wrong_labels(data, np.zeros((1, 1), np.uint8))  # a class, the background, or "other"


def test_palette_and_grey_and_bits_give_indices(tmp_path):
    values = np.array([[0, 1, 20], [255, 3, 3]], np.uint8)
    image = Image.fromarray(values)
    image.putpalette(voc_palette().tobytes())
    image.save(tmp_path / "p.png")
    assert Image.open(tmp_path / "p.png").mode == "P"
    assert np.array_equal(read_index(tmp_path / "p.png"), values)
    assert np.array_equal(read_index(save(tmp_path / "l.png", values)), values)
    assert np.array_equal(read_index(save(tmp_path / "i16.png", values.astype(np.uint16))), values)
    assert np.array_equal(
        read_index(save(tmp_path / "rgb.png", np.stack([values] * 3, -1))), values
    )
    assert np.array_equal(
        read_index(save(tmp_path / "one.png", values == 3)), (values == 3).astype(np.uint8)
    )


def test_masks_that_are_none(tmp_path):
    colour = voc_palette()[np.array([[0, 1, 15]])]
    with pytest.raises(TTDError, match="colour-coded"):
        read_index(save(tmp_path / "colour.png", colour))
    with pytest.raises(TTDError, match="26001.*instance"):
        read_index(save(tmp_path / "instance.png", np.array([[7, 26001]], np.uint16)))
    with pytest.raises(TTDError, match="no such file"):
        read_index(tmp_path / "absent.png")
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(TTDError, match="cannot be read as a mask"):
        read_index(tmp_path / "text.png")
    whole = save(
        tmp_path / "whole.png", np.random.default_rng(0).integers(0, 9, (50, 50), np.uint8)
    ).read_bytes()
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(TTDError, match="cannot be read as a mask"):
        read_index(tmp_path / "half.png")


def test_check_names_sizes_and_wrong_values(tmp_path):
    base = make_set(
        tmp_path, "VOC2012", {"a": np.zeros((4, 6), np.uint8), "b": np.full((4, 6), 99, np.uint8)}
    )
    save(base / "image" / "a.jpg", np.zeros((6, 4, 3), np.uint8))
    lines = check(open_dataset("VOC2012", tmp_path))
    assert len(lines) == 2 and "6x4, but its image has 4x6" in lines[0] and "label 99" in lines[1]
    assert "prepare_dataset.py VOC2012" in lines[1]
    assert len(check(open_dataset("VOC2012", tmp_path), limit=1)) == 1


def test_check_follows_exif(tmp_path):
    base = make_set(tmp_path, "VOC2012", {"a": np.zeros((4, 6), np.uint8)})
    exif = Image.Exif()
    exif[0x0112] = 6  # shown with a quarter turn, so 6 wide from 4 stored
    Image.fromarray(np.zeros((6, 4, 3), np.uint8)).save(base / "image" / "a.jpg", exif=exif)
    assert check(open_dataset("VOC2012", tmp_path)) == []


def test_check_knows_instance_masks_from_classes(tmp_path):
    rng = np.random.default_rng(0)
    instances = {
        f"i{k}": np.arange(1 + k % 4, dtype=np.uint8)[None] for k in range(12)
    }  # 0, 1, .., k
    make_set(tmp_path / "i", "VOC2012", instances)
    assert "instance masks" in check(open_dataset("VOC2012", tmp_path / "i"))[-1]
    classes = {f"c{k}": rng.choice(21, (1, 2), replace=False).astype(np.uint8) for k in range(12)}
    make_set(tmp_path / "c", "VOC2012", classes)
    assert check(open_dataset("VOC2012", tmp_path / "c")) == []


def test_foreground_is_what_is_not_zero(tmp_path):
    mask = np.array([[0, 255, 1]], np.uint8)
    for name, values in (
        ("l", mask),
        ("rgb", np.stack([mask] * 3, -1)),
        ("one", mask > 0),
        ("rgba", np.concatenate([np.stack([mask] * 3, -1), np.full((1, 3, 1), 255, np.uint8)], -1)),
    ):
        assert read_foreground(save(tmp_path / f"{name}.png", values)).tolist() == [
            [False, True, True]
        ]
