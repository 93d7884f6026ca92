"""Backbones: CLIP-like models that put text and pixels into one space. Start at `load_backbone`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import TTDError

if TYPE_CHECKING:
    import torch

    from .base import Backbone

# (arch, weights, head) -> the backbone on the CPU and its default dense head
Loader = Callable[[str, str | Path | None, str | None], "tuple[Backbone, str]"]


def load_backbone(
    arch: str,
    *,
    weights: str | Path | None = None,
    lora: str | Path | None = None,
    head: str | None = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
) -> Backbone:
    """Load a model by name, ready for inference: eval mode, base parameters frozen.

    Args:
        arch: a name of `BACKBONES` (`CLIP`, alias `MaskCLIP`, is OpenAI's ViT-B/16; `tiny` and
            the class-token `tiny-cls` ship with the project), any open_clip `MODEL:PRETRAINED` or
            `MODEL:/path/to/checkpoint`, `hf-hub:ORG/NAME`, or `local-dir:/path`.
        weights: a file that wins over anything in the name.
        lora: an adapter on top: file, PEFT folder or `hf-hub:ORG/NAME`.
        head: dense head (`core.backbones.heads.HEADS`); default: the one that a local folder's
            config names, else `maskclip` for class-token models and `vanilla` for others.
        device: default CUDA where there is one, else the CPU.
        dtype: of the parameters, default float32 (on CUDA not TF32); similarity maps are always at
            least float32.

    Errors: TTDError, one line: unknown arch or head, missing or damaged weights, towers of a kind
        that is not supported.
    """
    from .device import resolve_device, resolve_dtype, use_full_float32
    from .heads import check_head

    if not isinstance(arch, str):
        raise TTDError(f"arch: {arch!r} is no name of a model; try 'tiny'")
    for what, file in (("weights", weights), ("lora", lora)):
        if file is not None and not isinstance(file, str | Path):
            raise TTDError(f"{what}: {file!r} is no path of a file")
    target, kind = resolve_device(device), resolve_dtype(dtype)
    if target.type == "cuda":
        use_full_float32()
    backbone, default = _loader_of(arch)(arch, weights, head)
    backbone.arch = arch
    backbone.head = check_head(head or default, backbone.visual.readout.heads, arch)
    backbone.eval().requires_grad_(False)
    if lora is not None:
        from .lora.adapter import load_adapter

        load_adapter(backbone, lora)
    return backbone.to(device=target, dtype=kind)


def _loader_of(arch: str) -> Loader:
    family = next((prefix for prefix in FAMILIES if arch.startswith(prefix)), None)
    return BACKBONES.get(arch, _load_clip) if family is None else FAMILIES[family]


def _load_clip(arch: str, weights: str | Path | None, head: str | None) -> tuple[Backbone, str]:
    from .clip_loading import load_clip

    return load_clip(arch, weights)


def _load_tcl(arch: str, weights: str | Path | None, head: str | None) -> tuple[Backbone, str]:
    from .tcl.loading import load_tcl

    return load_tcl(weights, head), "maskclip"


def _load_tips(arch: str, weights: str | Path | None, head: str | None) -> tuple[Backbone, str]:
    from .families.tips import load_tips

    return load_tips(arch, weights)


def _load_dinotxt(arch: str, weights: str | Path | None, head: str | None) -> tuple[Backbone, str]:
    from .families.dinotxt import load_dinotxt

    return load_dinotxt(arch, weights)


# The names of models; every other name is one of open_clip's, a folder's or the Hub's.
BACKBONES: dict[str, Loader] = {
    "CLIP": _load_clip,
    "MaskCLIP": _load_clip,
    "TCL": _load_tcl,
    "tiny": _load_clip,
    "tiny-cls": _load_clip,
}
# Families with files of their own, by what a name begins with; a folder follows.
FAMILIES: dict[str, Loader] = {"tips:": _load_tips, "dinotxt:": _load_dinotxt}
