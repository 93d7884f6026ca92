"""A handful of generated images with captions, in the layouts that training reads."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

NOUNS = ("dog", "cat", "boat", "tree", "car", "house")
COLOURS = ("red", "green", "blue")


def caption(number: int) -> str:
    """Two nouns with colours; the captions of neighbours differ."""
    first, second = NOUNS[number % 6], NOUNS[(number * 5 + 1) % 6]
    return f"a {COLOURS[number % 3]} {first} and the {second}."


def picture(number: int, size: tuple[int, int] = (40, 32)) -> Image.Image:
    """Blurred noise, another for every number; size (width, height)."""
    noise = np.random.default_rng(number).integers(0, 255, (4, 5, 3)).astype(np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BILINEAR)


def write_set(root: Path, count: int, name: str = "cc3m", first: int = 0) -> Path:
    """ROOT/NAME/train/{image,json} with ids NAME_0000, ...; the folder ROOT."""
    for folder in ("image", "json"):
        (root / name / "train" / folder).mkdir(parents=True, exist_ok=True)
    for number in range(first, first + count):
        stem = root / name / "train"
        picture(number).save(stem / "image" / f"{name}_{number:04d}.jpg", quality=95)
        (stem / "json" / f"{name}_{number:04d}.json").write_text(
            json.dumps({"text": caption(number)})
        )
    return root


def write_jsonl(path: Path, count: int) -> Path:
    """A JSONL list beside its images."""
    (path.parent / "images").mkdir(parents=True, exist_ok=True)
    for number in range(count):
        picture(number).save(path.parent / "images" / f"p{number:04d}.png")
    path.write_text(
        "".join(
            json.dumps({"image": f"images/p{n:04d}.png", "text": caption(n)}) + "\n"
            for n in range(count)
        )
    )
    return path


def write_shards(folder: Path, counts: tuple[int, ...]) -> Path:
    """webdataset shards 00000.tar, ... with so many pairs each."""
    folder.mkdir(parents=True, exist_ok=True)
    for shard in range(len(counts)):
        with tarfile.open(folder / f"{shard:05d}.tar", "w") as tar:
            for number in range(sum(counts[:shard]), sum(counts[: shard + 1])):
                data = io.BytesIO()
                picture(number).save(data, "PNG")
                _add(tar, f"{number:06d}.png", data.getvalue())
                _add(tar, f"{number:06d}.txt", caption(number).encode())
    return folder


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))
