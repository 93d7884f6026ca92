"""VOC, COCO and NUS-WIDE as label sets: every reading of the labels, and wrong files."""

import json

import numpy as np
import pytest
from small_multilabel import VOC_IDS, write_coco, write_nus, write_voc

from core.data.multilabel import read_set
from core.errors import TTDError


def test_voc_reads_difficult_in_three_ways(tmp_path):
    write_voc(tmp_path)
    labels = read_set("voc07", tmp_path)
    assert labels.ids == VOC_IDS and len(labels.classes) == 20
    dog, cat = labels.classes.index("dog"), labels.classes.index("cat")
    piaa, tagclip, voc = labels.variants
    assert [v.name for v in labels.variants] == ["PIAA", "TagCLIP", "VOC"]
    assert piaa.truth[:, dog].tolist() == [True, False, False, False]
    assert tagclip.truth[:, dog].tolist() == [True, True, False, False]
    assert voc.scored[:, dog].tolist() == [True, False, True, True]
    assert voc.truth[:, cat].tolist() == [False, True, True, False]
    assert (piaa.positives, tagclip.positives, voc.positives) == (5, 8, 5)
    assert piaa.scored.all() and piaa.rows.all()
    assert [path.stem for path in labels.train] == ["000009", "000012"]


@pytest.mark.parametrize("below", ["", "VOCdevkit", "VOCdevkit/VOC2007"])
def test_voc_is_found_from_every_folder(tmp_path, below):
    place = write_voc(tmp_path)
    assert read_set("voc07", tmp_path / below).images[0] == place / "JPEGImages/000001.jpg"


def test_voc12_has_tagclips_part(tmp_path):
    place = write_voc(tmp_path, "VOC2012", "val", "train")
    (place / "ImageSets/Segmentation").mkdir()
    (place / "ImageSets/Segmentation/val.txt").write_text("000002\n000006\n")
    part = read_set("voc12", tmp_path).variants[-1]
    assert part.rows.tolist() == [False, True, False, True]
    assert part.positives == 5  # cat, person, dog of the first; cat, person of the second


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("000001 2", "-1, 0 or 1"),
        ("../../x 1", "-1, 0 or 1"),
        ("000001", "-1, 0 or 1"),
        ("000002 1", "listed twice"),
        ("000099 1", "other images than"),
    ],
)
def test_voc_lists_that_are_wrong(tmp_path, line, message):
    place = write_voc(tmp_path)
    path = place / "ImageSets/Main/dog_test.txt"
    path.write_text("\n".join([line, *path.read_text().splitlines()[1:]]))
    with pytest.raises(TTDError, match=message):
        read_set("voc07", tmp_path)


def test_coco_with_and_without_unlabelled_images(tmp_path):
    labels = read_set("coco14", write_coco(tmp_path))
    assert labels.classes == ("person", "dog", "bottle")
    assert labels.ids == tuple(f"COCO_val2014_{key:012d}" for key in (3, 5, 7))
    piaa, every = labels.variants
    assert piaa.rows.tolist() == [True, False, True] and every.rows.all()
    assert every.truth.tolist() == [[1, 0, 0], [0, 0, 0], [0, 1, 0]]
    assert (piaa.images, piaa.positives) == (2, 2)
    assert all(path.is_file() for path in labels.images)


@pytest.mark.parametrize(
    ("key", "at", "field", "value"),
    [
        ("annotations", 0, "image_id", 99),
        ("annotations", 0, "category_id", 2),
        ("annotations", 0, "category_id", True),
        ("images", 0, "file_name", "../../etc/passwd"),
        ("images", 1, "id", 7),
        ("categories", 0, "name", "dog"),
        ("categories", 0, "id", None),
    ],
)
def test_coco_entries_that_are_wrong(tmp_path, key, at, field, value):
    path = write_coco(tmp_path) / "annotations/instances_val2014.json"
    content = json.loads(path.read_text())
    content[key][at][field] = value
    path.write_text(json.dumps(content))
    with pytest.raises(TTDError, match=r"instances_val2014\.json"):
        read_set("coco14", tmp_path)


def test_nus_wide(tmp_path):
    labels = read_set("nus", write_nus(tmp_path))
    assert labels.classes == ("birds", "sky")
    official, labelled = labels.variants
    assert official.truth.tolist() == [[1, 0], [0, 0], [1, 1]]
    assert labelled.rows.tolist() == [True, False, True]
    assert all(path.is_file() for path in labels.images)


@pytest.mark.parametrize("text", ["1\n0\n", "1\n0\n1\n1\n", "1\n0\n2\n", "1 0 x"])
def test_nus_columns_that_are_wrong(tmp_path, text):
    write_nus(tmp_path)
    (tmp_path / "Groundtruth/TrainTestLabels/Labels_sky_Test.txt").write_text(text)
    with pytest.raises(TTDError, match="0 or 1 for each"):
        read_set("nus", tmp_path)


def test_wrong_folders_say_what_was_looked_for(tmp_path):
    for key, wanted in (
        ("voc07", "ImageSets/Main"),
        ("coco14", "instances_val2014"),
        ("nus", "TestImagelist"),
    ):
        with pytest.raises(TTDError, match=wanted):
            read_set(key, tmp_path)
    with pytest.raises(TTDError, match="voc07, voc12, coco14, nus"):
        read_set("voc2007", tmp_path)


def test_missing_images_are_named(tmp_path):
    labels = read_set("voc07", write_voc(tmp_path))
    labels.images[1].unlink()
    with pytest.raises(TTDError, match="1 of 4 images are missing .*000002"):
        labels.there(False)
    part = labels.there(True)
    assert part.ids == ("000001", "000004", "000006")
    assert np.array_equal(part.variants[0].truth, labels.variants[0].truth[[0, 2, 3]])
