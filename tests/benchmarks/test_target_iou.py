"""The check of what training would pull maps to: its masks and means, by hand."""

import math

import numpy as np
import pytest
import torch
from paths import ROOT
from prove_ttd import read_models
from target_iou import BEFORE, STRETCHES, main, means, overlap, word_masks

from core.errors import TTDError


def test_overlap_by_hand():
    truth, other = np.zeros((2, 4), bool), np.zeros((2, 4), bool)
    truth[0, :2], other[1] = True, True
    found = np.zeros((2, 4), bool)
    found[:, 0] = True  # one of two true cells, one of four of the other's
    assert overlap(found, truth, np.stack([truth, other])) == (1 / 3, 1 / 4)
    assert math.isnan(overlap(found, truth, truth[None])[1])
    assert means([(0.5, math.nan), (0.7, 0.2)]) == pytest.approx((0.6, 0.2))


def test_masks_are_those_of_the_model_and_of_its_targets(tmp_path):
    from core.backbones import load_backbone
    from core.data.heldout import load_heldout
    from core.world.writer import WorldConfig, make_world

    make_world(tmp_path / "world", WorldConfig(train=0, val=1, seed=3))
    tiny = load_backbone("tiny")
    config = read_models(ROOT / "configs" / "proof.yaml")["average-pooled"].config(0, ROOT).distill
    item = load_heldout(tmp_path / "world", 1)[0]
    found = word_masks(tiny, item, config)
    assert set(found) == {BEFORE, *STRETCHES}
    assert all(masks.shape == item.masks.shape for masks in found.values())
    pixels = torch.from_numpy(item.image).permute(2, 0, 1)[None].float() / 255
    text = tiny.encode_text(list(item.tags))
    own = tiny.masks(tiny.normalize(pixels), text)[0] > 0.40
    assert (found[BEFORE] == own.numpy()).mean() > 0.999


def test_a_model_that_is_not_in_the_grid_is_one_line():
    with pytest.raises(TTDError, match="no model nobody"):
        main(["--only", "nobody"])
