"""Robust image loading: any format to uint8 RGB, or an error in one line; resizing for a model."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import TTDError

Pixels: TypeAlias = npt.NDArray[np.uint8]  # [H, W, 3] RGB

CONVERT_HINT = "open it in an image editor and save it as PNG or JPEG"
TRANSPARENT = ("LA", "La", "PA", "RGBA", "RGBa")  # Pillow's modes with an alpha channel


def read_image(path: str | Path) -> Pixels:
    """Read any image file as uint8 [H, W, 3] RGB: upright, its first frame, on white.

    Handles what Pillow can open: JPEG (CMYK too), PNG, WebP, GIF, TIFF, AVIF, ...; EXIF orientation
    is applied, transparency is put on white, deeper samples are scaled to 8 bits (see `_to_rgb`).
    Raises TTDError naming the file: missing, a folder, not readable, empty, not an image,
    truncated, or larger than Pillow's limit against decompression bombs (about 179 million pixels).
    """
    path = Path(path)
    _check_file(path)
    return _decode(path, path)


def decode_image(data: bytes, name: str | Path) -> Pixels:
    """`read_image` for an image that is already in memory; `name` is what errors call it."""
    if not data:
        raise TTDError(f"{name}: the file is empty; download or copy it again")
    return _decode(io.BytesIO(data), name)


def _decode(source: Path | io.BytesIO, name: str | Path) -> Pixels:
    """A file or its bytes -> uint8 [H, W, 3] RGB; TTDError naming it."""
    # Pillow warns about large images, odd EXIF blocks and palettes, which helps no user.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(source) as image:
                image.load()
                return np.array(_to_rgb(_upright(image)))
        except Image.DecompressionBombError:
            limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 10**6
            reason = f"more than {limit} million pixels; make the image smaller first"
        except UnidentifiedImageError:
            reason = f"not an image, or damaged, or of a format unknown here; {CONVERT_HINT}"
        except MemoryError:
            reason = "not enough memory to decode it; make the image smaller first"
        except Exception as error:  # decoders raise nearly any type on damaged bytes
            reason = _damage(error)
    raise TTDError(f"{name}: {reason}")


def _check_file(path: Path) -> None:
    """Raise TTDError unless `path` is a readable, non-empty, regular file."""
    try:
        if path.is_dir():
            raise TTDError(f"{path}: a folder, not an image; name a file in it")
        if not path.exists():
            raise TTDError(f"{path}: no such file; check the path")
        if not path.is_file():
            raise TTDError(f"{path}: not a regular file; name an image file")
        with path.open("rb") as file:
            if not file.read(1):
                raise TTDError(f"{path}: the file is empty; download or copy it again")
    except PermissionError:
        raise TTDError(
            f"{path}: no permission to read it; change its permissions (chmod +r)"
        ) from None
    except (OSError, ValueError) as error:  # a name too long, a NUL byte, a broken disk
        reason = getattr(error, "strerror", None) or error
        raise TTDError(f"{path!s:.200}: cannot be read ({reason}); check the path") from None


def _damage(error: Exception) -> str:
    """What is wrong with a file that starts like an image and cannot be decoded."""
    if "truncated" in str(error) or isinstance(error, EOFError):
        return "truncated, the end of the file is missing; download or copy it again"
    reason = " ".join(str(error).split())[:120] or type(error).__name__
    return f"damaged, cannot be decoded ({reason}); download it again, or {CONVERT_HINT}"


def _upright(image: Image.Image) -> Image.Image:
    """Turn the image as its EXIF orientation asks; with a damaged EXIF block it stays as stored."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # EXIF is third-party bytes: the image matters more than its metadata
        return image


def _to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow mode to RGB: transparency on white, deep samples scaled to the whole 8-bit range.

    16-bit grey v becomes round(v / 257) (0 -> 0, 65535 -> 255). Pillow itself reads 16-bit colour
    as v // 256. 32-bit integers and floats have no agreed range: see `_grey_range`.
    """
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image).astype(np.float64)  # [H, W]
        low, high = _grey_range(values, image.mode)
        grey = np.clip((np.nan_to_num(values) - low) * (255.0 / (high - low)), 0, 255)
        return Image.fromarray(np.round(grey).astype(np.uint8)).convert("RGB")
    if image.mode in TRANSPARENT or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def _grey_range(values: npt.NDArray[np.float64], mode: str) -> tuple[float, float]:
    """The values of an image [H, W] that become black and white.

    [0, 65535] for 16 bits, [0, 1] or [0, 255] for floats that fit, else the finite minimum and
    maximum, as scientific images (depth, counts) need it.
    """
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    for top in (1.0, 255.0) if mode == "F" else (65535.0,):
        if low >= 0 and high <= top:
            return 0.0, top
    return low, max(high, low + 1e-12)
