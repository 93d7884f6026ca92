"""Reliability tables in the form of CLIP-VG's own files, for its scripts and ours.

{dataset}_train_pseudo_refine_0_0 ... 0_9.pth: labels more reliable than 0.0 ... 0.9; _refine_1_0:
those of reliability 1; _bad_label_0_0 and _0_4: reliability 0, and below 0.4, with the value.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ...data.grounding import Phrase
from ...data.grounding_sets import grounding_set
from ...errors import TTDError
from ...utils.files import atomic, write_errors
from .lab import CurriculumLab
from .pool import Values
from .schedule import Outcome

PLACEHOLDER = "useless placeholder"  # what the released pseudo-labels hold in unused places
BAD = 0.4
SEPARATE = re.compile(r"(\d+)_(.+)_train_pseudo_([a-z]+)_(\d+)_(\d+)\.pth")


@dataclass(frozen=True)
class Separate:
    """A released list of one source: its place in the order, its source, its threshold."""

    path: Path
    number: int
    source: str
    threshold: float


def read_separate(folder: Path, dataset: str) -> list[Separate]:
    """The lists of a released `train_separate` folder, in order, such as
    1_unc+_train_pseudo_template_0_5.pth. TTDError when there is none of the data set.
    """
    found = []
    for path in sorted(folder.glob("*.pth")):
        match = SEPARATE.fullmatch(path.name)
        if match and match[2] == dataset:
            found.append(Separate(path, int(match[1]), match[3], float(f"{match[4]}.{match[5]}")))
    if not found:
        raise TTDError(f"{folder}: no N_{dataset}_train_pseudo_SOURCE_0_5.pth in it")
    return sorted(found, key=lambda item: item.number)


def record(phrase: Phrase, dataset: str) -> list[Any]:
    """A phrase as the released pseudo-label lists hold it: 5 elements, for flickr 3."""
    left, top, right, bottom = phrase.box
    if grounding_set(dataset).xywh:
        box = [left, top, right - left, bottom - top]
    else:
        box = [left, top, right, bottom]
    if dataset == "flickr":
        return [phrase.name, box, phrase.text]
    return [phrase.name, PLACEHOLDER, box, phrase.text, PLACEHOLDER]


def write_published(
    folder: Path, dataset: str, phrases: Sequence[Phrase], reliability: Values
) -> dict[str, int]:
    """Write all files of a source of N phrases with reliability [N]; labels in each, by file name.

    Thresholds are strict. TTDError: another number of values, or a file that cannot be written.
    """
    if len(phrases) != len(reliability):
        raise TTDError(f"{len(reliability)} reliabilities for {len(phrases)} labels")
    values = reliability.tolist()
    pairs = list(zip(phrases, values, strict=True))
    lists: dict[str, list[Any]] = {}
    for step in range(10):
        # r > step / 10 without the error of the division: 0.3 is no more than 0.3.
        kept = [phrase for phrase, value in pairs if value > round(0.1 * step, 10)]
        lists[f"refine_0_{step}"] = [record(phrase, dataset) for phrase in kept]
    lists["refine_1_0"] = [record(phrase, dataset) for phrase, value in pairs if value == 1]
    lists["bad_label_0_0"] = [[*record(p, dataset), value] for p, value in pairs if value == 0]
    lists["bad_label_0_4"] = [[*record(p, dataset), value] for p, value in pairs if value < BAD]
    names = {f"{dataset}_train_pseudo_{name}.pth": rows for name, rows in lists.items()}
    with write_errors(folder, "make room, or choose another folder"):
        folder.mkdir(parents=True, exist_ok=True)
        for name, rows in names.items():
            with atomic(folder / name) as part:
                torch.save(rows, part)
    return {name: len(rows) for name, rows in names.items()}


def write_source_files(
    folder: Path, dataset: str, lab: CurriculumLab, outcome: Outcome
) -> dict[str, dict[str, int]]:
    """`write_published` for every source by its chosen measurer, in FOLDER/SOURCE."""
    written = {}
    for part in outcome.pool.parts:
        if part.measurer is not None:
            phrases = lab.sources[part.source].phrases
            values = lab.reliability(part.measurer, part.source)
            written[part.source] = write_published(folder / part.source, dataset, phrases, values)
    return written
