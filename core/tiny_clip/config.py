"""The settings of both stages of the tiny CLIP's training."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from ..errors import TTDError
from ..training.config import RENAMED, RunConfig, renamed
from ..utils.config import build


@dataclass(frozen=True, kw_only=True)
class WorldRunConfig(RunConfig):
    """What both stages share: the training pairs of a world in memory.

    world: its folder. TTDError for a value that cannot be.
    """

    FREE: ClassVar[tuple[str, ...]] = (*RunConfig.FREE, "world")

    world: str
    device: str | None = "cpu"
    threads: int | None = 2
    keep: str = "last"
    checkpoint_every: int = 200
    log_every: int = 20

    @property
    def default_name(self) -> str:
        """open_clip looks for the weights under this name in a model's folder."""
        return "open_clip_model"


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(WorldRunConfig):
    """Everything that shapes the tiny model; configs/tiny_clip.yaml explains each key.

    pool: `avg` of the patches, or `tok`, the class token. init: the folder of a model of the same
    sizes to start from, None for random weights. encoders: `both` are trained, or the `image`
    tower alone. patch_weight: of a loss that tells the nouns of patches apart, by the world's own
    truth (core/tiny_clip/patch_nouns.py); 0 for captions alone.
    """

    # `steps` may change before the decay begins: what is before it does not know the end.
    FREE: ClassVar[tuple[str, ...]] = (*WorldRunConfig.FREE, "steps")
    RATES: ClassVar[tuple[str, ...]] = ("lr", "muon_lr")
    LATER: ClassVar[Mapping[str, Any]] = {"patch_weight": 0.0}

    head: str = "maskclip-value"
    pool: str = "avg"
    init: str | None = None
    encoders: str = "both"
    patch_weight: float = 0.0
    embed_dim: int = 256
    patch: int = 8
    width: int = 256
    layers: int = 5
    text_width: int = 128
    text_layers: int = 3
    context: int = 48
    merges: int = 4500
    batch: int = 128
    steps: int = 3500
    lr: float = 1e-3
    muon_lr: float = 0.02
    warmup: int = 150
    weight_decay: float = 0.1
    max_logit_scale: float = 100.0
    small: int = 64
    decay_steps: int = 800
    plain_steps: int = 500
    span_share: float = 0.15
    crop: float = 0.75
    dtype: str = "bfloat16"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_choice("pool", ("avg", "tok"))
        self._check_choice("encoders", ("both", "image"))
        if not 0 <= self.patch_weight < math.inf:
            raise TTDError(f"patch_weight {self.patch_weight:g}: weights must be >= 0")


@dataclass(frozen=True, kw_only=True)
class TextStageConfig(WorldRunConfig):
    """The second stage; configs/tiny_clip_text.yaml explains each key.

    model: the folder of the first stage's model. pairs: how many are trained on.
    """

    model: str
    pairs: int = 16000
    batch: int = 256
    steps: int = 600
    lr: float = 5e-4
    warmup: int = 50
    weight_decay: float = 0.01
    log_every: int = 50


def load_config(
    values: Mapping[str, Any], source: str = "settings", warn: Callable[[str], None] = warnings.warn
) -> PretrainConfig | TextStageConfig:
    """The settings of the stage that `values` are of: the second one starts from a `model`.

    `warn` gets a line for every setting with an old name. TTDError: unknown, missing or wrongly
    typed keys.
    """
    values = renamed(values, RENAMED, warn)
    if "bf16" in values:
        if "dtype" in values:
            raise TTDError(f"{source}: settings bf16 and dtype are one: give dtype alone")
        warn("the setting bf16 is called dtype: bfloat16 now; it ends with the next release")
        values["dtype"] = "bfloat16" if values.pop("bf16") else "float32"
    if values.pop("checkpoint_minutes", None) is not None:
        warn("the setting checkpoint_minutes is gone: checkpoint_every counts steps")
    if "model" in values:
        return build(TextStageConfig, values, source)
    return build(PretrainConfig, values, source)
