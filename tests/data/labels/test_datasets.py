"""Sets: what lies in their folders, and where the world's are."""

import json

import numpy as np
import pytest
from PIL import Image
from small_sets import FACTS, make_set, save

from core.data.labels.dataset_checks import check, read_truth
from core.data.labels.dataset_yaml import NAMES
from core.data.labels.datasets import open_caption_set, open_dataset
from core.errors import TTDError


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


def turned_caption(root, turn, mask):
    """A caption set of one image, stored 6 x 4 pixels, that EXIF turns; its one mask."""
    base = root / "cc3m_for_evaluation"
    exif = Image.Exif()
    exif[0x0112] = turn
    (base / "image").mkdir(parents=True)
    Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(base / "image" / "a.jpg", exif=exif)
    save(base / "mask_using_HQ-SAM" / "a" / "dog.png", mask.astype(np.uint8) * 255)
    (base / "json_refined").mkdir()
    content = json.dumps({"text": "a dog", "tags": ["dog"]})
    (base / "json_refined" / "a.json").write_text(content, encoding="utf-8")
    captions = open_caption_set("CC3M", root)
    (record,) = captions.records.iterate()
    return captions, record


# By hand: what EXIF 6 (turn right) and 8 (turn left) do with the top left pixel of 4 rows.
@pytest.mark.parametrize(("turn", "at"), [(6, (0, 3)), (8, (5, 0))])
@pytest.mark.parametrize("drawn", ["stored", "upright"])
def test_a_captions_mask_of_a_turned_image_lies_on_the_upright_pixels(tmp_path, turn, at, drawn):
    mask = np.zeros((4, 6) if drawn == "stored" else (6, 4), bool)
    mask[(0, 0) if drawn == "stored" else at] = True
    captions, record = turned_caption(tmp_path, turn, mask)
    truth = captions.truth_mask(record)
    assert truth.shape == (6, 4) and np.argwhere(truth).tolist() == [list(at)]


def test_half_a_turn_of_a_captions_image_is_refused(tmp_path):
    captions, record = turned_caption(tmp_path, 3, np.eye(4, 6, dtype=bool))
    with pytest.raises(TTDError, match="orientation 3.*save the image without the block") as raised:
        captions.truth_mask(record)
    assert "YAML" not in str(raised.value)
    captions, record = turned_caption(tmp_path / "plain", 1, np.eye(4, 6, dtype=bool))
    assert np.array_equal(captions.truth_mask(record), np.eye(4, 6, dtype=bool))
