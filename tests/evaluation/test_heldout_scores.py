"""Counts of maps and the scores made of them, by hand."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from core.data.heldout import make_item
from core.errors import TTDError
from core.evaluation import heldout
from core.evaluation.captions import THRESHOLDS
from core.evaluation.heldout_maps import ItemMaps
from core.evaluation.heldout_scores import MAPS, Cuts, MapCounts, Measured, mean_iou


def found_at(threshold, *rows):
    """TP, FP, FN at one threshold; a map finds nothing at the others: [N, S, 3]."""
    values = np.zeros((len(rows), len(THRESHOLDS), 3), np.int64)
    values[..., 2] = 10
    values[:, THRESHOLDS.index(threshold)] = rows
    return values


@pytest.fixture
def measured():
    """Three items of four words: two true tags, none, one."""
    image, mask = np.zeros((2, 2, 3), np.uint8), np.ones((2, 2), bool)
    items = []
    for key, tags in (("0", ["red", "car"]), ("1", []), ("2", ["sea"])):
        masks = np.broadcast_to(mask, (len(tags), 2, 2))
        items.append(make_item(key, image, "the red car sea", tags, masks))
    captions, words = ((6, 2, 2), (1, 1, 2)), ((1, 0, 1), (3, 1, 0), (0, 2, 2))
    soft, minmax = MAPS
    return Measured(
        tuple(items),
        {"pixel": [torch.tensor([0.95, 0.9, 0.8, 0.1])] * 3},
        MapCounts(
            {soft: found_at(0.4, *captions), minmax: found_at(0.6, *captions)}, np.array([0, 2])
        ),
        MapCounts(
            {soft: found_at(0.3, *words), minmax: found_at(0.7, *words)}, np.array([0, 0, 2])
        ),
    )


def test_an_item_has_the_mean_of_its_caption_and_its_words(measured):
    """Item 0: 0.6, and words 0.5 and 0.75; item 2: 0.25 and 0."""
    got = measured.item_iou(Cuts(caption=0.4, word=0.3))
    assert got[0] == pytest.approx((0.6 + 0.625) / 2) and got[2] == pytest.approx(0.125)
    assert np.isnan(got[1])
    assert measured.item_iou(Cuts(caption=0.5, word=0.3))[0] == pytest.approx(0.625 / 2)


def test_scores_are_means_over_captions_and_over_pairs(measured):
    scores = measured.at(Cuts(word=0.3))
    assert (scores.pictures, scores.words, scores.captions, scores.pairs) == (3, 12, 2, 3)
    assert scores.caption_iou == pytest.approx((0.6 + 0.25) / 2)
    assert scores.caption_iou_pooled == pytest.approx(7 / 14)
    assert scores.word_map_iou == pytest.approx((0.5 + 0.75 + 0) / 3)
    assert scores.caption_iou_minmax == scores.word_map_iou_minmax == 0
    moved = measured.at(Cuts(caption_minmax=0.6, word_minmax=0.7))
    assert moved.caption_iou_minmax == scores.caption_iou
    assert moved.word_map_iou_minmax == scores.word_map_iou


def test_words_are_pooled_with_and_without_stop_words(measured):
    """Every item keeps the, red and car: two of nine are true, and two of six content words."""
    scores = measured.at()
    assert scores.tags.precision == pytest.approx(2 / 9)
    assert scores.content.precision == pytest.approx(2 / 6)
    assert scores.tags.recall == scores.content.recall == pytest.approx(2 / 3)


def test_the_best_cuts_are_those_of_each_kind_of_map(measured):
    best = measured.best_cuts()
    assert (best.caption, best.word, best.caption_minmax, best.word_minmax) == (0.4, 0.3, 0.6, 0.7)


def test_the_soft_mask_is_resized_not_the_cosine(monkeypatch):
    """A hard soft mask [1, 0], over 4 pixels: 1, 0.75, 0.25, 0; the cosine itself would be cut."""

    class Grid:
        def resize(self, maps, size):
            return F.interpolate(maps[None], size, mode="bilinear", align_corners=False)[0]

    class Hard:
        def soft_mask(self, maps):
            return (maps > 0).float()

    maps = torch.tensor([[[0.9, -0.1]]])
    seen = ItemMaps(maps, maps, maps[0], Grid(), {"pixel": torch.ones(1)})
    monkeypatch.setattr(heldout, "heldout_maps", lambda *_: iter([(0, seen)]))
    truth = np.array([[[True, True, False, False]]])
    item = make_item("x", np.zeros((1, 4, 3), np.uint8), "red", ["red"], truth)
    soft = heldout.measure(Hard(), [item]).words
    assert soft.at("soft", 0.4).tolist() == [[2, 0, 0]]
    assert soft.at("soft", 0.2).tolist() == [[2, 1, 0]]
    assert soft.at("soft", 0.8).tolist() == [[1, 0, 1]]


def test_a_part_keeps_its_own_maps(measured):
    part = measured.part(["1", "2"])
    assert [item.id for item in part.items] == ["1", "2"]
    assert part.captions.owner.tolist() == part.words.owner.tolist() == [1]
    assert part.at().caption_iou == 0.25 and part.at(Cuts(word=0.3)).word_map_iou == 0
    assert len(part.scores["pixel"]) == 2


def test_a_threshold_between_two_is_an_error(measured):
    with pytest.raises(TTDError, match="multiple of 0.01"):
        measured.captions.at("soft", 0.405)
    assert np.isnan(mean_iou(np.zeros((2, 3), np.int64)))
