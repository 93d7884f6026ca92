"""What every training run can be told, whatever is trained: one frozen dataclass.

A system's own settings extend it, so a YAML file stays flat:

    @dataclass(frozen=True, kw_only=True)
    class TTDConfig(RunConfig):
        arch: str = "tiny"
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ..errors import TTDError
from ..utils.config import plain
from ..utils.files import expanded, safe_name

DTYPES = ("float32", "bfloat16", "float16", "auto")
SCHEDULES = ("cosine", "step", "constant")
KEPT = ("best", "last")
MOST_THREADS = 1024
# Old names of settings, accepted for one release.
RENAMED = {"clip": "grad_clip", "accumulate": "grad_accum_steps", "mirror": "hflip"}


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """A training run; docs/training.md explains every setting.

    batch counts the samples of one update over all processes; each process cuts its share into
    `grad_accum_steps` micro-batches. lr is the peak: `warmup` steps of linear warm-up, then
    `schedule` (core/training/schedules.py). grad_clip: largest L2 norm of the gradient over all
    parameters, None for no limit. dtype: of the towers' matrix products, by autocast; parameters
    are float32 always; `auto`: bfloat16 where the device has it. stall_percent: share of the steps
    after which a loss that has not moved ends the run, 0 for never. unreadable_percent: share of
    the last 1000 samples above which the run ends because they cannot be read, 100 for never.
    trust_inputs: take the image files of a resumed run for unchanged without a look.

    Errors: TTDError for a value that cannot be.
    """

    # What a resumed run may change: where things are and how fast they are done.
    FREE: ClassVar[tuple[str, ...]] = (
        "out",
        "tag",
        "device",
        "threads",
        "workers",
        "log_every",
        "checkpoint_every",
        "stall_percent",
        "unreadable_percent",
        "trust_inputs",
    )
    # Settings that came later, dotted, and the value with which they do nothing.
    LATER: ClassVar[Mapping[str, Any]] = {}
    # Learning rates: in proportion to the batch where it is not the recipe's.
    RATES: ClassVar[tuple[str, ...]] = ("lr",)
    # What `schedule` may be.
    SCHEDULES: ClassVar[tuple[str, ...]] = SCHEDULES
    # Settings that must be whole numbers of at least 1, where they are given.
    COUNTS: ClassVar[tuple[str, ...]] = (
        "steps",
        "batch",
        "grad_accum_steps",
        "lr_drop_every",
        "eval_every",
        "checkpoint_every",
        "log_every",
        "threads",
        "workers",
    )

    steps: int = 200
    batch: int = 16
    grad_accum_steps: int = 1
    lr: float = 1e-4
    warmup: int = 20
    schedule: str = "cosine"
    lr_floor: float = 0.0
    lr_drop_every: int | None = None
    lr_drop: float = 0.1
    weight_decay: float = 0.01
    grad_clip: float | None = 1.0
    seed: int = 0
    dtype: str = "float32"
    compile: bool = False
    stall_percent: float = 10.0
    unreadable_percent: float = 10.0
    trust_inputs: bool = False
    eval_every: int = 50
    keep: str = "best"
    checkpoint_every: int = 50
    log_every: int = 10
    out: str | None = None
    tag: str | None = None
    device: str | None = None
    threads: int | None = None
    workers: int = 2

    def __post_init__(self) -> None:
        self._check_counts()
        self._check_rates()
        self._check_choice("dtype", DTYPES)
        self._check_choice("schedule", self.SCHEDULES)
        self._check_choice("keep", KEPT)
        if self.warmup < 0 or self.seed < 0:
            raise TTDError(f"warmup {self.warmup}, seed {self.seed}: neither can be negative")
        if self.schedule == "step" and self.lr_drop_every is None:
            raise TTDError("schedule 'step' needs lr_drop_every, the steps between two drops")

    def _check_counts(self) -> None:
        for name in self.COUNTS:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise TTDError(f"{name} {value}: must be a whole number of at least 1")
        for name in ("threads", "workers"):
            if (getattr(self, name) or 1) > MOST_THREADS:
                raise TTDError(f"{name} {getattr(self, name)}: at most {MOST_THREADS} are started")

    def _check_rates(self) -> None:
        clip = 1.0 if self.grad_clip is None else self.grad_clip
        if not 0 < self.lr < math.inf:
            raise TTDError(f"lr {self.lr:g}: must be a positive number")
        if not 0 < clip < math.inf:
            raise TTDError(f"grad_clip {clip:g}: must be a positive number, or null for no limit")
        if not 0 <= self.weight_decay < math.inf:
            raise TTDError(f"weight_decay {self.weight_decay:g}: must be at least 0")
        for name in ("lr_floor", "lr_drop"):
            if not 0 <= getattr(self, name) <= 1:
                raise TTDError(f"{name} {getattr(self, name):g}: must be a share in [0, 1]")
        for name in ("stall_percent", "unreadable_percent"):
            if not 0 <= getattr(self, name) <= 100:
                raise TTDError(f"{name} {getattr(self, name):g}: must be in [0, 100]")

    def _check_choice(self, name: str, known: tuple[str, ...]) -> None:
        if getattr(self, name) not in known:
            raise TTDError(f"{name} {getattr(self, name)!r}: choose one of {', '.join(known)}")

    @property
    def default_name(self) -> str:
        """What the finished file is called without `tag`; a system names its own."""
        return "model"

    @property
    def name(self) -> str:
        """What the finished file is called: `tag`, else `default_name`; one file everywhere."""
        return safe_name(self.tag or self.default_name)

    @property
    def folder(self) -> Path:
        """The run's folder: `out`, else runs/NAME."""
        return expanded(self.out) if self.out else Path("runs") / self.name


def identity(config: RunConfig) -> dict[str, Any]:
    """The settings that a run cannot change on its way, as plain values.

    Without those of `LATER` that do nothing, which runs begun before do not have.
    """
    fixed = {key: value for key, value in plain(config).items() if key not in config.FREE}
    for name, nothing in config.LATER.items():
        *sections, last = name.split(".")
        place = fixed
        for section in sections:
            place = place[section]
        if place[last] == nothing:
            del place[last]
    return fixed


def renamed(
    values: Mapping[str, Any], names: Mapping[str, str], warn: Callable[[str], None]
) -> dict[str, Any]:
    """Settings with old names replaced by the new ones; `warn` is called with a line for each.

    names: {old: new}. TTDError where both are given.
    """
    result = dict(values)
    for old, new in names.items():
        if old not in result:
            continue
        if new in result:
            raise TTDError(f"settings {old} and {new} are one: give {new} alone")
        warn(f"the setting {old} is called {new} now; the old name ends with the next release")
        result[new] = result.pop(old)
    return result
