"""Batches for training: which pairs, how they are cropped, read ahead in threads.

Nothing here remembers anything: which pair stands at which position of the training run, and how it
is seen, follows from (seed, position) alone. A run that goes on, and any split among processes and
accumulation steps, sees the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..backbones.base import Backbone
from ..data.pairs import Pairs
from ..data.records import Skipped, read_record
from ..errors import TTDError
from ..ttd.config import TTDConfig
from ..utils.prefetch import prefetch_groups

AHEAD = 2  # batches in memory or on their way before the model asks for them
TRIES = 100  # pairs in a row that cannot be read before it is the data's fault
ORDER, VIEW, SCALE = range(3)  # what a draw is for: the first number behind the seed


@dataclass(frozen=True)
class Augmentation:
    """How images are seen: squares of `size` pixels, their whole area unless `crop` < 1.

    size: at scale 1; patch: sizes of other scales are rounded to its multiples. scales: one is
    drawn per step.
    hflip: half of the images are mirrored. crop: the smallest side of a random crop, as a share
    of the image's; 1 = none, because captions also name what stands at the border.
    """

    size: int
    patch: int
    scales: tuple[float, ...] = (1.0,)
    hflip: bool = True
    crop: float = 1.0

    @classmethod
    def of(cls, config: TTDConfig, backbone: Backbone) -> Augmentation:
        """As the settings say, for this model. TTDError for a size that is no multiple of its patch."""
        size = config.image or backbone.image_size
        if size % backbone.patch:
            raise TTDError(
                f"--image {size}: choose a multiple of {backbone.arch}'s patch, {backbone.patch} pixels"
            )
        return cls(size, backbone.patch, config.scales, config.hflip, config.crop)

    def side(self, seed: int, step: int) -> int:
        """The side in pixels of the images of a step."""
        draw = (
            np.random.default_rng((seed, SCALE, step)).integers(len(self.scales))
            if len(self.scales) > 1
            else 0
        )
        scale = self.scales[int(draw)]
        return (
            self.size if scale == 1 else max(1, round(self.size * scale / self.patch)) * self.patch
        )


@dataclass(frozen=True)
class Split:
    """How the `batch` pairs of a step are shared among `world` processes and `accumulate` parts one after another.

    TTDError when they do not divide.
    """

    batch: int
    rank: int = 0
    world: int = 1
    accumulate: int = 1

    def __post_init__(self) -> None:
        if self.batch % (self.world * self.accumulate):
            raise TTDError(
                f"a batch of {self.batch} pairs cannot be shared by {self.world} processes x "
                f"{self.accumulate} accumulation steps: choose --batch as a multiple of "
                f"{self.world * self.accumulate}"
            )

    def positions(self, step: int, part: int) -> range:
        """Positions in the stream of pairs that this process sees as part `part` of step `step`."""
        size = self.batch // (self.world * self.accumulate)
        start = step * self.batch + (part * self.world + self.rank) * size
        return range(start, start + size)


class Order:
    """The endless stream of pairs: every epoch another shuffle of all `count`. `order[position]` -> pair's number."""

    def __init__(self, count: int, seed: int):
        self.count, self.seed = count, seed
        self._shuffles: dict[int, np.ndarray] = {}

    def __getitem__(self, position: int) -> int:
        epoch, place = divmod(position, self.count)
        if (
            epoch not in self._shuffles
        ):  # at most two are held: reading ahead crosses from one epoch into the next
            self._shuffles = {
                key: value for key, value in self._shuffles.items() if key == epoch - 1
            }
            self._shuffles[epoch] = np.random.default_rng((self.seed, ORDER, epoch)).permutation(
                self.count
            )
        return int(self._shuffles[epoch][place])


@dataclass(frozen=True)
class Batch:
    """B pairs: images float32 [B,3,S,S] in [0, 1], not normalized; their captions; what could not be read."""

    images: Tensor
    captions: list[str]
    skipped: list[Skipped] = field(default_factory=list)


@dataclass(frozen=True)
class Sample:
    """One pair as it is seen: image [3,S,S], its caption, and the pairs before it that could not be read."""

    image: Tensor
    text: str
    skipped: list[Skipped]


def batches(
    pairs: Pairs,
    augmentation: Augmentation,
    split: Split,
    seed: int,
    start: int,
    stop: int,
    workers: int = 2,
) -> Iterator[Batch]:
    """The parts of steps `start` to `stop` (exclusive) in order, `split.accumulate` per step, read in threads.

    TTDError: `TRIES` pairs in a row cannot be read.
    """
    order = Order(len(pairs), seed)
    parts = ((step, part) for step in range(start, stop) for part in range(split.accumulate))

    def start(pool: ThreadPoolExecutor, part: tuple[int, int]) -> list[Future[Sample]]:
        side = augmentation.side(seed, part[0])
        return [
            pool.submit(
                read_sample, pairs, order[position], augmentation, side, (seed, VIEW, position)
            )
            for position in split.positions(*part)
        ]

    for pending in prefetch_groups(start, parts, AHEAD, workers):
        samples = [future.result() for future in pending]
        yield Batch(
            torch.stack([sample.image for sample in samples]),
            [sample.text for sample in samples],
            [item for sample in samples for item in sample.skipped],
        )


def read_sample(
    pairs: Pairs, number: int, augmentation: Augmentation, side: int, key: tuple[int, ...]
) -> Sample:
    """Pair `number`, or the first after it whose image can be read, seen as the numbers in `key` decide.

    TTDError when `TRIES` in a row cannot be read.
    """
    skipped = []
    for attempt in range(min(TRIES, len(pairs))):
        record = pairs[(number + attempt) % len(pairs)]
        try:
            pixels = read_record(record)
        except (TTDError, OSError) as error:
            skipped.append(Skipped(record.index, record.id, " ".join(str(error).split())))
            continue
        return Sample(
            augment(pixels, augmentation, side, np.random.default_rng(key)), record.text, skipped
        )
    raise TTDError(f"{len(skipped)} images in a row cannot be read, the last: {skipped[-1].reason}")


def augment(
    pixels: np.ndarray, augmentation: Augmentation, side: int, draw: np.random.Generator
) -> Tensor:
    """An image uint8 [H,W,3] -> float32 [3,side,side] in [0, 1]: a crop of its own shape, squeezed to the square.

    Bilinear with antialiasing, as images are resized everywhere else.
    """
    height, width = pixels.shape[:2]
    mirrored, zoom, down, across = draw.random(
        4
    )  # always four draws: one setting does not move the others
    share = augmentation.crop + (1 - augmentation.crop) * zoom
    h, w = max(1, round(share * height)), max(1, round(share * width))
    top, left = int(down * (height - h + 1)), int(across * (width - w + 1))
    cropped = pixels[top : top + h, left : left + w]
    if augmentation.hflip and mirrored < 0.5:
        cropped = cropped[:, ::-1]
    return torch.cat([_resize(cropped[..., channel], side) for channel in range(3)])


def _resize(plane: np.ndarray, side: int) -> Tensor:
    """uint8 [H,W] -> float32 [1,side,side] in [0, 1]; a plane at a time, since large images are larger as floats."""
    values = torch.from_numpy(np.ascontiguousarray(plane))[None, None].float() / 255
    if values.shape[-2:] == (side, side):
        return values[0]
    return F.interpolate(
        values, (side, side), mode="bilinear", align_corners=False, antialias=True
    )[0].clamp(0, 1)
