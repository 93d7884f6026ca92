"""Result files of tags: their names, their lines, and resuming after an interruption.

A result is `NAME.jsonl` (a line per caption, in input order), `NAME.meta.json` (what made it) and,
where something could not be used, `NAME.skipped.jsonl`. Batches are numbered from the start of the
input and a batch's skipped records are written before its lines, so the files alone say how many
batches are whole.
"""

from __future__ import annotations

import json
import operator
import os
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from ..data.records import Record, Skipped
from ..data.words import Word
from ..errors import TTDError
from ..utils.files import (
    differences,
    read_json,
    safe_name,
    section,
    try_lock,
    write_errors,
    write_json,
)
from ..utils.json_lines import json_rows


@dataclass(frozen=True)
class ResultPaths:
    """The three files of one result."""

    lines: Path
    skipped: Path
    meta: Path

    @classmethod
    def of(cls, folder: Path, name: str) -> ResultPaths:
        """The files of the result `name` in `folder`."""
        endings = ("jsonl", "skipped.jsonl", "meta.json")
        return cls(*(folder / f"{name}.{ending}" for ending in endings))


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
    paths: ResultPaths, identity: Mapping[str, object], overwrite: bool = False
) -> bool:
    """Whether this very result is there and complete.

    Raises TTDError when the files there were made with another identity (arguments, weights),
    naming what differs.
    """
    meta = read_json(paths.meta)
    empty = not paths.lines.exists() or not paths.lines.stat().st_size
    if overwrite or (meta is None and empty):
        return False
    if meta is None:
        raise TTDError(
            f"{paths.lines} is there without its {paths.meta.name}: what made it is not known; "
            "move it away, choose another --out or add --overwrite"
        )
    if differing := differences(section(meta, "identity"), identity):
        raise TTDError(
            f"{paths.lines} was made with other settings ({'; '.join(differing)}): "
            "choose another --out or add --overwrite"
        )
    return is_complete(paths, meta)


def is_complete(paths: ResultPaths, meta: Mapping[str, object]) -> bool:
    """Whether the run that `meta` describes finished, and all its lines are still there."""
    try:
        return bool(meta.get("finished")) and paths.lines.stat().st_size == meta.get("bytes")
    except OSError:
        return False


class TagWriter:
    """Appends whole batches to the results of one run, one result per scorer.

    It begins with the first batch that is missing. `done` is the number of records already there;
    `counts` maps each scorer to its captions, words, selected and skipped.
    """

    def __init__(
        self,
        paths: Mapping[str, ResultPaths],
        meta: Mapping[str, Any],
        batch: int,
        overwrite: bool = False,
    ) -> None:
        """Open the files and cut them back to whole batches.

        They are made where missing, and emptied with `overwrite`.
        meta: written at once, with "finished": False. Raises TTDError when another run is writing
        them.
        """
        self.paths, self.meta, self.batch = dict(paths), meta, batch
        self._files = {name: _open_locked(path.lines) for name, path in paths.items()}
        # Before anything is cut: a run that dies here must not look finished.
        for name, path in paths.items():
            write_json(path.meta, {"scorer": name, **meta, "finished": False})
        if overwrite:
            for name, path in paths.items():
                self._files[name].truncate(0)
                path.skipped.unlink(missing_ok=True)
        whole = min(_whole_batches(path, batch) for path in paths.values())
        self.done = whole * batch
        self.counts = {
            name: _cut(path, self._files[name], self.done) for name, path in paths.items()
        }

    def write(self, lines: Mapping[str, Sequence[str]], skipped: Sequence[Skipped]) -> None:
        """Append one batch: what was skipped first, then the lines of each scorer.

        Raises TTDError: disk full.
        """
        folder = next(iter(self.paths.values())).lines.parent
        advice = "make room and run the same command again: it resumes where it stopped"
        with write_errors(folder, advice):
            self._append(lines, skipped)
        for name, counts in self.counts.items():
            counts["skipped"] += len(skipped)
            counts.update(_count(lines[name]))

    def _append(self, lines: Mapping[str, Sequence[str]], skipped: Sequence[Skipped]) -> None:
        """Write one batch to all files."""
        text = "".join(_json(asdict(item)) + "\n" for item in skipped)
        for path in self.paths.values() if skipped else ():
            with path.skipped.open("a", encoding="utf-8", errors="backslashreplace") as listed:
                listed.write(text)
        for name, file in self._files.items():
            # Names that are no UTF-8 are written as JSON's escapes.
            file.write("".join(lines[name]).encode("utf-8", "backslashreplace"))
            file.flush()

    def finish(self, **more: object) -> None:
        """Mark the results complete; `more` goes into their meta files."""
        for name, path in self.paths.items():
            more |= {"counts": dict(self.counts[name]), "bytes": path.lines.stat().st_size}
            write_json(path.meta, {"scorer": name, **self.meta, **more, "finished": True})

    def close(self) -> None:
        """Close the files and give up the lock."""
        for file in self._files.values():
            # What `write` could not store, and has said so, is tried once more here.
            with suppress(OSError):
                file.close()


def _open_locked(path: Path) -> IO[bytes]:
    """Open for appending, alone: a second run on the same files is refused.

    The lock dies with the process.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab")
    except OSError as error:
        raise TTDError(
            f"{path}: cannot be written ({error.strerror}); choose another --out"
        ) from None
    if not try_lock(file):
        file.close()
        raise TTDError(
            f"{path}: another run is writing this result; wait for it, or choose another --out"
        )
    return file


def _line_ends(path: Path) -> array[int]:
    """Byte offset of the end of every complete line."""
    ends: array[int] = array("Q")
    position = 0
    if path.exists():
        with path.open("rb") as file:
            for line in file:
                position += len(line)
                if line.endswith(b"\n"):
                    ends.append(position)
    return ends


def _skipped_indices(path: Path) -> list[int]:
    """Record numbers in a list of skipped records, up to its last complete line."""
    ends = _line_ends(path)
    if not ends:
        return []
    with path.open("rb") as file:
        lines = file.read(ends[-1]).split(b"\n")[:-1]
    try:
        return [operator.index(json.loads(line)["index"]) for line in lines]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise TTDError(
            f"{path}: damaged, so what has been done is not known; --overwrite makes it again"
        ) from None


def _whole_batches(paths: ResultPaths, batch: int) -> int:
    """The largest k such that the files hold everything of the first k batches."""
    lines = len(_line_ends(paths.lines))
    skipped = Counter(index // batch for index in _skipped_indices(paths.skipped))
    whole, needed = 0, batch - skipped[0]
    while needed <= lines:
        whole += 1
        needed += batch - skipped[whole]
    return whole


def _cut(paths: ResultPaths, file: IO[bytes], done: int) -> Counter[str]:
    """Cut both files back to the first `done` records and count what stays."""
    skipped = [index for index in _skipped_indices(paths.skipped) if index < done]
    if paths.skipped.exists():
        os.truncate(paths.skipped, _line_ends(paths.skipped)[len(skipped) - 1] if skipped else 0)
    kept = done - len(skipped)
    ends = _line_ends(paths.lines)
    file.truncate(ends[kept - 1] if kept else 0)
    with paths.lines.open(encoding="utf-8", errors="replace", newline="\n") as lines:
        counts = Counter(captions=0, words=0, selected=0, skipped=len(skipped))
        for line in lines:
            counts.update(_count([line]))
    return counts


def _count(lines: Iterable[str]) -> Counter[str]:
    """Captions, words and selected words of result lines."""
    counts: Counter[str] = Counter()
    for line in lines:
        # Quotes inside captions are escaped, so these can only be the keys themselves.
        counts.update(
            captions=1, words=line.count('"selected": '), selected=line.count('"selected": true')
        )
    return counts
