"""Tags against the true ones: precision, recall, F1, accuracy and mAP of every method.

    python evaluate_classification.py --root ../world/cc3m_for_evaluation \\
        --arch "tiny_96_[1.0]@pixel"
    python evaluate_classification.py --root ../cc3m_for_evaluation/ --arch "TCL_224_[1.0]@pixel" \\
        "TCL_224_[1.0]@pixel+TTD" --plot curves.png --json scores.json
    python evaluate_classification.py --protocol multilabel --help      # classes of images, mAP

NAME is a result of produce_tags_from_text.py, looked for in --out. Every word occurrence of every
caption counts once; mAP is the average precision over all words by their normalized scores. Below
the methods: trivial baselines.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import TTDError
from tools.cli import run, say
from tools.evaluation import (
    limit_words,
    report_options,
    save_picture,
    say_change,
    write,
    write_json,
)

if TYPE_CHECKING:
    from core.data.records import Record
    from core.evaluation.tags import Method, Row

PROTOCOLS = ("words", "multilabel")


def get_args_parser() -> argparse.ArgumentParser:
    """All options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--protocol",
        choices=PROTOCOLS,
        default="words",
        help="words of captions, or multilabel: classes of images on VOC, COCO, NUS-WIDE or a list "
        "of yours; it has options of its own: --protocol multilabel --help (default: %(default)s)",
    )
    parser.add_argument(
        "--root",
        default="../cc3m_for_evaluation",
        metavar="PATH",
        help="the set with the true tags (default: %(default)s)",
    )
    parser.add_argument(
        "--arch",
        "--pred",
        dest="arch",
        nargs="+",
        required=True,
        metavar="NAME",
        help="results: names as in --out, with or without .jsonl, or paths",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("results_tags"),
        metavar="FOLDER",
        help="where the results are (default: ./%(default)s)",
    )
    parser.add_argument(
        "--allow-missing",
        action="store_true",
        help="score the captions that match; otherwise a missing, extra or changed one is an "
        "error, and one without true tags",
    )
    parser.add_argument(
        "--plot", type=Path, metavar="FILE.png", help="draw the precision-recall curves"
    )
    report_options(parser, "NAME", "an earlier result")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table as JSON")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Print a line per method and the table; write the figure and the JSON that were asked for."""
    if protocol_of(argv) == "multilabel":
        from tools import multilabel

        return multilabel.main(argv)
    args = get_args_parser().parse_args(argv)
    from core.data.inputs.table import inputs_digest
    from core.evaluation.tags import (
        baseline_rows,
        find_result,
        limit_of,
        load_method,
        load_truth,
        method_rows,
        unmatched_line,
    )

    paths = [find_result(name, args.out) for name in args.arch]
    earlier = [find_result(args.against, args.out)] if args.against else []
    if earlier and earlier[0].lines in [path.lines for path in paths]:
        raise TTDError(f"--against {args.against}: that is a result of --arch; name an earlier one")
    limits = [limit for limit in map(limit_of, paths + earlier) if limit is not None]
    limit = min(limits, default=None)
    description, truth = load_truth(args.root, args.allow_missing, limit)
    if line := unmatched_line(truth):
        say(line)
    methods = [load_method(path, truth, part=limit is not None) for path in paths]
    before = [load_method(path, truth, part=limit is not None) for path in earlier]
    report_problems(methods + before, args.allow_missing)
    baselines, notes = baseline_rows(truth)
    rows = list(chain.from_iterable(map(method_rows, methods))) + baselines
    for row in rows[: 2 * len(methods) : 2]:
        print(published_line(row))
    print(f"\n{description}{limit_words(limit)}\n{table(rows)}")
    for note in notes:
        say(note)
    if args.json:
        inputs = {path.lines.stem: inputs_digest(path.inputs) for path in paths}
        content = {"root": str(args.root), "rows": [as_dict(row) for row in rows]}
        write_json(args.json, {**content, "inputs": inputs})
    if args.plot:
        plot(args.plot, methods, rows, baselines)
    if args.report or before:
        metas = {path.lines.stem: path.meta for path in paths + earlier}
        compared = list(chain.from_iterable(map(method_rows, before)))
        shown = rows[: 2 * len(methods)] + compared + baselines
        show(args, f"{description}{limit_words(limit)}", truth, methods + before, shown, metas)
    return 0


def protocol_of(argv: Sequence[str] | None) -> str:
    """--protocol alone, before the options of either are read."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--protocol", default="words")
    return parser.parse_known_args(argv)[0].protocol


def show(
    args: argparse.Namespace,
    title: str,
    truth: Mapping[str, Record],
    methods: Sequence[Method],
    rows: Sequence[Row],
    metas: Mapping[str, Path],
) -> None:
    """Write --report, and say what has changed since the result of --against, the last method."""
    from core.metrics.bootstrap import f1_of
    from core.report.tags import sums_of, tags_report

    check_same(methods)
    before = methods[-1] if args.against else None
    if before is not None:
        said = (before.name, sums_of(before, truth))
        say_change(methods[0].name, sums_of(methods[0], truth), said, f1_of)
    if args.report:
        write(args.report, tags_report(title, truth, methods, rows, metas, before))
        print(f"report: {args.report}")


def check_same(methods: Sequence[Method]) -> None:
    """TTDError where --allow-missing left different captions: intervals would be of unlike ones."""
    if len({frozenset(one.captions) for one in methods}) > 1:
        counts = ", ".join(f"{one.name}: {len(one.captions)}" for one in methods)
        raise TTDError(f"not of the same captions ({counts} scored); report on them apart")


def published_line(row: Row) -> str:
    """`[NAME] Precision: 88.3, Recall: 78.0, F1: 82.8, Acc: 91.0`, in percent."""
    named = zip(("Precision", "Recall", "F1", "Acc"), row.scores, strict=True)
    return f"[{row.name}] " + ", ".join(f"{name}: {100 * value:.1f}" for name, value in named)


def report_problems(methods: Sequence[Method], allowed: bool) -> None:
    """Say what does not match; TTDError unless that is allowed."""
    lines = [
        f"{method.name}: {'; '.join(method.problems)}" for method in methods if method.problems
    ]
    if lines and not allowed:
        raise TTDError(f"{' | '.join(lines)}. Add --allow-missing to score the captions that match")
    for line in lines:
        say(f"left out: {line}")


def table(rows: Sequence[Row]) -> str:
    """The rows as text, in percent; with two decimals where one would hide a difference."""
    from core.utils.shown import decimals

    width = max(len(row.name) for row in rows)
    columns = zip(*(row.scores for row in rows), strict=True)
    digits = max(decimals(100 * value for value in column) for column in columns)
    lines = [f"{'':{width}}      P      R     F1    Acc    mAP  threshold"]
    for row in rows:
        area = ""
        if row.average_precision is not None:
            area = f"{100 * row.average_precision:.{digits}f}"
        cut = "" if row.threshold is None else f"{row.threshold:.3f}"
        lines.append(
            f"{row.name:{width}}"
            + "".join(f"{100 * value:7.{digits}f}" for value in row.scores)
            + f"{area:>7}{cut:>11}"
        )
    return "\n".join(line.rstrip() for line in lines)


def as_dict(row: Row) -> dict[str, Any]:
    """A row for JSON, fractions."""
    return {
        "name": row.name.strip(),
        **row.scores._asdict(),
        "average_precision": row.average_precision,
        "threshold": row.threshold,
    }


def plot(
    path: Path, methods: Sequence[Method], rows: Sequence[Row], baselines: Sequence[Row]
) -> None:
    """Draw a curve per method with the point where it cut, and a point per baseline."""
    from core.metrics.tags import precision_recall_curve
    from core.plots.charts.curves import Curve, Point, draw_precision_recall

    curves, points = [], []
    for method, row in zip(methods, rows[::2], strict=False):
        precision, recall, _ = precision_recall_curve(method.norms, method.truth)
        area, scores = f"mAP {100 * row.average_precision:.1f}", row.scores
        label = f"{method.name}  ({area}, F1 {100 * scores.f1:.1f})"
        curves.append(Curve(label, recall, precision, (scores.recall, scores.precision)))
    for row in baselines:
        label = f"{row.name}  (F1 {100 * row.scores.f1:.1f})"
        points.append(Point(label, row.scores.recall, row.scores.precision))
    save_picture(path, draw_precision_recall(curves, points))


if __name__ == "__main__":
    run(main)
