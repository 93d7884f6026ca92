"""The folder of a training run: who writes into it, what was made there, and where a killed run goes on.

OUT/settings.json       every setting, what the data and the base weights are, versions
OUT/checkpoint.pt       adapter, optimizer, EMA, step: replaced whole, never half
OUT/last.safetensors    the adapter of the checkpoint;  OUT/best.safetensors: the best on the
held-out set OUT/NAME.safetensors    the finished adapter, at the end
OUT/train_log.jsonl     a line per logged step;  OUT/skipped.jsonl: pairs that could not be used
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import torch

from ..backbones.weights import read_checkpoint
from ..data.records import Skipped
from ..errors import TTDError
from ..utils.files import atomic, differences, read_json, try_lock, write_json
from ..utils.provenance import now, versions

SETTINGS, CHECKPOINT, LOG, SKIPPED, BOARD = (
    "settings.json",
    "checkpoint.pt",
    "train_log.jsonl",
    "skipped.jsonl",
    "tb",
)
LAST, BEST, PREVIOUS = "last.safetensors", "best.safetensors", "previous.safetensors"


class RunFolder:
    """The folder of one run, locked until `close`."""

    def __init__(
        self,
        path: Path,
        name: str,
        identity: Mapping[str, Any],
        settings: Mapping[str, Any],
        overwrite: bool = False,
    ):
        """Make it or take it over.

        name: the finished adapter's, without its ending. identity: what must be the same for a run
        to go on (settings, data, weights); settings: written beside it.
        TTDError: another process works there; a run of another identity is there (the differences
        are named), unless `overwrite`, which removes it; not writable.
        """
        self.path, self.finished = path, path / f"{name}.safetensors"
        self._lock = _lock(path)
        try:
            stored = read_json(path / SETTINGS)
            if overwrite:
                self._clear(stored or {})
            elif stored is not None and "identity" not in stored:
                raise TTDError(f"{path / SETTINGS} is not of a training run: choose another --out")
            elif stored is not None and (found := differences(stored["identity"], identity)):
                raise TTDError(
                    f"{path} holds a run with other settings ({'; '.join(found)}): choose another --out, or "
                    "add --overwrite to remove it"
                )
            elif stored is None and (path / CHECKPOINT).exists():
                raise TTDError(
                    f"{path} holds a checkpoint without its {SETTINGS}: choose another --out, or add "
                    "--overwrite to remove it"
                )
            if stored is None or overwrite:
                write_json(
                    path / SETTINGS,
                    {
                        "name": name,
                        "identity": identity,
                        "settings": settings,
                        "versions": versions(),
                        "started_at": now(),
                    },
                )
        except BaseException:
            self._lock.close()
            raise

    def checkpoint(self) -> dict[str, Any] | None:
        """What `save` stored last, tensors on the CPU; None for a fresh run. TTDError when it is damaged."""
        path = self.path / CHECKPOINT
        return read_checkpoint(path) if path.exists() else None

    def save(self, state: Mapping[str, Any]) -> None:
        """Replace the checkpoint, whole or not at all. TTDError: disk full."""
        self.replace(CHECKPOINT, lambda part: torch.save(dict(state), part))

    def replace(self, name: str, write: Callable[[Path], None]) -> Path:
        """Write the file `name` through `write(path)`, whole or not at all; its path. TTDError: disk full."""
        path = self.path / name
        try:
            with atomic(path) as part:
                write(part)
        except (
            OSError,
            RuntimeError,
        ) as error:  # torch's writer reports a full disk as a RuntimeError
            reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:120]
            raise TTDError(
                f"{path}: cannot be written ({reason}); make room and run the same command again: it goes "
                "on from the last checkpoint"
            ) from None
        return path

    def skip(self, items: Iterable[Skipped]) -> int:
        """Add pairs to the list of those that could not be used, each once; how many the list holds then."""
        path = self.path / SKIPPED
        lines = set(path.read_text(encoding="utf-8").splitlines()) if path.exists() else set()
        new = {json.dumps(asdict(item)) for item in items} - lines
        if new:
            self.replace(
                SKIPPED,
                lambda part: part.write_text(
                    "".join(f"{line}\n" for line in sorted(lines | new)), encoding="utf-8"
                ),
            )
        return len(lines | new)

    def open_log(self, step: int) -> IO[str]:
        """The log, cut back to what was logged up to `step`, for appending."""
        path = self.path / LOG
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        kept = [line for line in lines if _step_of(line) <= step]
        self.replace(
            LOG,
            lambda part: part.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8"),
        )
        return path.open("a", encoding="utf-8", buffering=1)

    def close(self) -> None:
        """Give up the lock."""
        self._lock.close()

    def _clear(self, stored: Mapping[str, Any]) -> None:
        """Remove what the stored run made, and nothing else that may lie in the folder."""
        names = [CHECKPOINT, SETTINGS, LOG, SKIPPED, LAST, BEST, PREVIOUS]
        names += [f"{stored['name']}.safetensors"] if stored.get("name") else []
        for name in names:
            (self.path / name).unlink(missing_ok=True)
        shutil.rmtree(self.path / BOARD, ignore_errors=True)


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


def _step_of(line: str) -> float:
    """The step a line of the log speaks of; infinite for a line that was cut off."""
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return float("inf")
