"""What evaluate_phrase_masks.py does for each benchmark: masks from a model, tables, files."""

from __future__ import annotations

import argparse
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import TTDError
from tools.cli import say
from tools.evaluation import progress_bar, write, write_json
from tools.grounding_report import text_of
from tools.masker import Masked, Masker
from tools.phrase_report import Part, png_ious, png_part, saco_part, show_png, show_saco

if TYPE_CHECKING:
    from core.data.phrases.png import Narrative
    from core.data.phrases.saco import Pair, Prediction, Subset
    from core.evaluation.phrases.png import Masks, PhraseIou
    from core.evaluation.phrases.saco import SubsetScores

# Percent, averages of the seven subsets: SA-Co's README. Instance methods, but for the note below.
SACO_PUBLISHED = {
    "SAM 3": (54.06, 82, 66.1),
    "OWLv2, saw LVIS": (24.59, 57, 42.0),
    "DINO-X": (21.26, 38, 55.2),
    "OWLv2": (17.27, 46, 36.8),
    "APE": (16.41, 40, 36.9),
    "Gemini 2.5": (13.03, 29, 46.1),
    "LLMDet-L": (6.5, 21, 27.3),
    "gDino-T": (3.25, 15, 16.2),
}
SEMANTIC = (
    "cgF1 is semantic here: no phrase has more than one mask, which is compared with every instance"
)

PNG_NOTE = "Masks at the image's own size, no merging of phrases; the published rows are supervised"


def run_saco(args: argparse.Namespace) -> None:
    """Score every subset and print them with their mean."""
    from core.data.phrases.saco import find_subsets, read_subset
    from core.evaluation.phrases.saco import average, score_subset

    masker = None if args.pred else Masker(args)
    if masker and masker.least is None:
        say("no --min-score: a phrase is taken to be there unless its mask is empty")
    subsets = find_subsets(args.truth)
    if masker:
        check_images(args, masker, subsets)
    found: list[SubsetScores] = []
    parts: list[Part] = []
    for name, paths in subsets.items():
        whole = read_subset(name, paths)
        subset = replace(whole, pairs=dict(list(whole.pairs.items())[: args.limit]))
        subset, predictions = saco_predictions(args, subset, masker, whole.pairs)
        with progress_bar(len(subset.pairs)) as bar:
            found.append(score_subset(subset, predictions, bar.update))
        if args.report or args.against:
            parts.append(saco_part(args, subset, predictions, found[-1], whole.pairs))
    if masker:
        masker.say_lost()
    rows, notes = saco_rows(found), saco_notes(found)
    print("\n".join([text_of(rows), "", *notes]))
    if args.json:
        content = {"subsets": [one.as_dict() for one in found], "average": average(found)}
        write_json(args.json, content)
    if parts:
        show_saco(args, masker, parts, found, rows, notes)


def saco_predictions(
    args: argparse.Namespace, subset: Subset, masker: Masker | None, whole: Collection[int]
) -> tuple[Subset, Mapping[int, Sequence[Prediction]]]:
    """Read, or made by the model and written where --save says; and the pairs that have any.

    whole: the ids of all pairs, also of those that --limit leaves out.
    """
    if masker is None:
        from core.data.phrases.saco import subset_predictions

        return subset, subset_predictions(args.pred, subset, whole)
    return make_saco(args, masker, subset)


def check_images(
    args: argparse.Namespace, masker: Masker, subsets: Mapping[str, Sequence[Path]]
) -> None:
    """TTDError, before the model begins: images of any subset are missing, or of another size."""
    from core.data.phrases.saco import read_subset

    if args.images is None:
        raise TTDError("--images is missing: the folder of the benchmark's images")
    sizes: dict[Path, set[tuple[int, int]]] = {}
    for name, paths in subsets.items():
        own = images_of(read_subset(name, paths[:1]), Path(args.images), args.limit)
        masker.check_there(list(own))
        for image, pairs in own.items():
            sizes.setdefault(image, set()).update(pair.size for pair in pairs)
    masker.check_sizes(sizes)


def make_saco(
    args: argparse.Namespace, masker: Masker, subset: Subset
) -> tuple[Subset, Mapping[int, Sequence[Prediction]]]:
    """One mask for each pair whose phrase the model finds; every image is encoded once."""
    from core.data.phrases.saco import Prediction

    subset, images = present(masker, subset, Path(args.images))
    place = args.save / f"{subset.name}.json" if args.save else None
    made: dict[int, list[Prediction]] = {}
    lost: set[int] = set()
    with masker.logging(place) as log, progress_bar(len(images)) as bar:
        for image, pairs in images.items():
            sizes = {pair.size for pair in pairs}
            found = masker.masks(image, [pair.text for pair in pairs], sizes)
            lost |= {pair.id for pair in pairs if found is None}
            for pair, one in zip(pairs, found or (), strict=found is not None):
                there = masker.least is None or one.cosine >= masker.least
                if there and not one.empty:
                    made[pair.id] = [Prediction(one.mask, 1.0)]
            bar.update(1)
        if place:
            write_saco(place, made)
            log.finish()
    kept = {key: pair for key, pair in subset.pairs.items() if key not in lost}
    return replace(subset, pairs=kept), made


def present(masker: Masker, subset: Subset, folder: Path) -> tuple[Subset, dict[Path, list[Pair]]]:
    """The pairs whose images are there, and those of each image. TTDError where others are not."""
    from core.utils.files import is_there

    images = images_of(subset, folder)
    masker.check_there(list(images))
    images = {path: pairs for path, pairs in images.items() if is_there(path)}
    kept = {pair.id for pairs in images.values() for pair in pairs}
    pairs = {key: pair for key, pair in subset.pairs.items() if key in kept}
    return replace(subset, pairs=pairs), images


def images_of(subset: Subset, folder: Path, limit: int | None = None) -> dict[Path, list[Pair]]:
    """The pairs of each image in a folder, of the first `limit` pairs."""
    images: dict[Path, list[Pair]] = {}
    for pair in list(subset.pairs.values())[:limit]:
        images.setdefault(folder / pair.file, []).append(pair)
    return images


def write_saco(place: Path, made: Mapping[int, Sequence[Prediction]]) -> None:
    """Predictions in COCO's result form."""
    entries = []
    for key, rows in made.items():
        for one in rows:
            entry = {"image_id": key, "category_id": 1, "segmentation": one.mask}
            entries.append({**entry, "score": one.score})
    write(place, json.dumps(entries) + "\n")


def saco_rows(found: Sequence[SubsetScores]) -> list[list[str]]:
    """A row for each subset, their mean, and published means."""
    from core.evaluation.phrases.saco import average

    names = ("cgF1", "IL_MCC", "pmF1", "IL_precision", "IL_recall", "IL_F1", "IL_FPR", "cgF1@0.5")
    label = "cgF1 semantic" if all(one.semantic for one in found) else "cgF1"
    head = ["percent", label, *names[1:], "union IoU", "pairs", "positive", "one instance"]
    table = [head]
    for one in found:
        cells = [percent(one.official[name]) for name in names]
        counts = [str(one.pairs), str(one.positive), percent(one.single)]
        table.append([one.name, *cells, percent(one.union_iou), *counts])
    if len(found) > 1:
        means = average(found)
        cells = [percent(means[name]) for name in (*names, "union_iou")]
        table.append([f"mean of {len(found)} subsets", *cells, "", "", ""])
    for name, row in SACO_PUBLISHED.items():
        empty = [""] * (len(head) - 4)
        table.append([f"{name}, instances, published mean", *(f"{v:g}" for v in row), *empty])
    return table


def saco_notes(found: Sequence[SubsetScores]) -> list[str]:
    """What must be said with the numbers."""
    lines = ["union IoU: with the union of the truth, best annotator, not an official number"]
    if all(one.semantic for one in found):
        lines.append(f"{SEMANTIC}; one instance: share of positive pairs whose truth is one")
    return lines


def run_png(args: argparse.Namespace) -> None:
    """Score a split of Panoptic Narrative Grounding and print it beside published rows."""
    from core.data.phrases.png import read_narratives
    from core.evaluation.phrases.png import group_scores, read_masks

    if len(args.truth) > 1:
        raise TTDError("--truth: one folder, the one of annotations/")
    narratives = read_narratives(args.truth[0], args.split, args.images)
    rows, masker = narratives.rows[: args.limit], None
    if args.pred:
        predictions = read_masks(args.pred)
        found = png_ious(rows, predictions)
    else:
        masker = Masker(args)
        found, rows, predictions = png_of_model(args, masker, rows)
    if masker:
        masker.say_lost()
    dropped = ", ".join(f"{count} {reason}" for reason, count in narratives.dropped.items())
    print(f"{narratives.place}: {len(rows)} narratives; left out: {dropped or 'none'}\n")
    groups = group_scores(found)
    table = png_rows(groups)
    print(f"{text_of(table)}\n\n{PNG_NOTE}")
    if args.json:
        write_json(args.json, {"groups": groups, "dropped": narratives.dropped})
    if args.report or args.against:
        show_png(args, masker, png_part(args, rows, predictions, found), table, [PNG_NOTE])


def png_of_model(
    args: argparse.Namespace, masker: Masker, rows: Sequence[Narrative]
) -> tuple[list[PhraseIou], tuple[Narrative, ...], Masks]:
    """The phrases by a model's masks, which --save writes, their narratives, and the masks."""
    from core.data.labels.rle import decode
    from core.evaluation.phrases.png import narrative_ious
    from core.utils.files import is_there

    masker.check_there([row.image for row in rows])
    kept, found, lines = [], [], []
    masks: Masks = {}
    with masker.logging(args.save) as log, progress_bar(len(rows)) as bar:
        for narrative in rows:
            bar.update(1)
            if not is_there(narrative.image):
                continue
            masked = masker.masks(narrative.image, [phrase.text for phrase in narrative.phrases])
            if masked is None:
                continue
            kept.append(narrative)
            lines += png_lines(narrative, masked)
            found += narrative_ious(narrative, [decode(one.mask) for one in masked])
            for phrase, one in zip(narrative.phrases, masked, strict=True):
                masks[narrative.number, phrase.number] = one.mask
        if args.save:
            write(args.save, "\n".join(lines) + "\n")
            log.finish()
    if not kept:
        raise TTDError("no image of the narratives can be decoded")
    return found, tuple(kept), masks


def png_lines(narrative: Narrative, masked: Sequence[Masked]) -> list[str]:
    """A line of JSON for each phrase."""
    lines = []
    for phrase, one in zip(narrative.phrases, masked, strict=True):
        row = {"narrative": narrative.number, "phrase": phrase.number, "text": phrase.text}
        lines.append(json.dumps({**row, "segmentation": one.mask}, ensure_ascii=False))
    return lines


def percent(value: float) -> str:
    """A fraction in percent; "" for NaN, the mean of nothing."""
    return "" if value != value else f"{100 * value:.2f}"


def png_rows(groups: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Average recall of every group, and of those published."""
    from core.evaluation.phrases.png import PUBLISHED

    table = [["percent", *groups], ["phrases", *(str(g["phrases"]) for g in groups.values())]]
    for label, key in (("average recall", "average_recall"), ("acc, IoU > 0.5", "acc@0.5")):
        table.append([label, *(percent(group[key]) for group in groups.values())])
    for name, row in PUBLISHED.items():
        table.append([f"{name}, published", *(f"{value:.1f}" for value in row)])
    return table
