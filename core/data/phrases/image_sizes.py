"""Whether images have the size that annotations say, from their headers: before hours of work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

from ...utils.prefetch import prefetch
from ..labels.turned import upright_size

Size = tuple[int, int]  # (H, W) in pixels
AHEAD, WORKERS = 64, 8  # a server's disk takes longer to answer than a header to read


def wrong_sizes(
    sizes: Mapping[Path, set[Size]], progress: Callable[[int], None] = lambda done: None
) -> list[str]:
    """What is said of each image that is not of its size: its path, and `unlike`.

    sizes: what the annotations say of each image. Images are turned as EXIF asks; one that cannot
    be read is none of these, as reading it says why. Only one that seems wrong is decoded, for an
    EXIF block behind its pixels.
    """
    found = []
    with closing(prefetch(_size, sizes, AHEAD, WORKERS)) as ahead:
        for (path, said), size in zip(sizes.items(), ahead, strict=True):
            progress(1)
            if size is not None and said != {size}:
                size = _size(path, ahead=False) or size
            if size is not None and said != {size}:
                found.append(f"{path} {unlike(size, min(said - {size}))}")
    return found


def unlike(size: Size, said: Size) -> str:
    """`has 480 x 640 pixels, the annotations say 640 x 480`; each (H, W)."""
    return f"has {size[0]} x {size[1]} pixels, the annotations say {said[0]} x {said[1]}"


def _size(path: Path, ahead: bool = True) -> Size | None:
    """(H, W) of the upright image, by default without decoding it; None: unreadable."""
    size = upright_size(path, ahead)
    return None if size is None else (size[1], size[0])
