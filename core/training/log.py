"""The log of a training run: a JSON line per record, and TensorBoard's file where that package is installed."""

from __future__ import annotations

import json
from typing import Any

from ..errors import TTDError
from .run_dir import BOARD, RunFolder


class TrainLog:
    """Appends to OUT/train_log.jsonl and OUT/tb. `board` says whether TensorBoard is there."""

    def __init__(self, folder: RunFolder, step: int):
        """Open both, without what an interrupted run logged after `step`."""
        self._file = folder.open_log(step)
        try:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(folder.path / BOARD), purge_step=step + 1)
        except ImportError:
            self._writer = None
        self.board = self._writer is not None

    def write(self, step: int, values: dict[str, Any], group: str = "train") -> None:
        """One record: {"step": step, **values}; under `group` where that is not "train". TTDError: disk full."""
        record = values if group == "train" else {group: values}
        try:
            self._file.write(json.dumps({"step": step, **record}) + "\n")
        except OSError as error:
            raise TTDError(
                f"{self._file.name}: cannot be written ({error.strerror}); make room and run the same "
                "command again: it goes on from the last checkpoint"
            ) from None
        for name, value in values.items() if self._writer is not None else ():
            if isinstance(value, (int, float)):  # not the reason why a run was stopped
                self._writer.add_scalar(f"{group}/{name}", value, step)

    def close(self) -> None:
        """Close both files."""
        self._file.close()
        if self._writer is not None:
            self._writer.close()
