"""Gradients of pixels, images and texts against differences."""

import oracle_tcl
import pytest
import torch
import torch.nn.functional as F
from small_clip import model_config, random_images, random_texts, token_rows, write_clip

from core.backbones import load_backbone


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small class-token CLIP."""
    path = tmp_path_factory.mktemp("clip")
    write_clip(path, model_config(), seed=1)
    return path


@pytest.fixture(scope="module")
def exact_backbone(folder):
    return load_backbone(f"local-dir:{folder}", dtype=torch.float64).requires_grad_(True)


def directional(backbone, function, seed: int = 0) -> tuple[float, float, list[str]]:
    """Slope of function() along a random direction of all parameters.

    Returns: the slope by autograd, by differences, and the names that autograd reached.
    """
    backbone.zero_grad()
    function().backward()
    generator = torch.Generator().manual_seed(seed)
    steps = {
        name: torch.randn(p.shape, generator=generator, dtype=p.dtype)
        for name, p in backbone.named_parameters()
    }
    reached = {
        name: p.grad.clone() for name, p in backbone.named_parameters() if p.grad is not None
    }
    slope = sum(float((grad * steps[name]).sum()) for name, grad in reached.items())
    values, size = [], 1e-6
    with torch.no_grad():
        for factor in (size, -2 * size):
            for name, parameter in backbone.named_parameters():
                parameter += factor * steps[name]
            values.append(float(function()))
        for name, parameter in backbone.named_parameters():
            parameter += size * steps[name]
    return (
        slope,
        (values[0] - values[1]) / (2 * size),
        [name for name, grad in reached.items() if grad.any()],
    )


@pytest.mark.parametrize("size", [(32, 32), (21, 50)])
@pytest.mark.parametrize("head", ["vanilla", "maskclip", "sclip", "naclip", "clearclip"])
def test_gradient_of_the_pixels(exact_backbone, head, size):
    """Along a random direction of every weight at once: one that autograd missed would show."""
    images = random_images(2, 3, *size).double()
    exact_backbone.head = head
    weights = random_images(*exact_backbone.encode_pixels(images).shape, seed=4).double()

    def function():
        return (exact_backbone.encode_pixels(images) * weights).sum()

    slope, difference, reached = directional(exact_backbone, function)
    assert slope == pytest.approx(difference, rel=1e-5)
    assert any(name.endswith("v_proj.weight") for name in reached)
    assert any("positional" in name for name in reached)


def test_gradient_of_text_and_pooled_image(exact_backbone):
    images, t = random_images(2, 3, 21, 50).double(), random_texts(3).double()
    for function in (
        lambda: (exact_backbone.encode_tokens(token_rows()) * t).sum(),
        lambda: (exact_backbone.encode_image(images) * t[:2]).sum(),
    ):
        slope, difference, reached = directional(exact_backbone, function)
        assert slope == pytest.approx(difference, rel=1e-5)
        assert any(name.endswith("v_proj.weight") for name in reached)


def test_gradient_of_one_attention_weight(exact_backbone):
    """A single entry of a value projection, as an adapter would move it."""
    exact_backbone.head = "maskclip"
    images, t = random_images(1, 3, 24, 40).double(), random_texts(3).double()
    names = [
        n
        for n, _ in exact_backbone.named_parameters()
        if n.startswith("visual") and n.endswith("v_proj.weight")
    ]
    assert len(names) == 3  # one per block of the image tower
    for name in (names[0], names[-1]):
        parameter = exact_backbone.get_parameter(name)
        for function in (
            lambda: exact_backbone.encode_pixels(images).square().mean(),
            lambda: (
                exact_backbone.similarity(exact_backbone.encode_pixels(images), t).square().mean()
            ),
        ):
            exact_backbone.zero_grad()
            function().backward()
            slope, values = float(parameter.grad[3, 5]), []
            with torch.no_grad():
                for step in (1e-3, -2e-3):
                    parameter[3, 5] += step
                    values.append(float(function()))
                parameter[3, 5] += 1e-3
            assert slope == pytest.approx((values[0] - values[1]) / 2e-3, rel=1e-2) and slope != 0


def test_gradient_reaches_the_image(exact_backbone):
    exact_backbone.head = "maskclip"
    images, step = (random_images(1, 3, 21, 50, seed=seed).double() for seed in (1, 2))
    images.requires_grad_(True)

    def function(x):
        return exact_backbone.encode_pixels(x).pow(3).mean()

    function(images).backward()
    with torch.no_grad():
        difference = (function(images + 1e-6 * step) - function(images - 1e-6 * step)) / 2e-6
    assert float((images.grad * step).sum()) == pytest.approx(float(difference), rel=1e-5)


def test_gradient_of_tcl(tmp_path):
    """Text, masker embedding and soft masks of TCL, every tensor at once."""
    shapes = oracle_tcl.tcl_shapes(
        width=64, layers=2, text_width=64, text_layers=1, grid=2, embed=16, vocab=100
    )
    torch.save({"model": oracle_tcl.random_checkpoint(shapes)}, tmp_path / "t.pth")
    backbone = load_backbone("TCL", weights=tmp_path / "t.pth", dtype=torch.float64).requires_grad_(
        True
    )
    images, rows = random_images(1, 3, 32, 45).double(), torch.tensor([[98, 4, 99], [98, 60, 99]])
    rows = F.pad(rows, (0, 74))

    def function():
        return backbone.masks(images, backbone.encode_tokens(rows), kp_weight=0.3).square().sum()

    slope, difference, reached = directional(backbone, function)
    assert slope == pytest.approx(difference, rel=1e-4)
    assert sum(name.startswith("masker") for name in reached) > 30
    assert any(name.startswith("text") for name in reached)
