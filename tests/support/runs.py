"""Short training runs and what they log."""

import json
from contextlib import closing

from core.training.trainer import Trainer


def fit(task, **run):
    """One run of a task, from the start or the last checkpoint."""
    with closing(Trainer(task)) as trainer:
        return trainer.run(**run)


def lines(config):
    """The lines of a run's log as dicts."""
    text = (config.folder / "train_log.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]
