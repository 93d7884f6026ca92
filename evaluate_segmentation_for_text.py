"""Foreground masks of captions against the truth: caption IoU, false positives and false negatives.

    python3 evaluate_segmentation_for_text.py --tag TCL+TTD \\
    --pred "./results_caption/TCL@CC3M@OpenAI@[1.0, 0.5, 1.5, 2.0]@448@s=2@hflip@pamr@TTD@bg=0.40/"
    python evaluate_segmentation_for_text.py --data World --pred results_caption/NAME \\
        --tune results_caption/OTHER --tune-root ../world_dev

A caption's truth is the union of the masks of its true tags (mask_using_HQ-SAM). The line is the
mean over captions; below it the value over all pixels pooled and trivial baselines. --tune finds
the best background threshold on a separate split (its predictions need --save-scores, and so do
these) and applies it here.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import TTDError
from tools.cli import run
from tools.evaluation import (
    evaluator_parser,
    progress_bar,
    report_left_out,
    save_gallery,
    write,
    write_json,
)

if TYPE_CHECKING:
    from core.data.labels.datasets import CaptionSet
    from core.evaluation.captions import CaptionEvaluation
    from core.metrics.segmentation import SegScores


def get_args_parser() -> argparse.ArgumentParser:
    """All options."""
    parser = evaluator_parser(__doc__, "results_caption")
    parser.add_argument(
        "--data",
        metavar="NAME",
        help="CC3M or World (default: the set that they were made of, else CC3M)",
    )
    parser.add_argument(
        "--tune", metavar="FOLDER", help="predictions with scores on a separate split"
    )
    parser.add_argument(
        "--tune-root", metavar="FOLDER", help="where that split is (default: --root)"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Print the published line, the protocol and the baselines; write what was asked for."""
    args = get_args_parser().parse_args(argv)
    from core.data.labels.datasets import CAPTION_NAMES, open_caption_set
    from core.evaluation.predictions import data_of, find_folder, read_protocol
    from core.evaluation.report import means_table, protocol_line, published_line, to_csv
    from core.metrics.segmentation import scores_from_counts

    folder = find_folder(args.pred, "results_caption")
    named = data_of(folder)
    usual = named if named in CAPTION_NAMES else "CC3M"
    data = args.data or usual
    captions = open_caption_set(data, args.root)
    found = score(captions, folder, args)
    tag = args.tag or folder.resolve().name
    rows = {tag: found.scores.means, "  pooled over pixels": found.pooled.means}
    rows |= {name: scores_from_counts(counts).means for name, counts in found.baselines.items()}
    if args.tune:
        best, scores = tuned(captions, folder, data, args)
        rows[f"{tag} at bg {best:.2f}, best in {args.tune}"] = scores.means
    print(published_line(tag, "Caption IoU", found.scores.means))
    print(protocol_line(read_protocol(folder)))
    print(
        f"{captions.describe()}; {len(found.ids)} scored, "
        f"{found.whole} of them with a truth that is the whole image\n"
    )
    print(means_table(rows, "IoU"))
    if args.csv:
        write(args.csv, to_csv(caption_rows(found)))
    if args.json:
        write_json(args.json, as_dict(found, tag, folder, data, rows))
    if args.gallery:
        gallery(captions, found, folder, args.gallery)
    return 0


def score(captions: CaptionSet, folder: Path, args: argparse.Namespace) -> CaptionEvaluation:
    """Compare the folder with the captions. TTDError for predictions that do not fit."""
    from core.evaluation.captions import evaluate_captions

    options = {"allow_missing": args.allow_missing, "workers": args.workers}
    with progress_bar(captions.records.count) as bar:
        found = evaluate_captions(captions, folder, progress=bar.update, **options)
    report_left_out(found.problems.line())
    return found


def tuned(
    captions: CaptionSet, folder: Path, data: str, args: argparse.Namespace
) -> tuple[float, SegScores]:
    """The best threshold of the split of --tune and the scores of this one there."""
    from core.data.labels.datasets import open_caption_set
    from core.evaluation.captions import best_elsewhere, sweep
    from core.evaluation.predictions import check_kind, find_folder

    other = open_caption_set(data, args.tune_root or args.root)
    if other.root.resolve() == captions.root.resolve():
        raise TTDError(
            f"--tune: {other.root} is the split that is scored; "
            "name a separate one with --tune-root"
        )
    place = find_folder(args.tune, "results_caption")
    check_kind(place, captions=True)
    options = {"allow_missing": args.allow_missing, "workers": args.workers}
    tuning, left_out = sweep(other, place, **options)
    counts, _ = sweep(captions, folder, **options)
    report_left_out(left_out.line())
    return best_elsewhere(tuning, counts)


def caption_rows(found: CaptionEvaluation) -> list[dict[str, Any]]:
    """A row per caption, for CSV: fractions and pixels."""
    scores, rows = found.scores, []
    for index, (name, counts) in enumerate(zip(found.ids, found.counts, strict=True)):
        hits, false, missed, _ = counts.tolist()
        rows.append(
            {
                "id": name,
                "iou": scores.iou[index],
                "fpr": scores.fpr[index],
                "fnr": scores.fnr[index],
                "true_pixels": hits + missed,
                "predicted_pixels": hits + false,
            }
        )
    return rows


def as_dict(
    found: CaptionEvaluation,
    tag: str,
    folder: Path,
    data: str,
    rows: dict[str, tuple[float, float, float]],
) -> dict[str, Any]:
    """Everything, for JSON; fractions."""
    from core.evaluation.predictions import read_protocol
    from core.evaluation.report import named_means

    return {
        "tag": tag,
        "pred": str(folder),
        "data": data,
        **named_means(found.scores.means),
        "scored": len(found.ids),
        "left_out": found.problems.counts,
        "whole_pictures": found.whole,
        "rows": {name.strip(): named_means(means) for name, means in rows.items()},
        "captions": dict(zip(found.ids, found.scores.iou.tolist(), strict=True)),
        "protocol": read_protocol(folder),
    }


def gallery(captions: CaptionSet, found: CaptionEvaluation, folder: Path, count: int) -> None:
    """Draw the captions with the best and worst IoU."""
    import numpy as np

    from core.data.labels.mask_files import read_foreground
    from core.data.records import read_record
    from core.plots.gallery import Row, best_and_worst

    scores = dict(zip(found.ids, found.scores.iou.tolist(), strict=True))
    chosen = best_and_worst(scores, count)
    records = {one.id: one for one in captions.records.iterate() if one.id in set(chosen)}
    rows = []
    for name in chosen:
        record, title = records[name], f"{name}: IoU {100 * scores[name]:.1f}%"
        truth = captions.truth_mask(record).astype(np.uint8)
        found_mask = read_foreground(folder / f"{name}.png").astype(np.uint8)
        notes = (record.text, f"true: {', '.join(record.tags)}")
        rows.append(Row(title, read_record(record), truth, found_mask, notes))
    palette = np.zeros((256, 3), np.uint8)
    palette[1] = (240, 200, 60)
    save_gallery(folder, rows, {0: "background", 1: "foreground"}, palette)


if __name__ == "__main__":
    run(main)
