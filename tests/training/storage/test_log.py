"""The log of a run: what TensorBoard is given, and a full disk."""

import pytest

from core.errors import TTDError
from core.training.storage.log import TrainLog


def test_tensorboard_is_given_numbers_alone_and_a_full_disk_is_one_line(tmp_path):
    given = []

    class Writer:
        def add_scalar(self, name, value, step):
            given.append((name, float(value), step))

    class Full:
        name = "train_log.jsonl"

        def write(self, text):
            raise OSError(28, "No space left on device")

    log = TrainLog.__new__(TrainLog)
    log._folder, log._writer = tmp_path, Writer()
    log._file = (tmp_path / "log").open("w")
    log.write(3, {"loss": 0.5, "stopped": "the maps have grown alike"})
    assert given == [("train/loss", 0.5, 3)]
    log._file = Full()
    with pytest.raises(TTDError, match="train_log.jsonl: cannot be written .No space left"):
        log.write(4, {"loss": 0.5})
