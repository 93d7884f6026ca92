"""Pixel-adaptive mask refinement (PAMR, Araslanov & Roth, CVPR 2020).

As TCL (CVPR 2023) applies it to soft masks. For pixel i let N(i) be its 8 neighbours at each
dilation d (48 for the six default dilations), indices clamped to the image ("replicate" padding);
x_ic is channel c of the image:

    sigma_ic = unbiased standard deviation over the 3x3 taps of all dilations
               (54 values: the centre counts once per d)
    a_ij     = mean_c( -|x_ic - x_jc| / (1e-8 + 0.1 * sigma_ic) )
    alpha_i  = softmax over the j of N(i) of a_ij
    repeat:    m_i <- sum_j alpha_ij * m_j          (the pixel itself is not in the sum)

alpha depends on the image alone: compute it once (`weights`), use it for every class, tag set and
threshold (`refine`). The alpha are positive and sum to 1, so a map never leaves its own [min, max].

Nothing of size classes x 48 x pixels ever exists. `PAMR.path` says which of four ways a sum takes,
a choice made before it starts, from what is known then; they give the same up to rounding:

    shifted    48 shifted multiply-adds, on any device (`core.refine.pamr_shifted`)
    gathered   on a CPU with several classes (`core.refine.pamr_gather`)
    native     on a CPU with a C compiler, for jobs of many images (`core.refine.pamr_native`)
    fused      on CUDA, for jobs of many images (`core.refine.pamr_triton`)
"""

from __future__ import annotations

import functools
import itertools
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import TTDError
from . import pamr_gather, pamr_library, pamr_native, pamr_shifted

Offset = tuple[int, int]

# By device: the path that is compiled first, and from how many images on that costs less than it
# saves (about a second of a C compiler, once per machine; a second or two of Triton's).
COMPILED = {"cpu": ("native", 32), "cuda": ("fused", 200)}


def neighbour_offsets(dilations: Sequence[int]) -> list[Offset]:
    """(dy, dx) in pixels of the 8 neighbours at each dilation: the order of `weights`' second axis.

    8 * len(dilations) pairs.
    """
    around = [(dy, dx) for dy, dx in itertools.product((-1, 0, 1), repeat=2) if dy or dx]
    return [(dy * d, dx * d) for d, (dy, dx) in itertools.product(dilations, around)]


class PAMR(torch.nn.Module):
    """Refines soft masks along the image's edges; nothing in the state dict.

    num_iter: how many times the masks are averaged over their neighbours (0 only resizes).
    dilations: distances in pixels of the neighbours. Works in float32 whatever comes in and returns
    float32 (a fixed threshold follows, and bfloat16 would move pixels across it). Always without
    gradient, also where the caller has gradients switched on.
    pictures: how many images the whole job has, for the choice of the path: one that must be
    compiled first is for many. Raises TTDError for num_iter below 0 and for dilations below 1.
    """

    def __init__(
        self, num_iter: int = 10, dilations: Sequence[int] = (1, 2, 4, 8, 12, 24), pictures: int = 1
    ) -> None:
        super().__init__()
        if num_iter < 0 or not dilations or min(dilations) < 1:
            raise TTDError(
                f"PAMR: num_iter {num_iter}, dilations {tuple(dilations)}; "
                "pass num_iter >= 0, all dilations >= 1"
            )
        self.num_iter = num_iter
        self.dilations = tuple(dilations)
        self.pictures = pictures

    def kernel(self, device: torch.device) -> str:
        """`native`, `fused`, or `plain` for both others.

        What a job on that device keeps to, whatever its classes.
        """
        way, least = COMPILED.get(device.type, ("plain", 0))
        if way == "plain" or self.pictures < least:
            return "plain"
        return way if _works(way, device) else "plain"

    def path(self, device: torch.device, classes: int) -> str:
        """How maps of so many classes are refined on that device.

        `shifted`, `gathered`, `native` or `fused`.
        """
        kernel = self.kernel(device)
        if kernel != "plain":
            return kernel
        several = device.type == "cpu" and classes >= pamr_gather.MIN_CLASSES
        return "gathered" if several else "shifted"

    @torch.no_grad()
    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        """Refine `mask` [B, N, h, w] by `image` [B, C, H, W]: float32 [B, N, H, W].

        The image may have any value range, usually it is normalized. A mask of another size is
        first resized to the image's (bilinear, align_corners=True). Any H, W >= 1, any C >= 1 and
        N >= 0. Raises TTDError when the shapes do not fit. Same as
        `refine(weights(image, N), mask)`.
        """
        _check_pair(image, mask)
        alpha: Tensor = self.weights(image, mask.shape[1])
        refined: Tensor = self.refine(alpha, mask)
        return refined

    @torch.no_grad()
    def weights(self, image: Tensor, classes: int = 1) -> Tensor:
        """The weights alpha of `image` [B, C, H, W]: float32 [B, K, H, W], the sum over K is 1.

        K = 8 * len(dilations). Computed once per image and shared by all classes. classes: how
        many maps are to be refined, about; the weights' order in memory follows from it, and
        `refine` makes a copy where it needs the other one. Raises TTDError when `image` is not [B,
        C, H, W].
        """
        _check_maps(image, "PAMR's image", "[B, C, H, W]")
        if image.shape[1] == 0:
            raise TTDError("PAMR's image has no channels: pass [B, C, H, W] with C >= 1")
        offsets, way = neighbour_offsets(self.dilations), self.path(image.device, classes)
        count = len(self.dilations)
        compiled = _kernels(way)
        if compiled is not None:
            alpha: Tensor = compiled.weights(image.float(), offsets, count)
            return alpha
        return pamr_shifted.weights(image.float(), offsets, count, _order(way))

    @torch.no_grad()
    def refine(self, weights: Tensor, mask: Tensor) -> Tensor:
        """Average `mask` [B, N, h, w] `num_iter` times: float32 [B, N, H, W].

        weights: of `self.weights`, [B, K, H, W], K = 8 * len(dilations). Holds two padded copies
        of the masks at most. Raises TTDError when the shapes do not fit.
        """
        _check_pair(weights, mask)
        offsets = neighbour_offsets(self.dilations)
        if weights.shape[1] != len(offsets):
            raise TTDError(
                f"PAMR weights of {weights.shape[1]} neighbours, not {len(offsets)}: "
                "use PAMR.weights"
            )
        mask = _resize(mask.float(), (weights.shape[-2], weights.shape[-1]))
        if self.num_iter == 0 or mask.numel() == 0:
            return mask.clone()
        way = self.path(mask.device, mask.shape[1])
        compiled = _kernels(way)
        if compiled is not None:
            refined: Tensor = compiled.refine(weights, mask, self.num_iter, offsets)
            return refined
        weights = weights.contiguous(memory_format=_order(way))
        refine = pamr_gather.refine if way == "gathered" else pamr_shifted.refine
        return refine(weights, mask, self.num_iter, max(self.dilations), offsets)


def _kernels(way: str) -> ModuleType | None:
    """The module of a compiled path; None for the others."""
    if way == "native":
        return pamr_native
    if way == "fused":
        from . import pamr_triton  # imports triton

        return pamr_triton
    return None


@functools.cache
def _works(way: str, device: torch.device) -> bool:
    """Whether a compiled path is there and gives what the plain one gives: asked once.

    Compilers and drivers fail in many ways, and a job must not: what goes wrong is a warning.
    """
    if way == "native" and pamr_library.library() is None:
        return False
    if way == "fused" and not find_spec("triton"):
        return False
    try:
        problem = "" if _agrees(way, device) else "its result is wrong"
    except Exception as error:
        problem = " ".join(str(error).split())[:200] or type(error).__name__
    if problem:
        warnings.warn(
            f"PAMR's {way} kernel does not work here ({problem}); the plain path is used",
            stacklevel=3,
        )
    return not problem


def _agrees(way: str, device: torch.device) -> bool:
    """Whether a compiled path gives what the plain one gives on two small images."""
    compiled = _kernels(way)
    if compiled is None:
        return False
    generator = torch.Generator().manual_seed(0)
    image, mask = (torch.rand(2, n, 30, 37, generator=generator).to(device) for n in (3, 5))
    plain = PAMR(num_iter=2)
    offsets = neighbour_offsets(plain.dilations)
    alpha = compiled.weights(image, offsets, len(plain.dilations))
    found = compiled.refine(alpha, mask, plain.num_iter, offsets)
    return torch.allclose(found, plain(image, mask), atol=1e-4, rtol=0)


def _order(way: str) -> torch.memory_format:
    """How a path wants the weights in memory."""
    return torch.channels_last if way == "gathered" else torch.contiguous_format


def _resize(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """[B, N, h, w] -> [B, N, H, W], bilinear with align_corners=True; itself at that size."""
    if tuple(mask.shape[-2:]) == size:
        return mask
    if mask.shape[1] == 0:
        return mask.new_empty(*mask.shape[:2], *size)
    return F.interpolate(mask, size=size, mode="bilinear", align_corners=True)


def _check_maps(maps: Tensor, name: str, wanted: str) -> None:
    """TTDError unless `maps` has four axes and at least one pixel."""
    if maps.ndim != 4 or 0 in maps.shape[-2:]:
        raise TTDError(
            f"{name} has the shape {list(maps.shape)}: pass {wanted} with at least one pixel"
        )


def _check_pair(image: Tensor, mask: Tensor) -> None:
    """TTDError unless image (or weights) and mask have one batch size and device."""
    _check_maps(image, "PAMR's image", "[B, C, H, W]")
    _check_maps(mask, "PAMR's mask", "[B, N, h, w]")
    if image.shape[0] != mask.shape[0]:
        raise TTDError(
            f"PAMR got {image.shape[0]} images, masks for {mask.shape[0]}: "
            "pass one set of masks per image"
        )
    if image.device != mask.device:
        raise TTDError(
            f"PAMR's image is on {image.device} and its mask on {mask.device}: move one of them"
        )
