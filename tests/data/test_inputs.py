"""What a result was made from: changes are named, copies and touched files are the same."""

import json
import os
import shutil

import numpy as np
import pytest
from small_pairs import write_jsonl, write_set, write_shards

from core.data.inputs.sources import inputs_of
from core.data.inputs.table import BLOCK, BLOCKS, Inputs, check_inputs, inputs_digest, sample_of
from core.data.records import open_records
from core.errors import TTDError


def touch(path, later=1000):
    own = path.stat()
    os.utime(path, ns=(own.st_atime_ns, own.st_mtime_ns + later * 10**9))


@pytest.fixture
def root(tmp_path):
    return write_set(tmp_path / "root", 5) / "cc3m/train"


@pytest.fixture
def table(root, tmp_path):
    path = tmp_path / "x.inputs.npz"
    inputs_of(open_records(root)).save(path)
    return path


def differences(root, table, **options):
    return inputs_of(open_records(root), **options).differences(table)


def test_the_same_inputs_do_not_differ(root, table):
    assert differences(root, table) == []
    assert differences(root, table, trust=True) == []


def test_a_changed_caption_is_named(root, table):
    (root / "json/cc3m_0003.json").write_text('{"text": "something else"}')
    assert differences(root, table) == ["captions changed: 1 of 5, the first cc3m_0003"]
    assert differences(root, table, trust=True) == ["captions changed: 1 of 5, the first cc3m_0003"]


@pytest.mark.parametrize("size", ["another", "the same"])
def test_a_replaced_image_is_named_unless_trusted(root, table, size):
    image = root / "image/cc3m_0002.jpg"
    data = image.read_bytes()
    image.write_bytes(bytes([data[0] ^ 1]) + data[1:] + b"x" * (size == "another"))
    touch(image)
    assert differences(root, table) == ["files changed: 1 of 5, the first image/cc3m_0002.jpg"]
    assert differences(root, table, trust=True) == []


def test_a_touched_or_copied_image_is_the_same(root, table):
    for path in (root / "image").iterdir():
        touch(path)
    assert differences(root, table) == []


def test_new_and_missing_records_are_counted(root, table):
    (root / "json/cc3m_0000.json").rename(root / "json/cc3m_0009.json")
    (found,) = differences(root, table)
    assert found == "captions: 1 of 5 are new (cc3m_0009), 1 are gone"


def test_what_could_not_be_read_is_no_change(root, tmp_path):
    """An image that is away now or was away then; what was known of it is not forgotten."""
    path, image = tmp_path / "t.npz", root / "image/cc3m_0001.jpg"
    records = open_records(root)  # listed while it is there
    data = image.read_bytes()
    image.unlink()
    inputs_of(records).save(path)
    image.write_bytes(data)
    assert inputs_of(records).differences(path) == []
    inputs_of(records).save(path)
    image.unlink()
    assert inputs_of(records).differences(path) == []
    inputs_of(records).save(path)
    image.write_bytes(data + b"other")
    assert inputs_of(records).differences(path) != []


def test_shards_are_known_by_size_and_time(tmp_path):
    write_shards(tmp_path, (2, 2))
    records = open_records(str(tmp_path / "*.tar"))
    path = tmp_path / "t.npz"
    inputs_of(records).save(path)
    assert inputs_of(records).differences(path) == []
    touch(records.files[1])
    (found,) = inputs_of(records).differences(path)
    assert found.startswith("files changed: 1 of 2") and found.endswith("00001.tar")


def test_another_image_of_the_same_caption_is_named(tmp_path):
    place, path = write_jsonl(tmp_path / "x.jsonl", 3), tmp_path / "t.npz"
    rows = [json.loads(text) for text in place.open()]
    place.write_text(
        "".join(json.dumps({**row, "id": str(k)}) + "\n" for k, row in enumerate(rows))
    )
    inputs_of(open_records(place)).save(path)
    rows[1]["image"] = rows[0]["image"]
    place.write_text(
        "".join(json.dumps({**row, "id": str(k)}) + "\n" for k, row in enumerate(rows))
    )
    (found,) = inputs_of(open_records(place)).differences(path)
    assert found == "captions with other images: 1 of 3, the first 1"


def test_the_refusal_says_what_and_the_ways_out(root, table, tmp_path):
    (root / "json/cc3m_0003.json").write_text('{"text": "something else"}')
    with pytest.raises(TTDError, match="captions changed.*--overwrite.*--trust-inputs"):
        check_inputs(table, inputs_of(open_records(root)), tmp_path / "x.jsonl")


def test_no_table_is_a_difference_and_a_damaged_one_an_error(root, tmp_path):
    assert differences(root, tmp_path / "none.npz") == ["what it was made from is not recorded"]
    assert differences(root, tmp_path / "none.npz", trust=True) == []
    (tmp_path / "bad.npz").write_bytes(b"PK no archive")
    with pytest.raises(TTDError, match="damaged"):
        differences(root, tmp_path / "bad.npz")


def test_a_sample_of_a_large_file_covers_both_ends(tmp_path):
    path = tmp_path / "large"
    data = bytearray(np.random.default_rng(0).bytes(4 * BLOCKS * BLOCK))
    path.write_bytes(data)
    first = sample_of(path)
    for at in (0, len(data) - 1):
        data[at] ^= 1
        path.write_bytes(data)
        assert sample_of(path) != first
        data[at] ^= 1
    path.write_bytes(data)
    assert sample_of(path) == first


def test_pipes_are_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    inputs = Inputs([("a", "text", "pipe.png", tmp_path / "pipe.png")])
    inputs.save(tmp_path / "t.npz")  # would wait for ever
    assert inputs.differences(tmp_path / "t.npz") == []


def test_the_digest_is_that_of_what_is_in_the_inputs(root, table, tmp_path):
    """Not of where and when: a copy has the same one, another caption another one."""
    copy = tmp_path / "elsewhere"
    shutil.copytree(root, copy)
    inputs_of(open_records(copy)).save(tmp_path / "copy.npz")
    digest = inputs_digest(table)
    assert digest == inputs_digest(tmp_path / "copy.npz") and len(digest) == 32
    some = next(path for path in sorted(copy.rglob("*")) if path.suffix in (".json", ".txt"))
    some.write_text(some.read_text().replace("a", "o"))
    inputs_of(open_records(copy)).save(tmp_path / "other.npz")
    assert inputs_digest(tmp_path / "other.npz") not in (None, digest)
    (tmp_path / "bad.npz").write_bytes(b"no table")
    assert inputs_digest(tmp_path / "bad.npz") is None
    assert inputs_digest(tmp_path / "none.npz") is None
