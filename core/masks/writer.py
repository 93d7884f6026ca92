"""Writes masks beside the computation: a thread encodes and stores them."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..utils.files import atomic, sync_all, write_errors
from .labels import Scores
from .results import MaskFolder, save_scores

PENDING = 8  # masks waiting to be written; more would only fill the memory when the disk is slow
LEVEL = 1  # of zlib: 3 times faster than 6, and label maps are small anyway

Values = npt.NDArray[np.uint8]


def save_mask(path: Path, mask: Values, palette: Values | None = None) -> None:
    """Write uint8 [H, W] as PNG, whole or not at all.

    An index image with `palette` uint8 [256, 3], or a grey one. OSError when it cannot be written.
    """
    image = Image.fromarray(mask)
    if palette is not None:
        image.putpalette(palette.astype(np.uint8).tobytes())
    with atomic(path) as part, part.open("wb") as file:
        image.save(file, format="PNG", compress_level=LEVEL)


class MaskWriter:
    """Stores masks in a `MaskFolder` from a thread of its own.

    Use as a context: leaving it waits for all of them.
    """

    def __init__(self, folder: MaskFolder, palette: Values | None = None) -> None:
        """palette: uint8 [256, 3] of index images; None for grey ones."""
        self._folder, self._palette = folder, palette
        self._pool = ThreadPoolExecutor(1)
        self._pending: deque[Future[None]] = deque()

    def write(self, name: str, mask: Values, scores: Scores | None = None) -> None:
        """Hand over one mask uint8 [H, W].

        Raises TTDError when an earlier one could not be stored (disk full).
        """
        self._pending.append(self._pool.submit(self._store, name, mask, scores))
        while len(self._pending) > PENDING or (self._pending and self._pending[0].done()):
            self._check(self._pending.popleft())

    def _store(self, name: str, mask: Values, scores: Scores | None) -> None:
        if scores is not None:  # before the mask: where the mask is, the work is done
            size = (mask.shape[0], mask.shape[1])
            save_scores(self._folder.scores(name), scores.maps, scores.classes, size)
        save_mask(self._folder.mask(name), mask, self._palette)

    def _check(self, future: Future[None]) -> None:
        advice = "make room and run the same command again: it resumes where it stopped"
        with write_errors(self._folder.path, advice):
            future.result()

    def __enter__(self) -> MaskWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=kind is not None)
        if kind is None:
            for future in self._pending:
                self._check(future)
            sync_all()  # who says that masks are made says that they stay
