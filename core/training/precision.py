"""Which numbers the towers' matrix products are computed in."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import torch

from ..backbones.device import fast_dtype, resolve_device, resolve_dtype
from .config import RunConfig

C = TypeVar("C", bound=RunConfig)


def products(dtype: str, device: torch.device) -> torch.dtype:
    """What the setting `dtype` means on a device."""
    return fast_dtype(device) if dtype == "auto" else resolve_dtype(dtype)


def settled(config: C, device: str | torch.device | None) -> C:
    """Settings that name what `auto` stands for on a device; None: CUDA where there is one.

    A run is known by them: resumed where `auto` stands for another, it is refused and does not go
    on in other numbers.
    """
    if config.dtype != "auto":
        return config
    found = products(config.dtype, resolve_device(device))
    return replace(config, dtype=str(found).removeprefix("torch."))
