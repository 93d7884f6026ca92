"""Make the tables of docs/masks.md: heads, PAMR, scales and flip on the world's benchmark, end to end.

    python tools/mask_table.py --root ../world                                        # print them, all pictures
    python tools/mask_table.py --root ../world --limit 200 --update docs/masks.md

Every row runs `produce_masks_from_tags.py` (or `_text.py`) with the flags it shows and then the evaluation. Masks go to
--out, and what is there is not made again, so an interrupted table goes on where it stopped. The tables between the two
marks in the file are replaced.
"""

from __future__ import annotations

import argparse
import contextlib
import io
from collections.abc import Sequence
from pathlib import Path

from cli import ROOT, positive_int, run

from core.errors import TTDError

MARKS = ("<!-- tables: tools/mask_table.py -->", "<!-- end of tables -->")
SCALES = "--scales 1.0 0.5 1.5 2.0"
HEADS = ("vanilla", "maskclip", "maskclip-value", "sclip", "kk", "naclip", "clearclip")
SIZE = "--image 96"  # the tiny model's own: at the default, twice that, it finds less (see the second table)
HEAD_ROWS = tuple(f"{SIZE} --head {head}{pamr}" for head in HEADS for pamr in ("", " --pamr"))
VIEW_ROWS = tuple(f"{SIZE}{scales}{flip}{pamr}" for scales in ("", f" {SCALES}") for flip in ("", " --hflip")
                  for pamr in ("", " --pamr")) + (f"{SIZE} --templates identity", "--image 192")
TEXT_ROWS = tuple(f"{SIZE} --tags {tags}{pamr}" for tags in ("caption", "selected") for pamr in ("", " --pamr"))
Means = tuple[float, float, float]


def get_args_parser() -> argparse.ArgumentParser:
    """All options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, metavar="FOLDER", help="the world")
    parser.add_argument("--arch", default="tiny", metavar="NAME", help="model (default: %(default)s)")
    parser.add_argument("--limit", type=positive_int, metavar="N", help="only the first N pictures")
    parser.add_argument("--workers", type=positive_int, default=1, metavar="N", help="processes (default: 1)")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "mask_table", metavar="FOLDER", help="for the masks")
    parser.add_argument("--update", type=Path, metavar="FILE", help="put the tables between its marks")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Make all rows, print the tables, and put them into the file."""
    args = get_args_parser().parse_args(argv)
    text = "\n\n".join([
        table("Dense heads, one scale, no flip", "mIoU", [(row, *measure(args, "tags", row)) for row in HEAD_ROWS]),
        table("Scales, flip, PAMR, prompts and size, the default head", "mIoU",
              [(row, *measure(args, "tags", row)) for row in VIEW_ROWS]),
        table("Masks from captions", "Caption IoU", [(row, *measure(args, "text", row)) for row in TEXT_ROWS]),
    ]) + "\n"
    print(text)
    if args.update:
        update(args.update, text)
    return 0


def measure(args: argparse.Namespace, kind: str, row: str) -> tuple[Means, dict[str, Means]]:
    """Make the masks of one row and score them: the means, and those of the trivial baselines."""
    import importlib

    out = args.out / kind / row.replace("--", "").replace(" ", "_")
    line = ["--data", "World", "--root", args.root, "--arch", args.arch, "--device", "cpu", "--out", str(out),
            "--workers", str(args.workers), *row.split()] + (["--limit", str(args.limit)] if args.limit else [])
    script = importlib.import_module(f"produce_masks_from_{kind}")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = script.main(line)
    if code:
        raise TTDError(f"produce_masks_from_{kind}.py {row}: not all masks could be made; see {out}")
    masks, folder = printed.getvalue().strip().splitlines()[-2:]
    means, baselines = score(kind, args.root, Path(folder))
    print(f"{kind} {row}: {100 * means[0]:.1f}%, {masks}", flush=True)
    return means, baselines


def score(kind: str, root: str, folder: Path) -> tuple[Means, dict[str, Means]]:
    """What the evaluation of that kind prints: means and baselines on the same pictures."""
    from core.caption_evaluation import evaluate_captions
    from core.datasets import open_caption_set, open_dataset
    from core.seg_evaluation import evaluate
    from core.seg_metrics import scores_from_counts

    if kind == "tags":
        found = evaluate(open_dataset("World", root), folder, allow_missing=True, workers=1)
        return found.scores.means, {name: scores.means for name, scores in found.baselines.items()}
    found = evaluate_captions(open_caption_set("World", root), folder, allow_missing=True, workers=1)
    return found.scores.means, {name: scores_from_counts(counts).means for name, counts in found.baselines.items()}


def table(title: str, name: str, rows: Sequence[tuple[str, Means, dict[str, Means]]]) -> str:
    """Markdown: flags and scores, the baselines below."""
    lines = [f"**{title}**", "", f"| flags | {name} | mFPR | mFNR |", "|---|---|---|---|"]
    lines += [cells(f"`{flags}`", means) for flags, means, _ in rows]
    return "\n".join(lines + [cells(f"*{name}*", means) for name, means in rows[0][2].items()])


def cells(label: str, means: Means) -> str:
    """One line of a table."""
    return f"| {label} | {100 * means[0]:.1f} | {means[1]:.3f} | {means[2]:.3f} |"


def update(path: Path, text: str) -> None:
    """Replace what is between the marks. TTDError when the file has no marks."""
    content = path.read_text(encoding="utf-8") if path.exists() else ""
    before, start, rest = content.partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    if not start or not end:
        raise TTDError(f"{path}: no lines {MARKS[0]} and {MARKS[1]} to put the tables between")
    path.write_text(f"{before}{start}\n{text}{end}{after}", encoding="utf-8")


if __name__ == "__main__":
    run(main)
