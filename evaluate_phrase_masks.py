"""Masks of phrases on SA-Co/Gold and on Panoptic Narrative Grounding.

    python evaluate_phrase_masks.py --protocol saco --truth gold-annotations --pred found.json
    python evaluate_phrase_masks.py --protocol saco --truth gold-annotations --images images \\
        --arch TCL --lora TCL+TTD.safetensors --min-score 0.3 --save predictions
    python evaluate_phrase_masks.py --protocol png --truth png --arch TCL --save masks.jsonl

Scores a file of masks (--pred), or those that a model gives (--arch): one mask a phrase, where its
soft mask is above --bg. SA-Co: is the phrase there (IL_MCC), the official cgF1, and the IoU with
the union of the truth. PNG: average recall. docs/phrases.md describes files and numbers.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from core.errors import TTDError
from tools.cli import min_score_option, model_options, positive_int, run, view_options
from tools.evaluation import against_file, report_options


def get_args_parser() -> argparse.ArgumentParser:
    """All options."""
    parser = argparse.ArgumentParser(
        parents=[model_options(), view_options()],
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--protocol", choices=("saco", "png"), required=True, help="the benchmark")
    add("--truth", nargs="+", required=True, metavar="PATH",
        help="saco: folder of gold_*.json, or files of one subset; png: folder of annotations/",
    )  # fmt: skip
    add("--images", metavar="FOLDER", help="the images, for --arch and --report")
    add("--split", default="val2017", metavar="NAME", help="of png (default: %(default)s)")
    add("--pred", type=Path, metavar="PATH",
        help="masks that are there: saco a JSON in COCO's result form, or a folder of SUBSET.json; "
        "png JSONL",
    )  # fmt: skip
    add("--save", type=Path, metavar="PATH",
        help="write the masks that the model gives: saco a folder of SUBSET.json, png a JSONL",
    )  # fmt: skip
    add("--bg", type=float, metavar="T",
        help="a pixel belongs to a phrase where its soft mask is above T "
        "(default: the model's, else 0.4)",
    )  # fmt: skip
    add("--templates", default="identity", metavar="SET", help="prompts (default: none)")
    add("--limit", type=positive_int, metavar="N", help="only the first N pairs or narratives")
    add("--allow-missing", action="store_true",
        help="leave out what has an image that is missing, damaged or, with saco, of another size; "
        "otherwise that is an error",
    )  # fmt: skip
    add("--overwrite", action="store_true", help="begin again what other settings began")
    add("--json", type=Path, metavar="FILE", help="write all numbers")
    report_options(parser, "PATH", "earlier masks, as of --pred")
    min_score_option(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Score and print the tables; write the masks and the JSON that were asked for."""
    args = get_args_parser().parse_args(argv)
    from tools.phrase_masks import run_png, run_saco

    if args.pred and args.save:
        raise TTDError("--save writes the masks of a model; with --pred there is none")
    if args.bg is not None and not 0 <= args.bg <= 1:
        raise TTDError(f"--bg {args.bg}: soft masks are in [0, 1]")
    against_file(args)
    runner = {"saco": run_saco, "png": run_png}[args.protocol]
    runner(args)
    return 0


if __name__ == "__main__":
    run(main)
