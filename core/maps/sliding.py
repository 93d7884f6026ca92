"""An image's soft masks from all its views: scales, sliding windows, mirrored or not, averaged at its own size.

    image = prepare(read_image("dog.jpg"), used)          # used: a resolved MaskProtocol
    merged = merge_views(backbone, image, text, used)     # text [N, D]
    merged.at_picture(range(5))                             # [5, H, W]: maps of the first five classes

Every view's map (`sigmoid(a (S - b))`, or the cosine S for protocols with a softmax) is read on the
model's own grid; what follows is linear, so the maps of all windows of a scale become the image's
in one product of matrices (`core.maps.windows`), for a few classes at a time: nothing of the size
classes x image is held.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..backbones.base import Backbone
from ..data.images import resized_tensor
from ..masks.protocol import MaskProtocol
from .windows import Side, bilinear, coverage, window_spans

WINDOWS = 8  # windows in one forward pass, mirrored ones counted
MASK_VALUES = (
    2**26
)  # soft masks of windows in memory at a time where a backbone makes them at full size (268 MB)
LONG_SIDE = 2048  # mmsegmentation's bound on the long side, for `opencv` resizing


@dataclass(frozen=True)
class Picture:
    """An image to be segmented: its pixels uint8 [H, W, 3], and float [3, h, w] in [0, 1] at every scale."""

    pixels: np.ndarray
    scaled: tuple[Tensor, ...]

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the image itself."""
        return self.pixels.shape[:2]


def prepare(pixels: np.ndarray, used: MaskProtocol) -> Picture:
    """Resize uint8 [H, W, 3] to every scale of a resolved protocol. Safe to call in threads."""
    sizes = [max(1, round(used.image * scale)) for scale in used.scales]
    resize = resized_tensor if used.resize == "antialias" else _opencv_resized
    return Picture(pixels, tuple(resize(pixels, size) for size in sizes))


def opencv_size(height: int, width: int, short: int) -> tuple[int, int]:
    """(H, W) by mmsegmentation's rule: f = min(2048 / long side, short / short side), sides int(side * f + 0.5)."""
    factor = min(LONG_SIDE / max(height, width), short / min(height, width))
    return max(1, int(height * factor + 0.5)), max(1, int(width * factor + 0.5))


def _opencv_resized(pixels: np.ndarray, short: int) -> Tensor:
    """uint8 [H, W, 3] -> float32 [3, h, w] in [0, 1]: OpenCV's bilinear resize of 8-bit values."""
    import cv2

    height, width = opencv_size(*pixels.shape[:2], short)
    small = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR)
    return torch.from_numpy(small).permute(2, 0, 1).float() / 255


@dataclass(frozen=True)
class Layer:
    """One scale: its maps [N, h, w] and the matrices to the image's rows [H, h] and columns [W, w]."""

    maps: Tensor
    rows: Tensor
    cols: Tensor


class Merged:
    """The maps of an image for N classes, one `Layer` per scale, not yet of the image's size = (H, W).

    highest, lowest [N]: bounds of each class, since every value of the image is an average over
    scales of averages.
    """

    def __init__(self, layers: list[Layer], size: tuple[int, int]):
        self._layers, self.size = layers, size
        self.highest = torch.stack([layer.maps.flatten(1).amax(1) for layer in layers]).mean(0)
        self.lowest = torch.stack([layer.maps.flatten(1).amin(1) for layer in layers]).mean(0)

    def at_picture(self, classes: Sequence[int], rows: slice = slice(None)) -> Tensor:
        """Maps of these n classes at the image's own size, or some of its rows: [n, H, W] float32."""
        index = torch.as_tensor(classes, device=self.highest.device)
        total = sum(layer.rows[rows] @ layer.maps[index] @ layer.cols.T for layer in self._layers)
        return total / len(self._layers)


@torch.no_grad()
def merge_views(
    backbone: Backbone, picture: Picture, text: Tensor, used: MaskProtocol, batch: int = WINDOWS
) -> Merged:
    """Encode all views of an image and average their maps for text embeddings [N, D].

    used: resolved protocol, the one `image` was prepared with; batch: windows per forward pass,
    which changes results by rounding only.
    """
    if used.by_window:
        return _merge_masks(backbone, picture, text, used, batch)
    sides = [_sides(backbone, picture, scaled, used) for scaled in picture.scaled]
    cells = [
        torch.empty(
            len(text),
            used.hflip + 1,
            len(rows.spans),
            rows.cells,
            len(cols.spans),
            cols.cells,
            device=backbone.device,
        )
        for rows, cols in sides
    ]
    for places, crops in _batches(backbone, picture, sides, used.hflip, batch):
        maps = backbone.similarity(backbone.encode_pixels(crops), text)
        if used.mapping == "sigmoid":
            maps = backbone.soft_mask(maps)
        for (layer, mirrored, row, col), one in zip(places, maps, strict=True):
            cells[layer][:, mirrored, row, :, col] = one
    return Merged([_layer(*pair) for pair in zip(cells, sides, strict=True)], picture.size)


def _sides(
    backbone: Backbone, picture: Picture, scaled: Tensor, used: MaskProtocol
) -> tuple[Side, Side]:
    """Rows and columns of one scale."""
    return tuple(
        Side.of(length, final, used.side, used.step, backbone.patch, backbone.stride)
        for length, final in zip(scaled.shape[-2:], picture.size, strict=True)
    )


Place = tuple[int, int, int, int]  # scale, mirrored, row and column of the window


def _batches(
    backbone: Backbone, picture: Picture, sides: list[tuple[Side, Side]], hflip: bool, batch: int
) -> Iterator[tuple[list[Place], Tensor]]:
    """All windows, mirrored ones too, as normalized batches [b, 3, h, w]; windows of one size share batches."""
    scaled = [backbone.normalize(one[None])[0] for one in picture.scaled]
    by_size: dict[tuple[int, int], list[Place]] = {}
    for layer, (rows, cols) in enumerate(sides):
        size = (rows.spans[0][1] - rows.spans[0][0], cols.spans[0][1] - cols.spans[0][0])
        by_size.setdefault(size, []).extend(
            (layer, mirrored, i, j)
            for mirrored in range(hflip + 1)
            for i in range(len(rows.spans))
            for j in range(len(cols.spans))
        )
    for places in by_size.values():
        for start in range(0, len(places), batch):
            some = places[start : start + batch]
            yield some, torch.stack([_crop(scaled[p[0]], sides[p[0]], p) for p in some])


def _crop(image: Tensor, sides: tuple[Side, Side], place: Place) -> Tensor:
    """The window [3, h, w] at `place`."""
    _, mirrored, i, j = place
    (top, bottom), (left, right) = sides[0].spans[i], sides[1].spans[j]
    crop = image[:, top:bottom, left:right]
    return crop.flip(-1) if mirrored else crop


def _layer(cells: Tensor, sides: tuple[Side, Side]) -> Layer:
    """Cells [N, 1 or 2, n, h, m, w] -> maps side by side; mirrored ones averaged in here where padding allows."""
    rows, cols = sides
    matrix = cols.matrix
    if cells.shape[1] == 2 and cols.mirrored is None:
        cells = (cells[:, :1] + cells[:, 1:].flip(-1)) / 2
    elif cells.shape[1] == 2:  # twice as many columns: the windows', then the mirrored windows'
        cells = cells.permute(0, 2, 3, 1, 4, 5).flatten(3, 4)[:, None]
        matrix = torch.cat([matrix, cols.mirrored], 1) / 2
    cells = cells[:, 0].flatten(3, 4).flatten(1, 2)  # [N, n*h, m*w]
    return Layer(cells, rows.matrix.to(cells), matrix.to(cells))


def _merge_masks(
    backbone: Backbone, picture: Picture, text: Tensor, used: MaskProtocol, batch: int
) -> Merged:
    """`Backbone.masks` of every window, averaged where windows overlap: maps of each scaled image's size."""
    layers = []
    for scaled in picture.scaled:
        image = backbone.normalize(scaled[None])[0]
        size = image.shape[-2:]
        rows, cols = (window_spans(length, used.side, used.step) for length in size)
        places = [
            (flip, *row, *col) for row in rows for col in cols for flip in range(used.hflip + 1)
        ]
        values = len(text) * min(used.side, size[0]) * min(used.side, size[1])
        step = max(1, min(batch, MASK_VALUES // values))
        canvas = torch.zeros(len(text), *size, device=backbone.device)
        for start in range(0, len(places), step):
            _add_masks(canvas, backbone, image, places[start : start + step], text, used)
        count = coverage(rows, size[0])[:, None] * coverage(cols, size[1]) * (used.hflip + 1)
        layers.append(
            Layer(
                canvas.div_(count.float().to(canvas.device)),
                *(
                    bilinear(*lengths).float().to(canvas.device)
                    for lengths in zip(picture.size, size, strict=True)
                ),
            )
        )
    return Merged(layers, picture.size)


def _add_masks(
    canvas: Tensor,
    backbone: Backbone,
    image: Tensor,
    places: list[tuple[int, ...]],
    text: Tensor,
    used: MaskProtocol,
) -> None:
    """Add the masks of windows (mirrored, top, bottom, left, right) of image [3, h, w] to canvas [N, h, w]."""
    crops = [image[:, top:bottom, left:right] for _, top, bottom, left, right in places]
    crops = torch.stack(
        [crop.flip(-1) if p[0] else crop for crop, p in zip(crops, places, strict=True)]
    )
    pamr = used.pamr and used.pamr_at == "window"
    masks = backbone.masks(crops, text, pamr=pamr, kp_weight=used.kp_weight)
    for (mirrored, top, bottom, left, right), one in zip(places, masks, strict=True):
        canvas[:, top:bottom, left:right] += one.flip(-1) if mirrored else one
