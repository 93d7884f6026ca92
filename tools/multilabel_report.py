"""--report and --against of multi-label recognition."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from core.utils.shown import without_folders
from tools.evaluation import against_file, earlier_name, progress_bar, say_difference, write

if TYPE_CHECKING:
    from core.data.multilabel.label_sets import LabelSet
    from core.evaluation.multilabel.scoring import Floats


def show(
    args: argparse.Namespace,
    labels: LabelSet,
    scores: Mapping[str, Floats],
    facts: Mapping[str, Any],
    notes: Sequence[str],
) -> None:
    """Write --report, and say what has changed since the saved scores of --against.

    scores: [N, C] by name; facts: how a model's were made; notes: printed below the table.
    """
    from core.evaluation.multilabel.scoring import read_scores
    from core.report.multilabel import ClassScores, drawn_map, multilabel_report

    files = {path.stem: {"scores": str(path)} for path in args.pred}
    results = []
    for name, own in scores.items():
        results.append(ClassScores(without_folders(name), own, files.get(name, facts)))
    before = None
    if path := against_file(args):
        name = earlier_name(path.stem, [one.name for one in results])
        before = ClassScores(name, read_scores(path, labels), {"scores": str(path)})
    every = [*results, *([before] if before is not None else [])]
    readings = labels.variants if args.report else labels.variants[:1]
    drawn = {}
    with progress_bar(len(every) * len(readings), "interval") as bar:  # long for a large set
        for one in every:
            drawn[one.name] = []
            for reading in readings:
                drawn[one.name].append(drawn_map(one, reading))
                bar.update()
    if before is not None:
        first = results[0].name
        say_difference(first, drawn[first][0], before.name, drawn[before.name][0])
    if args.report:
        write(args.report, multilabel_report(labels, results, drawn, notes, before))
        print(f"report: {args.report}")
