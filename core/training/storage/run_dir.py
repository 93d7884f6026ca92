"""The folder of a training run: who writes into it, what was made there, where it is resumed.

OUT/inputs.npz          whether images or captions have changed since
OUT/settings.json       every setting, what the data and the base weights are, versions
OUT/checkpoint.pt       parameters, optimizer, EMA, step: replaced whole, never half
OUT/last.SUFFIX         the export of the checkpoint; OUT/previous.SUFFIX: of the one before
OUT/best.SUFFIX         the best on the held-out set
OUT/NAME.SUFFIX         the finished file, at the end
OUT/train_log.jsonl     a line per logged step; OUT/skipped.jsonl: samples that could not be used
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from ...backbones.weights import read_checkpoint
from ...data.inputs.table import SUFFIX, Inputs
from ...data.records import Skipped
from ...errors import TTDError
from ...utils.files import (
    atomic,
    differences,
    flatten,
    read_json,
    safe_name,
    section,
    try_lock,
    write_errors,
    write_json,
)
from ...utils.provenance import now, versions
from ...utils.tensors.tensor_files import save_torch

SETTINGS = "settings.json"
CHECKPOINT = "checkpoint.pt"
LOG = "train_log.jsonl"
SKIPPED = "skipped.jsonl"
INPUTS = SUFFIX.removeprefix(".")
BOARD = "tb"
LAST, BEST, PREVIOUS = "last", "best", "previous"  # names of exports, without their ending
ROOM = "make room and run the same command again: it resumes from the last checkpoint"


@dataclass(frozen=True)
class RunIdentity:
    """What a run is. name: of the finished file, without its suffix.

    fixed: what must be the same for the run to be resumed (settings, data, weights); settings:
    written beside it for people; inputs: the files it is made from, by their contents. later:
    settings, dotted, that a run begun before they were there does not have, and what it did.
    """

    name: str
    suffix: str
    fixed: Mapping[str, Any]
    settings: Mapping[str, Any]
    inputs: Inputs | None = None
    later: Mapping[str, Any] = field(default_factory=dict)

    def unlike(self, stored: Mapping[str, Any]) -> list[str]:
        """How the `fixed` of a run that is there differs, each setting with both its values."""
        whole = [{**self.later, **flatten(one)} for one in (stored, self.fixed)]
        return differences(*whole)


class RunFolder:
    """The folder of one run, locked until `close`."""

    def __init__(self, path: Path, run: RunIdentity, overwrite: bool = False):
        """Make it or take it over.

        A finished run is extended by more steps: `start` is the step at which its last schedule
        begins, 0 where it never was. TTDError: another process works there; a run of another
        identity is there (the differences are named), unless `overwrite`, which removes it; not
        writable.
        """
        self.path, self.suffix = path, run.suffix
        self.finished = path / f"{run.name}{run.suffix}"
        self._lock = _lock(path)
        try:
            stored = read_json(path / SETTINGS)
            extended = None
            if overwrite:
                self._clear(stored or {})
            else:
                extended = check_folder(path, run)
            if run.inputs is not None:
                run.inputs.save(path / INPUTS)
            begun = (stored or {}).get("schedule_start", 0)
            if not isinstance(begun, int) or begun < 0:
                raise TTDError(f"{path / SETTINGS}: damaged: schedule_start {begun!r:.40}")
            self.start = 0 if overwrite else extended or begun
            if extended:
                write_json(path / SETTINGS, {**_content(run), "schedule_start": extended})
            elif stored is None or overwrite:
                write_json(path / SETTINGS, _content(run))
        except BaseException:
            self._lock.close()
            raise

    def export(self, name: str) -> Path:
        """The file of an export: `LAST`, `BEST` or `PREVIOUS`."""
        return self.path / f"{name}{self.suffix}"

    def checkpoint(self) -> dict[str, Any] | None:
        """What `save` stored last, tensors on the CPU; None for a fresh run. TTDError: damaged."""
        path = self.path / CHECKPOINT
        if not path.exists():
            return None
        try:
            return dict(read_checkpoint(path))
        except TTDError as error:
            raise self.damaged(str(error)) from None

    def damaged(self, reason: str) -> TTDError:
        """The error of a checkpoint from which a run cannot be resumed."""
        kept = [self.export(name) for name in (LAST, BEST) if self.export(name).is_file()]
        use = f" ({kept[-1]} is still there to use)" if kept else ""
        return TTDError(
            f"{self.path / CHECKPOINT}: damaged, so the run cannot be resumed{use}; --overwrite "
            f"begins it again, or choose another --out: {reason}"
        )

    def save(self, state: Mapping[str, Any]) -> None:
        """Replace the checkpoint, whole or not at all. TTDError: disk full."""
        self.replace(self.path / CHECKPOINT, lambda part: save_torch(dict(state), part))

    def replace(self, path: Path, write: Callable[[Path], object]) -> None:
        """Write a file through `write(path)`, whole or not at all. TTDError as `writing`."""
        with self.writing(path) as part:
            write(part)

    def copy(self, source: Path, path: Path) -> None:
        """Make `path` a copy of `source`, whole or not at all. TTDError as `writing`."""
        self.replace(path, lambda part: shutil.copyfile(source, part))

    @contextmanager
    def writing(self, path: Path) -> Iterator[Path]:
        """Yield a path to write to; it becomes `path`, to stay, when the block ends well.

        TTDError saying why it could not be written: the disk is full, the folder is gone.
        """
        with write_errors(path, ROOM), atomic(path, durable=True) as part:
            try:
                yield part
            except TTDError as error:  # of a writer that knows only where it was to write
                raise TTDError(str(error).replace(str(part), str(path))) from None

    def skip(self, items: Iterable[Skipped]) -> int:
        """Add to the list of samples that could not be used, each once; its length then."""
        path = self.path / SKIPPED
        lines = set(_lines_of(path))
        new = {json.dumps(item.row()) for item in items} - lines
        if new:
            self._write_lines(path, sorted(lines | new))
        return len(lines | new)

    def open_log(self, step: int) -> IO[str]:
        """The log, cut back to what was logged up to `step`, for appending."""
        path = self.path / LOG
        lines = _lines_of(path)
        self._write_lines(path, [line for line in lines if _step_of(line) <= step])
        return path.open("a", encoding="utf-8", buffering=1)

    def close(self) -> None:
        """Give up the lock."""
        self._lock.close()

    def _write_lines(self, path: Path, lines: list[str]) -> None:
        text = "".join(f"{line}\n" for line in lines)
        self.replace(path, lambda part: part.write_text(text, encoding="utf-8"))

    def _clear(self, stored: Mapping[str, Any]) -> None:
        """Remove what the stored run made, and nothing else that may lie in the folder."""
        exports = [LAST, BEST, PREVIOUS]
        if isinstance(stored.get("name"), str):
            exports.append(safe_name(stored["name"]))
        names = [
            CHECKPOINT,
            SETTINGS,
            LOG,
            SKIPPED,
            INPUTS,
            *(f"{name}{self.suffix}" for name in exports),
        ]
        for name in names:
            (self.path / name).unlink(missing_ok=True)
        shutil.rmtree(self.path / BOARD, ignore_errors=True)


def unreadable(folder: Path) -> list[str]:
    """Ids of the samples that a run could not read, as its list has them; [] without a list."""
    path = folder / SKIPPED
    if not path.exists():
        return []
    rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return [row["id"] for row in rows if row.get("retry")]


def digest(path: Path) -> str:
    """SHA-256 of a file in hexadecimal; "" where there is none."""
    try:
        with path.open("rb") as file:
            found = hashlib.sha256()
            while block := file.read(1 << 20):
                found.update(block)
            return found.hexdigest()
    except OSError:
        return ""


def check_folder(path: Path, run: RunIdentity) -> int | None:
    """The steps of the finished run there that this one extends, None where it does not.

    TTDError when the folder holds something else than this run, or a part of one.
    """
    stored = read_json(path / SETTINGS)
    way_out = "choose another --out, or add --overwrite to remove it"
    if stored is None and (path / SETTINGS).exists():
        raise TTDError(f"{path / SETTINGS}: damaged, so what runs there is not known; {way_out}")
    if stored is None:
        if (path / CHECKPOINT).exists():
            raise TTDError(f"{path} holds a checkpoint without its {SETTINGS}: {way_out}")
        return None
    if "identity" not in stored:
        raise TTDError(f"{path / SETTINGS} is not of a training run: choose another --out")
    found = run.unlike(section(stored, "identity"))
    if run.inputs is not None:
        found += run.inputs.differences(path / INPUTS)
    if len(found) == 1 and (steps := _extended(path, stored, run)):
        return steps
    if found:
        raise TTDError(f"{path} holds a run with other settings ({'; '.join(found)}): {way_out}")
    return None


def _extended(path: Path, stored: Mapping[str, Any], run: RunIdentity) -> int | None:
    """The steps of the stored run where it is finished and this one only has more; else None."""
    identity = section(stored, "identity")
    before, now_wanted = identity.get("steps"), run.fixed.get("steps")
    same = not replace(run, fixed={**run.fixed, "steps": before}).unlike(identity)
    name = stored.get("name")
    finished = isinstance(name, str) and (path / f"{safe_name(name)}{run.suffix}").exists()
    if not (same and finished and isinstance(before, int) and isinstance(now_wanted, int)):
        return None
    return before if before < now_wanted else None


def _content(run: RunIdentity) -> dict[str, Any]:
    return {
        "name": run.name,
        "identity": run.fixed,
        "settings": run.settings,
        "versions": versions(),
        "started_at": now(),
    }


def _lock(folder: Path) -> IO[str]:
    """Lock the folder for this process; the lock dies with it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("a")
    except OSError as error:
        raise TTDError(
            f"{folder}: cannot be written ({error.strerror}); choose another --out"
        ) from None
    if not try_lock(file):
        file.close()
        raise TTDError(
            f"{folder}: another run is training there; wait for it, or choose another --out"
        )
    return file


def _lines_of(path: Path) -> list[str]:
    """The lines of one of our files, [] where there is none; what is no UTF-8 is marked."""
    text = path.read_bytes().decode("utf-8", "replace") if path.exists() else ""
    return [line for line in text.split("\n") if line]


def _step_of(line: str) -> float:
    """The step a line of the log is about; infinite for a line that was cut off."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return float("inf")
