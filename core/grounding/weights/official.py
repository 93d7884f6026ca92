"""CLIP-VG's published checkpoints: towers, settings and trained part from one dictionary.

`model` holds OpenAI's CLIP under `clip.*` (float16 and float32), the same tensors again under
`image_encoder_clip_vg.*` and `text_encoder_clip_vg.*`, and the trained part; the towers are built
from the sizes of their tensors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from ...backbones import openclip
from ...backbones.base import Preprocess
from ...backbones.clip import CLIPBackbone
from ...backbones.heads import check_head
from ...backbones.tokenizers.openclip import Tokenizer
from ...backbones.weights import OPENAI_MODEL, check_tensors, reading
from ...errors import TTDError
from ...utils.tensors.pickled_values import Unknown
from ...utils.tensors.torch_files import TorchFile, read_torch_file
from ..config import ModelConfig, default_blocks
from ..model import TABLE, UNUSED, GroundingModel
from .state import load_own_state

ALIASES = ("image_encoder_clip_vg.", "text_encoder_clip_vg.")
HEAD_WIDTH = 64  # CLIP's attention heads are always 64 wide
OPTIONS = {"vl_nheads": "heads", "vl_dropout": "dropout"}
LEARNED = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def official_model(path: Path, sizes: Mapping[str, Any]) -> GroundingModel:
    """The model of a checkpoint file, float32 on the CPU; `sizes` win over what the file tells.

    Errors: TTDError: no such checkpoint, names missing or unknown, shapes that do not fit.
    """
    file = read_torch_file(path)
    state = file.tensors(_model_refs(file))
    check_tensors(state, path)
    towers = {n.removeprefix("clip."): v.float() for n, v in state.items() if n[:5] == "clip."}
    own = {n: v.float() for n, v in state.items() if n == TABLE or n[:5] != "clip."}
    own = {name: value for name, value in own.items() if name not in UNUSED}
    with reading(path):
        backbone = _backbone(towers, path)
        config = replace(official_config(own, backbone, options_of(file)), **sizes)
    model = GroundingModel(backbone, config, train_visual_pos=False)
    load_own_state(model, own, path)
    return model


def _model_refs(file: TorchFile) -> dict[str, Any]:
    """The entries under `model`, or of a bare state dict, without the aliases."""
    content = file.data
    if isinstance(content, dict) and isinstance(content.get("model"), dict):
        content = content["model"]
    if not isinstance(content, dict) or not any(str(n).startswith("clip.") for n in content):
        raise TTDError(f"{file.path}: no CLIP-VG checkpoint, it holds no clip.* tensors")
    names = [str(name).removeprefix("module.") for name in content]
    refs = dict(zip(names, content.values(), strict=True))
    return {name: ref for name, ref in refs.items() if not name.startswith(ALIASES)}


def options_of(file: TorchFile) -> dict[str, Any]:
    """The options that a checkpoint was trained with, read as data; {} where there are none."""
    args = file.data.get("args") if isinstance(file.data, dict) else None
    if isinstance(args, Unknown) and isinstance(args.state, dict):
        return dict(args.state)
    return {}


def official_config(
    state: Mapping[str, Tensor], backbone: CLIPBackbone, options: Mapping[str, Any]
) -> ModelConfig:
    """The settings that the tensors tell, heads and dropout by the options or the defaults.

    state: tensors by the published names; `ml_visu_proj.weight` [D, levels * width] tells most.
    Errors: KeyError and TTDError where the tensors are no grounding model's.
    """
    hidden, inputs = state["ml_visu_proj.weight"].shape
    levels = inputs // backbone.visual.positional_embedding.shape[1]
    layer = "vl_transformer.encoder.layers."
    numbers = [int(name[len(layer) :].split(".")[0]) for name in state if name.startswith(layer)]
    told = {ours: options[theirs] for theirs, ours in OPTIONS.items() if theirs in options}
    tokens = state["vl_pos_embed.weight"].shape[0]
    patches = backbone.visual.positional_embedding.shape[0] - 1
    return ModelConfig(
        blocks=default_blocks(len(backbone.visual.blocks), levels),
        hidden=hidden,
        image_size=backbone.image_size,
        context=tokens - patches - 2,
        layers=max(numbers) + 1,
        feedforward=state[f"{layer}0.linear1.weight"].shape[0],
        **told,
    )


def _backbone(state: dict[str, Tensor], path: Path) -> CLIPBackbone:
    """OpenAI's CLIP of any size, every size read from the tensors."""
    state.pop("logit_scale", None)
    width, _, _, patch = state["visual.conv1.weight"].shape
    side = round((state["visual.positional_embedding"].shape[0] - 1) ** 0.5) * patch
    context, text_width = state["positional_embedding"].shape
    hidden = state["visual.transformer.resblocks.0.mlp.c_fc.weight"].shape[0]
    vision = {
        "image_size": side,
        "layers": _depth(state, "visual.transformer.resblocks."),
        "width": width,
        "head_width": min(HEAD_WIDTH, width),
        "patch_size": patch,
        "mlp_ratio": hidden / width,
    }
    text = {
        "context_length": context,
        "vocab_size": state["token_embedding.weight"].shape[0],
        "width": text_width,
        "heads": max(1, text_width // HEAD_WIDTH),
        "layers": _depth(state, "transformer.resblocks."),
        "mlp_ratio": state["transformer.resblocks.0.mlp.c_fc.weight"].shape[0] / text_width,
    }
    model = openclip.build_openai_clip(state, state["text_projection"].shape[1], vision, text)
    backbone = CLIPBackbone(
        openclip.vision_tower(model, path.name),
        openclip.text_tower(model, path.name),
        Tokenizer(OPENAI_MODEL),
        Preprocess(*LEARNED, side),
        logit_scale=100.0,
    )
    backbone.arch = str(path)
    backbone.head = check_head("maskclip", backbone.visual.readout.heads, backbone.arch)
    backbone.eval().requires_grad_(False)
    return backbone


def _depth(state: Mapping[str, Tensor], prefix: str) -> int:
    """How many blocks the names under a prefix count."""
    pattern = re.compile(re.escape(prefix) + r"(\d+)\.")
    numbers = [int(match[1]) for name in state if (match := pattern.match(name))]
    return max(numbers) + 1
