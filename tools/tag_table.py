"""Make the table of docs/tags.md: scorers x normalizations x cuts, thresholds of another set.

    python tools/tag_table.py --root ../world --dev ../world_dev    # print it, for the tiny model
    python tools/tag_table.py --root ../world --dev ../world_dev --update docs/tags.md

Both sets need true tags. The table between the two marks in the file is replaced.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, product
from pathlib import Path
from typing import TYPE_CHECKING

from cli import load_model, model_options, positive_int, run, view_options

from core.errors import TTDError
from tools.doc_table import check, update

if TYPE_CHECKING:
    import numpy as np

    from core.backbones.base import Backbone
    from core.metrics.tags import TagScores
    from core.tags.protocol import TagProtocol
    from core.tags.scoring import Scored

MARKS = ("<!-- table: tools/tag_table.py -->", "<!-- end of table -->")
NORMS = ("minmax", "softmax", "none")
# Thresholds by the truth of the dev set, and by that of the set itself, which is out of reach.
CHOSEN = ("chosen on dev", "best there is")
CUTS = ("0.5", "Otsu", *CHOSEN)
HEAD = (
    "| scorer | normalization | cut | P / R / Acc | F1 "
    "| with `--stopwords`: cut | P / R / Acc | F1 | mAP |"
)


@dataclass(frozen=True)
class ScoredSet:
    """The captions of a set with their scores.

    truth, stop: which words are true tags and which are stop words, all pooled, bool [W].
    """

    scored: list[Scored]
    truth: np.ndarray
    stop: np.ndarray


def get_args_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        parents=[model_options(), view_options("the model's own size", pamr=False)],
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--root", required=True, metavar="PATH", help="the set that is reported")
    parser.add_argument(
        "--dev", required=True, metavar="PATH", help="the set that thresholds are chosen on"
    )
    parser.add_argument(
        "--batch",
        type=positive_int,
        default=32,
        metavar="N",
        help="captions at a time (default: 32)",
    )
    parser.add_argument("--update", type=Path, metavar="FILE", help="put the table into this file")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Score both sets, print the table or put it into a file."""
    args = get_args_parser().parse_args(argv)
    if args.update:
        check(args.update, MARKS)
    backbone = load_model(args)
    reported, dev = (score_set(backbone, root, args) for root in (args.root, args.dev))
    text = f"{table(backbone, reported, dev)}\n"
    if args.update:
        update(args.update, MARKS, text)
    else:
        print(text, end="")
    return 0


def score_set(backbone: Backbone, root: str, args: argparse.Namespace) -> ScoredSet:
    """Raw scores of every word of a set. TTDError when it has no true tags."""
    import numpy as np
    from tqdm import tqdm

    from core.data.tag_words import truth_of
    from core.data.words import is_stopword
    from core.evaluation.tags import load_truth
    from core.maps.views import Views
    from core.tags.pipeline import load_batches
    from core.tags.scoring import score_prepared

    views = Views(args.image or backbone.image_size, tuple(args.scales), args.hflip)
    records = list(load_truth(root)[1].values())
    scored, bar = [], tqdm(records, desc=root, unit="caption", disable=None)
    for batch in load_batches(bar, views, args.batch):
        if batch.skipped:
            raise TTDError(f"{root}: {batch.skipped[0].id}: {batch.skipped[0].reason}")
        scored += score_prepared(backbone, batch.prepared, batch.captions, views)
    words = [[word.text for word in one.words] for one in scored]
    truth = [truth_of(row, record.tags) for row, record in zip(words, records, strict=True)]
    stop = np.array([is_stopword(word) for row in words for word in row])
    return ScoredSet(scored, np.concatenate(truth), stop)


def table(backbone: Backbone, reported: ScoredSet, dev: ScoredSet) -> str:
    """The Markdown table, in percent."""
    from core.metrics.tags import average_precision, tag_scores
    from core.tags.scoring import SCORERS

    lines = [HEAD, "|---|---|---|---|---|---|---|---|---|"]
    for scorer, norm in product(SCORERS, NORMS):
        norms = norms_of(backbone, reported, scorer, norm)
        area = average_precision(norms, reported.truth)
        for name in CUTS:
            cells = []
            for stop in (False, True):
                cells += cells_of(backbone, reported, dev, Cut(scorer, norm, name, stop))
            lines.append(f"| {scorer} | {norm} | {' | '.join(cells)} | {100 * area:.1f} |")
    everything = tag_scores(reported.truth | True, reported.truth)
    content = tag_scores(~reported.stop, reported.truth)
    lines.append(
        f"| all words, all content words | | | {three(everything)} | {100 * everything.f1:.1f} | | "
        f"{three(content)} | {100 * content.f1:.1f} | |"
    )
    return "\n".join(lines)


@dataclass(frozen=True)
class Cut:
    """One way to cut: scorer, normalization, one of `CUTS`, and whether stop words are rejected."""

    scorer: str
    norm: str
    name: str
    stop: bool


def cells_of(backbone: Backbone, reported: ScoredSet, dev: ScoredSet, cut: Cut) -> list[str]:
    """Cells of one way to cut: its threshold, P / R / Acc, F1."""
    from core.metrics.tags import best_threshold, tag_scores

    threshold, label = None, cut.name  # None: Otsu's
    if cut.name in CHOSEN:
        source = dev if cut.name == "chosen on dev" else reported
        allowed = ~source.stop | (not cut.stop)
        norms = norms_of(backbone, source, cut.scorer, cut.norm)
        threshold, _ = best_threshold(norms, source.truth, allowed)
        label = f"{threshold:.3f} ({cut.name})"
    elif cut.name != "Otsu":
        threshold = float(cut.name)
    protocol = protocol_of(cut.norm, threshold, cut.stop)
    selected, _ = cut_set(backbone, reported, cut.scorer, protocol)
    scores = tag_scores(selected, reported.truth)
    return [label, three(scores), f"{100 * scores.f1:.1f}"]


def protocol_of(norm: str, threshold: float | None, stop: bool) -> TagProtocol:
    """A protocol that only cuts."""
    from core.tags.protocol import TagProtocol

    return TagProtocol(
        1, normalize=norm, threshold=threshold, stopwords="shipped" if stop else None
    )


def norms_of(backbone: Backbone, data: ScoredSet, scorer: str, norm: str) -> np.ndarray:
    """Normalized scores of all words, [W]."""
    return cut_set(backbone, data, scorer, protocol_of(norm, None, False))[1]


def cut_set(
    backbone: Backbone, data: ScoredSet, scorer: str, protocol: TagProtocol
) -> tuple[np.ndarray, np.ndarray]:
    """Selection and normalized scores of all words, [W] each, as produce_tags_from_text.py has."""
    import numpy as np

    from core.tags.pipeline import cut

    selected, norms = cut(data.scored, scorer, protocol, backbone.logit_scale)
    return np.array(list(chain(*selected))), np.array(list(chain(*norms)))


def three(scores: TagScores) -> str:
    """`P / R / Acc` in percent."""
    return f"{100 * scores.precision:.1f} / {100 * scores.recall:.1f} / {100 * scores.accuracy:.1f}"


if __name__ == "__main__":
    run(main)
