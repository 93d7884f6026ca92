"""Training pairs: the index on disk, names, pruned lists, and shards that are missing."""

import errno
import json
from pathlib import Path

import numpy as np
import pytest
from small_pairs import caption, picture, write_jsonl, write_set, write_shards

from core.data.pairs import hash_id, open_index, open_pairs, read_pruned
from core.data.records import read_record
from core.data.shards import named_shards
from core.errors import TTDError, UnreadableError


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("TTD_CACHE", str(tmp_path / "cache"))


def texts(pairs):
    return [pairs[i].text for i in range(len(pairs))]


def test_folders_lists_and_shards_give_the_same_pairs(tmp_path):
    root = write_set(tmp_path / "root", 7)
    rows = write_jsonl(tmp_path / "list" / "pairs.jsonl", 7)
    shards = write_shards(tmp_path / "shards", (3, 4))
    wanted = [caption(i) for i in range(7)]
    for name in ("cc3m", str(rows), str(shards), str(shards / "{00000..00001}.tar")):
        pairs = open_pairs(name, root)
        assert texts(pairs) == wanted, name
        assert read_record(pairs[5]).shape == (32, 40, 3)
    for pairs in (open_pairs(str(rows)), open_pairs(str(shards))):  # lossless: the very images
        assert np.array_equal(read_record(pairs[6]), np.asarray(picture(6)))


def test_names_joined_by_plus_and_what_is_not_there(tmp_path):
    root = write_set(write_set(tmp_path, 3), 2, "cc12m", first=10)
    pairs = open_pairs("cc3m+cc12m", root)
    assert texts(pairs) == [caption(i) for i in (0, 1, 2, 10, 11)]
    assert texts(open_pairs("cc12m+cc3m", root, limit=4)) == [caption(i) for i in (10, 11, 0, 1)]
    with pytest.raises(TTDError, match="no pairs called cc4m.*--root"):
        open_pairs("cc3m+cc4m", root)
    with pytest.raises(TTDError, match="no data named"):
        open_pairs("", root)


def test_the_index_is_made_once_and_anew_when_the_input_changed(tmp_path):
    place = str(write_jsonl(tmp_path / "pairs.jsonl", 4))
    calls = []
    first = open_index(place, progress=calls.append)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.*")}
    assert open_index(place).digest == first.digest
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.*")}
    with open(place, "a") as file:
        file.write(json.dumps({"image": "images/p0000.png", "text": "one more"}) + "\n")
    assert len(open_index(place)) == 5 and open_index(place).digest != first.digest


def test_captions_edited_in_place_are_noticed_unless_they_are_trusted(tmp_path):
    root = write_set(tmp_path, 3)
    old = open_pairs("cc3m", root).digest
    (root / "cc3m/train/json/cc3m_0001.json").write_text('{"text": "other"}')
    assert open_pairs("cc3m", root, trust=True).digest == old
    assert open_pairs("cc3m", root).digest != old
    assert open_pairs("cc3m", root)[1].text == "other"


def test_a_caption_that_cannot_be_read_stops_the_index(tmp_path, monkeypatch):
    root = write_set(tmp_path, 3)
    bad = root / "cc3m/train/json/cc3m_0001.json"
    read = Path.read_bytes

    def away(path):
        if path == bad:
            raise OSError(errno.EIO, "Input/output error")
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", away)
    with pytest.raises(UnreadableError, match="1 captions could not be read.*cc3m_0001"):
        open_pairs("cc3m", root)
    monkeypatch.undo()
    assert len(open_pairs("cc3m", root)) == 3  # nothing is left out for good


def test_unusable_records_are_listed_not_numbered(tmp_path):
    root = write_set(tmp_path, 5)
    folder = root / "cc3m/train"
    (folder / "json/cc3m_0001.json").write_text("{")
    (folder / "json/cc3m_0002.json").write_text('{"text": "..."}')
    (folder / "image/cc3m_0003.jpg").unlink()
    pairs = open_pairs("cc3m", root)
    assert [pairs[i].id for i in range(len(pairs))] == ["cc3m_0000", "cc3m_0004"]
    assert {item.id: item.reason.split(",")[0] for item in pairs.skipped} == {
        "cc3m_0001": "bad caption file",
        "cc3m_0002": "no words in the caption",
        "cc3m_0003": "no image with this name",
    }


def test_pruned_lists_keep_what_they_name(tmp_path):
    root = write_set(write_set(tmp_path, 4), 3, "cc12m")
    kept = tmp_path / "kept.txt"
    kept.write_text("# ttd pruned list of cc3m, TCL\ncc3m_0002\ncc3m_0000\ncc12m_0001\nunknown\n")
    pairs = open_pairs("cc3m+cc12m", root, [str(kept)])
    ids = [pairs[i].id for i in range(len(pairs))]
    assert ids == ["cc3m_0000", "cc3m_0002", "cc12m_0001"]
    pairs = open_pairs("cc3m+cc12m", root, [str(kept), "none"])
    ids = [pairs[i].id for i in range(len(pairs))]
    assert ids == ["cc3m_0000", "cc3m_0002", "cc12m_0000", "cc12m_0001", "cc12m_0002"]
    assert hash_id("cc3m_0002") in read_pruned(kept) and hash_id("# ttd") not in read_pruned(kept)
    for lists, said in (
        (["a", "b", "c"], "3 pruned lists for 2 sets"),
        ([str(tmp_path / "no")], "cannot be read"),
    ):
        with pytest.raises(TTDError, match=said):
            open_pairs("cc3m+cc12m", root, lists)
    kept.write_text("somebody else\n")
    with pytest.raises(TTDError, match="no usable pair.*pruned list"):
        open_pairs("cc3m", root, [str(kept)])


def test_the_digest_tells_other_data_apart(tmp_path):
    root = write_set(tmp_path, 4)
    kept = tmp_path / "kept.txt"
    kept.write_text("cc3m_0000\ncc3m_0001\n")
    digests = {
        open_pairs("cc3m", root).digest,
        open_pairs("cc3m", root, limit=2).digest,
        open_pairs("cc3m", root, [str(kept)]).digest,
    }
    assert len(digests) == 3 and open_pairs("cc3m", root).digest in digests
    (tmp_path / "moved").mkdir()
    (root / "cc3m").rename(tmp_path / "moved" / "cc3m")
    assert open_pairs("cc3m", tmp_path / "moved").digest in digests  # the same pairs elsewhere


def test_an_input_without_usable_captions_is_refused(tmp_path):
    root = write_set(tmp_path, 1)
    (root / "cc3m/train/json/cc3m_0000.json").write_text("{}")
    with pytest.raises(TTDError, match="no usable pair"):
        open_pairs("cc3m", root)


def test_shards_of_a_pattern_that_are_missing_are_named(tmp_path):
    folder = write_shards(tmp_path / "shards", (1, 1, 1))
    whole = named_shards(str(folder / "{00000..00002}.tar"), tmp_path)
    assert (whole.named, whole.missing) == (3, ())
    (folder / "00001.tar").unlink()
    short = named_shards(f"{folder}/{{00000..00003}}.tar+{folder}", tmp_path)
    assert short.named == 4  # the folder names none
    assert short.missing == (f"{folder}/00001.tar", f"{folder}/00003.tar")
    assert named_shards(str(folder / "*.tar"), tmp_path).named == 0
