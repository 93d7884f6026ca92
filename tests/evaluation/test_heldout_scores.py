"""Counts of maps and the scores made of them, by hand."""

import numpy as np
import pytest
import torch

from core.data.heldout import make_item
from core.errors import TTDError
from core.evaluation.captions import THRESHOLDS
from core.evaluation.heldout_scores import MAPS, Cuts, MapCounts, Measured, mean_iou

CUT = THRESHOLDS.index(0.4)


def counts(*rows):
    """TP, FP, FN at 0.40, and at every other threshold a map that finds nothing: [N, S, 3]."""
    values = np.zeros((len(rows), len(THRESHOLDS), 3), np.int64)
    values[..., 2] = 10
    values[:, CUT] = rows
    return dict.fromkeys(MAPS, values)


@pytest.fixture
def measured():
    """Three items: two true tags, none, one."""
    image, mask = np.zeros((2, 2, 3), np.uint8), np.ones((2, 2), bool)
    tags = (["red", "car"], [], ["sea"])
    items = tuple(
        make_item(
            str(k), image, "red car sea", own, np.stack([mask] * len(own) or [mask])[: len(own)]
        )
        for k, own in enumerate(tags)
    )
    return Measured(
        items,
        {"pixel": [torch.tensor([0.9, 0.8, 0.1])] * 3},
        MapCounts(counts((6, 2, 2), (1, 1, 2)), np.array([0, 2])),
        MapCounts(counts((1, 0, 1), (3, 1, 0), (0, 2, 2)), np.array([0, 0, 2])),
    )


def test_an_item_has_the_mean_of_its_caption_and_its_words(measured):
    """Item 0: 0.6, and words 0.5 and 0.75; item 2: 0.25 and 0."""
    got = measured.item_iou()
    assert got[0] == pytest.approx((0.6 + 0.625) / 2) and got[2] == pytest.approx(0.125)
    assert np.isnan(got[1])
    assert measured.item_iou(Cuts(caption=0.5, word=0.4))[0] == pytest.approx(0.625 / 2)


def test_scores_are_means_over_captions_and_over_pairs(measured):
    scores = measured.at()
    assert (scores.pictures, scores.words, scores.captions, scores.pairs) == (3, 9, 2, 3)
    assert scores.caption_iou == pytest.approx((0.6 + 0.25) / 2)
    assert scores.caption_iou_pooled == pytest.approx(7 / 14)
    assert scores.word_map_iou == pytest.approx((0.5 + 0.75 + 0) / 3)
    assert scores.caption_iou_minmax == scores.caption_iou and scores.word_map_iou_minmax == 0
    assert measured.at(Cuts(word_minmax=0.4)).word_map_iou_minmax == scores.word_map_iou


def test_the_best_cuts_are_those_of_each_kind_of_map(measured):
    best = measured.best_cuts()
    assert (best.caption, best.word, best.caption_minmax, best.word_minmax) == (0.4,) * 4


def test_a_part_keeps_its_own_maps(measured):
    part = measured.part(["1", "2"])
    assert [item.id for item in part.items] == ["1", "2"]
    assert part.captions.owner.tolist() == part.words.owner.tolist() == [1]
    assert part.at().caption_iou == 0.25 and part.at().word_map_iou == 0
    assert len(part.scores["pixel"]) == 2


def test_a_threshold_between_two_is_an_error(measured):
    with pytest.raises(TTDError, match="multiple of 0.01"):
        measured.captions.at("soft", 0.405)
    assert np.isnan(mean_iou(np.zeros((2, 3), np.int64)))
