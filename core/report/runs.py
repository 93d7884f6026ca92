"""Results of any kind as what a comparison needs: what each image adds to the scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..data.labels.datasets import CAPTION_NAMES, open_caption_set, open_dataset
from ..errors import TTDError
from ..evaluation.captions import evaluate_captions
from ..evaluation.label_maps import evaluate
from ..evaluation.predictions import data_of, limit_of, read_protocol
from ..evaluation.tags import limit_of as tags_limit
from ..evaluation.tags import load_method, load_truth
from ..metrics.bootstrap import Floats, Statistic, by_image, f1_of, iou_of, mean_of
from ..tags.results import ResultPaths
from ..utils.files import read_json, section
from ..utils.json_lines import json_rows

LABELS, CAPTIONS, TAGS, BOXES = "label maps", "masks of captions", "tags", "boxes"
RIGHT = 0.5  # IoU from which a box counts as right


def precision_of(sums: Floats) -> Floats:
    """TP / (TP + FP): sums [D, 3] of TP, FP, FN -> [D]."""
    return mean_of(np.stack([sums[:, 0], sums[:, 0] + sums[:, 1]], axis=1))


def recall_of(sums: Floats) -> Floats:
    """TP / (TP + FN): sums [D, 3] of TP, FP, FN -> [D]."""
    return mean_of(np.stack([sums[:, 0], sums[:, 0] + sums[:, 2]], axis=1))


# What is measured of each kind of result; the first one is the published score.
MEASURES: dict[str, dict[str, Statistic]] = {
    LABELS: {"mIoU": iou_of},
    CAPTIONS: {"Caption IoU": mean_of, "pooled IoU": iou_of},
    TAGS: {"F1": f1_of, "precision": precision_of, "recall": recall_of},
    BOXES: {"Acc@0.5": mean_of, "mean IoU": mean_of},
}


@dataclass(frozen=True)
class Run:
    """One result: its name, kind and set, and what is scored.

    ids: what is scored (images, captions, phrases), sorted; images: the image of each [N]; sums:
    for each of the kind's `MEASURES` what an id adds to it, float64 [N, M].
    """

    name: str
    kind: str
    data: str
    ids: tuple[str, ...]
    images: tuple[str, ...]
    sums: Mapping[str, Floats]

    def of(self, ids: Sequence[str]) -> Run:
        """The same over some of its ids, in their order."""
        places = {name: place for place, name in enumerate(self.ids)}
        order = [places[name] for name in ids]
        sums = {key: values[order] for key, values in self.sums.items()}
        images = tuple(self.images[place] for place in order)
        return replace(self, ids=tuple(ids), images=images, sums=sums)

    def by_image(self, measure: str) -> Floats:
        """What each image adds to a measure, float64 [images, M]."""
        return by_image(self.images, self.sums[measure])


@dataclass(frozen=True)
class Places:
    """Where sets are: root of mask sets; tags: the set of tags, None where the result says it.

    data: the set of all masks, None where each result says it; partly: score what is there.
    """

    root: str = "../"
    tags: str | None = None
    data: str | None = None
    partly: bool = False


def open_run(path: str, places: Places, name: str | None = None) -> Run:
    """A folder of masks, or a JSONL of tags or of scored boxes, scored against its truth.

    TTDError: no such result, or one that does not fit its set.
    """
    place = Path(path)
    if place.is_dir():
        run = _masks(place, places)
    else:
        lines = place if place.suffix == ".jsonl" else place.with_name(f"{place.name}.jsonl")
        if not lines.is_file():
            raise TTDError(
                f"{path}: neither a folder of masks nor a JSONL of tags, or of boxes as "
                "evaluate_grounding.py --pred writes them"
            )
        run = _boxes(lines) if "words" not in _first(lines) else _tags(lines, places)
    return run if name is None else replace(run, name=name)


def _first(path: Path) -> Mapping[str, Any]:
    """The first line of a JSONL. TTDError where there is none."""
    for _, row in json_rows(path, "name a result of tags or boxes"):
        return row
    raise TTDError(f"{path}: no lines in it, so nothing to compare")


def _run(name: str, kind: str, data: str, rows: Mapping[str, tuple[str, Sequence[Floats]]]) -> Run:
    """A run from, for each id, its image and what it adds to each measure."""
    ids = tuple(sorted(rows))
    sums = {}
    for place, measure in enumerate(MEASURES[kind]):
        sums[measure] = np.array([rows[one][1][place] for one in ids], np.float64)
    return Run(name, kind, data, ids, tuple(rows[one][0] for one in ids), sums)


def _masks(folder: Path, places: Places) -> Run:
    """Label maps or masks of captions, as protocol.json or the set's name says."""
    name = folder.resolve().name
    data = places.data or data_of(folder)
    if data is None:
        raise TTDError(f"{folder}: neither its name nor protocol.json tells the set; add --data")
    options: dict[str, Any] = {"allow_missing": places.partly, "limit": limit_of(folder)}
    identity = section(read_protocol(folder), "identity")
    if "tags" not in identity and ("classes" in identity or data not in CAPTION_NAMES):
        found = evaluate(open_dataset(data, places.root), folder, **options)
        counts: dict[str, tuple[str, Sequence[Floats]]] = {}
        for key, own in found.counts.items():
            counts[key] = (key, [own.ravel().astype(np.float64)])
        return _run(name, LABELS, data, counts)
    captions = open_caption_set(data if data in CAPTION_NAMES else "CC3M", places.root)
    scores = evaluate_captions(captions, folder, **options)
    images = {record.id: record.name for record in captions.records.usable()}
    rows: dict[str, tuple[str, Sequence[Floats]]] = {}
    for key, counts4, iou in zip(scores.ids, scores.counts, scores.scores.iou, strict=True):
        mean = np.array([0.0, 0.0] if np.isnan(iou) else [iou, 1.0])
        rows[key] = (images[key], [mean, counts4[:3]])
    return _run(name, CAPTIONS, captions.name, rows)


def _tags(lines: Path, places: Places) -> Run:
    """Tags of captions."""
    paths = ResultPaths.of(lines.parent, lines.name.removesuffix(".jsonl"))
    root = places.tags or section(read_json(paths.meta), "identity").get("root")
    if not isinstance(root, str):
        raise TTDError(f"{paths.meta}: does not tell the set; name it with --tags-root")
    limit = tags_limit(paths)
    _, truth = load_truth(root, places.partly, limit)
    method = load_method(paths, truth, part=limit is not None)
    if method.problems and not places.partly:
        raise TTDError(f"{lines}: {'; '.join(method.problems)}; --common compares the others")
    rows = {}
    for key, counts in zip(method.captions, method.counts[:, :3], strict=True):
        rows[key] = (truth[key].name, [counts] * len(MEASURES[TAGS]))
    return _run(method.name, TAGS, Path(root).resolve().name, rows)


def _boxes(lines: Path) -> Run:
    """Scored boxes: {"id", "image", "text", "iou"} a line."""
    form = "wanted lines with id, image, text and iou, as evaluate_grounding.py --pred writes them"
    rows = {}
    for number, row in json_rows(lines, form):
        texts = [str(row[key]) for key in ("id", "image", "text") if isinstance(row.get(key), str)]
        if len(texts) < 3 or (iou := _fraction(row.get("iou"))) is None:
            raise TTDError(f"{lines}:{number}: not a scored box; {form}")
        key = " | ".join(texts)
        if key in rows:
            raise TTDError(f"{lines}:{number}: a second box of {texts[0]} for the same phrase")
        hit = float(iou >= RIGHT)
        rows[key] = (texts[1], [np.array([hit, 1.0]), np.array([iou, 1.0])])
    name = f"{lines.resolve().parent.name}/{lines.stem}"
    return _run(name, BOXES, lines.stem, rows)


def _fraction(value: object) -> float | None:
    """A number in [0, 1]; None for anything else."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number and 0 <= value <= 1 else None  # type: ignore[operator,arg-type]
