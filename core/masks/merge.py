"""The averaged maps of an image, as a mask protocol asks for them."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..backbones.base import Backbone
from ..maps.sliding import WINDOWS, Merged, merge_views_each
from ..maps.sliding_masks import MaskSettings, merge_masks
from ..maps.views import Prepared
from .protocol import MaskProtocol, known


def merge(
    backbone: Backbone, prepared: Prepared, text: Tensor, used: MaskProtocol, batch: int = WINDOWS
) -> Merged:
    """Encode all views of an image and average their maps for text embeddings [N, D].

    used: resolved protocol; prepared: `prepare(pixels, used.views)`. batch: windows per forward
    pass, which changes results by rounding only.
    """
    return merge_each(backbone, prepared, [text], used, batch)[0]


def merge_each(
    backbone: Backbone,
    prepared: Prepared,
    texts: Sequence[Tensor],
    used: MaskProtocol,
    batch: int = WINDOWS,
) -> list[Merged]:
    """`merge` for several sets of texts [N, D], each as it would be alone.

    The image is encoded once for all, but by protocols that work inside the windows.
    """
    backbone.notice(*prepared.size)
    if not used.by_window:
        soft = used.mapping == "sigmoid"
        return merge_views_each(backbone, prepared, texts, used.views, soft=soft, batch=batch)
    inside = MaskSettings(used.pamr and used.pamr_at == "window", known(used.kp_weight))
    return [merge_masks(backbone, prepared, text, used.views, inside, batch) for text in texts]
