"""Label maps of sets: the values that a set has, sizes, and instance masks."""

import numpy as np
import pytest
import yaml
from PIL import Image, ImageOps
from small_sets import FACTS, index_set, make_set, save

from core.data.labels.dataset_checks import check, read_truth, wrong_counts, wrong_labels
from core.data.labels.dataset_yaml import NAMES, voc_palette
from core.data.labels.datasets import open_dataset
from core.errors import TTDError


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


def test_check_names_sizes_and_wrong_values(tmp_path):
    base = make_set(
        tmp_path, "VOC2012", {"a": np.zeros((4, 6), np.uint8), "b": np.full((4, 6), 99, np.uint8)}
    )
    save(base / "image" / "a.jpg", np.zeros((6, 4, 3), np.uint8))
    lines = check(open_dataset("VOC2012", tmp_path))
    assert len(lines) == 2 and "6x4, but its image has 4x6" in lines[0] and "label 99" in lines[1]
    assert "prepare_dataset.py VOC2012" in lines[1]
    assert len(check(open_dataset("VOC2012", tmp_path), limit=1)) == 1


def test_a_limit_looks_evenly_over_the_set(tmp_path):
    wrong = {f"{k}": np.full((2, 2), 90 + k, np.uint8) for k in range(9)}
    make_set(tmp_path, "VOC2012", wrong)
    lines = check(open_dataset("VOC2012", tmp_path), limit=3)
    assert ["label 90" in lines[0], "label 93" in lines[1], "label 96" in lines[2]] == [True] * 3
    assert len(check(open_dataset("VOC2012", tmp_path), limit=9)) == 9


@pytest.mark.parametrize("orientation", range(1, 9))
def test_check_follows_exif(tmp_path, orientation):
    """A mask 6 wide fits an image that is shown 6 wide; 5 to 8 turn it by a quarter."""
    base = make_set(tmp_path, "VOC2012", {"a": np.zeros((4, 6), np.uint8)})
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = (6, 4, 3) if orientation >= 5 else (4, 6, 3)
    Image.fromarray(np.zeros(stored, np.uint8)).save(base / "image" / "a.jpg", exif=exif)
    assert check(open_dataset("VOC2012", tmp_path)) == []
    turned = (stored[1], stored[0], 3)
    Image.fromarray(np.zeros(turned, np.uint8)).save(base / "image" / "a.jpg", exif=exif)
    lines = check(open_dataset("VOC2012", tmp_path))
    if orientation < 5:
        assert "but its image has 4x6" in lines[0]
    else:  # drawn on the stored pixels: turned with the image
        assert lines == []


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


def turned_set(tmp_path, orientation, mask, stored, **content):
    """An image of `stored` = (H, W) that EXIF turns, and a mask."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    for folder in ("image", "mask"):
        (tmp_path / folder).mkdir(exist_ok=True)
    Image.fromarray(np.zeros((*stored, 3), np.uint8)).save(tmp_path / "image/a.jpg", exif=exif)
    save(tmp_path / "mask/a.png", mask)
    content = {"images": "image", "masks": "mask", "classes": ["cat", "dog"]} | content
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(content))
    data = open_dataset(str(tmp_path / "a.yaml"))
    return data, data.items()[0]


@pytest.mark.parametrize("orientation", range(2, 9))
def test_masks_on_stored_pixels_are_turned_with_the_image(tmp_path, orientation):
    """Against Pillow's own turning of an image that holds the mask's values."""
    mask = np.random.default_rng(0).integers(0, 2, (4, 6), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    save_exif = tmp_path / "oracle.png"
    Image.fromarray(mask).save(save_exif, exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(save_exif)))
    stored = turned_set(tmp_path, orientation, mask, (4, 6), masks_drawn="stored")
    assert read_truth(*stored).tolist() == expected.tolist()
    if orientation >= 5:  # the sizes tell
        assert read_truth(*turned_set(tmp_path, orientation, mask, (4, 6))).tolist() == (
            expected.tolist()
        )
        upright = turned_set(tmp_path, orientation, expected, (4, 6))
        assert read_truth(*upright).tolist() == expected.tolist()
    else:
        upright = turned_set(tmp_path, orientation, mask, (4, 6), masks_drawn="upright")
        assert read_truth(*upright).tolist() == mask.tolist()
        with pytest.raises(TTDError, match="masks_drawn: upright"):
            read_truth(*turned_set(tmp_path, orientation, mask, (4, 6)))


def test_a_reordered_palette_is_refused(tmp_path):
    """An optimiser moved the colour of label 15 to value 1."""
    mask = np.array([[0, 1]], np.uint8)
    data = index_set(tmp_path, mask)
    image = Image.fromarray(mask)
    for label, right in ((1, True), (15, False)):
        image.putpalette([*voc_palette()[0].tolist(), *voc_palette()[label].tolist()])
        image.save(data.items()[0].mask)
        if right:
            assert read_truth(data, data.items()[0]).tolist() == [[0, 1]]
        else:
            with pytest.raises(TTDError, match="value 1 has the colour of label 15"):
                read_truth(data, data.items()[0])
    image.putpalette([1, 2, 3, 4, 5, 6])  # somebody's own colours say nothing
    image.save(data.items()[0].mask)
    assert read_truth(data, data.items()[0]).tolist() == [[0, 1]]


def test_255_as_a_class_is_refused(tmp_path):
    data = index_set(tmp_path, np.zeros((2, 2), np.uint8))
    counts = np.zeros(256, np.int64)
    counts[[0, 255]] = 50, 50
    right = np.zeros(256, np.int64)
    right[[0, 1, 255]] = 50, 40, 10
    assert "255 a class?" in wrong_counts(data, counts, right)
    assert wrong_counts(data, right, right) == ""
    assert "predictions hold no class" in wrong_counts(data, right, counts)
