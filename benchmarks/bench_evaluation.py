"""How fast label maps are scored, against IoU of one mask for every class (one-hot).

    python benchmarks/bench_evaluation.py                      # 512x683, 150 classes, as ADE20K
    python benchmarks/bench_evaluation.py --pairs 200 --workers 4

`counting` compares two label maps in memory; `from files` reads both PNGs as
evaluate_segmentation.py does, checks their values, counts, and gives mIoU, per image too. The
reference counts a slice of the pairs ("scaled") and reads the same files. The confusion counts are
compared, not only the score.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import common
import numpy as np
from common import positive_int, run

SIZE, CLASSES = (512, 683), 150
QUICK_SIZE, QUICK_CLASSES = (64, 80), 20


def get_args_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = common.parser(__doc__)
    parser.add_argument(
        "--pairs", type=positive_int, default=64, help="images (default: %(default)s)"
    )
    parser.add_argument(
        "--slice", type=positive_int, default=2, help="of the reference (default: %(default)s)"
    )
    parser.add_argument(
        "--workers", type=positive_int, default=2, help="reading threads (default: %(default)s)"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Print one table."""
    args = common.start(get_args_parser(), argv)
    size, classes = SIZE, CLASSES
    if args.quick:
        size, classes, args.pairs = QUICK_SIZE, QUICK_CLASSES, 8
    pairs = [
        (label_map(size, classes, 2 * i), label_map(size, classes, 2 * i + 1))
        for i in range(args.pairs)
    ]
    few = pairs[: args.slice]
    compare(few, classes)
    table, figures = (
        common.Table("path", "reference", "ours", "ratio", "ours, images/s", width=14),
        {},
    )
    with tempfile.TemporaryDirectory() as folder:
        dataset, predictions = write_set(Path(folder), pairs, classes)
        works = {
            "counting": (lambda: one_hot(few, classes), lambda: counted(pairs, classes)),
            "from files": (
                lambda: one_hot(read(dataset, predictions, len(few)), classes),
                lambda: from_files(dataset, predictions, args.workers),
            ),
        }
        goals = [bench(name, *work, len(few), args, table, figures) for name, work in works.items()]
    common.save(args, [table], goals, figures)
    return 0


def bench(
    name: str,
    slow,
    fast,
    count: int,
    args: argparse.Namespace,
    table: common.Table,
    figures: dict[str, float],
) -> dict:
    """One row: the reference on `count` pairs, ours on all."""
    taken = common.in_turns({"reference": slow, "ours": fast}, args)
    scaled = taken["reference"].times(args.pairs / count)
    table.row(
        name,
        scaled,
        taken["ours"],
        common.ratio(scaled, taken["ours"]),
        f"{args.pairs / taken['ours'].seconds:.0f}",
    )
    figures[f"images/s, {name}"] = args.pairs / taken["ours"].seconds
    return common.goal(f"evaluation, {name}", 50, scaled, taken["ours"])


def label_map(size: tuple[int, int], classes: int, seed: int) -> np.ndarray:
    """Labels 0 (ignored) to `classes`, uint8 [H, W]: blocks of a dozen different values."""
    rng = np.random.default_rng(seed)
    values = rng.integers(0, classes + 1, 12).astype(np.uint8)
    blocks = rng.choice(values, (-(-size[0] // 16), -(-size[1] // 16)))
    return np.ascontiguousarray(blocks.repeat(16, 0).repeat(16, 1)[: size[0], : size[1]])


def one_hot(pairs: Sequence[tuple[np.ndarray, np.ndarray]], classes: int) -> np.ndarray:
    """The literal way: TP, FP and FN of every class, int64 [N, 3]; truth 0 is ignored."""
    labels = np.arange(1, classes + 1)[:, None, None]
    counts = np.zeros((classes, 3), np.int64)
    for truth, prediction in pairs:
        true = truth == labels  # (N, H, W)
        predicted = (prediction == labels) & (truth != 0)
        for column, both in enumerate((true & predicted, predicted & ~true, true & ~predicted)):
            counts[:, column] += both.sum((1, 2))
    return counts


def counted(pairs: Sequence[tuple[np.ndarray, np.ndarray]], classes: int) -> np.ndarray:
    """The project's counts as int64 [N, 3], in the reference's columns."""
    from core.metrics.segmentation import confusion_matrix, joint_histogram

    total = np.zeros((256, 256), np.int64)
    for truth, prediction in pairs:
        total += joint_histogram(truth, prediction)
    return columns(confusion_matrix(total, range(1, classes + 1)))


def columns(confusion: np.ndarray) -> np.ndarray:
    """TP, FP, FN int64 [L, 3] of a confusion matrix [L, L + 1]."""
    hits = np.diagonal(confusion)
    return np.stack([hits, confusion[:, :-1].sum(0) - hits, confusion.sum(1) - hits], 1)


def compare(pairs: Sequence[tuple[np.ndarray, np.ndarray]], classes: int) -> None:
    """TTDError unless both count the same; pairs: ground truth and prediction, uint8 [H, W]."""
    common.check(
        "counts", float(np.abs(one_hot(pairs, classes) - counted(pairs, classes)).max()), 0
    )


def write_set(folder: Path, pairs: Sequence[tuple[np.ndarray, np.ndarray]], classes: int):
    """The pairs of uint8 [H, W] as a set with masks and predictions -> Dataset, their folder."""
    from PIL import Image

    from core.data.labels.datasets import Dataset

    for name in ("image", "mask", "prediction"):
        (folder / name).mkdir()
    for i, pair in enumerate(pairs):
        (folder / "image" / f"{i:04d}.jpg").touch()  # evaluation never opens the images
        for name, labels in zip(("mask", "prediction"), pair, strict=True):
            Image.fromarray(labels).save(folder / name / f"{i:04d}.png", compress_level=1)
    names = tuple(f"class {i}" for i in range(1, classes + 1))
    dataset = Dataset(
        "random",
        images=folder / "image",
        masks=folder / "mask",
        classes=names,
        first_label=1,
        background=False,
        rule="none",
        background_threshold=0.4,
        zero_ignored=True,
    )
    return dataset, folder / "prediction"


def read(dataset, predictions: Path, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The first pairs of uint8 [H, W] from their files."""
    from PIL import Image

    return [
        (np.array(Image.open(item.mask)), np.array(Image.open(predictions / f"{item.id}.png")))
        for item in dataset.items()[:count]
    ]


def from_files(dataset, predictions: Path, workers: int):
    """What evaluate_segmentation.py does."""
    from core.evaluation.label_maps import evaluate

    return evaluate(dataset, predictions, workers=workers).scores.means


if __name__ == "__main__":
    run(main)
