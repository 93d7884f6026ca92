"""The log of a training run: a JSON line per record, and TensorBoard's where it is installed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ...utils.files import write_errors
from .run_dir import BOARD, ROOM, RunFolder


class TrainLog:
    """Appends to OUT/train_log.jsonl and OUT/tb. `board`: whether TensorBoard is installed."""

    def __init__(self, folder: RunFolder, step: int):
        """Open both, without what an interrupted run logged after `step`."""
        self._folder = folder.path
        self._file = folder.open_log(step)
        self._writer: Any = None
        try:
            from torch.utils.tensorboard import SummaryWriter

            make: Any = SummaryWriter
            with write_errors(folder.path / BOARD, ROOM):
                self._writer = make(str(folder.path / BOARD), purge_step=step + 1)
        except ImportError:
            pass
        self.board = self._writer is not None

    def write(self, step: int, values: Mapping[str, Any], group: str = "train") -> None:
        """One record: {"step": step, **values}; under the key `group` where that is not "train".

        TTDError: disk full.
        """
        record = dict(values) if group == "train" else {group: dict(values)}
        with write_errors(Path(self._file.name), ROOM):
            self._file.write(json.dumps({"step": step, **record}) + "\n")
        if self._writer is None:
            return
        with write_errors(self._folder / BOARD, ROOM):
            for name, value in values.items():
                if isinstance(value, (int, float)):  # not the reason why a run was stopped
                    self._writer.add_scalar(f"{group}/{name}", value, step)

    def close(self) -> None:
        """Close both files."""
        for file in (self._file, self._writer):
            # What `write` could not store, and has said so, is tried once more here.
            with suppress(OSError):
                if file is not None:
                    file.close()
