"""Tensors by their published names into a grounding model, every one of them and no other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from ...errors import TTDError
from ..model import TABLE, UNUSED, GroundingModel


def load_own_state(model: GroundingModel, state: Mapping[str, Tensor], path: str | Path) -> None:
    """Put tensors by their published names into the model; strict but for `visu_proj`.

    state: of the shapes of `own_state`: linears [out, in], position tables [L, D].

    Errors: TTDError listing missing and unknown names, or tensors whose shapes do not fit.
    """
    wanted = model.own_state()
    missing = sorted(set(wanted) - set(state) - set(UNUSED))
    unknown = sorted(set(state) - set(wanted))
    if missing or unknown:
        raise TTDError(
            f"{path}: no grounding model of this kind: missing {_names(missing)}; "
            f"unknown {_names(unknown)}"
        )
    wrong = [name for name, value in state.items() if value.shape != wanted[name].shape]
    if wrong:
        shapes = f"{list(state[wrong[0]].shape)} instead of {list(wanted[wrong[0]].shape)}"
        raise TTDError(f"{path}: tensors of other shapes: {_names(wrong)} ({shapes})")
    with torch.no_grad():
        for name, value in state.items():
            _parameter(model, name).copy_(value)


def _parameter(model: GroundingModel, name: str) -> nn.Parameter:
    if name == TABLE:
        return model.backbone.visual.positional_embedding
    return model.get_parameter(name)


def _names(names: list[str]) -> str:
    if not names:
        return "none"
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(names[:4]) + more
