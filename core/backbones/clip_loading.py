"""From a name to an open_clip model with its weights.

Names are those built into open_clip, local folders, and repositories of the Hugging Face Hub.
"""

import difflib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import TTDError
from ..utils.files import expanded
from ..utils.shipped import shipped
from ..utils.tensors.file_kinds import file_kind
from ..utils.tensors.npz_files import check_npz
from . import openclip
from .base import CLIP_MASK
from .clip import CLIPBackbone
from .openclip_config import FOLDER_CONFIG, check_folder, hub_config
from .own_settings import own_settings
from .tokenizers.openclip import Tokenizer
from .weights import (
    OFFLINE_HINT,
    OPENAI_MODEL,
    check_tensors,
    existing_file,
    hub,
    is_torchscript,
    openai_clip_file,
    quiet,
    read_weights,
    reading,
    shorten,
    weight_file,
)

# What short names stand for; TCL is loaded by core/backbones/tcl/loading.py
SHORT_NAMES = {
    "CLIP": f"{OPENAI_MODEL}:openai",
    "MaskCLIP": f"{OPENAI_MODEL}:openai",
    "tiny": f"local-dir:{shipped('weights/tiny')}",
    "tiny-cls": f"local-dir:{shipped('weights/tiny-cls')}",
}
# Families that people ask for and that do not serve: what to use instead. By a part of the name.
NO_TEXT = "it has no text tower, so nothing compares its patches with words"
REFUSED = {
    "pe-spatial": f"{NO_TEXT}; use PE-Core, such as PE-Core-B-16:meta",
    "pe-lang": f"{NO_TEXT}; use PE-Core, such as PE-Core-B-16:meta",
    "naflex": "its images have no fixed grid; use ViT-B-16-SigLIP2-256:webli",
    "dinov2": f"{NO_TEXT}; use dino.txt, dinotxt:/FOLDER",
    "dinov3": f"{NO_TEXT}; use dino.txt, dinotxt:/FOLDER",
    "tips": "it is read from its own files, tips:/FOLDER",
}


def load_clip(arch: str, weights: str | Path | None) -> tuple[CLIPBackbone, str]:
    """Any arch but TCL (see `load_backbone`) -> its backbone and its default dense head.

    The backbone is in float32 on the CPU. The head follows the pooling, unless a local folder's
    config names one (key "ttd", `head`).
    """
    model, name = load_openclip_model(arch, weights)
    own = own_settings(name)
    usual = _mask_mapping(model)
    scale = usual[0] if own.mask_scale is None else own.mask_scale
    bias = usual[1] if own.mask_bias is None else own.mask_bias
    backbone = CLIPBackbone(
        openclip.vision_tower(model, arch),
        openclip.text_tower(model, arch),
        Tokenizer(name, _beside(arch, weights)),
        openclip.preprocess(model),
        logit_scale=float(model.logit_scale.detach().exp()),
        mask=(scale, bias),
    )
    backbone.own = own
    return backbone, own.head or backbone.visual.readout.default_head


def _mask_mapping(model: openclip.OpenCLIP) -> tuple[float, float]:
    """(a, b) of the soft mask `sigmoid(a (S - b))` where a folder's config says nothing.

    CLIP's; for models that were trained with a bias of their logits (SigLIP), b is the cosine at
    which the model itself gives a pair the probability 1/2: their cosines never reach CLIP's b.
    """
    logit_bias = getattr(model, "logit_bias", None)
    if logit_bias is None:
        return CLIP_MASK
    return CLIP_MASK[0], float(-logit_bias.detach() / model.logit_scale.detach().exp())


def _beside(arch: str, weights: str | Path | None) -> Path | None:
    """The folder of the weight file that a user named; a tokenizer's files may lie there."""
    source = str(weights or arch.partition(":")[2])
    return expanded(source).parent if source and expanded(source).is_file() else None


def load_openclip_model(arch: str, weights: str | Path | None) -> tuple[openclip.OpenCLIP, str]:
    """The open_clip model of `arch` with its weights, and the name that open_clip knows it by.

    The name is for the tokenizer. Errors: TTDError as `load_backbone`.
    """
    arch = SHORT_NAMES.get(arch, arch)
    if arch.startswith("local-dir:"):
        return _from_folder(expanded(arch.removeprefix("local-dir:")), weights)
    if arch.startswith("hf-hub:"):
        return _from_hub(arch, weights), arch
    return _builtin(arch, weights)


def _builtin(arch: str, weights: str | Path | None) -> tuple[openclip.OpenCLIP, str]:
    """A model that open_clip knows by name: `MODEL:TAG`, `MODEL:/path`, or with `weights`."""
    import open_clip

    name, _, source = arch.partition(":")
    if name not in open_clip.list_models():
        raise _unknown(arch, difflib.get_close_matches(name, open_clip.list_models(), 3, 0.0))
    tags = open_clip.list_pretrained_tags_by_model(name)
    tag: dict[str, Any] = {}
    if source in tags and weights is None:
        tag = open_clip.get_pretrained_cfg(name, source)
    if not (tag or weights or "/" in source or expanded(source or "/").is_file()):
        known = ", ".join(tags) or "(none known)"
        raise TTDError(
            f"{arch}: say which weights, as {name}:TAG with TAG one of {known}, or "
            f"{name}:/path/to/checkpoint"
        )
    if tag:
        model = _skeleton(name, tag.get("quick_gelu", False))
        openclip.check_supported(model, arch)
        return _fill(model, _download(name, source, tag)), name
    path = weight_file(weights or source)
    # OpenAI's archives were trained with QuickGELU, whatever name they are loaded by.
    model = _skeleton(name, is_torchscript(path))
    openclip.check_supported(model, arch)
    return _fill(model, path), name


def _unknown(arch: str, similar: list[str]) -> TTDError:
    for name, reason in REFUSED.items():
        if name in arch.partition(":")[0].lower():
            return TTDError(f"{arch} is not supported: {reason}")
    return TTDError(
        f"unknown arch {arch!r}: use {', '.join(SHORT_NAMES)}, TCL, MODEL:PRETRAINED or "
        f"MODEL:/path/to/checkpoint (MODEL from open_clip, such as {', '.join(similar)}), "
        "hf-hub:ORG/NAME or local-dir:/path"
    )


def _skeleton(name: str, quick_gelu: bool = False) -> openclip.OpenCLIP:
    """A built-in model, random until `_fill` (which is strict) has run."""
    import open_clip

    preprocess = _preprocess_of(name)
    with hub():
        # The tag decides the activation: open_clip only warns where a model's name does not fit its
        # weights.
        return open_clip.create_model(
            name,
            force_quick_gelu=quick_gelu,
            force_preprocess_cfg=preprocess,
            pretrained_text=False,
        )


def _download(name: str, tag: str, config: dict[str, Any]) -> Path:
    """The file of a model's pretrained tag, from open_clip's cache or downloaded."""
    from open_clip.pretrained import download_pretrained

    if name in (OPENAI_MODEL, "ViT-B-16") and tag == "openai":
        return openai_clip_file()
    try:
        with hub():
            return Path(download_pretrained(config))
    except Exception as error:
        raise TTDError(
            f"weights {name}:{tag} are not cached and could not be downloaded ({shorten(error)}): "
            f"get them from {config.get('hf_hub') or config.get('url')}, use "
            f"{name}:/path/to/checkpoint, {OFFLINE_HINT}"
        ) from None


def _fill(model: nn.Module, path: Path) -> openclip.OpenCLIP:
    """Load `path` into `model`, every tensor and no other, in whatever layout of open_clip's."""
    from open_clip.convert import load_big_vision_weights

    with reading(path), quiet():
        if file_kind(path) == "npz":
            check_npz(path)
            load_big_vision_weights(model, str(path))
            check_tensors(model.state_dict(), path)
            return model
        # Not open_clip.load_checkpoint: it resizes a position table that does not fit in silence,
        # by another rule.
        model.load_state_dict(_read_state(model, path), strict=True)
    return model


def _read_state(model: nn.Module, path: Path) -> dict[str, Tensor]:
    """The tensors of a file by the names that `model` has for them."""
    from open_clip.convert import convert_state_dict
    from open_clip.model import convert_to_custom_text_state_dict

    state: dict[str, Tensor] = convert_state_dict(model, read_weights(path))
    if "positional_embedding" in state and not hasattr(model, "positional_embedding"):
        state = convert_to_custom_text_state_dict(state)
    for name in ("logit_scale", "logit_bias"):  # files differ in [] and [1]
        own = getattr(model, name, None)
        if name in state and own is not None:
            state[name] = state[name].reshape(own.shape)
    return state


def _preprocess_of(name: str) -> dict[str, Any]:
    """Mean and std that all of a built-in model's pretrained tags agree on, else none.

    SigLIP's differ from CLIP's.
    """
    import open_clip

    tags = open_clip.list_pretrained_tags_by_model(name)
    configs = [open_clip.get_pretrained_cfg(name, tag) for tag in tags]
    known = {(tuple(c["mean"]), tuple(c["std"])) for c in configs if c.get("mean") and c.get("std")}
    if len(known) != 1:
        return {}
    mean, std = known.pop()
    return {"mean": mean, "std": std}


def _from_folder(folder: Path, weights: str | Path | None) -> tuple[openclip.OpenCLIP, str]:
    import open_clip

    config = folder / FOLDER_CONFIG
    if not config.is_file():
        raise TTDError(
            f"{folder} has no {FOLDER_CONFIG}: local-dir: needs a folder with open_clip's config "
            f"and weights, {OFFLINE_HINT}"
        )
    name = f"local-dir:{folder}"
    path = existing_file(weights) if weights else _weights_in(folder)
    check_folder(folder, path)
    with reading(config), quiet():
        model = open_clip.create_model(name, load_weights=False)
    openclip.check_supported(model, name)
    return _fill(model, path), name


def _weights_in(folder: Path) -> Path:
    from open_clip.factory import _find_checkpoint_in_dir

    found = _find_checkpoint_in_dir(folder)
    if not found:
        raise TTDError(
            f"no weights in {folder}: expected open_clip_model.safetensors (or "
            f"open_clip_pytorch_model.bin) beside {FOLDER_CONFIG}, {OFFLINE_HINT}"
        )
    return Path(found)


def _from_hub(arch: str, weights: str | Path | None) -> openclip.OpenCLIP:
    import open_clip

    own = weights is None
    try:
        hub_config(arch)
        with hub():
            model = open_clip.create_model(arch, load_weights=own, require_pretrained=own)
    except TTDError:
        raise
    except Exception as error:
        raise TTDError(
            f"{arch} could not be loaded from the Hugging Face Hub or its cache "
            f"({shorten(error)}): check the name and the network, {OFFLINE_HINT}"
        ) from None
    openclip.check_supported(model, arch)
    if weights is None:
        return model
    return _fill(model, existing_file(weights))


def state_dict_of_openai_clip() -> dict[str, Tensor]:
    """OpenAI's ViT-B/16 as a flat state dict in OpenAI's names, float32, without logit_scale.

    Shapes as in OpenAI's file: `visual.conv1.weight` [C, 3, P, P] with C = 768 and P = 16.
    """
    state = _fill(_skeleton(OPENAI_MODEL), openai_clip_file()).state_dict()
    return {key: value.to(torch.float32) for key, value in state.items() if key != "logit_scale"}
