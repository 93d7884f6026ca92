"""Scores as text, JSON and CSV: of masks, and of a model on held-out captions."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..masks.protocol import PROTOCOLS
from ..metrics.segmentation import Counts, SegScores
from ..metrics.tags import TagScores
from ..utils.shown import decimals

if TYPE_CHECKING:  # they import torch, which the evaluators of masks do without
    from .heldout_scores import Baselines, HeldOut, Measured

COLUMNS = ("iou", "fpr", "fnr")
OPEN = ("head", "rule", "scale", "kp_weight")  # of a protocol: what the model or the set decides
COUNTS = ("pictures", "words", "captions", "pairs")  # of held-out items


def published_line(tag: str, name: str, means: Sequence[float]) -> str:
    """`TCL+TTD@VOC2012 | mIoU: 61.1%, mFPR: 0.185, mFNR: 0.204` for name `mIoU`."""
    iou, fpr, fnr = means
    return f"{tag} | {name}: {100 * iou:.1f}%, mFPR: {fpr:.3f}, mFNR: {fnr:.3f}"


def protocol_line(stored: Mapping[str, Any], verbose: bool = False) -> str:
    """What made the masks, from protocol.json, in one line.

    The named protocol and what differs from it; with `verbose`, or where no protocol of ours is
    named, every setting and the model's constants.
    """
    if not stored:
        return "protocol: not known, the folder has no protocol.json"
    settings = dict(stored)
    if "identity" in stored:
        settings = {**stored.get("model", {}), **stored["identity"]}
    if verbose or settings.get("name") not in PROTOCOLS:
        return f"protocol: {json.dumps(settings, ensure_ascii=False)}"
    given = stored.get("arguments") or {}
    parts = [str(settings[key]) for key in ("arch",) if key in settings]
    files = {key: Path(str(given.get(key) or "")).name for key in ("weights", "lora")}
    parts += [f"{key} {name}" for key, name in files.items() if name]
    if settings.get("dtype", "float32") != "float32":
        parts.append(str(settings["dtype"]))
    words = [*parts, *_differing(settings, given)]
    return f"protocol: {settings['name']}; {', '.join(words)}"


def _differing(settings: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """The settings that are not those of the protocol they name, as words; bg always.

    given: the arguments of the command. What the protocol leaves to the model or the set is no
    difference where the command left it, too.
    """
    usual = PROTOCOLS[settings["name"]].as_dict()
    words = []
    for key, own in usual.items():
        value = settings.get(key, own)
        left = key in OPEN and own is None and key in given and given[key] is None
        if left or (value == own and key != "bg"):
            continue
        words.append(key if value is True else f"{key} {json.dumps(value)}")
    return words


def means_table(rows: Mapping[str, Sequence[float]], name: str) -> str:
    """A line per row: IoU in percent, FPR and FNR as fractions.

    IoU with two decimals where one would hide a difference.
    """
    width = max(map(len, rows))
    digits = decimals(100 * means[0] for means in rows.values())
    lines = [f"{'':{width}} {name:>7}    mFPR    mFNR"]
    for row, (iou, fpr, fnr) in rows.items():
        lines.append(f"{row:{width}} {100 * iou:6.{digits}f}%   {fpr:.3f}   {fnr:.3f}")
    return "\n".join(lines)


def class_rows(
    scores: SegScores, names: Sequence[str], values: Sequence[int], confusion: Counts
) -> list[dict[str, Any]]:
    """A row per label [L]: name, scores, its pixels in truth and prediction.

    confusion: int64 [L, L + 1]. Scores are None where the label does not occur.
    """
    true, predicted = confusion.sum(1), confusion[:, :-1].sum(0)
    rows = []
    for index, (value, name) in enumerate(zip(values, names, strict=True)):
        shares = {key: float(getattr(scores, key)[index]) for key in COLUMNS}
        known = {key: None if np.isnan(share) else share for key, share in shares.items()}
        pixels = {"true_pixels": int(true[index]), "predicted_pixels": int(predicted[index])}
        rows.append({"label": int(value), "name": name, **known, **pixels})
    return rows


def class_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as text; `-` where a class occurs nowhere."""
    width = max(len(row["name"]) for row in rows)
    lines = [f"{'':{width}}     IoU     FPR     FNR   true pixels"]
    for row in rows:
        cells = ["-", "-", "-"]
        if row["iou"] is not None:
            cells = [f"{100 * row['iou']:.1f}%", f"{row['fpr']:.3f}", f"{row['fnr']:.3f}"]
        shares = " ".join(f"{cell:>7}" for cell in cells)
        lines.append(f"{row['name']:{width}} {shares} {row['true_pixels']:>13}")
    return "\n".join(lines)


def to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows of equal keys as CSV; None becomes an empty cell."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def named_means(means: Sequence[float]) -> dict[str, float]:
    """(IoU, FPR, FNR) with their names, for JSON."""
    return {key: float(value) for key, value in zip(COLUMNS, means, strict=True)}


# Held-out captions


@dataclass(frozen=True)
class Line:
    """One score of several models [M], fractions, and the trivial baselines of it by name."""

    name: str
    values: tuple[float, ...]
    trivial: dict[str, float]


def heldout_lines(scores: Sequence[HeldOut], trivial: Baselines, minmax: bool = True) -> list[Line]:
    """A line per score, of models that were cut alike; `minmax` adds those of min-max maps."""
    words = {"all content words": trivial.all_content_words.f1, "all words": trivial.all_words.f1}
    rows = [
        ("pixel F1", "pixel_f1", words),
        ("pixel F1, stop words rejected", "pixel_f1_stopwords", words),
        ("Caption IoU", "caption_iou", trivial.caption_iou),
        ("word-map IoU", "word_map_iou", trivial.word_map_iou),
    ]
    if minmax:
        rows += [
            ("Caption IoU, min-max maps", "caption_iou_minmax", trivial.caption_iou),
            ("word-map IoU, min-max maps", "word_map_iou_minmax", trivial.word_map_iou),
        ]
    lines = []
    for name, key, beside in rows:
        lines.append(Line(name, tuple(one.numbers()[key] for one in scores), beside))
    return lines


def heldout_table(lines: Sequence[Line], names: Sequence[str] = ("score",)) -> str:
    """The lines as text, in percent: a column per model, and the trivial baselines.

    With several models also the gain of the last one over the first.
    """
    gain = len(names) > 1
    head = [f"{name:>8}" for name in names] + ["    gain"] * gain
    width = max(len(line.name) for line in lines)
    rows = [f"{'':{width}}{''.join(head)}   without a model"]
    digits = max(decimals(100 * value for value in line.values) for line in lines)
    for line in lines:
        cells = [_percent(value, digits) for value in line.values]
        if gain:
            cells.append(f"{100 * (line.values[-1] - line.values[0]):+8.{digits}f}")
        beside = ", ".join(f"{name} {100 * value:.1f}" for name, value in line.trivial.items())
        rows.append(f"{line.name:{width}}{''.join(cells)}   {beside}")
    return "\n".join(rows)


def cuts_line(scores: HeldOut) -> str:
    """Where the scores were cut, in one line."""
    cuts = scores.cuts
    tag = "Otsu's threshold" if cuts.tag is None else f"scores >= {cuts.tag:.3f}"
    return (
        f"words: {tag}; "
        f"captions: soft mask > {cuts.caption:.2f}, min-max > {cuts.caption_minmax:.2f}; "
        f"words' maps: soft mask > {cuts.word:.2f}, min-max > {cuts.word_minmax:.2f}"
    )


def scorer_table(measured: Measured) -> str:
    """P, R, F1 and accuracy in percent of every scorer.

    Rows: Otsu's threshold and 0.5, with stop words allowed and rejected.
    """
    cuts = [("Otsu", None, False), ("Otsu", None, True), ("0.5", 0.5, False), ("0.5", 0.5, True)]
    rows = {}
    for scorer in measured.scores:
        for name, threshold, rejected in cuts:
            words = ", stop words rejected" if rejected else ""
            rows[f"{scorer}, {name}{words}"] = measured.tags(scorer, threshold, rejected)
    width = max(map(len, rows))
    lines = [f"{'':{width}}       P       R      F1     Acc"]
    for name, row in rows.items():
        lines.append(f"{name:{width}}{''.join(_percent(value) for value in row)}")
    return "\n".join(lines)


def heldout_json(scores: HeldOut) -> dict[str, Any]:
    """Everything about the scores as plain values (fractions)."""
    counts = {key: getattr(scores, key) for key in COUNTS}
    return {**scores.numbers(), **counts, "cuts": asdict(scores.cuts)}


def baselines_json(trivial: Baselines) -> dict[str, Any]:
    """The trivial baselines as plain values (fractions)."""
    values = {item.name: getattr(trivial, item.name) for item in fields(trivial)}
    return {
        name: value._asdict() if isinstance(value, TagScores) else value
        for name, value in values.items()
    }


def _percent(value: float, digits: int = 1) -> str:
    """A fraction as percent in 8 columns; `-` for NaN."""
    return f"{'-':>8}" if np.isnan(value) else f"{100 * value:8.{digits}f}"
