"""The log of a training run: a JSON line per record, and TensorBoard's where it is installed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ...errors import TTDError
from .run_dir import BOARD, ROOM, RunFolder


class TrainLog:
    """Appends to OUT/train_log.jsonl and OUT/tb. `board`: whether TensorBoard is installed."""

    def __init__(self, folder: RunFolder, step: int):
        """Open both, without what an interrupted run logged after `step`."""
        self._file = folder.open_log(step)
        self._writer: Any = None
        try:
            from torch.utils.tensorboard import SummaryWriter

            make: Any = SummaryWriter
            self._writer = make(str(folder.path / BOARD), purge_step=step + 1)
        except ImportError:
            pass
        self.board = self._writer is not None

    def write(self, step: int, values: Mapping[str, Any], group: str = "train") -> None:
        """One record: {"step": step, **values}; under the key `group` where that is not "train".

        TTDError: disk full.
        """
        record = dict(values) if group == "train" else {group: dict(values)}
        try:
            self._file.write(json.dumps({"step": step, **record}) + "\n")
        except OSError as error:
            raise TTDError(
                f"{self._file.name}: cannot be written ({error.strerror}); {ROOM}"
            ) from None
        if self._writer is None:
            return
        for name, value in values.items():
            if isinstance(value, (int, float)):  # not the reason why a run was stopped
                self._writer.add_scalar(f"{group}/{name}", value, step)

    def close(self) -> None:
        """Close both files."""
        self._file.close()
        if self._writer is not None:
            self._writer.close()
