"""SA-Co's numbers: is a phrase in an image, and how well are its instances found (cgF1).

    pairs = [best_of([pair_counts(ious) for ious in annotators]) for annotators in all_pairs]
    concept_scores(pairs)["cgF1"]

A pair is an image and a phrase. As in the release's evaluator (SAM 3): one assignment of largest
summed IoU for all thresholds, the annotator who agrees best, small constants in every ratio. For
intervals, `drawn_concepts` scores sums of `pair_sums`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .assignment import best_assignment

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
THRESHOLDS: Floats = np.linspace(0.5, 0.95, 10)
AT = {"": slice(None), "@0.5": slice(0, 1), "@0.75": slice(5, 6)}
EPS, IMAGE_EPS = 1e-4, 1e-6
DRAWN = ("cgF1", "IL_MCC", "pmF1")  # what `drawn_concepts` gives


@dataclass(frozen=True)
class PairCounts:
    """One pair against one annotator.

    truths, predictions: how many. tp: assigned pairs with IoU >= each of the T thresholds, [T].
    """

    truths: int
    predictions: int
    tp: Counts

    @property
    def fp(self) -> Counts:
        """Predictions without a partner, [T]."""
        return self.predictions - self.tp

    @property
    def fn(self) -> Counts:
        """Truths without a partner, [T]."""
        return self.truths - self.tp

    @property
    def empty(self) -> bool:
        """Nothing there and nothing predicted."""
        return not self.truths and not self.predictions

    @property
    def f1(self) -> Floats:
        """F1 at every threshold, [T]; 0 where nothing was predicted."""
        return f1_of(self.tp, self.fp, self.fn)


def f1_of(tp: Counts | Floats, fp: Counts | Floats, fn: Counts | Floats) -> Floats:
    """2PR / (P + R) of counts [..., T], with the evaluator's constants."""
    precision, recall = tp / (tp + fp + EPS), tp / (tp + fn + EPS)
    found: Floats = 2 * precision * recall / (precision + recall + EPS)
    return found


def pair_counts(ious: npt.ArrayLike) -> PairCounts:
    """Counts from the IoU of every prediction with every truth: float [P, G]; either may be 0."""
    matrix = np.asarray(ious, np.float64)
    matched = matrix[best_assignment(matrix)]
    tp = (matched[:, None] >= THRESHOLDS).sum(0)
    return PairCounts(matrix.shape[1], matrix.shape[0], tp)


def best_of(annotators: Sequence[PairCounts]) -> int:
    """The place of the annotator with the highest mean F1, the first of equals.

    Nothing predicted and an annotator who saw nothing agree perfectly, whatever the others saw.
    """
    best = 0
    for place, one in enumerate(annotators):
        if annotators[best].empty:
            return best
        if one.empty or one.f1.mean() > annotators[best].f1.mean():
            best = place
    return best


def concept_scores(pairs: Sequence[PairCounts]) -> dict[str, float]:
    """All numbers of a subset, fractions, from the chosen annotators' counts of its pairs.

    `IL_*`: of the decision "is it there", over all pairs. `pmF1`: micro F1 whose false positives
    are those of pairs with truth; `cgF1` = pmF1 times IL_MCC; both the mean over IoU 0.50:0.95, at
    0.5 (`@0.5`) and 0.75. `precision`, `recall`, `F1`: with the false positives of all pairs.
    `positive_macro_F1`: mean over pairs with truth and prediction. NaN where there are none.
    """
    scores = image_scores(pairs)
    positive = [pair for pair in pairs if pair.truths]
    tp, fn = _summed([pair.tp for pair in pairs]), _summed([pair.fn for pair in pairs])
    fp, positive_fp = _summed([pair.fp for pair in pairs]), _summed([pair.fp for pair in positive])
    both = [pair.f1 for pair in positive if pair.predictions]
    micro = f1_of(tp, positive_fp, fn)
    curves = {
        "cgF1": micro * scores["IL_MCC"],
        "pmF1": micro,
        "precision": tp / (tp + fp + EPS),
        "recall": tp / (tp + fn + EPS),
        "F1": f1_of(tp, fp, fn),
        "positive_macro_F1": np.mean(both, axis=0) if both else np.full(len(THRESHOLDS), np.nan),
    }
    for mark, part in AT.items():
        scores |= {f"{name}{mark}": float(curve[part].mean()) for name, curve in curves.items()}
    return scores


def _summed(counts: Sequence[Counts]) -> Counts:
    """[T] of counts [T] each; zeros for none."""
    total = np.zeros(len(THRESHOLDS), np.int64)
    for one in counts:
        total = total + one
    return total


def image_scores(pairs: Sequence[PairCounts]) -> dict[str, float]:
    """`IL_precision`, `IL_recall`, `IL_F1`, `IL_FPR`, `IL_MCC` of "there" against "predicted"."""
    tp = sum(bool(pair.truths) and bool(pair.predictions) for pair in pairs)
    fp = sum(not pair.truths and bool(pair.predictions) for pair in pairs)
    fn = sum(bool(pair.truths) and not pair.predictions for pair in pairs)
    tn = len(pairs) - tp - fp - fn
    precision, recall = tp / (tp + fp + IMAGE_EPS), tp / (tp + fn + IMAGE_EPS)
    mcc = _mcc(*(np.array(float(count)) for count in (tp, fp, fn, tn)))
    return {
        "IL_precision": precision,
        "IL_recall": recall,
        "IL_F1": 2 * precision * recall / (precision + recall + IMAGE_EPS),
        "IL_FPR": fp / (fp + tn + IMAGE_EPS),
        "IL_MCC": float(mcc),
    }


def _mcc(tp: Floats, fp: Floats, fn: Floats, tn: Floats) -> Floats:
    """Matthews' correlation of counts [...]; 0 where a row or a column of their table is empty."""
    product = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    found: Floats = (tp * tn - fp * fn) / (np.sqrt(product) + IMAGE_EPS)
    return found


def pair_sums(pairs: Sequence[PairCounts]) -> Floats:
    """What `drawn_concepts` is made of, to be added up: float64 [N, 4 + 3T], a row a pair.

    First whether "there" against "predicted" is a TP, FP, FN, TN; then at every threshold TP, FN,
    and the false positives of pairs with truth.
    """
    sums = np.zeros((len(pairs), 4 + 3 * len(THRESHOLDS)))
    for row, pair in zip(sums, pairs, strict=True):
        there, found = bool(pair.truths), bool(pair.predictions)
        row[:4] = there and found, found and not there, there and not found, not (there or found)
        row[4:] = np.concatenate([pair.tp, pair.fn, pair.fp * bool(pair.truths)])
    return sums


def drawn_concepts(sums: Floats) -> Floats:
    """cgF1, IL_MCC and pmF1 as of `concept_scores`, [D, 3], for D sets of pairs.

    sums: of the `pair_sums` of each set, [D, 4 + 3T].
    """
    mcc = _mcc(*sums[:, :4].T)
    tp, fn, fp = np.split(sums[:, 4:], 3, axis=1)  # [D, T]
    micro = f1_of(tp, fp, fn).mean(1)
    return np.stack([micro * mcc, mcc, micro], axis=1)
