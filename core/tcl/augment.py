"""How TCL sees its training images: timm's public training transform, one random stream per image.

timm and torchvision draw from Python's, NumPy's and torch's global generators. They are seeded for
one image and put back afterwards; since others may use them at the same time, this happens in
processes of its own.
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from ..backbones.tcl.base import IMAGENET_MEAN, IMAGENET_STD
from ..errors import TTDError

ATTEMPTS = 20
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class AugmentConfig:
    """timm's training transform, as TCL sets it.

    crop: smallest and largest area of a random crop, as shares of the image's. hflip: how often
    images are mirrored. policy: timm's name of RandAugment's strength, null for none. erase: how
    often a rectangle is filled with noise, after normalization.

    Errors: TTDError for a value that cannot be.
    """

    crop: tuple[float, ...] = (0.08, 1.0)
    hflip: float = 0.5
    policy: str | None = "rand-m9-mstd0.5-inc1"
    erase: float = 0.25

    def __post_init__(self) -> None:
        if len(self.crop) != 2 or not 0 < self.crop[0] <= self.crop[1] <= 1:
            raise TTDError(f"augment.crop {list(self.crop)}: must be two shares of the area")
        for name in ("hflip", "erase"):
            if not 0 <= getattr(self, name) <= 1:
                raise TTDError(f"augment.{name} {getattr(self, name):g}: must be in [0, 1]")
        if self.policy is not None and not self.policy.startswith("rand"):
            raise TTDError(f"augment.policy {self.policy!r}: must be one of timm's, rand-...")


def augment(pixels: Pixels, seed: int, side: int, config: AugmentConfig) -> npt.NDArray[np.float32]:
    """An image as it is seen in training: uint8 [H, W, 3] RGB -> float32 [3, side, side].

    Random crop (bilinear), mirror, RandAugment, ImageNet's mean and std, random erasing. All draws
    follow from `seed`; the global generators are as before. Not for several threads at once.

    At its highest magnitude timm posterizes to no bits at all, a black image; Pillow refuses that
    (1 image in 650 or so), and it is drawn again.
    """
    transform = _transform(side, config)
    for attempt in range(ATTEMPTS):
        with seeded(seed + attempt), contextlib.suppress(ValueError):
            return transform(Image.fromarray(pixels)).numpy()
    raise TTDError(f"{ATTEMPTS} augmentations of an image in a row failed")


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside, Python's, NumPy's and torch's generators start at `seed`; they are put back after."""
    before, numpy_before = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(before)
            np.random.set_state(numpy_before)


@functools.cache
def _transform(side: int, config: AugmentConfig) -> Callable[[Any], torch.Tensor]:
    from timm.data import create_transform

    transform: Callable[[Any], torch.Tensor] = create_transform(
        input_size=side,
        is_training=True,
        color_jitter=None,  # the published 0.4 has no effect beside a policy
        auto_augment=config.policy,
        scale=config.crop,
        hflip=config.hflip,
        interpolation="bilinear",
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        re_prob=config.erase,
        re_mode="pixel",
        re_count=1,
    )
    return transform


class Augmenter:
    """`augment` in processes, from any thread. They end with this process, however it ends."""

    def __init__(self, processes: int):
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(processes, context, _start, (os.getpid(),))

    def __call__(
        self, pixels: Pixels, seed: int, side: int, config: AugmentConfig
    ) -> npt.NDArray[np.float32]:
        """See `augment`."""
        return self._pool.submit(augment, pixels, seed, side, config).result()


@functools.cache
def shared_augmenter(processes: int) -> Augmenter:
    """The processes of this run, started when the first image comes."""
    return Augmenter(processes)


def _start(parent: int) -> None:
    """In a new process: one thread, and an end when the parent was killed."""
    torch.set_num_threads(1)

    def watch() -> None:
        """End this process when its parent has ended."""
        while os.getppid() == parent:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
