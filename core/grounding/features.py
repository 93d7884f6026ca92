"""What frozen towers see of each image, computed once and kept on disk.

Without augmentation an image looks the same in every epoch, and with frozen towers so do its
features: float16 [1 + P, blocks * width] per image in one memory-mapped file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ..data.grounding import Phrase
from ..data.grounding_view import Seen, view
from ..data.images import read_image
from ..data.inputs.table import SUFFIX, Inputs
from ..errors import TTDError
from ..utils.files import atomic, write_errors
from ..utils.prefetch import prefetch
from .model import GroundingModel

BATCH = 32  # images through the tower at a time
MEASURED = 512  # images and texts that `fit_maps` looks at

Progress = Callable[[int], None]


def fit_maps(model: GroundingModel, phrases: Sequence[Phrase], texts: Sequence[str]) -> None:
    """Set a model's whitening maps from the first of its training samples.

    phrases: those of the training lists, of whose images `MEASURED` are read; texts: as the text
    tower gets them. Nothing happens where the model has no maps.
    TTDError naming an image that cannot be read.
    """
    if not model.config.whiten:
        return
    size, device = model.config.image_size, model.reg_token.weight.device
    states = []
    images = distinct_images(phrases)[:MEASURED]
    for start in range(0, len(images), BATCH):
        views = [view(read_image(image), size) for image in images[start : start + BATCH]]
        pixels = torch.stack([seen.image for seen in views]).to(device)
        with torch.inference_mode():
            states.append(model.image_states(pixels).flatten(0, 1).cpu().double())
    _set(model.visual_map, torch.cat(states))
    ids = model.backbone.tokenize(list(dict.fromkeys(texts))[:MEASURED])
    ids = model.cut(ids[:, : model.config.context])
    with torch.inference_mode():
        words = model.text_states(ids)[ids != 0].cpu().double()
    _set(model.text_map, words)


def _set(linear: nn.Linear, samples: Tensor) -> None:
    weight, bias = whitening(samples, linear.out_features)
    with torch.no_grad():
        linear.weight.copy_(weight)
        linear.bias.copy_(bias)


def whitening(samples: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    """The affine map to the first principal components, each of mean 0 and deviation 1.

    Components below 1 % of the first one's deviation are divided by that instead: they are noise.

    Args: float64 [N, C]. Returns: weight [channels, C], bias [channels]; x -> weight x + bias.
    """
    mean = samples.mean(0)
    variances, axes = torch.linalg.eigh((samples - mean).T @ (samples - mean) / len(samples))
    variances, axes = variances.flip(0)[:channels], axes.flip(1)[:, :channels]
    # Either sign is an axis: the largest entry is made positive, on every machine the same.
    axes = axes * axes.gather(0, axes.abs().argmax(0, keepdim=True)).sign()
    weight = (axes / variances.clamp(min=1e-4 * float(variances[0]) + 1e-12).sqrt()).T
    return weight, -weight @ mean


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
        """The images of a batch as the tower sees them."""
        return [view(read_image(image), size) for image in part]

    with write_errors(path, "make room, or leave --cache out"):
        path.parent.mkdir(parents=True, exist_ok=True)
        with (
            atomic(path, shared=True, durable=True) as unfinished,
            closing(prefetch(read, parts, 2, 2)) as views,
        ):
            _write(unfinished, model, len(images), views, progress)
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
