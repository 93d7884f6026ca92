"""Robust image loading: any format to uint8 RGB, or an error in one line; resizing for a model."""

from __future__ import annotations

import contextlib
import io
import os
import threading
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from ..errors import TTDError, UnreadableError
from ..utils.files import is_away, reading_error

Pixels: TypeAlias = npt.NDArray[np.uint8]  # [H, W, 3] RGB
Size: TypeAlias = tuple[int, int]  # (H, W) in pixels
Target: TypeAlias = Callable[[int, int], Size]

CONVERT_HINT = "open it in an image editor and save it as PNG or JPEG"
# What is opened; Pillow knows more, some of which start programs (EPS starts Ghostscript).
FORMATS = (
    "JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "AVIF", "JPEG2000", "PPM", "TGA",
    "ICO", "HEIF",
)  # fmt: skip
MEGAPIXELS = 100.0  # a larger image is refused, unless TTD_MAX_MEGAPIXELS says otherwise
TWELVE_BITS = 4095
ONE_GIANT = threading.Lock()
TRANSPARENT = ("LA", "La", "PA", "RGBA", "RGBa")  # Pillow's modes with an alpha channel


GIANT = 64.0  # megapixels above which memory matters more than the last bit; photographs are below
BAND = 1 << 22  # pixels that are converted at a time


def read_image(path: str | Path) -> Pixels:
    """Read any image file as uint8 [H, W, 3] RGB: upright, its first frame, on white.

    Handles what Pillow can open: JPEG (CMYK too), PNG, WebP, GIF, TIFF, AVIF, ...; EXIF orientation
    is applied, transparency is put on white, deeper samples are scaled to 8 bits (see `_to_rgb`).
    Raises TTDError naming the file: a folder, empty, not an image, truncated, or of more than 100
    million pixels (TTD_MAX_MEGAPIXELS=N allows more); UnreadableError where it is missing or the
    system cannot read it now.
    """
    return read_reduced(path)[0]


def read_reduced(
    path: str | Path, target: Target | None = None, draft: bool = False
) -> tuple[Pixels, Size]:
    """`read_image` for what is looked at small -> its pixels and (H, W) of the image itself.

    target: (H, W) of the image -> that of its largest copy that is wanted. Up to `GIANT` megapixels
    the pixels are all of the image's; of more, they are averaged to about twice the target, and
    JPEG is decoded at a smaller scale. One such image is in work at a time.
    draft: JPEG of any size is decoded at the smallest of the scales 1, 1/2, 1/4 and 1/8 that is not
    below the target: faster, with other pixels.
    """
    path = Path(path)
    _check_file(path)
    return _reduced(path, path, target, draft)


def decode_image(data: bytes, name: str | Path) -> Pixels:
    """`read_image` for an image that is already in memory; `name` is what errors call it."""
    return decode_reduced(data, name)[0]


def decode_reduced(
    data: bytes, name: str | Path, target: Target | None = None, draft: bool = False
) -> tuple[Pixels, Size]:
    """`read_reduced` for an image that is already in memory."""
    if not data:
        raise TTDError(f"{name}: the file is empty; download or copy it again")
    return _reduced(data, name, target, draft)


def _reduced(
    source: Path | bytes, name: str | Path, target: Target | None, draft: bool
) -> tuple[Pixels, Size]:
    """Open, convert and, where it is a giant, reduce: pixels [h, w, 3] and the image's (H, W)."""
    stored: list[Size] = []  # (H, W) before JPEG's own reduction

    with contextlib.ExitStack() as held:

        def begin(image: Image.Image) -> None:
            """Note the size; wait for giants, and ask JPEG for a smaller image."""
            stored.append((image.height, image.width))
            giant = is_giant(image.size)
            if giant:
                held.enter_context(ONE_GIANT)
            if target is not None and (giant or draft) and image.format in ("JPEG", "MPO"):
                image.draft(None, _wanted(image, target, times=2 if giant else 1))

        image = open_image(source, name, begin=begin)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            height, width = stored[0]
            if _turned(image):
                height, width = width, height
            if target is None or not is_giant((width, height)):
                return _to_pixels(image, name), (height, width)
            small = partial(_smaller, size=stored[0], wanted=_wanted(image, target, stored[0]))
            return _to_pixels(image, name, small), (height, width)


def is_giant(size: tuple[int, int]) -> bool:
    """Whether an image of these sides has more than `GIANT` megapixels."""
    return size[0] * size[1] > GIANT * 10**6


def _turned(image: Image.Image) -> bool:
    """Whether EXIF swaps the sides; with a damaged block it does not."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1)) in range(5, 9)
    except Exception:  # third-party bytes
        return False


def _wanted(
    image: Image.Image, target: Target, size: Size | None = None, times: int = 2
) -> tuple[int, int]:
    """`times` the target as (width, height) of the stored image, at most its own size (H, W)."""
    height, width = size or (image.height, image.width)
    high, wide = target(width, height)[::-1] if _turned(image) else target(height, width)
    return min(width, times * wide), min(height, times * high)


def _smaller(image: Image.Image, size: Size, wanted: tuple[int, int]) -> Image.Image:
    """An RGB image averaged to `wanted` (width, height). size: (H, W) of the image in the file.

    JPEG rounds the sides of its own reduction up: what lies beyond the true sides is left out.
    """
    factor = max(1, round(size[1] / image.width))
    box = (0.0, 0.0, min(image.width, size[1] / factor), min(image.height, size[0] / factor))
    return image.resize(wanted, Image.Resampling.BOX, box=box)


def open_image(
    source: Path | bytes,
    name: str | Path,
    formats: Sequence[str] = FORMATS,
    problem: str = "",
    begin: Callable[[Image.Image], None] = lambda image: None,
) -> Image.Image:
    """The decoded image of a file or of its bytes, as it is stored, in one of the `formats`.

    TTDError naming it `name`, then `problem`, then the reason; what it declares is checked before
    anything is decoded, and `begin` is called then.
    """
    Image.init()
    known = [one for one in formats if one in Image.OPEN]  # AVIF and HEIF are not everywhere
    # Pillow warns about large images, odd EXIF blocks and palettes, which helps no user.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            file = io.BytesIO(source) if isinstance(source, bytes) else source
            with Image.open(file, formats=known) as image:
                _check_pixels(image.size, name)
                begin(image)
                image.load()
                return image
        except TTDError:
            raise
        except Image.DecompressionBombError:
            reason = f"more than {max_megapixels():g} million pixels; make the image smaller first"
        except UnidentifiedImageError:
            reason = f"not an image, or damaged, or of a format unknown here; {CONVERT_HINT}"
        except MemoryError:
            reason = "not enough memory to decode it; make the image smaller first"
        except Exception as error:  # decoders raise nearly any type on damaged bytes
            if is_away(error):
                message = f"{name}: cannot be read ({getattr(error, 'strerror', None) or error})"
                raise UnreadableError(message) from None
            reason = _damage(error)
    raise TTDError(f"{name}: {problem} ({reason})" if problem else f"{name}: {reason}")


def max_megapixels() -> float:
    """Millions of pixels that an image may declare: TTD_MAX_MEGAPIXELS, else 100. TTDError."""
    text = os.environ.get("TTD_MAX_MEGAPIXELS", "") or str(MEGAPIXELS)
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        raise TTDError(f"TTD_MAX_MEGAPIXELS={text}: not a positive number of megapixels")
    return value


def _check_pixels(size: tuple[int, int], name: str | Path) -> None:
    """TTDError for an image that declares more pixels than `max_megapixels`."""
    declared, most = size[0] * size[1] / 10**6, max_megapixels()
    if declared > most:
        raise TTDError(
            f"{name}: more than {most:g} million pixels ({size[0]}x{size[1]}); make the image "
            f"smaller first, or set TTD_MAX_MEGAPIXELS={declared:.0f} or more"
        )


def pixels_of(image: Image.Image, name: str | Path) -> Pixels:
    """A Pillow image as `read_image` would give it: uint8 [H, W, 3] RGB, upright, on white.

    Decoded here where it was only opened. Raises TTDError naming it `name`.
    """
    _check_pixels(image.size, name)
    if 0 in image.size:
        raise TTDError(f"{name}: an image of {image.size[0]}x{image.size[1]} pixels")
    return _to_pixels(image, name)


def _to_pixels(
    image: Image.Image, name: str | Path, reduce: Callable[[Image.Image], Image.Image] | None = None
) -> Pixels:
    """A decoded image as uint8 [H, W, 3] RGB, before it is turned `reduce`d; TTDError naming it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if reduce is None:
                return np.array(_to_rgb(_upright(image)))
            exif = image.getexif()
            small = reduce(_to_rgb(image))
            small.info["exif"] = exif.tobytes()
            return np.array(_to_rgb(_upright(small)))
        except MemoryError:
            reason = "not enough memory to decode it; make the image smaller first"
        except Exception as error:  # an odd palette or profile
            reason = _damage(error)
    raise TTDError(f"{name}: {reason}")


def _check_file(path: Path) -> None:
    """Raise TTDError unless `path` is a readable, non-empty, regular file."""
    try:
        if path.is_dir():
            raise TTDError(f"{path}: a folder, not an image; name a file in it")
        if not path.exists():
            raise UnreadableError(f"{path}: no such file; check the path")
        if not path.is_file():
            raise TTDError(f"{path}: not a regular file; name an image file")
        with path.open("rb") as file:
            if not file.read(1):
                raise TTDError(f"{path}: the file is empty; download or copy it again")
    except PermissionError:
        raise UnreadableError(
            f"{path}: no permission to read it; change its permissions (chmod +r)"
        ) from None
    except OSError as error:  # a name too long, a broken disk
        reason = error.strerror or error
        message = f"{path!s:.200}: cannot be read ({reason}); check the path"
        raise reading_error(error, message) from None
    except ValueError as error:  # a NUL byte
        raise TTDError(f"{path!s:.200}: cannot be read ({error}); check the path") from None


def _damage(error: Exception) -> str:
    """What is wrong with a file that starts like an image and cannot be decoded."""
    if "truncated" in str(error) or isinstance(error, EOFError):
        return "truncated, the end of the file is missing; download or copy it again"
    reason = " ".join(str(error).split())[:120] or type(error).__name__
    return f"damaged, cannot be decoded ({reason}); download it again, or {CONVERT_HINT}"


def _upright(image: Image.Image) -> Image.Image:
    """Turn the image as its EXIF orientation asks; with a damaged EXIF block it stays as stored."""
    try:
        if image.getexif().get(ExifTags.Base.Orientation, 1) == 1:
            return image  # exif_transpose would copy it
        return ImageOps.exif_transpose(image)
    except Exception:  # EXIF is third-party bytes: the image matters more than its metadata
        return image


def _to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow mode to RGB: transparency on white, deep samples scaled to the whole 8-bit range.

    16-bit grey v becomes round(v / 257) (0 -> 0, 65535 -> 255), and 12 bits in 16 are scaled as
    such (4095 -> 255). Pillow itself reads 16-bit colour as v // 256. 32-bit integers and floats
    have no agreed range: see `_grey_range`.
    """
    if image.mode.startswith("I") or image.mode == "F":
        return _grey(np.asarray(image), image.mode)
    if image.mode in TRANSPARENT or "transparency" in image.info:
        return _in_bands(image, _on_white)
    return image if image.mode == "RGB" else image.convert("RGB")


def _in_bands(image: Image.Image, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """`convert` an image to RGB some rows at a time, since it needs several copies of them."""
    rows = max(1, BAND // image.width)
    if rows >= image.height:
        return convert(image)
    whole = Image.new("RGB", image.size)
    for top in range(0, image.height, rows):
        box = (0, top, image.width, min(top + rows, image.height))
        whole.paste(convert(image.crop(box)), (0, top))
    return whole


def _on_white(image: Image.Image) -> Image.Image:
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def _grey(values: npt.NDArray[Any], mode: str) -> Image.Image:
    """Deep samples [H, W] as RGB, some rows at a time; the range becomes black to white."""
    low, high = _grey_range(values, mode)
    grey, rows = np.empty(values.shape, np.uint8), max(1, BAND // values.shape[1])
    for top in range(0, len(values), rows):
        band = np.nan_to_num(values[top : top + rows].astype(np.float64))
        scaled = np.clip((band - low) * (255.0 / (high - low)), 0, 255)
        grey[top : top + rows] = np.round(scaled).astype(np.uint8)
    return Image.fromarray(grey).convert("RGB")


def _finite_extent(values: npt.NDArray[Any]) -> tuple[float, float]:
    """Smallest and largest finite value [H, W], some rows at a time; 0 where there is none."""
    rows, lows, highs = max(1, BAND // values.shape[1]), [], []
    for top in range(0, len(values), rows):
        band = values[top : top + rows]
        finite = band[np.isfinite(band)]
        if finite.size:
            lows.append(float(finite.min()))
            highs.append(float(finite.max()))
    return (min(lows), max(highs)) if lows else (0.0, 0.0)


def _grey_range(values: npt.NDArray[Any], mode: str) -> tuple[float, float]:
    """The values of an image [H, W] that become black and white.

    [0, 65535] for 16 bits; [0, 4095] where nothing is above 4095 and something above 255 (cameras
    and scanners store their 12 bits so; read as 16, the image would be black); [0, 1] or [0, 255]
    for floats that fit; else the finite minimum and maximum, as scientific images (depth, counts)
    need it.
    """
    low, high = _finite_extent(values)
    if mode.startswith("I;16") and 255 < high <= TWELVE_BITS:
        return 0.0, float(TWELVE_BITS)
    for top in (1.0, 255.0) if mode == "F" else (65535.0,):
        if low >= 0 and high <= top:
            return 0.0, top
    return low, max(high, low + 1e-12)
