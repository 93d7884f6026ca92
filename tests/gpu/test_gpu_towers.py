"""Towers and dense heads on the GPU against the same weights in float64 on the CPU."""

import pytest
import torch
from small_clip import model_config, random_images, write_clip

from core.backbones import load_backbone
from core.backbones.device import use_full_float32
from core.backbones.heads import HEADS

pytestmark = pytest.mark.gpu

# |error| / |value| over a whole tensor. float32: rounding, no TF32 (which is near 1e-3).
# bfloat16 has 8 bits: 2e-3 a rounding, which a few layers of random weights add up.
ALLOWED = {"float32": 1e-5, "bfloat16": 5e-2}
TEXTS = ["dog", "a photo of a cat.", "the quick brown fox jumps over the lazy dog, again and again"]


@pytest.fixture(scope="module")
def archs(small_clip, small_tcl, tmp_path_factory):
    """Name -> arguments of `load_backbone`; `wide` has ViT-B/16's widths and head size."""
    wide = tmp_path_factory.mktemp("wide")
    vision = {"image_size": 224, "patch_size": 16, "width": 768, "head_width": 64, "layers": 2}
    text = {"vocab_size": 49408, "width": 512, "heads": 8, "layers": 2}
    write_clip(wide, model_config(vision, text), seed=3)
    return {
        "small": (f"local-dir:{small_clip}", None),
        "wide": (f"local-dir:{wide}", None),
        "tiny": ("tiny", None),
        "TCL": ("TCL", small_tcl),
    }


def relative_error(got, want):
    """|got - want| / |want|; a NaN is larger than anything allowed."""
    assert got.shape == want.shape
    error = float((got - want).norm() / want.norm())
    return error if error == error else float("inf")


def load(archs, name, device, dtype, head=None):
    arch, weights = archs[name]
    return load_backbone(arch, weights=weights, head=head, device=device, dtype=dtype)


def outputs(backbone, size):
    """Text, pooled and pixel embeddings of a padded, non-square image and its like."""
    images = random_images(2, 3, *size, seed=1)
    with torch.no_grad():
        pixels, pooled = backbone.encode_both(images)
        found = {"text": backbone.encode_text(TEXTS), "pooled": pooled, "pixels": pixels}
    return {name: value.double().cpu() for name, value in found.items()}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["small", "wide", "tiny", "TCL"])
def test_towers_equal_float64(gpu, archs, name, dtype):
    size = (70, 101)
    exact = outputs(load(archs, name, "cpu", "float64"), size)
    backbone = load(archs, name, gpu, dtype)
    assert backbone.device.type == gpu
    for part, got in outputs(backbone, size).items():
        assert relative_error(got, exact[part]) < ALLOWED[dtype], part


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("head", HEADS)
def test_heads_equal_float64(gpu, archs, head, dtype):
    images = random_images(2, 3, 40, 61, seed=2)
    with torch.no_grad():
        exact = load(archs, "small", "cpu", "float64", head).encode_pixels(images)
        got = load(archs, "small", gpu, dtype, head).encode_pixels(images)
    assert relative_error(got.double().cpu(), exact) < ALLOWED[dtype]


@pytest.mark.parametrize("name", ["wide", "TCL"])
def test_masks_of_a_backbone_equal_float64(gpu, archs, name):
    images, generator = random_images(1, 3, 90, 64, seed=4), torch.Generator().manual_seed(5)
    exact = load(archs, name, "cpu", "float64")
    text = exact.encode_text(TEXTS) + torch.randn(3, 1, generator=generator)
    with torch.no_grad():
        want = exact.masks(images, text, pamr=True)
        got = load(archs, name, gpu, "float32").masks(images, text.float().to(gpu), pamr=True)
    assert float((got.double().cpu() - want).abs().max()) < 1e-4


def test_float32_convolutions_are_float32(gpu):
    before = torch.backends.cudnn.allow_tf32
    try:
        torch.backends.cudnn.allow_tf32 = True
        use_full_float32()
        assert not torch.backends.cudnn.allow_tf32
        generator = torch.Generator().manual_seed(0)
        x, weight = (
            torch.randn(2, 256, 32, 32, generator=generator),
            torch.randn(256, 256, 3, 3, generator=generator),
        )
        want = torch.nn.functional.conv2d(x.double(), weight.double(), padding=1)
        got = torch.nn.functional.conv2d(x.to(gpu), weight.to(gpu), padding=1)
        assert relative_error(got.double().cpu(), want) < 1e-5
    finally:
        torch.backends.cudnn.allow_tf32 = before


def test_full_float32_is_chosen_with_the_model(gpu):
    before = torch.backends.cudnn.allow_tf32
    try:
        torch.backends.cudnn.allow_tf32 = True
        load_backbone("tiny", device=gpu)
        assert torch.backends.cudnn.allow_tf32 == (gpu == "cpu")
    finally:
        torch.backends.cudnn.allow_tf32 = before
