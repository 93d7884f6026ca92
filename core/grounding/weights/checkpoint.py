"""Grounding models in files: CLIP-VG's published checkpoints, and our own safetensors.

A published checkpoint holds the whole network (towers under three names), an optimizer and pickled
options; it is read as data (core/utils/tensors). Our own file holds what training changes, the
settings, and which backbone it belongs to.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ...backbones import load_backbone
from ...backbones.base import Backbone
from ...backbones.device import resolve_device
from ...backbones.hub_files import hub_file, is_hub_name
from ...backbones.weights import existing_file, reading
from ...errors import TTDError
from ...utils.files import atomic, write_errors
from ...utils.finite import check_weights
from ...utils.tensors.tensor_files import save_safetensors
from ..config import ModelConfig
from ..model import GroundingModel
from .official import official_model
from .state import load_own_state

FORMAT = "ttd-grounding-1"
HUB_FILE = "grounder.safetensors"  # in a repository of the Hugging Face Hub


def load_model(
    weights: str | Path,
    arch: str | None = None,
    device: torch.device | str | None = None,
    sizes: Mapping[str, Any] | None = None,
) -> GroundingModel:
    """A trained grounding model, in evaluation mode.

    Args:
        weights: CLIP-VG's .pth, our .safetensors, or `hf-hub:ORG/NAME[@REVISION]` with one of
            ours.
        arch: backbone of our files, where its name has changed since training; published
            checkpoints bring their own.
        device: None: CUDA where there is one, else the CPU.
        sizes: fields of `ModelConfig` that a published checkpoint of an unusual model has
            otherwise than its tensors and options tell, such as `blocks` or `heads`.
    Errors: TTDError, one line: missing or damaged file, names or shapes that do not fit, another
        backbone than the one trained with.
    """
    path = model_file(weights)
    own = path.suffix == ".safetensors"
    model = _own_model(path, arch) if own else official_model(path, sizes or {})
    return model.to(resolve_device(device)).eval()


def model_file(weights: str | Path) -> Path:
    """The file of a grounding model, fetched where it is a name on the Hub. TTDError: no such."""
    if is_hub_name(weights):
        return hub_file(weights, HUB_FILE, "grounding model")
    return existing_file(weights)


def save_model(model: GroundingModel, path: Path, checksum: str, info: Mapping[str, Any]) -> None:
    """Write what training changes, whole or not at all.

    Args: checksum: of the backbone before training (`Backbone.checksum`); info: what made it,
        plain values.
    Errors: TTDError when it cannot be written.
    """
    content = {"config": asdict(model.config), "arch": model.backbone.arch, "backbone": checksum}
    # One entry: the library writes several in any order, and the same run must give the same bytes.
    metadata = {FORMAT: json.dumps({**content, "info": dict(info)})}
    tensors = {name: value.cpu().contiguous() for name, value in model.own_state().items()}
    check_weights(tensors, path)
    with (
        write_errors(path, "make room, or choose another --out"),
        atomic(path, durable=True) as part,
    ):
        save_safetensors(tensors, part, metadata)


def read_info(path: Path) -> dict[str, Any]:
    """What one of our files says of itself: config, arch, backbone, info. TTDError: another."""
    from safetensors import safe_open

    with reading(path), safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
    if FORMAT not in metadata:
        raise TTDError(f"{path}: no grounding model; train one with train_grounding.py")
    with reading(path):
        said: dict[str, Any] = json.loads(metadata[FORMAT])
    if not isinstance(said, dict) or not {"config", "arch", "backbone", "info"} <= set(said):
        raise TTDError(f"{path}: its settings are damaged; train it again")
    return said


def _own_model(path: Path, arch: str | None) -> GroundingModel:
    from safetensors.torch import load_file

    said = read_info(path)
    backbone = load_backbone(arch or said["arch"], device="cpu")
    _check_backbone(backbone, said, path)
    config = _config(said["config"], path)
    model = GroundingModel(backbone, config, train_visual_pos=False)
    with reading(path):
        state = load_file(path)
    load_own_state(model, state, path)
    return model


def _check_backbone(backbone: Backbone, said: Mapping[str, Any], path: Path) -> None:
    if said.get("backbone") != backbone.checksum:
        raise TTDError(
            f"{path}: was trained on other weights of {said.get('arch')} than those of "
            f"{backbone.arch}; name the right ones with --arch"
        )


def _config(values: Any, path: Path) -> ModelConfig:
    try:
        return ModelConfig(**{**values, "blocks": tuple(values["blocks"])})
    except (TypeError, KeyError) as error:
        raise TTDError(f"{path}: its settings are damaged ({error}); train it again") from None
