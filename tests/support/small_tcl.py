"""A small TCL checkpoint: 64 px, patch 16, D = 32, the full vocabulary."""

import functools
from pathlib import Path

import oracle_tcl
import torch

SMALL = {"width": 128, "layers": 3, "text_width": 64, "text_layers": 2, "grid": 4, "embed": 32}
STRINGS = [
    "dog",
    "a photo of a cat.",
    "the quick brown fox jumps over the lazy dog, again and again",
]


def save(path: Path, weights: dict, **others) -> Path:
    """An official checkpoint: a dict with the tensors under `model`."""
    torch.save({"model": weights, **others}, path)
    return path


@functools.cache
def small_weights(seed: int = 0) -> dict[str, torch.Tensor]:
    """The random float32 tensors; copy the dict before changing it."""
    return oracle_tcl.random_checkpoint(oracle_tcl.tcl_shapes(**SMALL), seed)


def string_tokens() -> torch.Tensor:
    """STRINGS by open_clip's own tokenizer, [3, 77]."""
    import open_clip

    return open_clip.get_tokenizer("ViT-B-16")(STRINGS)


def texts(n: int, dim: int = SMALL["embed"], seed: int = 5) -> torch.Tensor:
    """Random text embeddings [n, dim] that are not normalized."""
    return 3 * torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))
