"""Positions as sines: norms, order, and what is set in a model."""

import math

import pytest
import torch
from small_grounding import write_backbone, write_phrases

from core.backbones import load_backbone
from core.data.grounding import read_phrases
from core.errors import TTDError
from core.grounding.encoder import sine_table
from core.grounding.run_config import GroundingConfig
from core.grounding.task import GroundingTask


def test_a_value_by_hand():
    """Patch (row 1, column 2) of 4 x 4: x = 2.5/4, y = 1.5/4; the first wave is a quarter."""
    row = sine_table(4, 16)[1 * 4 + 2]
    quarter = 2 * math.pi * 0.25
    assert row[0].item() == pytest.approx(math.sqrt(2) * math.sin(quarter * 2.5 / 4), abs=1e-5)
    assert row[8].item() == pytest.approx(math.sqrt(2) * math.sin(quarter * 1.5 / 4), abs=1e-5)
    last = 2 * math.pi * 1.6 * 2.5 / 4
    assert row[3].item() == pytest.approx(math.sqrt(2) * math.sin(last), abs=1e-5)
    assert row.norm().item() == pytest.approx(4.0, abs=1e-4)


def test_neighbours_are_the_most_alike():
    """Of every patch, a direct neighbour has the largest inner product."""
    side = 8
    table = sine_table(side, 64)
    alike = (table @ table.T).fill_diagonal_(-math.inf)
    nearest = alike.argmax(1)
    for patch, other in enumerate(nearest.tolist()):
        apart = abs(patch // side - other // side) + abs(patch % side - other % side)
        assert apart == 1, patch


def test_what_a_run_begins_with(tmp_path):
    """Patches' rows are the sines, others and the published start stay drawn."""
    arch = write_backbone(tmp_path / "clip")
    phrases = read_phrases(write_phrases(tmp_path))
    settings = {
        "arch": arch, "data": "list", "out": str(tmp_path / "run"), "device": "cpu", "layers": 1,
        "hidden": 32, "heads": 4, "feedforward": 32,
    }  # fmt: skip
    tables = {}
    for start in ("normal", "sines"):
        config = GroundingConfig(**settings, position_start=start)
        task = GroundingTask(config, load_backbone(arch, device="cpu"), [phrases])
        tables[start] = task.model.vl_pos_embed.weight.detach()
    patches = (task.model.config.image_size // task.model.backbone.patch) ** 2
    assert torch.equal(tables["sines"][-patches:], sine_table(math.isqrt(patches), 32))
    assert torch.equal(tables["sines"][:-patches], tables["normal"][:-patches])
    assert not torch.equal(tables["sines"], tables["normal"])
    with pytest.raises(TTDError, match="position_start"):
        GroundingConfig(**settings, position_start="cosines")
    with pytest.raises(TTDError, match="multiple of 4"):
        sine_table(4, 6)
