"""What makes a result traceable and repeatable: versions, times, weight files, seeds."""

from __future__ import annotations

import contextlib
import platform
import random
import re
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from importlib.metadata import version
from typing import TYPE_CHECKING

from .files import expanded, is_there
from .shipped import own_weights, shipped

if TYPE_CHECKING:
    import torch

HUB = "hf-hub:"
COMMIT = re.compile("@[0-9a-f]{40}$")
PACKAGES = ("torch", "open_clip_torch", "numpy", "pillow")


def versions() -> dict[str, str]:
    """Python's version and those of the packages that results depend on."""
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def weight_stamps(arch: str, *named: str | None) -> dict[str, list[int]]:
    """Size and time (ns) of every file that a model's weights can come from.

    These are the files of the weights folder and those named.

    Equal stamps mean equal weights without reading them; other stamps mean that checksums must be
    compared. What `hf-hub:ORG/NAME` is may change, so its stamp is never equal to another; that of
    a commit, `hf-hub:ORG/NAME@...`, is.
    """
    names = [name for name in named if name and not name.startswith(HUB)]
    kind, _, place = arch.partition(":")
    names += [place] * (place != "" and kind != "hf-hub")
    files = {file for root in {shipped("weights"), own_weights()} for file in root.rglob("*")}
    for path in map(expanded, names):
        twin = path.parent / f"{path.stem}.safetensors"  # what X.pt falls back to
        for root in filter(is_there, (path, twin)):
            # Not what lies deeper: a model's files are side by side, and `/` is a folder too.
            files |= {root} if root.is_file() else set(root.glob("*"))
    stamps = {
        str(file): [file.stat().st_size, file.stat().st_mtime_ns]
        for file in sorted(files)
        if file.is_file()
    }
    for name in (arch, *named):
        if name and name.startswith(HUB):
            stamps[name] = [0 if COMMIT.search(name) else time.time_ns()]
    return stamps


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch (all devices): the same command gives the same files."""
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


@contextlib.contextmanager
def reproducible(device: torch.device) -> Iterator[None]:
    """Inside, sums on the CPU have a fixed order whatever the threads."""
    import torch

    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(before or device.type == "cpu")
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
