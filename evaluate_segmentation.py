"""Label maps against the truth: mIoU, false positives and false negatives over a whole set.

    python3 evaluate_segmentation.py --data VOC2012 --tag "TCL+TTD@VOC2012" \\
        --pred "./results/TCL@VOC2012@OpenAI@[1.0, 0.5, 1.5, 2.0]@448@s=2@hflip@pamr@TTD@bg=0.40/"
    python evaluate_segmentation.py --data my_set.yaml --pred results/NAME --per-class \\
        --gallery 4 --json scores.json
    python evaluate_segmentation.py --pred results/A results/B results/C      # in one table

Per class over the whole set, IoU = TP/(TP+FP+FN), FPR = FP/(TP+FP+FN), FNR = FN/(TP+FP+FN); classes
that occur neither in truth nor in prediction are left out; the three means sum to 1. Below it:
trivial baselines.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import TTDError
from tools.cli import run, say
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
    """Print the published lines, the protocols and one table; write what was asked for."""
    args = get_args_parser().parse_args(argv)
    from core.evaluation.predictions import read_protocol
    from core.evaluation.report import (
        class_table,
        means_table,
        protocol_line,
        published_line,
        to_csv,
    )

    folders = named_folders(args, "results")
    earlier = against_folder(args, "results", folders)
    every = score({**folders, **earlier}, args)
    found = {tag: every[tag] for tag in folders}
    first = next(iter(found.values()))
    for tag, one in found.items():
        print(published_line(tag, "mIoU", one.scores.means))
        print(protocol_line(read_protocol(folders[tag]), args.verbose))
    part = limit_words(common_limit(list(folders.values())))
    print(f"{first.dataset.describe()}; {len(first.pictures)} scored{part}\n")
    print(means_table(means_of(found), "mIoU"))
    rows = {tag: rows_of(one) for tag, one in found.items()}
    if args.per_class:
        for tag, own in rows.items():
            print(f"\n{tag}" * (len(rows) > 1) + f"\n{class_table(own)}")
    if args.csv:
        write(args.csv, to_csv(csv_rows(rows)))
    if args.json:
        content = [as_dict(one, tag, folders[tag], rows[tag]) for tag, one in found.items()]
        write_json(args.json, content[0] if len(content) == 1 else {"results": content})
    if args.report or earlier:
        show(args, {**folders, **earlier}, every, next(iter(earlier), None))
    if args.gallery:
        for tag, one in found.items():
            gallery(one, folders[tag], args.gallery)
    return 0


def show(
    args: argparse.Namespace,
    folders: Mapping[str, Path],
    found: Mapping[str, Evaluation],
    earlier: str | None,
) -> None:
    """Write --report, and say what has changed since the result called `earlier`."""
    from core.metrics.bootstrap import iou_of
    from core.report.labels import LabelResult, labels_report, sums_of

    own = {tag: LabelResult(tag, folders[tag], one) for tag, one in found.items()}
    before = own.pop(earlier) if earlier is not None else None
    results = list(own.values())
    if before is not None:
        say_change(results[0].tag, sums_of(results[0]), (before.tag, sums_of(before)), iou_of)
    if args.report:
        write(args.report, labels_report(results, before, args.gallery or SHOWN))
        print(f"report: {args.report}")


def score(folders: Mapping[str, Path], args: argparse.Namespace) -> dict[str, Evaluation]:
    """Compare every folder with the set, by name.

    TTDError: no set is known, or not one for all; predictions that do not fit.
    """
    from core.data.labels.datasets import open_dataset
    from core.evaluation.label_maps import evaluate
    from core.evaluation.predictions import classes_of, data_of

    sets = {args.data or data_of(folder) for folder in folders.values()}
    if None in sets:
        folder = next(folder for folder in folders.values() if data_of(folder) is None)
        raise TTDError(f"{folder}: neither its name nor protocol.json tells the set; add --data")
    if len(sets) > 1:
        raise TTDError(f"--pred: of different sets ({', '.join(sorted(sets))}); score them apart")
    dataset = open_dataset(sets.pop(), args.root)
    limit, found = common_limit(list(folders.values())), {}
    for tag, folder in folders.items():
        options = {"allow_missing": args.allow_missing, "workers": args.workers, "limit": limit}
        with progress_bar(len(dataset.items()[:limit])) as bar:
            found[tag] = evaluate(dataset, folder, progress=bar.update, **options)
        report_left_out(found[tag].problems.line(), tag * (len(folders) > 1))
        if classes_of(folder) is None:
            unknown = "no record of the classes they were made with"
            say(f"{folder}: {unknown}; taken for {dataset.name}'s")
    check_same(found)
    return found


def check_same(found: Mapping[str, Evaluation]) -> None:
    """TTDError where --allow-missing left different images: a table would compare unlike things."""
    scored = {tag: set(one.pictures) for tag, one in found.items()}
    if len({frozenset(names) for names in scored.values()}) > 1:
        counts = ", ".join(f"{tag}: {len(names)}" for tag, names in scored.items())
        raise TTDError(f"--pred: not of the same images ({counts} scored); score them apart")


def means_of(found: Mapping[str, Evaluation]) -> dict[str, tuple[float, float, float]]:
    """The rows of the table: every result, then the trivial baselines on the same pixels."""
    first = next(iter(found.values()))
    means = {tag: one.scores.means for tag, one in found.items()}
    return means | {name: scores.means for name, scores in first.baselines.items()}


def rows_of(found: Evaluation) -> list[dict[str, Any]]:
    """A row per class."""
    from core.evaluation.report import class_rows

    data = found.dataset
    return class_rows(found.scores, data.label_names, data.label_values, found.confusion)


def csv_rows(rows: Mapping[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The rows of all results; of several, with the result's name."""
    if len(rows) == 1:
        return next(iter(rows.values()))
    named = ({"result": tag, **row} for tag, own in rows.items() for row in own)
    return list(named)


def as_dict(
    found: Evaluation, tag: str, folder: Path, rows: list[dict[str, Any]]
) -> dict[str, Any]:
    """Everything, for JSON; fractions."""
    from core.data.inputs.table import inputs_digest
    from core.evaluation.predictions import read_protocol
    from core.evaluation.report import named_means
    from core.masks.results import INPUTS

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
        "inputs": inputs_digest(folder / INPUTS),
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
