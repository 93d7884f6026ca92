"""Images as people have them: whatever file comes in, uint8 RGB comes out, or one line that says why not."""

from __future__ import annotations

import glob
import io
import json
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import TTDError

SUFFIXES = frozenset(
    {
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".webp",
        ".gif",
        ".bmp",
        ".tif",
        ".tiff",
        ".avif",
        ".jp2",
    }
    | {".ppm", ".pgm", ".pbm", ".tga", ".ico"}
)
CONVERT_HINT = "open it in an image editor and save it as PNG or JPEG"


class Listed(NamedTuple):
    """One image to work on and the captions that came with it (none for plain files)."""

    path: Path
    texts: tuple[str, ...] = ()


def read_image(path: str | Path) -> np.ndarray:
    """Read any image file as uint8 [H, W, 3] RGB: upright, its first frame, on white where it is transparent.

    Handles what Pillow can open: JPEG (CMYK too), PNG, WebP, GIF, TIFF, AVIF, ...; EXIF orientation
    is applied; deeper samples are scaled to 8 bits (see `_to_rgb`).
    Raises TTDError naming the file: missing, a folder, not readable, empty, not an image,
    truncated, or larger than Pillow's limit against decompression bombs (about 179 million pixels).
    """
    path = Path(path)
    _check_file(path)
    return _decode(path, path)


def decode_image(data: bytes, name: str | Path) -> np.ndarray:
    """`read_image` for an image that is already in memory; `name` is what errors call it."""
    if not data:
        raise TTDError(f"{name}: the file is empty; download or copy it again")
    return _decode(io.BytesIO(data), name)


def _decode(source: Path | io.BytesIO, name: str | Path) -> np.ndarray:
    """A file or its bytes -> uint8 [H, W, 3] RGB; TTDError naming it."""
    # Pillow warns about large images, odd EXIF blocks, palettes: none of it helps whoever runs a
    # script.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(source) as image:
                image.load()
                return np.array(_to_rgb(_upright(image)))
        except Image.DecompressionBombError:
            limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 10**6
            raise TTDError(
                f"{name}: more than {limit} million pixels; make the image smaller first"
            ) from None
        except UnidentifiedImageError:
            raise TTDError(
                f"{name}: not an image, or damaged, or of a format unknown here; {CONVERT_HINT}"
            ) from None
        except MemoryError:
            raise TTDError(
                f"{name}: not enough memory to decode it; make the image smaller first"
            ) from None
        except (
            Exception
        ) as error:  # decoders raise nearly any type on damaged bytes; all of them mean the same
            raise TTDError(_damaged(name, error)) from None


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


def _damaged(path: str | Path, error: Exception) -> str:
    """One line for a file that starts like an image and cannot be decoded."""
    if "truncated" in str(error) or isinstance(error, EOFError):
        return f"{path}: truncated, the end of the file is missing; download or copy it again"
    reason = " ".join(str(error).split())[:120] or type(error).__name__
    return f"{path}: damaged, cannot be decoded ({reason}); download it again, or {CONVERT_HINT}"


def _upright(image: Image.Image) -> Image.Image:
    """Turn the image as its EXIF orientation asks; a damaged EXIF block leaves it as it is stored."""
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
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def _grey_range(values: np.ndarray, mode: str) -> tuple[float, float]:
    """The values that become black and white: [0, 65535] for 16 bits, [0, 1] or [0, 255] for floats that fit,
    else the finite minimum and maximum (scientific images: depth, counts)."""
    finite = values[np.isfinite(values)]
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
    for top in (1.0, 255.0) if mode == "F" else (65535.0,):
        if low >= 0 and high <= top:
            return 0.0, top
    return float(low), float(max(high, low + 1e-12))


def list_images(inputs: Sequence[str | Path]) -> list[Listed]:
    """The images that files, folders, glob patterns and JSONL lists name, in the order given.

    A folder gives the images directly in it, sorted by name. A JSONL line is `{"image": path,
    "text": str}` or `{"image": path, "captions": [str, ...]}`; its path is relative to the JSONL's
    folder or to `images/` or `image/` beside it. An image that a JSONL names and that is missing
    stays in the list (reading it will say so), unless all of them are missing.
    Raises TTDError: inputs that do not exist (all in one line), a folder without images, a bad
    JSONL line.
    """
    listed: list[Listed] = []
    missing: list[str] = []
    for item in inputs:
        if not str(item) or not (paths := _expand(item)):
            missing.append(str(item) or "'' (an empty name)")
            continue
        for path in paths:
            listed.extend(
                _read_jsonl(path)
                if path.suffix.lower() in (".jsonl", ".ndjson")
                else [Listed(path)]
            )
    if missing:
        raise TTDError(f"no such file, folder or pattern: {_shorten(missing)}; check the path")
    return listed


def _expand(item: str | Path) -> list[Path]:
    """The files behind one input: itself, a folder's images, or a pattern's matches; [] when nothing is there."""
    path = Path(item).expanduser()
    try:
        if path.is_dir():
            return _folder(path)
        if path.exists():
            return [path]
    except (OSError, ValueError):  # no permission on the way, a name too long, a NUL byte
        return []
    if not glob.has_magic(str(path)):
        return []
    found = sorted(Path(name) for name in glob.glob(str(path), recursive=True))
    return [
        match
        for match in found
        if match.is_file() and match.suffix.lower() in SUFFIXES | {".jsonl"}
    ]


def _folder(folder: Path) -> list[Path]:
    """The images directly in `folder`, sorted by name, without hidden files."""
    try:
        files = sorted(
            p
            for p in folder.iterdir()
            if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")
        )
    except PermissionError:
        raise TTDError(
            f"{folder}: no permission to list this folder; change its permissions (chmod +rx)"
        ) from None
    if not files:
        raise TTDError(
            f"{folder}: no images directly in this folder; for subfolders use a pattern: '{folder}/**/*'"
        )
    return files


def _read_jsonl(path: Path) -> list[Listed]:
    """All lines of a JSONL list; errors name file:line."""
    try:
        lines = path.read_text(encoding="utf-8-sig").split(
            "\n"
        )  # splitlines() would also cut at U+2028
    except UnicodeDecodeError:
        raise TTDError(f"{path}: not UTF-8 text; save the list as UTF-8") from None
    except OSError as error:
        raise TTDError(
            f"{path}: cannot be read ({error.strerror}); check its permissions"
        ) from None
    listed = list(_parse_lines(path, lines))
    if not listed:
        raise TTDError(f'{path}: no lines; each must be {{"image": path, "text": caption}}')
    absent = [str(item.path) for item in listed if not item.path.exists()]
    if len(absent) == len(listed):
        raise TTDError(
            f"{path}: none of its images is there: {_shorten(absent)}; put them in {path.parent}/images"
        )
    return listed


def _parse_lines(path: Path, lines: Sequence[str]) -> Iterator[Listed]:
    """Yield a Listed per non-blank line; TTDError with file:line for anything else than the two known forms."""
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise TTDError(f"{where}: not JSON ({error}); write one object a line") from None
        if (
            not isinstance(record, dict)
            or not isinstance(record.get("image"), str)
            or not record["image"]
        ):
            raise TTDError(
                f'{where}: no "image" with a path; a line is {{"image": path, "text": caption}}'
            )
        texts = (
            record["captions"]
            if "captions" in record
            else [record["text"]]
            if "text" in record
            else []
        )
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise TTDError(f'{where}: "text" must be a string and "captions" a list of strings')
        yield Listed(
            _beside(path.parent, record["image"]), tuple(text for text in texts if text.strip())
        )


def _beside(folder: Path, name: str) -> Path:
    """The first of folder/name, folder/images/name, folder/image/name that exists; else folder/name."""
    candidates = [folder / name, folder / "images" / name, folder / "image" / name]
    return next((path for path in candidates if path.exists()), candidates[0])


def _shorten(names: Sequence[str], limit: int = 5) -> str:
    """The first few names and how many more there are, for one line."""
    rest = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + rest
