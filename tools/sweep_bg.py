"""Score against background threshold, from soft maps that `--save-scores` kept; no model is run.

    # mIoU of label maps; caption IoU; several results in one figure
    python tools/sweep_bg.py --root ../world --pred results/NAME
    python tools/sweep_bg.py --root ../world --pred results_caption/NAME
    python tools/sweep_bg.py --pred results/PLAIN results/PAMR --labels plain PAMR

Prints the best threshold of each result and the score at the one it was made with, and draws
NAME.sweep.png beside the first. A threshold that is chosen on the images it is scored on
flatters: choose it on a separate split (`evaluate_segmentation_for_text.py --tune`).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Before `core` and `tools`: it puts the repository on the path.
from cli import run, worker_count

from core.errors import TTDError
from tools.evaluation import progress_bar, report_left_out, save_picture, write_json

if TYPE_CHECKING:
    import numpy as np

    from core.evaluation.predictions import Problems


@dataclass(frozen=True)
class Swept:
    """Mean IoU, FPR and FNR [S] of one result.

    background_threshold: the one that it was made with, None where that is not known.
    """

    label: str
    score: str
    iou: np.ndarray
    fpr: np.ndarray
    fnr: np.ndarray
    background_threshold: float | None


def get_args_parser() -> argparse.ArgumentParser:
    """All options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--pred", required=True, nargs="+", metavar="FOLDER", help="results with scores/"
    )
    parser.add_argument(
        "--labels", nargs="+", metavar="NAME", help="a name for each (default: the folders')"
    )
    parser.add_argument(
        "--data", metavar="NAME", help="set or YAML file (default: the one in the folder's name)"
    )
    parser.add_argument(
        "--root", default="../", metavar="FOLDER", help="where the sets are (default: %(default)s)"
    )
    parser.add_argument("--plot", type=Path, metavar="FILE", help="default: FOLDER.sweep.png")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all values")
    parser.add_argument(
        "--allow-missing",
        action="store_true",
        help="leave out images without scores; otherwise they are an error",
    )
    parser.add_argument(
        "--workers",
        type=worker_count,
        default=2,
        metavar="N",
        help="threads (default: %(default)s)",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Sweep every result, print what is best, draw and write."""
    args = get_args_parser().parse_args(argv)
    if args.labels and len(args.labels) != len(args.pred):
        raise TTDError(
            f"--labels: {len(args.labels)} names for {len(args.pred)} results; give one for each"
        )
    labels = args.labels or args.pred
    swept = [
        sweep(Path(folder), label, args) for folder, label in zip(args.pred, labels, strict=True)
    ]
    if len({one.score for one in swept}) > 1:
        raise TTDError(
            "masks of captions and label maps have different scores: sweep them one after the other"
        )
    for one in swept:
        print(describe(one))
    first = Path(args.pred[0]).resolve()
    plot = args.plot or first.with_name(f"{first.name}.sweep.png")
    store(args, swept, plot)
    print(plot)
    return 0


def sweep(folder: Path, label: str, args: argparse.Namespace) -> Swept:
    """One result. TTDError where thresholds cannot be varied afterwards."""
    from core.evaluation.predictions import data_of, find_folder, read_protocol

    folder = find_folder(folder, "results")
    used = read_protocol(folder).get("protocol", {})
    if used.get("crf"):
        raise TTDError(
            f"{folder}: made with the CRF, which sees the threshold; "
            "run it once for each threshold instead"
        )
    if label == str(folder):
        label = folder.resolve().name
    data, captions = args.data or data_of(folder), is_caption_result(folder)
    if data is None and not captions:
        raise TTDError(f"{folder}: neither its name nor protocol.json tells the set; add --data")
    score, means = ("caption IoU", caption_means) if captions else ("mIoU", label_means)
    (iou, fpr, fnr), problems = means(folder, data, args)
    report_left_out(problems.line())
    # A result without the rule of a threshold was not made at one.
    made_at = None if used.get("rule") == "none" else used.get("bg")
    return Swept(label, score, iou, fpr, fnr, background_threshold=made_at)


def is_caption_result(folder: Path) -> bool:
    """Whether the masks were made from captions."""
    from core.evaluation.predictions import read_protocol

    return "tags" in read_protocol(folder).get("identity", {})


def label_means(
    folder: Path, data: str, args: argparse.Namespace
) -> tuple[tuple[np.ndarray, ...], Problems]:
    """mIoU, mFPR, mFNR [S] over the classes that occur at a threshold, and what was left out."""
    import numpy as np

    from core.data.labels.datasets import open_dataset
    from core.evaluation.captions import THRESHOLDS
    from core.evaluation.threshold_sweep import sweep_labels
    from core.metrics.segmentation import SegScores

    dataset = open_dataset(data, args.root)
    with progress_bar(len(dataset.items())) as bar:
        found, problems = sweep_labels(
            dataset,
            folder,
            THRESHOLDS,
            allow_missing=args.allow_missing,
            workers=args.workers,
            progress=bar.update,
        )
    rows = zip(found.iou, found.fpr, found.fnr, strict=True)
    return tuple(np.array([SegScores(*row).means for row in rows]).T), problems


def caption_means(
    folder: Path, data: str | None, args: argparse.Namespace
) -> tuple[tuple[np.ndarray, ...], Problems]:
    """Mean IoU, FPR, FNR [S] over captions, and what was left out."""
    import numpy as np

    from core.data.labels.datasets import CAPTION_NAMES, open_caption_set
    from core.evaluation.captions import sweep as sweep_captions
    from core.metrics.segmentation import scores_from_counts

    captions = open_caption_set(data if data in CAPTION_NAMES else "CC3M", args.root)
    counts, problems = sweep_captions(
        captions, folder, allow_missing=args.allow_missing, workers=args.workers
    )
    found = scores_from_counts(counts)
    means = [np.nanmean(values, axis=0) for values in (found.iou, found.fpr, found.fnr)]
    return tuple(means), problems


def describe(one: Swept) -> str:
    """`NAME | mIoU: 40.1% at bg 0.40; best 41.0% at bg 0.37`."""
    import numpy as np

    from core.evaluation.captions import THRESHOLDS

    best, own = int(np.nanargmax(one.iou)), ""
    if (made_at := one.background_threshold) is not None:
        own = f"{100 * np.interp(made_at, THRESHOLDS, one.iou):.1f}% at bg {made_at:.2f}; "
    highest = f"{100 * one.iou[best]:.1f}% at bg {THRESHOLDS[best]:.2f}"
    return f"{one.label} | {one.score}: {own}best {highest}"


def store(args: argparse.Namespace, swept: Sequence[Swept], plot: Path) -> None:
    """The figure and the values. A single result also shows its false positives and negatives."""
    from core.evaluation.captions import THRESHOLDS
    from core.plots.charts.curves import Line, draw_sweep

    lines = [Line(describe(one), one.iou) for one in swept]
    if len(swept) == 1:
        lines += [Line("mFPR", swept[0].fpr, dashed=True), Line("mFNR", swept[0].fnr, dashed=True)]
    made_at = [one.background_threshold for one in swept]
    marks = {value: f"--bg {value:.2f}" for value in made_at if value is not None}
    if args.json:
        values = {one.label: as_dict(one) for one in swept}
        write_json(args.json, {"thresholds": THRESHOLDS, "results": values})
    save_picture(plot, draw_sweep(THRESHOLDS, lines, swept[0].score, marks))


def as_dict(one: Swept) -> dict[str, Any]:
    """A result for JSON, fractions."""
    shares = {"iou": one.iou.tolist(), "fpr": one.fpr.tolist(), "fnr": one.fnr.tolist()}
    return {"bg": one.background_threshold, **shares}


if __name__ == "__main__":
    run(main)
