"""How shards are labelled, as options of label_shards.py."""

from __future__ import annotations

import argparse
import math

from core.errors import TTDError
from core.labelling.settings import WANTS, Settings
from core.tags.protocol import NORMS
from tools.cli import (
    min_score,
    min_score_option,
    model_options,
    positive_float,
    positive_int,
    worker_count,
)
from tools.mask_options import check_for_captions, make_protocol, protocol_options

THRESHOLD = 0.5


def label_options() -> argparse.ArgumentParser:
    """Parent parser: the model, what is made, tags and masks."""
    parser = argparse.ArgumentParser(add_help=False, parents=[model_options(many_gpus=True)])
    _labels(parser.add_argument_group("labels"))
    _tags(parser.add_argument_group("tags"))
    protocol_options(parser.add_argument_group("masks"))
    _reading(parser.add_argument_group("reading"))
    return parser


def _labels(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--want",
        nargs="+",
        choices=WANTS,
        default=["tags"],
        metavar="WHAT",
        help="tags, masks, boxes; tags are made always (default: tags)",
    )
    group.add_argument(
        "--grounder",
        metavar="FILE",
        help="boxes of this model for the caption and each tag (default: those of the masks)",
    )
    group.add_argument("--png", action="store_true", help="also the masks as PNG, in OUT/NAME.tar")


def _tags(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--tag-image", type=positive_int, metavar="PIXELS", help="short side (default: the model's)"
    )
    group.add_argument(
        "--tag-scales", type=positive_float, nargs="+", default=[1.0], metavar="S", help="(1.0)"
    )
    group.add_argument("--tag-hflip", action="store_true", help="also average the mirrored image")
    group.add_argument(
        "--normalize", choices=NORMS, default="minmax", help="scale of a caption's scores (minmax)"
    )
    group.add_argument("--fixed", action="store_true", help="cut at --threshold, not by Otsu")
    group.add_argument(
        "--threshold", type=float, metavar="T", help=f"with --fixed (default: {THRESHOLD})"
    )
    group.add_argument(
        "--stopwords",
        nargs="?",
        const="shipped",
        choices=("shipped", "nltk"),
        help="never select function words: the list that ships, or NLTK's",
    )
    min_score_option(group)


def _reading(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--batch", type=positive_int, default=32, metavar="N", help="records at a time (32)"
    )
    group.add_argument(
        "--windows", type=positive_int, default=8, metavar="N", help="of an image at a time (8)"
    )
    group.add_argument(
        "--decoders", type=worker_count, default=2, metavar="N", help="threads that read images (2)"
    )
    group.add_argument(
        "--threads", type=worker_count, default=1, metavar="N", help="of a worker's CPU sums (1)"
    )
    group.add_argument(
        "--draft",
        action="store_true",
        help="decode JPEG at the smallest scale that is large enough: faster, other pixels",
    )


def settings_of(args: argparse.Namespace) -> Settings:
    """The settings of a run. TTDError: options that do not go together."""
    if args.threshold is not None and not args.fixed:
        raise TTDError(
            f"--threshold {args.threshold:g} acts only with --fixed; without it the cut is adaptive"
        )
    if args.threshold is not None and not math.isfinite(args.threshold):
        raise TTDError(f"--threshold {args.threshold}: wanted a finite number")
    check_for_captions(args)
    cut = THRESHOLD if args.threshold is None else args.threshold
    return Settings(
        want=tuple(dict.fromkeys(["tags", *args.want])),
        arch=args.arch,
        weights=args.weights,
        lora=args.lora,
        head=args.head,
        dtype=args.dtype,
        device=args.device,
        tag_image=args.tag_image,
        tag_scales=tuple(args.tag_scales),
        tag_hflip=args.tag_hflip,
        normalize=args.normalize,
        threshold=cut if args.fixed else None,
        stopwords=args.stopwords,
        min_score=min_score(args),
        masks=make_protocol(args),
        grounder=args.grounder,
        batch=args.batch,
        windows=args.windows,
        threads=args.threads,
        decoders=args.decoders,
        png=args.png,
        draft=args.draft,
    )
