"""Encode an image once, ask it many words.

predictor = Predictor(load_backbone("tiny"), scales=(1.0, 0.5), refine="pamr")
predictor.set_image("street.jpg")                 # expensive, once
predictor.scores(["dog", "tree"])                 # cheap, many: max cosine of each word over the
image predictor.soft_masks(["dog", "tree"])             # [2, H, W] in [0, 1]
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from .backbones.base import Backbone
from .data.images import read_image
from .errors import TTDError
from .maps.encode import (
    EncodedView,
    average_maps,
    cells_to_pixels,
    encode_views,
    finest_grid,
    peak_cells,
)
from .maps.grid import Grid
from .maps.views import Views, prepare
from .refine.crf import refine_soft_masks
from .refine.pamr import PAMR

REFINERS = ("pamr", "crf")
# Refinement needs 48 planes of the image's size: at 20 megapixels that would be 4 GB.
REFINE_SIDE = 1024
CHUNK = 32  # maps refined at a time

Pixels = npt.NDArray[np.uint8]


class Predictor:
    """Similarity maps, scores and soft masks of one image for any words.

    Each scale is encoded whole (no sliding windows): its short side becomes `image_size * scale`,
    the long side at most 4 times that. Maps of several scales and of the mirrored image are
    averaged on the finest grid; scores are the maximum of that average, and larger maps are
    interpolated from it.
    """

    def __init__(
        self,
        backbone: Backbone,
        image_size: int | None = None,
        scales: Sequence[float] = (1.0,),
        hflip: bool = False,
        refine: str | None = None,
        pictures: int = 1,
    ) -> None:
        """Choose the model and how it looks at images.

        Args:
            backbone: from `load_backbone`.
            image_size: short side in pixels at scale 1; twice the model's own size when None.
            scales: factors of `image_size`, each > 0.
            hflip: also encode the mirrored image.
            refine: None, "pamr" or "crf"; acts on `soft_masks` alone.
            pictures: how many images there will be, about; PAMR has a faster path for many.
        Raises TTDError for values outside of these, and for "crf" where pydensecrf2 is not
        installed.
        """
        size = 2 * backbone.image_size if image_size is None else image_size
        self.views = Views(size, tuple(scales), hflip)
        if refine is not None and refine not in REFINERS:
            raise TTDError(f"refine must be one of {', '.join(REFINERS)} or None, got {refine!r}")
        if refine == "crf":  # find out now whether it is installed, not after encoding an image
            refine_soft_masks(np.zeros((1, 1, 3), np.uint8), torch.zeros(1, 1, 1))
        self.backbone, self.refine = backbone, refine
        self._image: Pixels | None = None
        self._pamr = PAMR(pictures=pictures)
        self._edges: Tensor | None = None  # PAMR's weights of the image
        self._encoded: list[EncodedView] = []
        self._embedded: dict[tuple[str, str], Tensor] = {}

    @property
    def image_size(self) -> int:
        """Short side in pixels at scale 1."""
        return self.views.size

    @torch.no_grad()
    def set_image(self, image: Pixels | str | Path) -> None:
        """Encode an image: uint8 [H, W, 3] RGB, or a path that `read_image` reads.

        The expensive call, once. Raises TTDError for a file that cannot be read or an array of
        another shape or type.
        """
        # Before anything can fail: after an error the previous image's maps must not be taken for
        # this one's.
        self._image, self._encoded, self._edges = None, [], None
        pixels = image if isinstance(image, np.ndarray) else read_image(image)
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
            raise TTDError(
                f"set_image wants uint8 [H, W, 3] RGB, got {pixels.dtype} {list(pixels.shape)}"
            )
        prepared = [prepare(pixels, self.views)]
        self._encoded, _ = encode_views(self.backbone, prepared, self.views)
        self._image = pixels

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the image in pixels."""
        pixels = self._pixels()
        return pixels.shape[0], pixels.shape[1]

    @torch.no_grad()
    def maps(
        self, texts: Sequence[str], templates: str = "identity", size: tuple[int, int] | None = None
    ) -> Tensor:
        """Cosine of every pixel with every text: float32 [K, H, W] in [-1, 1].

        Args:
            texts: K strings.
            templates: a set of `core.text.prompts`; "identity" encodes the strings as they stand.
            size: (H, W) of the result; the image's own by default (4 bytes per pixel and text).
        On the backbone's device. Raises TTDError before an image is set, and for no texts.
        """
        maps = self._average(texts, templates)
        return self._finest_grid().resize(maps, size or self.size)

    @torch.no_grad()
    def scores(self, texts: Sequence[str], templates: str = "identity") -> Tensor:
        """Pixel score of every text: [K] in [-1, 1].

        The maximum of its unrefined map over the finest grid. Raises as `maps`.
        """
        maps = self._average(texts, templates)
        return peak_cells(maps, self._finest_grid())[0]

    @torch.no_grad()
    def peaks(self, texts: Sequence[str], templates: str = "identity") -> Tensor:
        """The pixel (x, y) of the image where each text scores highest: int64 [K, 2].

        It is the centre of the best cell. Raises as `maps`.
        """
        maps, grid = self._average(texts, templates), self._finest_grid()
        height, width = torch.tensor(self.size)
        return cells_to_pixels(peak_cells(maps, grid)[1], grid, height, width)

    @torch.no_grad()
    def soft_masks(
        self, texts: Sequence[str], templates: str = "identity", size: tuple[int, int] | None = None
    ) -> Tensor:
        """Soft masks [K, H, W] in [0, 1], on the backbone's device.

        `sigmoid(a (S - b))` with the backbone's a and b, then `refine`. Refinement runs at the
        image's size, at most 1024 pixels on the long side (`REFINE_SIDE`); the result is resized
        bilinearly to `size` (by default the image's own). Raises as `maps`.
        """
        masks = self.backbone.soft_mask(self._average(texts, templates))  # [K, h, w]
        size = size or self.size
        if self.refine is None:
            return self._finest_grid().resize(masks, size)
        image = self._bounded_image()
        masks = self._finest_grid().resize(masks, (image.shape[0], image.shape[1]))
        masks = self._refined(masks, image)
        return F.interpolate(masks[None], size=size, mode="bilinear", align_corners=False)[0]

    def _average(self, texts: Sequence[str], templates: str) -> Tensor:
        """Similarity maps averaged over the views on the finest grid, [K, h, w] float32."""
        self._pixels()
        if isinstance(texts, str) or not texts:
            raise TTDError("texts must be a list of at least one string")
        return average_maps(self.backbone, self._encoded, self._embed(texts, templates))[0]

    def _embed(self, texts: Sequence[str], templates: str) -> Tensor:
        """Text embeddings [K, D]; each text is encoded once and remembered."""
        new = list(dict.fromkeys(text for text in texts if (templates, text) not in self._embedded))
        if new:
            if templates == "identity":
                encoded = self.backbone.encode_text(new)
            else:
                from .text.prompts import embed_classes  # late: reads and writes its cache on disk

                encoded = embed_classes(self.backbone, new, templates)
            for text, row in zip(new, encoded, strict=True):
                self._embedded[templates, text] = row
        return torch.stack([self._embedded[templates, text] for text in texts])

    def _refined(self, masks: Tensor, image: Pixels) -> Tensor:
        """PAMR or CRF: masks [K, H, W] along the edges of uint8 [H, W, 3] -> [K, H, W]."""
        if self.refine == "crf":
            return refine_soft_masks(image, masks)
        if self._edges is None:  # they depend on the image alone: computed once for every word
            self._edges = self._pamr.weights(_to_tensor(image).to(masks))
        chunks = torch.split(masks, CHUNK)
        return torch.cat([self._pamr.refine(self._edges, chunk[None])[0] for chunk in chunks])

    def _bounded_image(self) -> Pixels:
        """The image, its long side at most `REFINE_SIDE`: uint8 [H, W, 3]."""
        image = self._pixels()
        if max(image.shape[:2]) <= REFINE_SIDE:
            return image
        factor = REFINE_SIDE / max(image.shape[:2])
        height, width = (max(1, round(side * factor)) for side in image.shape[:2])
        return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BOX))

    def _pixels(self) -> Pixels:
        """The image, uint8 [H, W, 3]; TTDError when there is none yet."""
        if self._image is None:
            raise TTDError("no image yet: call set_image(image) before asking for words")
        return self._image

    def _finest_grid(self) -> Grid:
        """The grid with the most cells."""
        return finest_grid(self._encoded)


def _to_tensor(image: Pixels) -> Tensor:
    """uint8 [H, W, 3] -> float32 [1, 3, H, W] in [0, 1]."""
    return torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255
