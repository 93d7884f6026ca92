"""Measured tables in the documentation: each lies between two marks and is replaced by its tool."""

from __future__ import annotations

from pathlib import Path

from core.errors import TTDError


def check(path: Path, marks: tuple[str, str]) -> None:
    """TTDError where `update` would find no place: before hours of work, not after them."""
    try:
        content = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TTDError(f"{path}: cannot be read ({error})") from None
    if marks[1] not in content.partition(marks[0])[2]:
        raise TTDError(f"{path}: no lines {marks[0]} and {marks[1]} to put the table between")


def update(path: Path, marks: tuple[str, str], text: str) -> None:
    """Replace what is between the two marks in the file by `text`; everything else stays.

    Raises TTDError when the file cannot be read or written or does not have the marks.
    """
    check(path, marks)
    try:
        before, start, rest = path.read_text(encoding="utf-8").partition(marks[0])
        _, end, after = rest.partition(marks[1])
        path.write_text(f"{before}{start}\n{text}{end}{after}", encoding="utf-8")
    except OSError as error:
        raise TTDError(f"{path}: cannot be read or written ({error.strerror})") from None
