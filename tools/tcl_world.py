"""TCL and TTD on it, on a set of the procedural world: one table, mean and deviation over runs.

    python tools/tcl_world.py --root ../world --base tiny-cls \\
        --tcl runs/tcl_tiny_0/TCL.pth runs/tcl_tiny_1/TCL.pth runs/tcl_tiny_2/TCL.pth \\
        --ttd runs/ttd_tcl_0/TCL+TTD.safetensors ... --update docs/tcl.md

Rows: what needs no model; the frozen CLIP's own maps, as TCL begins with them; TCL; TCL+TTD, each
adapter on the checkpoint at the same place of --tcl. Columns: mIoU by TCL's protocol without PAMR
(threshold 0.5, knowledge prior 0.3, TCL's prompts); IoU of the words' maps, as masks cut at 0.4 and
as min-max maps cut at 0.5; Caption IoU; pixel F1. Every image once, at the model's own size.
--picture draws one image with the frozen CLIP's maps and with the first run's of TCL+TTD, else TCL.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING

from cli import positive_int, run, say

from core.errors import TTDError
from tools.doc_table import check, update

if TYPE_CHECKING:
    from core.backbones.base import Backbone
    from core.data.heldout import Item

MARKS = ("<!-- table: tools/tcl_world.py -->", "<!-- end of table -->")
COLUMNS = {
    "miou": "mIoU",
    "word_map_iou": "word maps",
    "word_map_iou_minmax": "word maps, min-max",
    "caption_iou": "Caption IoU",
    "pixel_f1": "pixel F1",
}
Row = dict[str, float]


def get_args_parser() -> argparse.ArgumentParser:
    """All options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--root", default="../world", metavar="FOLDER", help="the world (default: %(default)s)")
    add("--base", default="tiny-cls", metavar="ARCH", help="the frozen CLIP (default: %(default)s)")
    add("--tcl", nargs="*", default=[], metavar="FILE", help="checkpoints, one a run")
    add("--ttd", nargs="*", default=[], metavar="FILE", help="adapters of these checkpoints")
    add("--only", nargs="+", metavar="ROW", help="frozen CLIP, TCL, TCL+TTD (default: all)")
    add("--limit", type=positive_int, metavar="N", help="only the first N images")
    add("--json", type=Path, metavar="FILE", help="also write every run's scores (fractions)")
    add("--picture", type=Path, metavar="FILE", help="draw one image before and after")
    add("--update", type=Path, metavar="FILE", help="put the table between its marks")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Score, print, write."""
    args = get_args_parser().parse_args(argv)
    if args.picture and not args.tcl:
        raise TTDError("--picture: there is nothing to draw without --tcl")
    if args.ttd and len(args.ttd) != len(args.tcl):
        raise TTDError(f"{len(args.ttd)} adapters for {len(args.tcl)} checkpoints: one for each")
    if args.update:
        check(args.update, MARKS)
    from core.data.heldout import load_heldout

    items = load_heldout(args.root, args.limit)
    rows = trivial(args, items)
    for name, models in models_of(args).items():
        if name in (args.only or [name]):
            rows[name] = [scores(args, items, load()) for load in models]
    if args.picture:
        last = [load for models in models_of(args).values() for load in models[:1]][-1]
        draw(fresh(args.base), last(), items, args.picture)
    text = table(rows, len(items))
    print(text)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    if args.update:
        update(args.update, MARKS, text)
    return 0


def models_of(args: argparse.Namespace) -> dict[str, list[Callable[[], Backbone]]]:
    """How to load the models of each row, one at a time."""
    pairs = zip(args.tcl, args.ttd, strict=False)
    return {
        "frozen CLIP": [partial(fresh, args.base)],
        "TCL": [partial(loaded, file) for file in args.tcl],
        "TCL+TTD": [partial(loaded, *pair) for pair in pairs],
    }


def fresh(base: str) -> Backbone:
    """TCL before its first step: its maps are the base's own."""
    from core.backbones import load_backbone
    from core.tcl.model import tcl_from_clip

    say(f"{base}, before training")
    return tcl_from_clip(load_backbone(base))


def loaded(weights: str, lora: str | None = None) -> Backbone:
    """A checkpoint, with an adapter or without."""
    from core.backbones import load_backbone

    say(weights if lora is None else f"{weights} with {lora}")
    return load_backbone("TCL", weights=weights, lora=lora)


def scores(args: argparse.Namespace, items: Sequence[Item], backbone: Backbone) -> Row:
    """Of one model, fractions."""
    from core.evaluation.heldout import evaluate_heldout
    from core.tcl.evaluation import Segmentation
    from core.training.distributed import Ranks

    sets = Segmentation(settings(args, backbone.image_size))
    found = {**evaluate_heldout(backbone, items).numbers(), **sets.scores(backbone, Ranks())}
    row = {name: found[name] for name in COLUMNS}
    say("  ".join(f"{name} {100 * value:.1f}" for name, value in row.items()))
    return row


def settings(args: argparse.Namespace, image: int):
    """How mIoU is measured: the world's own set, images of the model's size, no PAMR."""
    from core.tcl.config import EvalConfig

    world = str(Path(args.root) / "world.yaml")
    return EvalConfig(sets=(world,), limit=args.limit, image=image, pamr=False)


def trivial(args: argparse.Namespace, items: Sequence[Item]) -> dict[str, list[Row]]:
    """What needs no model, by name."""
    import numpy as np

    from core.data.labels.dataset_checks import read_truth
    from core.data.labels.datasets import open_dataset
    from core.evaluation.heldout import baselines
    from core.metrics.segmentation import label_baselines

    data = open_dataset(str(Path(args.root) / "world.yaml"), args.root)
    shown = [item for item in data.items() if item.mask is not None][: args.limit]
    pixels = sum(np.bincount(read_truth(data, item).ravel(), minlength=256) for item in shown)
    labels = label_baselines(pixels[list(data.label_values)], data.label_names, data.background)
    held = baselines(items)
    rows: dict[str, list[Row]] = {}
    for (name, segmentation), kind in zip(labels.items(), held.word_map_iou, strict=True):
        word, caption = held.word_map_iou[kind], held.caption_iou[kind]
        rows[f"*{name}*"] = [
            {"miou": segmentation.means[0], "word_map_iou": word, "caption_iou": caption}
        ]
    rows["*every content word*"] = [{"pixel_f1": held.all_content_words.f1}]
    return rows


def draw(before: Backbone, after: Backbone, items: Sequence[Item], path: Path) -> None:
    """One image, chosen by the rule of tools/story.py, with the maps of two models."""
    from PIL import Image
    from story_parts import LEGEND, RULE, choose_picture, columns_of, look

    from core.evaluation.heldout import measure
    from core.plots.before_after import draw_before_after

    item = choose_picture(measure(before, items), measure(after, items))
    looks = [look(model, item) for model in (before, after)]
    panel = draw_before_after(item.image, item.text, columns_of(item, looks), legend=LEGEND)
    try:
        Image.fromarray(panel).save(path)
    except OSError as error:
        raise TTDError(f"{path}: cannot be written ({error.strerror or error})") from None
    say(f"{path}: {item.id}, {RULE}")


def table(rows: dict[str, list[Row]], images: int) -> str:
    """Markdown, percent."""
    head = f"| {images} images, percent | " + " | ".join([*COLUMNS.values(), "runs"]) + " |"
    lines = [head, "|---" * (len(COLUMNS) + 2) + "|"]
    for name, runs in rows.items():
        if runs:
            cells = [cell([one[key] for one in runs if key in one]) for key in COLUMNS]
            lines.append(f"| {name} | " + " | ".join([*cells, str(len(runs))]) + " |")
    return "\n".join(lines) + "\n"


def cell(values: Sequence[float]) -> str:
    """Mean and sample deviation of fractions, in percent; empty without values."""
    if not values:
        return ""
    spread = f" ± {100 * stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * mean(values):.1f}{spread}"


if __name__ == "__main__":
    run(main)
