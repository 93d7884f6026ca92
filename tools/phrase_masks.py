"""What evaluate_phrase_masks.py does for each benchmark: masks from a model, tables, files."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import TTDError
from tools.cli import load_model, min_score, say
from tools.evaluation import progress_bar, write, write_json
from tools.grounding_report import text_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from core.data.phrases.saco import Pair, Prediction, Subset
    from core.evaluation.phrases.saco import SubsetScores
    from core.predictor import Predictor

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


class Masker:
    """A model's masks of phrases."""

    def __init__(self, args: argparse.Namespace) -> None:
        from core.predictor import Predictor
        from core.predictor.labelled import THRESHOLD

        backbone = load_model(args)
        refine = "pamr" if args.pamr else None
        self.predictor: Predictor = Predictor(backbone, args.image, args.scales, args.hflip, refine)
        own = backbone.own.defaults.bg
        usual = THRESHOLD if own is None else own
        self.threshold = usual if args.bg is None else args.bg
        self.least = min_score(args)
        self.templates = args.templates

    def masks(
        self, image: Path, texts: Sequence[str]
    ) -> Iterator[tuple[float, npt.NDArray[np.bool_]]]:
        """The cosine of each text with its nearest pixel, and its mask [H, W]."""
        self.predictor.set_image(image)
        for text in texts:  # one at a time: a narrative has many phrases, an image many pixels
            score = float(self.predictor.scores([text], self.templates)[0])
            soft = self.predictor.soft_masks([text], self.templates)[0]
            yield score, (soft > self.threshold).cpu().numpy()


def run_saco(args: argparse.Namespace) -> None:
    """Score every subset and print them with their mean."""
    from core.data.phrases.saco import find_subsets, read_subset
    from core.evaluation.phrases.saco import average, score_subset

    masker = None if args.pred else Masker(args)
    if masker and masker.least is None:
        say("no --min-score: a phrase is taken to be there unless its mask is empty")
    found: list[SubsetScores] = []
    for name, paths in find_subsets(args.truth).items():
        subset = read_subset(name, paths)
        if args.limit:
            subset = replace(subset, pairs=dict(list(subset.pairs.items())[: args.limit]))
        predictions = saco_predictions(args, subset, masker)
        with progress_bar(len(subset.pairs)) as bar:
            found.append(score_subset(subset, predictions, bar.update))
    print(saco_table(found))
    for line in saco_notes(found):
        print(line)
    if args.json:
        content = {"subsets": [one.as_dict() for one in found], "average": average(found)}
        write_json(args.json, content)


def saco_predictions(
    args: argparse.Namespace, subset: Subset, masker: Masker | None
) -> Mapping[int, Sequence[Prediction]]:
    """Read, or made by the model and written where --save says."""
    from core.data.phrases.saco import read_predictions

    if masker is None:
        path = args.pred / f"{subset.name}.json" if args.pred.is_dir() else args.pred
        predictions = read_predictions(path)
        if args.limit:
            predictions = {key: predictions[key] for key in subset.pairs if key in predictions}
        return predictions
    if args.images is None:
        raise TTDError("--images is missing: the folder of the benchmark's images")
    made = make_saco(masker, subset, Path(args.images))
    if args.save:
        entries = [
            {"image_id": key, "category_id": 1, "segmentation": one.mask, "score": one.score}
            for key, rows in made.items()
            for one in rows
        ]
        write(args.save / f"{subset.name}.json", json.dumps(entries) + "\n")
    return made


def make_saco(masker: Masker, subset: Subset, images: Path) -> dict[int, list[Prediction]]:
    """One mask for each pair whose phrase the model finds; every image is encoded once."""
    from core.data.labels.rle import compress
    from core.data.phrases.saco import Prediction

    by_image: dict[str, list[Pair]] = {}
    for pair in subset.pairs.values():
        by_image.setdefault(pair.file, []).append(pair)
    made: dict[int, list[Prediction]] = {}
    with progress_bar(len(by_image)) as bar:
        for file, pairs in by_image.items():
            masks = masker.masks(images / file, [pair.text for pair in pairs])
            for pair, (score, mask) in zip(pairs, masks, strict=True):
                there = masker.least is None or score >= masker.least
                if there and mask.any():
                    made[pair.id] = [Prediction(compress(mask), 1.0)]
            bar.update(1)
    return made


def saco_table(found: Sequence[SubsetScores]) -> str:
    """A row for each subset, their mean, and published means."""
    from core.evaluation.phrases.saco import average

    names = ("cgF1", "IL_MCC", "pmF1", "IL_precision", "IL_recall", "IL_F1", "IL_FPR", "cgF1@0.5")
    label = "cgF1 semantic" if all(one.semantic for one in found) else "cgF1"
    head = ["percent", label, *names[1:], "union IoU", "pairs", "positive", "one instance"]
    table = [head]
    for one in found:
        cells = [f"{100 * one.official[name]:.2f}" for name in names]
        counts = [str(one.pairs), str(one.positive), f"{100 * one.single:.1f}"]
        table.append([one.name, *cells, f"{100 * one.union_iou:.2f}", *counts])
    if len(found) > 1:
        means = average(found)
        cells = [f"{100 * means[name]:.2f}" for name in (*names, "union_iou")]
        table.append([f"mean of {len(found)} subsets", *cells, "", "", ""])
    for name, row in SACO_PUBLISHED.items():
        empty = [""] * (len(head) - 4)
        table.append([f"{name}, instances, published mean", *(f"{v:g}" for v in row), *empty])
    return text_of(table)


def saco_notes(found: Sequence[SubsetScores]) -> list[str]:
    """What must be said with the numbers."""
    lines = ["union IoU: with the union of the truth, best annotator, not an official number"]
    if all(one.semantic for one in found):
        lines.append(f"{SEMANTIC}; one instance: share of positive pairs whose truth is one")
    return ["", *lines]


def run_png(args: argparse.Namespace) -> None:
    """Score a split of Panoptic Narrative Grounding and print it beside published rows."""
    from core.data.phrases.png import read_narratives
    from core.evaluation.phrases.png import group_scores, masks_of, narrative_ious, read_masks

    if len(args.truth) > 1:
        raise TTDError("--truth: one folder, the one of annotations/")
    narratives = read_narratives(args.truth[0], args.split, args.images)
    rows = narratives.rows[: args.limit]
    predictions = read_masks(args.pred) if args.pred else {}
    masker = None if args.pred else Masker(args)
    found, lines = [], []
    with progress_bar(len(rows)) as bar:
        for narrative in rows:
            if masker is None:
                masks = masks_of(narrative, predictions)
            else:
                texts = [phrase.text for phrase in narrative.phrases]
                masks = [mask for _, mask in masker.masks(narrative.image, texts)]
                lines += png_lines(narrative, masks) if args.save else []
            found += narrative_ious(narrative, masks)
            bar.update(1)
    if args.save:
        write(args.save, "\n".join(lines) + "\n")
    dropped = ", ".join(f"{count} {reason}" for reason, count in narratives.dropped.items())
    print(f"{narratives.place}: {len(rows)} narratives; left out: {dropped or 'none'}\n")
    groups = group_scores(found)
    print(png_table(groups))
    print(
        "\nMasks at the image's own size, no merging of phrases; the published rows are supervised"
    )
    if args.json:
        write_json(args.json, {"groups": groups, "dropped": narratives.dropped})


def png_lines(narrative: Any, masks: Sequence[npt.NDArray[np.bool_]]) -> list[str]:
    """A line of JSON for each phrase."""
    from core.data.labels.rle import compress

    lines = []
    for phrase, mask in zip(narrative.phrases, masks, strict=True):
        row = {"narrative": narrative.number, "phrase": phrase.number, "text": phrase.text}
        lines.append(json.dumps({**row, "segmentation": compress(mask)}, ensure_ascii=False))
    return lines


def png_table(groups: Mapping[str, Mapping[str, Any]]) -> str:
    """Average recall of every group, and of those published."""
    from core.evaluation.phrases.png import PUBLISHED

    table = [["percent", *groups], ["phrases", *(str(g["phrases"]) for g in groups.values())]]
    for label, key in (("average recall", "average_recall"), ("acc, IoU > 0.5", "acc@0.5")):
        table.append([label, *(f"{100 * group[key]:.2f}" for group in groups.values())])
    for name, row in PUBLISHED.items():
        table.append([f"{name}, published", *(f"{value:.1f}" for value in row)])
    return text_of(table)
