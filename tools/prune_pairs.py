"""Drop the training pairs whose captions fit worst: a list of the ids to keep, for train_ttd.py.

    python tools/prune_pairs.py --root ../world --data cc3m                      # the tiny model's
    python tools/prune_pairs.py --data cc3m --domain train --arch TCL           # as published: 20 %
    python tools/prune_pairs.py --data cc3m+cc12m --arch TCL --drop 0.3          # a list for each
    python tools/prune_pairs.py --scores results_pairs/x.jsonl --drop 0.5

Reads what tools/score_captions.py wrote into OUT. Writes beside each score file
`NAME@drop=0.2.txt`: one header line, then one id per line, in input order; pairs that were skipped
are not on it. Equal scores: the later pair goes first. The share of 20 % is ours; the paper says
that the lowest are dropped, not how many.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from cli import run

from core.errors import TTDError


def get_args_parser() -> argparse.ArgumentParser:
    """All options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--data", metavar="SETS", help="as given to score_captions.py: cc3m, cc3m+cc12m, or a path"
    )
    which.add_argument(
        "--scores", type=Path, metavar="FILE", help="this score file, whatever it is called"
    )
    _place_options(parser)
    parser.add_argument(
        "--drop",
        type=float,
        default=0.2,
        metavar="SHARE",
        help="the share to drop, from 0 to below 1 (default: %(default)s)",
    )
    return parser


def _place_options(parser: argparse.ArgumentParser) -> None:
    """Where the pairs and their scores are."""
    parser.add_argument(
        "--root", default="../", metavar="FOLDER", help="parent of the sets (default: %(default)s)"
    )
    parser.add_argument(
        "--domain",
        default="train",
        metavar="NAME",
        help="train or validation (default: %(default)s)",
    )
    parser.add_argument(
        "--arch",
        default="tiny",
        metavar="NAME",
        help="the model that scored (default: %(default)s)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("results_pairs"),
        metavar="FOLDER",
        help="where the scores are (default: ./%(default)s)",
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Write a list for every set and say what was dropped."""
    args = get_args_parser().parse_args(argv)
    if not 0 <= args.drop < 1:
        raise TTDError(f"--drop {args.drop:g}: give a share from 0 to below 1, such as 0.2")
    from core.tags.pruning import histogram, prune

    for scores in [args.scores] if args.scores else score_files(args):
        out = scores.with_name(f"{scores.name.removesuffix('.jsonl')}@drop={args.drop:g}.txt")
        done, values = prune(scores, out, args.drop)
        print(
            f"{out}: {done.kept} of {done.scored} pairs kept, {done.dropped} dropped below "
            f"{done.threshold:.4f}, {done.skipped} skipped before"
        )
        print(histogram(values, done.threshold))
    return 0


def score_files(args: argparse.Namespace) -> list[Path]:
    """The score file of every set that --data names."""
    from core.data.pairs import find_pairs
    from core.tags.pair_scores import pair_label
    from core.tags.pruning import find_scores

    places = find_pairs(args.data, args.root, args.domain)
    return [find_scores(args.out, pair_label(place), args.arch) for place in places]


if __name__ == "__main__":
    run(main)
