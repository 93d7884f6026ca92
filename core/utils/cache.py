"""Where things are kept that are worth computing once per machine."""

import os
from pathlib import Path

from .files import expanded


def cache_folder() -> Path | None:
    """$TTD_CACHE, else ~/.cache/ttd, which may not exist yet; None without a home directory."""
    if folder := os.environ.get("TTD_CACHE"):
        return expanded(folder)
    try:
        return Path.home() / ".cache" / "ttd"
    except RuntimeError:
        return None


def make_private(folder: Path) -> None:
    """Make a folder of the cache where it is missing, for this user alone. OSError: cannot be."""
    for missing in [*reversed(folder.parents), folder]:
        if not missing.exists():
            missing.mkdir(mode=0o700, exist_ok=True)
