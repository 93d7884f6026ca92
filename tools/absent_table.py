"""Make a table of docs/tags.md: words that are not in the image, without and with --min-score.

    python tools/absent_table.py --root ../world --lora weights/tiny+TTD.safetensors
    python tools/absent_table.py --root ../world --lora weights/tiny+TTD.safetensors \\
        --update docs/tags.md

The model without and with its adapter; words are selected by their nearest pixel, min-max and Otsu.
Nouns are the classes of ROOT/world.yaml. The cut is found with the first --pairs training pairs,
without labels, as by tools/calibrate_min_score.py.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cli import load_model, model_options, positive_int, run

from core.errors import TTDError
from tools.doc_table import check, update

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from core.backbones.base import Backbone
    from core.data.heldout import Item

MARKS = ("<!-- table: tools/absent_table.py -->", "<!-- end of absent words -->")
ROWS = (
    "nouns that are not in the image, kept",
    "nouns that are in the image, kept",
    "all true words, kept",
    "F1",
)


def get_args_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        parents=[model_options()],
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--root", required=True, type=Path, metavar="FOLDER", help="a world, which is scored")
    add("--limit", type=positive_int, default=300, metavar="N", help="images (default: 300)")
    add("--pairs", type=positive_int, default=1000, metavar="N", help="for the cut (default: 1000)")
    add("--update", type=Path, metavar="FILE", help="put the table into this file")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Score the images without and with the adapter, print the table or put it into a file."""
    args = get_args_parser().parse_args(argv)
    from core.data.heldout import load_heldout
    from core.utils.config import read_yaml

    if args.lora is None:
        raise TTDError("--lora is missing: the adapter that is compared with the model without it")
    if args.update:
        check(args.update, MARKS)
    items = load_heldout(args.root, args.limit)
    nouns = set(read_yaml(args.root / "world.yaml").get("classes") or ())
    columns: dict[str, list[str]] = {}
    for name, lora in ((args.arch, None), (f"{args.arch}+TTD", args.lora)):
        args.lora = lora
        backbone = load_model(args)
        cut = found_cut(backbone, args.root, args.pairs)
        scores = pixel_scores(backbone, items)
        columns[name] = cells(scores, items, nouns, None)
        columns[f"{name}, cut at {cut:.3f}"] = cells(scores, items, nouns, cut)
    text = table(columns, len(items)) + "\n"
    if args.update:
        update(args.update, MARKS, text)
    else:
        print(text, end="")
    return 0


def found_cut(backbone: Backbone, root: Path, pairs: int) -> float:
    """The lowest score of a word that is in its image, by captions without labels."""
    from core.data.records import Record, open_records
    from core.evaluation.min_score import calibrate_min_score
    from core.world.writer import PAIRS

    source = open_records(root / PAIRS)
    records = [one for one in source.iterate(0, pairs) if isinstance(one, Record)]
    return calibrate_min_score(backbone, records).cut


def pixel_scores(backbone: Backbone, items: Sequence[Item]) -> list[Tensor]:
    """Cosines of every caption's words with their nearest pixels, [K] for each item."""
    from core.tags.scoring import score_batch

    return [
        score_batch(backbone, [item.image], [item.text], ["pixel"])[0].scores["pixel"]
        for item in items
    ]


def cells(
    scores: Sequence[Tensor], items: Sequence[Item], nouns: set[str], min_score: float | None
) -> list[str]:
    """A column, `ROWS` in percent; the first with the number of such nouns."""
    import numpy as np

    from core.metrics.tags import tag_scores
    from core.tags.selection import select

    kept = [select(one, min_score=min_score)[0].numpy() for one in scores]
    selected = np.concatenate(kept)
    truth = np.concatenate([item.truth for item in items])
    noun = np.array([word.casefold() in nouns for item in items for word in item.words])
    absent = noun & ~truth
    return [
        f"{percent(selected, absent)} (of {absent.sum()})",
        percent(selected, noun & truth),
        percent(selected, truth),
        f"{100 * tag_scores(selected, truth).f1:.1f}",
    ]


def percent(selected: np.ndarray, among: np.ndarray) -> str:
    """Share of the words `among` that is selected, both bool [W]; a dash where there are none."""
    return f"{100 * selected[among].mean():.1f}" if among.any() else "-"


def table(columns: dict[str, list[str]], images: int) -> str:
    """The Markdown table."""
    lines = [f"| first {images} held-out images, percent | {' | '.join(columns)} |"]
    lines.append("|---" * (1 + len(columns)) + "|")
    for name, *values in zip(ROWS, *columns.values(), strict=True):
        lines.append(f"| {name} | {' | '.join(values)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    run(main)
