"""Backbones: any CLIP-like model as text and pixels in one embedding space. `load_backbone` is the way in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from .base import Backbone


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
        arch: `CLIP` (alias `MaskCLIP`; OpenAI's ViT-B/16), `TCL`, `tiny` (ships with the project),
        any open_clip
            `MODEL:PRETRAINED` or `MODEL:/path/to/checkpoint`, `hf-hub:ORG/NAME`, `local-dir:/path`.
        weights: a file that wins over anything in the name.
        lora: an adapter on top: file, PEFT folder or `hf-hub:ORG/NAME`.
        head: dense head (`core.backbones.heads.HEADS`); default: the one that a local folder's
        config names,
            else `maskclip` for class-token models and `vanilla` for others.
        device: default CUDA where there is one, else the CPU.
        dtype: of the parameters, default float32 (on CUDA not TF32); similarity maps are at least
        float32 always.

    Errors: TTDError, one line: unknown arch or head, missing or damaged weights, towers of a kind
    not supported.
    """
    from .clip_loading import load_clip
    from .device import resolve_device, resolve_dtype, use_full_float32
    from .heads import check_head
    from .tcl_loading import load_tcl

    target, kind = resolve_device(device), resolve_dtype(dtype)
    if target.type == "cuda":
        use_full_float32()
    backbone, default = (
        (load_tcl(weights, head), "maskclip") if arch == "TCL" else load_clip(arch, weights)
    )
    backbone.arch = arch
    backbone.head = check_head(head or default, backbone.visual.readout.heads, arch)
    backbone.eval().requires_grad_(False)
    if lora is not None:
        from .lora.adapter import load_adapter

        load_adapter(backbone, lora)
    return backbone.to(device=target, dtype=kind)
