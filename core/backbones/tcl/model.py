"""TCL (Text-grounded Contrastive Learning, CVPR 2023): a frozen CLIP and a masker at stride 4."""

import math
from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..base import Backbone, Preprocess, crop, resize_maps, size_of
from ..heads import HEADS
from ..layers import Block
from ..towers import TextTower, VisionTower, to_map
from .base import Facts
from .convolutions import conv_doubled, conv_same

LOGIT_SCALE = 100.0  # TCL keeps none of CLIP's own; 100 is CLIP's upper bound
KP_SCALE, KP_BIAS = 10.0, 0.25  # knowledge prior: sigmoid(10 (cos - 0.25))
TEMPERATURE = math.log(1 / 0.07)  # both losses' logit_scale before training


class Learned(nn.Module):
    """The four learned numbers of TCL's training: Sim2Mask's w, b and the losses' logit_scale.

    Float32 whatever the towers' type. Masks are sigmoid(w S + b).
    """

    def __init__(self, w: float, b: float, tcli: float, tclf: float):
        """tcli, tclf: logarithms of the temperatures of the image- and feature-level loss."""
        super().__init__()
        self.w, self.b = nn.Parameter(torch.tensor(w)), nn.Parameter(torch.tensor(b))
        self.tcli, self.tclf = nn.Parameter(torch.tensor(tcli)), nn.Parameter(torch.tensor(tclf))


class GatedConv(nn.Module):
    """`u + tanh(gate) * conv3x3(GELU(LayerNorm over channels(u)))`: [B, C, h, w] -> the same."""

    def __init__(self, width: int):
        """width: channels C."""
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-5)
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.gate = nn.Parameter(torch.zeros(()))

    def forward(self, u: Tensor, doubled: bool = False) -> Tensor:
        """[B, C, h, w] -> [B, C, h, w].

        doubled: as if `u` were first upsampled by 2 (nearest) -> [B, C, 2h, 2w].
        """
        normed = F.gelu(self.norm(u.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))
        # Norm and GELU see one cell at a time: they may act before the upsampling, on a quarter of
        # the cells.
        if doubled:
            u = F.interpolate(u, scale_factor=2, mode="nearest")
            return u + torch.tanh(self.gate) * conv_doubled(normed, self.conv)
        return u + torch.tanh(self.gate) * conv_same(normed, self.conv)


class Stage(nn.Module):
    """Nearest-neighbour upsampling by 2, then two gated convolutions."""

    def __init__(self, width: int):
        """width: channels C."""
        super().__init__()
        self.conv, self.conv2 = GatedConv(width), GatedConv(width)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, h, w] -> [B, C, 2h, 2w]."""
        out: Tensor = self.conv2(self.conv(x, doubled=True))
        return out


class Masker(nn.Module):
    """TCL's trained part: copied tail blocks, convolutional decoder, projection."""

    def __init__(self, blocks: list[Block], stages: int, width: int, dim: int):
        """blocks: the copies, at least one; stages: of the decoder; width C, dim D."""
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.stages = nn.Sequential(*[Stage(width) for _ in range(stages)])
        self.ln = nn.LayerNorm(width, eps=1e-5)
        self.proj = nn.Parameter(torch.zeros(width, dim))

    def forward(self, tap: Tensor, grid: tuple[int, int]) -> Tensor:
        """Tokens that enter the copied blocks -> pixel embeddings.

        Args: tap [B, 1+h*w, C]; grid (h, w).
        Returns: [B, D, 4h, 4w] with two stages, not normalized.
        """
        for block in self.blocks[:-1]:
            tap = block(tap)
        last = cast(Block, self.blocks[-1])
        x = to_map(HEADS["maskclip"](last, tap, grid, 1)[:, 1:], grid)
        channels_last = self.stages(x).permute(0, 2, 3, 1)
        pixels: Tensor = self.ln(channels_last) @ self.proj
        return pixels.permute(0, 3, 1, 2)


class TCLBackbone(Backbone):
    """`encode_pixels`: the masker's embedding at stride 4.

    Its cosine is the similarity map, without Sim2Mask and KP (knowledge prior).
    """

    def __init__(
        self,
        visual: VisionTower,
        text: TextTower,
        masker: Masker,
        tokenizer: Callable[[list[str]], Tensor],
        preprocess: Preprocess,
        mask: tuple[float, float],
        temperatures: tuple[float, float] = (TEMPERATURE, TEMPERATURE),
    ):
        """See `Backbone`.

        Args:
            masker: TCL's trained part.
            mask: (a, b) with `a (S - b)` equal to the checkpoint's learned Sim2Mask logits
                `w S + b'`.
            temperatures: `logit_scale` of the image- and the feature-level loss; only training
                needs them.
        """
        super().__init__(visual, text, tokenizer, preprocess, logit_scale=LOGIT_SCALE, mask=mask)
        self.masker = masker
        self.stride = self.patch // 2 ** len(masker.stages)
        self.temperatures = temperatures
        self.facts: Facts | None = None  # of its CLIP, where it is not of OpenAI's kind
        self.learned: Learned | None = None  # while it is trained

    def make_trainable(self) -> Learned:
        """The learned numbers as parameters, made at the first call; masks then follow them."""
        if self.learned is None:
            scale, bias = self._mask
            kind = torch.promote_types(self.dtype, torch.float32)
            learned = Learned(scale, -scale * bias, *self.temperatures)
            self.learned = learned.to(self.device, kind)
        return self.learned

    @property
    def mask_scale(self) -> float:
        """a of `sigmoid(a (S - b))`."""
        return self._mask[0] if self.learned is None else self.learned.w.item()

    @property
    def mask_bias(self) -> float:
        """b of `sigmoid(a (S - b))`."""
        if self.learned is None:
            return self._mask[1]
        return -self.learned.b.item() / self.learned.w.item()

    @property
    def _tapped(self) -> int:
        """Index of the frozen block that the masker's first block is a copy of."""
        return len(self.visual.blocks) - len(self.masker.blocks)

    def _tap(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Padded [B, 3, H, W] -> tokens [B, 1+h*w, C] that enter the copied blocks, and (h, w)."""
        return self.visual.before_block(images, self._tapped)

    def encode_pixels(self, images: Tensor) -> Tensor:
        """Normalized [B, 3, H, W] -> [B, D, 4*ceil(H/patch), 4*ceil(W/patch)], not normalized."""
        pixels: Tensor = self.masker(*self._tap(self.pad(images)[0]))
        return pixels

    def encode_both(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The masker's pixel embeddings [B, D, h, w] and the frozen CLIP's pooled one [B, D].

        The blocks before the tap run once.
        """
        x, grid = self._tap(self.pad(images)[0])
        pixels = self.masker(x, grid)
        for block in self.visual.blocks[self._tapped :]:
            x = block(x)
        return pixels, self.visual.readout.pooled(x, self.visual.prefix)

    def masks(
        self, images: Tensor, text_embeddings: Tensor, *, pamr: bool = False, kp_weight: float = 0.0
    ) -> Tensor:
        """Soft masks [B, N, H, W] in [0, 1], see `Backbone.masks`.

        TCL's inference graph: soft mask, PAMR on its grid, KP mixing, resize, crop.
        """
        padded, corner = self.pad(images)
        tap, grid = self._tap(padded)
        soft = self.soft_mask(self.similarity(self.masker(tap, grid), text_embeddings))
        if pamr:
            small = F.interpolate(
                padded.to(soft), size=soft.shape[-2:], mode="bilinear", align_corners=True
            )
            soft = self.pamr(small, soft)
        if kp_weight:
            prior = resize_maps(self._knowledge_prior(tap, grid, text_embeddings), size_of(soft))
            soft = kp_weight * prior + (1 - kp_weight) * soft
        return crop(resize_maps(soft, size_of(padded)), corner, size_of(images))

    def _knowledge_prior(
        self, tap: Tensor, grid: tuple[int, int], text_embeddings: Tensor
    ) -> Tensor:
        """The frozen CLIP's own value-path map at the patch stride, [B, N, h, w] in [0, 1]."""
        for block in self.visual.blocks[self._tapped : -1]:
            tap = block(tap)
        tokens = self.visual.last_block(tap, grid, "maskclip")
        frozen = to_map(self.visual.readout.dense(tokens), grid)
        return torch.sigmoid(KP_SCALE * (self.similarity(frozen, text_embeddings) - KP_BIAS))
