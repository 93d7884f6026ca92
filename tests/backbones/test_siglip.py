"""SigLIP: timm towers with map pooling, against timm's own modules and open_clip's forward."""

import json

import numpy as np
import open_clip
import pytest
import torch
from big_vision import write_big_vision
from oracle_tcl import pad
from safetensors.torch import load_file
from small_clip import (
    assert_equals_open_clip,
    random_images,
    reference_model,
    relative_error,
    write_clip,
)
from small_siglip import CONTEXT, write_siglip

from core.backbones import load_backbone
from core.backbones.weights import read_weights
from core.errors import TTDError


@pytest.fixture(scope="module")
def siglip(tmp_path_factory):
    """The folder of a small SigLIP."""
    return write_siglip(tmp_path_factory.mktemp("siglip"))


def pooled_one_by_one(trunk: torch.nn.Module, images: torch.Tensor, identity: bool) -> torch.Tensor:
    """Dense features [B, D, h, w] by timm's own modules.

    Every token is pooled as if it were the only one; `identity`: the last attention is replaced by
    its values.
    """
    x = trunk.patch_embed.proj(images)
    h, w = x.shape[2:]
    side = int(trunk.pos_embed.shape[1] ** 0.5)
    grid = trunk.pos_embed.reshape(1, side, side, -1).permute(0, 3, 1, 2)
    grid = torch.nn.functional.interpolate(grid, size=(h, w), mode="bicubic", align_corners=False)
    x = (x + grid).flatten(2).transpose(1, 2)
    for block in trunk.blocks[:-1]:
        x = block(x)
    last = trunk.blocks[-1]
    if identity:
        width = x.shape[-1]
        values = (
            last.norm1(x) @ last.attn.qkv.weight[2 * width :].T + last.attn.qkv.bias[2 * width :]
        )
        x = x + values @ last.attn.proj.weight.T + last.attn.proj.bias
        x = x + last.mlp(last.norm2(x))
    else:
        x = last(x)
    x = trunk.norm(x)
    pooled = trunk.attn_pool(
        x.reshape(-1, 1, x.shape[-1])
    )  # one token each: its weight is 1, the value path is left
    return pooled.reshape(len(images), h, w, -1).permute(0, 3, 1, 2)


@pytest.mark.parametrize("head", ["vanilla", "maskclip"])
@pytest.mark.parametrize("size", [(32, 32), (24, 56), (29, 50)])
def test_map_pooling_takes_the_value_path(siglip, head, size):
    backbone = load_backbone(f"local-dir:{siglip}", head=head)
    images = random_images(2, 3, *size)
    trunk = reference_model(siglip).visual.trunk
    want = pooled_one_by_one(trunk, pad(images, 8)[0], head == "maskclip")
    assert relative_error(backbone.encode_pixels(images), want) < 1e-5


def test_map_pooled_image_and_text_equal_open_clip(siglip):
    assert_equals_open_clip(siglip, load_backbone(f"local-dir:{siglip}"), length=CONTEXT)


def test_soft_masks_turn_where_the_models_own_sigmoid_does(siglip):
    backbone, reference = load_backbone(f"local-dir:{siglip}"), reference_model(siglip)
    cosine = torch.tensor(backbone.mask_bias)
    logit = reference.logit_scale.exp() * cosine + reference.logit_bias
    assert abs(logit.item()) < 1e-5 and backbone.mask_scale == 10


def test_layer_scales_are_kept(tmp_path):
    folder = write_siglip(tmp_path, layer_scale=True)
    backbone = load_backbone(f"local-dir:{folder}")
    assert backbone.visual.blocks[1].ls_2.gamma.shape == (48,)
    assert_equals_open_clip(folder, backbone, length=CONTEXT)


@pytest.mark.parametrize("head", ["maskclip-value", "sclip", "naclip", "kk", "clearclip"])
def test_map_pooling_has_two_heads(siglip, head):
    with pytest.raises(TTDError, match="vanilla"):
        load_backbone(f"local-dir:{siglip}", head=head)


def test_a_tokenizer_that_needs_a_download_says_so(siglip):
    """Loading and token ids work without it; strings say in one line what is missing."""
    with pytest.raises(TTDError) as error:
        load_backbone(f"local-dir:{siglip}").encode_text(["dog"])
    assert "tokenizer" in str(error.value) and "\n" not in str(error.value)


def siglip_by_name(monkeypatch, tmp_path):
    """A small SigLIP that open_clip knows by name, and its weights as big_vision's file."""
    folder = write_siglip(tmp_path / "model")
    config = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]
    added = {**open_clip.factory._MODEL_CONFIGS, "ViT-small-siglip": config}
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIGS", added)
    state = load_file(folder / "open_clip_model.safetensors")
    path = write_big_vision(state, tmp_path / "siglip2_small.npz", {"img": 4, "txt": 2})
    return folder, path


def test_big_visions_files(monkeypatch, tmp_path):
    """Google's own releases: the same model as from open_clip's file."""
    folder, path = siglip_by_name(monkeypatch, tmp_path)
    by_name = load_backbone(f"ViT-small-siglip:{path}")
    images, rows = random_images(2, 3, 32, 32), torch.randint(0, 128, (2, CONTEXT))
    for backbone in (by_name, load_backbone(f"local-dir:{folder}", weights=path)):
        want = load_backbone(f"local-dir:{folder}")
        assert relative_error(backbone.encode_image(images), want.encode_image(images)) < 1e-6
        assert relative_error(backbone.encode_tokens(rows), want.encode_tokens(rows)) < 1e-6
        assert backbone.mask_bias == pytest.approx(want.mask_bias)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"params/img/pos_embedding": np.array([{}])}, "never unpickled"),
        ({"params/t": np.array([np.nan], np.float32)}, "not finite"),
        ({"params/img/embedding/bias": np.zeros(7, np.float32)}, "siglip2_small.npz"),
    ],
)
def test_damaged_files_of_big_vision(monkeypatch, tmp_path, change, words):
    _, path = siglip_by_name(monkeypatch, tmp_path)
    with np.load(path) as stored:
        arrays = dict(stored)
    np.savez(path, **{**arrays, **change})
    with pytest.raises(TTDError, match=words) as error:
        load_backbone(f"ViT-small-siglip:{path}")
    assert "\n" not in str(error.value)


def test_a_file_of_numpys_arrays_where_an_adapter_must_be(siglip, tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros(3))
    with pytest.raises(TTDError, match="numpy's arrays"):
        read_weights(tmp_path / "a.npz")


@pytest.mark.slow
def test_siglip_b_16(tmp_path):
    config = open_clip.get_model_config("ViT-B-16-SigLIP")
    write_clip(tmp_path, config)
    reference = reference_model(tmp_path)
    images, rows = random_images(1, 3, 224, 224), torch.randint(2, 32000, (2, 64))
    with torch.no_grad():
        for head in ("vanilla", "maskclip"):
            backbone = load_backbone(f"local-dir:{tmp_path}", head=head)
            want = pooled_one_by_one(reference.visual.trunk, images, head == "maskclip")
            assert relative_error(backbone.encode_pixels(images), want) < 1e-4
        assert relative_error(backbone.encode_image(images), reference.encode_image(images)) < 1e-4
        assert relative_error(backbone.encode_tokens(rows), reference.encode_text(rows)) < 1e-4
