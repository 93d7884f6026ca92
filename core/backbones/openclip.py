"""The one file that touches the inside of open_clip; the timm towers that it wraps have their own.

It takes an open_clip model apart into `VisionTower` and `TextTower`; nothing else in the project
knows open_clip's attribute names. Weights are copied as they are, packed attention projections are
unpacked into plain linears.
"""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import TTDError
from .base import Preprocess
from .families.timm_towers import SUPPORTED, check_timm, timm_tower
from .layers import Block, unpack_attention
from .readouts import TokenReadout
from .towers import MatrixProjection, TextTower, VisionTower

OpenCLIP = Any  # a module of open_clip's or timm's: neither has types
PACKED = {"in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias"}


def check_supported(model: OpenCLIP, name: str) -> None:
    """TTDError naming the tower of an open_clip model that is of a kind that is not supported."""
    _check_vision(model.visual, name)
    text = getattr(model, "text", model)
    if not hasattr(text, "token_embedding"):
        raise TTDError(
            f"{name}: text tower {_kind(text)} is not supported; open_clip's own transformers are"
        )
    if getattr(text, "cls_emb", None) is not None:
        raise TTDError(f"{name}: text towers with an appended class token (CoCa) are not supported")


def vision_tower(model: OpenCLIP, name: str) -> VisionTower:
    """The image tower of an open_clip model that `check_supported` let pass."""
    if _kind(model.visual) == "TimmModel":
        return timm_tower(model.visual, name)
    return _vit(model.visual, name)


def text_tower(model: OpenCLIP, name: str) -> TextTower:
    """The text tower of an open_clip model that `check_supported` let pass."""
    text: OpenCLIP = getattr(model, "text", model)
    return TextTower(
        text.token_embedding,
        text.positional_embedding,
        [_block(block, name) for block in text.transformer.resblocks],
        text.ln_final,
        _projection(text.text_projection),
        pool=getattr(text, "pool_type", None) or text.text_pool_type,
        causal=text.attn_mask is not None,
        eos_id=getattr(text, "eos_id", None) or getattr(text, "text_eos_id", None),
        pad_id=text.pad_id if getattr(text, "use_pad_mask", False) else None,
    )


def preprocess(model: OpenCLIP) -> Preprocess:
    """Mean, std and side from the model's own preprocessing configuration."""
    config: dict[str, Any] = model.visual.preprocess_cfg
    size = config["size"]
    side = size if isinstance(size, int) else max(size)
    return Preprocess(tuple(config["mean"]), tuple(config["std"]), side)


def build_openai_clip(
    state: Mapping[str, Tensor],
    embed_dim: int,
    vision_cfg: dict[str, Any],
    text_cfg: dict[str, Any],
    quick_gelu: bool = True,
) -> nn.Module:
    """A CLIP of OpenAI's kind of any size, filled with `state`.

    state: every tensor but `logit_scale`, by OpenAI's names: `visual.conv1.weight` [C, 3, P, P],
        `text_projection` [C, D] and so on.
    embed_dim: D. vision_cfg, text_cfg: open_clip's. quick_gelu: the activation is QuickGELU,
        else GELU.
    """
    from open_clip.model import CLIP

    with torch.device("meta"):
        model: nn.Module = CLIP(embed_dim, vision_cfg, text_cfg, quick_gelu=quick_gelu)
    model.load_state_dict({**state, "logit_scale": torch.zeros(())}, strict=True, assign=True)
    return model


def clip_mlp(width: int, hidden: int, quick_gelu: bool = True) -> nn.Sequential:
    """An MLP of OpenAI's kind, its layers named as in CLIP: [..., width] -> [..., width]."""
    from open_clip.transformer import QuickGELU

    gelu = QuickGELU() if quick_gelu else nn.GELU()
    return nn.Sequential(
        OrderedDict(c_fc=nn.Linear(width, hidden), gelu=gelu, c_proj=nn.Linear(hidden, width))
    )


def _kind(module: OpenCLIP) -> str:
    return type(module).__name__


def _check_vision(visual: OpenCLIP, name: str) -> None:
    if _kind(visual) == "TimmModel":
        check_timm(visual.trunk, name)
        return
    if _kind(visual) != "VisionTransformer":
        raise TTDError(
            f"{name}: image tower {_kind(visual)} is not supported; open_clip's VisionTransformer "
            f"(tok or avg pooling) and timm's {SUPPORTED} are"
        )
    if getattr(visual, "attn_pool", None) is not None or visual.pool_type not in ("tok", "avg"):
        raise TTDError(
            f"{name}: image towers with attentional or no pooling (CoCa) are not supported"
        )
    if len(set(visual.conv1.kernel_size)) > 1 or len(set(visual.grid_size)) > 1:
        raise TTDError(
            f"{name}: image towers with non-square patches or position tables are not supported"
        )


def _vit(visual: OpenCLIP, name: str) -> VisionTower:
    readout = TokenReadout(
        visual.ln_post, visual.proj, visual.pool_type, visual.final_ln_after_pool
    )
    return VisionTower(
        visual.conv1,
        visual.class_embedding,
        visual.positional_embedding,
        visual.ln_pre,
        [_block(block, name) for block in visual.transformer.resblocks],
        readout,
    )


def _block(block: OpenCLIP, name: str) -> Block:
    attn = block.attn
    packed = dict(attn.named_parameters())
    plain = set(packed) <= PACKED and hasattr(attn, "num_heads")
    if _kind(block) != "ResidualAttentionBlock" or not plain:
        raise TTDError(f"{name}: transformer blocks of kind {_kind(block)} are not supported")
    ours = unpack_attention(packed, attn.num_heads)
    return Block(block.ln_1, ours, block.ln_2, block.mlp, block.ls_1, block.ls_2)


def _projection(projection: nn.Module | nn.Parameter | None) -> nn.Module:
    if projection is None:
        return nn.Identity()
    if isinstance(projection, nn.Module):
        return projection
    return MatrixProjection(projection)
