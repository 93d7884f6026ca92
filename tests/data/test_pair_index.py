"""The index of pairs: when it is made again, and what it stores."""

import json
import os

import pytest
from PIL import Image

from core.data.pair_index import open_index
from core.data.records import Packed, Skipped
from core.errors import TTDError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TTD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "pairs"


def write_list(path, *captions):
    lines = [json.dumps({"image": "a.png", "text": text, "id": text[:1]}) for text in captions]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def test_a_list_that_changed_is_read_again_even_at_the_same_size(tmp_path):
    place = write_list(tmp_path / "l.jsonl", "a cat", "b dog")
    os.utime(place, (1000, 1000))
    assert [open_index(place)[k].text for k in (0, 1)] == ["a cat", "b dog"]
    write_list(tmp_path / "l.jsonl", "a dog", "b cat")
    os.utime(place, (2000, 2000))
    assert [open_index(place)[k].text for k in (0, 1)] == ["a dog", "b cat"]


def test_what_has_no_words_is_skipped_and_does_not_shift_the_others(tmp_path, cache):
    place = write_list(tmp_path / "l.jsonl", "a cat", "...", "c dog")
    calls = []
    index = open_index(place, progress=calls.append)
    assert [index[k].id for k in range(len(index))] == ["a", "c"] and index[1].text == "c dog"
    assert index.skipped == [Skipped(1, "_", "no words in the caption")] and calls == []
    assert sorted(path.suffix for path in cache.iterdir()) == [".json", ".lines", ".npy"]
    before = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    open_index(place)
    assert before == {path: path.stat().st_mtime_ns for path in cache.iterdir()}


def test_progress_is_called_every_thousand_pairs(tmp_path):
    place = write_list(tmp_path / "l.jsonl", *(f"{k} words" for k in range(2100)))
    calls = []
    assert len(open_index(place, progress=calls.append)) == 2100
    assert calls == [1000, 2000]


def test_images_inside_tars_are_found_again(tmp_path):
    import tarfile

    Image.new("RGB", (3, 2), (7, 7, 7)).save(tmp_path / "0.png")
    (tmp_path / "0.txt").write_text("grey")
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        for name in ("0.png", "0.txt"):
            tar.add(tmp_path / name, name)
    record = open_index(str(tmp_path / "s.tar"))[0]
    assert isinstance(record.image, Packed) and record.text == "grey"
    assert record.image.read() == (tmp_path / "0.png").read_bytes()


@pytest.mark.parametrize("ending", [".lines", ".json", ".npy"])
@pytest.mark.parametrize("damage", ["cut", "empty", "removed", "other"])
def test_a_damaged_index_is_made_again(tmp_path, cache, ending, damage):
    place = write_list(tmp_path / "l.jsonl", "a cat", "b dog")
    open_index(place)
    stored = {path.name: path.read_bytes() for path in cache.iterdir()}
    (path,) = cache.glob(f"*{ending}")
    if damage == "removed":
        path.unlink()
    else:
        whole = path.read_bytes()
        path.write_bytes({"cut": whole[:-9], "empty": b"", "other": b"[1, 2]"}[damage])
    index = open_index(place)
    assert [index[k].text for k in range(len(index))] == ["a cat", "b dog"]
    assert {path.name: path.read_bytes() for path in cache.iterdir()} == stored


def test_a_changed_line_of_the_index_is_one_line(tmp_path, cache):
    place = write_list(tmp_path / "l.jsonl", "a cat", "b dog")
    open_index(place)
    (path,) = cache.glob("*.lines")
    path.write_bytes(b"\0" * path.stat().st_size)
    with pytest.raises(TTDError, match=r"lines: damaged; delete it"):
        open_index(place)[0]
