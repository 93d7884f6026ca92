"""Adapters that are damaged, foreign, code or of another model are refused in one line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from paths import ROOT
from safetensors.torch import save_file
from small_adapter import MODULES, RANK, tensors

from core.backbones.lora.adapter import (
    adapter_parameters,
    add_adapter,
    load_adapter,
    read_adapter,
    save_adapter,
)
from core.errors import TTDError


class Evil:
    def __reduce__(self):
        return os.mkdir, ("pwned",)


def test_pickles_are_not_run(tmp_path, monkeypatch):
    """Of a file with an object in it the tensors are read; the object is left out."""
    monkeypatch.chdir(tmp_path)
    torch.save({**tensors(), "config": Evil()}, "x.pt")
    state, _ = read_adapter("x.pt")
    assert not Path("pwned").exists()
    assert {f"base_model.model.{name}" for name in state} == set(tensors()) or set(state) == set(
        tensors()
    )
    assert all(
        torch.equal(state[name.removeprefix("base_model.model.")], value)
        for name, value in tensors().items()
    )


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
            "holds int64",
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
        ({"use_rslora": True}, "rsLoRA needs"),
        ({"rank_pattern": {"v_proj": 2}}, "rank_"),
        ({"peft_type": "IA3"}, 'peft_type "IA3"'),
        ({"lora_alpha": 0}, "alpha is 0"),
        ({"lora_alpha": True}, "alpha is True"),
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
    with pytest.raises(TTDError, match="is text, not weights"):
        load_adapter(base, tmp_path)
    (tmp_path / "list.pt").write_bytes(b"")
    with pytest.raises(TTDError, match="is empty"):
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
    said = {"alpha": 6, "base_checksum": "2" * 32, "arch": "TCL"}
    write_file(tmp_path / "a.safetensors", tensors(), **said)
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
