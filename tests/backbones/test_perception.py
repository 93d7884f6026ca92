"""Perception Encoder: open_clip's and timm's own forward, and a literal one for other grids."""

import math

import pytest
import torch
from small_clip import (
    assert_equals_open_clip,
    random_images,
    reference_model,
    relative_error,
    write_clip,
)
from small_perception import CONTEXT, NAMES, write_perception

from core.backbones import load_backbone
from core.backbones.lora.adapter import adapter_parameters, add_adapter
from core.backbones.lora.merge import largest_difference, merge, read_source, write_file
from core.backbones.lora.targets import lora_targets
from core.errors import TTDError


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A small Perception Encoder of each form."""
    return {name: write_perception(tmp_path_factory.mktemp(name), name) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_image_and_text_equal_open_clip(folders, name):
    backbone = load_backbone(f"local-dir:{folders[name]}")
    assert backbone.visual.prefix == (name != NAMES[2])
    assert_equals_open_clip(folders[name], backbone, length=CONTEXT)


def one_by_one(trunk: torch.nn.Module, tokens: torch.Tensor, shape: tuple) -> torch.Tensor:
    """Patch tokens [B, L, C] -> [B, D, h, w]: each pooled as if it were the only one."""
    x = trunk.norm(tokens)
    pooled = trunk.head(trunk.attn_pool(x.reshape(-1, 1, x.shape[-1])))
    return pooled.reshape(shape[0], *shape[1:], -1).permute(0, 3, 1, 2)


@pytest.mark.parametrize("name", NAMES)
def test_dense_features_are_what_the_pool_makes_of_each_patch(folders, name):
    """At the grid of the pretraining, where timm's rotary positions are Meta's."""
    trunk = reference_model(folders[name]).visual.trunk
    images = random_images(2, 3, 32, 32)
    x, rope = trunk._pos_embed(trunk.patch_embed(images))
    x = trunk.norm_pre(x)
    for block in trunk.blocks:
        x = block(x, rope=rope)
    want = one_by_one(trunk, x[:, trunk.num_prefix_tokens :], (2, 4, 4))
    backbone = load_backbone(f"local-dir:{folders[name]}")
    assert backbone.head == "vanilla"
    assert relative_error(backbone.encode_pixels(images), want) < 1e-5
    both = backbone.encode_both(images)
    assert relative_error(both[0], want) < 1e-5
    assert relative_error(both[1], backbone.encode_image(images)) < 1e-5


def turned(x: torch.Tensor, row: int, column: int, offset: float) -> torch.Tensor:
    """One head's query or key [head_dim] at a patch: pairs as complex numbers, x before y."""
    pairs = torch.view_as_complex(x.reshape(-1, 2).contiguous())
    count = len(pairs) // 2
    angles = [(column + offset) / 10_000 ** (k / count) for k in range(count)]
    angles += [(row + offset) / 10_000 ** (k / count) for k in range(count)]
    turns = torch.polar(torch.ones(len(angles)), torch.tensor(angles))
    return torch.view_as_real(pairs * turns).flatten()


def literal_block(
    block: torch.nn.Module, x: torch.Tensor, grid: tuple, prefix: int, maskclip: bool
):
    """One block of timm's on tokens [L, C], by loops; rotary positions in whole steps."""
    attn, heads = block.attn, block.attn.num_heads
    normed = block.norm1(x)
    q, k, v = attn.qkv(normed).chunk(3, dim=-1)
    size = x.shape[1] // heads
    out = torch.zeros_like(x)
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        queries, keys = q[:, part].clone(), k[:, part].clone()
        for patch in range(grid[0] * grid[1]):
            place = (patch // grid[1], patch % grid[1], float(prefix))
            queries[prefix + patch] = turned(queries[prefix + patch], *place)
            keys[prefix + patch] = turned(keys[prefix + patch], *place)
        weights = (queries @ keys.T / math.sqrt(size)).softmax(-1)
        out[:, part] = v[:, part] if maskclip else weights @ v[:, part]
    x = x + attn.proj(out) * (1 if block.gamma_1 is None else block.gamma_1)
    return x + block.mlp(block.norm2(x)) * (1 if block.gamma_2 is None else block.gamma_2)


@pytest.mark.parametrize("head", ["vanilla", "maskclip"])
@pytest.mark.parametrize("name", NAMES)
def test_other_grids_follow_metas_rules(folders, name, head):
    """Rotary positions in whole steps and bilinear learned ones, by hand."""
    trunk = reference_model(folders[name]).visual.trunk
    prefix, grid = trunk.num_prefix_tokens, (3, 6)
    image = random_images(1, 3, 24, 48)
    table = trunk.pos_embed[:, prefix:].reshape(1, 4, 4, -1).permute(0, 3, 1, 2)
    table = torch.nn.functional.interpolate(table, grid, mode="bilinear", align_corners=False)
    x = (trunk.patch_embed.proj(image) + table).flatten(2).transpose(1, 2)
    if prefix:
        x = torch.cat([trunk.cls_token + trunk.pos_embed[:, :1], x], dim=1)
    x = trunk.norm_pre(x)[0]
    for block in trunk.blocks:
        last = block is trunk.blocks[-1]
        x = literal_block(block, x, grid, prefix, maskclip=last and head == "maskclip")
    want = one_by_one(trunk, x[None, prefix:], (1, *grid))
    backbone = load_backbone(f"local-dir:{folders[name]}", head=head)
    assert relative_error(backbone.encode_pixels(image), want) < 1e-5


def test_batches_and_hidden_states(folders):
    backbone = load_backbone(f"local-dir:{folders[NAMES[0]]}")
    images = random_images(3, 3, 40, 32)
    alone = torch.cat([backbone.encode_pixels(image[None]) for image in images])
    assert relative_error(backbone.encode_pixels(images), alone) < 1e-5
    (state,) = backbone.visual.hidden_states(images, [-1])
    pooled = backbone.visual.readout.pooled(state, 1)
    assert relative_error(pooled, backbone.encode_image(images)) < 1e-6


def test_bfloat16_stays_close(folders):
    path = f"local-dir:{folders[NAMES[0]]}"
    images = random_images(1, 3, 32, 32)
    want = load_backbone(path).encode_pixels(images)
    got = load_backbone(path, dtype="bfloat16").encode_pixels(images)
    assert got.dtype == torch.bfloat16 and relative_error(got.float(), want) < 0.1


def test_lora_reaches_every_part_that_pixels_pass(folders):
    """Adapters of the maskclip head: none on queries and keys of the last block, all learn."""
    backbone = load_backbone(f"local-dir:{folders[NAMES[0]]}", head="maskclip")
    targets = lora_targets(backbone, "image")
    assert {"visual.blocks.0.attn.q_proj", "visual.readout.attn_pool.kv"} <= set(targets)
    assert "visual.blocks.1.attn.q_proj" not in targets
    add_adapter(backbone, targets, rank=2, alpha=2)
    parameters = adapter_parameters(backbone)
    with torch.no_grad():
        for value in parameters.values():
            value.add_(0.01)
    backbone.encode_pixels(random_images(1, 3, 32, 32)).square().sum().backward()
    assert all(value.grad is not None and value.grad.any() for value in parameters.values())


def test_a_merged_adapter_is_the_adapter(folders, tmp_path):
    folder = folders[NAMES[0]]
    backbone = load_backbone(f"local-dir:{folder}")
    add_adapter(backbone, lora_targets(backbone), rank=2, alpha=2)
    with torch.no_grad():
        for value in adapter_parameters(backbone).values():
            value.add_(0.02)
    path = tmp_path / "merged.safetensors"
    write_file(merge(backbone, read_source(f"local-dir:{folder}", None)), path)
    merged = load_backbone(f"local-dir:{folder}", weights=path)
    assert largest_difference(backbone, merged) < 1e-6


@pytest.mark.parametrize("head", ["maskclip-value", "sclip", "naclip", "kk", "clearclip"])
def test_map_pooling_has_two_heads(folders, head):
    with pytest.raises(TTDError, match="vanilla"):
        load_backbone(f"local-dir:{folders[NAMES[0]]}", head=head)


@pytest.mark.slow
def test_the_smallest_official_one(tmp_path):
    import open_clip

    config = open_clip.get_model_config("PE-Core-T-16-384")
    config["text_cfg"]["layers"] = 2  # of 12 alike
    write_clip(tmp_path, config)
    reference, backbone = reference_model(tmp_path), load_backbone(f"local-dir:{tmp_path}")
    assert (backbone.image_size, backbone.patch, backbone.visual.prefix) == (384, 16, 1)
    images, words = random_images(1, 3, 384, 384), ["a photo of a dog", "cat"]
    with torch.no_grad():
        assert relative_error(backbone.encode_image(images), reference.encode_image(images)) < 1e-4
        want = reference.encode_text(open_clip.get_tokenizer("PE-Core-T-16-384")(words))
        assert relative_error(backbone.encode_text(words), want) < 1e-4
        x = reference.visual.trunk.forward_features(images)  # ends with the final norm
        pool, head = reference.visual.trunk.attn_pool, reference.visual.trunk.head
        want = head(pool(x[:, 1:].reshape(576, 1, -1))).reshape(1, 24, 24, 512)
        assert relative_error(backbone.encode_pixels(images), want.permute(0, 3, 1, 2)) < 1e-4
