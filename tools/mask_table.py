"""Make the tables of docs/masks.md: heads, PAMR, scales and flip on the world's benchmark, end to end.

    python tools/mask_table.py --root ../world                                        # print them, all images
    python tools/mask_table.py --root ../world --limit 100 --update docs/masks.md

Every row runs `produce_masks_from_tags.py` (or `_text.py`) with the flags it shows, then the
evaluation, then the sweep over thresholds. Masks go to --out, and what is there is not made again,
so an interrupted table resumes where it stopped. The tables between the two marks in the file are
replaced.
"""

from __future__ import annotations

import argparse
import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cli import ROOT, positive_int, run

from core.errors import TTDError
from tools.doc_table import update

MARKS = ("<!-- tables: tools/mask_table.py -->", "<!-- end of tables -->")
SCALES = "--scales 1.0 0.5 1.5 2.0"
HEADS = ("vanilla", "maskclip", "maskclip-value", "sclip", "kk", "naclip", "clearclip")
# the tiny model's own: at the default, twice that, it may find less (last row of the second table)
SIZE = "--image 96"
HEAD_ROWS = tuple(f"{SIZE} --head {head}{pamr}" for head in HEADS for pamr in ("", " --pamr"))
VIEW_ROWS = tuple(
    f"{SIZE}{scales}{flip}{pamr}"
    for scales in ("", f" {SCALES}")
    for flip in ("", " --hflip")
    for pamr in ("", " --pamr")
) + (f"{SIZE} --templates identity", "--image 192")
TEXT_ROWS = tuple(
    f"{SIZE} --tags {tags}{pamr}" for tags in ("caption", "selected") for pamr in ("", " --pamr")
)
Means = tuple[float, float, float]


@dataclass(frozen=True)
class Row:
    """One line of a table: flags, mean IoU, FPR and FNR, the best threshold with its IoU, and the trivial baselines."""

    flags: str
    means: Means
    best: tuple[float, float]
    baselines: dict[str, Means]
    checksum: str


def get_args_parser() -> argparse.ArgumentParser:
    """All options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", required=True, metavar="FOLDER", help="the world")
    parser.add_argument(
        "--arch", default="tiny", metavar="NAME", help="model (default: %(default)s)"
    )
    parser.add_argument("--limit", type=positive_int, metavar="N", help="only the first N images")
    parser.add_argument(
        "--workers", type=positive_int, default=1, metavar="N", help="processes (default: 1)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=ROOT / "out" / "mask_table",
        metavar="FOLDER",
        help="for the masks",
    )
    parser.add_argument(
        "--update", type=Path, metavar="FILE", help="put the tables between its marks"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Make all rows, print the tables, and put them into the file."""
    args = get_args_parser().parse_args(argv)
    tables = [
        (
            "Dense heads, one scale, no flip",
            "mIoU",
            [measure(args, "tags", row) for row in HEAD_ROWS],
        ),
        (
            "Scales, flip, PAMR, prompts and size, the default head",
            "mIoU",
            [measure(args, "tags", row) for row in VIEW_ROWS],
        ),
        ("Masks from captions", "Caption IoU", [measure(args, "text", row) for row in TEXT_ROWS]),
    ]
    if len({row.checksum for _, _, rows in tables for row in rows}) > 1:
        raise TTDError(
            f"the weights of {args.arch} changed between rows: empty {args.out} and start again"
        )
    text = "\n\n".join(table(*one) for one in tables) + "\n"
    print(text)
    if args.update:
        update(args.update, MARKS, text)
    return 0


def measure(args: argparse.Namespace, kind: str, flags: str) -> Row:
    """Make the masks of one row and score them."""
    import importlib

    from core.evaluation.predictions import read_protocol

    out = args.out / kind / flags.replace("--", "").replace(" ", "_")
    line = [
        "--data",
        "World",
        "--root",
        args.root,
        "--arch",
        args.arch,
        "--device",
        "cpu",
        "--out",
        str(out),
        "--workers",
        str(args.workers),
        "--save-scores",
        *flags.split(),
    ]
    script = importlib.import_module(f"produce_masks_from_{kind}")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = script.main(line + (["--limit", str(args.limit)] if args.limit else []))
    if code:
        raise TTDError(
            f"produce_masks_from_{kind}.py {flags}: not all masks could be made; see {out}"
        )
    masks, folder = printed.getvalue().strip().splitlines()[-2:]
    means, baselines = score(kind, args.root, Path(folder))
    row = Row(
        flags,
        means,
        best_threshold(kind, args.root, Path(folder)),
        baselines,
        read_protocol(Path(folder))["model"]["checksum"],
    )
    print(f"{kind} {cells(flags, row)} {masks}", flush=True)
    return row


def score(kind: str, root: str, folder: Path) -> tuple[Means, dict[str, Means]]:
    """What the evaluation of that kind prints: means and baselines on the same images."""
    from core.data.datasets import open_caption_set, open_dataset
    from core.evaluation.captions import evaluate_captions
    from core.evaluation.label_maps import evaluate
    from core.metrics.segmentation import scores_from_counts

    if kind == "tags":
        found = evaluate(open_dataset("World", root), folder, allow_missing=True, workers=1)
        return found.scores.means, {name: scores.means for name, scores in found.baselines.items()}
    found = evaluate_captions(
        open_caption_set("World", root), folder, allow_missing=True, workers=1
    )
    return found.scores.means, {
        name: scores_from_counts(counts).means for name, counts in found.baselines.items()
    }


def best_threshold(kind: str, root: str, folder: Path) -> tuple[float, float]:
    """(threshold, mean IoU there) of what tools/sweep_bg.py finds best on the same images."""
    import sweep_bg

    means = (sweep_bg.label_means if kind == "tags" else sweep_bg.caption_means)(
        folder, "World", argparse.Namespace(root=root, workers=1, allow_missing=True)
    )[0][0]
    best = int(means.argmax())
    return sweep_bg.THRESHOLDS[best], float(means[best])


def table(title: str, name: str, rows: Sequence[Row]) -> str:
    """Markdown: flags and scores, the baselines below."""
    lines = [
        f"**{title}**",
        "",
        f"| flags | {name} | mFPR | mFNR | at the best threshold |",
        "|---|---|---|---|---|",
    ]
    lines += [cells(f"`{row.flags}`", row) for row in rows]
    for baseline, (iou, fpr, fnr) in rows[0].baselines.items():
        lines.append(f"| *{baseline}* | {100 * iou:.1f} | {fpr:.3f} | {fnr:.3f} | |")
    return "\n".join(lines)


def cells(label: str, row: Row) -> str:
    """One line of a table."""
    iou, fpr, fnr = row.means
    return f"| {label} | {100 * iou:.1f} | {fpr:.3f} | {fnr:.3f} | {100 * row.best[1]:.1f} (bg {row.best[0]:.2f}) |"


if __name__ == "__main__":
    run(main)
