"""OpenAI's ViT-B/16 below CLIP and TCL: where it is looked for, and the official sizes."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import oracle_tcl as oracle
import pytest
import torch
from paths import ROOT
from small_clip import random_images, relative_error
from small_tcl import STRINGS, save, string_tokens

from core.backbones import load_backbone


def run_offline(code: str, home: Path, **env) -> str:
    """Output of code in a new process with empty caches, the hub offline and every proxy dead."""
    environment = {k: v for k, v in os.environ.items() if "proxy" not in k.lower()}
    environment |= {
        "HOME": str(home),
        "HF_HOME": str(home / "hf"),
        "XDG_CACHE_HOME": str(home / "cache"),
        "HF_HUB_OFFLINE": "1",
        "https_proxy": "http://127.0.0.1:9",
        "http_proxy": "http://127.0.0.1:9",
        "PYTHONPATH": str(ROOT),
        **env,
    }
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "TORCH_HOME"):
        environment.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        cwd=home,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_without_weights_one_line_says_what_to_do(tmp_path):
    """Without any file: what is missing, where it was sought, where to get it, `--arch tiny`."""
    if (ROOT / "weights" / "ViT-B-16.pt").exists():
        pytest.skip("weights/ViT-B-16.pt is installed")
    masker = oracle.random_checkpoint(oracle.masker_shapes(768, 512, (11,)))
    save(tmp_path / "tcl.pth", masker)
    code = """
import json
from core.backbones import load_backbone
from core.errors import TTDError
out = {}
cases = {
    "masker": ("TCL", "tcl.pth"),
    "CLIP": ("CLIP", None),
    "MaskCLIP": ("MaskCLIP", None),
    "hub": ("hf-hub:nobody/nothing", None),
    "tag": ("ViT-B-32:openai", None),
    "TCL": ("TCL", None),
}
for name, arguments in cases.items():
    try:
        load_backbone(arguments[0], weights=arguments[1])
        out[name] = "loaded"
    except TTDError as error:
        out[name] = str(error)
print("RESULT" + json.dumps(out))
"""
    messages = json.loads(run_offline(code, tmp_path).split("RESULT")[1])
    for name in ("masker", "CLIP", "MaskCLIP"):
        assert (
            "ViT-B-16.pt" in messages[name]
            and "--arch tiny" in messages[name]
            and "http" in messages[name]
        ), name
    for name, message in messages.items():
        assert message != "loaded" and "\n" not in message, name
        if name != "TCL" or not (ROOT / "weights" / "tcl.pth").exists():
            assert "--arch tiny" in message, name
    assert "nobody/nothing" in messages["hub"] and "tcl.pth" in messages["TCL"]
    assert "github.com/kakaobrain/tcl" in messages["TCL"]


def openai_state(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """TCL's frozen towers under OpenAI's names, with CLIP's logit scale."""
    state = {"logit_scale": torch.tensor(math.log(100.0))}
    for name, value in weights.items():
        for mine, theirs in (
            (oracle.TEXT, ""),
            (oracle.IMAGE, "visual."),
            (oracle.PROJ + "ln.", "visual.ln_post."),
            (oracle.PROJ + "proj", "visual.proj"),
        ):
            if name.startswith(mine):
                state[theirs + name[len(mine) :]] = value
    return state


def scripted(state: dict[str, torch.Tensor]) -> torch.jit.ScriptModule:
    """A TorchScript archive as OpenAI wrote its: half precision, three settings as buffers."""
    root = torch.nn.Module()
    for name, value in state.items():
        *parents, leaf = name.split(".")
        module = root
        for parent in parents:
            if parent not in module._modules:
                module.add_module(parent, torch.nn.Module())
            module = module._modules[parent]
        module.register_parameter(leaf, torch.nn.Parameter(value.half(), requires_grad=False))
    for name, value in (("input_resolution", 224), ("context_length", 77), ("vocab_size", 49408)):
        root.register_buffer(name, torch.tensor(value))
    return torch.jit.script(root)


@pytest.mark.slow
def test_official_sizes(tmp_path):
    """All 340 tensors at 224 px: one forward of everything against the oracle."""
    weights = oracle.random_checkpoint(oracle.tcl_shapes(), seed=9)
    backbone = load_backbone("TCL", weights=save(tmp_path / "tcl.pth", weights))
    assert (backbone.patch, backbone.stride, backbone.image_size) == (16, 4, 224)
    weights = oracle.double(weights)
    images, text = random_images(1, 3, 224, 224), backbone.encode_text(STRINGS)
    assert (
        relative_error(
            backbone.encode_pixels(images), oracle.encode_pixels(weights, images.double())
        )
        < 1e-4
    )
    assert (
        relative_error(backbone.encode_image(images), oracle.encode_image(weights, images.double()))
        < 1e-4
    )
    assert relative_error(text, oracle.encode_tokens(weights, string_tokens())) < 1e-4
    got = backbone.masks(images, text, pamr=True, kp_weight=0.3)
    want = oracle.masks(weights, images.double(), text.double(), refine=True, kp_weight=0.3)
    assert (got - want).abs().max() < 1e-4


@pytest.mark.slow
def test_masker_only_file_takes_its_towers_from_openai(tmp_path):
    """The 37 official tensors over OpenAI's archive equal the file that holds all 340."""
    weights = {
        name: value.half().float()
        for name, value in oracle.random_checkpoint(oracle.tcl_shapes(), seed=9).items()
    }
    cache = tmp_path / "hf" / "hub" / "models--timm--vit_base_patch16_clip_224.openai"
    (cache / "snapshots" / "abc").mkdir(parents=True)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("abc")
    from safetensors.torch import save_file

    save_file(openai_state(weights), cache / "snapshots" / "abc" / "open_clip_model.safetensors")
    save(tmp_path / "full.pth", weights)
    save(
        tmp_path / "masker.pth",
        {name: value for name, value in weights.items() if name.startswith("masker.")},
    )
    code = """
import torch, open_clip
from core.backbones import load_backbone
open_clip.create_model("ViT-B-16-quickgelu", pretrained="openai")  # open_clip finds the cache
images = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
a, b = load_backbone("TCL", weights="full.pth"), load_backbone("TCL", weights="masker.pth")
c = load_backbone("CLIP")
assert torch.equal(a.encode_pixels(images), b.encode_pixels(images))
assert torch.equal(a.encode_image(images), b.encode_image(images))
assert torch.equal(a.encode_text(["a dog"]), b.encode_text(["a dog"]))
assert a.checksum != c.checksum
assert torch.allclose(a.encode_image(images), c.encode_image(images), atol=1e-5)
print("SAME")
"""
    if (ROOT / "weights" / "ViT-B-16.pt").exists():
        pytest.skip("weights/ViT-B-16.pt is installed and comes first")
    assert "SAME" in run_offline(code, tmp_path)


@pytest.mark.slow
def test_openai_archive(tmp_path):
    """OpenAI's ViT-B-16.pt, TorchScript in half precision: computed in float32 with QuickGELU."""
    weights = {
        name: value.half().float()
        for name, value in oracle.random_checkpoint(oracle.tcl_shapes(), seed=2).items()
    }
    scripted(openai_state(weights)).save(str(tmp_path / "ViT-B-16.pt"))
    images, weights = random_images(1, 3, 224, 224), oracle.double(weights)
    for arch, path in (
        ("CLIP", tmp_path / "ViT-B-16.pt"),
        (f"ViT-B-16-quickgelu:{tmp_path / 'ViT-B-16.pt'}", None),
    ):
        backbone = load_backbone(arch, weights=path)
        want = oracle.encode_image(weights, images.double())
        assert relative_error(backbone.encode_image(images), want) < 1e-4
        assert (
            relative_error(
                backbone.encode_text(STRINGS), oracle.encode_tokens(weights, string_tokens())
            )
            < 1e-4
        )
        assert backbone.logit_scale == pytest.approx(100, rel=1e-3)
        want = oracle.project(weights, oracle.PROJ, oracle.spatial(weights, images.double())[0])
        assert (
            relative_error(backbone.encode_pixels(images), oracle.grid_of(want, images, 16)) < 1e-4
        )
