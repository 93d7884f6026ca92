"""The one file that touches the inside of open_clip (and of the timm towers it wraps).

It takes an open_clip model apart into `VisionTower` and `TextTower`; nothing else in the project
knows open_clip's attribute names. Weights are copied as they are, packed attention projections are
unpacked into plain linears.
"""

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import TTDError
from .base import Preprocess
from .layers import Attention, Block
from .towers import MapReadout, MatrixProjection, TextTower, TokenReadout, VisionTower

PACKED = {"in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias"}


def check_served(model: nn.Module, name: str) -> None:
    """TTDError naming the tower when an open_clip model's image or text tower is of a kind we do not serve."""
    visual, text = model.visual, getattr(model, "text", model)
    if type(visual).__name__ not in ("VisionTransformer", "TimmModel"):
        raise TTDError(
            f"{name}: image tower {type(visual).__name__} is not supported; served are open_clip's "
            "VisionTransformer (tok or avg pooling) and timm ViTs with map pooling (SigLIP)"
        )
    if type(visual).__name__ == "TimmModel":
        _check_timm(visual.trunk, name)
    elif getattr(visual, "attn_pool", None) is not None or visual.pool_type not in ("tok", "avg"):
        raise TTDError(
            f"{name}: image towers with attentional or no pooling (CoCa) are not supported"
        )
    elif (
        visual.conv1.kernel_size[0] != visual.conv1.kernel_size[1]
        or visual.grid_size[0] != visual.grid_size[1]
    ):
        raise TTDError(
            f"{name}: image towers with non-square patches or position tables are not supported"
        )
    if not hasattr(text, "token_embedding"):
        raise TTDError(
            f"{name}: text tower {type(text).__name__} is not supported; open_clip's own transformers are"
        )
    if getattr(text, "cls_emb", None) is not None:
        raise TTDError(f"{name}: text towers with an appended class token (CoCa) are not supported")


def vision_tower(model: nn.Module, name: str) -> VisionTower:
    """The image tower of an open_clip model that `check_served` let pass."""
    return (
        _timm_vit(model.visual, name)
        if type(model.visual).__name__ == "TimmModel"
        else _vit(model.visual, name)
    )


def text_tower(model: nn.Module, name: str) -> TextTower:
    """The text tower of an open_clip model that `check_served` let pass."""
    text = getattr(model, "text", model)
    return TextTower(
        text.token_embedding,
        text.positional_embedding,
        [_block(b, name) for b in text.transformer.resblocks],
        text.ln_final,
        _projection(text.text_projection),
        pool=getattr(text, "pool_type", None) or text.text_pool_type,
        causal=text.attn_mask is not None,
        eos_id=getattr(text, "eos_id", None) or getattr(text, "text_eos_id", None),
        pad_id=text.pad_id if getattr(text, "use_pad_mask", False) else None,
    )


def preprocess(model: nn.Module) -> Preprocess:
    """Mean, std and side from the model's own preprocessing configuration."""
    config: dict[str, Any] = model.visual.preprocess_cfg
    size = config["size"]
    return Preprocess(
        tuple(config["mean"]), tuple(config["std"]), size if isinstance(size, int) else max(size)
    )


def build_openai_clip(
    state: dict[str, Tensor], embed_dim: int, vision_cfg: dict, text_cfg: dict
) -> nn.Module:
    """A CLIP of OpenAI's kind (QuickGELU) of any size, filled with `state` (OpenAI names, no logit_scale needed)."""
    from open_clip.model import CLIP

    with torch.device("meta"):
        model = CLIP(embed_dim, vision_cfg, text_cfg, quick_gelu=True)
    model.load_state_dict({**state, "logit_scale": torch.zeros(())}, strict=True, assign=True)
    return model


def attention(packed: dict[str, Tensor], heads: int) -> Attention:
    """Plain-linear attention from packed weights: in_proj_weight [3C,C], in_proj_bias [3C], out_proj.{weight,bias}."""
    width = packed["out_proj.weight"].shape[0]
    with torch.device("meta"):
        attn = Attention(width, heads, bias=packed.get("in_proj_bias") is not None)
    state = {"out_proj.weight": packed["out_proj.weight"], "out_proj.bias": packed["out_proj.bias"]}
    for kind in ("weight", "bias"):
        if packed.get(f"in_proj_{kind}") is not None:
            q, k, v = packed[f"in_proj_{kind}"].detach().chunk(3)
            state |= {
                f"q_proj.{kind}": q.clone(),
                f"k_proj.{kind}": k.clone(),
                f"v_proj.{kind}": v.clone(),
            }
    attn.load_state_dict(state, assign=True)
    return attn


def quick_gelu_mlp(width: int, hidden: int) -> nn.Sequential:
    """An MLP of OpenAI's kind, its parts named as in CLIP: [..., width] -> [..., width]."""
    from open_clip.transformer import QuickGELU

    return nn.Sequential(
        OrderedDict(
            c_fc=nn.Linear(width, hidden), gelu=QuickGELU(), c_proj=nn.Linear(hidden, width)
        )
    )


def _vit(visual: nn.Module, name: str) -> VisionTower:
    readout = TokenReadout(
        visual.ln_post, visual.proj, visual.pool_type, visual.final_ln_after_pool
    )
    blocks = [_block(b, name) for b in visual.transformer.resblocks]
    return VisionTower(
        visual.conv1,
        visual.class_embedding,
        visual.positional_embedding,
        visual.ln_pre,
        blocks,
        readout,
    )


def _block(block: nn.Module, name: str) -> Block:
    attn = block.attn
    packed = dict(attn.named_parameters())
    if (
        type(block).__name__ != "ResidualAttentionBlock"
        or not set(packed) <= PACKED
        or not hasattr(attn, "num_heads")
    ):
        raise TTDError(
            f"{name}: transformer blocks of kind {type(block).__name__} are not supported"
        )
    return Block(
        block.ln_1, attention(packed, attn.num_heads), block.ln_2, block.mlp, block.ls_1, block.ls_2
    )


def _check_timm(trunk: nn.Module, name: str) -> None:
    pool = getattr(trunk, "attn_pool", None)
    kind = f"{name}: timm tower {type(trunk).__name__}"
    if type(trunk).__name__ != "VisionTransformer" or type(pool).__name__ != "AttentionPoolLatent":
        raise TTDError(
            f"{kind} is not supported; of timm's towers only ViTs with map pooling (SigLIP) are"
        )
    if (
        trunk.num_prefix_tokens
        or pool.pos_embed is not None
        or pool.mlp is None
        or trunk.pos_embed is None
    ):
        raise TTDError(
            f"{kind} with class tokens, or pooling of another form than SigLIP's, is not supported"
        )


def _timm_vit(visual: nn.Module, name: str) -> VisionTower:
    trunk = visual.trunk
    blocks = [_timm_block(b, f"{name}: timm tower") for b in trunk.blocks]
    readout = MapReadout(
        trunk.norm, trunk.attn_pool, nn.Sequential(trunk.fc_norm, trunk.head, visual.head)
    )
    return VisionTower(
        trunk.patch_embed.proj,
        None,
        nn.Parameter(trunk.pos_embed[0].detach()),
        trunk.norm_pre,
        blocks,
        readout,
    )


def _timm_block(block: nn.Module, kind: str) -> Block:
    attn = block.attn
    if any(
        not isinstance(getattr(attn, part, nn.Identity()), nn.Identity)
        for part in ("q_norm", "k_norm", "norm")
    ):
        raise TTDError(f"{kind} with normalized queries or keys is not supported")
    packed = {
        "in_proj_weight": attn.qkv.weight,
        "in_proj_bias": attn.qkv.bias,
        "out_proj.weight": attn.proj.weight,
        "out_proj.bias": attn.proj.bias,
    }
    return Block(
        block.norm1, attention(packed, attn.num_heads), block.norm2, block.mlp, block.ls1, block.ls2
    )


def _projection(projection: nn.Module | nn.Parameter | None) -> nn.Module:
    if projection is None:
        return nn.Identity()
    return projection if isinstance(projection, nn.Module) else MatrixProjection(projection)
