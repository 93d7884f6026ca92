"""Write a result in the formats of other tools: COCO, Label Studio, Pascal VOC, supervision.

    python tools/export_results.py "results/CLIP@garden@OpenAI@[1.0]@448@s=2@bg=0.40" --format coco
    python tools/export_results.py results_caption/NAME --format label-studio --images photos
    python tools/export_results.py results_boxes/NAME.jsonl --format voc supervision --out mine

The result is a folder of label maps (produce_masks_from_tags.py), of captions' masks
(produce_masks_from_text.py), or a JSONL of boxes (produce_boxes_from_text.py). The same is done by
their --export. docs/exports.md says what each format holds, and which tools were tried.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from cli import run

from core.export import FORMATS
from tools.exports import export_result


def get_args_parser() -> argparse.ArgumentParser:
    """All options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("result", type=Path, metavar="RESULT", help="a folder of masks, or a JSONL of boxes")
    add("--format", nargs="+", choices=FORMATS, required=True, help="one or several")
    add(
        "--images",
        type=Path,
        metavar="PATH",
        help="where the images are (default: where the result says that they were)",
    )
    add(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="where files go (default: RESULT/export/FORMAT); of several formats a folder each",
    )
    add(
        "--image-url",
        metavar="PREFIX",
        help="label-studio: what stands before an image's name (default: /data/local-files/?d=)",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Write everything; 2 when images had to be left out."""
    args = get_args_parser().parse_args(argv)
    forms = list(dict.fromkeys(args.format))
    left = export_result(args.result, forms, args.images, args.out, args.image_url)
    return 2 if left else 0


if __name__ == "__main__":
    run(main)
