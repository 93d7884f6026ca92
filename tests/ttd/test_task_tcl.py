"""TTD on TCL: what is trained, and a step in its official shapes."""

import json
import math
from contextlib import closing
from dataclasses import replace

import pytest

from core.backbones import load_backbone
from core.backbones.lora.adapter import adapter_parameters
from core.data.pairs import open_pairs
from core.training.trainer import Trainer
from core.ttd.task import TTDTask


def lines(config):
    return [
        json.loads(line) for line in (config.folder / "train_log.jsonl").read_text().splitlines()
    ]


def test_tcl_trains_its_text_tower_and_its_masker(small_tcl, config):
    config = replace(config, arch="TCL", weights=str(small_tcl), steps=2, batch=2)
    pairs = open_pairs(config.data, config.root)
    backbone = load_backbone("TCL", weights=small_tcl, device="cpu")
    with closing(Trainer(TTDTask(config, backbone, pairs))) as trainer:
        trainer.run()
    names = set(adapter_parameters(backbone))
    assert {name.split(".")[0] for name in names} == {"text", "masker"}
    moved = {
        name.split(".")[0]
        for name, value in adapter_parameters(backbone).items()
        if name.endswith("lora_B.weight") and value.abs().max() > 0
    }
    assert moved == {"text", "masker"}


@pytest.mark.slow
def test_a_step_of_tcl_in_its_official_shapes(config, tmp_path):
    import oracle_tcl
    from small_tcl import save

    weights = oracle_tcl.random_checkpoint(oracle_tcl.tcl_shapes(), 0)
    config = replace(
        config, arch="TCL", steps=1, batch=1, limit=1, eval_every=1, checkpoint_every=1
    )
    backbone = load_backbone("TCL", weights=save(tmp_path / "tcl.pth", weights), device="cpu")
    task = TTDTask(config, backbone, open_pairs(config.data, config.root, limit=1))
    with closing(Trainer(task)) as trainer:
        assert trainer.run().step == 1
    assert math.isfinite(lines(config)[0]["loss"])
