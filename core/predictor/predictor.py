"""Encode an image once, ask it many words.

predictor = Predictor(load_backbone("tiny"), scales=(1.0, 0.5), refine="pamr")
predictor.set_image("street.jpg")          # expensive, once: a path, Pillow image, array, tensor
predictor.scores(["dog", "tree"])          # cheap, many: best cosine of each word in the image
predictor.soft_masks(["dog", "tree"])      # [2, H, W] in [0, 1]
predictor.label_map(["dog", "tree"])       # [H, W]: 0 background, 1 dog, 2 tree
for one in predictor.each(paths):          # many images
    one.to_coco_rle(["dog", "tree"])
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from ..backbones.base import Backbone
from ..backbones.own_settings import ModelDefaults
from ..data.any_image import ImageLike, as_pixels
from ..errors import TTDError
from ..maps.encode import (
    EncodedView,
    average_maps,
    cells_to_pixels,
    encode_views,
    finest_grid,
    peak_cells,
)
from ..maps.grid import Grid
from ..maps.views import Prepared, Views, prepare
from ..masks.pipeline import label_image
from ..plots.label_overlay import overlay, with_legend
from ..refine.crf import refine_soft_masks
from ..refine.pamr import PAMR
from .arguments import checked_templates, classes_of, is_whole, size_of, texts_of, views_of
from .images import bounded, to_tensor
from .labelled import NO_BACKGROUND, THRESHOLD, coco_entries, entries_of, settings

REFINERS = ("pamr", "crf")
# Refinement needs 48 planes of the image's size: at 20 megapixels that would be 4 GB.
REFINE_SIDE = 1024
CHUNK = 32  # maps refined at a time
TOGETHER = 8  # images of one size that `each` encodes in one pass

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
            refine: None, "pamr" or "crf"; acts on soft masks and label maps alone.
            pictures: how many images there will be, about; PAMR has a faster path for many.
        Raises TTDError for values outside of these, and for "crf" where pydensecrf2 is not
        installed.
        """
        if not hasattr(backbone, "encode_pixels"):
            raise TTDError(f"backbone: {backbone!r} is no model; give load_backbone('tiny')")
        size = 2 * backbone.image_size if image_size is None else image_size
        self.views, self._own_size = views_of(size, scales, hflip), image_size is None
        if not is_whole(pictures):
            raise TTDError(f"pictures must be a whole number from 1, got {pictures!r}")
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
        self._labelled: dict[tuple[Any, ...], Pixels] = {}

    @property
    def image_size(self) -> int:
        """Short side in pixels at scale 1."""
        return self.views.size

    @torch.no_grad()
    def set_image(self, image: ImageLike) -> None:
        """Encode an image: a path, a Pillow image, an array or a tensor, see `as_pixels`.

        Arrays are uint8 [H, W, 3] in RGB (OpenCV's BGR is image[..., ::-1]). The expensive call,
        once. Raises TTDError for what is no image or cannot be read.
        """
        # Before anything can fail: after an error the previous image's maps must not be taken for
        # this one's.
        self._forget()
        pixels = as_pixels(image)
        self._encoded = self._encode([prepare(pixels, self.views)])
        self._image = pixels

    def each(self, images: Iterable[ImageLike]) -> Iterator[Predictor]:
        """Set many images in turn: this predictor, once for each, to be asked as ever.

        images: any mixture of what `set_image` takes. Neighbours of one size are encoded together,
        `TOGETHER` at most, which is faster on a GPU and moves results by rounding only. Raises
        TTDError at the first that is no image, naming it; those before it have been yielded.
        """
        if isinstance(images, str | bytes) or not isinstance(images, Iterable):
            raise TTDError("each wants a list of images; one alone goes to set_image")
        waiting: list[tuple[Pixels, Prepared]] = []
        for number, image in enumerate(images):
            try:
                pixels = as_pixels(image, f"image {number}")
            except TTDError:
                yield from self._set_together(waiting)
                self._forget()
                raise
            prepared = prepare(pixels, self.views)
            full = len(waiting) == TOGETHER
            if waiting and (full or waiting[0][1].shapes != prepared.shapes):
                yield from self._set_together(waiting)
                waiting = []
            waiting.append((pixels, prepared))
        yield from self._set_together(waiting)

    @torch.no_grad()
    def _encode(self, prepared: Sequence[Prepared]) -> list[EncodedView]:
        """The views of images of one size."""
        return encode_views(self.backbone, prepared, self.views)[0]

    def _set_together(self, images: Sequence[tuple[Pixels, Prepared]]) -> Iterator[Predictor]:
        """Encode images of one size together, then set one after the other."""
        if not images:
            return
        views = self._encode([prepared for _, prepared in images])
        for row, (pixels, _) in enumerate(images):
            self._forget()
            self._encoded = [view.only(row) for view in views]
            self._image = pixels
            yield self

    def _forget(self) -> None:
        """Let go of the image and all that is known of it."""
        self._image, self._encoded, self._edges = None, [], None
        self._labelled.clear()

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
        return self._finest_grid().resize(maps, self._size_or_own(size))

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
        size = self._size_or_own(size)
        if self.refine is None:
            return self._finest_grid().resize(masks, size)
        image = bounded(self._pixels(), REFINE_SIDE)
        masks = self._finest_grid().resize(masks, (image.shape[0], image.shape[1]))
        masks = self._refined(masks, image)
        return F.interpolate(masks[None], size=size, mode="bilinear", align_corners=False)[0]

    def label_map(
        self,
        classes: Sequence[str],
        background_threshold: float | None = None,
        templates: str | None = None,
        background: bool = True,
    ) -> Pixels:
        """Label map uint8 [H, W]: 0 is the background, k the k-th class (from 1).

        As `produce_masks_from_tags.py` makes it: sliding windows of the short side, soft masks
        averaged over all views, then `refine`, then the best class. The image is encoded anew for
        it; the answer for the same classes is remembered. Where nothing is said (`image_size` of
        the predictor too), the model's own defaults hold, as in the script.

        Args:
            classes: 1 to 254 names, "person|human" for synonyms; no background among them.
            background_threshold: in [0, 1], below it a pixel is background; usually 0.40.
            templates: a set of `core.text.prompts`, usually OpenAI.
            background: False for the best class everywhere.
        Raises TTDError for other values, and before an image is set.
        """
        pixels = self._pixels()
        names = classes_of(classes)
        threshold = background_threshold if background else NO_BACKGROUND
        own = self.backbone.own.defaults
        used = settings(self._asked_views(own), self.refine, threshold, templates, own)
        key = (tuple(names), used)
        if key not in self._labelled:
            used = used.resolve(self.backbone.arch, self.backbone.image_size, "none", THRESHOLD)
            self._labelled[key] = label_image(self.backbone, pixels, names, used, self._pamr)
        labels: Pixels = self._labelled[key].copy()
        return labels

    def overlay(
        self,
        classes: Sequence[str],
        background_threshold: float | None = None,
        templates: str | None = None,
        background: bool = True,
        legend: bool = False,
    ) -> Pixels:
        """The image with its `label_map` over it: uint8 [H, W, 3] RGB; arguments as there.

        Classes have PASCAL VOC's colours; the background is the image as it is. legend: name the
        classes that are there, below the image (the result is then higher).
        """
        labels = self.label_map(classes, background_threshold, templates, background)
        entries = entries_of(labels, classes_of(classes))
        drawn = overlay(self._pixels(), labels, entries)
        return with_legend(drawn, entries) if legend else drawn

    def to_coco_rle(
        self,
        classes: Sequence[str],
        background_threshold: float | None = None,
        templates: str | None = None,
        background: bool = True,
    ) -> list[dict[str, Any]]:
        """The `label_map` as COCO writes masks, an entry for each class that is there.

        {"category_id": k (from 1), "category": name, "segmentation": {"size": [H, W], "counts":
        compressed str}, "area": pixels, "bbox": [x, y, width, height]}; JSON as it is, and
        pycocotools reads the segmentation. Arguments as of `label_map`.
        """
        labels = self.label_map(classes, background_threshold, templates, background)
        return coco_entries(labels, classes_of(classes))

    def _asked_views(self, own: ModelDefaults) -> Views:
        """The views of a label map: of the model's own size where no other was asked for."""
        if self._own_size and own.image is not None:
            return replace(self.views, size=own.image)
        return self.views

    def _size_or_own(self, size: tuple[int, int] | None) -> tuple[int, int]:
        """A size (H, W) that was asked for, or the image's."""
        return self.size if size is None else size_of(size)

    def _average(self, texts: Sequence[str], templates: str) -> Tensor:
        """Similarity maps averaged over the views on the finest grid, [K, h, w] float32."""
        self._pixels()
        embedded = self._embed(texts_of(texts), checked_templates(templates))
        return average_maps(self.backbone, self._encoded, embedded)[0]

    def _embed(self, texts: Sequence[str], templates: str) -> Tensor:
        """Text embeddings [K, D]; each text is encoded once and remembered."""
        new = list(dict.fromkeys(text for text in texts if (templates, text) not in self._embedded))
        if new:
            if templates == "identity":
                encoded = self.backbone.encode_text(new)
            else:
                from ..text.prompts import embed_classes  # late: reads and writes its cache on disk

                encoded = embed_classes(self.backbone, new, templates)
            for text, row in zip(new, encoded, strict=True):
                self._embedded[templates, text] = row
        return torch.stack([self._embedded[templates, text] for text in texts])

    def _refined(self, masks: Tensor, image: Pixels) -> Tensor:
        """PAMR or CRF: masks [K, H, W] along the edges of uint8 [H, W, 3] -> [K, H, W]."""
        if self.refine == "crf":
            return refine_soft_masks(image, masks)
        if self._edges is None:  # they depend on the image alone: computed once for every word
            self._edges = self._pamr.weights(to_tensor(image).to(masks))
        chunks = torch.split(masks, CHUNK)
        return torch.cat([self._pamr.refine(self._edges, chunk[None])[0] for chunk in chunks])

    def _pixels(self) -> Pixels:
        """The image, uint8 [H, W, 3]; TTDError when there is none yet."""
        if self._image is None:
            raise TTDError("no image yet: call set_image(image) before asking for words")
        return self._image

    def _finest_grid(self) -> Grid:
        """The grid with the most cells."""
        return finest_grid(self._encoded)
