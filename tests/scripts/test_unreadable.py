"""A disk that was away: exit 2, and the next run completes the result."""

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
from small_pairs import write_jsonl

import produce_masks_from_text as masks
import produce_tags_from_text as tags
from core.errors import TTDError
from core.utils.files import read_json


@pytest.fixture
def root(tmp_path):
    return write_jsonl(tmp_path / "set/list.jsonl", 5)


@pytest.fixture
def arguments(small_clip, root, tmp_path):
    arch = f"local-dir:{small_clip}"
    return ["--root", str(root), "--arch", arch, "--device", "cpu", "--batch", "2",
            "--scorer", "pixel", "--out", str(tmp_path / "out")]  # fmt: skip


def files(folder):
    kept = ("meta", "inputs")
    return {p.name: p.read_bytes() for p in folder.iterdir() if not any(k in p.name for k in kept)}


def meta(folder):
    return read_json(next(folder.glob("*.meta.json")))


def test_tags_are_completed_when_the_images_are_back(arguments, root, tmp_path, capsys):
    whole = [*arguments[:-1], str(tmp_path / "whole")]
    assert tags.main(whole) == 0
    away = root.parent / "images/p0001.png"
    shutil.move(away, tmp_path / "hidden.png")
    capsys.readouterr()
    assert tags.main(arguments) == 2
    line = capsys.readouterr().err
    assert "1 records could not be read (images/p0001" in line and "same command" in line
    assert not meta(tmp_path / "out")["finished"]
    shutil.move(tmp_path / "hidden.png", away)
    assert tags.main(arguments) == 0
    assert files(tmp_path / "out") == files(tmp_path / "whole")
    assert meta(tmp_path / "out")["finished"]


def test_an_io_error_is_no_damage(arguments, root, tmp_path, monkeypatch):
    opened = Path.open

    def broken(path, *args, **kwargs):
        if path.name == "p0002.png":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return opened(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", broken)
    assert tags.main(arguments) == 2
    monkeypatch.undo()
    (skipped,) = (tmp_path / "out").glob("*.skipped.jsonl")
    assert [(row["id"], row["retry"]) for row in map(json.loads, skipped.open())] == [
        ("images/p0002", True)
    ]
    assert tags.main(arguments) == 0 and not skipped.exists()


def test_nothing_usable_is_exit_2(arguments, root, tmp_path):
    for image in (root.parent / "images").iterdir():
        image.write_bytes(b"no image")
    assert tags.main(arguments) == 2
    assert tags.main(arguments) == 2  # and so it stays


def test_a_replaced_image_is_refused_until_it_is_trusted_or_made_again(arguments, root, capsys):
    assert tags.main(arguments) == 0
    shutil.copyfile(root.parent / "images/p0000.png", root.parent / "images/p0001.png")
    with pytest.raises(TTDError, match="files changed: 1 of 5, the first images/p0001.png"):
        tags.main(arguments)
    capsys.readouterr()
    assert tags.main([*arguments, "--trust-inputs"]) == 0
    assert "complete already" in capsys.readouterr().out
    assert tags.main([*arguments, "--overwrite"]) == 0
    assert tags.main(arguments) == 0


def test_a_changed_caption_is_refused(arguments, root):
    assert tags.main(arguments) == 0
    root.write_text(root.read_text().replace("red", "pink", 1))
    with pytest.raises(TTDError, match="captions changed: 1 of 5"):
        tags.main(arguments)


def test_masks_say_what_could_not_be_read(small_clip, root, tmp_path, capsys):
    line = ["--data", str(root), "--arch", f"local-dir:{small_clip}", "--device", "cpu",
            "--image", "32", "--out", str(tmp_path / "out")]  # fmt: skip
    away = root.parent / "images/p0001.png"
    shutil.move(away, tmp_path / "hidden.png")
    assert masks.main(line) == 2
    assert "1 images could not be read" in capsys.readouterr().err
    shutil.move(tmp_path / "hidden.png", away)
    assert masks.main(line) == 0
    (folder,) = (tmp_path / "out").iterdir()
    assert len(list(folder.glob("*.png"))) == 5 and not (folder / "skipped.jsonl").exists()
    shutil.copyfile(root.parent / "images/p0000.png", away)
    with pytest.raises(TTDError, match="files changed: 1 of 5"):
        masks.main(line)
    assert masks.main([*line, "--trust-inputs"]) == 0
    assert masks.main([*line, "--overwrite"]) == 0
