"""The report of captions' masks: how they differ, by word, by threshold, the best and the worst."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..data.labels.datasets import CaptionSet
from ..data.labels.mask_files import read_foreground
from ..data.records import Record, read_record
from ..errors import TTDError
from ..evaluation.captions import THRESHOLDS, CaptionEvaluation, sweep
from ..evaluation.predictions import list_predictions, read_protocol
from ..evaluation.report import protocol_line
from ..metrics.bootstrap import Floats, iou_of, mean_of
from ..metrics.segmentation import scores_from_counts
from ..plots.gallery import best_and_worst
from ..utils.shown import without_folders
from .labels import used_threshold
from .parts import images
from .parts.charts import Bar, Line, bars, histogram, lines, percent, signed
from .parts.overlays import overlays
from .parts.page import Html, element, numbers, page, section, table, text
from .parts.sections import DRAWN, change, left_out, most_changed, protocols, range_words, scored

WORDS, OFTEN = 30, 3  # words with a bar, and in how many captions they must be true


@dataclass(frozen=True)
class CaptionResult:
    """A folder of captions' masks, its name, and how it was scored."""

    tag: str
    folder: Path
    found: CaptionEvaluation

    @property
    def ious(self) -> dict[str, float]:
        """IoU of each caption by id."""
        return dict(zip(self.found.ids, self.found.scores.iou.tolist(), strict=True))


def captions_report(
    captions: CaptionSet,
    results: Sequence[CaptionResult],
    before: CaptionResult | None = None,
    count: int = 6,
) -> str:
    """The page of results over the same captions; charts are of the first.

    before: what it is compared with; count: best and worst captions.
    """
    first = results[0]
    every = [*results, *([before] if before is not None else [])]
    records = {record.id: record for record in captions.records.usable()}
    return page(
        f"Masks of captions of {captions.name}",
        f"{first.tag}; {without_folders(captions.describe())}; {len(first.found.ids)} scored",
        [
            _table(every, before),
            protocols({one.tag: read_protocol(one.folder) for one in every}, protocol_line),
            _words(first, before, records),
            _threshold(captions, every),
            _spread(first, before),
            _gallery(captions, records, first, before, count),
            left_out({one.tag: one.found.problems.line() for one in every}),
        ],
    )


def sums_of(one: CaptionResult) -> Floats:
    """IoU of each caption and its number, float64 [B, 2], captions sorted by id; see `mean_of`."""
    ious = one.ious
    values = np.array([ious[name] for name in sorted(ious)], np.float64)
    known = ~np.isnan(values)
    return np.stack([np.where(known, values, 0), known], axis=1)


def _table(results: Sequence[CaptionResult], before: CaptionResult | None) -> Html:
    """The scores of all results with their intervals, and the trivial baselines."""
    rows, drawn = [], {}
    for one in results:
        drawn[one.tag] = scored(sums_of(one), mean_of)
        pooled, _ = scored(one.found.counts[:, :3], iou_of)
        found, (iou, fpr, fnr) = drawn[one.tag][0], one.found.scores.means
        spread = f"{percent(found.low)} to {percent(found.high)}"
        shares = f"{fpr:.3f}", f"{fnr:.3f}"
        rows.append([one.tag, percent(iou), spread, *shares, percent(pooled.value)])
    best = float("nan")
    for name, counts in results[0].found.baselines.items():
        iou, fpr, fnr = scores_from_counts(counts).means
        best = iou if np.isnan(best) else max(best, iou)
        rows.append([name, percent(iou), "", f"{fpr:.3f}", f"{fnr:.3f}", ""])
    first = results[0].tag
    cards = [("Caption IoU, %", percent(drawn[first][0].value), range_words(drawn[first][0]))]
    if before is not None:
        cards.append(change(drawn[first], drawn[before.tag], before.tag))
    cards.append(("without a model", percent(best), "the best trivial baseline"))
    head = ["result", "IoU, %", "95 % interval", "mFPR", "mFNR", "pooled IoU, %"]
    return section("Scores", numbers(cards), table(head, rows, strong=len(results)), note=DRAWN)


def _words(
    first: CaptionResult, before: CaptionResult | None, records: Mapping[str, Record]
) -> Html:
    """Mean IoU of the captions in which a word is true, of the commonest words."""
    old = {} if before is None else before.ious
    by_word: dict[str, list[str]] = {}
    for name in first.found.ids:
        for word in dict.fromkeys(tag.lower() for tag in records[name].tags or ()):
            by_word.setdefault(word, []).append(name)
    common = sorted(by_word, key=lambda word: (-len(by_word[word]), word))[:WORDS]
    rows = []
    for word in common:
        names = by_word[word]
        if len(names) < OFTEN:
            continue
        value = float(np.nanmean([first.ious[name] for name in names]))
        past = float(np.nanmean([old[name] for name in names])) if old else None
        rows.append(Bar(word, value, past, f"in {len(names)}"))
    rows.sort(key=lambda row: -row.value)
    note = "Mean IoU of the captions in which the word is true; the commonest words."
    return section("Words", bars(rows) if rows else Html(""), note=note)


def _threshold(captions: CaptionSet, results: Sequence[CaptionResult]) -> Html:
    """Caption IoU over the threshold, of results with saved scores."""
    drawn: list[Line] = []
    used = None
    for one in results:
        if not list_predictions(one.folder / "scores", ".npz"):
            continue
        try:
            counts, _ = sweep(captions, one.folder, allow_missing=True)  # [B, S, 3]
        except TTDError:  # of another size or damaged: the chart is left out
            continue
        values = np.nanmean(scores_from_counts(counts).iou, axis=0)
        used = used_threshold(one.folder) if not drawn else used
        drawn.append(Line(one.tag, values, dashed=bool(drawn)))
    if not drawn:
        return Html("")
    chart = lines(THRESHOLDS, drawn, "threshold", "Caption IoU, %", mark=used)
    note = "Chosen on these very captions, the best threshold flatters: --tune chooses on others."
    return section("Threshold", chart, note=note)


def _spread(first: CaptionResult, before: CaptionResult | None) -> Html:
    """How captions differ."""
    old = None if before is None else before.found.scores.iou
    chart = histogram(first.found.scores.iou, old, "IoU of a caption")
    return section("Captions", chart, note="How many captions have which IoU.")


def _gallery(
    captions: CaptionSet,
    records: Mapping[str, Record],
    first: CaptionResult,
    before: CaptionResult | None,
    count: int,
) -> Html:
    """The best and worst captions; of two results those that changed most, too."""

    def entries(names: Sequence[str]) -> Html:
        """The captions of these names, side by side."""
        found = [_entry(captions, records[name], first, before) for name in names]
        return images.items(found, broad=True)

    chosen = best_and_worst(first.ious, count)
    sections = [section("Best and worst", entries(chosen), note="By IoU, best first.")]
    if before is not None:
        changed = most_changed(first.ious, before.ious, count)
        note = f"Gains over {before.tag} first, then losses."
        sections.append(section("Most changed", entries(changed), note=note))
    return Html("".join(sections))


def _entry(
    captions: CaptionSet, record: Record, first: CaptionResult, before: CaptionResult | None
) -> Html:
    """One caption with its image, the truth and the predictions."""
    name, photo = record.id, read_record(record)
    score = first.ious[name]
    title = f"{name}: {percent(score)}"
    shown = [("truth", captions.truth_mask(record))]
    shown.append(("prediction", read_foreground(first.folder / f"{name}.png")))
    if before is not None and name in before.ious:
        title += f" ({signed(score - before.ious[name])})"
        shown.append(("before", read_foreground(before.folder / f"{name}.png")))
    tags = element("p", text("true: " + ", ".join(record.tags or ())), class_="note")
    caption = element("p", text(record.text))
    return images.item(title, overlays(photo, name, shown), caption, tags)
