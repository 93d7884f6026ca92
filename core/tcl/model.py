"""A TCL to train: fresh on a CLIP, or a checkpoint of TCL; what is trained, in which phase.

The names of parameters are those of TCL's checkpoint, with q, k, v of a copied block apart.
"""

from __future__ import annotations

import copy
from typing import cast

import torch
from torch import nn

from ..backbones import load_backbone
from ..backbones.base import Backbone
from ..backbones.layers import Block
from ..backbones.readouts import TokenReadout
from ..backbones.tcl import layout as names
from ..backbones.tcl.base import facts_of, imagenet_preprocess, usual_facts
from ..backbones.tcl.model import Masker, TCLBackbone
from ..errors import TTDError
from .config import TCLConfig

OPENAI = ("CLIP", "MaskCLIP")  # names of the CLIP that the released checkpoint goes with
SIM2MASK = (10.0, 0.25)  # sigmoid(10 (S - 0.25)), that is w = 10, b = -2.5
GATED = "gate.gate"


def tcl_from_clip(
    base: Backbone, *, stages: int = 2, copied: int = 1, seed: int = 0
) -> TCLBackbone:
    """A fresh TCL on the towers of a CLIP with a class token; all sizes are the base's own.

    The decoder's gates are 0, so its similarity map is the frozen CLIP's value-path map, enlarged.
    Images are normalized by ImageNet's mean and std whatever the base's own, as TCL has it.

    Args:
        base: CLIP or any class-token ViT of open_clip; its towers are shared, not copied.
        stages: of the decoder, each of which doubles the grid.
        copied: last blocks of the image tower that the masker gets as copies.
        seed: of the decoder's convolutions (torch's default initialisation).

    TTDError: a tower that TCL's checkpoint layout cannot describe.
    Source: CVPR 2023, section 3.1, and the released configuration (2 stages, 1 block).
    """
    facts = facts_of(base)
    readout = cast(TokenReadout, base.visual.readout)
    width, dim = cast(nn.Parameter, readout.proj).shape
    blocks = [copy.deepcopy(cast(Block, block)) for block in base.visual.blocks[-copied:]]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        masker = Masker(blocks, stages, width, dim)
    with torch.no_grad():
        masker.ln.load_state_dict(readout.ln_post.state_dict())
        masker.proj.copy_(cast(nn.Parameter, readout.proj))
    backbone = TCLBackbone(
        base.visual,
        base.text,
        masker,
        base.tokenizer,
        imagenet_preprocess(base.image_size),
        SIM2MASK,
    )
    usual = usual_facts(width, base.text.positional_embedding.shape[1])
    backbone.facts = None if facts == usual else facts
    backbone.arch, backbone.head = "TCL", "maskclip"
    return backbone.eval().requires_grad_(False).to(base.device, base.dtype)


def starting_point(config: TCLConfig, device: str) -> TCLBackbone:
    """The TCL that a run starts from, float32 on a device.

    TTDError: weights that are missing or not fit, a CLIP that TCL cannot be trained on.
    """
    if config.resume_from is not None:
        loaded = load_backbone("TCL", weights=config.resume_from, device=device)
        return cast(TCLBackbone, loaded)
    if config.arch == "TCL":
        raise TTDError("--arch TCL: start from a TCL's weights with --resume-from FILE")
    base = load_backbone(config.arch, weights=config.weights, device=device)
    return tcl_from_clip(base, stages=config.stages, copied=config.copied, seed=config.seed)


def trained_parameters(backbone: TCLBackbone) -> dict[str, nn.Parameter]:
    """What TCL trains in any phase, by name; gradients are switched on for these and no others.

    The copied blocks, decoder, projection, Sim2Mask's w and b, both temperatures.
    """
    backbone.requires_grad_(False)
    learned = backbone.make_trainable()
    masker, first = backbone.masker, len(backbone.visual.blocks) - len(backbone.masker.blocks)
    found: dict[str, nn.Parameter] = {}
    for i, block in enumerate(masker.blocks):
        for name, parameter in block.named_parameters():
            found[f"{names.TAIL}{first + i}.{name}"] = parameter
    for name, parameter in masker.stages.named_parameters():
        found[names.NET + name.replace("gate", GATED)] = parameter
    for name, parameter in masker.ln.named_parameters():
        found[f"{names.IMAGE_PROJ}ln.{name}"] = parameter
    found[names.IMAGE_PROJ + "proj"] = masker.proj
    found |= {names.SIM2MASK + "w": learned.w, names.SIM2MASK + "b": learned.b}
    found |= {"tcli_loss.logit_scale": learned.tcli, "tclf_loss.logit_scale": learned.tclf}
    for parameter in found.values():
        parameter.requires_grad_(True)
    return found


def in_copied_block(name: str) -> bool:
    """Whether a trained parameter belongs to the copied blocks, which phase 1 freezes."""
    return name.startswith(names.TAIL)


def is_decayed(name: str, parameter: nn.Parameter, scalars: bool = True) -> bool:
    """Whether weight decay acts on a trained parameter.

    Not on vectors and biases. On single numbers (gates, w, b, temperatures) it does in the
    released code; `scalars` False leaves them alone.
    """
    if parameter.ndim == 0:
        return scalars
    return parameter.ndim > 1 and not name.endswith(".bias")


def unused_parameters(backbone: TCLBackbone) -> list[nn.Parameter]:
    """Queries and keys of the last copied block: its value path passes them by.

    Their gradient is zero, yet they are among what is decayed.
    """
    last = cast(Block, backbone.masker.blocks[-1]).attn
    return [*last.q_proj.parameters(), *last.k_proj.parameters()]
