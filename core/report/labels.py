"""The report of label maps: classes, confusions, the threshold, the best and worst images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..data.images import read_image
from ..data.labels.dataset_checks import read_predicted, read_truth
from ..errors import TTDError
from ..evaluation.label_maps import Evaluation
from ..evaluation.predictions import list_predictions, read_protocol
from ..evaluation.report import protocol_line
from ..evaluation.threshold_sweep import sweep_labels
from ..metrics.bootstrap import Floats, iou_of
from ..metrics.segmentation import SegScores
from ..plots.gallery import best_and_worst, coloured
from ..utils.shown import without_folders
from .parts import images
from .parts.charts import Bar, Line, bars, heat, histogram, lines, percent, signed
from .parts.page import Html, numbers, page, section, table
from .parts.sections import DRAWN, change, left_out, most_changed, protocols, range_words, scored

CONFUSED, MATRIX = 15, 30  # pairs in the table; classes up to which there is a matrix
COMMON = 9  # classes in a legend
THRESHOLDS = tuple(round(0.02 * k, 2) for k in range(1, 50))
NEVER = "nothing"


@dataclass(frozen=True)
class LabelResult:
    """A folder of label maps, its name, and how it was scored."""

    tag: str
    folder: Path
    found: Evaluation


def labels_report(
    results: Sequence[LabelResult], before: LabelResult | None = None, count: int = 6
) -> str:
    """The page of results over the same images; charts are of the first.

    before: what it is compared with; count: best and worst images.
    """
    first = results[0]
    every = [*results, *([before] if before is not None else [])]
    data = first.found.dataset
    return page(
        f"Label maps of {data.name}",
        f"{first.tag}; {without_folders(data.describe())}; {len(first.found.pictures)} scored",
        [
            _table(every, before),
            protocols({one.tag: read_protocol(one.folder) for one in every}, protocol_line),
            _classes(first, before),
            _confusions(first),
            _threshold(every),
            _spread(first, before),
            _gallery(first, before, count),
            left_out({one.tag: one.found.problems.line() for one in every}),
        ],
    )


def sums_of(one: LabelResult) -> Floats:
    """TP, FP, FN of all labels by image, float64 [N, L * 3], images sorted by id."""
    counts = np.stack([one.found.counts[name] for name in sorted(one.found.counts)])
    return counts.reshape(len(counts), -1).astype(np.float64)


def _table(results: Sequence[LabelResult], before: LabelResult | None) -> Html:
    """The scores of all results with their intervals, and the trivial baselines."""
    rows, drawn = [], {}
    for one in results:
        drawn[one.tag] = scored(sums_of(one), iou_of)
        found = drawn[one.tag][0]
        iou, fpr, fnr = one.found.scores.means
        spread = f"{percent(found.low)} to {percent(found.high)}"
        rows.append([one.tag, percent(iou), spread, f"{fpr:.3f}", f"{fnr:.3f}"])
    baselines = results[0].found.baselines
    for name, scores in baselines.items():
        rows.append([name, percent(scores.means[0]), "", *(f"{v:.3f}" for v in scores.means[1:])])
    first = results[0].tag
    cards = [("mIoU, %", percent(drawn[first][0].value), range_words(drawn[first][0]))]
    if before is not None:
        cards.append(change(drawn[first], drawn[before.tag], before.tag))
    best = max((scores.means[0] for scores in baselines.values()), default=float("nan"))
    cards.append(("without a model", percent(best), "the best trivial baseline"))
    head = ["result", "mIoU, %", "95 % interval", "mFPR", "mFNR"]
    shown = table(head, rows, strong=len(results))
    return section("Scores", numbers(cards), shown, note=DRAWN)


def _classes(first: LabelResult, before: LabelResult | None) -> Html:
    """A bar for each class that occurs, the best first."""
    scores, names = first.found.scores, first.found.dataset.label_names
    true = first.found.confusion.sum(1)
    share = true / max(1, int(true.sum()))
    rows = []
    for place in np.argsort(-np.nan_to_num(scores.iou, nan=-1), kind="stable").tolist():
        if np.isnan(scores.iou[place]):
            continue
        old = None if before is None else float(np.nan_to_num(before.found.scores.iou[place]))
        remark = f"{100 * share[place]:.1f} % of pixels"
        rows.append(Bar(names[place].split("|")[0], float(scores.iou[place]), old, remark))
    absent = int(np.isnan(scores.iou).sum())
    note = "IoU in percent over the whole set."
    if before is not None:
        note += f" Grey: {before.tag}."
    if absent:
        note += f" {absent} classes occur neither in truth nor in prediction."
    return section("Classes", bars(rows), note=note)


def _confusions(first: LabelResult) -> Html:
    """What is taken for what: the commonest pairs, and the whole matrix of a few classes."""
    confusion = first.found.confusion  # [L, L + 1]
    names = [name.split("|")[0] for name in first.found.dataset.label_names]
    true = confusion.sum(1, keepdims=True)
    shares = np.divide(confusion, true, out=np.zeros(confusion.shape), where=true > 0)
    wrong = confusion.copy()
    np.fill_diagonal(wrong, 0)
    if first.found.dataset.background:
        wrong[0] = 0  # most pixels are its, and would fill the table
    order = np.argsort(-wrong, axis=None, kind="stable")[:CONFUSED]
    total, rows = max(1, int(true.sum())), []
    for row, column in zip(*np.unravel_index(order, wrong.shape), strict=True):
        if wrong[row, column] == 0:
            break
        seen = [*names, NEVER][column]
        part = percent(wrong[row, column] / total, 2)
        rows.append([names[row], seen, percent(shares[row, column]), part])
    head = ["true class", "taken for", "% of the class", "% of all pixels"]
    parts = [table(head, rows)] if rows else []
    if len(names) <= MATRIX:
        parts.append(heat(shares[:, :-1], names))
    note = "Pixels of the true class (rows of the matrix) by what was predicted, in percent."
    if first.found.dataset.background:
        note += " The table leaves out the background's own pixels."
    return section("Confusions", *parts, note=note)


def _threshold(results: Sequence[LabelResult]) -> Html:
    """mIoU over the background threshold, of results with saved scores."""
    drawn: list[Line] = []
    used = None
    for one in results:
        scores = _swept(one)
        if scores is None:
            continue
        fields = zip(scores.iou, scores.fpr, scores.fnr, strict=True)
        means = [SegScores(*part).means[0] for part in fields]
        drawn.append(Line(one.tag, np.array(means), dashed=bool(drawn)))
        if len(drawn) == 1:
            used = used_threshold(one.folder)
    if not drawn:
        return Html("")
    chart = lines(THRESHOLDS, drawn, "background threshold", "mIoU, %", mark=used)
    note = "Chosen on these very images, the best threshold flatters: choose it on others."
    return section("Background threshold", chart, note=note)


def _swept(one: LabelResult) -> SegScores | None:
    """Scores at all thresholds; None where maps were not saved."""
    if not list_predictions(one.folder / "scores", ".npz"):
        return None
    try:
        return sweep_labels(one.found.dataset, one.folder, THRESHOLDS, allow_missing=True)[0]
    except TTDError:  # of another size or damaged: the chart is left out
        return None


def used_threshold(folder: Path) -> float | None:
    """The background threshold of a result, where its protocol.json tells."""
    identity = read_protocol(folder).get("identity")
    value = identity.get("bg") if isinstance(identity, dict) else None
    return float(value) if isinstance(value, int | float) else None


def _spread(first: LabelResult, before: LabelResult | None) -> Html:
    """How images differ."""
    values = np.array(list(first.found.pictures.values()), np.float64)
    old = None if before is None else np.array(list(before.found.pictures.values()), np.float64)
    chart = histogram(values, old, "mean IoU of an image")
    return section("Images", chart, note="How many images have which mean IoU over their classes.")


def _gallery(first: LabelResult, before: LabelResult | None, count: int) -> Html:
    """The best and worst images; of two results those that changed most, too."""
    scores = first.found.pictures
    parts = [_entries(best_and_worst(scores, count), first, before)]
    sections = [section("Best and worst", *parts, note="By an image's own mean IoU, best first.")]
    if before is not None:
        changed = most_changed(scores, before.found.pictures, count)
        note = f"Gains over {before.tag} first, then losses."
        sections.append(section("Most changed", _entries(changed, first, before), note=note))
    return Html("".join(sections))


def _entries(names: Sequence[str], first: LabelResult, before: LabelResult | None) -> Html:
    """Images with their truth and predictions."""
    return images.items([_entry(name, first, before) for name in names], broad=True)


def _entry(name: str, first: LabelResult, before: LabelResult | None) -> Html:
    """One image with its truth, its predictions, and what the colours mean."""
    data = first.found.dataset
    item = next(one for one in data.items() if one.id == name)
    photo, truth = read_image(item.image), read_truth(data, item)
    score = first.found.pictures[name]
    title = f"{name}: {percent(score)}"
    shown = [("truth", truth), ("prediction", read_predicted(data, first.folder / f"{name}.png"))]
    if before is not None and name in before.found.pictures:
        title += f" ({signed(score - before.found.pictures[name])})"
        shown.append(("before", read_predicted(data, before.folder / f"{name}.png")))
    views = [("image", images.image(photo, name))]
    for kind, labels in shown:
        views.append((kind, images.image(coloured(photo, labels, data.palette), kind, labels=True)))
    return images.item(title, images.views(views), _legend(first, [one for _, one in shown]))


def _legend(first: LabelResult, maps: Sequence[np.ndarray]) -> Html:
    """The commonest classes in some label maps."""
    data = first.found.dataset
    names = dict(zip(data.label_values, data.label_names, strict=True))
    pixels = np.bincount(np.concatenate([labels.ravel() for labels in maps]), minlength=256)
    order = [k for k in np.argsort(-pixels, kind="stable").tolist() if pixels[k]]
    found = []
    for value in order[:COMMON]:
        name = names.get(value, "not scored").split("|")[0]
        found.append((tuple(data.palette[value].tolist()), name))
    return images.key(found)
