"""Writing the results of tags: whole batches, resumed after an interruption.

Batches are numbered from the start of the input and a batch's skipped records are written before
its lines, so the files alone say how many batches are whole. Records that could not be read (a disk
was away) stand in the list of skipped ones with "retry": the result is then not finished, and the
next run makes their batches again.
"""

from __future__ import annotations

import json
import os
import shutil
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import IO, Any, TypeAlias

from ..data.inputs.table import Inputs
from ..data.records import Item, Skipped
from ..errors import TTDError
from ..utils.files import read_json, sync_file, try_lock, write_errors, write_json, write_text
from .results import ResultPaths

ADVICE = "make room and run the same command again: it resumes where it stopped"
AT_ONCE = 256  # batches that are replaced together: their lines are in memory
MENDING = "mending"  # in a meta file: batches from this one on are being replaced

Lines: TypeAlias = Mapping[str, Sequence[str]]  # of a batch by scorer
Remade: TypeAlias = tuple[int, Callable[[], Lines], Sequence[Skipped]]  # see `TagWriter.mend`


class TagWriter:
    """Appends whole batches to the results of one run, one result per scorer.

    It begins with the first batch that is missing. `done` is the number of records already there;
    `counts` maps each scorer to its captions, words, selected and skipped; `unreadable` holds the
    skipped records that are to be tried again.
    """

    def __init__(
        self,
        paths: Mapping[str, ResultPaths],
        meta: Mapping[str, Any],
        batch: int,
        overwrite: bool = False,
        inputs: Inputs | None = None,
    ) -> None:
        """Open the files and cut them back to whole batches.

        They are made where missing, and emptied with `overwrite`. meta: written at once, with
        "finished": False. inputs: what the results are made from, to be found changed later.
        TTDError: another run is writing them.
        """
        self.paths, self.meta, self.batch = dict(paths), meta, batch
        self._files: dict[str, IO[bytes]] = {}
        try:
            with write_errors(next(iter(paths.values())).lines.parent, "choose another --out"):
                self._begin(overwrite, inputs)
        except BaseException:
            self.close()
            raise

    def _begin(self, overwrite: bool, inputs: Inputs | None) -> None:
        """Open the files, and cut them back to whole batches or, with `overwrite`, to nothing."""
        paths, batch = self.paths, self.batch
        for name, path in paths.items():
            self._files[name] = _open_locked(path.lines)
        begun = [(read_json(path.meta) or {}).get(MENDING) for path in paths.values()]
        first = min((number for number in begun if isinstance(number, int)), default=None)
        if overwrite:  # lines of other settings must not look like ours to a run after a kill
            first = 0
        # Before anything is cut: a run that dies here must not look finished.
        self._write_meta(first)
        if overwrite:
            for name, path in paths.items():
                self._files[name].truncate(0)
                path.skipped.unlink(missing_ok=True)
        whole = min(_whole_batches(path, batch) for path in paths.values())
        self.done = (whole if first is None else min(whole, first)) * batch
        self._cut()
        if inputs is not None:
            for path in paths.values():
                inputs.save(path.inputs)
        if first is not None:
            self._write_meta(None)

    def _write_meta(self, first: int | None) -> None:
        """Say that the results are not finished, and from which batch on they are replaced."""
        mending = {} if first is None else {MENDING: first}
        for name, path in self.paths.items():
            write_json(path.meta, {"scorer": name, **self.meta, **mending, "finished": False})

    def _cut(self) -> None:
        """Cut the files back to the first `done` records; count what stays."""
        self.counts = {
            name: _cut(path, self._files[name], self.done) for name, path in self.paths.items()
        }
        self.unreadable: dict[int, Skipped] = {}
        for path in self.paths.values():
            listed = [item for item in _skipped(path.skipped) if item.retry]
            self.unreadable |= {item.index: item for item in listed}

    @property
    def to_mend(self) -> list[int]:
        """Numbers of the batches with records that could not be read, ascending."""
        return sorted({index // self.batch for index in self.unreadable})

    def mend(self, batches: Iterable[Remade]) -> None:
        """Replace the batches `to_mend` of which more can be read now. TTDError: disk full.

        batches: number, a call that makes the lines by scorer, and what was skipped this time.
        """
        new: dict[int, tuple[Lines, Sequence[Skipped]]] = {}
        for number, make, skipped in batches:
            lost = {item.index for item in skipped if item.retry}
            if lost != {at for at in self.unreadable if at // self.batch == number}:
                new[number] = (make(), skipped)
            if len(new) == AT_ONCE:
                self.replace(new)
                new = {}
        self.replace(new)

    def replace(self, batches: Mapping[int, tuple[Lines, Sequence[Skipped]]]) -> None:
        """Replace whole batches, by number: their lines by scorer, and what was skipped.

        A run that dies meanwhile begins again at the first of them. TTDError: disk full.
        """
        if not batches:
            return
        self._write_meta(min(batches))
        with write_errors(next(iter(self.paths.values())).lines.parent, ADVICE):
            for name, path in self.paths.items():
                lines = {number: value[0][name] for number, value in batches.items()}
                _splice(path, self._files[name], lines, self.batch)
                _replace_skipped(path.skipped, batches, self.batch)
        self._write_meta(None)
        self._cut()

    def write(self, lines: Mapping[str, Sequence[str]], skipped: Sequence[Skipped]) -> None:
        """Append one batch: what was skipped first, then the lines of each scorer.

        Raises TTDError: disk full.
        """
        with write_errors(next(iter(self.paths.values())).lines.parent, ADVICE):
            self._append(lines, skipped)
        self.unreadable |= {item.index: item for item in skipped if item.retry}
        for name, counts in self.counts.items():
            counts["skipped"] += len(skipped)
            counts.update(_count(lines[name]))

    def _append(self, lines: Mapping[str, Sequence[str]], skipped: Sequence[Skipped]) -> None:
        """Write one batch to all files."""
        text = "".join(item.line() for item in skipped)
        for path in self.paths.values() if skipped else ():
            with path.skipped.open("a", encoding="utf-8", errors="backslashreplace") as listed:
                listed.write(text)
        for name, file in self._files.items():
            file.write("".join(lines[name]).encode("utf-8", "backslashreplace"))
            file.flush()

    def finish(self, **more: object) -> None:
        """Mark the results complete, once they are on the disk; `more` goes into their meta files.

        With records that could not be read, or nothing at all, they are not: the next run tries
        again. TTDError: disk full, or the folder is gone.
        """
        for name, path in self.paths.items():
            with write_errors(path.lines, "run the same command again"):
                sync_file(path.lines)
                if path.skipped.exists():
                    sync_file(path.skipped)
                size = path.lines.stat().st_size
            more |= {"counts": dict(self.counts[name]), "bytes": size}
            if self.unreadable:
                more["unreadable"] = len(self.unreadable)
            finished = bool(self.counts[name]["captions"]) and not self.unreadable
            write_json(path.meta, {"scorer": name, **self.meta, **more, "finished": finished})

    def close(self) -> None:
        """Close the files and give up the lock."""
        for file in self._files.values():
            # What `write` could not store, and has said so, is tried once more here.
            with suppress(OSError):
                file.close()


def of_batches(items: Iterable[Item], numbers: Sequence[int], batch: int) -> Iterator[Item]:
    """The items of some batches of `batch` items; their numbers ascend."""
    wanted = set(numbers)
    last = max(numbers, default=-1)
    for at, item in enumerate(items):
        if at // batch > last:
            return
        if at // batch in wanted:
            yield item


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


def _skipped(path: Path) -> list[Skipped]:
    """A list of skipped records, up to its last complete line."""
    ends = _line_ends(path)
    if not ends:
        return []
    with path.open("rb") as file:
        lines = file.read(ends[-1]).split(b"\n")[:-1]
    try:
        items = [Skipped(**json.loads(line)) for line in lines]
    except (ValueError, TypeError, RecursionError):
        items = []
    if len(items) < len(lines) or not all(type(item.index) is int for item in items):
        raise TTDError(
            f"{path}: damaged, so what has been done is not known; --overwrite makes it again"
        )
    return items


def _skipped_per_batch(path: Path, batch: int) -> Counter[int]:
    """How many records of each batch are skipped."""
    return Counter(item.index // batch for item in _skipped(path))


def _splice(
    paths: ResultPaths, file: IO[bytes], lines: Mapping[int, Sequence[str]], batch: int
) -> None:
    """Put other lines in the place of some batches of a result. file: it, open for appending."""
    first, skipped = min(lines), _skipped_per_batch(paths.skipped, batch)
    ends = _line_ends(paths.lines)
    before = first * batch - sum(skipped[number] for number in range(first))
    part = paths.lines.with_name(f".{paths.lines.name}.part")
    try:
        with paths.lines.open("rb") as old, part.open("wb") as new:
            old.seek(ends[before - 1] if before else 0)
            left, number = len(ends) - before, first
            while left or number <= max(lines):
                kept = list(islice(old, batch - skipped[number]))
                left -= len(kept)
                own = [line.encode("utf-8", "backslashreplace") for line in lines.get(number, ())]
                new.writelines(own if number in lines else kept)
                number += 1
        # In place, because the lock is on this file.
        file.truncate(ends[before - 1] if before else 0)
        with part.open("rb") as new:
            shutil.copyfileobj(new, file)
        file.flush()
    finally:
        part.unlink(missing_ok=True)


def _replace_skipped(
    path: Path, batches: Mapping[int, tuple[object, Sequence[Skipped]]], batch: int
) -> None:
    """The list of skipped records with those of some batches replaced."""
    items = [item for item in _skipped(path) if item.index // batch not in batches]
    for _, skipped in batches.values():
        items += skipped
    # Sorted by batch alone: within one, they are in the order in which they were written.
    items.sort(key=lambda item: item.index // batch)
    if items:
        write_text(path, "".join(item.line() for item in items))
    else:
        path.unlink(missing_ok=True)


def _whole_batches(paths: ResultPaths, batch: int) -> int:
    """The largest k such that the files hold everything of the first k batches."""
    lines = len(_line_ends(paths.lines))
    skipped = _skipped_per_batch(paths.skipped, batch)
    whole, needed = 0, batch - skipped[0]
    while needed <= lines:
        whole += 1
        needed += batch - skipped[whole]
    return whole


def _cut(paths: ResultPaths, file: IO[bytes], done: int) -> Counter[str]:
    """Cut both files back to the first `done` records and count what stays."""
    skipped = [item for item in _skipped(paths.skipped) if item.index < done]
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
