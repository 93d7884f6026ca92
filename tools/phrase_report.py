"""--report and --against of evaluate_phrase_masks.py."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from core.errors import TTDError
from core.utils.shown import without_folders
from tools.evaluation import against_file, earlier_name, say_change, say_difference, write

if TYPE_CHECKING:
    from core.data.phrases.png import Narrative
    from core.data.phrases.saco import Pair, Prediction, Subset
    from core.evaluation.phrases.png import Mask, Masks, PhraseIou
    from core.evaluation.phrases.saco import SubsetScores
    from core.report.phrases import Benchmark, PhraseMask
    from tools.masker import Masker

Lengths = Sequence[Mapping[str, Any]]  # run lengths of masks of one image
Cells = Sequence[Sequence[str]]

POOLED = (
    "Mean of subsets: every subset counts once, as published. The union IoU under Scores, with its "
    "interval, is the mean over the phrases of all subsets together"
)


class Part(NamedTuple):
    """The phrases of a subset or split; the same of --against, [] without it; false alarms.

    before: the subset's scores by --against. problem: what is wrong with --against; raised when the
    numbers are printed, which it must not cost.
    """

    found: list[PhraseMask]
    earlier: list[PhraseMask]
    alarms: list[PhraseMask]
    before: SubsetScores | None = None
    problem: TTDError | None = None


def saco_part(
    args: argparse.Namespace,
    subset: Subset,
    predictions: Mapping[int, Sequence[Prediction]],
    scores: SubsetScores,
    whole: Collection[int],
) -> Part:
    """The pairs of a subset that have a union IoU, and its false alarms.

    whole: the ids of all pairs, where the subset is a part of them.
    """
    from core.evaluation.phrases.saco import false_alarms

    found = saco_masks(args, subset, predictions, scores)
    alarms = []
    for pair in false_alarms(subset, predictions):
        alarms.append(pair_mask(args, subset.name, pair, float("nan"), predictions, []))
    try:
        earlier, before = saco_earlier(args, subset, whole)
    except TTDError as error:
        return Part(found, [], alarms, problem=error)
    return Part(found, earlier, alarms, before)


def saco_earlier(
    args: argparse.Namespace, subset: Subset, whole: Collection[int]
) -> tuple[list[PhraseMask], SubsetScores | None]:
    """The pairs with the masks of --against, and their scores; [] and None without it."""
    from core.data.phrases.saco import subset_predictions
    from core.evaluation.phrases.saco import score_subset

    path = against_file(args)
    if path is None:
        return [], None
    before = subset_predictions(path, subset, whole)
    with said_of_earlier(path):
        scores = score_subset(subset, before)
    return saco_masks(args, subset, before, scores), scores


def saco_masks(
    args: argparse.Namespace,
    subset: Subset,
    predictions: Mapping[int, Sequence[Prediction]],
    scores: SubsetScores,
) -> list[PhraseMask]:
    """The pairs with a union IoU, each with the annotator who agrees best."""
    found = []
    for key, own in scores.unions.items():
        one, pair = subset.annotators[own.annotator], subset.pairs[key]
        truth = [*one.masks.get(key, []), *one.crowds.get(key, [])]
        found.append(pair_mask(args, subset.name, pair, own.iou, predictions, truth))
    return found


def pair_mask(
    args: argparse.Namespace,
    subset: str,
    pair: Pair,
    iou: float,
    predictions: Mapping[int, Sequence[Prediction]],
    truth: Lengths,
) -> PhraseMask:
    """A pair as a report takes it; it holds run lengths, no pixels."""
    from core.data.images import read_image
    from core.evaluation.phrases.saco import sure
    from core.report.phrases import PhraseMask

    image = Path(args.images or args.truth[0]) / pair.file
    return PhraseMask(
        image=str(image),
        name=f"{subset}, pair {pair.id}",
        text=pair.text,
        iou=iou,
        groups=(subset,),
        read=partial(read_image, image),
        masks=partial(unions, pair, truth, sure(predictions.get(pair.id, ()))),
    )


def unions(pair: Pair, truth: Lengths, found: Lengths) -> tuple[Mask, Mask]:
    """The unions of a pair's masks, bool [H, W] each; nothing where there are none."""
    from core.data.labels.regions import nothing, region_of, union, unpacked

    empty = nothing(pair.size)
    true, own = (union([empty, *map(region_of, masks)]) for masks in (truth, found))
    return unpacked(true), unpacked(own)


def show_saco(
    args: argparse.Namespace,
    masker: Masker | None,
    parts: Sequence[Part],
    scores: Sequence[SubsetScores],
    rows: Cells,
    notes: Sequence[str],
) -> None:
    """Write the page of all subsets. rows, notes: what is printed."""
    from core.report.concepts import NOTE, concepts_of
    from core.report.phrases import Benchmark

    for part in parts:
        if part.problem is not None:
            raise part.problem
    before = [part.before for part in parts if part.before is not None]
    tag, earlier = names_of(args)
    found = concepts_of(scores, before, earlier)
    said = [*notes, POOLED] if len(scores) > 1 else notes
    benchmark = Benchmark("SA-Co/Gold", "union IoU", found.cards(), rows, said, found.table(), NOTE)
    if before:
        now, old = found.now[-1].scores[0], found.before[-1].scores[0]
        say_difference(f"{tag}, {found.labels[0]}", now, earlier, old)
    _show(args, masker, parts, benchmark)


def png_ious(rows: Sequence[Narrative], predictions: Masks) -> list[PhraseIou]:
    """The phrases of all narratives with the IoUs of their masks."""
    from core.evaluation.phrases.png import masks_of, narrative_ious

    found: list[PhraseIou] = []
    for narrative in rows:
        found += narrative_ious(narrative, masks_of(narrative, predictions))
    return found


def png_part(
    args: argparse.Namespace,
    rows: Sequence[Narrative],
    predictions: Masks,
    found: Sequence[PhraseIou],
) -> Part:
    """The phrases of a split."""
    from core.evaluation.phrases.png import read_masks

    earlier = []
    if path := against_file(args):
        before = read_masks(path)
        with said_of_earlier(path):
            ious = png_ious(rows, before)
        earlier = png_masks(rows, before, ious)
    return Part(png_masks(rows, predictions, found), earlier, [])


def png_masks(
    rows: Sequence[Narrative], predictions: Masks, found: Sequence[PhraseIou]
) -> list[PhraseMask]:
    """Phrases as a report takes them. found: in the order of the narratives."""
    from core.data.images import read_image
    from core.evaluation.phrases.png import GROUPS
    from core.report.phrases import PhraseMask

    owners = [narrative for narrative in rows for _ in narrative.phrases]
    masks = []
    for narrative, own in zip(owners, found, strict=True):
        phrase, image = own.phrase, narrative.image
        groups = [name for name, belongs in GROUPS.items() if name != "all" and belongs(phrase)]
        place = narrative.phrases.index(phrase)
        mask = predictions[narrative.number, phrase.number]
        one = PhraseMask(
            image=str(image),
            name=f"{image.name}, narrative {narrative.number}, phrase {phrase.number}",
            text=phrase.text,
            iou=own.iou,
            groups=tuple(groups),
            read=partial(read_image, image),
            masks=partial(png_pair, narrative, place, mask),
        )
        masks.append(one)
    return masks


def png_pair(narrative: Narrative, place: int, mask: Mapping[str, Any]) -> tuple[Mask, Mask]:
    """The true and the found mask of a narrative's phrase, bool [H, W]."""
    from core.data.labels.rle import decode

    return narrative.truths()[place], decode(mask)


def show_png(
    args: argparse.Namespace, masker: Masker | None, part: Part, rows: Cells, notes: Sequence[str]
) -> None:
    """Write the page of a split. rows, notes: what is printed."""
    from core.report.phrases import Benchmark

    benchmark = Benchmark("Panoptic Narrative Grounding", "mean IoU", [], rows, notes)
    _show(args, masker, [part], benchmark)


def _show(
    args: argparse.Namespace, masker: Masker | None, parts: Sequence[Part], benchmark: Benchmark
) -> None:
    """Write --report, and say what has changed since --against."""
    from core.metrics.bootstrap import mean_of
    from core.report.phrases import PhraseResult, phrases_report, sums_of

    found = list(chain.from_iterable(part.found for part in parts))
    earlier = list(chain.from_iterable(part.earlier for part in parts))
    alarms = list(chain.from_iterable(part.alarms for part in parts))
    settings = {"masks": str(args.pred)}
    if masker is not None:
        own = {"arch": args.arch, "lora": args.lora, "min_score": masker.least}
        settings = {**own, **masker.identity()}
    tag, name = names_of(args)
    result, before = PhraseResult(tag, found, settings), None
    if path := against_file(args):
        before = PhraseResult(name, earlier, {"masks": str(path)})
    if before is not None and found:
        say_change(tag, sums_of(result), (before.tag, sums_of(before)), mean_of)
    if args.report:
        write(args.report, phrases_report(benchmark, result, before, alarms))
        print(f"report: {args.report}")


def names_of(args: argparse.Namespace) -> tuple[str, str]:
    """What the result is called, and that of --against, "" without one."""
    tag = without_folders(f"{args.arch}{'+TTD' * (args.lora is not None)}")
    if args.pred:
        tag = called(args.pred)
    path = against_file(args)
    return tag, "" if path is None else earlier_name(called(path), [tag])


@contextmanager
def said_of_earlier(path: Path) -> Iterator[None]:
    """What is wrong with masks is said of the file or folder of --against, not of --pred."""
    try:
        yield
    except TTDError as error:
        raise TTDError(f"--against {path}: {error}") from None


def called(path: Path) -> str:
    """A folder's name, or a file's without its ending."""
    return path.resolve().name if path.is_dir() else path.stem
