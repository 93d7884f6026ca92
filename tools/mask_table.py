"""Make the tables of docs/masks.md: heads, PAMR, scales and flip on the world, end to end.

    python tools/mask_table.py --root ../world      # print them, for all images
    python tools/mask_table.py --root ../world --limit 100 --update docs/masks.md

To be run from the repository's folder. Every row runs `produce_masks_from_tags.py` (or `_text.py`)
with the flags it shows, then the evaluation, then the sweep over thresholds. Masks go to --out, and
what is there is not made again, so an interrupted table resumes where it stopped. The tables
between the two marks in the file are replaced.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, product
from pathlib import Path

from cli import ROOT, positive_int, run, worker_count

from core.errors import TTDError
from tools.doc_table import check, update

MARKS = ("<!-- tables: tools/mask_table.py -->", "<!-- end of tables -->")
SCALES = "--scales 1.0 0.5 1.5 2.0"
HEADS = ("vanilla", "maskclip", "maskclip-value", "sclip", "kk", "naclip", "clearclip")
# What a model has whose config names no defaults: tiny's own are chosen against it.
GENERAL = "--image 192 --templates OpenAI --bg 0.40"
LORA = "--lora weights/tiny+TTD.safetensors"


def flag_rows(*choices: Sequence[str]) -> tuple[str, ...]:
    """The flags of every combination, the last choice changing fastest."""
    return tuple(" ".join(filter(None, flags)) for flags in product(*choices))


PAMR = ("", "--pamr")
OWN_ROWS = flag_rows((GENERAL, ""), PAMR, ("", LORA))
OWN_ROWS += flag_rows(("--bg 0.50",), PAMR, (LORA,))  # the adapter's own, found on ../world_dev
HEAD_ROWS = flag_rows([f"--head {head}" for head in HEADS], PAMR)
VIEW_ROWS = flag_rows(("", "--hflip", SCALES), PAMR)
VIEW_ROWS += ("--image 192", "--templates OpenAI", "--bg 0.40")
TEXT_ROWS = flag_rows(("--tags caption", "--tags selected"), PAMR, ("", LORA))
Means = tuple[float, float, float]


@dataclass(frozen=True)
class Row:
    """One line of a table.

    means: mean IoU, FPR and FNR; best: the best threshold and its IoU; baselines: the trivial ones;
    checksum: of the model's weights.
    """

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
        "--workers", type=worker_count, default=1, metavar="N", help="processes (default: 1)"
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
    if args.update:
        check(args.update, MARKS)
    own = [measure(args, "tags", row) for row in OWN_ROWS]
    heads = [measure(args, "tags", row) for row in HEAD_ROWS]
    views = [measure(args, "tags", row) for row in VIEW_ROWS]
    texts = [measure(args, "text", row) for row in TEXT_ROWS]
    made = (*own, *heads, *views, *texts)
    if len({row.checksum for row in made if "--lora" not in row.flags}) > 1:
        raise TTDError(
            f"the weights of {args.arch} changed between rows: empty {args.out} and start again"
        )
    tables = [
        table("The general defaults and tiny's own, without and with the adapter", "mIoU", own),
        table("Dense heads, one scale, no flip", "mIoU", heads),
        table("Scales, flip, PAMR, prompts and size, the default head", "mIoU", views),
        table("Masks from captions", "Caption IoU", texts),
    ]
    text = "\n\n".join(tables) + "\n"
    print(text)
    if args.update:
        update(args.update, MARKS, text)
    return 0


def measure(args: argparse.Namespace, kind: str, flags: str) -> Row:
    """Make the masks of one row and score them."""
    import importlib

    from core.evaluation.predictions import read_protocol

    out = args.out / kind / (re.sub(r"[^\w.]+", "_", flags) or "none")
    options = {
        "--data": "World",
        "--root": args.root,
        "--arch": args.arch,
        "--device": "cpu",
        "--out": str(out),
        "--workers": str(args.workers),
    }
    if args.limit:
        options["--limit"] = str(args.limit)
    line = list(chain.from_iterable(options.items()))
    script = importlib.import_module(f"produce_masks_from_{kind}")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = script.main([*line, "--save-scores", *flags.split()])
    if code:
        raise TTDError(
            f"produce_masks_from_{kind}.py {flags}: not all masks could be made; see {out}"
        )
    masks, name = printed.getvalue().strip().splitlines()[-2:]
    folder = Path(name)
    means, baselines = score(kind, args.root, folder)
    best = best_threshold(kind, args.root, folder)
    row = Row(flags, means, best, baselines, read_protocol(folder)["model"]["checksum"])
    print(f"{kind} {cells(flags, row)} {masks}", flush=True)
    return row


def score(kind: str, root: str, folder: Path) -> tuple[Means, dict[str, Means]]:
    """What the evaluation of that kind prints: means and baselines on the same images."""
    from core.data.labels.datasets import open_caption_set, open_dataset
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

    from core.evaluation.captions import THRESHOLDS

    sweep = sweep_bg.label_means if kind == "tags" else sweep_bg.caption_means
    args = argparse.Namespace(root=root, workers=1, allow_missing=True)
    (iou, _, _), _ = sweep(folder, "World", args)
    best = int(iou.argmax())
    return THRESHOLDS[best], float(iou[best])


def table(title: str, name: str, rows: Sequence[Row]) -> str:
    """Markdown: flags and scores, the baselines below."""
    lines = [
        f"**{title}**",
        "",
        f"| flags | {name} | mFPR | mFNR | at the best threshold |",
        "|---|---|---|---|---|",
    ]
    lines += [cells(f"`{row.flags}`" if row.flags else "(none)", row) for row in rows]
    for baseline, (iou, fpr, fnr) in rows[0].baselines.items():
        lines.append(f"| *{baseline}* | {100 * iou:.1f} | {fpr:.3f} | {fnr:.3f} | |")
    return "\n".join(lines)


def cells(label: str, row: Row) -> str:
    """One line of a table."""
    (iou, fpr, fnr), (threshold, highest) = row.means, row.best
    best = f"{100 * highest:.1f} (bg {threshold:.2f})"
    return f"| {label} | {100 * iou:.1f} | {fpr:.3f} | {fnr:.3f} | {best} |"


if __name__ == "__main__":
    run(main)
