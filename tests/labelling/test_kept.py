"""What is kept is the labels of that very input, and files of others are left alone."""

import os
import shutil

import pytest
from small_labels import about, label_all, one_model, rows_of, settings_for, small_set
from small_pairs import write_shards

from core.data.pairs import open_pairs
from core.labelling import shard as shards
from core.labelling.manifest import NAME, shards_of


@pytest.fixture(scope="module")
def model(small_clip):
    """Settings of tags alone, whose model is loaded once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "PAUSE", 0.0)
        settings = settings_for(small_clip, want=("tags",))
        one_model(patch, settings)
        yield settings


def test_size_and_date_of_another_file_do_not_make_it_the_same(model, tmp_path):
    for name, count in (("a", 1), ("b", 2)):  # tars of both are 10,240 bytes
        write_shards(tmp_path / name, (count,))
        os.utime(tmp_path / name / "00000.tar", (1, 1))
    sizes = [(tmp_path / name / "00000.tar").stat().st_size for name in "ab"]
    label_all(str(tmp_path / "a"), model, tmp_path / "out")
    (report,) = label_all(str(tmp_path / "b"), model, tmp_path / "out")
    assert sizes[0] == sizes[1] and report.state == "stopped"
    (report,) = label_all(str(tmp_path / "c/{00000..00000}.tar"), model, tmp_path / "out")
    assert report.state == "failed" and "no such file" in report.reason


def test_a_place_that_tells_no_dates_is_read_again(model, tmp_path, monkeypatch):
    write_shards(tmp_path / "in", (1,))
    real = shards.stamp_of
    monkeypatch.setattr(shards, "stamp_of", lambda url: shards.Stamp(real(url).size, ""))
    states = []
    for count in (1, 1, 2):
        write_shards(tmp_path / "in", (count,))
        states.append(label_all(str(tmp_path / "in"), model, tmp_path / "out")[0].state)
    assert states == ["made", "kept", "made"]
    assert len(rows_of(tmp_path / "out/00000.parquet")) == 2


def test_the_labels_of_a_moved_set_name_its_new_place(model, tmp_path, monkeypatch):
    monkeypatch.setenv("TTD_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "out"
    label_all(small_set(tmp_path / "in", (2,)), model, out)
    shutil.move(tmp_path / "in", tmp_path / "moved")
    assert label_all(str(tmp_path / "moved"), model, out)[0].state == "kept"
    assert about(out / "00000.json")["shard"] == str(tmp_path / "moved/00000.tar")
    assert len(open_pairs(str(out))) == 2


def test_a_failure_that_has_passed_is_no_longer_listed(model, tmp_path, monkeypatch):
    pattern, out = small_set(tmp_path / "in", (1,)), tmp_path / "out"
    label_all(pattern, model, out)
    os.utime(tmp_path / "in/00000.tar", (1, 1))
    with monkeypatch.context() as patch:

        def away(path):
            raise shards.UnreadableError(f"{path}: cannot be read (Input/output error)")

        patch.setattr(shards, "file_digest", away)
        assert label_all(pattern, model, out)[0].state == "failed"
    assert label_all(pattern, model, out)[0].state == "kept"
    assert [row["state"] for row in rows_of(out / NAME)] == ["labelled"]


def test_files_of_others_are_not_replaced(model, tmp_path):
    """img2dataset leaves NAME.parquet and NAME_stats.json beside its tars."""
    pattern, folder = small_set(tmp_path / "in", (1,)), tmp_path / "in"
    (folder / "00000.parquet").write_bytes(b"urls and licences")
    (report,) = label_all(pattern, model, folder)
    assert report.state == "stopped" and "00000.parquet" in report.reason
    assert (folder / "00000.parquet").read_bytes() == b"urls and licences"


def test_failures_that_are_far_apart_do_not_end_a_run(model, tmp_path, monkeypatch):
    pattern, real = small_set(tmp_path / "in", (1,) * 12), shards.records_of

    def fails(path):
        if int(path.stem) % 2:
            raise ZeroDivisionError("of a bug")
        return real(path)

    monkeypatch.setattr(shards, "records_of", fails)
    states = [one.state for one in label_all(pattern, model, tmp_path / "out")]
    assert states == ["made", "failed"] * 6


def test_folders_whose_name_looks_like_a_pattern(tmp_path):
    folder = write_shards(tmp_path / "my [set] {a}", (1, 1))
    assert [one.name for one in shards_of([str(folder)])] == ["00000", "00001"]


def test_folders_of_a_bucket(tmp_path):
    bucket = pytest.importorskip("fsspec").filesystem("memory")
    bucket.put(str(write_shards(tmp_path / "in", (1, 1))), "/tars", recursive=True)
    try:
        for place in ("memory://tars", "memory://tars/"):
            assert [one.name for one in shards_of([place])] == ["00000", "00001"]
    finally:
        bucket.rm("/tars", recursive=True)
