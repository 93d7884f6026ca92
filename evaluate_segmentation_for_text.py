"""Foreground masks of captions against the truth: caption IoU, false positives and false negatives.

    python3 evaluate_segmentation_for_text.py --tag TCL+TTD \\
    --pred "./results_caption/TCL@CC3M@OpenAI@[1.0, 0.5, 1.5, 2.0]@448@s=2@hflip@pamr@TTD@bg=0.40/"
    python evaluate_segmentation_for_text.py --pred results_caption/A results_caption/B
    python evaluate_segmentation_for_text.py --data World --pred results_caption/NAME \\
        --tune results_caption/OTHER --tune-root ../world_dev

A caption's truth is the union of the masks of its true tags (mask_using_HQ-SAM). The line is the
mean over captions; below it the value over all pixels pooled and trivial baselines. --tune finds
the best background threshold on a separate split (its predictions need --save-scores, and so do
these) and applies it here.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import TTDError
from tools.cli import run
from tools.evaluation import (
    SHOWN,
    against_folder,
    common_limit,
    evaluator_parser,
    limit_words,
    named_folders,
    progress_bar,
    report_left_out,
    save_gallery,
    say_change,
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
    """Print the published lines, the protocols and one table; write what was asked for."""
    args = get_args_parser().parse_args(argv)
    from core.data.labels.datasets import open_caption_set
    from core.evaluation.predictions import read_protocol
    from core.evaluation.report import means_table, protocol_line, published_line, to_csv

    folders = named_folders(args, "results_caption")
    if args.tune and len(folders) > 1:
        raise TTDError("--tune goes with one --pred: its threshold is that of one model")
    data = data_name(folders, args)
    captions = open_caption_set(data, args.root)
    earlier = against_folder(args, "results_caption", folders)
    every = score(captions, {**folders, **earlier}, args)
    found = {tag: every[tag] for tag in folders}
    first = next(iter(found.values()))
    rows = rows_of(found)
    if args.tune:
        best, scores = tuned(captions, next(iter(folders.values())), data, args)
        rows[f"  at bg {best:.2f}, the best of --tune"] = scores.means
    for tag, one in found.items():
        print(published_line(tag, "Caption IoU", one.scores.means))
        print(protocol_line(read_protocol(folders[tag]), args.verbose))
    print(
        f"{captions.describe()}; {len(first.ids)} scored, "
        f"{first.whole} of them with a truth that is the whole image"
        f"{limit_words(common_limit(list(folders.values())))}\n"
    )
    print(means_table(rows, "IoU"))
    if args.csv:
        write(args.csv, to_csv(csv_rows(found)))
    if args.json:
        content = [as_dict(one, tag, folders[tag], data, rows) for tag, one in found.items()]
        write_json(args.json, content[0] if len(content) == 1 else {"results": content})
    if args.report or earlier:
        results = {**folders, **earlier}
        show(args, captions, results, every, next(iter(earlier), None))
    if args.gallery:
        for tag, one in found.items():
            gallery(captions, one, folders[tag], args.gallery)
    return 0


def show(
    args: argparse.Namespace,
    captions: CaptionSet,
    folders: Mapping[str, Path],
    found: Mapping[str, CaptionEvaluation],
    earlier: str | None,
) -> None:
    """Write --report, and say what has changed since the result called `earlier`."""
    from core.metrics.bootstrap import mean_of
    from core.report.captions import CaptionResult, captions_report, sums_of

    own = {tag: CaptionResult(tag, folders[tag], one) for tag, one in found.items()}
    before = own.pop(earlier) if earlier is not None else None
    results = list(own.values())
    if before is not None:
        say_change(results[0].tag, sums_of(results[0]), (before.tag, sums_of(before)), mean_of)
    if args.report:
        write(args.report, captions_report(captions, results, before, args.gallery or SHOWN))
        print(f"report: {args.report}")


def data_name(folders: Mapping[str, Path], args: argparse.Namespace) -> str:
    """The set: --data, else the one that all results were made of, else CC3M."""
    from core.data.labels.datasets import CAPTION_NAMES
    from core.evaluation.predictions import data_of

    if args.data:
        return args.data
    sets = {str(data_of(folder)) for folder in folders.values()} & set(CAPTION_NAMES)
    if len(sets) > 1:
        raise TTDError(f"--pred: of different sets ({', '.join(sorted(sets))}); score them apart")
    return next(iter(sets), "CC3M")


def score(
    captions: CaptionSet, folders: Mapping[str, Path], args: argparse.Namespace
) -> dict[str, CaptionEvaluation]:
    """Compare every folder with the captions, by name. TTDError for predictions that do not fit."""
    from core.evaluation.captions import evaluate_captions

    limit, found = common_limit(list(folders.values())), {}
    options = {"allow_missing": args.allow_missing, "workers": args.workers, "limit": limit}
    for tag, folder in folders.items():
        with progress_bar(limit or captions.records.count) as bar:
            found[tag] = evaluate_captions(captions, folder, progress=bar.update, **options)
        report_left_out(found[tag].problems.line(), tag * (len(folders) > 1))
    if len({frozenset(one.ids) for one in found.values()}) > 1:
        counts = ", ".join(f"{tag}: {len(one.ids)}" for tag, one in found.items())
        raise TTDError(f"--pred: not of the same captions ({counts} scored); score them apart")
    return found


def rows_of(found: Mapping[str, CaptionEvaluation]) -> dict[str, tuple[float, float, float]]:
    """The rows of the table: every result, each pooled too, then the trivial baselines."""
    from core.metrics.segmentation import scores_from_counts

    first = next(iter(found.values()))
    rows = {}
    for tag, one in found.items():
        rows[tag] = one.scores.means
        pooled = "  pooled over pixels" + f" ({tag})" * (len(found) > 1)
        rows[pooled] = one.pooled.means
    baselines = first.baselines.items()
    return rows | {name: scores_from_counts(counts).means for name, counts in baselines}


def csv_rows(found: Mapping[str, CaptionEvaluation]) -> list[dict[str, Any]]:
    """The rows of all results; of several, with the result's name."""
    if len(found) == 1:
        return caption_rows(next(iter(found.values())))
    named = ({"result": tag, **row} for tag, one in found.items() for row in caption_rows(one))
    return list(named)


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
    from core.data.inputs.table import inputs_digest
    from core.evaluation.predictions import read_protocol
    from core.evaluation.report import named_means
    from core.masks.results import INPUTS

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
        "inputs": inputs_digest(folder / INPUTS),
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
