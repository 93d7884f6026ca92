"""Adapter files: what is written is read back, by PEFT itself too; anything else is refused."""

import os
import subprocess
import sys

import pytest
import torch
from paths import ROOT
from safetensors import safe_open
from small_adapter import ALPHA, MODULES, RANK, RECIPE

from core.backbones import load_backbone
from core.backbones.lora.adapter import (
    AdapterInfo,
    adapter_parameters,
    read_adapter,
    save_adapter,
    save_peft_folder,
)
from core.errors import TTDError


def pixels(backbone):
    with torch.no_grad():
        return backbone.encode_pixels(
            backbone.normalize(torch.linspace(0, 1, 3 * 24 * 40).view(1, 3, 24, 40))
        )


def test_a_file_says_all_there_is_to_say(adapted, arch, tmp_path):
    backbone, info = adapted
    save_adapter(backbone, tmp_path / "new" / "a.safetensors", info)
    state, read = read_adapter(tmp_path / "new" / "a.safetensors")
    assert read == AdapterInfo(ALPHA, RANK, arch, "maskclip", info.base_checksum, RECIPE)
    assert read.base_checksum == load_backbone(arch, device="cpu").checksum
    assert all(
        torch.equal(state[name], value) for name, value in adapter_parameters(backbone).items()
    )
    assert [p.name for p in (tmp_path / "new").iterdir()] == [
        "a.safetensors"
    ]  # nothing half-written is left
    again = load_backbone(arch, lora=tmp_path / "new" / "a.safetensors", device="cpu")
    assert torch.equal(pixels(again), pixels(backbone))


def test_equal_adapters_are_equal_files(adapted, tmp_path):
    backbone, info = adapted
    save_adapter(backbone, tmp_path / "a", info)
    with safe_open(tmp_path / "a", framework="pt") as file:
        assert list(file.metadata()) == ["ttd"]  # the order of several would differ from run to run
    before = (tmp_path / "a").read_bytes()
    save_adapter(backbone, tmp_path / "a", info)
    assert (tmp_path / "a").read_bytes() == before


def test_a_failed_write_leaves_the_old_file(adapted, tmp_path, monkeypatch):
    backbone, info = adapted
    save_adapter(backbone, tmp_path / "a.safetensors", info)
    before = (tmp_path / "a.safetensors").read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(TTDError, match="No space left"):
        save_adapter(backbone, tmp_path / "a.safetensors", info)
    assert (tmp_path / "a.safetensors").read_bytes() == before


def test_peft_itself_reads_our_folder_and_computes_the_same(adapted, base, arch, tmp_path):
    """The oracle: PEFT's own loader on the plain backbone, whose linears it wraps correctly."""
    from peft import LoraConfig, PeftConfig, PeftModel

    backbone, info = adapted
    save_peft_folder(backbone, tmp_path, info)
    config = PeftConfig.from_pretrained(str(tmp_path))
    assert isinstance(config, LoraConfig) and (config.r, config.lora_alpha) == (RANK, ALPHA)
    assert sorted(config.target_modules) == sorted(MODULES)
    want = pixels(backbone)
    assert not torch.allclose(pixels(base), want, atol=1e-3)
    assert torch.equal(pixels(load_backbone(arch, lora=tmp_path, device="cpu")), want)
    assert torch.allclose(
        pixels(PeftModel.from_pretrained(base, str(tmp_path)).base_model.model), want, atol=1e-6
    )


def test_a_folder_that_peft_wrote_is_read(adapted, arch, base, tmp_path):
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(base, LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=MODULES))
    values = {name: value.detach() for name, value in adapter_parameters(adapted[0]).items()}
    with torch.no_grad():
        for name, parameter in adapter_parameters(model.base_model.model).items():
            parameter.copy_(values[name])
    model.save_pretrained(str(tmp_path))
    assert torch.equal(pixels(load_backbone(arch, lora=tmp_path, device="cpu")), pixels(adapted[0]))
    (tmp_path / "adapter_model.safetensors").unlink()
    torch.save(
        {f"base_model.model.{name}": value for name, value in values.items()},
        tmp_path / "adapter_model.bin",
    )
    assert torch.equal(pixels(load_backbone(arch, lora=tmp_path, device="cpu")), pixels(adapted[0]))


def test_a_pt_state_dict_is_read_and_wins_over_its_twin(adapted, arch, tmp_path):
    backbone, info = adapted
    values = {
        f"base_model.model.{name}": value.detach()
        for name, value in adapter_parameters(backbone).items()
    }
    torch.save(values, tmp_path / "x.pt")
    (tmp_path / "x.safetensors").write_bytes(b"not looked at")
    state, read = read_adapter(tmp_path / "x.pt")
    assert read == AdapterInfo() and state.keys() == adapter_parameters(backbone).keys()
    scaled = load_backbone(
        arch, lora=tmp_path / "x.pt", device="cpu"
    )  # no alpha: scale 1, not ALPHA / RANK
    assert {layer.scaling["default"] for layer in scaled.modules() if hasattr(layer, "lora_A")} == {
        1.0
    }


def test_hub_names_are_looked_up_in_the_cache(adapted, arch, tmp_path):
    backbone, info = adapted
    cache = tmp_path / "hub" / "models--someone--ttd"
    save_peft_folder(backbone, cache / "snapshots" / "abc", info)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("abc")
    code = f"""
from core.backbones import load_backbone
from core.errors import TTDError
print(len(load_backbone({arch!r}, lora="hf-hub:someone/ttd", device="cpu").checksum))
try:
    load_backbone({arch!r}, lora="hf-hub:someone/else", device="cpu")
except TTDError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"},
    )
    lines = done.stdout.splitlines()
    assert (
        lines[0] == "32"
        and "hf-hub:someone/else could not be fetched" in lines[1]
        and len(lines) == 2
    )
