"""Writes a small random dino.txt: the files of DINOv2's release, or of DINOv3's."""

from pathlib import Path

import torch
from small_clip import random_weights

WIDTH, DEPTH, ADDED, REGISTERS = 128, 2, 2, 4  # two attention heads
TEXT_WIDTH, CONTEXT, WORDS = 64, 77, 49408
GRID = 3  # of DINOv2's position table
V2 = {
    "tower": "dinov2_vitl14_reg4_pretrain.pth",
    "head": "dinov2_vitl14_reg4_dinotxt_tet1280d20h24l_vision_head.pth",
    "text": "dinov2_vitl14_reg4_dinotxt_tet1280d20h24l_text_encoder.pth",
}
V3 = {
    "tower": "dinov3_vitl16_pretrain_lvd1689m-8aa4cbdd.pth",
    "both": "dinov3_vitl16_dinotxt_vision_head_and_text_encoder-a442d8f5.pth",
}


def _block(c: int, bias: bool) -> dict[str, tuple[int, ...]]:
    norms = {f"norm{n}.{kind}": (c,) for n in (1, 2) for kind in ("weight", "bias")}
    own = {"attn.qkv.weight": (3 * c, c), "attn.proj.weight": (c, c), "attn.proj.bias": (c,)}
    scales = {"ls1.gamma": (c,), "ls2.gamma": (c,)}
    return {**norms, **own, **scales, **({"attn.qkv.bias": (3 * c,)} if bias else {})}


def tower_shapes(version: int) -> dict[str, tuple[int, ...]]:
    """The frozen tower, in DINOv2's or DINOv3's names."""
    c, patch = WIDTH, {2: 14, 3: 16}[version]
    shapes = {
        "cls_token": (1, 1, c),
        "mask_token": (1, c),
        "patch_embed.proj.weight": (c, 3, patch, patch),
        "patch_embed.proj.bias": (c,),
        "norm.weight": (c,),
        "norm.bias": (c,),
    }
    if version == 2:
        shapes |= {"register_tokens": (1, REGISTERS, c), "pos_embed": (1, 1 + GRID**2, c)}
    else:
        shapes |= {"storage_tokens": (1, REGISTERS, c)}
    for i in range(DEPTH):
        mlp = {"mlp.fc1.weight": (96, c), "mlp.fc1.bias": (96,)}
        mlp |= {"mlp.fc2.weight": (c, 96), "mlp.fc2.bias": (c,)}
        shapes |= {f"blocks.{i}.{name}": shape for name, shape in (_block(c, True) | mlp).items()}
    return shapes


def head_shapes() -> dict[str, tuple[int, ...]]:
    """The added blocks: SwiGLU of three linears, no bias of queries, keys and values."""
    c = WIDTH
    shapes = {"ln_final.weight": (c,), "ln_final.bias": (c,)}
    mlp = {f"mlp.w{n}.{kind}": size for n in (1, 2) for kind, size in _sizes(64, c)}
    mlp |= {f"mlp.w3.{kind}": size for kind, size in _sizes(c, 64)}
    for i in range(ADDED):
        block = _block(c, False) | mlp
        shapes |= {f"block_list.{i}.{name}": shape for name, shape in block.items()}
    return shapes


def _sizes(outputs: int, inputs: int) -> tuple[tuple[str, tuple[int, ...]], ...]:
    return (("weight", (outputs, inputs)), ("bias", (outputs,)))


def text_shapes() -> dict[str, tuple[int, ...]]:
    """The text tower, with the linear to both halves."""
    c = TEXT_WIDTH
    shapes = {
        "backbone.token_embedding.weight": (WORDS, c),
        "backbone.positional_embedding": (CONTEXT, c),
        "backbone.ln_final.weight": (c,),
        "backbone.ln_final.bias": (c,),
        "head.linear_projection.weight": (2 * WIDTH, c),
    }
    block = {f"{n}_norm.{k}": (c,) for n in ("attention", "ffn") for k in ("weight", "bias")}
    block |= {"attention.qkv.weight": (3 * c, c)}
    block |= {f"attention.proj.{kind}": size for kind, size in _sizes(c, c)}
    block |= {f"feed_forward.fc1.{kind}": size for kind, size in _sizes(96, c)}
    block |= {f"feed_forward.fc2.{kind}": size for kind, size in _sizes(c, 96)}
    return shapes | {f"backbone.blocks.0.{name}": shape for name, shape in block.items()}


def write_dinotxt(folder: Path, version: int) -> tuple[dict, dict, dict]:
    """Patch 14 (DINOv2) or 16 (DINOv3), D = 128; returns weights of tower, head and text."""
    folder.mkdir(parents=True, exist_ok=True)
    shapes = (tower_shapes(version), head_shapes(), text_shapes())
    tower, head, text = (
        random_weights({k: torch.Size(v) for k, v in part.items()}, seed)
        for seed, part in enumerate(shapes)
    )
    if version == 2:
        files = zip(V2.values(), (tower, head, text), strict=True)
        for name, state in files:
            torch.save(state, folder / name)
        return tower, head, text
    tower["rope_embed.periods"] = (100 ** (torch.arange(16) / 16)).bfloat16()
    for i in range(DEPTH):
        mask = torch.ones(3 * WIDTH)
        mask[WIDTH : 2 * WIDTH] = 0
        tower[f"blocks.{i}.attn.qkv.bias_mask"] = mask
    both = {f"visual_model.head.{name}": value for name, value in head.items()}
    both |= {f"text_model.{name}": value for name, value in text.items()}
    both["logit_scale"] = torch.ones(1)
    torch.save(tower, folder / V3["tower"])
    torch.save(both, folder / V3["both"])
    return tower, head, text
