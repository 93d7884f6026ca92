"""DenseCRF: soft masks drawn to the image's colour edges. Optional.

Kraehenbuehl & Koltun, NeurIPS 2011. A fully connected CRF over the pixels: unary -log p_n(i) of
each label n, and for every pair of pixels with different labels the Potts energy

    gaussian_compat * exp(-|pos|^2 / 2 gaussian_sxy^2)
    + bilateral_compat * exp(-|pos|^2 / 2 bilateral_sxy^2 - |rgb|^2 / 2 bilateral_srgb^2)

(each kernel scaled symmetrically by its row sums), solved by mean field. Two uses:

- `dense_crf`: N labels that exclude each other, as in a label map. With a background threshold t,
  put a constant map t in front of the soft masks: they then compete exactly as in the arg-max
  without a CRF.
- `refine_soft_masks`: maps of words that may overlap, as in the demo; each is a problem of its own,
  word or not word. Here 0.5 is the even point: weaker evidence is pushed towards 0, stronger
  towards 1.

Runs on the CPU through the package `pydensecrf2`, which is not installed by default; PAMR needs
nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch

from ..errors import TTDError

Pixels = npt.NDArray[np.uint8]
Values = npt.NDArray[np.float32]
Maps = TypeVar("Maps", Values, torch.Tensor)

SMALLEST = 1e-5  # a probability of 0 would be an infinite energy that no neighbour can overrule


@dataclass(frozen=True)
class CRFSettings:
    """Strengths and widths; the defaults are those of DeepLab v2.

    The stronger set customary with pydensecrf (3, 3, 80, 13, 10) assumes confident probabilities:
    hesitant soft masks (0.25 against 0.75), which is what similarity maps give, are overruled by
    colour.
    """

    iterations: int = 10  # of mean field
    gaussian_sxy: float = 1.0  # pixels: smooths regardless of colour
    gaussian_compat: float = 3.0  # 0 switches the term off
    bilateral_sxy: float = 67.0  # pixels
    # Grey levels of 0..255: how alike two pixels must be to pull at each other.
    bilateral_srgb: float = 3.0
    bilateral_compat: float = 4.0  # 0 switches the term off


DEFAULTS = CRFSettings()


def dense_crf(image: Pixels, probabilities: Maps, settings: CRFSettings = DEFAULTS) -> Maps:
    """Mean-field marginals of N >= 2 competing labels.

    image: uint8 [H, W, 3] RGB. probabilities: [N, H, W], finite and >= 0, any scale: each pixel is
    divided by its sum over N (all zero: every label alike). Array or tensor; the same kind comes
    back, float32 [N, H, W], sum over N = 1, on the tensor's device. Raises TTDError on a wrong
    shape, type or value, and when pydensecrf2 is not installed.
    """
    library = _import_library()
    maps = _as_array(probabilities)
    _check(image, maps)
    if len(maps) < 2:
        raise TTDError(
            "dense_crf got one label, which nothing competes with: use refine_soft_masks for "
            "single masks"
        )
    return _like(_mean_field(library, image, maps, settings), probabilities)


def refine_soft_masks(image: Pixels, masks: Maps, settings: CRFSettings = DEFAULTS) -> Maps:
    """Refine each of N independent soft masks as a two-label problem, mask against 1 - mask.

    image: uint8 [H, W, 3] RGB. masks: [N, H, W] in [0, 1]; array or tensor. Returns the same kind,
    [N, H, W] float32 in [0, 1]: the probability of the mask. The masks do not see each other.
    Raises TTDError as `dense_crf`.
    """
    library = _import_library()
    maps = _as_array(masks)
    _check(image, maps)
    if maps.size and maps.max() > 1 + 1e-4:
        raise TTDError(
            f"soft masks reach {maps.max():.3g}: refine_soft_masks needs values in [0, 1]"
        )
    pairs = (np.stack([mask, 1 - mask]) for mask in np.clip(maps, 0, 1))
    refined = [_mean_field(library, image, pair, settings)[0] for pair in pairs]
    return _like(np.stack(refined) if refined else maps, masks)


def _mean_field(library: ModuleType, image: Pixels, maps: Values, settings: CRFSettings) -> Values:
    """uint8 [H, W, 3], float32 [N, H, W] -> marginals float32 [N, H, W]."""
    labels, height, width = maps.shape
    total = maps.sum(axis=0)
    shares = np.where(total > 0, maps / np.maximum(total, np.finfo(np.float32).tiny), 1 / labels)
    energy = -np.log(np.clip(shares, SMALLEST, 1)).astype(np.float32)
    crf = library.DenseCRF2D(width, height, labels)
    crf.setUnaryEnergy(np.ascontiguousarray(energy.reshape(labels, -1)))
    if settings.gaussian_compat:
        crf.addPairwiseGaussian(sxy=settings.gaussian_sxy, compat=settings.gaussian_compat)
    if settings.bilateral_compat:
        crf.addPairwiseBilateral(
            sxy=settings.bilateral_sxy,
            srgb=settings.bilateral_srgb,
            rgbim=np.array(image, order="C"),  # a copy: the library refuses read-only arrays
            compat=settings.bilateral_compat,
        )
    marginals = np.array(crf.inference(settings.iterations), dtype=np.float32)
    return marginals.reshape(labels, height, width)


def _import_library() -> ModuleType:
    """The module densecrf of pydensecrf2; TTDError, which says what to do, where it is absent."""
    try:
        from pydensecrf import densecrf
    except ImportError as error:
        raise TTDError(
            "DenseCRF needs the package pydensecrf2, which does not load: "
            "`pip install pydensecrf2` (it needs a C++ compiler), or refine with --pamr, which "
            "needs nothing"
        ) from error
    library: ModuleType = densecrf
    return library


def _as_array(maps: Values | torch.Tensor) -> Values:
    """float32 array of an array or tensor."""
    if isinstance(maps, torch.Tensor):
        maps = maps.detach().float().cpu().numpy()
    return np.asarray(maps, dtype=np.float32)


def _like(result: Values, given: Maps) -> Maps:
    """float32 array -> array, or tensor on the device of `given`."""
    if isinstance(given, torch.Tensor):
        return torch.from_numpy(result).to(given.device)
    return result


def _check(image: Pixels, maps: Values) -> None:
    """TTDError for an image that is not uint8 [H, W, 3], and for maps that do not go with it."""
    array = isinstance(image, np.ndarray) and image.dtype == np.uint8
    if not array or image.ndim != 3 or image.shape[2] != 3:
        kind, shape = getattr(image, "dtype", type(image).__name__), getattr(image, "shape", ())
        raise TTDError(
            f"the CRF's image is {kind} {list(shape)}: pass the RGB image as a uint8 array "
            "[H, W, 3]"
        )
    if maps.ndim != 3 or maps.shape[1:] != image.shape[:2] or 0 in image.shape:
        raise TTDError(
            f"the CRF got maps {list(maps.shape)} for an image {list(image.shape)}: "
            "pass [N, H, W], H and W alike"
        )
    if not np.isfinite(maps).all() or (maps < 0).any():
        raise TTDError("the CRF's maps hold negative or non-finite values: pass probabilities >= 0")
