"""TCL: the inference graph against a literal float64 oracle, and its constants."""

import math

import oracle_tcl as oracle
import pytest
import torch
import torch.nn.functional as F
from small_clip import random_images, relative_error
from small_tcl import SMALL, STRINGS, save, small_weights, string_tokens, texts

from core.backbones import load_backbone

# the model's own, another grid, not multiples of 16, its own count
SIZES = ((64, 64), (64, 96), (70, 50), (32, 128))


@pytest.fixture(scope="module")
def exact():
    """The weights of the fixture `tcl` for the oracle."""
    return oracle.double(small_weights())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("batch", [1, 3])
def test_pixels_are_the_maskers_embedding(tcl, exact, size, batch):
    images = random_images(batch, 3, *size)
    got = tcl.encode_pixels(images)
    assert got.shape == (
        batch,
        SMALL["embed"],
        4 * math.ceil(size[0] / 16),
        4 * math.ceil(size[1] / 16),
    )
    assert relative_error(got, oracle.encode_pixels(exact, images.double())) < 1e-5


@pytest.mark.parametrize("size", SIZES)
def test_image_takes_the_class_token_path(tcl, exact, size):
    images = random_images(3, 3, *size)
    assert (
        relative_error(tcl.encode_image(images), oracle.encode_image(exact, images.double())) < 1e-5
    )


def test_text_tower(tcl, exact):
    tokens = string_tokens()
    want = oracle.encode_tokens(exact, tokens)
    assert relative_error(tcl.encode_text(STRINGS), want) < 1e-5
    assert relative_error(tcl.encode_tokens(tokens), want) < 1e-5
    assert relative_error(tcl.encode_text(STRINGS[:1]), want[:1]) < 1e-5


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("pamr", [False, True])
@pytest.mark.parametrize("kp_weight", [0.0, 0.3])
def test_masks_follow_the_inference_graph(tcl, exact, size, pamr, kp_weight):
    images, text = random_images(2, 3, *size), texts(4)
    got = tcl.masks(images, text, pamr=pamr, kp_weight=kp_weight)
    want = oracle.masks(exact, images.double(), text.double(), refine=pamr, kp_weight=kp_weight)
    assert got.shape == (2, 4, *size) and got.dtype == torch.float32
    assert want.amax() - want.amin() > 0.03  # not flat, else the comparison says nothing
    # PAMR's weights are exp(-10 |dx| / sigma): float32's rounding of the resized image alone
    # moves them by 1e-5.
    assert (got - want).abs().max() < (5e-5 if pamr else 1e-5)


def test_masks_of_batch_one_and_three(tcl):
    images, text = random_images(3, 3, 64, 96), texts(1)
    for pamr in (False, True):
        together = tcl.masks(images, text, pamr=pamr, kp_weight=0.3)
        alone = torch.cat(
            [tcl.masks(image[None], text, pamr=pamr, kp_weight=0.3) for image in images]
        )
        assert (together - alone).abs().max() < 2e-6


def test_the_four_settings_differ(exact):
    """Guards the comparison above: order and switches matter on these weights."""
    images, text = random_images(1, 3, 70, 50).double(), texts(2).double()
    plain, refined, mixed, both = (
        oracle.masks(exact, images, text, refine=r, kp_weight=k)
        for r, k in ((False, 0), (True, 0), (False, 0.3), (True, 0.3))
    )
    for a, b in ((plain, refined), (plain, mixed), (mixed, both), (refined, both)):
        assert (a - b).abs().max() > 1e-3


def test_another_learned_mapping(tmp_path):
    """Sim2Mask's w and b are read from the file, a negative w too; the attributes are a and b."""
    weights = dict(small_weights())
    weights["masker.sim2mask.w"], weights["masker.sim2mask.b"] = (
        torch.tensor(-7.3),
        torch.tensor(0.9),
    )
    backbone = load_backbone("TCL", weights=save(tmp_path / "t.pth", weights))
    images, text = random_images(1, 3, 64, 64), texts(2)
    want = oracle.masks(oracle.double(weights), images.double(), text.double())
    assert (backbone.masks(images, text) - want).abs().max() < 1e-5
    assert backbone.mask_scale == pytest.approx(-7.3) and backbone.mask_bias == pytest.approx(
        0.9 / 7.3
    )


def test_similarity_is_the_plain_cosine(tcl):
    pixels, text = random_images(2, SMALL["embed"], 5, 7), texts(3)
    want = F.cosine_similarity(
        pixels[:, None].double(), text[None, :, :, None, None].double(), dim=2
    )
    assert (tcl.similarity(pixels, text) - want).abs().max() < 1e-6


def test_literal_constants(tcl):
    assert tcl.stride == 4 and tcl.patch == 16 and tcl.image_size == 64 and tcl.head == "maskclip"
    assert tcl.logit_scale == pytest.approx(100)
    assert tcl.mask_scale == pytest.approx(10) and tcl.mask_bias == pytest.approx(0.25)
    grey = torch.full((1, 3, 2, 2), 0.5)
    want = [(0.5 - 0.485) / 0.229, (0.5 - 0.456) / 0.224, (0.5 - 0.406) / 0.225]
    assert torch.allclose(tcl.normalize(grey)[0, :, 0, 0], torch.tensor(want), atol=1e-6)


def test_closed_gates_give_frozen_clip(tmp_path):
    """A new masker (copied weights, gates 0) is frozen CLIP's map, cells repeated 4 x 4."""
    weights = dict(small_weights())
    last = f"{SMALL['layers'] - 1}."
    for name in weights:
        if name.endswith("gate.gate"):
            weights[name] = torch.tensor(0.0)
        for mine, frozen in (
            (
                oracle.MASKER + "backbone.transformer.resblocks." + last,
                oracle.IMAGE + "transformer.resblocks." + last,
            ),
            (oracle.MASKER + "decoder.image_proj.", oracle.PROJ),
        ):
            if name.startswith(mine):
                weights[name] = weights[name.replace(mine, frozen)]
    backbone = load_backbone("TCL", weights=save(tmp_path / "t.pth", weights))
    images, p = random_images(2, 3, 64, 96), oracle.double(weights)
    frozen = oracle.project(p, oracle.PROJ, oracle.spatial(p, images.double())[0])
    frozen = oracle.grid_of(frozen, images, 16)
    want = frozen.repeat_interleave(4, 2).repeat_interleave(4, 3)
    assert relative_error(backbone.encode_pixels(images), want) < 1e-5


def test_masker_with_two_copied_blocks(tmp_path):
    """The tap is the output of the block before the copies; only the last takes the value path."""
    weights = oracle.random_checkpoint(oracle.tcl_shapes(**SMALL, copied=(1, 2)), seed=3)
    backbone = load_backbone("TCL", weights=save(tmp_path / "t.pth", weights))
    images, text, p = random_images(1, 3, 64, 80), texts(2), oracle.double(weights)
    assert (
        relative_error(backbone.encode_pixels(images), oracle.encode_pixels(p, images.double()))
        < 1e-5
    )
    want = oracle.masks(p, images.double(), text.double(), kp_weight=0.3)
    assert (backbone.masks(images, text, kp_weight=0.3) - want).abs().max() < 1e-5


def test_small_activations_show_the_norms_eps(tmp_path):
    """With a residual stream of about 0.005 each eps of 1e-5 weighs as much as its variance."""
    residual = (
        "ln_pre.weight",
        "ln_pre.bias",
        "attn.out_proj.weight",
        "attn.out_proj.bias",
        "mlp.c_proj.weight",
        "mlp.c_proj.bias",
        "conv.weight",
        "conv.bias",
    )
    weights = {
        name: value * 0.005 if name.endswith(residual) else value
        for name, value in small_weights().items()
    }
    backbone = load_backbone("TCL", weights=save(tmp_path / "t.pth", weights))
    images, p = random_images(1, 3, 64, 64), oracle.double(weights)
    assert (
        relative_error(backbone.encode_pixels(images), oracle.encode_pixels(p, images.double()))
        < 1e-4
    )
    assert (
        relative_error(backbone.encode_image(images), oracle.encode_image(p, images.double()))
        < 1e-4
    )


def test_other_sizes_are_read_from_the_tensors(tmp_path):
    """Patch, grid, context, widths and depths all different: nothing is assumed but heads of 64."""
    shapes = oracle.tcl_shapes(
        width=192,
        layers=2,
        text_width=128,
        text_layers=1,
        patch=8,
        grid=5,
        embed=48,
        vocab=600,
        context=20,
    )
    weights = oracle.random_checkpoint(shapes, seed=4)
    backbone = load_backbone("TCL", weights=save(tmp_path / "t.pth", weights))
    assert backbone.patch == 8 and backbone.image_size == 40
    images, p = random_images(1, 3, 40, 44), oracle.double(weights)
    assert (
        relative_error(backbone.encode_pixels(images), oracle.encode_pixels(p, images.double()))
        < 1e-5
    )
    tokens = torch.zeros(2, 20, dtype=torch.long)
    tokens[:, :4] = torch.tensor([[598, 17, 5, 599], [598, 40, 41, 599]])
    assert relative_error(backbone.encode_tokens(tokens), oracle.encode_tokens(p, tokens)) < 1e-5


def test_half_precision_file_computes_in_float32(tmp_path):
    weights = {name: value.half() for name, value in small_weights().items()}
    backbone = load_backbone("TCL", weights=save(tmp_path / "t.pth", weights))
    images = random_images(1, 3, 64, 64)
    want = oracle.encode_pixels(oracle.double(weights), images.double())
    assert backbone.encode_pixels(images).dtype == torch.float32
    assert relative_error(backbone.encode_pixels(images), want) < 1e-5
