"""Lists of phrases: JSONL, CSV and released label lists, good and hostile."""

import json
import os
import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from core.data.grounding import open_split, read_phrases, split_file, whole_box
from core.data.grounding_sets import SETS
from core.errors import TTDError


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("a.jpg", "b.jpg"):
        Image.new("RGB", (40, 30)).save(folder / name)
    return folder


def write(path, *lines):
    path.write_text("\n".join(json.dumps(line) for line in lines), encoding="utf-8")
    return path


def test_a_folder_is_told_which_files_are_read(images):
    with pytest.raises(TTDError, match=r"is a folder; .*\.jsonl .*\.csv .*\.pth"):
        read_phrases(images)


def test_jsonl(tmp_path, images):
    rows = [
        {"image": "a.jpg", "box": [1, 2.5, 30, 20], "text": "the dog 犬", "id": "x7"},
        {"image": "b.jpg", "box": [0, 0, 0, 0], "text": "a cat", "clean": False},
    ]
    phrases = read_phrases(write(tmp_path / "own.jsonl", *rows)).phrases
    assert phrases[0].box == (1, 2.5, 30, 20) and phrases[0].id == "x7"
    assert phrases[0].image == images / "a.jpg" and phrases[0].clean is None
    assert phrases[1].clean is False and phrases[1].id == "1"
    again = read_phrases(write(tmp_path / "again.jsonl", *(p.row() for p in phrases)))
    assert [p.row() for p in again.phrases] == [p.row() for p in phrases]


@pytest.mark.parametrize(
    "line",
    [
        {"image": "a.jpg", "box": [1, 2, 3], "text": "x"},
        {"image": "a.jpg", "box": [1, 2, 3, "4"], "text": "x"},
        {"image": "a.jpg", "box": [5, 2, 3, 4], "text": "x"},
        {"image": "a.jpg", "box": [1, 2, 3, float("nan")], "text": "x"},
        {"image": "a.jpg", "box": [1, 2, 3, 10**400], "text": "x"},
        {"image": "a.jpg", "box": [1, 2, True, 4], "text": "x"},
        {"image": "a.jpg", "box": [1, 2, 3, 4], "text": " "},
        {"image": 3, "box": [1, 2, 3, 4], "text": "x"},
        {"image": "a.jpg", "text": "x"},
        {"image": "a.jpg", "box": [1, 2, 3, 4], "text": "x", "clean": "no"},
        [1, 2],
    ],
)
def test_bad_lines_are_named(tmp_path, images, line):
    good = {"image": "a.jpg", "box": [1, 2, 3, 4], "text": "x"}
    with pytest.raises(TTDError, match=r"list\.jsonl:2"):
        read_phrases(write(tmp_path / "list.jsonl", good, line))


def test_not_json_not_text_not_there(tmp_path, images):
    for content in (b"{", b"\xff\xfe", b""):
        (tmp_path / "list.jsonl").write_bytes(content)
        with pytest.raises(TTDError, match=r"list\.jsonl"):
            read_phrases(tmp_path / "list.jsonl")
    with pytest.raises(TTDError, match="none of its images"):
        read_phrases(
            write(tmp_path / "x.jsonl", {"image": "z.jpg", "box": [1, 2, 3, 4], "text": "x"})
        )


def test_csv(tmp_path, images):
    (tmp_path / "a.csv").write_text('image,text,left,top,right,bottom\na.jpg,"a, b",1,2,3,4\n')
    (tmp_path / "b.csv").write_text("text,image,x,y,w,h\nred,b.jpg,1,2,3,4\n")
    assert read_phrases(tmp_path / "a.csv").phrases[0].row()["text"] == "a, b"
    assert read_phrases(tmp_path / "b.csv").phrases[0].box == (1, 2, 4, 6)
    (tmp_path / "c.csv").write_text("text,image,x,y,w,h\nred,b.jpg,1,2,three,4\n")
    with pytest.raises(TTDError, match=r"c\.csv:2"):
        read_phrases(tmp_path / "c.csv")
    (tmp_path / "d.csv").write_text("text,image,x\n")
    with pytest.raises(TTDError, match="columns"):
        read_phrases(tmp_path / "d.csv")


def test_boxes_are_truncated_before_they_are_added():
    assert whole_box((303.58, 69.03, 293.29, 425.79), True) == (303, 69, 596, 494)
    assert whole_box((303.58, 69.03, 593.9, 425.79), False) == (303, 69, 593, 425)


def label_list(path, records, legacy):
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(records, path, _use_new_zipfile_serialization=not legacy)


@pytest.mark.parametrize("legacy", [False, True])
def test_released_label_lists(tmp_path, legacy):
    data, splits = tmp_path / "data", tmp_path / "splits"
    for known in SETS.values():
        (data / known.images).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 9)).save(data / known.images / "a.jpg")
    boxes = [
        [1.9, 2.2, 3.9, 4.1],
        np.array([1.9, 2.2, 3.9, 4.1]),
        torch.tensor([1.9, 2.2, 3.9, 4.1]),
    ]
    five = [("a.jpg", "482127.pth", box, "Red Dog", [("r1", ["left"])]) for box in boxes]
    label_list(splits / "unc/unc_val.pth", five, legacy)
    label_list(splits / "referit/referit_test.pth", five, legacy)
    label_list(splits / "flickr/flickr_train_pseudo.pth", [["a.jpg", [1, 2, 3, 4], "dog"]], legacy)
    for phrase in open_split(data, splits, "unc", "val").phrases:
        assert phrase.box == (1, 2, 4, 6) and phrase.text == "Red Dog"
    for phrase in open_split(data, splits, "referit", "test").phrases:
        assert phrase.box == (1, 2, 3, 4)
    assert open_split(data, splits, "flickr", "train_pseudo").phrases[0].text == "dog"
    assert split_file(splits, "unc", "val").suffix == ".pth"
    write(splits / "unc/unc_val.jsonl", {"image": "a.jpg", "box": [0, 0, 1, 1], "text": "x"})
    assert split_file(splits, "unc", "val").suffix == ".jsonl"
    with pytest.raises(TTDError, match="unc_testA"):
        open_split(data, splits, "unc", "testA")
    with pytest.raises(TTDError, match="testC"):
        open_split(data, splits, "unc", "testC")
    with pytest.raises(TTDError, match="gref_umd"):
        open_split(data, splits, "coco", "val")


class Runs:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.system, (f"touch {self.mark}",)


def test_hostile_label_lists(tmp_path, images):
    mark = tmp_path / "it-ran"
    for hostile in (Runs(mark), [Runs(mark)], [("a.jpg", Runs(mark), Runs(mark), "x", 0)],
                    [("a.jpg", "", [1, 2], "x", 0)], [(Runs(mark), "", [1, 2, 3, 4], "x", 0)],
                    {"a": 1}, [("a.jpg",)]):  # fmt: skip
        (tmp_path / "list.pth").write_bytes(pickle.dumps(hostile))
        with pytest.raises(TTDError, match=r"list\.pth") as caught:
            read_phrases(tmp_path / "list.pth", images)
        assert "\n" not in str(caught.value)
    fine = [("a.jpg", Runs(mark), [1, 2, 3, 4], "x", Runs(mark))]
    (tmp_path / "list.pth").write_bytes(pickle.dumps(fine))
    assert read_phrases(tmp_path / "list.pth", images).phrases[0].box == (1, 2, 3, 4)
    assert not mark.exists()


def test_digest_is_of_the_content(tmp_path, images):
    row = {"image": "a.jpg", "box": [1, 2, 3, 4], "text": "x"}
    first = read_phrases(write(tmp_path / "one.jsonl", row)).digest
    assert read_phrases(write(tmp_path / "two.jsonl", row)).digest == first
    other = {**row, "box": [1, 2, 3, 5]}
    assert read_phrases(write(tmp_path / "two.jsonl", other)).digest != first
