"""Boxes for phrases: an image is encoded once, then asked as often as wanted.

grounder = load_grounder("clip-vg.pth")
grounder.set_image("photo.jpg")
grounder.boxes(["the woman in red on the left", "dog"])     # [2, 4], corners in pixels
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..data.grounding_view import Pixels, Placement, Seen, view
from ..data.images import read_image
from ..errors import TTDError
from .batches import asked_text
from .model import GroundingModel, patch_mask
from .run_config import QUERY
from .weights.checkpoint import load_model

CHUNK = 64  # phrases through the encoder at a time


@dataclass(frozen=True)
class Encoded:
    """B images as the encoder wants them: visual [B, 1 + P, D], ignored bool [B, P], placements."""

    visual: Tensor
    ignored: Tensor
    placements: tuple[Placement, ...]


class Grounder:
    """A trained model that is asked. Not for several threads at once."""

    def __init__(self, model: GroundingModel, prompt: str = QUERY):
        """prompt: what phrases were put into when the model was trained."""
        self.model, self.prompt = model.eval(), prompt
        self._image: Encoded | None = None

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.reg_token.weight.device

    def set_image(self, image: str | Path | Image.Image | Pixels) -> None:
        """Encode an image: a path, PIL image or uint8 [H, W, 3] RGB. TTDError: unreadable."""
        self._image = self.encode([pixels_of(image)])

    def boxes(self, phrases: Sequence[str]) -> Tensor:
        """The box of every phrase in the image: float64 [N, 4], corners in its pixels.

        TTDError before `set_image`, or for an empty phrase.
        """
        return self.locate(self._known(), phrases, [0] * len(phrases))

    def attention(self, phrase: str) -> Tensor:
        """Where the box token looks for a phrase: float32 [H, W] in [0, 1] over the image.

        The last layer's attention to the patches, mean over heads, over its largest value.
        """
        image = self._known()
        tokens, text = self._encode_texts([phrase])
        with torch.inference_mode():
            _, seen = self.model.fuse(image.visual, image.ignored, text, tokens, weights=True)
        if seen is None:
            raise TTDError("the encoder gave no attention")
        return self._on_image(seen[0], image.placements[0])

    @torch.inference_mode()
    def encode(self, images: Sequence[Pixels]) -> Encoded:
        """Run the image tower: uint8 [H, W, 3] RGB each."""
        return self.encode_views([view(image, self.model.config.image_size) for image in images])

    @torch.inference_mode()
    def encode_views(self, views: Sequence[Seen]) -> Encoded:
        """The same for images already on their canvas."""
        pixels = torch.stack([seen.image for seen in views]).to(self.device)
        ignored = torch.stack([seen.ignored for seen in views]).to(self.device)
        visual = self.model.encode_images(pixels)
        mask = patch_mask(ignored, self.model.backbone.patch)
        return Encoded(visual, mask, tuple(seen.placement for seen in views))

    def locate(self, images: Encoded, phrases: Sequence[str], owners: Sequence[int]) -> Tensor:
        """Boxes [N, 4] in pixels of N phrases, each about image `owners[i]` of the encoded ones."""
        canvas = self.locate_on_canvas(images, phrases, owners)
        placed = [
            images.placements[owner].to_pixels(box)
            for owner, box in zip(owners, canvas.cpu(), strict=True)
        ]
        return torch.stack(placed) if placed else torch.zeros(0, 4, dtype=torch.float64)

    @torch.inference_mode()
    def locate_on_canvas(
        self, images: Encoded, phrases: Sequence[str], owners: Sequence[int]
    ) -> Tensor:
        """The same as cxcywh [N, 4] in [0, 1] relative to the canvas."""
        parts = []
        for rows in _chunks(len(phrases)):
            owner = torch.tensor([owners[row] for row in rows], device=self.device)
            tokens, text = self._encode_texts([phrases[row] for row in rows])
            boxes, _ = self.model.fuse(images.visual[owner], images.ignored[owner], text, tokens)
            parts.append(boxes)
        return torch.cat(parts) if parts else torch.zeros(0, 4)

    @torch.inference_mode()
    def _encode_texts(self, phrases: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Token ids [N, n] and text tokens [N, n, D]; equal phrases go through the tower once."""
        texts = [asked_text(phrase, self.prompt) for phrase in phrases]
        if any(not text.strip() for text in texts):
            raise TTDError("an empty phrase stands for nothing: give words")
        distinct = list(dict.fromkeys(texts))
        places = torch.tensor([distinct.index(text) for text in texts], device=self.device)
        ids = self.model.backbone.tokenize(distinct)[:, : self.model.config.context]
        ids = self.model.cut(ids)
        return ids[places], self.model.encode_texts(ids)[places]

    def _known(self) -> Encoded:
        if self._image is None:
            raise TTDError("no image yet: call set_image first")
        return self._image

    def _on_image(self, attention: Tensor, place: Placement) -> Tensor:
        """Attention of the patches [P] -> [H, W] over the image, padding cut off."""
        side = self.model.config.image_size // self.model.backbone.patch
        grid = attention.float().reshape(1, 1, side, side)
        size = (place.size, place.size)
        canvas = F.interpolate(grid, size=size, mode="bilinear", align_corners=False)[0, 0]
        height = max(1, round(place.height * place.ratio))
        width = max(1, round(place.width * place.ratio))
        cut = canvas[place.top : place.top + height, place.left : place.left + width]
        whole = F.interpolate(
            cut[None, None], size=(place.height, place.width), mode="bilinear", align_corners=False
        )[0, 0]
        return (whole / whole.max().clamp(min=1e-12)).cpu()


def load_grounder(
    weights: str | Path,
    *,
    arch: str | None = None,
    device: str | torch.device | None = None,
    **sizes: Any,
) -> Grounder:
    """A trained model ready to be asked: CLIP-VG's .pth, our .safetensors or a name on the Hub.

    See `load_model`.
    """
    from .weights.checkpoint import model_file, read_info

    path = model_file(weights)
    model = load_model(path, arch, device, sizes)
    prompt = QUERY
    if path.suffix == ".safetensors":
        prompt = str(read_info(path)["info"].get("prompt", QUERY))
    return Grounder(model, prompt)


def pixels_of(image: str | Path | Image.Image | Pixels) -> Pixels:
    """Any image as uint8 [H, W, 3] RGB. TTDError for what is none."""
    if isinstance(image, Image.Image):
        return np.array(image.convert("RGB"))
    if isinstance(image, np.ndarray):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise TTDError(f"images must be uint8 [H, W, 3], got {image.dtype} {image.shape}")
        return image
    pixels: Pixels = read_image(image)
    return pixels


def _chunks(count: int) -> Iterator[range]:
    for start in range(0, count, CHUNK):
        yield range(start, min(start + CHUNK, count))
