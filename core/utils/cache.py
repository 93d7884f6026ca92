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
