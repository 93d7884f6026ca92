"""Bring releases of phrases with boxes into one JSONL per split, counted and checked.

    python tools/prepare_grounding.py unc unc+ gref_umd --source ~/refer/data --out ../grounding
    python tools/prepare_grounding.py referit --source ~/referit/data --out ../grounding
    python tools/prepare_grounding.py flickr --source ~/flickr30k_entities --out ../grounding
    python tools/prepare_grounding.py unc --source ~/full_sup_data --out ../grounding  # .pth lists
    python tools/prepare_grounding.py --check --out ../grounding                       # leaks
    python tools/prepare_grounding.py --own labels.csv --out ../grounding/own.jsonl

The result is OUT/SET/SET_SPLIT.jsonl, which train_grounding.py and evaluate_grounding.py read as
--split_root. Nothing in a release is executed. docs/grounding.md says what each looks like.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from cli import run, say

SETS = ("unc", "unc+", "gref", "gref_umd", "referit", "flickr")


def get_args_parser() -> argparse.ArgumentParser:
    """All options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("sets", nargs="*", metavar="SET", help=", ".join(SETS))
    add("--source", type=Path, metavar="FOLDER", help="the unpacked release")
    add("--out", type=Path, required=True, metavar="FOLDER", help="where the JSONL files go")
    add("--splits", nargs="+", metavar="SPLIT", help="only these (default: all that the set has)")
    add("--any-count", action="store_true", help="accept other numbers of phrases than published")
    add("--own", type=Path, metavar="FILE", help="a CSV, JSONL or .pth list of your own")
    add("--xywh", action="store_true", help="boxes of an own .pth list are x, y, width, height")
    add("--check", action="store_true", help="list train images that others are evaluated on")
    add("--reviewed", type=Path, nargs="+", metavar="FILE", help="Ref-L4's reviewed lists")
    add("--review-key", default="caption_quality", metavar="KEY", help="their verdict")
    add("--review-right", default="1", metavar="VALUE", help="its value where a label is right")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Prepare and print a line per split; 1 when --check finds leaks."""
    args = get_args_parser().parse_args(argv)
    from core.errors import TTDError

    if args.own:
        return _own(args)
    if args.sets:
        if args.source is None:
            raise TTDError("--source is missing: the folder of the unpacked release")
        for name in args.sets:
            _prepare(args, name)
    if args.check or len(args.sets) > 1:
        return _check(args)
    if not args.sets:
        raise TTDError(f"nothing to do: name a set ({', '.join(SETS)}), --own FILE or --check")
    return 0


def _prepare(args: argparse.Namespace, name: str) -> None:
    from core.data.grounding_sets import grounding_set
    from core.data.prepare.grounding import mark_reviewed, write_split
    from core.data.prepare.grounding_releases import release_of

    known, read = grounding_set(name), release_of(args.source, name)
    reviews = _reviews(args)
    for split in args.splits or ("train", *known.evaluate):
        rows = list(read(args.source, name, split))
        rows = mark_reviewed(rows, reviews) if reviews and split != "train" else rows
        expected = None if args.any_count else known.counts.get(split)
        path = args.out / name / f"{name}_{split}.jsonl"
        done = write_split(path, rows, expected, keep_empty=split != "train")
        judged = [row["clean"] for row in rows if "clean" in row]
        told = f", {sum(judged)} of {len(judged)} reviewed ones are right" if judged else ""
        lost = "".join(f", dropped {n} {reason}" for reason, n in done.dropped.items())
        print(f"{done.path}: {done.phrases} phrases, {done.images} images{lost}{told}")


def _reviews(args: argparse.Namespace) -> dict[tuple[str, str], bool]:
    from core.data.prepare.grounding_releases import read_reviews

    reviews: dict[tuple[str, str], bool] = {}
    for path in args.reviewed or ():
        reviews.update(read_reviews(path, args.review_key, args.review_right))
    return reviews


def _own(args: argparse.Namespace) -> int:
    from core.data.grounding import label_rows, read_rows
    from core.data.prepare.grounding import write_split

    is_list = args.own.suffix == ".pth"
    rows = label_rows(args.own, args.xywh) if is_list else read_rows(args.own, None)
    done = write_split(args.out, ({k: row[k] for k in _kept(row)} for row in rows))
    lost = "".join(f", dropped {n} {reason}" for reason, n in done.dropped.items())
    print(f"{done.path}: {done.phrases} phrases, {done.images} images{lost}")
    return 0


def _kept(row: dict[str, object]) -> list[str]:
    return [key for key in ("id", "image", "box", "text", "clean") if key in row]


def _check(args: argparse.Namespace) -> int:
    from core.data.prepare.grounding import find_leaks

    leaks = find_leaks(args.out, SETS)
    for (train, evaluation), count in leaks.items():
        say(f"{count} images of {train} stand in {evaluation}: do not train on both sets together")
    if not leaks:
        print("no image of a train split stands in an evaluation split")
    return 1 if leaks and args.check else 0


if __name__ == "__main__":
    run(main)
