"""Bring an official release into the layout that everything here reads.

    python tools/prepare_dataset.py VOC2012 --source ~/VOCdevkit --root ..
    python tools/prepare_dataset.py COCO2014 --source ~/coco --root .. --objects instances --link
    python tools/prepare_dataset.py CC3M --source ~/cc3m_shards --root .. --split train

The layout is ROOT/SET/validation/{image,mask}. What is there already is kept, so a broken run
resumes where it stopped. What each release must look like: docs/data.md.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from cli import run, say, worker_count

from core.errors import TTDError

SHOWN = 3
CAPTION_SETS = ("CC3M", "CC12M")


def get_args_parser() -> argparse.ArgumentParser:
    """All options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "name",
        metavar="NAME",
        help="VOC2012, COCO2014, ADE2016, Cityscapes, COCO-Stuff, PascalContext, CC3M or CC12M",
    )
    parser.add_argument(
        "--source", type=Path, required=True, metavar="FOLDER", help="the unpacked official release"
    )
    parser.add_argument(
        "--root",
        type=Path,
        default=Path(".."),
        metavar="FOLDER",
        help="where the set is made, as ROOT/SET (default: %(default)s)",
    )
    parser.add_argument(
        "--split",
        metavar="NAME",
        help="part of the release (default: val; train for CC3M and CC12M)",
    )
    parser.add_argument(
        "--to",
        metavar="NAME",
        help="folder under ROOT/SET (default: validation for val, else the split's name)",
    )
    add_run_options(parser)
    return parser


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """From what and how the set is made."""
    parser.add_argument(
        "--objects",
        choices=("instances", "stuff"),
        help="COCO2014: from the instances json or from COCO-Stuff's pixel maps "
        "(default: the json if there)",
    )
    parser.add_argument(
        "--link", action="store_true", help="hard links to the release's images instead of copies"
    )
    parser.add_argument("--overwrite", action="store_true", help="make everything again")
    parser.add_argument(
        "--workers",
        type=worker_count,
        default=os.cpu_count() or 1,
        metavar="N",
        help="threads (default: the machine's cores)",
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Make the set; returns 2 when images of a benchmark could not be made."""
    args = get_args_parser().parse_args(argv)
    from tqdm import tqdm

    from core.data.prepare import make_plan, run_plan

    captions = args.name in CAPTION_SETS
    usual = "train" if captions else "val"
    split = args.split or usual
    plan = make_plan(
        args.name, args.source, args.root, split=split, objects=args.objects, to=args.to
    )
    print(plan.about)
    with tqdm(total=plan.count, unit="image", disable=None, file=sys.stderr) as bar:
        report = run_plan(
            plan,
            workers=args.workers,
            link=args.link,
            overwrite=args.overwrite,
            progress=bar.update,
        )
    print(
        f"{plan.out}: {report.made} made, {report.kept} there already, "
        f"{len(report.failed)} left out"
    )
    for reason in report.failed[:SHOWN]:
        say(reason)
    if len(report.failed) > SHOWN:
        say(f"and {len(report.failed) - SHOWN} more left out")
    if report.unreadable:
        say(
            f"{report.unreadable} of them could not be read; mend that and run the same command "
            "again, it makes what is missing"
        )
    if not report.made + report.kept:
        raise TTDError(f"{plan.out}: nothing could be made of {args.source}")
    if captions:
        return 2 if report.unreadable else 0
    problems = checked(args.name, args.root) if plan.out.name == "validation" else []
    return 2 if problems or report.failed else 0


def checked(name: str, root: Path) -> list[str]:
    """Read some of the masks as the evaluators will, and say what is wrong."""
    from core.data.labels.dataset_checks import check
    from core.data.labels.datasets import open_dataset

    dataset = open_dataset(name, root)
    print(dataset.describe())
    problems = check(dataset, limit=50)
    for problem in problems[:SHOWN]:
        say(problem)
    return problems


if __name__ == "__main__":
    run(main)
