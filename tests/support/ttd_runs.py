"""Runs of TTD in the tests' small settings."""

from contextlib import closing

from core.backbones import load_backbone
from core.data.pairs import open_pairs
from core.training.trainer import Trainer
from core.ttd.task import TTDTask


def fit(config, evaluate=None, overwrite=False, **run):
    """One run from the start or the last checkpoint: (outcome, task)."""
    task = task_of(config, evaluate)
    with closing(Trainer(task, overwrite=overwrite)) as trainer:
        return trainer.run(**run), task


def task_of(config, evaluate=None):
    pairs = open_pairs(config.data, config.root, config.pruned, config.limit)
    backbone = load_backbone(config.arch, head=config.head, device="cpu")
    return TTDTask(config, backbone, pairs, evaluate)
