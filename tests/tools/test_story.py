"""The story that `make demo` tells: which image, what is written on it, and the whole script."""

import numpy as np
import pytest
import torch
from paths import ROOT
from PIL import Image
from story_parts import Look, absent_word, choose_picture, columns_of

from core.data.heldout import make_item
from core.errors import TTDError
from core.evaluation.captions import THRESHOLDS
from core.evaluation.heldout_scores import MAPS, MapCounts, Measured
from core.metrics.segmentation import threshold_counts
from core.plots.before_after import GAP, MARGIN, SIDE, TILE, Cell, Column, draw_before_after


def item(name="a", text="A red car and a ladder", tags=("red", "car"), size=20):
    masks = np.zeros((len(tags), size, size), bool)
    for k, mask in enumerate(masks):
        mask[2 * k : 2 * k + 10, 5:15] = True
    return make_item(name, np.full((size, size, 3), 200, np.uint8), text, tags, masks)


def perfect(one, wrong=0.0):
    """A `Look` whose maps are the truth but for a share `wrong`, and which keeps the true words."""

    def seen(mask):
        return np.where(np.arange(mask.shape[1]) < mask.shape[1] * (1 - wrong), mask, False).astype(
            np.float32
        )

    words = np.zeros((len(one.words), *one.image.shape[:2]), np.float32)
    return Look(
        np.stack([seen(mask) for mask in one.masks]),
        words,
        seen(one.masks.any(0)),
        one.truth.copy(),
        one.truth.astype(float),
    )


def measured(items, looks):
    captions, words = [], []
    for one, look in zip(items, looks, strict=True):
        captions.append(threshold_counts(look.caption, one.masks.any(0), THRESHOLDS))
        for values, mask in zip(look.tags, one.masks, strict=True):
            words.append(threshold_counts(values, mask, THRESHOLDS))
    captions, words = np.stack(captions), np.stack(words)
    owners = np.repeat(np.arange(len(items)), [len(one.tags) for one in items])
    scores = {"pixel": [torch.zeros(len(one.words)) for one in items]}
    return Measured(
        tuple(items),
        scores,
        MapCounts(dict.fromkeys(MAPS, captions), np.arange(len(items))),
        MapCounts(dict.fromkeys(MAPS, words), owners),
    )


def test_the_picture_has_the_best_maps_among_those_that_gained_and_name_an_absent_thing():
    items = [
        item("good"),
        item("best"),
        item("best but worse than before"),
        item("nothing absent", "a red car"),
        item("one tag", "a car or a ladder", ("car",)),
    ]
    missing = ((0.5, 0.5, 0.0, 0.7, 0.7), (0.4, 0.35, 0.3, 0.0, 0.0))
    before, after = (measured(items, map(perfect, items, wrong)) for wrong in missing)
    assert after.item_iou().argmax() == 3 and after.item_iou()[2] > after.item_iou()[1]
    assert choose_picture(before, after).id == "best"
    without = [m.part(["nothing absent"]) for m in (before, after)]
    assert choose_picture(*without).id == "nothing absent"


def test_an_absent_word_is_a_thing_that_is_named_and_not_there():
    assert absent_word(item()) == 5 and absent_word(item(text="a red car on grass")) is None


def test_columns_say_what_is_kept_and_how_well_it_is_found():
    one = item()
    look, worse = (
        perfect(one),
        perfect(one, 0.5),
    )  # columns 10 to 14 of masks over 5 to 14 are missing
    worse.kept[:] = True
    caption, red, car, ladder = columns_of(one, [worse, look])
    assert [column.title for column in (caption, red, car, ladder)] == [
        "whole caption",
        "red",
        "car",
        "ladder",
    ]
    assert [cell.note for cell in red.cells] == ["kept, IoU 50 %", "kept, IoU 100 %"]
    assert [cell.note for cell in ladder.cells] == ["kept", "rejected"]
    assert [cell.good for cell in ladder.cells] == [False, True] and ladder.truth is None
    assert [cell.quiet for cell in ladder.cells] == [False, True]
    assert all(cell.good for cell in car.cells) and caption.cells[1].good is None


def test_the_drawing_has_every_map_in_its_place():
    values = np.zeros((10, 10), np.float32)
    full = Column("all", "", (Cell(values + 1), Cell(values)), values > -1)
    absent = Column("none", "", (Cell(values), Cell(values + 1, "kept", False)), None)
    sheet = draw_before_after(
        np.full((30, 40, 3), 77, np.uint8), "a caption", [full, absent], legend=("one", "two")
    )
    left, top = MARGIN + 2 * TILE + GAP + GAP + SIDE, None
    column = sheet[:, left + TILE // 2].astype(int)
    red, blue = (np.flatnonzero((column == colour).all(1)) for colour in ((255, 0, 0), (0, 0, 255)))
    top = red[0]
    assert len(red) == pytest.approx(2 * TILE, abs=8) and len(blue) == pytest.approx(TILE, abs=4)
    assert top < blue[0] < red[-1]  # before is red, after blue, truth red
    other = sheet[top + TILE // 2 :: TILE + GAP, left + TILE + GAP + TILE // 2][:2]
    assert other.tolist() == [[0, 0, 255], [255, 0, 0]]
    assert (sheet[top + TILE, MARGIN + TILE] == 77).all()


def test_the_map_of_a_rejected_word_is_grey():
    values = np.full((10, 10), 1, np.float32)
    cells = (Cell(values), Cell(values, quiet=True))
    sheet = draw_before_after(np.zeros((9, 9, 3), np.uint8), "x", [Column("a", "", cells, None)])
    column = sheet[:, MARGIN + 2 * TILE + GAP + GAP + SIDE + TILE // 2].astype(int)
    for colour in ((255, 0, 0), (120, 120, 120)):
        assert (column == colour).all(1).sum() == pytest.approx(TILE, abs=8)


def test_odd_shapes_and_scripts_are_drawn():
    values = np.random.default_rng(0).random((7, 90)).astype(np.float32)
    column = Column("寿司 " * 9, "in the image", (Cell(values, "kept"), Cell(values)), values > 0.5)
    assert draw_before_after(np.zeros((7, 90, 3), np.uint8), "word " * 80, [column]).ndim == 3
    with pytest.raises(TTDError, match="needs 3 maps"):
        draw_before_after(
            np.zeros((9, 9, 3), np.uint8), "x", [column], rows=("before", "between", "after")
        )


@pytest.mark.slow
def test_the_whole_story_in_small(monkeypatch, tmp_path, capsys):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    monkeypatch.setenv("TTD_CACHE", str(tmp_path / "cache"))
    threads = torch.get_num_threads()
    import story

    small = ["--steps", "3", "--train", "40", "--held-out", "12", "--out", str(tmp_path / "out")]
    try:
        assert story.main(small) == 0
        first, adapter = (
            capsys.readouterr().out,
            (tmp_path / "out/story/run/TTD.safetensors").read_bytes(),
        )
        assert story.main(small) == 0  # again, in the same folder: the same world, the same adapter
    finally:
        torch.set_num_threads(threads)
    for part in ("1/5", "2/5", "3/5", "4/5", "5/5", "before", "after", "gain", "all foreground"):
        assert part in first
    assert (tmp_path / "out/story/run/TTD.safetensors").read_bytes() == adapter
    assert Image.open(tmp_path / "out/ttd.png").size[0] > 800
