"""Segmentation scores as text, JSON and CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..metrics.segmentation import SegScores

COLUMNS = ("iou", "fpr", "fnr")


def published_line(tag: str, name: str, means: Sequence[float]) -> str:
    """`TCL+TTD@VOC2012 | mIoU: 61.1%, mFPR: 0.185, mFNR: 0.204` for name `mIoU`."""
    iou, fpr, fnr = means
    return f"{tag} | {name}: {100 * iou:.1f}%, mFPR: {fpr:.3f}, mFNR: {fnr:.3f}"


def protocol_line(stored: Mapping[str, Any]) -> str:
    """What made the masks, from protocol.json, in one line: settings and the model's own constants."""
    if not stored:
        return "protocol: not known, the folder has no protocol.json"
    settings = {**stored.get("model", {}), **stored["identity"]} if "identity" in stored else stored
    return f"protocol: {json.dumps(settings, ensure_ascii=False)}"


def means_table(rows: Mapping[str, Sequence[float]], name: str) -> str:
    """A line per row: IoU in percent, FPR and FNR as fractions."""
    width = max(map(len, rows))
    lines = [f"{'':{width}} {name:>7}    mFPR    mFNR"]
    return "\n".join(
        lines
        + [
            f"{row:{width}} {100 * iou:6.1f}%   {fpr:.3f}   {fnr:.3f}"
            for row, (iou, fpr, fnr) in rows.items()
        ]
    )


def class_rows(
    scores: SegScores, names: Sequence[str], values: Sequence[int], confusion: np.ndarray
) -> list[dict[str, Any]]:
    """A row per label: name, scores (None where it does not occur) and its pixels in truth and prediction."""
    true, predicted = confusion.sum(1), confusion[:, :-1].sum(0)
    shares = [
        [None if np.isnan(value) else float(value) for value in getattr(scores, key)]
        for key in COLUMNS
    ]
    return [
        {
            "label": int(value),
            "name": name,
            "iou": iou,
            "fpr": fpr,
            "fnr": fnr,
            "true_pixels": int(pixels),
            "predicted_pixels": int(found),
        }
        for value, name, iou, fpr, fnr, pixels, found in zip(
            values, names, *shares, true, predicted, strict=True
        )
    ]


def class_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as text; `-` where a class occurs nowhere."""
    width = max(len(row["name"]) for row in rows)
    lines = [f"{'':{width}}     IoU     FPR     FNR   true pixels"]
    for row in rows:
        iou = "-" if row["iou"] is None else f"{100 * row['iou']:.1f}%"
        others = ["-" if row[key] is None else f"{row[key]:.3f}" for key in ("fpr", "fnr")]
        lines.append(
            f"{row['name']:{width}} {iou:>7} {others[0]:>7} {others[1]:>7} {row['true_pixels']:>13}"
        )
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
