"""One check for all that is written: no file of ours holds NaN or infinity."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import TTDError

if TYPE_CHECKING:
    from torch import Tensor

ADVICE = (
    "the model's weights do not fit its configuration, or overflow: try --dtype float32, and "
    "without --lora"
)


def is_finite(values: Tensor) -> bool:
    """Whether a tensor [...] of any type holds neither NaN nor infinity."""
    return not values.is_floating_point() or bool(values.isfinite().all())


def check_finite(values: Tensor | Sequence[float], what: str, advice: str = ADVICE) -> None:
    """TTDError unless all values [...] are finite: `what` (an image, a tensor) and `advice`."""
    if isinstance(values, Sequence):
        wrong = not all(map(math.isfinite, values))
    else:
        wrong = not is_finite(values)
    if wrong:
        raise TTDError(
            f"{what}: the result is not finite (NaN or infinity), so it is not stored; {advice}"
        )


def check_weights(state: Mapping[str, Tensor], path: Path | str) -> None:
    """TTDError naming the first tensor [...] of `state` that is not finite; `path`: of the file."""
    for name, value in state.items():
        if not is_finite(value):
            raise TTDError(
                f"{path}: tensor {name} is not finite (NaN or infinity), so nothing is written; "
                "what it was made from is damaged, or too large for the type it is stored in"
            )


def without_nan(value: Any) -> Any:
    """Plain values for JSON: NaN, which JSON lacks, becomes None."""
    if isinstance(value, Mapping):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
