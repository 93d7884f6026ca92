"""The smallest training systems: a line through points, by closed-form gradients."""

import json
from contextlib import closing

import numpy as np
import torch
from torch import nn

from core.data.records import Skipped
from core.errors import TTDError
from core.training.config import RunConfig
from core.training.task import Group, Task
from core.training.trainer import Trainer


class Points:
    """`Source` of points (x, y); those in `broken` cannot be read."""

    def __init__(self, points, broken=()):
        self.points, self.broken = [tuple(map(float, point)) for point in points], set(broken)
        self.descriptions = [f"{len(self.points)} points"]
        self.skipped = [Skipped(99, "p99", "not a point, but a line")]
        self.digest = repr(self.points)

    def __len__(self):
        return len(self.points)

    def read(self, number):
        if number in self.broken:
            raise TTDError(f"point {number} is\nbroken")
        return (number, *self.points[number])

    def where(self, number):
        return number, f"p{number}"


class LineTask(Task):
    """Least squares: mean (slope x + offset - y)^2, by plain gradient descent.

    ema: of the slope, with decay 0.9. seen: the numbers of the samples of every micro-batch.
    """

    unit = "points"
    product = "line"
    ema = 0.0

    def __init__(self, config: RunConfig, points, device="cpu"):
        super().__init__(config, torch.device(device))
        self.points = points
        self.slope = nn.Parameter(torch.zeros(()))
        self.offset = nn.Parameter(torch.zeros(()))
        self.seen, self.draws = [], []

    @property
    def source(self):
        return self.points

    def parameters(self):
        return {"slope": self.slope, "offset": self.offset}

    def optimizers(self, groups):
        return [torch.optim.SGD(groups)]

    def transform(self, raw, step, rng):
        return (*raw, rng.random())

    def collate(self, samples, step):
        self.seen.append([number for number, *_ in samples])
        self.draws.append([draw for *_, draw in samples])
        return torch.tensor([[x, y] for _, x, y, _ in samples])  # [B, 2]

    def loss(self, batch, step):
        x, y = batch.unbind(1)
        return (self.slope * x + self.offset - y).square().mean(), {"mean_x": x.mean()}

    def after_step(self, step):
        self.ema = 0.9 * self.ema + 0.1 * float(self.slope.detach())

    def state(self):
        return {**super().state(), "ema": self.ema}

    def load(self, state):
        super().load(state)
        self.ema = state["ema"]


class PhasedTask(LineTask):
    """The offset is frozen before step 3, and never decayed."""

    def groups(self, step):
        slope, offset = super().groups(step)[0], None
        offset = Group("offset", ("offset",), slope.lr / 2, frozen=step < 3)
        return [Group("slope", ("slope",), slope.lr, slope.weight_decay), offset]


class ContrastTask(LineTask):
    """InfoNCE between slope * x and y of the whole batch, over all processes."""

    exact_micro_batches = False
    why_inexact = "it compares all points"

    def loss(self, batch, step):
        x, y = step.ranks.all_gather(self.slope * batch[:, 0] + self.offset), batch[:, 1]
        logits = -(x[:, None] - step.ranks.all_gather(y)[None]).square()
        target = torch.arange(len(logits))
        return nn.functional.cross_entropy(logits, target), {}


def on_a_line(count):
    """Points of y = 2 x + 1 with x in [-1, 1]."""
    return Points([(x, 2 * x + 1) for x in np.linspace(-1, 1, count)])


def fit(task, **run):
    """Train a task from the start or its last checkpoint."""
    with closing(Trainer(task)) as trainer:
        return trainer.run(**run)


def lines(config):
    """The log of a run."""
    text = (config.folder / "train_log.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]
