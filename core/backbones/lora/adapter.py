"""LoRA adapters on a backbone: `W + (alpha / r) B A` on plain linears, through PEFT.

    targets = lora_targets(backbone)     # core/backbones/lora/targets.py
    info = AdapterInfo.of(backbone)      # before the adapter: it knows the base by its checksum
    add_adapter(backbone, targets, rank=8, alpha=16)
    ...                                  # train adapter_parameters(backbone)
    save_adapter(backbone, "weights/CLIP+TTD.safetensors", info)

Files are in core/backbones/lora/files.py, merging in core/backbones/lora/merge.py.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import TTDError
from ..base import Backbone
from .files import (
    HALVES,
    PREFIX,
    AdapterInfo,
    module_names,
    module_of,
    read_adapter,
    write_adapter,
    write_peft_folder,
)

__all__ = [
    "PREFIX",
    "AdapterInfo",
    "adapter_deltas",
    "adapter_disabled",
    "adapter_layers",
    "adapter_parameters",
    "adapter_share",
    "adapter_swapped",
    "add_adapter",
    "load_adapter",
    "read_adapter",
    "save_adapter",
    "save_peft_folder",
]

ADAPTER = "default"  # PEFT's name of the one adapter that a backbone has

LoraLayer = Any  # peft has no types


def load_adapter(backbone: Backbone, source: str | Path) -> None:
    """Put the adapter at `source` on `backbone`, in place; its parameters alone have a gradient.

    Args:
        source: see `read_adapter`. A file without alpha has alpha = rank, that is scale 1.

    Errors: TTDError when it cannot be read, names modules the backbone lacks, has other shapes, or
        was made for other base weights or another dense head, and when there is an adapter already.
    """
    _check_plain(backbone)
    state, info = read_adapter(source)
    _check_base(backbone, info, source)
    rank = _check_shapes(backbone, state, source)
    if info.rank not in (None, rank):
        raise TTDError(
            f"adapter {source} says that its rank is {info.rank} and has tensors of rank {rank}: "
            "it is damaged"
        )
    add_adapter(backbone, module_names(state), rank, info.alpha or rank)
    # By hand: PEFT's own loader passes over names that it does not find, and finds other names in
    # other versions.
    parameters = adapter_parameters(backbone)
    with torch.no_grad():
        for name, value in state.items():
            parameters[name].copy_(value)


def add_adapter(backbone: Backbone, modules: Sequence[str], rank: int, alpha: float) -> None:
    """A new adapter (B = 0, so no change yet) on the named linears of `backbone`, in place.

    A is drawn by torch's global generator.

    Errors: TTDError for names that are no linears, a rank below 1, an alpha that is 0 or not
        finite, and when there is an adapter already.
    """
    from peft import LoraConfig, inject_adapter_in_model

    _check_plain(backbone)
    linears = {name for name, m in backbone.named_modules() if isinstance(m, nn.Linear)}
    wrong = sorted(set(modules) - linears)
    if wrong or not modules:
        raise TTDError(
            f"no linear of {backbone.arch} is called {', '.join(wrong[:3]) or 'nothing'}: take "
            "names from lora_targets"
        )
    if rank < 1 or not math.isfinite(alpha) or alpha == 0:
        raise TTDError(
            f"an adapter of rank {rank} and alpha {alpha} does nothing: the rank must be at least "
            "1 and alpha finite and not 0"
        )
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(modules), lora_dropout=0.0)
    inject_adapter_in_model(config, backbone, adapter_name=ADAPTER)


def save_adapter(backbone: Backbone, path: str | Path, info: AdapterInfo) -> None:
    """Write the adapter on `backbone` as one safetensors file, whole or not at all.

    Equal adapters give equal bytes. Alpha and rank in `info` are replaced by the adapter's own.

    Errors: TTDError when there is no adapter, or `path` cannot be written.
    """
    write_adapter(adapter_parameters(backbone), path, _own_info(backbone, info))


def save_peft_folder(backbone: Backbone, folder: str | Path, info: AdapterInfo) -> None:
    """`save_adapter` as a folder that `peft` reads too.

    It holds adapter_config.json and adapter_model.safetensors.
    """
    write_peft_folder(adapter_parameters(backbone), folder, _own_info(backbone, info))


def adapter_layers(backbone: nn.Module) -> dict[str, LoraLayer]:
    """PEFT's layers by the names of the linears they replace; empty where there is no adapter."""
    from peft.tuners.lora import LoraLayer as Layer

    return {name: module for name, module in backbone.named_modules() if isinstance(module, Layer)}


def adapter_parameters(backbone: nn.Module) -> dict[str, nn.Parameter]:
    """The adapter's parameters by the file's names, PEFT's prefix left out.

    They are `MODULE.lora_A.weight` [r, in] and `MODULE.lora_B.weight` [out, r]; empty where the
    backbone has no adapter.
    """
    return {
        name.replace(f".{ADAPTER}.", "."): parameter
        for name, parameter in backbone.named_parameters()
        if f".lora_A.{ADAPTER}." in name or f".lora_B.{ADAPTER}." in name
    }


@torch.no_grad()
def adapter_deltas(backbone: Backbone) -> dict[str, Tensor]:
    """What the adapter adds to each linear's weight: `(alpha / r) B A` [out, in] in float32.

    By the linear's name, on the CPU. Source: LoRA (ICLR 2022), eq. 3.
    """
    deltas: dict[str, Tensor] = {}
    for name, layer in adapter_layers(backbone).items():
        halves = (layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight)
        a, b = (half.cpu().double() for half in halves)  # Apple's GPU has no float64
        deltas[name] = (layer.lora_alpha[ADAPTER] / layer.r[ADAPTER] * b @ a).float()
    return deltas


@contextmanager
def adapter_disabled(backbone: Backbone) -> Iterator[None]:
    """Inside, `backbone` is its own frozen base: the adapter is passed by, at no cost.

    Afterwards the same parameters require a gradient as before; nothing happens where there is no
    adapter.
    """
    layers = [layer for layer in adapter_layers(backbone).values() if not layer.disable_adapters]
    parameters = list(adapter_parameters(backbone).values())
    trained = [parameter.requires_grad for parameter in parameters]
    try:
        for layer in layers:
            layer.enable_adapters(False)
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)
        for parameter, wanted in zip(parameters, trained, strict=True):
            parameter.requires_grad_(wanted)  # enable_adapters sets it too


def adapter_share(tensors: Mapping[str, Tensor], share: float) -> Mapping[str, Tensor]:
    """An adapter that changes every weight by `share` times what `tensors` do: its B times that.

    tensors [r, in] and [out, r] by the names of `adapter_parameters`; themselves for share 1.
    """
    if share == 1:
        return tensors
    return {name: t * share if ".lora_B." in name else t for name, t in tensors.items()}


@contextmanager
def adapter_swapped(backbone: Backbone, tensors: Mapping[str, Tensor]) -> Iterator[None]:
    """Inside, the adapter's values are `tensors`, an EMA for instance; afterwards its own again.

    Nothing is copied where device and type agree, so `tensors` must not change meanwhile, and
    backward passes belong outside.

    Args: tensors [r, in] and [out, r] by the names of `adapter_parameters`.
    Errors: TTDError for names or shapes that are not the adapter's.
    """
    parameters = adapter_parameters(backbone)
    invalid = sorted(parameters.keys() ^ tensors.keys())
    if not invalid:
        invalid = [name for name, own in parameters.items() if own.shape != tensors[name].shape]
    if invalid:
        raise TTDError(
            f"these are not the values of the adapter on {backbone.arch}: "
            f"{', '.join(invalid[:3])} missing, unknown or of another shape"
        )
    own = {name: parameter.data for name, parameter in parameters.items()}
    try:
        _set_data(parameters, tensors)
        yield
    finally:
        _set_data(parameters, own)


def _set_data(parameters: Mapping[str, nn.Parameter], values: Mapping[str, Tensor]) -> None:
    # Autocast knows a parameter by its identity, and would still use the other values.
    torch.clear_autocast_cache()
    for name, parameter in parameters.items():
        parameter.data = values[name].detach().to(parameter)


def _own_info(backbone: Backbone, info: AdapterInfo) -> AdapterInfo:
    layers = adapter_layers(backbone)
    if not layers:
        raise TTDError(f"{backbone.arch} has no adapter to be saved")
    layer = next(iter(layers.values()))
    return replace(info, alpha=float(layer.lora_alpha[ADAPTER]), rank=layer.r[ADAPTER])


def _check_plain(backbone: Backbone) -> None:
    if adapter_layers(backbone):
        raise TTDError(
            f"{backbone.arch} has an adapter already: load the base again for another one"
        )


def _check_base(backbone: Backbone, info: AdapterInfo, source: str | Path) -> None:
    if info.base_checksum and info.base_checksum != backbone.checksum:
        raise TTDError(
            f"adapter {source} was trained on other weights ({info.arch}, "
            f"{info.base_checksum[:8]}) than these ({backbone.arch}, {backbone.checksum[:8]}): "
            "load the base it belongs to"
        )
    if info.arch and not info.base_checksum and info.arch != backbone.arch:
        raise TTDError(
            f"adapter {source} was trained on {info.arch}, not on {backbone.arch}: pass --arch "
            f"{info.arch}"
        )
    if info.head and info.head != backbone.head:
        raise TTDError(
            f"adapter {source} was trained with dense head {info.head}, not {backbone.head}: pass "
            f"--head {info.head}"
        )


def _check_shapes(backbone: Backbone, state: Mapping[str, Tensor], source: str | Path) -> int:
    """The adapter's rank; TTDError listing modules that are absent, not linear, or do not fit."""
    modules = dict(backbone.named_modules())
    wrong = []
    for name in state:
        problem = _misfit(modules.get(module_of(name)), name, state)
        if problem:
            wrong.append(problem)
    if wrong:
        rest = f" and {len(wrong) - 4} more" * (len(wrong) > 4)
        raise TTDError(
            f"adapter {source} does not fit {backbone.arch}: {', '.join(wrong[:4])}{rest}"
        )
    ranks = {value.shape[1 - _side(name)] for name, value in state.items()}
    if len(ranks) != 1:
        raise TTDError(
            f"adapter {source} has modules of ranks {', '.join(map(str, sorted(ranks)))}: one rank "
            "is supported, since alpha / rank is one scale"
        )
    return ranks.pop()


def _misfit(module: nn.Module | None, name: str, state: Mapping[str, Tensor]) -> str:
    """Why the tensor `name` does not fit the linear `module`; "" where it does."""
    value, side = state[name], _side(name)
    size = module.weight.shape[side] if isinstance(module, nn.Linear) else -1
    if value.ndim != 2 or value.shape[side] != size:
        return f"{name} {tuple(value.shape)}"
    missing = any(module_of(name) + half not in state for half in HALVES)
    return f"{name} without its other half" * missing


def _side(name: str) -> int:
    """The dimension that A [r, in] or B [out, r] shares with the linear's weight [out, in]."""
    return int(name.endswith(HALVES[0]))
