"""Adapters sit on exactly the linears that autograd finds a gradient for, whatever the head."""

import pytest
import torch
from small_clip import random_images
from torch import nn

from core.backbones import load_backbone
from core.backbones.heads import HEADS
from core.backbones.lora.adapter import adapter_parameters, add_adapter
from core.backbones.lora.targets import lora_targets
from core.errors import TTDError

TOKENS = torch.tensor([[126, 5, 9, 17, 40, 127] + [0] * 10, [126, 3, 80, 127, 0, 0] + [0] * 10])
MODELS = [
    *(("clip", head) for head in HEADS),
    ("siglip", "vanilla"),
    ("siglip", "maskclip"),
    ("tcl", None),
]


@pytest.fixture(scope="module")
def siglip(tmp_path_factory):
    from small_siglip import write_siglip

    return write_siglip(tmp_path_factory.mktemp("siglip"))


@pytest.fixture
def load(small_clip, small_tcl, siglip):
    def loader(kind, head=None):
        if kind == "tcl":
            return load_backbone("TCL", weights=small_tcl, device="cpu")
        return load_backbone(
            f"local-dir:{small_clip if kind == 'clip' else siglip}", head=head, device="cpu"
        )

    return loader


def loss(backbone):
    """A loss on the maps of two texts in two images, large enough for several patches."""
    pixels = backbone.encode_pixels(random_images(2, 3, 64, 64))
    maps = backbone.similarity(pixels, backbone.encode_tokens(TOKENS))
    return (maps * random_images(*maps.shape, seed=1)).sum()


def linears_with_gradient(backbone):
    """By autograd: every attention or MLP linear whose weight has a gradient that is not zero."""
    weights = {
        name: module.weight
        for name, module in backbone.named_modules()
        if isinstance(module, nn.Linear) and {"attn", "attn_pool", "mlp"} & set(name.split("."))
    }
    for weight in weights.values():
        weight.requires_grad_(True)
    loss(backbone).backward()
    return sorted(
        name
        for name, weight in weights.items()
        if weight.grad is not None and weight.grad.abs().max() > 0
    )


@pytest.mark.parametrize(("kind", "head"), MODELS)
def test_targets_are_what_autograd_reaches(load, kind, head):
    targets = lora_targets(load(kind, head))
    reached = linears_with_gradient(load(kind, head))
    if kind == "tcl":  # its frozen CLIP image tower stays
        reached = [name for name in reached if not name.startswith("visual.")]
    assert targets == reached


@pytest.mark.parametrize(("kind", "head"), MODELS)
def test_every_parameter_of_an_adapter_learns(load, kind, head):
    backbone = load(kind, head)
    add_adapter(backbone, lora_targets(backbone), 2, 4.0)
    parameters = adapter_parameters(backbone)
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in parameters.values():
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=draw))
    loss(backbone).backward()
    assert parameters and all(
        p.grad is not None and p.grad.abs().max() > 0 for p in parameters.values()
    )


def test_value_head_has_no_queries_keys_or_mlp_in_its_last_block(load):
    names = lora_targets(load("clip", "maskclip-value"), "image")
    assert [name for name in names if ".2." in name] == [
        "visual.blocks.2.attn.out_proj",
        "visual.blocks.2.attn.v_proj",
    ]


def test_encoders_and_kinds_of_linears_are_a_choice(load):
    backbone = load("clip", "maskclip")
    text, image = lora_targets(backbone, "text"), lora_targets(backbone, "image")
    assert lora_targets(backbone) == sorted(text + image)
    assert all(name.startswith("text.") for name in text) and all(
        name.startswith("visual.") for name in image
    )
    assert lora_targets(backbone, "both", ("q_proj", "c_fc")) == [
        name for name in sorted(text + image) if name.endswith((".q_proj", ".c_fc"))
    ]


def test_tcl_is_adapted_in_its_masker_and_its_text_tower(load):
    backbone = load("tcl")
    assert {name.split(".")[0] for name in lora_targets(backbone)} == {"masker", "text"}
    assert {name.rpartition(".")[2] for name in lora_targets(backbone, "image")} == {
        "v_proj",
        "out_proj",
        "c_fc",
        "c_proj",
    }


def test_an_adapter_already_there_changes_nothing(load):
    backbone = load("clip", "maskclip")
    before = lora_targets(backbone)
    add_adapter(backbone, before, 2, 2.0)
    assert lora_targets(backbone) == before


def test_no_such_linear_or_encoder(load):
    backbone = load("clip", "maskclip-value")
    with pytest.raises(
        TTDError, match=r"query.*choose among c_fc, c_proj, k_proj, out_proj, q_proj, v_proj"
    ):
        lora_targets(backbone, "both", ("v_proj", "query"))
    with pytest.raises(TTDError, match="choose among"):
        lora_targets(backbone, "both", ())
    with pytest.raises(TTDError, match="text, image, both"):
        lora_targets(backbone, "images")
