"""Segment what captions speak of: a foreground mask per image with a caption.

    python produce_masks_from_text.py --data CC3M --root ../world           # tiny model, offline
    python produce_masks_from_text.py --data captions.jsonl --arch CLIP --tags selected
    python3 produce_masks_from_text.py --gpus 0 --root ../ --data CC3M --arch TCL --bg 0.40 \\
        --scales 1.0 0.5 1.5 2.0 --hflip --pamr --lora ./weights/TCL+TTD.pt         # as published

`--tags caption` takes the caption's own map; `--tags selected` the union of the maps of the words
that pixel-tag scoring keeps (minmax, Otsu, at the model's own size: `produce_tags_from_text.py`).
Captions and words are encoded as they stand, without templates. Output:
`OUT/ARCH@DATA@TEMPLATES@[scales]@SIZE@s=2[@hflip][@pamr][@TTD]@bg=B/ID.png`, 255 = foreground, and
protocol.json beside them. Interrupted, the same command resumes where it stopped.
`evaluate_segmentation_for_text.py` scores the folder; docs/masks.md explains protocols and files.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from core.errors import TTDError
from core.utils.files import expanded
from tools.cli import min_score, min_score_option, run
from tools.mask_options import check_for_captions, mask_options
from tools.mask_run import Task, produce

if TYPE_CHECKING:
    from core.backbones.base import Backbone
    from core.data.records import RecordSet
    from core.masks.pipeline import MasksFromText
    from core.masks.protocol import MaskProtocol

BG = 0.40


def get_args_parser() -> argparse.ArgumentParser:
    """All options."""
    parser = argparse.ArgumentParser(
        parents=[mask_options("results_caption")],
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--data",
        default="CC3M",
        metavar="NAME",
        help="CC3M (ROOT/cc3m_for_evaluation), World, or any input of produce_tags_from_text.py",
    )
    parser.add_argument(
        "--tags",
        choices=("caption", "selected"),
        default="caption",
        help="the caption's own map, or those of the words it keeps (default: %(default)s)",
    )
    min_score_option(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Make the masks that are missing."""
    args = get_args_parser().parse_args(argv)
    check_for_captions(args)
    if args.min_score is not None and args.tags != "selected":
        raise TTDError(
            "--min-score rejects words, but --tags caption has none; use --tags selected"
        )
    args.min_score = min_score(args)
    return produce(args, setup)


def setup(args: argparse.Namespace) -> Task:
    """The images and their captions."""
    from core.data.inputs.sources import inputs_of
    from core.masks.pipeline import FOREGROUND, jobs_of_records

    name, place, records = find_records(args.data, args.root)
    jobs, skipped = jobs_of_records(records.iterate(0, args.limit))
    least = {} if args.min_score is None else {"min_score": args.min_score}
    return Task(
        name=name,
        description=records.description,
        rule="threshold",
        background_threshold=BG,
        jobs=jobs,
        make=partial(make_masks, args.tags, args.min_score),
        categories={FOREGROUND: 1},
        inputs=partial(inputs_of, records, args.limit, args.trust_inputs),
        skipped=skipped,
        identity={"tags": args.tags, "pictures": place, **least},
        extras={"tags": args.tags if args.tags != "caption" else None, **least},
        model_defaults=("image",),  # no templates; the model's threshold is for many classes
    )


def find_records(data: str, root: str) -> tuple[str, str, RecordSet]:
    """A caption set by name, or any other input: its name, where it is, what it holds.

    TTDError when it is neither.
    """
    import os
    from pathlib import Path

    from core.data.labels.datasets import CAPTION_NAMES, open_caption_set
    from core.data.records import open_records

    if data in CAPTION_NAMES:
        captions = open_caption_set(data, root)
        return data, os.path.abspath(captions.root), captions.records
    if not expanded(data).exists() and not set(data) & set("*?[{"):
        raise TTDError(
            f"{data}: neither {' nor '.join(CAPTION_NAMES)}, nor a folder, list or shards of "
            "images with captions; check the path"
        )
    return (
        Path(os.path.abspath(data)).stem,
        os.path.abspath(os.path.expanduser(data)),
        open_records(data),
    )


def make_masks(
    tags: str, least: float | None, backbone: Backbone, used: MaskProtocol, batch: int
) -> MasksFromText:
    """How captions become masks. least: the cosine below which no word is kept."""
    from core.masks.pipeline import MasksFromText
    from core.tags.protocol import TagProtocol

    words = None
    if tags == "selected":
        words = TagProtocol(backbone.image_size, scorers=("pixel",), min_score=least)
    return MasksFromText(backbone, used, words, batch)


if __name__ == "__main__":
    run(main)
