"""The images of a result one after the other: what cannot be used is left out and said."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from ..errors import TTDError
from ..utils.files import atomic
from .names import distinct, file_stem
from .source import Picture, Region, Source, read_bytes

KEPT = {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png"}  # formats that every tool reads


@dataclass
class Walk:
    """Calls for every image that can be used: the image, its regions, and what it is called.

    folder: where copies of the images go; None: they stay, and are called what they were.
    problems: a line for everything that was left out.
    """

    folder: Path | None = None
    progress: Callable[[int], None] = lambda done: None
    problems: list[str] = field(default_factory=list)

    def __call__(self, source: Source) -> Iterator[tuple[Picture, list[Region], str]]:
        """Image, regions and file name, in order; OSError when a copy cannot be written."""
        stems = distinct(file_stem(one.photo.name) for one in source.pictures)
        for picture, stem in zip(source.pictures, stems, strict=True):
            try:
                regions = list(source.regions(picture))
                name, data = picture.photo.name, b""
                if self.folder is not None:
                    name, data = portable(picture, stem)
            except TTDError as error:
                self.problems.append(str(error))
                continue
            if self.folder is not None:
                with atomic(self.folder / name, shared=True) as part:
                    part.write_bytes(data)
            yield picture, regions, name
            self.progress(1)


def portable(picture: Picture, stem: str) -> tuple[str, bytes]:
    """The name and the bytes of a copy that every tool reads. TTDError: it cannot be read.

    Upright JPEG and PNG files are copied as they are; anything else becomes a PNG of its pixels.
    """
    _, _, form = picture.header
    if form in KEPT:
        return stem + KEPT[form], read_bytes(picture.photo)
    file = io.BytesIO()
    Image.fromarray(picture.photo.read()).save(file, format="PNG")
    return f"{stem}.png", file.getvalue()
