"""Measured tables in the documentation: each lies between two marks and is replaced by its tool."""

from __future__ import annotations

from pathlib import Path

from core.errors import TTDError


def update(path: Path, marks: tuple[str, str], text: str) -> None:
    """Replace what is between the two marks in the file by `text`; everything else stays.

    Raises TTDError when the file cannot be read or written or does not have the marks.
    """
    try:
        content = path.read_text(encoding="utf-8")
        before, start, rest = content.partition(marks[0])
        _, end, after = rest.partition(marks[1])
        if not start or not end:
            raise TTDError(f"{path}: no lines {marks[0]} and {marks[1]} to put the table between")
        path.write_text(f"{before}{start}\n{text}{end}{after}", encoding="utf-8")
    except OSError as error:
        raise TTDError(f"{path}: cannot be read or written ({error.strerror})") from None
