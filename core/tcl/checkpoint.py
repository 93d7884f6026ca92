"""A TCL as a checkpoint in the released layout: `load_backbone("TCL", weights=...)` reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..backbones.layers import Block
from ..backbones.readouts import TokenReadout
from ..backbones.tcl import layout as names
from ..backbones.tcl.base import METADATA
from ..backbones.tcl.model import TCLBackbone
from ..utils.files import atomic
from ..utils.finite import check_weights
from ..utils.tensors.tensor_files import save_safetensors, save_torch

ATTENTION = ("q_proj", "k_proj", "v_proj")  # packed in this order


def save_tcl(
    backbone: TCLBackbone, path: Path, *, towers: bool = True, dtype: torch.dtype | None = None
) -> None:
    """Write a TCL, whole or not at all: a file of torch.save, or .safetensors by its name.

    Args:
        towers: with the frozen CLIP; without it the file can be loaded where that is OpenAI's
            ViT-B/16, as the released tcl.pth.
        dtype: of the stored tensors, None: as they are. Single numbers stay float32.

    Raises OSError when it cannot be written.
    """
    state = official_state(backbone, towers=towers)
    if dtype is not None:
        state = {k: v.to(dtype) if v.ndim else v for k, v in state.items()}
    check_weights(state, path)
    facts = backbone.facts
    content: dict[str, Any] = {"model": state}
    if facts is not None:
        content["base"] = facts.as_dict()
    with atomic(path) as part:
        if path.suffix == ".safetensors":
            save_safetensors(state, part, None if facts is None else {METADATA: facts.as_json()})
        else:
            save_torch(content, part)


def official_state(backbone: TCLBackbone, *, towers: bool = True) -> dict[str, Tensor]:
    """The tensors of a TCL by the released checkpoint's names, on the CPU.

    Their shapes are those of `core.backbones.tcl.layout`: convolutions [C, C, 3, 3], scalars [].
    """
    masker = backbone.masker
    first = len(backbone.visual.blocks) - len(masker.blocks)
    state: dict[str, Tensor] = {}
    for i, block in enumerate(masker.blocks):
        state |= _block(f"{names.TAIL}{first + i}.", cast(Block, block))
    for name, value in masker.stages.state_dict().items():
        state[names.NET + name.replace("gate", "gate.gate")] = value
    state |= _below(f"{names.IMAGE_PROJ}ln.", masker.ln)
    state[names.IMAGE_PROJ + "proj"] = masker.proj
    state |= _numbers(backbone)
    if towers:
        state |= _visual(backbone) | _text(backbone)
    # Clones: a file must not carry the memory of a tensor that this one is a part of.
    return {name: value.detach().cpu().clone() for name, value in state.items()}


def _numbers(backbone: TCLBackbone) -> dict[str, Tensor]:
    image, feature = backbone.temperatures
    w, b = backbone.mask_scale, -backbone.mask_scale * backbone.mask_bias
    if backbone.learned is not None:
        learned = backbone.learned
        w, b, image, feature = (
            p.item() for p in (learned.w, learned.b, learned.tcli, learned.tclf)
        )
    return {
        names.SIM2MASK + "w": torch.tensor(w),
        names.SIM2MASK + "b": torch.tensor(b),
        "tcli_loss.logit_scale": torch.tensor(image),
        "tclf_loss.logit_scale": torch.tensor(feature),
    }


def _visual(backbone: TCLBackbone) -> dict[str, Tensor]:
    visual = backbone.visual
    readout = cast(TokenReadout, visual.readout)
    state = {
        names.VISUAL + "class_embedding": cast(Tensor, visual.class_embedding),
        names.VISUAL + "positional_embedding": visual.positional_embedding,
        names.VISUAL + "conv1.weight": visual.conv.weight,
        names.PROJ + "proj": cast(Tensor, readout.proj),
    }
    state |= _below(names.VISUAL + "ln_pre.", visual.ln_pre)
    state |= _below(names.PROJ + "ln.", readout.ln_post)
    return state | _blocks(names.VISUAL, visual.blocks)


def _text(backbone: TCLBackbone) -> dict[str, Tensor]:
    text = backbone.text
    state = {
        names.TEXT + "token_embedding.weight": text.token_embedding.weight,
        names.TEXT + "positional_embedding": text.positional_embedding,
        names.TEXT + "text_projection": cast(Tensor, text.projection.weight),
    }
    state |= _below(names.TEXT + "ln_final.", text.ln_final)
    return state | _blocks(names.TEXT, text.blocks)


def _blocks(prefix: str, blocks: nn.ModuleList) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    for i, block in enumerate(blocks):
        state |= _block(f"{prefix}{names.BLOCKS}{i}.", cast(Block, block))
    return state


def _block(prefix: str, block: Block) -> dict[str, Tensor]:
    """A block's twelve tensors, q, k and v packed as CLIP packs them."""
    attn = block.attn
    packed = [getattr(attn, name) for name in ATTENTION]
    state = {
        f"{prefix}attn.in_proj_weight": torch.cat([linear.weight for linear in packed]),
        f"{prefix}attn.in_proj_bias": torch.cat([linear.bias for linear in packed]),
    }
    state |= _below(f"{prefix}attn.out_proj.", attn.out_proj)
    for name in ("ln_1", "ln_2", "mlp"):
        state |= _below(f"{prefix}{name}.", cast(nn.Module, getattr(block, name)))
    return state


def _below(prefix: str, module: nn.Module) -> dict[str, Tensor]:
    """A module's tensors by name, `prefix` in front."""
    return {prefix + name: value for name, value in module.state_dict().items()}
