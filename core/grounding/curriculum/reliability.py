"""Reliability: how far a model's box and a pseudo-label's agree, over a whole source.

r = IoU of the measurer's prediction, cut to the canvas, with the pseudo-box; no augmentation.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...data.grounding import Box, PhraseList
from ...errors import TTDError
from ...utils.files import read_json, write_errors, write_json, write_text
from ..locate import locate_phrases
from ..predict import Grounder
from .pool import Values

if TYPE_CHECKING:
    from ...training.distributed import Ranks

CHUNK = 4096  # phrases a process does between two that are safe on disk


@dataclass(frozen=True)
class Measured:
    """Reliability [N] of a source's labels, and the boxes that were found, in pixels."""

    reliability: Values
    boxes: Sequence[Box]


def measure(
    grounder: Callable[[], Grounder],
    source: PhraseList,
    file: Path,
    model: str,
    ranks: Ranks,
    batch: int = 64,
    progress: Callable[[int], None] = lambda done: None,
) -> Measured:
    """The reliability of every label, from `file` where it is there already.

    Chunks are shared among the processes and written as they are done, so that a crash repeats at
    most one each; an error in one process ends all. grounder: loads the measurer, if it is needed;
    model: its checksum. The table has one JSON line a label: index, reliability, box. TTDError: an
    image that cannot be read, a table of another source or model, a full disk.
    """
    identity = {"source": source.digest, "labels": len(source), "model": model}
    if not _finished(file, identity):
        parts = file.with_name(file.name + ".parts")
        advice = "make room; the same command resumes"
        with ranks.together(), write_errors(parts, advice):
            if ranks.first:
                _begin_parts(parts, identity)
        with ranks.together(), write_errors(parts, advice):
            _measure_parts(grounder, source, parts, ranks, batch, progress)
        with ranks.together():
            if ranks.first:
                _join(file, parts, identity)
    return read_table(file, len(source))


def _finished(file: Path, identity: dict[str, Any]) -> bool:
    """Whether the table is there. TTDError when it was made from something else."""
    if not file.is_file():
        return False
    if read_json(_meta(file)) != identity:
        raise TTDError(f"{file}: of another source or model; move it away")
    return True


def _meta(file: Path) -> Path:
    return file.with_name(file.name + ".meta.json")


def _begin_parts(parts: Path, identity: dict[str, Any]) -> None:
    """Make the folder, and forget what another source or model has left there."""
    if read_json(parts / "made_from.json") != identity:
        shutil.rmtree(parts, ignore_errors=True)
        parts.mkdir(parents=True)
        write_json(parts / "made_from.json", identity)


def _measure_parts(
    grounder: Callable[[], Grounder],
    source: PhraseList,
    parts: Path,
    ranks: Ranks,
    batch: int,
    progress: Callable[[int], None],
) -> None:
    model: Grounder | None = None
    starts = range(0, len(source), CHUNK)
    for start in starts[ranks.rank :: ranks.world]:
        file = parts / f"{start:09d}.jsonl"
        chunk = source.phrases[start : start + CHUNK]
        if not file.is_file():
            model = model or grounder()
            rows = {}
            with closing(locate_phrases(model, chunk, batch)) as found:
                for item in found:
                    rows[item.number] = _line(start + item.number, item.iou, item.box)
            write_text(file, "".join(rows[number] for number in range(len(chunk))))
        progress(len(chunk))


def _line(index: int, iou: float, box: Box) -> str:
    value = min(max(iou, 0.0), 1.0)
    row = {"index": index, "reliability": value, "box": [round(side, 2) for side in box]}
    return json.dumps(row) + "\n"


def _join(file: Path, parts: Path, identity: dict[str, Any]) -> None:
    """All parts in order as one table, then the parts go."""
    files = sorted(parts.glob("*.jsonl"))
    with write_errors(file, "make room; the same command resumes"):
        write_json(_meta(file), identity)
        write_text(file, "".join(part.read_text(encoding="utf-8") for part in files))
        shutil.rmtree(parts)


def read_table(file: Path, count: int) -> Measured:
    """A table of `count` labels. TTDError: not readable, damaged, of another length."""
    values, boxes = np.empty(count), []
    try:
        with open(file, encoding="utf-8") as lines:
            for number, line in enumerate(lines):
                row = json.loads(line)
                if row["index"] != number:
                    raise ValueError(f"line {number + 1} is of label {row['index']}")
                values[number] = row["reliability"]
                left, top, right, bottom = (float(side) for side in row["box"])
                boxes.append((left, top, right, bottom))
        if len(boxes) != count:
            raise ValueError(f"{len(boxes)} labels of {count}")
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise TTDError(f"{file}: damaged ({error}); delete it, it is made again") from None
    return Measured(values, boxes)
