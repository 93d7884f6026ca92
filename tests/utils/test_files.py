"""Atomic files, locks, names and stored JSON, against what the file system holds afterwards."""

import os
import subprocess
import sys

import pytest

from core.errors import TTDError
from core.utils.files import (
    atomic,
    differences,
    flatten,
    read_json,
    safe_name,
    try_lock,
    write_bytes,
    write_errors,
    write_json,
    write_text,
)


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old\n")
    write_bytes(path, b"new\x00\n")
    assert path.read_bytes() == b"new\x00\n"
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError])
def test_an_error_leaves_the_old_file_and_nothing_beside_it(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error), atomic(path) as part:
        part.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_readers_never_see_the_part(tmp_path):
    path = tmp_path / "a.txt"
    with atomic(path) as part:
        part.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"


def test_two_writers_of_a_shared_file_have_parts_of_their_own(tmp_path):
    path = tmp_path / "a.txt"
    with atomic(path, shared=True) as first, atomic(path, shared=True) as second:
        assert first != second
        first.write_text("1")
        second.write_text("2")
    assert path.read_text() == "1"  # the outer block ends last
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_file_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TTDError, match=r"file/a.json: cannot be written \(Not a directory\); make"):
        write_json(tmp_path / "file" / "a.json", {})
    with (
        pytest.raises(TTDError, match=r"^x: cannot be written \(No space left on device\); wait$"),
        write_errors("x", "wait"),
    ):
        raise OSError(28, "No space left on device")


def test_json_comes_back_or_is_none(tmp_path):
    path = tmp_path / "a.json"
    content = {"ä": [1, None], "b": {"c": 0.5}}
    write_json(path, content)
    assert read_json(path) == content
    assert "ä" in path.read_text(encoding="utf-8")
    for damaged in ("", "{", "[1]", "\x00"):
        path.write_text(damaged)
        assert read_json(path) is None
    assert read_json(tmp_path / "none.json") is None


def test_differences_name_nested_keys():
    stored, ours = (
        {"a": 1, "b": {"c": [1.0], "d": 2}},
        {"a": 1, "b": {"c": [2.0], "d": 2}, "e": "x"},
    )
    assert differences(stored, ours) == ["b.c: [1.0], not [2.0]", 'e: null, not "x"']
    assert differences(ours, ours) == []
    assert flatten({"a": {"b": {"c": 1}, "d": {}}, "e": 2}) == {"a.b.c": 1, "a.d": {}, "e": 2}


@pytest.mark.parametrize(
    ("name", "safe"),
    [("000001", "000001"), ("a/b", "a_b"), ("a\\b", "a_b"), ('w:*?"<>|', "w_______")],
)
def test_safe_names(name, safe):
    assert safe_name(name) == safe


LOCKER = """
import sys
sys.path.insert(0, {root!r})
from core.utils.files import try_lock
print(try_lock(open({path!r}, 'a'), exclusive={exclusive}))
"""


@pytest.mark.parametrize(
    ("ours", "theirs", "free"),
    [(True, True, False), (True, False, False), (False, True, False), (False, False, True)],
)
def test_locks_hold_against_another_process(tmp_path, ours, theirs, free):
    from paths import ROOT

    path = tmp_path / "lock"
    code = LOCKER.format(root=str(ROOT), path=str(path), exclusive=theirs)
    with path.open("a") as file:
        assert try_lock(file, exclusive=ours)
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert other.stdout.strip() == str(free), other.stderr
    after = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert after.stdout.strip() == "True"
