"""Reports and tables where the user wants them: in a file, on a device, in a pipe."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from .files import atomic


def write_out(path: Path, data: bytes) -> None:
    """Write a report to a file, or to a device or a pipe that somebody reads. OSError: cannot be.

    A file is whole or what it was before, whatever interrupts this. Links (/dev/stdout is one) and
    files in a folder where nothing can be made are written in place. A pipe that nobody reads is an
    error at once, not a wait for ever.
    """
    there = os.path.lexists(path)
    if there and (not _is_plain(path) or not os.access(path.parent, os.W_OK)):
        _write_in_place(path, data)
        return
    with atomic(path) as part:
        part.write_bytes(data)
        if there:
            shutil.copymode(path, part)


def _is_plain(path: Path) -> bool:
    """A file itself: no link, device or pipe."""
    return path.is_file() and not path.is_symlink()


def _write_in_place(path: Path, data: bytes) -> None:
    """Into what is there."""

    def opened(name: str, flags: int) -> int:
        """Open for writing; a pipe that nobody reads is an OSError."""
        number = os.open(name, flags | getattr(os, "O_NONBLOCK", 0), 0o666)
        os.set_blocking(number, True)
        return number

    with open(path, "wb", opener=opened) as file:
        file.write(data)
