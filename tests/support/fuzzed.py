"""A reader of strangers' files with a valid file for it: what the fuzz tests change."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from small_records import picture, write


@dataclass(frozen=True)
class Reader:
    """A valid file and who reads it; `content`: its JSON or YAML value, where it is one."""

    make: Callable[[Path], Path]
    read: Callable[[Path], Any]
    content: Any = None
    lines: bool = False  # JSONL: a list of rows


def image(ending, **options):
    """A file of 6 x 5 pixels."""

    def make(folder):
        pixels = np.random.default_rng(0).integers(0, 255, (5, 6, 3), np.uint8)
        path = folder / f"image.{ending}"
        Image.fromarray(pixels).save(path, **options)
        return path

    return make


def stored(name, data):
    """A file of these bytes."""

    def make(folder):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    return make


def jsonl(rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def beside_images(name, data):
    """A file in a folder with images/ a.png and b.png."""

    def make(folder):
        write(folder, {"images/a.png": picture(10), "images/b.png": picture(20)})
        return stored(name, data)(folder)

    return make
