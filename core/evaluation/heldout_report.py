"""Held-out scores as text and JSON: before and after a training, what was gained, and what needs no model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..metrics.tags import TagScores
from .heldout import Baselines, HeldOut, Measured


@dataclass(frozen=True)
class Line:
    """One score of several models [M], fractions, and the same of what needs no model, by name."""

    name: str
    values: tuple[float, ...]
    trivial: dict[str, float]


def lines_of(scores: Sequence[HeldOut], trivial: Baselines, minmax: bool = True) -> list[Line]:
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
    return [
        Line(name, tuple(one.numbers()[key] for one in scores), beside)
        for name, key, beside in rows
    ]


def table(lines: Sequence[Line], names: Sequence[str] = ("score",)) -> str:
    """The lines as text, in percent: a column per model, the gain of the last over the first, the trivial scores."""
    gain = len(names) > 1
    head = [f"{name:>8}" for name in names] + ["    gain"] * gain
    width = max(len(line.name) for line in lines)
    rows = [f"{'':{width}}{''.join(head)}   without a model"]
    for line in lines:
        cells = [percent(value) for value in line.values]
        cells += [f"{100 * (line.values[-1] - line.values[0]):+8.1f}"] * gain
        beside = ", ".join(f"{name} {100 * value:.1f}" for name, value in line.trivial.items())
        rows.append(f"{line.name:{width}}{''.join(cells)}   {beside}")
    return "\n".join(rows)


def percent(value: float) -> str:
    """A fraction as percent in 8 columns; `-` for NaN."""
    return f"{'-':>8}" if value != value else f"{100 * value:8.1f}"


def cuts_line(scores: HeldOut) -> str:
    """Where the scores were cut, in one line."""
    cuts = scores.cuts
    tag = "Otsu's threshold" if cuts.tag is None else f"scores >= {cuts.tag:.3f}"
    return (
        f"words: {tag}; captions: soft mask > {cuts.caption:.2f}, min-max > {cuts.caption_minmax:.2f}; "
        f"words' maps: soft mask > {cuts.word:.2f}, min-max > {cuts.word_minmax:.2f}"
    )


def scorer_table(measured: Measured) -> str:
    """P, R, F1 and accuracy in percent: every scorer, Otsu's cut and 0.5, stop words allowed and rejected."""
    rows = {
        f"{scorer}, {name}{', stop words rejected' * rejected}": measured.tags(
            scorer, threshold, rejected
        )
        for scorer in measured.scores
        for name, threshold in (("Otsu", None), ("0.5", 0.5))
        for rejected in (False, True)
    }
    width = max(map(len, rows))
    lines = [f"{'':{width}}       P       R      F1     Acc"]
    return "\n".join(
        lines
        + [
            f"{name:{width}}{''.join(percent(value) for value in row)}"
            for name, row in rows.items()
        ]
    )


def to_json(scores: HeldOut) -> dict[str, Any]:
    """Everything about the scores as plain values (fractions)."""
    counts = {key: getattr(scores, key) for key in ("pictures", "words", "captions", "pairs")}
    return {**scores.numbers(), **counts, "cuts": asdict(scores.cuts)}


def trivial_json(trivial: Baselines) -> dict[str, Any]:
    """The baselines as plain values (fractions)."""
    return {
        name: value._asdict() if isinstance(value, TagScores) else value
        for name, value in ((key, getattr(trivial, key)) for key in Baselines.__dataclass_fields__)
    }
