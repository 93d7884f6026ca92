"""Scripts that produce results on a full disk: one line from the first file on, nothing half left.

tests/training/test_damage.py: the same of training.
"""

import shutil
from pathlib import Path

import pytest
from limits import limited

import core.utils.files as files
from core.errors import TTDError
from core.utils.files import atomic, write_bytes, write_errors, write_json
from core.utils.tensors.tensor_files import save_safetensors, save_torch


@pytest.mark.parametrize("size", [0, 10, 1000])
def test_a_json_file_on_a_full_disk(tmp_path, size):
    path = tmp_path / "x.json"
    path.write_text("before")
    full = pytest.raises(TTDError, match=r"x.json: cannot be written \(File too large\)")
    with full, limited(size):
        write_json(path, {"long": "x" * 2000})
    assert path.read_text() == "before" and [one.name for one in tmp_path.iterdir()] == ["x.json"]


def test_a_disk_that_is_found_full_only_at_the_end(tmp_path, monkeypatch):
    """Quotas and network file systems say so at fsync."""

    def full(handle):
        raise OSError(28, "No space left on device")

    path = tmp_path / "x"
    path.write_bytes(b"before")
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_bytes(path, b"after", durable=True)
    assert path.read_bytes() == b"before" and len(list(tmp_path.iterdir())) == 1
    write_bytes(path, b"after")  # not asked for
    assert path.read_bytes() == b"after"


def test_a_file_system_that_cannot_wait_is_no_error(tmp_path, monkeypatch):
    def cannot(handle):
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr("os.fsync", cannot)
    write_bytes(tmp_path / "x", b"after", durable=True)
    assert (tmp_path / "x").read_bytes() == b"after"


@pytest.mark.parametrize("save", [save_torch, save_safetensors])
def test_tensors_say_why_they_cannot_be_written(tmp_path, save):
    import torch

    tensors = {"a": torch.zeros(5000)}
    for size in (0, 100, 4096, 19_000):
        full = pytest.raises(OSError, match="File too large")
        with full, limited(size), atomic(tmp_path / "x") as part:
            save(tensors, part)
        assert not list(tmp_path.iterdir())
    gone = pytest.raises(TTDError, match=r"cannot be written \(its folder is gone\)")
    with gone, write_errors(tmp_path / "x", "x"):
        save(tensors, tmp_path / "gone" / "x")


def test_a_folder_that_is_gone_is_said_so(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    gone, path = pytest.raises(TTDError, match=r"\(its folder is gone\)"), folder / "x"
    with gone, write_errors(path, "make room"), atomic(path, durable=True) as part:
        part.write_text("x")
        shutil.rmtree(folder)


def test_damaged_and_missing_files_are_told_apart(tmp_path):
    assert files.without(tmp_path / "a.json") == "without a.json"
    (tmp_path / "a.json").write_bytes(b"{")
    assert files.without(Path(tmp_path / "a.json")) == "with a damaged a.json"
