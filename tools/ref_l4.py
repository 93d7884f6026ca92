"""Ref-L4 for evaluate_grounding.py: boxes of a model or of a file, by the release's numbers."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import TTDError
from tools.evaluation import write, write_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from core.data.grounding import Box
    from core.data.phrases.ref_l4 import Annotation
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
    import numpy as np

    from core.data.phrases.ref_l4 import read_annotations, read_boxes
    from core.metrics.boxes import box_iou
    from core.metrics.ref_l4 import ref_l4_scores

    if bool(args.predictions) == bool(args.grounder):
        raise TTDError("--ref-l4 needs --grounder FILE or --predictions FILE, one of the two")
    with ranks.together():
        folder = args.data_root if Path(args.data_root).is_dir() else None
        rows = read_annotations(args.ref_l4, folder)[: args.limit]
    boxes: Sequence[Box]
    if args.predictions:
        boxes = read_boxes(args.predictions, [row.phrase.id for row in rows])
    else:
        boxes = located(args, rows, device, ranks)
    if not ranks.first:
        return
    truth = np.array([row.phrase.box for row in rows], np.float64)
    ious = box_iou(truth, np.array(boxes, np.float64))
    scores = ref_l4_scores(ious, [row.size for row in rows], [row.category for row in rows])
    print(f"Ref-L4: {len(rows)} phrases, IoU above the threshold counts\n\n{table_of(scores)}")
    if args.json:
        write_json(args.json, {"phrases": len(rows), "scores": scores, "published": PUBLISHED})
    if args.pred:
        write(args.pred / "ref-l4.json", json.dumps(entries(rows, boxes)) + "\n")


def located(
    args: argparse.Namespace, rows: Sequence[Annotation], device: str, ranks: Ranks
) -> list[Box]:
    """The boxes of the model of --grounder, in pixels."""
    from core.grounding.locate import locate_sharded
    from core.grounding.predict import load_grounder

    if len(args.grounder) > 1:
        raise TTDError("--ref-l4 scores one --grounder at a time")
    with ranks.together():
        grounder = load_grounder(args.grounder[0], arch=args.arch, device=device)
        grounder.prompt = args.prompt or grounder.prompt
    found = locate_sharded(grounder, [row.phrase for row in rows], ranks, args.batch)
    return [item.box for item in found]


def entries(rows: Sequence[Annotation], boxes: Sequence[Box]) -> list[dict[str, object]]:
    """Predictions in the release's form."""
    return [
        {"id": row.phrase.id, "pred_bbox": list(box), "format": "xyxy"}
        for row, box in zip(rows, boxes, strict=True)
    ]


def table_of(scores: dict[str, float]) -> str:
    """A line for every number, beside the published ones."""
    width = max(map(len, scores))
    lines = [f"{'percent':{width}}       ours  {'  '.join(PUBLISHED)}"]
    for name, value in scores.items():
        others = "  ".join(f"{row[name]:10.2f}" for row in PUBLISHED.values())
        lines.append(f"{name:{width}} {100 * value:10.2f}  {others}")
    return "\n".join(lines)
