"""One picture of a visitor: its pixels, a copy for the eye, and what models have seen in it."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, field

from PIL import Image
from torch import Tensor

from ..data.images import Pixels
from ..plots.heat import resized
from ..predictor import Predictor, held_bytes
from ..predictor.images import to_tensor
from ..refine.pamr import PAMR

SHOWN = 640  # long side of what a browser gets to see, in pixels
MAP_SIDE = 320  # long side of a map on its way to the browser
QUALITY = 88  # of JPEG
MANY = 1000  # pictures that a page may see, for the choice of PAMR's path
PAMR_HERE = PAMR(pictures=MANY)


@dataclass
class Picture:
    """One picture: its name, pixels uint8 [H, W, 3], and what is known of it.

    shown: a copy for the eye, [h, w, 3], as a data URI. reduced: (H, W) of the file, where the
    pixels are a reduced copy.
    """

    name: str
    digest: str
    pixels: Pixels
    shown: str
    reduced: tuple[int, int] | None = None
    predictors: dict[tuple[str, str], Predictor] = field(default_factory=dict)
    _edges: Tensor | None = None  # PAMR's weights

    @property
    def held(self) -> int:
        """Bytes of the picture with all that is known of it."""
        known = sum(held_bytes(predictor) for predictor in self.predictors.values())
        edges = 0 if self._edges is None else self._edges.numel() * self._edges.element_size()
        return self.pixels.nbytes + len(self.shown) + edges + known

    @property
    def shown_size(self) -> tuple[int, int]:
        """(h, w) of `shown`."""
        return fitted_size(self.pixels, SHOWN)

    @property
    def map_size(self) -> tuple[int, int]:
        """(h, w) of maps on their way to the browser."""
        return fitted_size(self.pixels, MAP_SIDE)

    def refined(self, masks: Tensor) -> Tensor:
        """Maps [K, h, w] of `map_size` refined by PAMR along the edges of the picture at it."""
        if self._edges is None:  # of the picture alone: the same for every model and word
            small = to_tensor(resized(self.pixels, self.map_size)).to(masks)
            self._edges = PAMR_HERE.weights(small)
        return PAMR_HERE.refine(self._edges.to(masks.device), masks[None])[0]


def fitted_size(pixels: Pixels, side: int) -> tuple[int, int]:
    """(h, w) of an image [H, W, 3] with its long side at most `side` pixels, its shape kept."""
    height, width = pixels.shape[:2]
    factor = min(1.0, side / max(height, width))
    return max(1, round(height * factor)), max(1, round(width * factor))


def jpeg_uri(pixels: Pixels) -> str:
    """An image uint8 [H, W, 3] as a data URI."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=QUALITY, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def png_bytes(image: Image.Image, level: int = 6) -> bytes:
    """An image as PNG; level: of compression, 1 fast to 9 small."""
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=level)
    return file.getvalue()
