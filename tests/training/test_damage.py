"""A training run on a full disk, in a folder that goes away, with files that are damaged."""

import json
import os
import shutil
from contextlib import ExitStack
from dataclasses import replace

import pytest
import torch
from kills import contents
from limits import limited
from line_task import LineTask, fit, on_a_line

from core.errors import TTDError

CLOCKED = ("settings.json", "train_log.jsonl", "checkpoint.pt", "tb/", ".lock")


@pytest.fixture
def config(config):
    return replace(config, steps=4, checkpoint_every=2)


def train(config, **run):
    return fit(LineTask(config, on_a_line(7)), **run)


@pytest.mark.parametrize("size", [0, 50, 120, 300, 900, 1500, 2500])
def test_a_full_disk_at_any_size_is_one_line_and_nothing_is_left(config, size):
    """From the first file on; then with room the same command ends as if nothing had been."""
    train(config)
    want = contents(config.folder, CLOCKED)
    full = replace(config, out=config.out + "_full")
    with pytest.raises(TTDError) as error, limited(size):
        train(full)
    text = str(error.value)
    assert "cannot be written (File too large); make room" in text and "\n" not in text
    assert str(full.folder) in text
    names = [path.name for path in full.folder.rglob("*")]
    assert not [name for name in names if "part" in name or "tmp" in name]
    train(full)
    assert contents(full.folder, CLOCKED) == want


def test_a_full_disk_during_a_checkpoint_keeps_the_one_before(config):
    with ExitStack() as later, pytest.raises(TTDError, match=r"\(File too large\); make room"):
        train(config, progress=lambda step, _: step == 3 and later.enter_context(limited(400)))
    state = torch.load(config.folder / "checkpoint.pt", weights_only=True)
    assert state["step"] == 2 and not list(config.folder.rglob("*.part"))
    whole = replace(config, out=config.out + "_whole")
    train(whole), train(config)
    assert contents(config.folder, CLOCKED) == contents(whole.folder, CLOCKED)


def test_a_folder_that_goes_away_is_named(config):
    def remove(step, values):
        if step == 1:
            shutil.rmtree(config.folder)

    with pytest.raises(TTDError, match=r"run/last.safetensors: cannot be written \(its folder is"):
        train(config, progress=remove)


DAMAGED = {
    "empty": lambda whole: b"",
    "cut": lambda whole: whole[: len(whole) // 2],
    "text": lambda whole: b"not at all what it was",
    "zeros": lambda whole: bytes(len(whole)),
}


@pytest.mark.parametrize("damage", DAMAGED)
@pytest.mark.parametrize("name", ["checkpoint.pt", "settings.json"])
def test_a_damaged_file_is_named_with_the_way_out(config, name, damage):
    train(config, should_stop=lambda: True)
    path = config.folder / name
    path.write_bytes(DAMAGED[damage](path.read_bytes()))
    with pytest.raises(TTDError) as error:
        train(config)
    text = str(error.value)
    assert text.startswith(f"{path}: damaged") and "--overwrite" in text and "\n" not in text
    if name == "checkpoint.pt":
        assert "last.safetensors is still there" in text


@pytest.mark.parametrize(
    "change",
    [
        {"step": "3"},
        {"earlier": "x"},
        {"scores": []},
        {"exports": {"previous": ""}},
        {"exports": 3},
        {"task": {}},
        {"task": None},
        {"update": {}},
        {"update": {"moments": 1}},
    ],
)
def test_a_checkpoint_of_another_form_is_damaged(config, change):
    train(config, should_stop=lambda: True)
    path = config.folder / "checkpoint.pt"
    state = torch.load(path, weights_only=True)
    torch.save({**state, **change}, path)
    with pytest.raises(TTDError, match="checkpoint.pt: damaged, so the run cannot be resumed"):
        train(config)


@pytest.mark.parametrize("missing", ["step", "earlier", "scores", "task", "update", "stall"])
def test_a_checkpoint_without_a_part_is_damaged(config, missing):
    train(config, should_stop=lambda: True)
    path = config.folder / "checkpoint.pt"
    state = torch.load(path, weights_only=True)
    del state[missing]
    torch.save(state, path)
    with pytest.raises(TTDError, match="checkpoint.pt: damaged"):
        train(config)


def test_a_log_with_damaged_lines_keeps_the_others(config):
    train(config, should_stop=lambda: True)
    log = config.folder / "train_log.jsonl"
    log.write_bytes(log.read_bytes() + b'{"step": 1, "lo\n\xff\xfe\n[1]\n{"step": "x"}\n')
    train(config)
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4]


def test_a_folder_that_cannot_be_made(config):
    config.folder.parent.joinpath("file").write_text("x")
    with pytest.raises(TTDError, match=r"cannot be written \(Not a directory\)"):
        train(replace(config, out=str(config.folder.parent / "file" / "run")))
    assert os.listdir(config.folder.parent) == ["file"]
