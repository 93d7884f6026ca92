"""What a predictor holds in memory for its image."""

from __future__ import annotations

from torch import Tensor

from .predictor import Predictor


def held_bytes(predictor: Predictor) -> int:
    """Bytes of the image, its encoding, PAMR's weights, label maps and encoded texts; no model."""
    tensors: list[Tensor] = [view.pixels for view in predictor._encoded]
    tensors += predictor._embedded.values()
    if predictor._edges is not None:
        tensors.append(predictor._edges)
    arrays = list(predictor._labelled.values())
    if predictor._image is not None:
        arrays.append(predictor._image)
    held = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    return held + sum(array.nbytes for array in arrays)
