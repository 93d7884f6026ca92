"""The referring world on disk: OUT/refer/images/ID.jpg and one JSONL of phrases per split.

For training without annotation there are also scenes.jsonl, what a simulated detector says of the
training images (`detector.Noise`), and captions.jsonl, what their captions say.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

from ...errors import TTDError
from ...utils.files import write_bytes, write_errors, write_text
from ..captions import write_caption
from ..picture import UNSEEN
from ..writer import encode_jpeg
from .detector import Noise, scene_row
from .expressions import AMBIGUOUS, ANIMALS, SPLITS, ReferSample, make_refer_sample

CHUNK = 64  # images a worker makes at a time
UNLABELLED = ("scenes", "captions")  # of the training images
Job = tuple[Path, int, int, str, int, int]
Rows = dict[str, list[dict[str, Any]]]


@dataclass(frozen=True)
class ReferConfig:
    """What to make: images for training, and of each evaluation split; side in pixels."""

    train: int = 6000
    val: int = 300
    seed: int = 0
    size: int = 96


def make_refer_world(
    out: Path,
    config: ReferConfig,
    *,
    workers: int = 1,
    progress: Callable[[int], None] = lambda done: None,
) -> dict[str, Any]:
    """Write OUT/refer and return what its refer.yaml says; `progress(n)`: n more images are made.

    The same config gives the same bytes, whatever `workers`. refer.yaml comes last.
    TTDError: counts, seeds or sizes that make no sense, or a folder that cannot be written.
    """
    if min(config.train, config.val, config.seed) < 0:
        raise TTDError("--refer, --refer-val and --seed must be 0 or more")
    if not 32 <= config.size <= 2048:
        raise TTDError(f"--size {config.size}: images have a side of 32 to 2048 pixels")
    folder = out / "refer"
    with write_errors(folder, "make room, or choose another --out"):
        (folder / "images").mkdir(parents=True, exist_ok=True)
        lines: dict[str, list[dict[str, Any]]] = {name: [] for name in (*SPLITS, *UNLABELLED)}
        for made, count in _made(folder, config, workers):
            for name, more in made.items():
                lines[name] += more
            progress(count)
        for split, rows in lines.items():
            text = "".join(json.dumps(row) + "\n" for row in rows)
            write_text(folder / f"{split}.jsonl", text)
        measured = {split: summary(lines[split]) for split in SPLITS if lines[split]}
        world = {
            "made_with": asdict(config),
            "ambiguous_share_aimed_at": AMBIGUOUS,
            "testA": list(ANIMALS),
            "detector": asdict(Noise()),
            "measured": measured,
        }
        write_text(folder / "refer.yaml", yaml.safe_dump(world, sort_keys=False))
    return world


def _made(folder: Path, config: ReferConfig, workers: int) -> Iterator[tuple[Rows, int]]:
    """(lines by file, images) of every chunk, in order."""
    jobs: list[Job] = []
    for split in SPLITS:
        count = config.train if split == "train" else config.val
        for start in range(0, count, CHUNK):
            stop = min(start + CHUNK, count)
            jobs.append((folder, config.seed, config.size, split, start, stop))
    if workers <= 1:
        yield from map(_make_chunk, jobs)
        return
    with get_context("spawn").Pool(workers) as pool:
        yield from pool.imap(_make_chunk, jobs)


def _make_chunk(job: Job) -> tuple[Rows, int]:
    folder, seed, size, split, start, stop = job
    cv2.setNumThreads(1)
    rows: Rows = {split: []}
    for index in range(start, stop):
        sample = make_refer_sample(seed, split, index, size)
        write_bytes(folder / "images" / f"{sample.id}.jpg", encode_jpeg(sample.image))
        rows[split] += lines_of(sample)
        if split == "train":
            rows.setdefault("scenes", []).append(scene_row(sample, seed))
            rows.setdefault("captions", []).append(caption_row(sample, seed, index))
    return rows, stop - start


def caption_row(sample: ReferSample, seed: int, index: int) -> dict[str, Any]:
    """A caption of an image, written as those of the world's pairs."""
    rng = np.random.default_rng([seed, 18, index])
    text = write_caption(sample.contents, rng, "train")
    return {"image": f"{sample.id}.jpg", "text": text}


def lines_of(sample: ReferSample) -> list[dict[str, Any]]:
    """The JSONL lines of an image; things: all boxes; unseen: of a pair that training lacks."""
    rows = []
    for number, reference in enumerate(sample.references):
        target = sample.contents.things[reference.target]
        row = {
            "id": f"{sample.id}_{number}",
            "image": f"{sample.id}.jpg",
            "box": list(sample.boxes[reference.target]),
            "text": reference.text,
            "target": reference.target,
            "things": [list(box) for box in sample.boxes],
            "ambiguous": reference.fitting > 1,
            "unseen": (target.noun, target.colour) in UNSEEN,
        }
        rows.append(row)
    return rows


def summary(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Images, expressions, and shares in percent of what is ambiguous or of an unseen pair."""
    counts = Counter(row["ambiguous"] for row in rows)
    unseen = sum(row["unseen"] for row in rows)
    return {
        "images": len({row["image"] for row in rows}),
        "expressions": len(rows),
        "ambiguous": round(100 * counts[True] / len(rows), 2),
        "of_unseen_pairs": round(100 * unseen / len(rows), 2),
        "things_per_image": round(sum(len(row["things"]) for row in rows) / len(rows), 2),
    }
