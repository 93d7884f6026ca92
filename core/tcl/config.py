"""Settings of TCL: weights and targets of the loss, and of a training run."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..errors import TTDError


@dataclass(frozen=True)
class LossConfig:
    """Weights and targets of TCL's terms, as in the released configuration.

    area, neg_area: wanted means of the masks of an image's own text and of the others'.
    tau: temperature of the Gumbel-sigmoid. parity: on several processes, compute what the released
    code does: the feature-level loss mixes masks of different processes' texts, and the area is
    compared with its target in each process alone. chunk: texts whose masks are held at a time;
    None: by memory (64 MB a tensor), 0: all at once.

    Errors: TTDError for a value that cannot be.
    """

    area: float = 0.4
    neg_area: float = 0.0
    area_weight: float = 0.4
    neg_area_weight: float = 0.4
    tclf_weight: float = 0.1
    tcli_weight: float = 0.1
    tv_img_weight: float = 1.0
    tv_mask_weight: float = 1.0
    tau: float = 1.0
    parity: bool = False
    chunk: int | None = None

    def __post_init__(self) -> None:
        for name, weight in self.weights.items():
            if not 0 <= weight < math.inf:
                raise TTDError(f"weight of {name} {weight:g}: must be at least 0")
        for name in ("area", "neg_area"):
            if not 0 <= getattr(self, name) <= 1:
                raise TTDError(f"{name} {getattr(self, name):g}: a mean of masks is in [0, 1]")
        if not 0 < self.tau < math.inf:
            raise TTDError(f"tau {self.tau:g}: must be a positive number")
        if self.chunk is not None and self.chunk < 0:
            raise TTDError(f"chunk {self.chunk}: must be a number of texts, 0 for all, or null")

    @property
    def weights(self) -> dict[str, float]:
        """The weight of each term by the name that it is logged by."""
        return {
            "area_loss": self.area_weight,
            "neg_area_loss": self.neg_area_weight,
            "tclf_loss": self.tclf_weight,
            "tcli_loss": self.tcli_weight,
            "tv_img_loss": self.tv_img_weight,
            "tv_mask_loss": self.tv_mask_weight,
        }
