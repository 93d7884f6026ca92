"""TTD training with towers that are not CLIP's: both towers move, and the adapter loads again."""

from contextlib import closing
from dataclasses import replace

import pytest
import torch
from small_dinotxt import write_dinotxt
from small_perception import write_perception
from small_siglip import write_siglip
from small_tips import write_tips
from small_tokenizer import write_tokenizer

from core.backbones import load_backbone
from core.backbones.lora.adapter import adapter_parameters
from core.data.pairs import open_pairs
from core.training.trainer import Trainer
from core.ttd.task import TTDTask


def siglip(folder):
    write_tokenizer(write_siglip(folder))
    return f"local-dir:{folder}"


def perception(folder):
    return f"local-dir:{write_perception(folder, words=49_408)}"


def tips(folder):
    write_tips(folder)
    return f"tips:{folder}"


def dinotxt(folder):
    write_dinotxt(folder, 3)
    return f"dinotxt:{folder}"


@pytest.mark.parametrize("family", [siglip, perception, tips, dinotxt])
def test_both_towers_move_and_the_adapter_loads(family, config, tmp_path):
    arch = family(tmp_path / "model")
    config = replace(config, arch=arch, steps=2, batch=2, eval_every=10)
    pairs = open_pairs(config.data, config.root)
    backbone = load_backbone(arch, device="cpu")
    with closing(Trainer(TTDTask(config, backbone, pairs))) as trainer:
        outcome = trainer.run()
    moved = {
        name.split(".")[0]
        for name, value in adapter_parameters(backbone).items()
        if name.endswith("lora_B.weight") and value.abs().max() > 0
    }
    assert moved == {"text", "visual"}
    again = load_backbone(arch, lora=outcome.file, device="cpu")
    with torch.no_grad():
        got, want = again.encode_text(["a dog"]), backbone.encode_text(["a dog"])
    assert torch.allclose(got, want, atol=1e-5)
