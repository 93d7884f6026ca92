"""A log of finished items that a killed run resumes from: what is done is not done again.

with ResumedLines(Path("masks.jsonl.part"), {"model": checksum}) as log:
    for item in items:
        row = log.done.get(item.key) or log.add(item.key, work(item))
    log.finish()                                        # the log is removed
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from ..errors import TTDError
from .files import differences, regular_bytes, try_lock, write_errors

ADVICE = "make room and run the same command again: it resumes where it stopped"


class ResumedLines:
    """JSON lines: first what decides the items, then [key, row] of each one that is done.

    done: rows by key. A line that a kill cut off is cut away.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any], overwrite: bool = False) -> None:
        """Open the log, made where missing. TTDError: made with other settings, or in use."""
        self.path, self.done = path, dict[str, Any]()
        with write_errors(path, "choose another --save"):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: IO[bytes] = path.open("ab")
        try:
            self._begin(identity, overwrite)
        except BaseException:
            self._file.close()
            raise

    def _begin(self, identity: Mapping[str, Any], overwrite: bool) -> None:
        if not try_lock(self._file):
            raise TTDError(f"{self.path}: another run is writing it; wait, or name another --save")
        rows, size = ([], 0) if overwrite else _whole_lines(regular_bytes(self.path))
        wanted = json.loads(json.dumps(identity))
        if rows and rows[0] != wanted:
            stored = rows[0] if isinstance(rows[0], dict) else {}
            what = "; ".join(differences(stored, wanted))[:300]
            raise TTDError(
                f"{self.path}: begun with other settings ({what}); add --overwrite to begin again"
            )
        self._file.truncate(size)
        if not rows:
            self._write(wanted)
        self.done = dict(row for row in rows[1:])

    def add(self, key: str, row: Any) -> Any:
        """Note an item that is done; `row` as it was given. TTDError: the disk is full."""
        self._write([key, row])
        self.done[key] = row
        return row

    def _write(self, value: Any) -> None:
        with write_errors(self.path, ADVICE):
            self._file.write(json.dumps(value).encode() + b"\n")
            self._file.flush()

    def finish(self) -> None:
        """Everything is written elsewhere: the log goes."""
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> ResumedLines:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()


def _whole_lines(data: bytes) -> tuple[list[Any], int]:
    """The lines up to the first that is cut off or damaged, and the bytes that they take."""
    rows: list[Any] = []
    size = 0
    for line in data.splitlines(keepends=True):
        try:
            row = json.loads(line) if line.endswith(b"\n") else None
        except (ValueError, RecursionError):
            break
        sound = isinstance(row, list) and len(row) == 2 and isinstance(row[0], str)
        if not (isinstance(row, dict) if not rows else sound):
            break
        rows.append(row)
        size += len(line)
    return rows, size
