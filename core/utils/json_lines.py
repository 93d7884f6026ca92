"""JSON of strangers to plain values: one line with the place for what is wrong, no surprise."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import TTDError
from .files import regular_text


def parse_json(text: str, where: object, form: str) -> Any:
    """The value in JSON text. TTDError naming `where` and the `form` that is wanted."""
    try:
        return json.loads(text, object_pairs_hook=_distinct)
    except (ValueError, RecursionError) as error:  # also numbers of thousands of digits
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise TTDError(f"{where}: not JSON ({reason}); {form}") from None


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object. ValueError for a key that occurs twice, of which JSON would keep the last."""
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice[:80]!r} occurs twice")
    return content


def load_json(path: Path, form: str) -> Any:
    """The value in a regular file of JSON. TTDError in one line for anything else."""
    return parse_json(_text(path, form), path, form)


def _text(path: Path, form: str) -> str:
    try:
        return regular_text(path)
    except TTDError as error:
        raise TTDError(f"{error}; {form}") from None


def json_rows(path: Path, form: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number from 1, object) for every line of a JSONL file that is not blank.

    Lines end at line feeds alone: U+2028 may stand in a caption. TTDError with file and line.
    """
    # splitlines() would also cut at U+2028, NEL and others
    for number, line in enumerate(_text(path, form).split("\n"), start=1):
        if not line.strip():
            continue
        row = parse_json(line, f"{path}:{number}", form)
        if not isinstance(row, dict):
            raise TTDError(f"{path}:{number}: not an object; {form}")
        yield number, row
