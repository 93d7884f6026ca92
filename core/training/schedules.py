"""Learning rates by step: pure functions, the peak times a share in [0, 1].

Steps count from 0; the rate of step t is the one used for the update t -> t + 1.
"""

from __future__ import annotations

import math

from .config import RunConfig


def learning_rate(step: int, config: RunConfig, start: int = 0) -> float:
    """The rate of step `step` by the settings: linear warm-up, then the named schedule.

    start: the step that the schedule begins at, in a run that extends a finished one.
    """
    step, steps = step - start, config.steps - start
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    if config.schedule == "constant":
        return config.lr
    if config.schedule == "step":
        return config.lr * step_decay(step, config.lr_drop_every or steps, config.lr_drop)
    return config.lr * cosine(step - config.warmup, steps - config.warmup, config.lr_floor)


def cosine(step: int, steps: int, floor: float = 0.0) -> float:
    """Half a cosine: 1 at step 0, `floor` at step `steps`, their mean half way."""
    share = 0.5 * (1 + math.cos(math.pi * (step / max(1, steps))))
    return share if floor == 0 else floor + (1 - floor) * share


def step_decay(step: int, every: int, factor: float) -> float:
    """`factor` to the power of how often `every` steps have passed."""
    return factor ** (step // every)


def linear_warmup(step: int, warmup: int, start: float) -> float:
    """From `start` at step 0 in a line to 1 at step `warmup` and after, as LinearLR has it.

    `learning_rate` begins with 1 / warmup instead and reaches 1 a step earlier.
    """
    return min(1.0, start + (1 - start) * step / max(1, warmup))
