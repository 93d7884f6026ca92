"""TCL's eight benchmarks with one command: a table of mIoU, ours beside the published numbers.

    python tools/evaluate_tcl.py --root .. --weights runs/TCL/TCL.pth
    python tools/evaluate_tcl.py --root .. --weights tcl.pth --gpus 0 1 2 3 --update docs/tcl.md
    python tools/evaluate_tcl.py --root ../world --data World --weights TCL.pth --image 96

Every set under --root is segmented by TCL's own protocol (short side 448, windows of 448, prompts
`custom`, knowledge prior 0.3), with PAMR (background threshold 0.4) and without (0.5), and scored;
sets that are not there are left out and named. Masks go to --out, and what is there is not made
again, so an interrupted table resumes where it stopped.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cli import ROOT, positive_int, run, say, worker_count

from core.errors import TTDError
from tools.doc_table import update

MARKS = ("<!-- table: tools/evaluate_tcl.py -->", "<!-- end of table -->")
# mIoU in % with PAMR and without, from papers that report TCL on all eight sets (CaR, SCLIP).
PUBLISHED = {
    "VOC20": (83.2, 77.5),
    "Context59": (33.9, 30.3),
    "COCO-Stuff": (22.4, 19.6),
    "Cityscapes": (24.0, 23.1),
    "ADE2016": (17.1, 14.9),
    "VOC2012": (55.0, 51.2),
    "PascalContext": (30.4, 24.3),
    "COCO2014": (31.6, 30.4),
}
PAMR = (True, False)


@dataclass(frozen=True)
class Score:
    """Of one set, with or without PAMR: mIoU in [0, 1], those of the trivial baselines, images."""

    miou: float
    baselines: dict[str, float]
    images: int


def get_args_parser() -> argparse.ArgumentParser:
    """All options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--root", required=True, metavar="FOLDER", help="the parent folder of the sets")
    add("--weights", metavar="FILE", help="the TCL checkpoint (default: weights/tcl.pth)")
    add("--lora", metavar="FILE", help="a TTD adapter on top")
    add("--data", nargs="+", default=list(PUBLISHED), metavar="NAME", help="only these sets")
    add("--image", type=positive_int, metavar="PIXELS", help="another short side (default: 448)")
    add("--limit", type=positive_int, metavar="N", help="only the first N images of each set")
    add("--device", metavar="DEVICE", help="cpu, cuda or cuda:N")
    add("--gpus", nargs="+", metavar="N", help="a process on each of these GPUs")
    add("--workers", type=worker_count, metavar="N", help="processes that share the work")
    out = ROOT / "out" / "tcl"
    add("--out", type=Path, default=out, metavar="FOLDER", help="for the masks")
    add("--json", type=Path, metavar="FILE", help="also write the scores as JSON")
    add("--update", type=Path, metavar="FILE", help="put the table between its marks")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Segment, score, print the table; put it where it was asked for."""
    args = get_args_parser().parse_args(argv)
    names = present(args.data, args.root)
    scores = {(name, pamr): measure(args, name, pamr) for name in names for pamr in PAMR}
    text = table(names, scores)
    print(text)
    if args.update:
        update(args.update, MARKS, text)
    if args.json:
        args.json.write_text(json.dumps(as_rows(scores), indent=1) + "\n", encoding="utf-8")
    return 0


def present(names: Sequence[str], root: str) -> list[str]:
    """Those of the sets that are there. TTDError when none is."""
    from core.data.labels.datasets import open_dataset

    found, missing = [], []
    for name in names:
        try:
            open_dataset(name, root)
            found.append(name)
        except TTDError as error:
            missing.append((name, error))
    if not found:
        raise TTDError(f"none of the sets is under {root}: {missing[0][1]}")
    for name, error in missing:
        say(f"{name} is left out: {error}")
    return found


def measure(args: argparse.Namespace, name: str, pamr: bool) -> Score:
    """Make the masks of one set, as far as they are missing, and score them."""
    import produce_masks_from_tags as script
    from core.data.labels.datasets import open_dataset
    from core.evaluation.label_maps import evaluate

    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = script.main(command(args, name, pamr))
    folder = printed.getvalue().strip().splitlines()[-1]
    if code:
        raise TTDError(f"{name}: not all masks could be made; see {folder}")
    dataset = open_dataset(name, args.root)
    found = evaluate(dataset, Path(folder), allow_missing=args.limit is not None)
    baselines = {key: scores.means[0] for key, scores in found.baselines.items()}
    return Score(found.scores.means[0], baselines, len(found.pictures))


def command(args: argparse.Namespace, name: str, pamr: bool) -> list[str]:
    """The options of produce_masks_from_tags.py for one set."""
    line = ["--data", name, "--root", args.root, "--arch", "TCL", "--protocol", "tcl"]
    line += ["--pamr" if pamr else "--no-pamr", "--out", str(args.out)]
    for key in ("weights", "lora", "image", "limit", "device", "workers"):
        value = getattr(args, key)
        line += [] if value is None else [f"--{key}", str(value)]
    return line + (["--gpus", *args.gpus] if args.gpus else [])


def table(names: Sequence[str], scores: dict[tuple[str, bool], Score]) -> str:
    """Markdown: a row for each of ours and published, a column for each set, and the mean."""
    known = [name for name in names if name in PUBLISHED]
    lines = [f"| mIoU % | {' | '.join(names)} | mean |", "|---" * (len(names) + 2) + "|"]
    for pamr in PAMR:
        label = "PAMR, threshold 0.4" if pamr else "no PAMR, threshold 0.5"
        ours = [100 * scores[name, pamr].miou for name in names]
        lines.append(row(f"ours, {label}", ours))
        if len(known) == len(names):
            lines.append(row(f"published, {label}", [PUBLISHED[n][not pamr] for n in names]))
    for baseline in scores[names[0], True].baselines:
        values = [100 * scores[name, True].baselines.get(baseline, 0.0) for name in names]
        lines.append(row(f"*{baseline}*", values))
    images = " | ".join(str(scores[name, True].images) for name in names)
    return "\n".join([*lines, f"| images | {images} | |", ""])


def row(label: str, values: Sequence[float]) -> str:
    """One line of the table."""
    cells = " | ".join(f"{value:.1f}" for value in values)
    return f"| {label} | {cells} | {sum(values) / len(values):.1f} |"


def as_rows(scores: dict[tuple[str, bool], Score]) -> list[dict[str, object]]:
    """The scores for JSON; fractions."""
    return [
        {"data": name, "pamr": pamr, "miou": s.miou, "images": s.images, "baselines": s.baselines}
        for (name, pamr), s in scores.items()
    ]


if __name__ == "__main__":
    run(main)
