"""The world on disk: training pairs, the evaluation set with its masks, the segmentation set, shards, world.yaml."""

import io
import json
import shutil
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import yaml

from ..errors import TTDError
from ..utils.files import write_bytes
from .objects import NOUNS
from .palette import COLOURS, unseen_pairs
from .sample import Facts, Sample, class_map, facts, make_sample, sample_id, summarise, tag_mask
from .scenes import SCENES

CHUNK = 64  # images a worker makes at a time
SHARD = 1000  # pairs per tar
FOLDERS = ("cc3m", "cc3m_for_evaluation", "World", "shards")
JPEG = [
    cv2.IMWRITE_JPEG_QUALITY,
    94,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
]


@dataclass(frozen=True)
class WorldConfig:
    """What to make. `size` is the side of the images in pixels; `shards` also packs the training pairs in tars.

    noise: chance in [0, 1] that what a training caption names after the main thing is not there
    (`write_caption`).
    """

    train: int = 40000
    val: int = 500
    seed: int = 0
    size: int = 96
    shards: bool = False
    noise: float = 0.0


def _encode(ending: str, image: np.ndarray, options: list[int] | None = None) -> bytes:
    return cv2.imencode(ending, image, options or [])[1].tobytes()


def encode_jpeg(image: np.ndarray) -> bytes:
    """JPEG of a uint8 RGB image [H, W, 3]; no chroma subsampling, which would smear small coloured things."""
    return _encode(".jpg", np.ascontiguousarray(image[..., ::-1]), JPEG)


def _palette() -> list[int]:
    """256 RGB triples: black for 0, then hues as far apart as the golden angle puts them."""
    hue = (np.arange(255) * 137.508 / 2 % 180).astype(np.uint8)
    hsv = np.stack([hue, np.full(255, 190, np.uint8), np.full(255, 230, np.uint8)], 1)[None]
    return [0, 0, 0, *cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB).flatten().tolist()]


def _palette_png(index: np.ndarray) -> bytes:
    from PIL import Image

    image = Image.fromarray(index)
    image.putpalette(_palette())
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _dump(record: dict) -> bytes:
    return (json.dumps(record, ensure_ascii=False) + "\n").encode()


def write_train(out: Path, sample: Sample) -> None:
    """One training pair: cc3m/train/{image/ID.jpg, json/ID.json}."""
    write_bytes(out / f"cc3m/train/image/{sample.id}.jpg", encode_jpeg(sample.image))
    write_bytes(out / f"cc3m/train/json/{sample.id}.json", _dump({"text": sample.text}))


def write_val(out: Path, sample: Sample) -> None:
    """One evaluation image, in both layouts: caption with true tags and their masks; index mask of the nouns."""
    jpeg, root = encode_jpeg(sample.image), out / "cc3m_for_evaluation"
    write_bytes(root / f"image/{sample.id}.jpg", jpeg)
    write_bytes(
        root / f"json_refined/{sample.id}.json", _dump({"text": sample.text, "tags": sample.tags})
    )
    masks = root / "mask_using_HQ-SAM" / sample.id
    masks.mkdir(exist_ok=True)
    for tag in sample.tags:
        write_bytes(
            masks / f"{tag}.png", _encode(".png", tag_mask(sample, tag).astype(np.uint8) * 255)
        )
    write_bytes(out / f"World/validation/image/{sample.id}.jpg", jpeg)
    write_bytes(out / f"World/validation/mask/{sample.id}.png", _palette_png(class_map(sample)))


def _make_chunk(job: tuple[Path, WorldConfig, str, int, int]) -> list[Facts]:
    """Worker: make and write the images `start` to `stop` of a split."""
    out, config, split, start, stop = job
    cv2.setNumThreads(1)
    rows = []
    for index in range(start, stop):
        sample = make_sample(config.seed, split, index, config.size, config.noise)
        (write_train if split == "train" else write_val)(out, sample)
        rows.append(facts(sample))
    return rows


def _chunks(out: Path, config: WorldConfig) -> Iterator[tuple[Path, WorldConfig, str, int, int]]:
    for split, count in (("train", config.train), ("val", config.val)):
        for start in range(0, count, CHUNK):
            yield out, config, split, start, min(start + CHUNK, count)


def _run(jobs: list, workers: int) -> Iterator[list[Facts]]:
    if workers <= 1:
        yield from map(_make_chunk, jobs)
        return
    with get_context("spawn").Pool(
        workers
    ) as pool:  # spawn: the same on every platform, and safe beside threads
        yield from pool.imap(_make_chunk, jobs)


def _prepare(out: Path, config: WorldConfig, overwrite: bool) -> None:
    """Make the folders; refuse to mix with another world; `overwrite` removes that one first."""
    marks = [out / "world.yaml", out / ".world.part"]
    for mark in marks:
        if not mark.exists():
            continue
        found = (yaml.safe_load(mark.read_text()) or {}).get("made_with")
        if found != asdict(config) and not overwrite:
            raise TTDError(
                f"{out} holds another world (made with {found}): choose another --out or add --overwrite"
            )
        if found != asdict(config):
            for folder in FOLDERS:
                shutil.rmtree(out / folder, ignore_errors=True)
            mark.unlink()
    folders = [
        "cc3m/train/image",
        "cc3m/train/json",
        "cc3m_for_evaluation/image",
        "cc3m_for_evaluation/json_refined",
    ]
    folders += [
        "cc3m_for_evaluation/mask_using_HQ-SAM",
        "World/validation/image",
        "World/validation/mask",
    ]
    try:
        for folder in folders + ["shards"] * config.shards:
            (out / folder).mkdir(parents=True, exist_ok=True)
        write_bytes(marks[1], yaml.safe_dump({"made_with": asdict(config)}).encode())
    except OSError as error:
        raise TTDError(
            f"cannot write the world under {out} ({error.strerror}): choose another --out"
        ) from error


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)  # time 0, owner 0: same world, same bytes
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def write_shards(out: Path, config: WorldConfig) -> int:
    """Pack the training pairs already under `out` into shards/00000.tar, ... (ID.jpg + ID.txt) -> number of tars."""
    ids = iter([sample_id("train", i) for i in range(config.train)])
    count = 0
    while chunk := list(islice(ids, SHARD)):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for name in chunk:
                _add(tar, f"{name}.jpg", (out / f"cc3m/train/image/{name}.jpg").read_bytes())
                text = json.loads(
                    (out / f"cc3m/train/json/{name}.json").read_text(encoding="utf-8")
                )["text"]
                _add(tar, f"{name}.txt", text.encode())
        write_bytes(out / f"shards/{count:05d}.tar", buffer.getvalue())
        count += 1
    return count


def describe(config: WorldConfig, rows: list[Facts]) -> dict:
    """The content of world.yaml: the segmentation set first, then how it was made and what was measured."""
    by_split = {s: [r for r in rows if r.id.startswith(s)] for s in ("train", "val")}
    return {
        "name": "World",
        "images": "World/validation/image",
        "masks": "World/validation/mask",
        "classes": list(NOUNS),
        "background": 0,
        "ignore": 255,
        "bg": 0.4,
        "made_with": asdict(config),
        "colours": list(COLOURS),
        "scenes": list(SCENES),
        "measured": {split: summarise(part) for split, part in by_split.items() if part},
        "unseen_pairs": [f"{colour} {noun}" for noun, colour in unseen_pairs()],
        "unseen_ids": {r.id: list(r.unseen) for r in by_split["val"] if r.unseen},
    }


def make_world(out: Path, config: WorldConfig, *, workers: int = 1, overwrite: bool = False,
               progress: Callable[[int], None] = lambda done: None) -> dict:  # fmt: skip
    """Write the whole world under `out` and return what world.yaml says; `progress(n)` is told of n more images.

    The same config gives the same bytes, whatever `workers`; run again, it writes the same files
    once more.
    world.yaml comes last: where it stands, the world is complete. Raises TTDError when `out` cannot
    be written or holds another world, and for counts, sizes, seeds or noise that make no sense.
    """
    if config.train < 0 or config.val < 0 or config.seed < 0:
        raise TTDError("--train, --val and --seed must be 0 or more")
    if not 0 <= config.noise <= 1:
        raise TTDError(f"--noise {config.noise}: a share in [0, 1] is due")
    if not 32 <= config.size <= 2048:
        raise TTDError(f"--size {config.size}: images have a side of 32 to 2048 pixels")
    out = Path(out)
    _prepare(out, config, overwrite)
    rows: list[Facts] = []
    try:
        for part in _run(list(_chunks(out, config)), workers):
            rows += part
            progress(len(part))
        if config.shards:
            write_shards(out, config)
        world = describe(config, rows)
        write_bytes(out / "world.yaml", yaml.safe_dump(world, sort_keys=False, width=120).encode())
        (out / ".world.part").unlink()
    except OSError as error:
        raise TTDError(f"cannot write {error.filename or out} ({error.strerror})") from error
    return world
