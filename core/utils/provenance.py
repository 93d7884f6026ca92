"""What is written beside every result so that it can be traced and repeated: versions, times, weight files."""

from __future__ import annotations

import platform
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("torch", "open_clip_torch", "numpy", "pillow")
WEIGHTS = Path(__file__).resolve().parents[2] / "weights"


def versions() -> dict[str, str]:
    """Python's version and those of the packages that results depend on."""
    return {"python": platform.python_version()} | {name: version(name) for name in PACKAGES}


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def weight_stamps(arch: str, *named: str | None) -> dict[str, list[int]]:
    """Size and time (ns) of every file that a model's weights can come from: the weights folder and those named.

    Equal stamps mean equal weights without reading them; other stamps mean that checksums must be compared.
    """
    names = [name for name in named if name]
    names += [str(Path(name).with_suffix(".safetensors")) for name in names]  # what X.pt falls back to
    kind, _, place = arch.partition(":")
    roots = [WEIGHTS, *(Path(name).expanduser() for name in names + [place] * (place != "" and kind != "hf-hub"))]
    files = {file for root in roots if root.exists() for file in ([root] if root.is_file() else root.rglob("*"))}
    return {str(file): [file.stat().st_size, file.stat().st_mtime_ns] for file in sorted(files) if file.is_file()}
