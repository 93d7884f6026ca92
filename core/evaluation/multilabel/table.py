"""The table of a set: every reading of its labels side by side, measured rows beside published."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...data.multilabel.label_sets import LabelSet, Variant
from ...metrics.multilabel import mean_precision
from .published import PUBLISHED
from .scoring import Floats, chance, precisions_of

Cells = list[str]


def table_of(labels: LabelSet, scores: Mapping[str, Floats]) -> list[Cells]:
    """Rows of text: counts, chance, mAP in percent of every result, published rows.

    scores: [N, C] by name. The first row names the readings of the labels.
    """
    variants = labels.variants
    table = [
        ["mAP, percent", *(variant.name for variant in variants)],
        ["images", *(str(variant.images) for variant in variants)],
        ["positives", *(str(variant.positives) for variant in variants)],
        ["constant score", *(_percent(chance(variant)) for variant in variants)],
    ]
    for name, found in scores.items():
        cells = [_percent(precisions_of(found, variant)) for variant in variants]
        table.append([name, *cells])
    for anchor in PUBLISHED.get(labels.key, ()):
        cells = [f"{anchor.percent:.1f}" if v.name == anchor.variant else "" for v in variants]
        if any(cells):
            table.append([f"{anchor.method}, published", *cells])
    return table


def _percent(precisions: Floats) -> str:
    value = mean_precision(precisions)
    return "" if np.isnan(value) else f"{100 * value:.2f}"


def notes_of(labels: LabelSet) -> list[str]:
    """What the columns mean, published rows without a column, and where counts differ."""
    lines = [f"{variant.name}: {variant.meaning}" for variant in labels.variants]
    names = {variant.name for variant in labels.variants}
    others = [a for a in PUBLISHED.get(labels.key, ()) if a.variant not in names]
    if others:
        rows = ", ".join(f"{anchor.method} {anchor.percent:g}" for anchor in others)
        lines.append(f"published on labels that are not in this table or not known: {rows}")
    for variant in labels.variants:
        lines += _empty(labels, variant)
    return lines


def _empty(labels: LabelSet, variant: Variant) -> list[str]:
    """A line for classes without positives, which the mean leaves out."""
    counts = (variant.truth & variant.scored)[variant.rows].sum(0)
    empty = int((counts == 0).sum())
    if not empty:
        return []
    return [
        f"{variant.name}: {empty} of {len(counts)} classes have no positives and are "
        "left out of the mean, as in torchmetrics (TagCLIP's code counts them as 0)"
    ]


def unlike_published(labels: LabelSet) -> list[str]:
    """A line for every reading whose counts are not those of the published list."""
    lines = []
    for variant in labels.variants:
        own = (variant.images, variant.positives)
        if variant.published and own != variant.published:
            images, positives = variant.published
            lines.append(
                f"{labels.title}, {variant.name}: {own[0]} images and {own[1]} positives; the "
                f"published list has {images} and {positives}, so its rows are on other labels"
            )
    return lines


def report_of(labels: LabelSet, scores: Mapping[str, Floats]) -> dict[str, Any]:
    """Everything for JSON: mAP as fractions and average precision of every class."""
    readings: dict[str, Any] = {}
    for variant in labels.variants:
        results = {name: _result(found, variant) for name, found in scores.items()}
        readings[variant.name] = {
            "meaning": variant.meaning,
            "images": variant.images,
            "positives": variant.positives,
            "results": results,
        }
    anchors = [vars(anchor) for anchor in PUBLISHED.get(labels.key, ())]
    return {
        "set": labels.title,
        "classes": list(labels.classes),
        "labels": readings,
        "published": anchors,
    }


def _result(scores: Floats, variant: Variant) -> dict[str, Any]:
    found = precisions_of(scores, variant)
    return {
        "map": mean_precision(found),
        "map_empty_is_zero": mean_precision(found, empty_is_zero=True),
        "precisions": found.tolist(),
    }


def class_rows(labels: LabelSet, scores: Mapping[str, Floats]) -> list[Cells]:
    """Average precision in percent of every class on the first reading of the labels."""
    variant = labels.variants[0]
    columns = [precisions_of(found, variant) for found in scores.values()]
    rows = [[f"{variant.name}: by class", *scores]]
    for k, name in enumerate(labels.classes):
        cells = ["" if np.isnan(column[k]) else f"{100 * column[k]:.1f}" for column in columns]
        rows.append([name, *cells])
    return rows
