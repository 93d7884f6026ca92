"""The world on disk: training pairs, both evaluation sets with their masks, shards, world.yaml."""

import io
import json
import shutil
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import yaml

from ..data.labels.datasets import MASKS_OF_TAGS
from ..errors import TTDError
from ..utils.config import read_yaml
from ..utils.files import sync_all, write_bytes
from .looks import LOOKS, Look, look_of
from .sample import Facts, Sample, class_map, facts, sample_id, summarise, tag_mask

CHUNK = 64  # images a worker makes at a time
SHARD = 1000  # pairs per tar
FOLDERS = ("cc3m", "cc3m_for_evaluation", "World", "shards")  # all that a world consists of
PAIRS, CAPTIONS, SEGMENTATION = "cc3m/train", "cc3m_for_evaluation", "World/validation"
IMAGES, MASKS = f"{SEGMENTATION}/image", f"{SEGMENTATION}/mask"
MASK_FOLDER = f"{CAPTIONS}/{MASKS_OF_TAGS}"
SUBFOLDERS = (
    f"{PAIRS}/image",
    f"{PAIRS}/json",
    f"{CAPTIONS}/image",
    f"{CAPTIONS}/json_refined",
    MASK_FOLDER,
    IMAGES,
    MASKS,
)
# No chroma subsampling, which would smear small coloured things.
JPEG_SAMPLING = (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)
JPEG = [cv2.IMWRITE_JPEG_QUALITY, 94, *JPEG_SAMPLING]


@dataclass(frozen=True)
class WorldConfig:
    """What to make: `train` training pairs and `val` evaluation images of `size` pixels a side.

    shards: also pack the training pairs in tars. noise: probability in [0, 1] that what a training
    caption names after the main thing is not in the image (`write_caption`). look: of `LOOKS`.
    """

    train: int = 40000
    val: int = 500
    seed: int = 0
    size: int = 96
    shards: bool = False
    noise: float = 0.0
    look: str = "first"

    def recorded(self) -> dict[str, Any]:
        """What world.yaml holds of it: the first look, older than the choice, is not named."""
        return {key: value for key, value in asdict(self).items() if (key, value) != FIRST}


FIRST = ("look", "first")


def _encode(ending: str, image: npt.NDArray[np.uint8], options: list[int] | None = None) -> bytes:
    return cv2.imencode(ending, image, options or [])[1].tobytes()


def encode_jpeg(image: npt.NDArray[np.uint8]) -> bytes:
    """JPEG of a uint8 RGB image [H, W, 3], quality 94, without chroma subsampling."""
    return _encode(".jpg", np.ascontiguousarray(image[..., ::-1]), JPEG)


def _palette() -> list[int]:
    """256 RGB triples: black for 0, then hues as far apart as the golden angle puts them."""
    hue = (np.arange(255) * 137.508 / 2 % 180).astype(np.uint8)
    hsv = np.stack([hue, np.full(255, 190, np.uint8), np.full(255, 230, np.uint8)], 1)[None]
    return [0, 0, 0, *cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB).flatten().tolist()]


def _palette_png(index: npt.NDArray[np.uint8]) -> bytes:
    from PIL import Image

    image = Image.fromarray(index)
    image.putpalette(_palette())
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _dump(record: dict[str, Any]) -> bytes:
    return (json.dumps(record, ensure_ascii=False) + "\n").encode()


def write_train(out: Path, sample: Sample, look: Look = LOOKS["first"]) -> None:
    """One training pair: cc3m/train/{image/ID.jpg, json/ID.json}."""
    write_bytes(out / PAIRS / f"image/{sample.id}.jpg", encode_jpeg(sample.image))
    write_bytes(out / PAIRS / f"json/{sample.id}.json", _dump({"text": sample.text}))


def write_val(out: Path, sample: Sample, look: Look = LOOKS["first"]) -> None:
    """One evaluation image in both layouts.

    cc3m_for_evaluation: caption, true tags and a mask for each; World: index mask of the nouns.
    """
    jpeg, caption = encode_jpeg(sample.image), {"text": sample.text, "tags": sample.tags}
    write_bytes(out / CAPTIONS / f"image/{sample.id}.jpg", jpeg)
    write_bytes(out / CAPTIONS / f"json_refined/{sample.id}.json", _dump(caption))
    masks = out / MASK_FOLDER / sample.id
    masks.mkdir(exist_ok=True)
    for tag in sample.tags:
        values = tag_mask(sample, tag).astype(np.uint8) * 255
        write_bytes(masks / f"{tag}.png", _encode(".png", values))
    write_bytes(out / IMAGES / f"{sample.id}.jpg", jpeg)
    write_bytes(out / MASKS / f"{sample.id}.png", _palette_png(class_map(sample, look.nouns)))


@dataclass(frozen=True)
class _Job:
    """The images `start` to `stop` (exclusive) of a split, to be made by one worker."""

    out: Path
    config: WorldConfig
    split: str
    start: int
    stop: int


def _make_chunk(job: _Job) -> list[Facts]:
    """Worker: make and write the images of a job."""
    cv2.setNumThreads(1)
    config, look = job.config, LOOKS[job.config.look]
    write = write_train if job.split == "train" else write_val
    rows = []
    for index in range(job.start, job.stop):
        sample = look.make(config.seed, job.split, index, config.size, config.noise)
        write(job.out, sample, look)
        rows.append(facts(sample, (*look.nouns, *look.colours)))
    return rows


def _jobs(out: Path, config: WorldConfig) -> Iterator[_Job]:
    for split, count in (("train", config.train), ("val", config.val)):
        for start in range(0, count, CHUNK):
            yield _Job(out, config, split, start, min(start + CHUNK, count))


def _run(jobs: list[_Job], workers: int) -> Iterator[list[Facts]]:
    if workers <= 1:
        yield from map(_make_chunk, jobs)
        return
    # spawn: the same on every platform, and safe beside threads
    with get_context("spawn").Pool(workers) as pool:
        yield from pool.imap(_make_chunk, jobs)


def _prepare(out: Path, config: WorldConfig, overwrite: bool) -> None:
    """Make the folders; refuse to mix with another world; `overwrite` removes that one first."""
    done, begun = out / "world.yaml", out / ".world.part"
    for mark in (done, begun):
        if mark.exists():
            _clear(out, mark, config, overwrite)
    try:
        for folder in (*SUBFOLDERS, *["shards"] * config.shards):
            (out / folder).mkdir(parents=True, exist_ok=True)
        write_bytes(begun, yaml.safe_dump({"made_with": config.recorded()}).encode())
    except OSError as error:
        raise TTDError(
            f"cannot write the world under {out} ({error.strerror}): choose another --out"
        ) from error


def _clear(out: Path, mark: Path, config: WorldConfig, overwrite: bool) -> None:
    """Remove a world that was made with another config. TTDError unless `overwrite`."""
    found = made_with(mark)
    if found == config.recorded():
        return
    if found is None and not overwrite:
        raise TTDError(
            f"{mark}: damaged, so which world it is of is not known: choose another --out or add "
            "--overwrite"
        )
    if not overwrite:
        raise TTDError(
            f"{out} holds another world (made with {found}): "
            "choose another --out or add --overwrite"
        )
    for folder in FOLDERS:
        shutil.rmtree(out / folder, ignore_errors=True)
    mark.unlink()


def made_with(mark: Path) -> dict[str, Any] | None:
    """The config that a world's `world.yaml` says it was made with; None: absent or damaged."""
    try:
        found = read_yaml(mark).get("made_with")
    except TTDError:
        return None
    return found if isinstance(found, dict) else None


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)  # time 0, owner 0: same world, same bytes
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def write_shards(out: Path, config: WorldConfig) -> int:
    """Pack the training pairs under `out` into shards/00000.tar, ... (ID.jpg + ID.txt).

    Returns the number of tars.
    """
    ids = iter([sample_id("train", i) for i in range(config.train)])
    count = 0
    while chunk := list(islice(ids, SHARD)):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for name in chunk:
                caption = json.loads((out / PAIRS / f"json/{name}.json").read_bytes())
                _add(tar, f"{name}.jpg", (out / PAIRS / f"image/{name}.jpg").read_bytes())
                _add(tar, f"{name}.txt", caption["text"].encode())
        write_bytes(out / f"shards/{count:05d}.tar", buffer.getvalue())
        count += 1
    return count


def describe(config: WorldConfig, rows: list[Facts]) -> dict[str, Any]:
    """The content of world.yaml: the segmentation set, how it was made, and what was measured."""
    train = [row for row in rows if row.id.startswith("train")]
    val = [row for row in rows if row.id.startswith("val")]
    by_split, look = {"train": train, "val": val}, LOOKS[config.look]
    return {
        "name": "World",
        "images": IMAGES,
        "masks": MASKS,
        "classes": list(look.nouns),
        "background": 0,
        "ignore": 255,
        "bg": 0.4,
        "made_with": config.recorded(),
        "colours": list(look.colours),
        "scenes": list(look.scenes),
        "measured": {split: summarise(part) for split, part in by_split.items() if part},
        "unseen_pairs": [f"{colour} {noun}" for noun, colour in look.unseen],
        "unseen_ids": {row.id: list(row.unseen) for row in val if row.unseen},
    }


def make_world(
    out: Path,
    config: WorldConfig,
    *,
    workers: int = 1,
    overwrite: bool = False,
    progress: Callable[[int], None] = lambda done: None,
) -> dict[str, Any]:
    """Write the whole world under `out`; returns the content of world.yaml.

    The same config gives the same bytes, whatever `workers` (processes); run again, it writes the
    same files once more. `progress(n)` is called after every n images. world.yaml is written last:
    where it exists, the world is complete. Raises TTDError when `out` cannot be written or holds
    another world, and for counts, sizes, seeds or noise that make no sense.
    """
    check_config(config)
    out = Path(out)
    _prepare(out, config, overwrite)
    rows: list[Facts] = []
    try:
        for part in _run(list(_jobs(out, config)), workers):
            rows += part
            progress(len(part))
        if config.shards:
            write_shards(out, config)
        world = describe(config, rows)
        text = yaml.safe_dump(world, sort_keys=False, width=120)
        sync_all()  # what world.yaml stands for comes first
        write_bytes(out / "world.yaml", text.encode(), durable=True)
        (out / ".world.part").unlink()
    except OSError as error:
        raise TTDError(f"cannot write {error.filename or out} ({error.strerror})") from error
    return world


def check_config(config: WorldConfig) -> None:
    """TTDError for values that make no sense."""
    if config.train < 0 or config.val < 0 or config.seed < 0:
        raise TTDError("--train, --val and --seed must be 0 or more")
    if not 0 <= config.noise <= 1:
        raise TTDError(f"--noise {config.noise}: must be in [0, 1]")
    look_of(config.look)
    if config.noise and config.look != "first":
        raise TTDError(f"--noise {config.noise}: the look {config.look!r} has no such captions")
    if not 32 <= config.size <= 2048:
        raise TTDError(f"--size {config.size}: images have a side of 32 to 2048 pixels")
