"""PEFT's config: what is plain LoRA, its scale, and everything else refused by its name."""

import json
import math

import pytest
import torch
from safetensors.torch import save_file

from core.backbones.lora.files import read_adapter
from core.backbones.lora.peft_config import read_peft_config
from core.errors import TTDError

PLAIN = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "bias": "none", "use_dora": False}
STATE = {
    "base_model.model.visual.blocks.0.attn.v_proj.lora_A.weight": torch.ones(4, 6),
    "base_model.model.visual.blocks.0.attn.v_proj.lora_B.weight": torch.ones(6, 4),
}


def folder(path, state=STATE, **changes):
    (path / "adapter_config.json").write_text(json.dumps({**PLAIN, **changes}))
    save_file(state, path / "adapter_model.safetensors")
    return path


def test_the_config_of_peft_itself_passes(tmp_path):
    from peft import LoraConfig

    for alpha in (4, 64):
        config = LoraConfig(r=16, lora_alpha=alpha, target_modules=["q_proj"])
        config.save_pretrained(tmp_path)
        assert read_peft_config(tmp_path / "adapter_config.json") == {"alpha": alpha, "rank": 16}


@pytest.mark.parametrize("name", [".", "adapter_model.safetensors"])
def test_folder_and_file_say_the_same(tmp_path, name):
    """The file beside its config has the config's scale: it was lost when the file was named."""
    _, info = read_adapter(folder(tmp_path) / name)
    assert (info.alpha, info.rank) == (8, 4)


@pytest.mark.parametrize("name", [".", "adapter_model.safetensors"])
def test_rslora_has_the_scale_of_its_paper(tmp_path, name):
    """alpha / sqrt(r) = 8 / 2 = 4, so alpha / rank must be 4 here too."""
    _, info = read_adapter(folder(tmp_path, use_rslora=True) / name)
    assert math.isclose(info.alpha / info.rank, 4.0)


@pytest.mark.parametrize("name", [".", "adapter_model.safetensors"])
@pytest.mark.parametrize(
    "changes",
    [
        {"peft_type": "LOHA"},
        {"use_dora": True},
        {"bias": "all"},
        {"lora_bias": True},
        {"init_lora_weights": "pissa"},
        {"init_lora_weights": "pissa_niter_4"},
        {"init_lora_weights": "olora"},
        {"init_lora_weights": "loftq"},
        {"init_lora_weights": "corda"},
        {"init_lora_weights": "lora_ga"},
        {"use_qalora": True},
        {"alora_invocation_tokens": [1, 2]},
        {"layer_replication": [[0, 4], [2, 5]]},
        {"rank_pattern": {"q_proj": 8}},
        {"alpha_pattern": {"q_proj": 8}},
        {"modules_to_save": ["head"]},
        {"fan_in_fan_out": True},
        {"trainable_token_indices": [3]},
        {"loftq_config": {"bits": 4}},
        {"an_option_of_next_year": 1},
    ],
)
def test_what_is_not_plain_lora_is_named(tmp_path, changes, name):
    with pytest.raises(TTDError, match=next(iter(changes))):
        read_adapter(folder(tmp_path, **changes) / name)


@pytest.mark.parametrize(
    "changes",
    [
        {"init_lora_weights": "gaussian"},
        {"init_lora_weights": False},
        {"layers_to_transform": [0, 1]},
        {"exclude_modules": ["text"]},
        {"an_option_of_next_year": None},
        {"megatron_config": None, "loftq_config": {}},
    ],
)
def test_what_changes_nothing_passes(tmp_path, changes):
    assert read_adapter(folder(tmp_path, **changes))[1].alpha == 8


def test_an_unknown_alpha_is_said(tmp_path):
    save_file(STATE, tmp_path / "a.safetensors")
    with pytest.warns(UserWarning, match=r"a.safetensors does not say its alpha.*scale 1"):
        _, info = read_adapter(tmp_path / "a.safetensors")
    assert info.alpha is None


@pytest.mark.parametrize("text", ["", "[]", "{", "nul", "[" * 5000])
def test_damaged_configs_are_one_line(tmp_path, text):
    folder(tmp_path)
    (tmp_path / "adapter_config.json").write_text(text)
    with pytest.raises(TTDError, match="not a readable PEFT config") as caught:
        read_adapter(tmp_path)
    assert "\n" not in str(caught.value)
