"""CLIP and its relatives: any open_clip ViT with a dense head."""

from torch import Tensor

from ..errors import TTDError
from .base import Backbone, resize_maps
from .towers import to_map


class CLIPBackbone(Backbone):
    """`encode_pixels` = the image tower with its last attention changed to `head`; stride = patch."""

    def encode_pixels(self, images: Tensor) -> Tensor:
        """Normalized [B,3,H,W] -> [B,D,ceil(H/patch),ceil(W/patch)], not normalized."""
        return self.visual.dense(self.pad(images)[0], self.head)

    def encode_both(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Pixel and pooled embeddings [B,D,h,w], [B,D]: the blocks that both share are run once."""
        visual, last = self.visual, self.visual.blocks[-1]
        x, grid = visual.before_block(self.pad(images)[0], len(visual.blocks) - 1)
        whole = last(x)
        tokens = (
            whole[:, visual.prefix :]
            if self.head == "vanilla"
            else visual.last_block(x, grid, self.head)
        )
        return to_map(visual.readout.dense(tokens), grid), visual.readout.pooled(
            whole, visual.prefix
        )

    def masks(
        self, images: Tensor, text_embeddings: Tensor, *, pamr: bool = False, kp_weight: float = 0.0
    ) -> Tensor:
        """See `Backbone.masks`: soft mask on the patch grid, resized, padding cropped, PAMR at the images' size."""
        if kp_weight:
            raise TTDError(
                f"kp_weight mixes in TCL's knowledge prior; {self.arch} has none: use kp_weight 0 or TCL"
            )
        padded, (top, left) = self.pad(images)
        soft = self.soft_mask(
            self.similarity(self.visual.dense(padded, self.head), text_embeddings)
        )
        soft = resize_maps(soft, padded.shape[-2:])
        soft = soft[..., top : top + images.shape[-2], left : left + images.shape[-1]]
        return self.pamr(images.to(soft), soft) if pamr else soft
