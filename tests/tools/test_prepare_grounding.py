"""Releases made by hand, as the originals are, and what becomes of them."""

import json
import pickle

import prepare_grounding
import pytest
import torch

from core.data.prepare.grounding import check_leaks, find_leaks
from core.errors import TTDError


def refer_release(folder, name, refs, references, names):
    """A refer folder: references as (image id, box xywh, split, sentences)."""
    place = folder / name
    place.mkdir(parents=True, exist_ok=True)
    content, annotations, number = [], [], 0
    for ann, (image, box, split, sentences) in enumerate(references, start=100):
        annotations.append({"id": ann, "image_id": image, "bbox": box})
        told = []
        for text in sentences:
            told.append({"sent_id": number, "sent": text, "raw": text.upper(), "tokens": []})
            number += 1
        content.append(
            {"ref_id": ann, "ann_id": ann, "image_id": image, "split": split, "sentences": told,
             "file_name": f"COCO_{image}_{ann}.jpg", "category_id": 1}
        )  # fmt: skip
    images = [{"id": i, "file_name": n, "width": 640, "height": 480} for i, n in names.items()]
    (place / refs).write_bytes(pickle.dumps(content, 2))
    (place / "instances.json").write_text(
        json.dumps({"annotations": annotations, "images": images})
    )


NAMES = {1: "COCO_1.jpg", 2: "COCO_2.jpg", 3: "COCO_3.jpg"}


@pytest.fixture
def releases(tmp_path):
    """unc: image 1 trains, image 2 validates; gref: image 2 trains."""
    unc = [
        (1, [10.7, 20.2, 30.9, 40.1], "train", ["the red dog", "dog"]),
        (2, [0, 0, 5.5, 6.5], "val", ["a cat"]),
    ]
    gref = [(2, [1, 2, 3, 4], "train", ["cat on a mat"]), (3, [1, 1, 9, 9], "val", ["x"])]
    refer_release(tmp_path / "refer", "refcoco", "refs(unc).p", unc, NAMES)
    refer_release(tmp_path / "refer", "refcocog", "refs(google).p", gref, NAMES)
    return tmp_path / "refer"


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_refer(releases, tmp_path, capsys):
    out = tmp_path / "out"
    argv = ["unc", "--source", str(releases), "--out", str(out), "--splits", "train", "val"]
    assert prepare_grounding.main([*argv, "--any-count"]) == 0
    train = rows(out / "unc/unc_train.jsonl")
    assert [row["text"] for row in train] == ["the red dog", "dog"]
    assert train[0] == {
        "id": "0", "image": "COCO_1.jpg", "box": [10, 20, 40, 60], "text": "the red dog"
    }  # fmt: skip
    assert rows(out / "unc/unc_val.jsonl")[0]["box"] == [0, 0, 5, 6]
    assert "2 phrases, 1 images" in capsys.readouterr().out
    with pytest.raises(TTDError, match="120624"):
        prepare_grounding.main(argv)


def test_leaks(releases, tmp_path):
    out = tmp_path / "out"
    argv = ["--source", str(releases), "--out", str(out), "--any-count", "--splits", "train", "val"]
    assert prepare_grounding.main(["unc", "gref", *argv]) == 0
    assert find_leaks(out, ["unc", "gref"]) == {("gref_train", "unc_val"): 1}
    assert prepare_grounding.main(["--check", "--out", str(out)]) == 1
    check_leaks(out, ["unc"])
    with pytest.raises(TTDError, match="1 images of gref_train in unc_val"):
        check_leaks(out, ["unc", "gref"])


def test_referit(tmp_path):
    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    (source / "referit_bbox.json").write_text(json.dumps({"38_1": [1, 2, 30, 40]}))
    (source / "referit_query_val.json").write_text(json.dumps({"38_1": ["sky", "blue sky"]}))
    argv = ["referit", "--source", str(source), "--out", str(out), "--splits", "val"]
    prepare_grounding.main([*argv, "--any-count"])
    made = rows(out / "referit/referit_val.jsonl")
    assert [(row["image"], row["box"], row["text"]) for row in made] == [
        ("38.jpg", [1, 2, 30, 40], "sky"),
        ("38.jpg", [1, 2, 30, 40], "blue sky"),
    ]


def test_referit_boxes_that_are_no_mapping(tmp_path):
    (tmp_path / "referit_bbox.json").write_text("1.5")
    (tmp_path / "referit_query_val.json").write_text('{"38_1": ["sky"]}')
    argv = ["referit", "--source", str(tmp_path), "--out", str(tmp_path / "out"), "--splits", "val"]
    with pytest.raises(TTDError, match="no mapping from regions"):
        prepare_grounding.main(argv)


XML = """<annotation>
<object><name>5</name><bndbox><xmin>10</xmin><ymin>20</ymin><xmax>30</xmax><ymax>40</ymax></bndbox></object>
<object><name>5</name><name>6</name><bndbox><xmin>25</xmin><ymin>5</ymin><xmax>60</xmax><ymax>30</ymax></bndbox></object>
<object><name>7</name><scene>1</scene><nobndbox>0</nobndbox></object>
</annotation>"""


def test_flickr(tmp_path):
    source, out = tmp_path / "source", tmp_path / "out"
    for name in ("Sentences", "Annotations"):
        (source / name).mkdir(parents=True)
    (source / "test.txt").write_text("36979\n")
    (source / "Annotations/36979.xml").write_text(XML)
    (source / "Sentences/36979.txt").write_text(
        "[/EN#5/people Two men] on [/EN#7/scene a street] .\n[/EN#6/other/people A man 's hat] .\n"
    )
    argv = ["flickr", "--source", str(source), "--out", str(out), "--splits", "test"]
    prepare_grounding.main([*argv, "--any-count"])
    made = rows(out / "flickr/flickr_test.jsonl")
    assert [(row["text"], row["box"]) for row in made] == [
        ("Two men", [10, 5, 60, 40]),
        ("A man 's hat", [25, 5, 60, 30]),
    ]
    bomb = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "c">]>' + XML
    (source / "Annotations/36979.xml").write_text(bomb)
    with pytest.raises(TTDError, match="document type"):
        prepare_grounding.main([*argv, "--any-count"])


def test_label_lists_and_own_files(tmp_path):
    source, out = tmp_path / "source", tmp_path / "out"
    (source / "unc").mkdir(parents=True)
    records = [
        ("a.jpg", "m.pth", [1.5, 2.5, 3.5, 4.5], "dog", []),
        ("a.jpg", "", [1, 1, 0, 4], "x", []),
    ]
    torch.save(records, source / "unc/unc_val.pth")
    torch.save(records, source / "unc/unc_train.pth")
    argv = ["unc", "--source", str(source), "--out", str(out), "--splits", "val", "train"]
    prepare_grounding.main([*argv, "--any-count"])
    first = {"id": "0", "image": "a.jpg", "box": [1, 2, 4, 6], "text": "dog"}
    empty = {"id": "1", "image": "a.jpg", "box": [1, 1, 1, 5], "text": "x"}
    assert rows(out / "unc/unc_val.jsonl") == [first, empty]
    assert rows(out / "unc/unc_train.jsonl") == [first]
    (tmp_path / "own.csv").write_text("image,text,x,y,w,h\na.jpg,dog,1,2,3,4\n")
    prepare_grounding.main(
        ["--own", str(tmp_path / "own.csv"), "--out", str(tmp_path / "own.jsonl")]
    )
    assert rows(tmp_path / "own.jsonl") == [{"image": "a.jpg", "box": [1, 2, 4, 6], "text": "dog"}]


def test_reviewed_lists(releases, tmp_path, capsys):
    reviewed = [{"file_name": "COCO_2.jpg", "caption": "A cat", "caption_quality": 0}]
    (tmp_path / "reviewed.json").write_text(json.dumps({"annotations": reviewed}))
    argv = ["unc", "--source", str(releases), "--out", str(tmp_path / "out"), "--any-count"]
    argv += ["--splits", "val", "--reviewed", str(tmp_path / "reviewed.json")]
    prepare_grounding.main(argv)
    assert rows(tmp_path / "out/unc/unc_val.jsonl")[0]["clean"] is False
    assert "0 of 1 reviewed" in capsys.readouterr().out
    with pytest.raises(TTDError, match="--review-key"):
        prepare_grounding.main([*argv, "--review-key", "other"])


@pytest.mark.parametrize(
    "references",
    [{"a": 1}, [1], [{"split": "val"}], [{"split": "val", "ann_id": [1], "sentences": 3}]],
)
def test_other_pickles_are_one_line(releases, tmp_path, references):
    (releases / "refcoco/refs(unc).p").write_bytes(pickle.dumps(references))
    with pytest.raises(TTDError, match=r"refs\(unc\)"):
        argv = ["unc", "--source", str(releases), "--out", str(tmp_path / "out"), "--splits", "val"]
        prepare_grounding.main(argv)


def test_nothing_there(tmp_path):
    with pytest.raises(TTDError, match="holds no release"):
        prepare_grounding.main(["unc", "--source", str(tmp_path), "--out", str(tmp_path)])
    with pytest.raises(TTDError, match="--source"):
        prepare_grounding.main(["unc", "--out", str(tmp_path)])
