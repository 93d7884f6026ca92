"""A labelled set, or a part of it, as files that training and other tools read.

    python tools/export_labels.py labels --format cc3m --out ../cc3m_for_evaluation --limit 1000
    python tools/export_labels.py labels --format coco --out dogs --tags dog puppy
    python tools/export_labels.py labels --format pairs --out pairs      # train_ttd.py --data pairs
    python tools/export_labels.py labels --format phrases --out boxes
                                            # train_grounding.py --data boxes/phrases.jsonl

The set is what label_shards.py wrote, a folder or a URL; the images come from the shards that it
was made from. docs/scale.md describes the forms.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from cli import positive_int, run, say

from core.errors import TTDError

FORMS = ("cc3m", "coco", "pairs", "phrases")


def get_args_parser() -> argparse.ArgumentParser:
    """All options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("labels", metavar="PLACE", help="the folder or URL of a labelled set")
    add("--format", choices=FORMS, required=True, help="what is written")
    add("--out", type=Path, required=True, metavar="FOLDER", help="where")
    add("--tags", nargs="+", metavar="WORD", help="only pairs with one of these tags")
    add("--limit", type=positive_int, metavar="N", help="only the first N pairs of these")
    add("--overwrite", action="store_true", help="write into a folder that holds something")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Write everything; 2 when images had to be left out, or no pair is chosen."""
    args = get_args_parser().parse_args(argv)
    if args.out.exists() and not args.overwrite and any(args.out.iterdir()):
        raise TTDError(f"{args.out}: there is something in it; choose another --out or --overwrite")
    from tqdm import tqdm

    from core.labelling.export import Choice, export_labels
    from core.labelling.rows import open_labels

    labels = open_labels(args.labels)
    choice = Choice(tuple(tag.lower() for tag in args.tags or ()), args.limit)
    with tqdm(total=args.limit, unit="pair", file=sys.stderr, disable=None) as bar:
        done = export_labels(labels, args.format, args.out, choice, bar.update)
    print(f"{args.out}: {done.pairs} pairs")
    if done.left:
        say(f"{len(done.left)} images had to be left out, the first: {done.left[0]}")
    if not done.pairs:
        say("no pair was chosen: see tools/stats_labels.py for the tags that there are")
    return 2 if done.left or not done.pairs else 0


if __name__ == "__main__":
    run(main)
