"""CLIP and its relatives: any open_clip ViT with a dense head."""

from torch import Tensor

from ..errors import TTDError
from .base import Backbone, crop, resize_maps, size_of
from .towers import to_map


class CLIPBackbone(Backbone):
    """`encode_pixels`: the image tower, its last attention changed to `head`; stride = patch."""

    def encode_pixels(self, images: Tensor) -> Tensor:
        """Normalized [B, 3, H, W] -> [B, D, ceil(H/patch), ceil(W/patch)], not normalized."""
        return self.visual.dense(self.pad(images)[0], self.head)

    def encode_both(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Pixel and pooled embeddings [B, D, h, w], [B, D]; the blocks that both share run once."""
        visual = self.visual
        x, grid = visual.before_block(self.pad(images)[0], len(visual.blocks) - 1)
        whole = visual.whole_last_block(x, grid)
        if self.head == "vanilla":
            tokens = whole[:, visual.prefix :]
        else:
            tokens = visual.last_block(x, grid, self.head)
        pixels = to_map(visual.readout.dense(tokens), grid)
        return pixels, visual.readout.pooled(whole, visual.prefix)

    def masks(
        self, images: Tensor, text_embeddings: Tensor, *, pamr: bool = False, kp_weight: float = 0.0
    ) -> Tensor:
        """Soft masks [B, N, H, W] in [0, 1], see `Backbone.masks`.

        Soft mask on the patch grid, resized, padding cropped, then PAMR at the images' size.
        Errors: TTDError for a kp_weight other than 0, and for texts of another width.
        """
        if kp_weight:
            raise TTDError(
                f"kp_weight mixes in TCL's knowledge prior, which {self.arch} does not have: "
                "use kp_weight 0 or TCL"
            )
        padded, corner = self.pad(images)
        pixels = self.visual.dense(padded, self.head)
        soft = self.soft_mask(self.similarity(pixels, text_embeddings))
        soft = crop(resize_maps(soft, size_of(padded)), corner, size_of(images))
        return self.pamr(images.to(soft), soft) if pamr else soft
