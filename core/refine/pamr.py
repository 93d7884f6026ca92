"""Pixel-adaptive mask refinement (PAMR, Araslanov & Roth, CVPR 2020), as TCL (CVPR 2023) applies it to soft masks.

For pixel i let N(i) be its 8 neighbours at each dilation d (48 for the six default dilations),
indices clamped to the image ("replicate" padding); x_ic is channel c of the image:

    sigma_ic = unbiased standard deviation over the 3x3 taps of all dilations (54 values: the centre counts once per d)
    a_ij     = mean_c( -|x_ic - x_jc| / (1e-8 + 0.1 * sigma_ic) ),     alpha_i = softmax over the j of N(i) of a_ij
    repeat:    m_i <- sum_j alpha_ij * m_j                             (the pixel itself is not in the sum)

alpha depends on the image alone: compute it once (`weights`), use it for every class, tag set and
threshold (`refine`). The alpha are positive and sum to 1, so a map never leaves its own [min, max].

Nothing of size classes x 48 x pixels ever exists. `PAMR.path` says which of four ways a sum takes,
a choice made before it starts, from what is known then; they give the same up to rounding:

    shifted    48 shifted multiply-adds on slices of one padded buffer (clamping an index does not care how far outside
               it was, so padding by the largest dilation serves all of them); on any device
    gathered   on a CPU with several classes (`core.refine.pamr_gather`)
    native     on a CPU with a C compiler, for jobs of many images (`core.refine.pamr_native`)
    fused      on CUDA, for jobs of many images (`core.refine.pamr_triton`)
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from types import ModuleType

import torch
import torch.nn.functional as F

from ..errors import TTDError
from . import pamr_gather, pamr_native

Offset = tuple[int, int]

# One multiply-add reads and writes this many values at most on a CPU (256 kB), so that it stays in
# the cache.
CPU_BLOCK_VALUES = 2**16
# By device: the path that is compiled first, and from how many images on that costs less than it
# saves (about a second of a C compiler, once per machine; a second or two of Triton's).
COMPILED = {"cpu": ("native", 32), "cuda": ("fused", 200)}


def neighbour_offsets(dilations: Sequence[int]) -> list[Offset]:
    """(dy, dx) of the 8 neighbours at each dilation: 8 * len(dilations) pairs, the order of `weights`' second axis."""
    return [
        (dy * d, dx * d) for d in dilations for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx
    ]


class PAMR(torch.nn.Module):
    """Refines soft masks along the image's edges; no parameters, no buffers, nothing in the state dict.

    num_iter: how many times the masks are averaged over their neighbours (0 only resizes).
    dilations: distances in pixels of the neighbours. Works in float32 whatever comes in and returns
    float32 (a fixed threshold follows, and bfloat16 would move pixels across it). Always without
    gradient, also where the caller has gradients switched on.
    images: of the whole job, for the choice of the path: one that must be compiled first is for
    many.
    """

    def __init__(
        self, num_iter: int = 10, dilations: Sequence[int] = (1, 2, 4, 8, 12, 24), pictures: int = 1
    ) -> None:
        super().__init__()
        if num_iter < 0 or not dilations or min(dilations) < 1:
            raise TTDError(
                f"PAMR: num_iter {num_iter}, dilations {tuple(dilations)}; pass num_iter >= 0, all >= 1"
            )
        self.num_iter = num_iter
        self.dilations = tuple(dilations)
        self.pictures = pictures

    def kernel(self, device: torch.device) -> str:
        """`native`, `fused`, or `plain` for both others: what a job on that device keeps to, whatever its classes."""
        way, least = COMPILED.get(device.type, ("plain", 0))
        return way if self.pictures >= least and way != "plain" and _works(way, device) else "plain"

    def path(self, device: torch.device, classes: int) -> str:
        """`shifted`, `gathered`, `native` or `fused`: how maps of so many classes are refined on that device."""
        kernel = self.kernel(device)
        if kernel != "plain":
            return kernel
        return (
            "gathered" if device.type == "cpu" and classes >= pamr_gather.MIN_CLASSES else "shifted"
        )

    @torch.no_grad()
    def forward(self, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Refine `mask` [B,N,h,w] by `image` [B,C,H,W] (any value range, usually normalized) -> [B,N,H,W] float32.

        A mask of another size is first resized to the image's (bilinear, align_corners=True). Any
        H, W >= 1, any C >= 1 and N >= 0. Raises TTDError when the shapes do not fit. Same as
        `refine(weights(image, N), mask)`.
        """
        _check_pair(image, mask)
        return self.refine(self.weights(image, mask.shape[1]), mask)

    @torch.no_grad()
    def weights(self, image: torch.Tensor, classes: int = 1) -> torch.Tensor:
        """The weights alpha of `image` [B,C,H,W] -> [B,K,H,W] float32; K = 8 * len(dilations), the sum over K is 1.

        Computed once per image and shared by all classes. classes: of the maps to be refined,
        about; the weights' order in memory follows from it, and `refine` makes a copy where it
        needs the other one. Raises TTDError when `image` is not [B,C,H,W].
        """
        _check_maps(image, "PAMR's image", "[B,C,H,W]")
        if image.shape[1] == 0:
            raise TTDError("PAMR's image has no channels: pass [B,C,H,W] with C >= 1")
        offsets, way = neighbour_offsets(self.dilations), self.path(image.device, classes)
        if kernels := _kernels(way):
            return kernels.weights(image.float(), offsets, len(self.dilations))
        batch, channels, height, width = image.shape
        out = torch.empty(
            batch, len(offsets), height, width, device=image.device, memory_format=_order(way)
        )
        pad = max(self.dilations)
        padded = _pad_replicate(image.float(), pad)  # [B,C,H+2p,W+2p]
        for pictures, _, rows in _blocks(
            batch, 1, height, width, image.device, values=2 * channels
        ):
            target = out[pictures, :, rows]
            # In channels-last order writing one neighbour at a time would touch every line 48
            # times: a planar block.
            block = (
                torch.empty_like(target, memory_format=torch.contiguous_format)
                if way == "gathered"
                else target
            )
            _affinity_(block, padded[pictures], rows, pad, offsets, len(self.dilations))
            if block is not target:
                target.copy_(block)
        return out

    @torch.no_grad()
    def refine(self, weights: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Average `mask` [B,N,h,w] `num_iter` times with `weights` [B,K,H,W] of `self.weights` -> [B,N,H,W] float32.

        K = 8 * len(dilations). Holds two padded copies of the masks at most. Raises TTDError on a
        mismatch.
        """
        _check_pair(weights, mask)
        offsets = neighbour_offsets(self.dilations)
        if weights.shape[1] != len(offsets):
            raise TTDError(
                f"PAMR weights of {weights.shape[1]} neighbours, not {len(offsets)}: use PAMR.weights"
            )
        mask = _resize(mask.float(), weights.shape[-2:])
        if self.num_iter == 0 or mask.numel() == 0:
            return mask.clone()
        way = self.path(mask.device, mask.shape[1])
        if kernels := _kernels(way):
            return kernels.refine(weights, mask, self.num_iter, offsets)
        weights = weights.contiguous(memory_format=_order(way))
        refine = pamr_gather.refine if way == "gathered" else _refine_shifted
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
    """Whether a compiled path can be had here and gives what the plain one gives: asked once, on two small images.

    Compilers and drivers fail in many ways, and a job must not: what goes wrong is said as a
    warning.
    """
    if not (pamr_native.library() if way == "native" else find_spec("triton")):
        return False
    generator = torch.Generator().manual_seed(0)
    image, mask = (torch.rand(2, n, 30, 37, generator=generator).to(device) for n in (3, 5))
    plain = PAMR(num_iter=2)
    try:
        alpha = _kernels(way).weights(
            image, neighbour_offsets(plain.dilations), len(plain.dilations)
        )
        found = _kernels(way).refine(
            alpha, mask, plain.num_iter, neighbour_offsets(plain.dilations)
        )
        problem = (
            ""
            if torch.allclose(found, plain(image, mask), atol=1e-4, rtol=0)
            else "its result is wrong"
        )
    except Exception as error:
        problem = " ".join(str(error).split())[:200] or type(error).__name__
    if problem:
        warnings.warn(
            f"PAMR's {way} kernel does not work here ({problem}); the plain path serves",
            stacklevel=3,
        )
    return not problem


def _order(way: str) -> torch.memory_format:
    """How a path wants the weights in memory."""
    return torch.channels_last if way == "gathered" else torch.contiguous_format


def _affinity_(
    out: torch.Tensor,
    padded: torch.Tensor,
    rows: slice,
    pad: int,
    offsets: list[Offset],
    n_dilations: int,
) -> None:
    """Write softmax_j mean_c(-|x_i - x_j| / (1e-8 + 0.1 sigma)) of the given rows into `out` [B,K,R,W].

    padded: [B,C,H+2p,W+2p]. Differences from the centre give the variance in one pass: n_dilations
    of the taps are the centre itself (difference 0), which bounds (sum d)^2 / taps by 8/9 of sum
    d^2, so little cancels; and a flat region has sigma = 0 exactly, hence equal weights.
    """
    centre = _shifted(padded, rows, pad, (0, 0))  # [B,C,R,W]
    total, squares = torch.zeros_like(centre), torch.zeros_like(centre)
    difference = torch.empty_like(centre)
    for offset in offsets:
        torch.sub(_shifted(padded, rows, pad, offset), centre, out=difference)
        total += difference
        squares.addcmul_(difference, difference)
    taps = len(offsets) + n_dilations
    variance = squares.addcmul_(total, total, value=-1 / taps).clamp_(min=0).div_(taps - 1)
    scale = (
        variance.sqrt_().mul_(0.1).add_(1e-8).mul_(centre.shape[1]).reciprocal_()
    )  # 1 / (C (1e-8 + 0.1 sigma))
    for k, offset in enumerate(offsets):
        torch.sub(_shifted(padded, rows, pad, offset), centre, out=difference)
        torch.sum(difference.abs_().mul_(scale), dim=1, out=out[:, k])
    torch.sub(out.amin(dim=1, keepdim=True), out, out=out).exp_()  # softmax(-distance), in place
    out.div_(out.sum(dim=1, keepdim=True))


def _refine_shifted(
    weights: torch.Tensor, mask: torch.Tensor, num_iter: int, pad: int, offsets: list[Offset]
) -> torch.Tensor:
    """`num_iter` iterations: weights [B,K,H,W], mask [B,N,H,W] -> [B,N,H,W]."""
    current = _pad_replicate(mask, pad)  # [B,N,H+2p,W+2p]
    following = torch.empty_like(current)
    for _ in range(num_iter):
        _propagate_(following, current, weights, pad, offsets)
        _replicate_border_(following, pad)
        current, following = following, current
    del following  # before the copy below: keeps the peak at two sets of maps
    return current[..., pad:-pad, pad:-pad].contiguous()


def _propagate_(
    following: torch.Tensor,
    current: torch.Tensor,
    weights: torch.Tensor,
    pad: int,
    offsets: list[Offset],
) -> None:
    """One iteration: the interior of `following` [B,N,H+2p,W+2p] becomes sum_j weights_j * `current` shifted by j."""
    batch, classes = current.shape[:2]
    for pictures, some, rows in _blocks(batch, classes, *weights.shape[-2:], current.device):
        source, alpha = (
            current[pictures, some],
            weights[pictures, :, rows],
        )  # [b,n,H+2p,W+2p], [b,K,R,W]
        out = _shifted(following[pictures, some], rows, pad, (0, 0))  # [b,n,R,W], a view
        torch.mul(alpha[:, 0, None], _shifted(source, rows, pad, offsets[0]), out=out)
        for k, offset in enumerate(offsets[1:], start=1):
            out.addcmul_(alpha[:, k, None], _shifted(source, rows, pad, offset))


def _blocks(
    batch: int, classes: int, height: int, width: int, device: torch.device, values: int = 1
) -> Iterator[tuple[slice, slice, slice]]:
    """Slices (images, classes, rows) that cover everything once; on a CPU cache-sized and one image at a time.

    values: of a pixel and class. One image at a time also makes its result on a CPU the same to
    the bit whatever it is batched with.
    """
    if device.type != "cpu":
        yield slice(0, batch), slice(0, classes), slice(0, height)
        return
    rows = max(1, CPU_BLOCK_VALUES // (classes * values * width))
    for b in range(batch):
        for y in range(0, height, rows):
            yield slice(b, b + 1), slice(0, classes), slice(y, min(y + rows, height))


def _shifted(padded: torch.Tensor, rows: slice, pad: int, offset: Offset) -> torch.Tensor:
    """View [.,.,R,W] of `padded` [.,.,H+2p,W+2p]: pixel (y, x) of the given rows shows pixel (y + dy, x + dx)."""
    dy, dx = offset
    width = padded.shape[-1] - 2 * pad
    return padded[..., pad + dy + rows.start : pad + dy + rows.stop, pad + dx : pad + dx + width]


def _pad_replicate(maps: torch.Tensor, pad: int) -> torch.Tensor:
    """[B,C,H,W] -> [B,C,H+2p,W+2p], the border repeating the nearest pixel."""
    return F.pad(maps, (pad, pad, pad, pad), mode="replicate")


def _replicate_border_(padded: torch.Tensor, pad: int) -> None:
    """Rewrite the border of `padded` [B,N,H+2p,W+2p] from its interior; cheaper than padding a new copy."""
    inside = padded[..., pad:-pad, :]
    inside[..., :pad] = inside[..., pad : pad + 1]
    inside[..., -pad:] = inside[..., -pad - 1 : -pad]
    padded[..., :pad, :] = padded[..., pad : pad + 1, :]
    padded[..., -pad:, :] = padded[..., -pad - 1 : -pad, :]


def _resize(mask: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """[B,N,h,w] -> [B,N,H,W], bilinear with align_corners=True; itself when the size is already right."""
    if tuple(mask.shape[-2:]) == tuple(size):
        return mask
    if mask.shape[1] == 0:
        return mask.new_empty(*mask.shape[:2], *size)
    return F.interpolate(mask, size=tuple(size), mode="bilinear", align_corners=True)


def _check_maps(maps: torch.Tensor, name: str, wanted: str) -> None:
    if maps.ndim != 4 or 0 in maps.shape[-2:]:
        raise TTDError(
            f"{name} has the shape {list(maps.shape)}: pass {wanted} with at least one pixel"
        )


def _check_pair(image: torch.Tensor, mask: torch.Tensor) -> None:
    _check_maps(image, "PAMR's image", "[B,C,H,W]")
    _check_maps(mask, "PAMR's mask", "[B,N,h,w]")
    if image.shape[0] != mask.shape[0]:
        raise TTDError(
            f"PAMR got {image.shape[0]} images, masks for {mask.shape[0]}: pass one set of masks per image"
        )
    if image.device != mask.device:
        raise TTDError(
            f"PAMR's image is on {image.device} and its mask on {mask.device}: move one of them"
        )
