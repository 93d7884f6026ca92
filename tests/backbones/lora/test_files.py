"""Adapter files: what is written is read back, by PEFT itself too; what is damaged, foreign or code is refused."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from paths import ROOT
from safetensors import safe_open
from safetensors.torch import save_file

from core.backbones import load_backbone
from core.backbones.lora.adapter import (
    AdapterInfo,
    adapter_parameters,
    add_adapter,
    load_adapter,
    read_adapter,
    save_adapter,
    save_peft_folder,
)
from core.errors import TTDError

MODULES = ["visual.blocks.1.attn.v_proj", "visual.blocks.1.attn.out_proj", "text.blocks.0.mlp.c_fc"]
ALPHA, RANK = 6.0, 3
RECIPE = {"lr": 1e-4, "loss": "mse", "steps": [100, 200]}


@pytest.fixture
def arch(small_clip):
    return f"local-dir:{small_clip}"


@pytest.fixture
def base(arch):
    return load_backbone(arch, device="cpu")


@pytest.fixture
def adapted(arch):
    """The base with a random adapter, and its info."""
    backbone = load_backbone(arch, device="cpu")
    info = AdapterInfo.of(backbone, RECIPE)
    add_adapter(backbone, MODULES, RANK, ALPHA)
    draw = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in adapter_parameters(backbone).values():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=draw))
    return backbone, info


def pixels(backbone):
    with torch.no_grad():
        return backbone.encode_pixels(
            backbone.normalize(torch.linspace(0, 1, 3 * 24 * 40).view(1, 3, 24, 40))
        )


def tensors(rank=RANK, width=64):
    """A valid adapter on one module of the small model, by names without prefix."""
    draw = torch.Generator().manual_seed(1)
    return {
        "visual.blocks.1.attn.v_proj.lora_A.weight": torch.randn(rank, width, generator=draw),
        "visual.blocks.1.attn.v_proj.lora_B.weight": torch.randn(width, rank, generator=draw),
    }


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


class Evil:
    def __reduce__(self):
        return os.mkdir, ("pwned",)


def test_pickles_are_refused_and_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({**tensors(), "config": Evil()}, "x.pt")
    with pytest.raises(TTDError, match="pickled"):
        read_adapter("x.pt")
    assert not Path("pwned").exists()


def write_file(path, state, **info):
    save_file(state, path, metadata={"ttd": json.dumps(info)})
    return path


@pytest.mark.parametrize(
    ("state", "info", "words"),
    [
        ({}, {"alpha": 0}, "alpha is 0"),
        ({}, {"alpha": float("nan")}, "alpha is nan"),
        ({}, {"alpha": "6"}, "alpha is 6"),
        ({}, {"rank": 7}, "rank is 7 and has tensors of rank 3"),
        ({}, {"rank": "three"}, "no adapter can"),
        ({}, {"head": 3}, "no adapter can"),
        ({}, {"head": "clearclip"}, "--head clearclip"),
        ({}, {"arch": "TCL"}, "trained on TCL, not on"),
        ({}, {"arch": "TCL", "base_checksum": "1" * 32}, r"other weights \(TCL, 11111111\)"),
        (
            {"visual.blocks.1.attn.v_proj.lora_B.weight": torch.full((64, RANK), torch.nan)},
            {},
            "not finite",
        ),
        (
            {"visual.blocks.1.attn.v_proj.lora_A.weight": torch.ones(RANK, 64, dtype=torch.long)},
            {},
            "not finite",
        ),
        (
            {"visual.blocks.1.attn.v_proj.lora_magnitude_vector": torch.ones(64)},
            {},
            "not a LoRA adapter",
        ),
        (
            {
                "visual.blocks.0.attn.v_proj.lora_A.weight": torch.ones(2, 64),
                "visual.blocks.0.attn.v_proj.lora_B.weight": torch.ones(64, 2),
            },
            {},
            "ranks 2, 3",
        ),
        (
            {
                "text.blocks.0.attn.v_proj.lora_A.weight": torch.ones(RANK, 64),
                "text.blocks.0.attn.v_proj.lora_B.weight": torch.ones(64, RANK),
            },
            {},
            "does not fit.*text.blocks.0.attn.v_proj",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(base, tmp_path, state, info, words):
    path = write_file(tmp_path / "a.safetensors", tensors() | state, **info)
    with pytest.raises(TTDError, match=words) as caught:
        load_adapter(base, path)
    assert "\n" not in str(caught.value)
    assert not adapter_parameters(base)  # refused before anything was changed


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"use_rslora": True}, "use_rslora"),
        ({"rank_pattern": {"v_proj": 2}}, "rank_"),
        ({"peft_type": "IA3"}, "peft_type IA3"),
        ({"lora_alpha": 0}, "alpha is 0"),
        ([], "not a readable PEFT config"),
        (None, "has no adapter_config.json"),
    ],
)
def test_folders_of_other_kinds_are_refused(base, tmp_path, config, words):
    save_file(
        {f"base_model.model.{name}": value for name, value in tensors().items()},
        tmp_path / "adapter_model.safetensors",
    )
    if config is not None:
        (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(TTDError, match=words):
        load_adapter(base, tmp_path)


def test_folders_and_files_that_are_not_whole(base, tmp_path):
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(TTDError, match="has no adapter_model.safetensors"):
        load_adapter(base, tmp_path)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"cut short")
    with pytest.raises(TTDError, match="not a readable weight file"):
        load_adapter(base, tmp_path)
    (tmp_path / "list.pt").write_bytes(b"")
    with pytest.raises(TTDError, match="not a readable weight file"):
        load_adapter(base, tmp_path / "list.pt")
    torch.save([torch.ones(1)], tmp_path / "list.pt")
    with pytest.raises(TTDError, match="not a dict"):
        load_adapter(base, tmp_path / "list.pt")
    torch.save({"state_dict": tensors()}, tmp_path / "list.pt")
    with pytest.raises(TTDError, match="state_dict"):
        load_adapter(base, tmp_path / "list.pt")


def test_one_adapter_at_a_time(adapted, base, tmp_path):
    backbone, info = adapted
    save_adapter(backbone, tmp_path / "a.safetensors", info)
    with pytest.raises(TTDError, match="has an adapter already"):
        load_adapter(backbone, tmp_path / "a.safetensors")
    with pytest.raises(TTDError, match="has an adapter already"):
        add_adapter(backbone, MODULES, 2, 2.0)
    with pytest.raises(TTDError, match="no adapter to be saved"):
        save_adapter(base, tmp_path / "b.safetensors", info)
    for modules, rank, alpha, words in (
        ([], 2, 2, "called nothing"),
        (["visual.conv"], 2, 2, "visual.conv"),
        (MODULES, 0, 2, "rank 0"),
        (MODULES, 2, 0.0, "alpha 0"),
    ):
        with pytest.raises(TTDError, match=words):
            add_adapter(base, modules, rank, alpha)


@pytest.mark.slow
def test_scripts_say_it_in_one_line_and_exit_with_2(arch, tmp_path):
    from PIL import Image

    Image.new("RGB", (40, 40), "red").save(tmp_path / "a.png")
    write_file(tmp_path / "a.safetensors", tensors(), base_checksum="2" * 32, arch="TCL")
    for lora, words in (
        (tmp_path / "a.safetensors", "trained on other weights"),
        (tmp_path / "no.pt", "no LoRA adapter"),
    ):
        done = subprocess.run(
            [
                sys.executable,
                "demo.py",
                "--arch",
                arch,
                "--image",
                "32",
                "--input",
                str(tmp_path / "a.png"),
                "--tags",
                "boat",
                "--lora",
                str(lora),
                "--device",
                "cpu",
            ],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        assert (done.returncode, len(done.stderr.strip().splitlines())) == (2, 1), done.stderr
        assert words in done.stderr
