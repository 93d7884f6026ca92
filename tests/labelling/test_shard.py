"""One shard to one file: whole or absent, kept when whole, and what is wrong said in a line."""

import errno
import json
import os
import shutil
import tarfile

import pytest
from kills import contents, run_until
from small_labels import about, label_all, one_model, rows_of, settings_for, small_set
from small_pairs import caption, picture, write_shards
from small_records import tar

from core.errors import TTDError
from core.labelling import places
from core.labelling import shard as shards
from core.labelling.manifest import NAME, missing, shards_of
from core.labelling.places import Output

TAGS = {"want": ("tags",)}


@pytest.fixture(scope="module")
def model(small_clip):
    """Settings of tags alone, whose model is loaded once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "PAUSE", 0.0)
        settings = settings_for(small_clip, **TAGS)
        one_model(patch, settings)
        yield settings


def png(number):
    import io

    data = io.BytesIO()
    picture(number).save(data, "PNG")
    return data.getvalue()


def pair(number):
    return {f"{number:03d}.png": png(number), f"{number:03d}.txt": caption(number).encode()}


def test_what_is_whole_is_kept_and_what_is_not_is_made_again(model, tmp_path):
    pattern, out = small_set(tmp_path / "in"), tmp_path / "out"
    assert [one.state for one in label_all(pattern, model, out)] == ["made"] * 3
    before = contents(out)
    (out / "00001.json").unlink()  # declared whole last, so it is not whole
    (out / "00002.parquet").write_bytes(b"half")
    states = [one.state for one in label_all(pattern, model, out)]
    assert states == ["kept", "made", "made"] and contents(out) == before
    rows = rows_of(out / NAME)
    assert [(row["name"], row["pairs"], row["state"]) for row in rows] == [
        (f"{k:05d}", pairs, "labelled") for k, pairs in enumerate((3, 3, 2))
    ]
    import hashlib

    for row in rows:
        output = (out / f"{row['name']}.parquet").read_bytes()
        source = (tmp_path / f"in/{row['name']}.tar").read_bytes()
        assert row["output_sha256"] == hashlib.sha256(output).hexdigest()
        assert row["input_sha256"] == hashlib.sha256(source).hexdigest()


def test_a_run_killed_at_any_moment_resumes_to_the_same_bytes(model, tmp_path):
    pattern = small_set(tmp_path / "in", (2, 1))
    calls = run_until(0, lambda: label_all(pattern, model, tmp_path / "whole"))
    expected = contents(tmp_path / "whole")
    for fatal in range(1, calls + 1):
        out = tmp_path / f"killed{fatal}"
        run_until(fatal, lambda out=out: label_all(pattern, model, out))
        label_all(pattern, model, out)
        assert contents(out) == expected, f"killed at call {fatal}"


def test_a_changed_input_is_labelled_again_and_a_moved_one_is_not(model, tmp_path):
    write_shards(tmp_path / "in", (2,))
    shard, out = tmp_path / "in/00000.tar", tmp_path / "out"
    label_all(str(shard), model, out)
    os.utime(shard, (1, 1))
    assert label_all(str(shard), model, out)[0].state == "kept"
    shutil.copytree(tmp_path / "in", tmp_path / "moved")
    assert label_all(str(tmp_path / "moved"), model, out)[0].state == "kept"
    write_shards(tmp_path / "in", (3,))
    assert label_all(str(shard), model, out)[0].state == "made"
    assert len(rows_of(out / "00000.parquet")) == 3
    shard.unlink()  # cleared away: the labels stay
    assert label_all(str(shard.parent / "{00000..00000}.tar"), model, out)[0].state == "kept"


def test_another_shard_of_that_name_is_refused(model, tmp_path):
    for name, count in (("a", 1), ("b", 2)):
        write_shards(tmp_path / name, (count,))
    label_all(str(tmp_path / "a"), model, tmp_path / "out")
    (report,) = label_all(str(tmp_path / "b"), model, tmp_path / "out")
    assert report.state == "stopped" and "holds the labels of" in report.reason
    (report,) = label_all(str(tmp_path / "b"), model, tmp_path / "out", overwrite=True)
    assert (report.state, report.pairs) == ("made", 2)
    both = [one.name for one in shards_of([str(tmp_path / "a/*.tar"), str(tmp_path / "b/*.tar")])]
    assert both == ["a/00000", "b/00000"]


def test_other_settings_are_refused_and_replaced_on_demand(model, tmp_path, small_clip):
    pattern, out = small_set(tmp_path / "in", (1,)), tmp_path / "out"
    label_all(pattern, model, out)
    other = settings_for(small_clip, **TAGS, threshold=0.7)
    with pytest.MonkeyPatch.context() as patch:
        one_model(patch, other)
        (report,) = label_all(pattern, other, out)
        assert report.state == "stopped" and "tags.threshold: null, not 0.7" in report.reason
        (report,) = label_all(pattern, other, out, overwrite=True)
        assert report.state == "made"


def test_shards_as_people_have_them(model, tmp_path):
    """What can be used is labelled, the rest is listed with the reason, nothing ends the run."""
    folder, out = tmp_path / "in", tmp_path / "out"
    first, second, third = pair(1), pair(2), pair(3)
    tar(folder / "whole.tar", first | second | third)
    unsorted = {"a.png": png(1), "b.png": png(2), "a.txt": b"a dog", "b.txt": b"a cat"}
    tar(folder / "unsorted.tar", unsorted | first)
    tar(folder / "odd.tar", first | {"n.png": b"no image", "n.txt": b"a dog", "m.png": png(4)})
    with tarfile.open(folder / "twice.tar", "w") as archive:
        for _ in range(2):
            tar(tmp_path / "x.tar", first)
            with tarfile.open(tmp_path / "x.tar") as source:
                for one in source:
                    archive.addfile(one, source.extractfile(one))
            archive.addfile(tarfile.TarInfo("0between"))
    tar(folder / "none.tar", {})
    data = (folder / "whole.tar").read_bytes()
    (folder / "cut.tar").write_bytes(data[: len(data) // 4])
    (folder / "zero.tar").write_bytes(b"")
    (folder / "text.tar").write_bytes(b"this is no tar" * 100)
    names = [*sorted(path.stem for path in folder.glob("*.tar")), "lost"]
    pattern = f"{folder}/{{{','.join(names)}}}.tar"
    reports = {one.shard: one for one in label_all(pattern, model, out)}
    made = {name: one.pairs for name, one in reports.items() if one.state == "made"}
    assert made == {"cut": 1, "none": 0, "odd": 1, "twice": 2, "unsorted": 1, "whole": 3}
    assert {name for name, one in reports.items() if one.state == "failed"} == {
        "lost",
        "text",
        "zero",
    }
    assert "no such file" in reports["lost"].reason and "damaged" in reports["zero"].reason
    assert [row["key"] for row in rows_of(out / "twice.parquet")] == ["001", "001#1"]
    reasons = " ".join(item["reason"] for item in about(out / "odd.json")["skipped"])
    assert "not an image" in reasons and "no caption" in reasons
    assert any("damaged" in item["reason"] for item in about(out / "cut.json")["skipped"])
    listed = {row["name"]: row["reason"] for row in rows_of(out / NAME) if row["reason"]}
    assert listed.keys() == {"lost", "text", "zero"}
    # Mended, the same command labels what had failed, and it is no longer listed.
    shutil.copy(folder / "whole.tar", folder / "zero.tar")
    again = {one.shard: one.state for one in label_all(pattern, model, out)}
    assert again == dict.fromkeys(made, "kept") | {
        "zero": "made",
        "lost": "failed",
        "text": "failed",
    }
    assert {path.stem for path in (out / "_failed").iterdir()} == {"lost", "text"}


def test_a_shard_that_cannot_be_read_for_once_is_tried_again(model, tmp_path, monkeypatch):
    pattern, real, calls = small_set(tmp_path / "in", (2,)), places.stamp_of, []

    def away_once(url):
        calls.append(url)
        if len(calls) == 1:
            raise places.UnreadableError(f"{url}: cannot be read (timeout)")
        return real(url)

    monkeypatch.setattr(shards, "stamp_of", away_once)
    assert label_all(pattern, model, tmp_path / "out")[0].state == "made" and len(calls) == 2


@pytest.mark.parametrize("ending", [".parquet", ".json"])
def test_a_full_disk_is_one_line_and_the_run_resumes(model, tmp_path, monkeypatch, ending):
    pattern, out = small_set(tmp_path / "in", (2, 2)), tmp_path / "out"
    real = os.replace

    def full(source, target):
        if str(target).endswith("00001" + ending):
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        reports = label_all(pattern, model, out)
    assert [one.state for one in reports] == ["made", "stopped"]
    assert "No space left on device" in reports[1].reason and "resumes" in reports[1].reason
    assert missing(Output(str(out)), shards_of([pattern]))
    label_all(pattern, model, out)
    label_all(pattern, model, tmp_path / "whole")
    assert contents(out) == contents(tmp_path / "whole")


def test_buckets_by_fsspec(model, tmp_path):
    """memory:// stands for a bucket: the same bytes as from a disk to a disk."""
    fsspec = pytest.importorskip("fsspec")
    pattern = small_set(tmp_path / "in", (2, 1))
    label_all(pattern, model, tmp_path / "out")
    bucket = fsspec.filesystem("memory")
    bucket.put(str(tmp_path / "in"), "/in", recursive=True)
    try:
        for source in ("memory://in/*.tar", "memory://in/{00000..00001}.tar"):
            reports = label_all(source, model, "memory://labels")
        assert [one.state for one in reports] == ["kept", "kept"]
        for name in ("00000.parquet", "00001.parquet"):
            assert bucket.cat(f"/labels/{name}") == (tmp_path / "out" / name).read_bytes()
        assert NAME in Output("memory://labels").sizes()
    finally:
        bucket.rm("/in", recursive=True)
        bucket.rm("/labels", recursive=True)


def test_a_bucket_that_refuses_is_one_line(model, tmp_path, monkeypatch):
    fsspec = pytest.importorskip("fsspec")
    pattern, bucket = small_set(tmp_path / "in", (1,)), type(fsspec.filesystem("memory"))

    def refused(self, *args, **more):
        raise PermissionError("Access Denied")

    monkeypatch.setattr(bucket, "put_file", refused)
    worker = shards.Worker(model, "memory://refused")
    (one,) = shards_of([pattern])
    report = worker(one)
    assert report.state == "stopped" and "Access Denied" in report.reason
    assert "\n" not in report.reason


def test_names_that_labels_cannot_have(tmp_path):
    tar(tmp_path / "_manifest.tar", {})
    with pytest.raises(TTDError, match="rename the shard"):
        shards_of([str(tmp_path / "_manifest.tar")])
    with pytest.raises(TTDError, match="no such shards"):
        shards_of([str(tmp_path / "x*.tar")])
    with pytest.raises(TTDError, match="nosuch"):
        shards_of(["nosuch://bucket/*.tar"])


def test_files_of_two_runs_hold_no_times(model, tmp_path):
    pattern = small_set(tmp_path / "in", (2,))
    for name in ("a", "b"):
        label_all(pattern, model, tmp_path / name)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert json.loads((tmp_path / "a/_protocol.json").read_text())["identity"]["want"] == ["tags"]


def test_what_no_reader_foresaw_is_listed_until_it_is_the_rule(model, tmp_path, monkeypatch):
    """A bug that one shard meets costs that shard; one that all meet ends the run."""
    pattern, real, broken = small_set(tmp_path / "in", (1,) * 8), shards.records_of, {"00001.tar"}

    def fails(path):
        if path.name in broken:
            raise ZeroDivisionError("of a bug")
        return real(path)

    monkeypatch.setattr(shards, "records_of", fails)
    reports = label_all(pattern, model, tmp_path / "out")
    assert [one.state for one in reports] == ["made", "failed", *["made"] * 6]
    assert reports[1].reason == "unexpected ZeroDivisionError: of a bug"
    broken |= {f"{k:05d}.tar" for k in range(8)}
    reports = label_all(pattern, model, tmp_path / "none")
    assert [one.state for one in reports[:5]] == [*["failed"] * 4, "stopped"]
    assert "5 shards in a row" in reports[4].reason
