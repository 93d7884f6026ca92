"""A small CLIP, without and with a random adapter."""

import pytest
import torch
from small_adapter import ALPHA, MODULES, RANK, RECIPE

from core.backbones import load_backbone
from core.backbones.lora.adapter import AdapterInfo, adapter_parameters, add_adapter


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
