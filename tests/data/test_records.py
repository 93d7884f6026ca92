"""Readers of images with captions: each layout, what is broken in it, and the order."""

import json
import os
from collections import Counter

import numpy as np
import pytest
from PIL import Image
from small_records import listed, picture, summary, tar, write

from core.data.records import Skipped, expand_braces, open_records, read_record
from core.data.records.ids import Distinct
from core.errors import TTDError


@pytest.mark.parametrize("below", ["", "cc3m_for_evaluation/"])
def test_evaluation_layout(tmp_path, below):
    write(
        tmp_path,
        {
            f"{below}image/b.jpg": picture(7),
            f"{below}image/a.png": picture(1),
            f"{below}image/lonely.jpg": picture(),
            f"{below}json_refined/b.json": {"text": "two", "tags": ["x"]},
            f"{below}json_refined/a.json": {"text": "one", "tags": []},
            f"{below}json_refined/c.json": {"text": "no image", "tags": []},
            f"{below}image/.hidden": b"",
        },
    )
    records = open_records(tmp_path)
    items = list(records.iterate())
    assert [item.index for item in items] == [0, 1, 2] and records.count == 3 and records.exact
    assert (items[0].text, items[0].tags, items[0].name) == ("one", (), "image/a.png")
    assert (items[1].text, items[1].tags, items[1].name) == ("two", ("x",), "image/b.jpg")
    assert isinstance(items[2], Skipped) and items[2].reason == "no image with this name"
    assert (read_record(items[1]) == 7).all() and read_record(items[1]).shape == (2, 3, 3)
    assert "1 captions without an image" in records.description
    assert "1 images without a caption" in records.description


def test_training_layout_has_no_tags(tmp_path):
    write(tmp_path, {"image/a.jpg": picture(), "json/a.json": {"text": "one"}})
    assert [(item.id, item.text, item.tags) for item in listed(tmp_path)] == [("a", "one", None)]


@pytest.mark.parametrize("below", ["", "00000/"])
def test_folder_of_pairs(tmp_path, below):
    write(
        tmp_path,
        {
            f"{below}b.jpg": picture(),
            f"{below}b.txt": "two\n",
            f"{below}a.webp": picture(),
            f"{below}a.json": {"caption": "one"},
            f"{below}b.json": {"caption": "the .txt is used"},
            f"{below}_stats.json": {"count": 2},
            f"{below}alone.png": picture(),
        },
    )
    assert summary(listed(tmp_path)) == [(f"{below}a", "one"), (f"{below}b", "two")]


def test_jsonl(tmp_path):
    lines = [
        {"image": "x.jpg", "text": "one"},
        {"image": "sub/y.jpg", "captions": ["two", "", "three"]},
        {"image": "x.jpg", "captions": ["single"], "id": "own", "tags": ["t"]},
    ]
    content = "\n".join(
        [
            json.dumps(lines[0]),
            "",
            "not json",
            json.dumps(lines[1]),
            '{"text": "no image"}',
            json.dumps(lines[2]),
            '{"image": "x.jpg", "captions": "abc"}',
        ]
    )
    write(tmp_path, {"list.jsonl": content, "images/x.jpg": picture(5), "sub/y.jpg": picture(6)})
    records = open_records(tmp_path / "list.jsonl")
    items = list(records.iterate())
    assert [item.id for item in items] == [
        "x",
        "list.jsonl:3",
        "sub/y#0",
        "sub/y#1",
        "sub/y#2",
        "list.jsonl:5",
        "own",
        "list.jsonl:7",
    ]
    assert [item.index for item in items] == list(range(8)) and records.count == 8
    assert [type(item) is Skipped for item in items] == [
        False,
        True,
        False,
        True,
        False,
        True,
        False,
        True,
    ]
    assert (
        items[3].reason == "empty caption"
        and 'no "image"' in items[5].reason
        and items[6].tags == ("t",)
    )
    assert (read_record(items[0]) == 5).all() and (read_record(items[4]) == 6).all()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "bad caption file"),
        ('{"txt": "a"}', 'no "text"|no "caption"'),
        ('{"text": 5}', "must be a string"),
        ('{"text": "  "}', "empty caption"),
        ("[]", "bad caption file"),
        ('{"text": "a", "tags": "b"}', "list of strings"),
        ('{"text": "half \\ud83d"}', "surrogates"),
        (b"\xff\xfe", "bad caption file"),
    ],
)
def test_bad_captions_are_skipped_with_the_reason(tmp_path, content, reason):
    write(
        tmp_path,
        {
            "image/a.jpg": picture(),
            "json/a.json": content,
            "image/b.jpg": picture(),
            "json/b.json": {"text": "fine"},
        },
    )
    first, second = listed(tmp_path)
    assert isinstance(first, Skipped) and any(part in first.reason for part in reason.split("|"))
    assert second.text == "fine" and second.index == 1


def test_every_reader_starts_anywhere(tmp_path):
    lines = "\n".join(
        json.dumps({"image": "i.jpg", "captions": [f"{k} a", f"{k} b"]}) for k in range(4)
    )
    write(
        tmp_path,
        {
            "l/l.jsonl": lines,
            **{f"f/image/{k}.jpg": picture() for k in range(8)},
            **{f"f/json/{k}.json": {"text": str(k)} for k in range(8)},
            **{f"p/{k}.jpg": picture() for k in range(8)},
            **{f"p/{k}.txt": str(k) for k in range(8)},
        },
    )
    for shard in range(2):
        tar(
            tmp_path / f"t/{shard}.tar",
            {f"{k}{end}": b"x" for k in range(4) for end in (".jpg", ".txt")},
        )
    for root in ("l/l.jsonl", "f", "p", "t"):
        records = open_records(tmp_path / root)
        whole = list(records.iterate())
        assert len(whole) == 8
        assert list(records.iterate(3)) == whole[3:] and list(records.iterate(2, 5)) == whole[2:5]
        assert list(records.iterate(5, 3)) == [] and list(records.iterate(9)) == []


def test_braces():
    assert expand_braces("a{08..10}.tar") == ["a08.tar", "a09.tar", "a10.tar"]
    assert expand_braces("{x,y}/{0..1}") == ["x/0", "x/1", "y/0", "y/1"]
    assert expand_braces("plain{}") == ["plain{}"]


@pytest.mark.parametrize(
    ("files", "root", "message"),
    [
        ({}, "gone", "no such"),
        ({"a.txt": "x"}, "a.txt", "not a list or shard"),
        ({"a.jpg": b"x"}, ".", "wanted"),
        ({"c.jsonl": "{}"}, ".", "name it: .*c.jsonl"),
        ({"e.jsonl": " \n"}, "e.jsonl", "no lines"),
        ({"e.jsonl": b"\xff\xfe"}, "e.jsonl", "not UTF-8"),
    ],
)
def test_inputs_that_hold_nothing_are_one_line(tmp_path, files, root, message):
    write(tmp_path, files)
    with pytest.raises(TTDError, match=message) as error:
        open_records(tmp_path / root)
    assert "\n" not in str(error.value)


def test_relative_roots_work(tmp_path, monkeypatch):
    write(tmp_path, {"set/image/a.jpg": picture(), "set/json/a.json": {"text": "one"}})
    monkeypatch.chdir(tmp_path)
    assert summary(listed("set")) == [("a", "one")]
    assert os.path.normpath(str(next(open_records("set").iterate()).image)) == os.path.normpath(
        "set/image/a.jpg"
    )


def test_ids_that_occur_again_are_numbered(tmp_path):
    Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(tmp_path / "a.png")
    lines = [{"image": "a.png", "text": text} for text in ("one", "two")]
    lines += [{"id": "a#1", "image": "a.png", "text": "three"}, lines[0]]
    path = tmp_path / "l.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    records = open_records(path)
    assert "3 ids occur again" in records.description
    expected = ["a", "a#1", "a#1#1", "a#2"]
    assert [item.id for item in records.iterate()] == expected
    assert [item.id for item in records.iterate(2)] == expected[2:]
    tars = {"0.jpg": picture(1), "0.txt": b"a"}
    tar(tmp_path / "s/0.tar", tars), tar(tmp_path / "s/1.tar", tars)
    assert [item.id for item in listed(tmp_path / "s")] == ["0", "0#1"]


def test_distinct_against_a_dictionary():
    rng = np.random.default_rng(0)
    names = [str(number) for number in rng.integers(0, 20_000, 30_000)]
    distinct, seen = Distinct(), Counter()
    for name in names:
        expected = name if not seen[name] else f"{name}#{seen[name]}"
        seen[name] += 1
        assert distinct(name) == expected


def test_two_images_of_one_name_are_skipped_by_name(tmp_path):
    for name in ("a.jpg", "a.png", "b.jpg"):
        Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(tmp_path / name)
    for name in "ab":
        (tmp_path / f"{name}.TXT").write_text("words")
    first, second = listed(tmp_path)
    assert "several images: a.jpg, a.png" in first.reason and second.text == "words"


def test_ids_stay_below_their_folder(tmp_path):
    (tmp_path / "l").mkdir()
    Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(tmp_path / "a.png")
    ids = ["../../x", "/etc/x", "x" * 500, "a\u2028b", "a\u0000b", "a\nb", "\ud800"]
    lines = [{"id": name, "image": "../a.png", "text": "words"} for name in ids]
    path = tmp_path / "l/l.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    items = listed(path)
    assert [item.id for item in items[:2]] == ["__/__/x", "etc/x"]
    assert len(items[2].id) == 200
    for item in items[3:]:
        assert isinstance(item, Skipped) and item.id.isprintable() and "an id" in item.reason


@pytest.mark.parametrize("text", ["a.jsonl", "a.tar"])
def test_pipes_are_refused(tmp_path, text):
    os.mkfifo(tmp_path / text)
    with pytest.raises(TTDError):
        open_records(tmp_path / text)
