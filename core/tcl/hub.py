"""A TCL checkpoint as one safetensors file, for the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path

from ..backbones import load_backbone
from ..backbones.tcl.model import TCLBackbone
from ..errors import TTDError
from .checkpoint import save_tcl


def to_safetensors(weights: str | Path, path: Path) -> TCLBackbone:
    """Write a checkpoint of any form that is read as safetensors, towers and all; the model.

    It is loaded again and its checksum compared. TTDError: no TCL, or the two differ.
    """
    backbone = load_backbone("TCL", weights=weights, device="cpu")
    assert isinstance(backbone, TCLBackbone)
    save_tcl(backbone, path)
    again = load_backbone("TCL", weights=path, device="cpu")
    if again.checksum != backbone.checksum:
        raise TTDError(f"{path}: loaded again it is another model than {weights}; do not use it")
    return backbone
