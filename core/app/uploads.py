"""The folder that uploads lie in: bounded, the oldest files make room."""

from __future__ import annotations

import contextlib
from pathlib import Path

TIMES = 50  # the largest upload: what the folder holds at most


def make_room(folder: Path, most: int) -> int:
    """Remove the oldest files below a folder until at most `most` bytes are left.

    Returns how many were removed. Files that others remove meanwhile are none's fault.
    """
    files = []
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            known = path.lstat()
            if path.is_file() and not path.is_symlink():
                files.append((known.st_mtime_ns, known.st_size, path))
    total, removed = sum(size for _, size, _ in files), 0
    for _, size, path in sorted(files):
        if total <= most:
            break
        with contextlib.suppress(OSError):
            path.unlink()
        total -= size
        removed += 1
    return removed
