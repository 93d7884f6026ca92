"""What every backbone offers: text and pixels in one embedding space, similarity maps, soft masks."""

import hashlib
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import TTDError
from ..refine.pamr import PAMR
from .layers import at_least_float32
from .similarity import cosine_maps
from .towers import TextTower, VisionTower, pad_to_multiple

CLIP_MASK = (10.0, 0.25)  # TCL's mapping of CLIP cosines to soft masks: sigmoid(10 (S - 0.25))
EPS = 1e-6  # smallest norm a vector is divided by, as in TCL


@dataclass(frozen=True)
class Preprocess:
    """How this model's images are normalized: per-channel mean and std on [0,1], and its own side in pixels."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    image_size: int


class Backbone(nn.Module):
    """Dense CLIP: `encode_text` and `encode_pixels` give embeddings whose cosine is a similarity map.

    Attributes:
        arch: the name it was loaded by; head: its dense head; patch: side of a patch in pixels;
        stride: pixels per cell of `encode_pixels`; image_size: the model's own input side in
        pixels;
        logit_scale: CLIP's temperature, logits = logit_scale * cosine;
        mask_scale, mask_bias: a, b of the soft mask `sigmoid(a (S - b))`.
    """

    arch: str
    head: str
    stride: int

    def __init__(
        self,
        visual: VisionTower,
        text: TextTower,
        tokenizer: Callable[[list[str]], Tensor],
        preprocess: Preprocess,
        *,
        logit_scale: float,
        mask: tuple[float, float] = CLIP_MASK,
    ):
        """mask: (a, b) of the soft mask; the other arguments are the attributes."""
        super().__init__()
        self.visual, self.text = visual, text
        self.image_size, self.patch, self.stride = preprocess.image_size, visual.patch, visual.patch
        self.logit_scale = logit_scale
        self._tokenizer = tokenizer
        self.pamr = PAMR()  # a job of many images puts its own here
        # Plain numbers, not tensors of the module: a cast to bfloat16 must not round what decides
        # thresholds.
        self._mask, self._preprocess = mask, preprocess
        self._checksum: tuple[tuple, str] | None = None

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.visual.conv.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """The parameters' type; images are cast to it."""
        return self.visual.conv.weight.dtype

    @property
    def mask_scale(self) -> float:
        """a of `sigmoid(a (S - b))`."""
        return self._mask[0]

    @property
    def mask_bias(self) -> float:
        """b of `sigmoid(a (S - b))`: the cosine at which a pixel is half foreground."""
        return self._mask[1]

    @property
    def checksum(self) -> str:
        """SHA-256 (32 hex digits) of every weight by name, adapter included; what caches and results are keyed by."""
        tensors = sorted(self.state_dict(keep_vars=True).items())
        # Inference tensors keep no version, but nothing can change them in place outside of
        # inference mode either.
        version = tuple((t.data_ptr(), 0 if t.is_inference() else t._version) for _, t in tensors)
        if self._checksum is None or self._checksum[0] != version:
            digest = hashlib.sha256(repr((self._mask, self._preprocess)).encode())
            for name, tensor in tensors:
                plain = tensor.detach().cpu().contiguous()
                digest.update(f"{name}{tuple(plain.shape)}{plain.dtype}".encode())
                digest.update(plain.reshape(-1).view(torch.uint8).numpy())
            self._checksum = (version, digest.hexdigest()[:32])
        return self._checksum[1]

    @property
    def tokenizer_key(self) -> str:
        """What decides the token ids of a text: equal weights with another tokenizer give other embeddings."""
        return getattr(self._tokenizer, "key", "")

    def normalize(self, images: Tensor) -> Tensor:
        """[B,3,H,W] float in [0,1], RGB -> the same shape, minus the model's mean, over its std, in its dtype."""
        if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
            raise TTDError(
                f"normalize wants float images [B,3,H,W] in [0,1], got {images.dtype} {tuple(images.shape)}"
            )
        mean, std = (
            torch.tensor(values, device=self.device).view(3, 1, 1)
            for values in (self._preprocess.mean, self._preprocess.std)
        )
        return ((images.to(self.device) - mean) / std).to(self.dtype)

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Strings -> token ids [N,L] on the model's device; long texts are truncated to the model's context."""
        if isinstance(texts, str):
            raise TTDError(
                "encode_text and tokenize want a list of strings, got one string: put it into a list"
            )
        return self._tokenizer(list(texts)).to(self.device)

    def encode_tokens(self, tokens: Tensor) -> Tensor:
        """Token ids [N,L] -> text embeddings [N,D], not normalized."""
        return self.text(tokens.to(self.device))

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Raw strings (no template) -> text embeddings [N,D], not normalized."""
        return self.encode_tokens(self.tokenize(texts))

    def encode_image(self, images: Tensor) -> Tensor:
        """Normalized images [B,3,H,W] -> pooled image embeddings [B,D], not normalized."""
        return self.visual.pooled(self.pad(images)[0])

    @abstractmethod
    def encode_pixels(self, images: Tensor) -> Tensor:
        """Normalized images [B,3,H,W] -> pixel embeddings [B,D,h,w], not normalized; see `pad` for h, w."""

    def encode_both(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """`encode_pixels` and `encode_image` of the same images; subclasses run the blocks they share only once."""
        return self.encode_pixels(images), self.encode_image(images)

    @abstractmethod
    def masks(
        self, images: Tensor, text_embeddings: Tensor, *, pamr: bool = False, kp_weight: float = 0.0
    ) -> Tensor:
        """Soft masks [B,N,H,W] in [0,1] at the images' size.

        Args:
            images: normalized [B,3,H,W], any H and W.
            text_embeddings: [N,D], any length.
            pamr: refine with PAMR (TCL: on the map's grid, before KP; others: at the images' size).
            kp_weight: share of TCL's "knowledge prior" branch in [0,1]; TTDError for backbones that
            have none.
        """

    def pad(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Zero-pad normalized images [B,3,H,W], centred, to multiples of the patch: [B,3,H',W'] and (top, left).

        `encode_pixels` and `encode_image` pad by themselves; pixel embeddings cover the padded
        image: h = H'/stride, w = W'/stride.
        """
        if images.ndim != 4 or images.shape[1] != 3 or not images.numel():
            raise TTDError(
                f"images must be [B,3,H,W] with no empty side, got {tuple(images.shape)}"
            )
        return pad_to_multiple(images.to(self.device, self.dtype), self.patch)

    def similarity(self, pixels: Tensor, text: Tensor) -> Tensor:
        """Cosine of every pixel with every text: [B,D,h,w], [N,D] -> [B,N,h,w] in [-1,1], at least float32.

        `text` may also be [B,N,D]: N texts of its own for each image. TTDError when the two have
        different D.
        """
        if pixels.ndim != 4 or text.ndim not in (2, 3) or text.shape[-1] != pixels.shape[1]:
            raise TTDError(
                f"pixel embeddings {list(pixels.shape)} and text embeddings {list(text.shape)} do not go "
                "together: [B,D,h,w] and [N,D] of one model are due"
            )
        text = F.normalize(at_least_float32(text), dim=-1, eps=EPS)
        pixels = F.normalize(at_least_float32(pixels), dim=1, eps=EPS)
        return cosine_maps(pixels, text.to(pixels))

    def soft_mask(self, similarity: Tensor) -> Tensor:
        """`sigmoid(a (S - b))`: cosines of any shape -> [0,1]."""
        return torch.sigmoid(self.mask_scale * (similarity - self.mask_bias))


def resize_maps(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """[B,N,h,w] -> [B,N,H,W], bilinear, align_corners False; N may be 0."""
    if maps.shape[1] == 0:
        return maps.new_empty(*maps.shape[:2], *size)
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)
