"""Any number of results in one table: scores, and differences with paired bootstrap intervals.

    python tools/compare.py results/A results/B results/C --root ../
    python tools/compare.py results_tags/A.jsonl results_tags/B.jsonl --tags-root ../world/cc3m
    python tools/compare.py boxes/before/val.jsonl boxes/after/val.jsonl --json table.json

Label maps, masks of captions, tags, and boxes (of evaluate_grounding.py --pred) may be mixed: those
of one kind and set are compared with each other, each with the first. Images are drawn with
replacement, the same ones for all results; an interval of a difference that holds 0 says that these
images do not tell the two apart. Nothing is said about training again with another seed.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli import positive_int, run, seed_number

from core.errors import TTDError

if TYPE_CHECKING:
    from core.metrics.bootstrap import Interval
    from core.report.compare import Group


def get_args_parser() -> argparse.ArgumentParser:
    """All options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("runs", nargs="+", metavar="RUN", help="folders of masks, JSONLs of tags or of boxes")
    add("--tag", nargs="+", metavar="NAME", help="a name for each (default: the result's)")
    add(
        "--root", default="../", metavar="FOLDER", help="where mask sets are (default: %(default)s)"
    )
    add("--data", metavar="NAME", help="the masks' set (default: the one they were made of)")
    add("--tags-root", metavar="PATH", help="the tags' set (default: the one they were made of)")
    add("--common", action="store_true", help="compare over the images that all results have")
    add("--draws", type=positive_int, default=2000, metavar="N", help="default: %(default)s")
    add("--seed", type=seed_number, default=0, metavar="N", help="default: %(default)s")
    add("--json", type=Path, metavar="FILE", help="write everything as JSON, fractions")
    add("--csv", type=Path, metavar="FILE", help="write the rows as CSV, fractions")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Print a table for each kind and set; write what was asked for."""
    args = get_args_parser().parse_args(argv)
    from core.evaluation.report import to_csv
    from core.report.compare import compare, groups_of
    from core.report.runs import Places, open_run
    from tools.evaluation import write, write_json

    names = args.tag or [None] * len(args.runs)
    if len(names) != len(args.runs):
        raise TTDError(f"--tag: {len(names)} names for {len(args.runs)} results; give one of each")
    places = Places(args.root, args.tags_root, args.data, args.common)
    pairs = zip(args.runs, names, strict=True)
    runs = [open_run(path, places, name) for path, name in pairs]
    check_names([one.name for one in runs])
    groups = [compare(own, args.common, args.draws, args.seed) for own in groups_of(runs)]
    print("\n\n".join(text_of(group, args.draws, args.seed) for group in groups))
    if args.json:
        content = [asdict(group) for group in groups]
        write_json(args.json, {"draws": args.draws, "seed": args.seed, "groups": content})
    if args.csv:
        write(args.csv, to_csv([row for group in groups for row in rows_of(group)]))
    return 0


def check_names(names: Sequence[str]) -> None:
    """TTDError for two results of one name: a table could not tell them apart."""
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise TTDError(f"two results are called {twice[0]}; give each a name with --tag")


def text_of(group: Group, draws: int, seed: int) -> str:
    """A table as text, in percent."""
    images = f"{group.images} images"
    if group.ids != group.images:
        images = f"{group.ids} of {group.images} images"
    left = f"; {group.left} that not all of them have are left out" if group.left else ""
    head = f"{group.kind} of {group.data}: {images}{left}; 95 % of {draws} draws, seed {seed}"
    width = max(len(line.name) for line in group.lines)
    lines = [head]
    for measure in dict.fromkeys(line.measure for line in group.lines):
        own = [line for line in group.lines if line.measure == measure]
        lines.append(f"{'':{width}}  {measure:>11}  {'interval':>15}  against {own[0].name}")
        for line in own:
            row = f"{line.name:{width}}  {100 * line.score.value:11.2f}  {span(line.score):>15}"
            if line.change is not None:
                row += f"  {100 * line.change.value:+.2f} ({span(line.change, '+')})"
            lines.append(row)
    return "\n".join(lines)


def span(found: Interval, sign: str = "") -> str:
    """`40.12 to 43.20`, in percent."""
    return f"{100 * found.low:{sign}.2f} to {100 * found.high:{sign}.2f}"


def rows_of(group: Group) -> list[dict[str, Any]]:
    """The rows of a table, for CSV."""
    rows = []
    for line in group.lines:
        row = {"kind": group.kind, "set": group.data, "result": line.name, "measure": line.measure}
        row |= asdict(line.score)
        change = line.change
        for key in ("value", "low", "high"):
            row[f"change_{key}"] = None if change is None else getattr(change, key)
        rows.append(row)
    return rows


if __name__ == "__main__":
    run(main)
