"""Lists of labels in every form that is read, and what is refused."""

import numpy as np
import pytest
from small_multilabel import write_voc

from core.data.multilabel import read_set
from core.data.multilabel.own import read_classes, read_own, with_list
from core.errors import TTDError

FORMS = {
    "a.jsonl": '{"image": "a.jpg", "labels": ["dog", "cat"]}\n'
    '{"image": "b.jpg", "labels": [], "ignored": ["dog"]}\n',
    "a.csv": "image,labels,ignored\na.jpg,dog|cat,\nb.jpg,,dog\n",
    "b.csv": "image,cat,dog\na.jpg,1,1\nb.jpg,0,?\n",
    "a.tsv": "image\tlabels\tignored\na.jpg\tcat; dog\t\nb.jpg\t\tdog\n",
}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_says_the_same(tmp_path, name):
    (tmp_path / name).write_text(FORMS[name])
    labels = read_own(tmp_path / name)
    assert labels.classes == ("cat", "dog") and labels.ids == ("a.jpg", "b.jpg")
    (variant,) = labels.variants
    assert variant.truth.tolist() == [[True, True], [False, False]]
    assert variant.scored.tolist() == [[True, True], [True, False]]


def test_a_column_of_zeros_is_a_class_too(tmp_path):
    (tmp_path / "a.csv").write_text("image,cow,cat\na.jpg,0,1\n")
    assert read_own(tmp_path / "a.csv").classes == ("cat", "cow")


def test_class_numbers_need_classes(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("a 1 0\nb\n")
    with pytest.raises(TTDError, match="--classes"):
        read_own(path)
    assert read_own(path, ["x", "y"]).variants[0].truth.tolist() == [[True, True], [False, False]]
    path.write_text("a 2\n")
    with pytest.raises(TTDError, match=r"list\.txt:1: .*0 to 1"):
        read_own(path, ["x", "y"])


def test_a_published_list_is_one_more_reading(tmp_path):
    labels = read_set("voc07", write_voc(tmp_path))
    path = tmp_path / "tagclip.txt"
    path.write_text("000004 11 14\n000001 0\n")
    more = with_list(labels, path).variants[-1]
    assert more.name == "tagclip" and more.rows.tolist() == [True, False, True, False]
    assert np.flatnonzero(more.truth[2]).tolist() == [11, 14] and more.positives == 3
    path.rename(tmp_path / "VOC.txt")
    assert with_list(labels, tmp_path / "VOC.txt").variants[-1].name == "VOC, list"
    path.write_text("000004 11\n000077 3\n")
    with pytest.raises(TTDError, match="1 of 2 images are not in VOC2007 test"):
        with_list(labels, path)


def test_arrays(tmp_path):
    labels = read_set("voc07", write_voc(tmp_path))
    matrix = np.zeros((2, 20))
    matrix[1, 3] = 1
    np.save(tmp_path / "formatted_val_labels.npy", matrix)
    np.save(tmp_path / "formatted_val_images.npy", np.array(["000006.jpg", "000002.jpg"]))
    more = with_list(labels, tmp_path / "formatted_val_labels.npy").variants[-1]
    assert more.rows.tolist() == [False, True, False, True] and more.truth[1, 3]
    matrix[0, 0] = -1
    np.save(tmp_path / "formatted_val_labels.npy", matrix)
    with pytest.raises(TTDError, match="other values than 0 and 1"):
        with_list(labels, tmp_path / "formatted_val_labels.npy")


def test_arrays_with_objects_are_not_unpickled(tmp_path):
    np.save(tmp_path / "x_labels.npy", np.array([object()]))
    np.save(tmp_path / "x_images.npy", np.array(["a"]))
    with pytest.raises(TTDError, match="no plain array"):
        read_own(tmp_path / "x_labels.npy", ["a"])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", '{"image": "a.jpg"}', r"a\.jsonl:1"),
        ("a.jsonl", '{"image": "a.jpg", "labels": "dog"}', r"a\.jsonl:1"),
        ("a.jsonl", '{"image": "a", "labels": ["x"]}\n{"image": "a", "labels": []}', "twice"),
        ("a.jsonl", '{"image": "a", "labels": ["x"], "ignored": ["x"]}', "both"),
        ("a.jsonl", '{"image": "a", "labels": []}', "no image shows any class"),
        ("a.jsonl", "", "no images"),
        ("a.csv", "image,dog\na.jpg,-1\n", "1 .there., 0 .not there. or"),
        ("a.csv", "image,dog\na.jpg\n", r"a\.csv:2"),
        ("a.csv", "picture,dog\na.jpg,1\n", "columns image"),
        ("a.xml", "<a/>", r"\.jsonl, \.csv"),
    ],
)
def test_what_is_refused(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(TTDError, match=message):
        read_own(tmp_path / name)


def test_classes_of_ones_own(tmp_path):
    (tmp_path / "names.txt").write_text("dog\n\nperson|human\n")
    assert read_classes(tmp_path / "names.txt") == ["dog", "person|human"]
    (tmp_path / "a.jsonl").write_text('{"image": "a", "labels": ["fox"]}')
    with pytest.raises(TTDError, match="fox is no class"):
        read_own(tmp_path / "a.jsonl", ["dog"])
