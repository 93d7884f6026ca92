"""One call for every format: `export("coco", open_source(path), folder)`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

from ..masks.results import EXPORT
from ..utils.files import wait_for_lock, write_errors
from . import FORMATS
from .coco import write_annotations, write_coco
from .label_studio import LOCAL, write_label_studio
from .source import Source, open_source
from .voc import write_voc
from .walk import Walk

LOCK = ".lock"
PARTS = (".*.part", "*/.*.part", "*/*/.*.part")  # what a kill has left


@dataclass(frozen=True)
class Exported:
    """Where it is, how many images there are, and a line for each that was left out."""

    folder: Path
    images: int
    problems: tuple[str, ...]


def export(
    form: str,
    source: Source,
    out: Path,
    url: str = LOCAL,
    progress: Callable[[int], None] = lambda done: None,
) -> Exported:
    """Write a result in one of `FORMATS` into the folder OUT, every file whole or not at all.

    The same result gives the same bytes. url: see `write_label_studio`. TTDError when a file cannot
    be written.
    """
    walk = Walk(progress=progress)
    writers: dict[str, Callable[[Source, Path, Walk], None]] = {
        "coco": write_coco,
        "label-studio": partial(write_label_studio, url=url),
        "voc": write_voc,
        "supervision": write_supervision,
    }
    with write_errors(out, "make room, or name another folder"):
        out.mkdir(parents=True, exist_ok=True)
        with (out / LOCK).open("a", encoding="utf-8") as lock:
            wait_for_lock(lock)  # several processes may find the same result complete
            for part in chain.from_iterable(map(out.glob, PARTS)):
                part.unlink(missing_ok=True)
            writers[form](source, out, walk)
    count = len(source.pictures) - len(walk.problems)
    return Exported(out, count, tuple(walk.problems))


def write_supervision(source: Source, out: Path, walk: Walk) -> None:
    """OUT/images and OUT/annotations.json, what `sv.DetectionDataset.from_coco` asks for."""
    walk.folder = out / "images"
    walk.folder.mkdir(parents=True, exist_ok=True)
    write_annotations(source, out / "annotations.json", walk)


def default_out(result: Path, form: str) -> Path:
    """Where exports of a result go: inside a folder of masks, beside a file of boxes."""
    place = result.with_suffix(".export") if result.is_file() else result / EXPORT
    return place / form


__all__ = ["FORMATS", "Exported", "default_out", "export", "open_source"]
