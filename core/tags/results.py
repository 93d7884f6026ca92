"""Result files of tags: their names, their lines, and whether they are complete.

A result is `NAME.jsonl` (a line per caption, in input order), `NAME.meta.json` (what made it) and,
where something could not be used, `NAME.skipped.jsonl`. `NAME.inputs.npz` tells whether the inputs
have changed (core/data/inputs/table.py). core/tags/writer.py writes them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.inputs.table import SUFFIX, Inputs, check_inputs
from ..data.records import Record
from ..data.words import Word
from ..errors import TTDError
from ..utils.files import differences, read_json, safe_name, section, without
from ..utils.json_lines import json_rows


@dataclass(frozen=True)
class ResultPaths:
    """The files of one result."""

    lines: Path
    skipped: Path
    meta: Path
    inputs: Path

    @classmethod
    def of(cls, folder: Path, name: str) -> ResultPaths:
        """The files of the result `name` in `folder`."""
        endings = (".jsonl", ".skipped.jsonl", ".meta.json", SUFFIX)
        return cls(*(folder / f"{name}{ending}" for ending in endings))


def result_name(
    arch: str,
    image_size: int,
    scales: Sequence[float],
    scorer: str,
    adapted: bool = False,
    extras: Mapping[str, object] | None = None,
) -> str:
    """`ARCH_SIZE_[scales]@SCORER[+TTD]`, then `@key=value` for settings not at their default.

    >>> result_name("TCL", 224, [1.0], "pixel", adapted=True)
    'TCL_224_[1.0]@pixel+TTD'
    """
    more = "".join(f"@{key}={value}" for key, value in (extras or {}).items())
    scale = [float(s) for s in scales]
    return safe_name(f"{arch}_{image_size}_{scale}@{scorer}{'+TTD' * adapted}{more}")


def format_line(
    record: Record,
    words: Sequence[Word],
    scores: Sequence[float],
    norms: Sequence[float],
    selected: Sequence[bool],
    xy: Sequence[tuple[int, int]],
) -> str:
    """One line of a result, floats with 5 decimals; all sequences have one entry per word."""
    entries = ", ".join(map(_entry, words, scores, norms, selected, xy))
    return (
        f'{{"id": {_json(record.id)}, "image": {_json(record.name)}, "text": {_json(record.text)}, '
        f'"words": [{entries}]}}\n'
    )


def _entry(word: Word, score: float, norm: float, kept: bool, xy: tuple[int, int]) -> str:
    """A word in a line."""
    return (
        f'{{"word": {_json(word.text)}, "start": {word.start}, "end": {word.end}, '
        f'"score": {score:.5f}, "norm": {norm:.5f}, "selected": {_json(bool(kept))}, '
        f'"xy": [{xy[0]}, {xy[1]}]}}'
    )


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def read_results(path: Path) -> list[dict[str, Any]]:
    """All lines of a result. TTDError: missing, damaged, or not of this form."""
    rows = []
    for number, row in json_rows(path, "make it with produce_tags_from_text.py"):
        words = row.get("words")
        whole = isinstance(row.get("id"), str) and isinstance(row.get("text"), str)
        if not whole or not isinstance(words, list) or not all(map(_is_word, words)):
            raise TTDError(
                f"{path}:{number}: not a line of a tag result; was the run interrupted? The same "
                "command resumes where it stopped"
            )
        rows.append(row)
    return rows


def _is_word(entry: object) -> bool:
    """Whether an entry of a line has a word, its normalized score and whether it was selected."""
    if not isinstance(entry, dict) or not isinstance(entry.get("word"), str):
        return False
    norm = entry.get("norm")
    number = isinstance(norm, float | int) and abs(norm) < 1e300  # False for NaN
    return number and isinstance(entry.get("selected"), bool)


def is_finished(
    paths: ResultPaths,
    identity: Mapping[str, object],
    overwrite: bool = False,
    inputs: Inputs | None = None,
) -> bool:
    """Whether this very result is there and complete.

    Raises TTDError when the files there were made with another identity (arguments, weights) or
    from other `inputs`, naming what differs.
    """
    meta = read_json(paths.meta)
    empty = not paths.lines.exists() or not paths.lines.stat().st_size
    if overwrite or (meta is None and empty):
        return False
    if meta is None:
        raise TTDError(
            f"{paths.lines} is there {without(paths.meta)}: what made it is not known; "
            "move it away, choose another --out or add --overwrite"
        )
    if differing := differences(section(meta, "identity"), identity):
        raise TTDError(
            f"{paths.lines} was made with other settings ({'; '.join(differing)}): "
            "choose another --out or add --overwrite"
        )
    if inputs is not None and not empty:
        check_inputs(paths.inputs, inputs, paths.lines)
    return is_complete(paths, meta)


def is_complete(paths: ResultPaths, meta: Mapping[str, object]) -> bool:
    """Whether the run that `meta` describes finished, and all its lines are still there."""
    try:
        return bool(meta.get("finished")) and paths.lines.stat().st_size == meta.get("bytes")
    except OSError:
        return False
