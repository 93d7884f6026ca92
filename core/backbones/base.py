"""What every backbone offers: text and pixels in one space, similarity maps, soft masks."""

import hashlib
import warnings
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import TTDError
from ..refine.pamr import PAMR
from .layers import at_least_float32
from .own_settings import OwnSettings
from .readouts import cosine_maps
from .towers import TextTower, VisionTower, pad_to_multiple

CLIP_MASK = (10.0, 0.25)  # TCL's mapping of CLIP cosines to soft masks: sigmoid(10 (S - 0.25))
EPS = 1e-6  # smallest norm a vector is divided by, as in TCL


@dataclass(frozen=True)
class Preprocess:
    """How this model's images are normalized, and the size it was trained at.

    mean, std: per RGB channel, of values in [0, 1]; image_size: side in pixels.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    image_size: int


class Backbone(nn.Module):
    """Dense CLIP: the cosine of `encode_text` and `encode_pixels` is a similarity map.

    Attributes:
        arch: the name it was loaded by.
        head: its dense head, a name of `core.backbones.heads.HEADS`.
        patch: side of a patch in pixels.
        stride: pixels per cell of `encode_pixels`.
        image_size: the model's own input side in pixels.
        logit_scale: CLIP's temperature, logits = logit_scale * cosine.
        mask_scale, mask_bias: a, b of the soft mask `sigmoid(a (S - b))`.
        own: what its folder's config says about it, the defaults that suit it among that.
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
        """A backbone from its parts.

        Args:
            visual, text: the towers.
            tokenizer: strings -> token ids [N, L]; its attribute `key`, where it has one, says what
                decides the ids.
            preprocess: mean, std and image size.
            logit_scale: CLIP's temperature.
            mask: (a, b) of the soft mask.
        """
        super().__init__()
        self.visual, self.text = visual, text
        self.image_size, self.patch, self.stride = preprocess.image_size, visual.patch, visual.patch
        self.logit_scale = logit_scale
        self._tokenizer = tokenizer
        self.pamr = PAMR()  # a job of many images puts its own here
        # Plain numbers, not tensors of the module: a cast to bfloat16 must not round what decides
        # thresholds.
        self._mask, self._preprocess = mask, preprocess
        self.own = OwnSettings()
        self._noticed = False
        self._checksum: tuple[tuple[tuple[int, int], ...], str] | None = None

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

    def notice(self, height: int, width: int) -> None:
        """Warn, once, for an image of [height, width] pixels of a kind that the model never saw.

        Only shapes are looked at: the world's drawings are square, most photographs are not.
        """
        own = self.own
        if self._noticed or not own.trained_on or not own.square or height == width:
            return
        self._noticed = True
        warnings.warn(
            f"{self.arch} knows {own.trained_on} and nothing else; an image of {width} x {height} "
            "pixels is none of them, so what it finds there means nothing: for photographs use "
            "--arch CLIP or TCL",
            stacklevel=2,
        )

    @property
    def checksum(self) -> str:
        """SHA-256 (first 32 hex digits) of every weight by name, an adapter's included.

        Caches and results are keyed by it; computed once for each state of the weights.
        """
        tensors = sorted(self.state_dict(keep_vars=True).items())
        version = tuple((tensor.data_ptr(), _version_of(tensor)) for _, tensor in tensors)
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
        """What decides the token ids of a text: another tokenizer gives other embeddings."""
        key: str = getattr(self._tokenizer, "key", "")
        return key

    @property
    def tokenizer(self) -> Callable[[list[str]], Tensor]:
        """Strings -> token ids [N, L], on the CPU."""
        return self._tokenizer

    def merges(self) -> bytes | None:
        """The tokenizer's own byte-pair merges, gzipped; None: CLIP's. TTDError: another kind."""
        merges: bytes | None = getattr(self._tokenizer, "merges", None)
        return merges

    def normalize(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W], float RGB in [0, 1] -> `(images - mean) / std`, same shape.

        The result is on the model's device and in its dtype. Errors: TTDError for other shapes and
        for integers.
        """
        if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
            raise TTDError(
                "normalize needs float images [B, 3, H, W] in [0, 1], "
                f"got {images.dtype} {list(images.shape)}"
            )
        mean = torch.tensor(self._preprocess.mean, device=self.device).view(3, 1, 1)
        std = torch.tensor(self._preprocess.std, device=self.device).view(3, 1, 1)
        return ((images.to(self.device) - mean) / std).to(self.dtype)

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Strings -> token ids [N, L] on the model's device, cut to the model's context.

        Errors: TTDError for one string in place of a list, and for a tokenizer that needs a
        download.
        """
        if isinstance(texts, str):
            raise TTDError(
                "encode_text and tokenize need a list of strings, got one string: put it in a list"
            )
        return self._tokenizer(list(texts)).to(self.device)

    def encode_tokens(self, tokens: Tensor) -> Tensor:
        """Token ids [N, L] -> text embeddings [N, D], not normalized."""
        embeddings: Tensor = self.text(tokens.to(self.device))
        return embeddings

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """Raw strings (no template) -> text embeddings [N, D], not normalized."""
        return self.encode_tokens(self.tokenize(texts))

    def encode_image(self, images: Tensor) -> Tensor:
        """Normalized images [B, 3, H, W] -> pooled image embeddings [B, D], not normalized."""
        return self.visual.pooled(self.pad(images)[0])

    @abstractmethod
    def encode_pixels(self, images: Tensor) -> Tensor:
        """Normalized images [B, 3, H, W] -> pixel embeddings [B, D, h, w], not normalized.

        See `pad` for h and w.
        """

    def encode_both(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """`encode_pixels` and `encode_image` of images [B, 3, H, W]: [B, D, h, w] and [B, D].

        Subclasses run the blocks that the two share only once.
        """
        return self.encode_pixels(images), self.encode_image(images)

    @abstractmethod
    def masks(
        self, images: Tensor, text_embeddings: Tensor, *, pamr: bool = False, kp_weight: float = 0.0
    ) -> Tensor:
        """Soft masks [B, N, H, W] in [0, 1] at the images' size.

        Args:
            images: normalized [B, 3, H, W], any H and W.
            text_embeddings: [N, D], any length.
            pamr: refine with PAMR (TCL: on the map's grid, before KP; others: at the images' size).
            kp_weight: share of TCL's "knowledge prior" branch in [0, 1]; TTDError for backbones
                that have none.
        """

    def pad(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Zero-pad normalized images, centred, to multiples of the patch.

        `encode_pixels` and `encode_image` pad by themselves; pixel embeddings cover the padded
        image: h = H'/stride, w = W'/stride.

        Args: images [B, 3, H, W], any device and float type.
        Returns: [B, 3, H', W'] on the model's device in its dtype, and (top, left) of the image in
            it.
        Errors: TTDError for other shapes and for empty images.
        """
        if images.ndim != 4 or images.shape[1] != 3 or not images.numel():
            raise TTDError(
                f"images must be [B, 3, H, W] with no empty side, got {list(images.shape)}"
            )
        return pad_to_multiple(images.to(self.device, self.dtype), self.patch)

    def similarity(self, pixels: Tensor, text: Tensor) -> Tensor:
        """Cosine of every pixel with every text.

        Args:
            pixels: [B, D, h, w], any length.
            text: [N, D], or [B, N, D]: N texts of its own for each image.

        Returns: [B, N, h, w] in [-1, 1], at least float32.
        Errors: TTDError when the two have different D.
        """
        if pixels.ndim != 4 or text.ndim not in (2, 3) or text.shape[-1] != pixels.shape[1]:
            raise TTDError(
                f"pixel embeddings {list(pixels.shape)} and text embeddings {list(text.shape)} do "
                "not go together: they must be [B, D, h, w] and [N, D] of one model"
            )
        text = F.normalize(at_least_float32(text), dim=-1, eps=EPS)
        pixels = F.normalize(at_least_float32(pixels), dim=1, eps=EPS)
        return cosine_maps(pixels, text.to(pixels))

    def soft_mask(self, similarity: Tensor) -> Tensor:
        """`sigmoid(a (S - b))`: cosines [...] of any shape -> [...] in [0, 1]."""
        return torch.sigmoid(self.mask_scale * (similarity - self.mask_bias))


def resize_maps(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """[B, N, h, w] -> [B, N, H, W], bilinear, align_corners False; N may be 0."""
    if maps.shape[1] == 0:
        return maps.new_empty(*maps.shape[:2], *size)
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)


def crop(maps: Tensor, corner: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """[..., H', W'] -> [..., H, W]: the part of `size` (H, W) whose (top, left) is `corner`."""
    (top, left), (height, width) = corner, size
    return maps[..., top : top + height, left : left + width]


def size_of(images: Tensor) -> tuple[int, int]:
    """(H, W) of [..., H, W]."""
    return images.shape[-2], images.shape[-1]


def _version_of(tensor: Tensor) -> int:
    """A number that changes with every change in place."""
    # Inference tensors keep no version, but nothing can change them in place outside of inference
    # mode either.
    return 0 if tensor.is_inference() else tensor._version
