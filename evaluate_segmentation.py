"""Label maps against the truth: mIoU, false positives and false negatives over a whole set.

    python3 evaluate_segmentation.py --data VOC2012 --tag "TCL+TTD@VOC2012" \\
        --pred "./results/TCL@VOC2012@OpenAI@[1.0, 0.5, 1.5, 2.0]@448@s=2@hflip@pamr@TTD@bg=0.40/"
    python evaluate_segmentation.py --data my_set.yaml --pred results/NAME --per-class \\
        --gallery 4 --json scores.json

Per class over the whole set, IoU = TP/(TP+FP+FN), FPR = FP/(TP+FP+FN), FNR = FN/(TP+FP+FN); classes
that occur neither in truth nor in prediction are left out; the three means sum to 1. Below it:
trivial baselines.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import TTDError
from tools.cli import run, say
from tools.evaluation import (
    evaluator_parser,
    progress_bar,
    report_left_out,
    save_gallery,
    write,
    write_json,
)

if TYPE_CHECKING:
    from core.evaluation.label_maps import Evaluation


def get_args_parser() -> argparse.ArgumentParser:
    """All options."""
    parser = evaluator_parser(__doc__, "results")
    parser.add_argument(
        "--data",
        metavar="NAME",
        help="VOC2012, COCO2014, ADE2016, Cityscapes, COCO-Stuff, PascalContext, VOC20, Context59, "
        "World or a YAML file (default: the set that they were made of)",
    )
    parser.add_argument("--per-class", action="store_true", help="print the scores of every class")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Print the published line, the protocol and the baselines; write what was asked for."""
    args = get_args_parser().parse_args(argv)
    from core.evaluation.predictions import classes_of, find_folder, read_protocol
    from core.evaluation.report import (
        class_rows,
        class_table,
        means_table,
        protocol_line,
        published_line,
        to_csv,
    )

    folder = find_folder(args.pred, "results")
    found = score(folder, args)
    dataset = found.dataset
    tag = args.tag or folder.resolve().name
    print(published_line(tag, "mIoU", found.scores.means))
    print(protocol_line(read_protocol(folder)))
    print(f"{dataset.describe()}; {len(found.pictures)} scored\n")
    if classes_of(folder) is None:
        say(f"{folder}: no record of the classes they were made with; taken for {dataset.name}'s")
    means = {tag: found.scores.means}
    means |= {name: scores.means for name, scores in found.baselines.items()}
    print(means_table(means, "mIoU"))
    rows = class_rows(found.scores, dataset.label_names, dataset.label_values, found.confusion)
    if args.per_class:
        print(f"\n{class_table(rows)}")
    if args.csv:
        write(args.csv, to_csv(rows))
    if args.json:
        write_json(args.json, as_dict(found, tag, folder, rows))
    if args.gallery:
        gallery(found, folder, args.gallery)
    return 0


def score(folder: Path, args: argparse.Namespace) -> Evaluation:
    """Compare the folder with its set. TTDError: no set is known, predictions that do not fit."""
    from core.data.labels.datasets import open_dataset
    from core.evaluation.label_maps import evaluate
    from core.evaluation.predictions import data_of

    if (data := args.data or data_of(folder)) is None:
        raise TTDError(f"{folder}: neither its name nor protocol.json tells the set; add --data")
    dataset = open_dataset(data, args.root)
    options = {"allow_missing": args.allow_missing, "workers": args.workers}
    with progress_bar(len(dataset.items())) as bar:
        found = evaluate(dataset, folder, progress=bar.update, **options)
    report_left_out(found.problems.line())
    return found


def as_dict(
    found: Evaluation, tag: str, folder: Path, rows: list[dict[str, Any]]
) -> dict[str, Any]:
    """Everything, for JSON; fractions."""
    from core.evaluation.predictions import read_protocol
    from core.evaluation.report import named_means

    return {
        "tag": tag,
        "pred": str(folder),
        "data": found.dataset.name,
        **named_means(found.scores.means),
        "scored": len(found.pictures),
        "left_out": found.problems.counts,
        "classes": rows,
        "baselines": {name: named_means(scores.means) for name, scores in found.baselines.items()},
        "pictures": found.pictures,
        "protocol": read_protocol(folder),
    }


def gallery(found: Evaluation, folder: Path, count: int) -> None:
    """Draw the best and worst images by their own mean IoU."""
    from core.data.images import read_image
    from core.data.labels.dataset_checks import read_truth
    from core.data.labels.mask_files import read_index
    from core.plots.gallery import Row, best_and_worst

    data = found.dataset
    items = {item.id: item for item in data.items()}
    rows = []
    for name in best_and_worst(found.pictures, count):
        title = f"{name}: mIoU {100 * found.pictures[name]:.1f}%"
        image, truth = read_image(items[name].image), read_truth(data, items[name])
        rows.append(Row(title, image, truth, read_index(folder / f"{name}.png")))
    names = dict(zip(data.label_values, data.label_names, strict=True))
    save_gallery(folder, rows, names, data.palette)


if __name__ == "__main__":
    run(main)
