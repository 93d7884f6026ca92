"""Ref-L4 for evaluate_grounding.py: boxes of a model or of a file, by the release's numbers."""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import TTDError
from tools.evaluation import earlier_name, say_change, write, write_json
from tools.grounding_report import csv_of, text_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core.data.grounding import Box
    from core.data.phrases.ref_l4 import Annotation
    from core.metrics.boxes import Values
    from core.report.boxes import BoxResult
    from core.training.distributed import Ranks

# Percent, all splits: the release's README.
PUBLISHED = {
    "CogVLM-Grounding, all splits, published": {
        "acc@0.5": 81.70, "acc@0.75": 70.77, "acc@0.9": 48.35, "macc": 66.09,
        "small_acc@0.5": 75.06, "small_macc": 52.85, "medium_acc@0.5": 86.43, "medium_macc": 71.31,
        "large_acc@0.5": 77.91, "large_macc": 66.25, "class_acc@0.5": 72.42, "class_macc": 52.56,
    },
}  # fmt: skip


def run_ref_l4(args: argparse.Namespace, device: str, ranks: Ranks) -> None:
    """Score and print; the first process alone prints and writes."""
    from core.data.phrases.ref_l4 import read_annotations

    if bool(args.predictions) == bool(args.grounder):
        raise TTDError("--ref-l4 needs --grounder FILE or --predictions FILE, one of the two")
    if args.grounder and len(args.grounder) > 1:
        raise TTDError("--ref-l4 scores one --grounder at a time")
    if unused := unused_options(args):
        raise TTDError(f"{', '.join(unused)}: of other lists than --ref-l4's; ask for those apart")
    with ranks.together():
        folder = args.data_root if Path(args.data_root).is_dir() else None
        rows = read_annotations(args.ref_l4, folder)[: args.limit]
    file = str(args.predictions or args.grounder[0])
    own = boxes_of(args, file, rows, device, ranks)
    with ranks.together():
        scores = tell(args, rows, own) if ranks.first else {}
    # After the numbers: what is wrong with an earlier result does not cost them.
    earlier = boxes_of(args, args.against, rows, device, ranks) if args.against else None
    if ranks.first and (args.report or args.against):
        show(args, rows, own, earlier, scores)


def unused_options(args: argparse.Namespace) -> list[str]:
    """What was asked for and is not done with --ref-l4."""
    given = {
        "--gallery": args.gallery,
        "--baselines": args.baselines,
        "--data": args.data or None,
        "--dataset": args.dataset or None,
        "--eval_set": args.eval_set,
    }
    return [name for name, value in given.items() if value is not None]


def tell(
    args: argparse.Namespace, rows: Sequence[Annotation], boxes: Sequence[Box]
) -> dict[str, float]:
    """Print the numbers and write --json, --csv and --pred; the numbers."""
    from core.metrics.ref_l4 import ref_l4_scores

    sizes, classes = [row.size for row in rows], [row.category for row in rows]
    scores = ref_l4_scores(ious_of(rows, boxes), sizes, classes)
    table = cells_of(scores)
    print(f"Ref-L4: {len(rows)} phrases, IoU above the threshold counts\n\n{text_of(table)}")
    if args.json:
        write_json(args.json, {"phrases": len(rows), "scores": scores, "published": PUBLISHED})
    if args.csv:
        write(args.csv, csv_of(table))
    if args.pred:
        write(args.pred / "ref-l4.json", json.dumps(entries(rows, boxes)) + "\n")
    return scores


def boxes_of(
    args: argparse.Namespace, file: str, rows: Sequence[Annotation], device: str, ranks: Ranks
) -> Sequence[Box]:
    """The boxes in pixels in a file, or of the model in it, whichever is scored."""
    from core.data.phrases.ref_l4 import read_boxes

    if args.predictions:
        return read_boxes(file, [row.phrase.id for row in rows])
    return located(args, file, rows, device, ranks)


def located(
    args: argparse.Namespace, file: str, rows: Sequence[Annotation], device: str, ranks: Ranks
) -> list[Box]:
    """The boxes of the model in a file, in pixels."""
    from core.grounding.locate import locate_sharded
    from core.grounding.predict import load_grounder

    with ranks.together():
        grounder = load_grounder(file, arch=args.arch, device=device)
        grounder.prompt = args.prompt or grounder.prompt
    found = locate_sharded(grounder, [row.phrase for row in rows], ranks, args.batch)
    return [item.box for item in found]


def show(
    args: argparse.Namespace,
    rows: Sequence[Annotation],
    own: Sequence[Box],
    earlier: Sequence[Box] | None,
    scores: dict[str, float],
) -> None:
    """Write --report, and say what has changed since --against."""
    from core.metrics.bootstrap import mean_of
    from core.report.boxes import sums_of
    from core.report.ref_l4 import Truths, ref_l4_report

    file = str(args.predictions or args.grounder[0])
    result, before = box_result(Path(file).stem, file, rows, own), None
    if earlier is not None:
        name = earlier_name(Path(args.against).stem, [result.tag])
        before = box_result(name, args.against, rows, earlier)
        say_change(result.tag, sums_of(result), (name, sums_of(before)), mean_of)
    if args.report:
        truths = Truths([row.size for row in rows], [row.category for row in rows])
        write(args.report, ref_l4_report([result], truths, cells_of(scores), before))
        print(f"report: {args.report}")


def box_result(tag: str, file: str, rows: Sequence[Annotation], boxes: Sequence[Box]) -> BoxResult:
    """The boxes as a report takes them. file: of the model, or of the boxes."""
    from core.data.images import read_image
    from core.report.boxes import BoxResult, Found

    found = []
    for row, box, iou in zip(rows, boxes, ious_of(rows, boxes).tolist(), strict=True):
        phrase, read = row.phrase, partial(read_image, row.phrase.image)
        image = str(phrase.image)
        found.append(Found(image, phrase.text, box, phrase.box, iou, float("nan"), read))
    return BoxResult(tag, found, {"boxes of": file}, strict=True)


def ious_of(rows: Sequence[Annotation], boxes: Sequence[Box]) -> Values:
    """IoU of every box with the true one, [N]."""
    import numpy as np

    from core.metrics.boxes import box_iou

    truth = np.array([row.phrase.box for row in rows], np.float64)
    return box_iou(truth, np.array(boxes, np.float64))


def entries(rows: Sequence[Annotation], boxes: Sequence[Box]) -> list[dict[str, object]]:
    """Predictions in the release's form."""
    return [
        {"id": row.phrase.id, "pred_bbox": list(box), "format": "xyxy"}
        for row, box in zip(rows, boxes, strict=True)
    ]


def cells_of(scores: dict[str, float]) -> list[list[str]]:
    """A row for every number, beside the published ones; the first row is the head."""
    from core.report.parts.charts import percent

    rows = [["percent", "ours", *PUBLISHED]]
    for name, value in scores.items():
        others = [f"{row[name]:.2f}" for row in PUBLISHED.values()]
        rows.append([name, percent(value, 2), *others])
    return rows
