"""Readers of images with captions: each layout, what is broken in it, and the order."""

import io
import json
import os
import tarfile
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from core.data.records import Record, Skipped, expand_braces, open_records, read_record
from core.data.records.ids import Distinct
from core.errors import TTDError


def picture(value=0):
    """A PNG of 2 x 3 pixels of one grey, as bytes."""
    buffer = io.BytesIO()
    Image.fromarray(np.full((2, 3, 3), value, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def write(root, files):
    """Files as {relative name: str, bytes, or something for JSON}."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = (
            content
            if isinstance(content, bytes)
            else content
            if isinstance(content, str)
            else json.dumps(content)
        )
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return root


def tar(path, files):
    """An uncompressed tar of {name: bytes}."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def listed(root):
    return list(open_records(root).iterate())


def summary(items):
    return [(item.id, item.text if isinstance(item, Record) else item.reason) for item in items]


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


def test_shards_in_name_order_with_pictures_read_from_inside(tmp_path):
    first = {
        "000.jpg": picture(1),
        "000.txt": b"zero",
        "000.json": b'{"caption": "not this"}',
        "001.txt": b"no picture here",
        "002.png": picture(3),
        "002.json": b'{"caption": "two"}',
    }
    second = {
        "d/003.webp": picture(4),
        "d/003.txt": "drei ß".encode(),
        "004.jpg": picture(5),
        "004.txt": b" \n",
    }
    tar(tmp_path / "s/00001.tar", second)
    tar(tmp_path / "s/00000.tar", first)
    expected = [
        ("000", "zero"),
        (
            "001",
            "no image in 00000.tar among 001.txt; the files of a record must be adjacent and "
            "alike up to the first dot",
        ),
        ("002", "two"),
        ("d/003", "drei ß"),
        ("004", "empty caption"),
    ]
    for root in (tmp_path / "s", str(tmp_path / "s/*.tar"), str(tmp_path / "s/{00000..00001}.tar")):
        items = listed(root)
        assert summary(items) == expected and [item.index for item in items] == list(range(5))
    assert [int(read_record(items[i])[0, 0, 0]) for i in (0, 2, 3)] == [1, 3, 4]
    assert items[3].name == "00001.tar/d/003.webp"
    assert summary(listed(tmp_path / "s/00000.tar")) == expected[:3]


def test_a_name_of_a_shard_ends_at_its_first_dot(tmp_path):
    """Folders may have dots; what follows the first one of a name is its kind, in any case."""
    files = {"v1.0/005.JPG": picture(9), "v1.0/005.mask.jpg": picture(1), "v1.0/005.TXT": b"five"}
    (item,) = listed(tar(tmp_path / "0.tar", files))
    assert (item.id, item.text, int(read_record(item)[0, 0, 0])) == ("v1.0/005", "five", 9)


def test_a_truncated_shard_ends_with_a_line_that_says_so(tmp_path):
    path = tar(
        tmp_path / "0.tar", {f"{i}.{end}": b"x" * 600 for i in range(3) for end in ("jpg", "txt")}
    )
    path.write_bytes(path.read_bytes()[:2700])
    items = listed(path)
    assert [type(item) for item in items] == [Record, Skipped] and "damaged" in items[-1].reason


def test_a_compressed_shard_is_refused_by_name(tmp_path):
    with tarfile.open(tmp_path / "0.tar", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("a.txt"))
    assert "compressed" in listed(tmp_path / "0.tar")[0].reason


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


def test_shards_as_people_make_them(tmp_path):
    """AppleDouble files, unsorted members, dots in names, two images: read or skipped by name."""
    mac = {"._0.jpg": b"x", "0.jpg": picture(1), "._0.txt": b"x", "0.txt": b"zero"}
    assert summary(listed(tar(tmp_path / "mac.tar", mac))) == [("0", "zero")]
    unsorted = {"0.jpg": picture(1), "1.jpg": picture(2), "0.txt": b"a", "1.txt": b"b"}
    items = listed(tar(tmp_path / "unsorted.tar", unsorted))
    assert len(items) == 4 and all("must be adjacent" in item.reason for item in items)
    dotted = {f"a.{k}.{kind}": picture(k) for k in (0, 1) for kind in ("jpg", "txt")}
    (item,) = listed(tar(tmp_path / "dotted.tar", dotted))
    assert "up to the first dot" in item.reason
    two = {"0.jpg": picture(1), "0.png": picture(2), "0.txt": b"a"}
    (item,) = listed(tar(tmp_path / "two.tar", two))
    assert "several images" in item.reason and ".jpg and .png" in item.reason


def test_a_header_with_a_size_beyond_the_file(tmp_path):
    path = tar(tmp_path / "a.tar", {"0.jpg": picture(1), "0.txt": b"a"})
    info = tarfile.TarInfo("1.jpg")
    info.size = 1 << 40
    whole = path.read_bytes()
    path.write_bytes(whole[:2048] + info.tobuf() + b"x" * 512)
    assert all(isinstance(item, Skipped) for item in listed(path)[-1:])


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
