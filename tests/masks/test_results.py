"""A folder of masks: written whole, locked, refused when something else made it."""

import errno
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from paths import ROOT
from PIL import Image

from core.data.labels.datasets import voc_palette
from core.errors import TTDError
from core.masks.coco_rle import write_rle
from core.masks.labels import Scores
from core.masks.results import MaskFolder, is_whole, load_scores, save_scores
from core.masks.writer import MaskWriter, save_mask
from core.utils.files import try_lock


def open_folder(path, token="run", overwrite=False, **identity):
    return MaskFolder(
        path, {"identity": {"bg": 0.4, "scales": (1.0,), **identity}}, token, overwrite
    )


def some_mask(seed=0, top=21) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, top, (13, 17)).astype(np.uint8)


@pytest.mark.parametrize("palette", [None, voc_palette()])
def test_masks_come_back_as_they_went(tmp_path, palette):
    mask = some_mask()
    mask[0, 0] = 255
    save_mask(tmp_path / "a.png", mask, palette)
    image = Image.open(tmp_path / "a.png")
    assert image.mode == ("L" if palette is None else "P") and (np.asarray(image) == mask).all()
    if palette is not None:
        assert (np.asarray(image.convert("RGB")) == palette[mask]).all()
    assert os.listdir(tmp_path) == ["a.png"] and is_whole(tmp_path / "a.png")


def test_a_png_that_lacks_its_end_is_not_whole(tmp_path):
    save_mask(tmp_path / "a.png", some_mask())
    data = (tmp_path / "a.png").read_bytes()
    for length in (0, 3, len(data) - 1):
        (tmp_path / "b.png").write_bytes(data[:length])
        assert not is_whole(tmp_path / "b.png")
    assert not is_whole(tmp_path / "absent.png")


def test_a_folder_is_gone_on_with_by_the_same_settings_alone(tmp_path):
    open_folder(tmp_path / "r").close()
    save_mask(tmp_path / "r" / "a.png", some_mask())
    folder = open_folder(tmp_path / "r", "another run")
    assert folder.has("a") and not folder.has("b") and not folder.has("a", scores=True)
    folder.close()
    with pytest.raises(TTDError, match=r"bg: 0.4, not 0.5.*--overwrite") as error:
        open_folder(tmp_path / "r", bg=0.5)
    assert "scales" not in str(error.value) and "\n" not in str(error.value)
    assert (tmp_path / "r" / "a.png").exists()


def test_overwrite_empties_the_folder(tmp_path):
    folder = open_folder(tmp_path / "r")
    save_mask(tmp_path / "r" / "a.png", some_mask())
    save_scores(folder.scores("a"), np.zeros((1, 2, 2), np.float16), np.zeros(1, np.int16), (2, 2))
    folder.close()
    folder = open_folder(tmp_path / "r", "second", overwrite=True, bg=0.5)
    assert not folder.has("a") and not folder.scores("a").exists()
    assert json.loads((tmp_path / "r" / "protocol.json").read_text())["identity"]["bg"] == 0.5
    save_mask(tmp_path / "r" / "a.png", some_mask())
    fellow = open_folder(
        tmp_path / "r", "second", overwrite=True, bg=0.5
    )  # a shard of the same run that comes late
    assert fellow.has("a")
    folder.close(), fellow.close()
    late = open_folder(
        tmp_path / "r", "second", overwrite=True, bg=0.5
    )  # and one that comes after all others left
    assert late.has("a")
    late.close()


def test_masks_without_their_protocol_are_refused(tmp_path):
    (tmp_path / "r").mkdir()
    save_mask(tmp_path / "r" / "a.png", some_mask())
    with pytest.raises(TTDError, match="without protocol.json"):
        open_folder(tmp_path / "r")


def test_a_second_run_is_refused_and_fellow_shards_are_not(tmp_path):
    first = open_folder(tmp_path / "r", "run 1")
    fellow = open_folder(tmp_path / "r", "run 1")
    for _ in range(2):
        with pytest.raises(TTDError, match="another run is writing") as error:
            open_folder(tmp_path / "r", "run 2")
        assert "\n" not in str(error.value)
        first.close()  # the lock lives as long as any shard
    fellow.close()
    open_folder(tmp_path / "r", "run 2").close()


@pytest.mark.parametrize("left", ["nothing", "what another run prepared"])
def test_a_fellow_of_a_shard_that_died_while_preparing_says_so(tmp_path, left):
    """One shard has the lock with the run's token, the one that wrote it has died."""
    folder = tmp_path / "r"
    open_folder(folder, "run 1").close()
    if left == "nothing":
        (folder / "protocol.json").unlink()
    with (folder / ".lock").open("w") as lock:
        lock.write("run 2")
        lock.flush()
        try_lock(lock, exclusive=False)
        with pytest.raises(TTDError, match="a process ended while it prepared") as error:
            open_folder(folder, "run 2")
        assert "\n" not in str(error.value)
    open_folder(folder, "run 2").close()


def test_the_lock_dies_with_its_process(tmp_path):
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        f"from core.masks.results import MaskFolder\nfrom pathlib import Path\n"
        f"folder = Path({str(tmp_path / 'r')!r})\n"
        "f = MaskFolder(folder, {'identity': {'bg': .4, 'scales': [1.]}}, 'other')\n"
        "print('locked', flush=True)\nimport time; time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "locked\n"
    with pytest.raises(TTDError, match="another run"):
        open_folder(tmp_path / "r")
    process.kill()
    process.wait()
    open_folder(tmp_path / "r").close()


def test_remains_of_a_killed_writer_are_removed(tmp_path):
    open_folder(tmp_path / "r").close()
    (tmp_path / "r" / ".a.png.part").write_bytes(b"half")
    open_folder(tmp_path / "r").close()
    assert not (tmp_path / "r" / ".a.png.part").exists()


def test_shards_with_other_settings_are_refused(tmp_path):
    first = open_folder(tmp_path / "r")
    with pytest.raises(TTDError, match="shard of this run has other settings"):
        open_folder(tmp_path / "r", bg=0.9)
    first.close()


def test_skipped_pictures_are_listed_once_and_sorted(tmp_path):
    folder = open_folder(tmp_path / "r")
    for name in ("b", "a", "b"):
        folder.skip(name, f"{name} is damaged")
    lines = [
        json.loads(line) for line in (tmp_path / "r" / "skipped.jsonl").read_text().splitlines()
    ]
    assert lines == [{"id": "a", "reason": "a is damaged"}, {"id": "b", "reason": "b is damaged"}]
    folder.close()
    open_folder(tmp_path / "r", "next run").close()
    assert not (tmp_path / "r" / "skipped.jsonl").exists()  # it looks for itself


def test_the_writer_writes_everything_before_it_is_left(tmp_path):
    folder = open_folder(tmp_path / "r")
    scores = Scores(np.full((2, 13, 17), 0.5, np.float16), np.array([3, 7], np.int16))
    with MaskWriter(folder) as writer:
        for i in range(30):
            writer.write(str(i), some_mask(i), scores if i == 3 else None)
    assert all(
        (np.asarray(Image.open(folder.mask(str(i)))) == some_mask(i)).all() for i in range(30)
    )
    maps, classes = load_scores(folder.scores("3"))
    assert (maps == 0.5).all() and maps.shape == (2, 13, 17) and classes.tolist() == [3, 7]
    folder.close()


def test_a_full_disk_is_one_line_and_leaves_nothing_half_done(tmp_path, monkeypatch):
    folder = open_folder(tmp_path / "r")
    save = Image.Image.save

    def full(self, file, *args, **kwargs):
        if "b.png" in file.name:
            file.write(b"some bytes")
            raise OSError(errno.ENOSPC, "No space left on device")
        save(self, file, *args, **kwargs)

    monkeypatch.setattr(Image.Image, "save", full)
    with (
        pytest.raises(TTDError, match=r"No space left on device.*run the\s+same command again"),
        MaskWriter(folder) as writer,
    ):
        for name in "abcdefghijklmnop":
            writer.write(name, some_mask())
    names = sorted(os.listdir(tmp_path / "r"))
    assert (
        folder.has("a")
        and "b.png" not in names
        and not [name for name in names if name.endswith(".part")]
    )
    folder.close()


def test_damaged_and_missing_scores_say_so(tmp_path):
    with pytest.raises(TTDError, match="--save-scores"):
        load_scores(tmp_path / "a.npz")
    (tmp_path / "a.npz").write_bytes(b"no archive")
    with pytest.raises(TTDError, match="damaged"):
        load_scores(tmp_path / "a.npz")


def test_run_lengths_of_all_masks(tmp_path):
    """Decoded by hand: column by column, background first."""
    folder = open_folder(tmp_path / "r")
    masks = {"a": np.array([[0, 1, 1], [2, 2, 255]], np.uint8), "b": np.zeros((2, 2), np.uint8)}
    for name, mask in masks.items():
        save_mask(folder.mask(name), mask)
    write_rle(folder, list(masks), {1: 1, 2: 2})
    entries = json.loads((tmp_path / "r" / "rle.json").read_text())
    assert [(e["image_id"], e["category_id"]) for e in entries] == [("a", 1), ("a", 2)]
    for entry in entries:
        height, width = entry["segmentation"]["size"]
        flat = np.repeat(
            np.arange(len(entry["segmentation"]["counts"])) % 2, entry["segmentation"]["counts"]
        )
        want = masks[entry["image_id"]] == entry["category_id"]
        assert (want == flat.reshape(width, height).T).all()
    write_rle(folder, ["b"], {1: 1})
    assert json.loads((tmp_path / "r" / "rle.json").read_text()) == []
    folder.close()
