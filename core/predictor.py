"""Encode an image once, ask it many words.

predictor = Predictor(load_backbone("tiny"), scales=(1.0, 0.5), refine="pamr")
predictor.set_image("street.jpg")                 # expensive, once
predictor.scores(["dog", "tree"])                 # cheap, many: max cosine of each word over the image
predictor.soft_masks(["dog", "tree"])             # [2, H, W] in [0, 1]
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from .backbones.base import Backbone
from .data.images import read_image, resized_tensor
from .errors import TTDError
from .maps.grid import Grid
from .maps.views import View, average_maps, cells_to_pixels, encode_views, finest_grid, peak_cells
from .refine.crf import refine_soft_masks
from .refine.pamr import PAMR

REFINERS = ("pamr", "crf")
REFINE_SIDE = (
    1024  # refinement needs 48 planes of the image's size: at 20 megapixels that would be 4 GB
)
CHUNK = 32  # maps refined at a time


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
    ):
        """Args:
            backbone: from `load_backbone`.
            image_size: short side in pixels at scale 1; twice the model's own size when None.
            scales: factors of `image_size`, each > 0.
            hflip: also encode the mirrored image.
            refine: None, "pamr" or "crf"; acts on `soft_masks` alone.
            images: how many there will be, about; PAMR has a faster path for many.
        Raises TTDError for values outside of these, and for "crf" where pydensecrf2 is not
        installed.
        """
        if not scales or min(scales) <= 0:
            raise TTDError(
                f"scales must be positive numbers, got {list(scales)}; the usual ones are 1.0 0.5 1.5 2.0"
            )
        if image_size is not None and image_size < 1:
            raise TTDError(
                f"image size must be at least 1 pixel, got {image_size}; leave it out for the default"
            )
        if refine is not None and refine not in REFINERS:
            raise TTDError(f"refine must be one of {', '.join(REFINERS)} or None, got {refine!r}")
        if (
            refine == "crf"
        ):  # find out now whether it is installed, not after an image has been encoded
            refine_soft_masks(np.zeros((1, 1, 3), np.uint8), np.zeros((1, 1, 1)))
        self.backbone, self.scales, self.hflip, self.refine = backbone, tuple(scales), hflip, refine
        self.image_size = image_size or 2 * backbone.image_size
        self._image: np.ndarray | None = None
        self._pamr, self._edges = PAMR(pictures=pictures), None
        self._views: list[View] = []
        self._embedded: dict[tuple[str, str], Tensor] = {}

    @torch.no_grad()
    def set_image(self, image: np.ndarray | str | Path) -> None:
        """Encode an image: uint8 [H, W, 3] RGB, or a path that `read_image` reads. The expensive call, once.

        Raises TTDError for a file that cannot be read or an array of another shape or type.
        """
        # Before anything can fail: after an error the previous image's maps must not be taken for
        # this one's.
        self._image, self._views, self._edges = None, [], None
        pixels = image if isinstance(image, np.ndarray) else read_image(image)
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
            raise TTDError(
                f"set_image wants uint8 [H, W, 3] RGB, got {pixels.dtype} {list(pixels.shape)}"
            )
        views = [view for scale in self.scales for view in self._encode(pixels, scale)]
        self._image, self._views = pixels, views

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the image in pixels."""
        return self._picture().shape[:2]

    @torch.no_grad()
    def maps(
        self, texts: Sequence[str], templates: str = "identity", size: tuple[int, int] | None = None
    ) -> Tensor:
        """Cosine of every pixel with every text: [K, H, W] in [-1, 1], float32, on the backbone's device.

        Args:
            texts: K strings.
            templates: a set of `core.text.prompts`; "identity" encodes the strings as they stand.
            size: (H, W) of the result; the image's own by default (4 bytes per pixel and text).
        """
        return self._finest_grid().resize(self._average(texts, templates), size or self.size)

    @torch.no_grad()
    def scores(self, texts: Sequence[str], templates: str = "identity") -> Tensor:
        """Pixel score of every text: the maximum of its unrefined map over the finest grid, [K] in [-1, 1]."""
        return peak_cells(self._average(texts, templates), self._finest_grid())[0]

    @torch.no_grad()
    def peaks(self, texts: Sequence[str], templates: str = "identity") -> Tensor:
        """The pixel of the image where each text scores highest (centre of its cell): int64 [K, 2] = (x, y)."""
        grid, (height, width) = self._finest_grid(), torch.tensor(self.size)
        return cells_to_pixels(
            peak_cells(self._average(texts, templates), grid)[1], grid, height, width
        )

    @torch.no_grad()
    def soft_masks(
        self, texts: Sequence[str], templates: str = "identity", size: tuple[int, int] | None = None
    ) -> Tensor:
        """Soft masks [K, H, W] in [0, 1]: `sigmoid(a (S - b))` with the backbone's a and b, then `refine`.

        Refinement runs at the image's size, at most 1024 pixels on the long side (`REFINE_SIDE`);
        the result is resized bilinearly to `size` (by default the image's own).
        """
        size = size or self.size
        masks = self.backbone.soft_mask(self._average(texts, templates))  # [K, h, w]
        if self.refine is None:
            return self._finest_grid().resize(masks, size)
        image = self._bounded_image()
        masks = self._finest_grid().resize(masks, image.shape[:2])
        masks = self._refined(masks, image)
        return F.interpolate(masks[None], size=size, mode="bilinear", align_corners=False)[0]

    def _encode(self, pixels: np.ndarray, scale: float) -> list[View]:
        """The views of one scale: [as it is] or [as it is, mirrored], encoded in one batch."""
        image = resized_tensor(pixels, round(self.image_size * scale))[None]  # [1, 3, H, W]
        return encode_views(self.backbone, image, self.hflip, pooled=False)[0]

    def _average(self, texts: Sequence[str], templates: str) -> Tensor:
        """Similarity maps averaged over the views on the finest grid, [K, h, w] float32."""
        self._picture()
        if isinstance(texts, str) or not texts:
            raise TTDError("texts must be a list of at least one string")
        return average_maps(self.backbone, self._views, self._embed(texts, templates))[0]

    def _embed(self, texts: Sequence[str], templates: str) -> Tensor:
        """Text embeddings [K, D]; each text is encoded once and remembered."""
        new = list(dict.fromkeys(text for text in texts if (templates, text) not in self._embedded))
        if new:
            if templates == "identity":
                encoded = self.backbone.encode_text(new)
            else:
                from .text.prompts import embed_classes  # late: reads and writes its cache on disk

                encoded = embed_classes(self.backbone, new, templates)
            self._embedded.update(
                ((templates, text), row) for text, row in zip(new, encoded, strict=True)
            )
        return torch.stack([self._embedded[templates, text] for text in texts])

    def _refined(self, masks: Tensor, image: np.ndarray) -> Tensor:
        """PAMR or CRF: masks [K, H, W] along the edges of uint8 [H, W, 3] -> [K, H, W]."""
        if self.refine == "crf":
            return refine_soft_masks(image, masks)
        if (
            self._edges is None
        ):  # PAMR's weights depend on the image alone: one computation serves every word
            self._edges = self._pamr.weights(_to_tensor(image).to(masks))
        return torch.cat(
            [self._pamr.refine(self._edges, chunk[None])[0] for chunk in masks.split(CHUNK)]
        )

    def _bounded_image(self) -> np.ndarray:
        """The image, its long side at most `REFINE_SIDE`: uint8 [H, W, 3]."""
        image = self._picture()
        if max(image.shape[:2]) <= REFINE_SIDE:
            return image
        factor = REFINE_SIDE / max(image.shape[:2])
        height, width = (max(1, round(side * factor)) for side in image.shape[:2])
        return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BOX))

    def _picture(self) -> np.ndarray:
        if self._image is None:
            raise TTDError("no image yet: call set_image(image) before asking for words")
        return self._image

    def _finest_grid(self) -> Grid:
        """The grid with the most cells."""
        self._picture()
        return finest_grid(self._views)


def _to_tensor(image: np.ndarray) -> Tensor:
    """uint8 [H, W, 3] -> float32 [1, 3, H, W] in [0, 1]."""
    return torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float() / 255
