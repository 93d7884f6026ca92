"""The averaged maps of an image, as a mask protocol asks for them."""

from __future__ import annotations

from torch import Tensor

from ..backbones.base import Backbone
from ..maps.sliding import WINDOWS, Merged, merge_views
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
    backbone.notice(*prepared.size)
    if not used.by_window:
        soft = used.mapping == "sigmoid"
        return merge_views(backbone, prepared, text, used.views, soft=soft, batch=batch)
    inside = MaskSettings(used.pamr and used.pamr_at == "window", known(used.kp_weight))
    return merge_masks(backbone, prepared, text, used.views, inside, batch)
