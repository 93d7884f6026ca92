"""From a release of phrases with boxes to one JSONL per split: counted, checked, reviewed.

What the releases look like is in core/data/prepare/grounding_releases.py. Here is what happens to
their rows: lines that cannot be used are dropped by reason, sizes are compared with the
benchmark's, and images that stand in a training split and in another set's evaluation are found.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...errors import TTDError
from ...utils.files import write_errors, write_text
from ..grounding import check_box, read_rows, split_file
from ..grounding_sets import grounding_set

Row = dict[str, Any]


@dataclass(frozen=True)
class Prepared:
    """What became of a split: phrases and images written, rows dropped by reason."""

    path: Path
    phrases: int
    images: int
    dropped: Mapping[str, int] = field(default_factory=dict)


def write_split(
    path: Path, rows: Iterable[Row], expected: int | None = None, keep_empty: bool = False
) -> Prepared:
    """Write the rows that can be used, in order, whole or not at all.

    expected: how many the benchmark has; keep_empty: boxes without area too, as a benchmark's
    evaluation splits have to be scored whole.
    Errors: TTDError: another number, nothing usable, or not writable.
    """
    dropped: Counter[str] = Counter()
    lines, images = [], set()
    for row in rows:
        reason = _fault(row, keep_empty)
        if reason:
            dropped[reason] += 1
            continue
        lines.append(json.dumps(row, ensure_ascii=False))
        images.add(row["image"])
    told = ", ".join(f"{count} {reason}" for reason, count in dropped.items())
    if not lines:
        raise TTDError(f"{path.name}: nothing to write ({told or 'the release has no such split'})")
    if expected is not None and len(lines) != expected:
        raise TTDError(
            f"{path.name}: {len(lines)} phrases, the benchmark has {expected}"
            f"{'; dropped: ' + told if told else ''}; another release? --any-count writes it"
        )
    with write_errors(path, "make room, or choose another --out"):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, "\n".join(lines) + "\n")
    return Prepared(path, len(lines), len(images), dict(dropped))


def _fault(row: Row, keep_empty: bool) -> str | None:
    """Why a row cannot be used."""
    if not isinstance(row.get("text"), str) or not row["text"].strip():
        return "without a phrase"
    if not isinstance(row.get("image"), str) or not row["image"]:
        return "without an image"
    try:
        left, top, right, bottom = check_box(row.get("box"), "row")
    except TTDError:
        return "without a box of numbers"
    empty = right <= left or bottom <= top
    return "with an empty box" if empty and not keep_empty else None


def shared_images(
    train: Sequence[str], evaluation: Mapping[str, Sequence[str]]
) -> dict[str, set[str]]:
    """Images of a training split that stand in an evaluation split too: {split: names}.

    train: names of the images, as `image_key` has them; evaluation: the same by split.
    """
    seen = set(train)
    found = {split: seen.intersection(names) for split, names in evaluation.items()}
    return {split: names for split, names in found.items() if names}


def find_leaks(split_root: Path, datasets: Sequence[str]) -> dict[tuple[str, str], int]:
    """Images that a set's train split shares with an evaluation split of the sets.

    Every prepared train split of `datasets` is compared with every evaluation split that is there.
    Returns: {(train split, evaluation split): shared images}, names as in "gref_train".
    """
    evaluation = {}
    for name in datasets:
        for split in grounding_set(name).evaluate:
            if (file := _there(split_root, name, split)) is not None:
                evaluation[f"{name}_{split}"] = image_names(file, name)
    leaks = {}
    for name in datasets:
        if (file := _there(split_root, name, "train")) is None:
            continue
        found = shared_images(image_names(file, name), evaluation)
        leaks.update({(f"{name}_train", split): len(names) for split, names in found.items()})
    return leaks


def _there(split_root: Path, name: str, split: str) -> Path | None:
    try:
        return split_file(split_root, name, split)
    except TTDError:
        return None


def image_names(file: Path, dataset: str) -> list[str]:
    """The images of a prepared split as FOLDER/NAME: sets of one folder share their images.

    TTDError with the line that is no JSON.
    """
    folder = grounding_set(dataset).images
    return sorted({f"{folder}/{row['image']}" for row in read_rows(file, grounding_set(dataset))})


def check_leaks(split_root: Path, datasets: Sequence[str]) -> None:
    """TTDError when sets are trained together and one's train images are another's evaluation.

    RefCOCOg's google split is such a one: its train images stand in RefCOCO's val and test.
    """
    if len(datasets) < 2:
        return
    leaks = find_leaks(split_root, datasets)
    mixed = {pair: n for pair, n in leaks.items() if pair[0].rsplit("_", 1)[0] in datasets}
    if mixed:
        told = ", ".join(f"{n} images of {pair[0]} in {pair[1]}" for pair, n in mixed.items())
        raise TTDError(f"training on {' + '.join(datasets)} would see what it is scored on: {told}")


def mark_reviewed(rows: Iterable[Row], reviews: Mapping[tuple[str, str], bool]) -> list[Row]:
    """The rows with "clean" where reviewers judged them; reviews: {(image, phrase): right}."""
    marked = []
    for row in rows:
        verdict = reviews.get((Path(row["image"]).name, row["text"].strip().lower()))
        marked.append(row if verdict is None else {**row, "clean": verdict})
    return marked
