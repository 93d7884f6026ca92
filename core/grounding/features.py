"""What frozen towers see of each image, computed once and kept on disk.

Without augmentation an image looks the same in every epoch, and with frozen towers so do its
features: float16 [1 + P, blocks * width] per image in one memory-mapped file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..backbones.base import Backbone
from ..data.grounding import Phrase
from ..data.grounding_view import Seen, view
from ..data.images import read_image
from ..data.inputs import SUFFIX, Inputs
from ..errors import TTDError
from ..utils.files import atomic, write_errors
from ..utils.prefetch import prefetch
from .config import ModelConfig
from .model import GroundingModel

BATCH = 32  # images through the tower at a time
MEASURED = 16  # images that `measured_scale` looks at
SMALLEST = 1e-6  # deviation that is divided by

Progress = Callable[[int], None]


def measured_scale(backbone: Backbone, config: ModelConfig, images: Sequence[Path]) -> float:
    """One over the deviation of the block outputs on the first images, to three digits.

    Three, so that every machine and process finds the same. images: paths; `MEASURED` are read.
    TTDError naming an image that cannot be read.
    """
    views = [view(read_image(image), config.image_size) for image in images[:MEASURED]]
    pixels = torch.stack([seen.image for seen in views]).to(backbone.device, backbone.dtype)
    with torch.inference_mode():
        states = torch.cat(backbone.visual.hidden_states(pixels, config.blocks), dim=-1)
    return float(f"{1 / max(float(states.float().std()), SMALLEST):.3g}")


class FeatureCache:
    """The features of the images of a list of phrases, by their place in it."""

    def __init__(self, path: Path, images: Sequence[Path]):
        """path: a file that `prepare` wrote for these images. TTDError: damaged."""
        self._rows = {image: row for row, image in enumerate(images)}
        values = stored(path, len(images))
        if values is None:
            raise TTDError(f"{path}: damaged; delete it, it is made again")
        self._values = values

    def __getitem__(self, image: Path) -> Tensor:
        """An image's features, float16 [1 + P, blocks * width]."""
        return torch.from_numpy(np.array(self._values[self._rows[image]]))


def stored(path: Path, count: int) -> npt.NDArray[np.float16] | None:
    """The features of `count` images, float16 [count, 1 + P, blocks * width]; None: none, damaged.

    The file is mapped, not read.
    """
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception:  # a damaged header raises a dozen kinds of error
        return None
    shaped = isinstance(values, np.ndarray) and values.ndim == 3 and len(values) == count
    return values if shaped and values.dtype == np.float16 else None


def distinct_images(phrases: Sequence[Phrase]) -> list[Path]:
    """The images of the phrases, each once, in order."""
    return list(dict.fromkeys(phrase.image for phrase in phrases))


def cache_file(folder: Path, model: GroundingModel, checksum: str, digest: str) -> Path:
    """Where the features of a list lie: named by backbone, blocks, canvas and list."""
    parts = (checksum, model.config.blocks, model.config.image_size, digest)
    return folder / f"features_{hashlib.sha256(repr(parts).encode()).hexdigest()[:16]}.npy"


def prepare(
    path: Path,
    model: GroundingModel,
    images: Sequence[Path],
    progress: Progress = lambda done: None,
    trust: bool = False,
) -> None:
    """Compute the features of all images, if `path` is not there, or damaged; whole or not at all.

    They are computed again where images have changed since; with `trust`, nobody looks. TTDError
    naming an image that cannot be read, or the file that cannot be written.
    """
    table = path.with_suffix(SUFFIX)
    inputs = Inputs((("", "", str(image), image) for image in images), trust=trust)
    if stored(path, len(images)) is not None and not inputs.differences(table):
        return
    parts = [images[start : start + BATCH] for start in range(0, len(images), BATCH)]
    size = model.config.image_size

    def read(part: Sequence[Path]) -> list[Seen]:
        return [view(read_image(image), size) for image in part]

    with write_errors(path, "make room, or leave --cache out"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic(path, shared=True, durable=True) as unfinished:
            _write(unfinished, model, len(images), prefetch(read, parts, 2, 2), progress)
        table.unlink(missing_ok=True)
    inputs.save(table)


def _write(
    path: Path,
    model: GroundingModel,
    count: int,
    parts: Iterable[Sequence[Seen]],
    progress: Progress,
) -> None:
    rows: np.memmap[Any, np.dtype[np.float16]] | None = None
    start = 0
    for views in parts:
        pixels = torch.stack([seen.image for seen in views]).to(model.reg_token.weight.device)
        with torch.inference_mode():
            states = model.image_states(pixels).half().cpu().numpy()
        if rows is None:
            shape = (count, *states.shape[1:])
            rows = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)
        rows[start : start + len(states)] = states
        start += len(states)
        progress(len(states))
    if rows is not None:
        rows.flush()
