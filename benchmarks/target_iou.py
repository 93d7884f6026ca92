"""How right are the targets that TTD would train on? IoU of true words' targets, by stretch.

    python benchmarks/target_iou.py --update docs/proof.md            # half a minute
    python benchmarks/target_iou.py --only TCL --limit 10             # a trial

For the models of configs/proof.yaml and images that choices may see (`dev`): the maps of every true
word before any training, as the masks that a user gets (cut at 0.40), and as what training would
pull them to, cut where a student that has reached it has a mask of 0.40. *Others* is the share of
the pixels of an image's other true words that a word's target takes along.
"""

from __future__ import annotations

import argparse
import math
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from common import ROOT, hardware, positive_int, run
from prove_ttd import Model, read_models, row
from torch import Tensor

from core.backbones.base import resize_maps, size_of
from core.errors import TTDError
from core.ttd.config import STRETCHES
from tools.doc_table import check, update

if TYPE_CHECKING:
    from core.backbones.base import Backbone
    from core.data.heldout import Item
    from core.ttd.config import DistillConfig

MARKS = ("<!-- targets: begin (benchmarks/target_iou.py --update) -->", "<!-- targets: end -->")
BEFORE = "masks before"
CUT = 0.40  # of soft masks, as everywhere in the project's tables


def get_args_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    default = ROOT / "configs" / "proof.yaml"
    add("--config", type=Path, default=default, metavar="YAML", help="the models and worlds")
    add("--only", nargs="+", metavar="MODEL", help="only these models")
    add("--limit", type=positive_int, default=50, metavar="N", help="images (default: 50)")
    add("--threads", type=positive_int, metavar="N", help="of torch")
    add("--update", type=Path, metavar="PAGE", help="put the table between this page's marks")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Print or store the table."""
    args = get_args_parser().parse_args(argv)
    if args.update:
        check(args.update, MARKS)
    if args.threads:
        torch.set_num_threads(args.threads)
    models = read_models(args.config, only=args.only)
    names = [f"{name}: IoU, others" for name in (BEFORE, *STRETCHES)]
    lines = [row("model", names), f"|---{'|---' * len(names)}|"]
    for name, model in models.items():
        found = measured(model, args.limit)
        cells = [f"{100 * iou:.1f}, {100 * others:.1f}" for iou, others in found.values()]
        lines.append(row(name, cells))
    command = shlex.join(["python", "benchmarks/target_iou.py", *(argv or sys.argv[1:])])
    text = "\n".join([f"`{command}`, {date.today()}, {hardware('cpu')}; percent.", "", *lines, ""])
    if args.update:
        update(args.update, MARKS, text)
    else:
        print(text, end="")
    return 0


def measured(model: Model, limit: int) -> dict[str, tuple[float, float]]:
    """Of the soft mask and each stretch: mean over true words of IoU and of `others`."""
    from core.backbones import load_backbone
    from core.data.heldout import load_heldout

    config = model.config(0, Path("."))
    backbone = load_backbone(config.arch, weights=config.weights)
    found: dict[str, list[tuple[float, float]]] = {}
    for item in load_heldout(model.dev, limit):
        for name, masks in word_masks(backbone, item, config.distill).items():
            pairs = zip(masks, item.masks, strict=True)
            found.setdefault(name, []).extend(overlap(*pair, item.masks) for pair in pairs)
    return {name: means(values) for name, values in found.items()}


@torch.no_grad()
def word_masks(backbone: Backbone, item: Item, config: DistillConfig) -> Mapping[str, np.ndarray]:
    """Masks bool [T, H, W] of an image's true words: the model's own, and targets by stretch."""
    from core.predictor.images import to_tensor
    from core.refine.pamr import PAMR
    from core.ttd.calibration import Choice
    from core.ttd.embedding import embed, gather_texts, similarity_maps
    from core.ttd.targets import make_targets

    image = to_tensor(item.image)
    pixels, texts = backbone.normalize(image), gather_texts([" ".join(item.tags)])
    if texts.index.shape[1] != len(item.tags):
        raise TTDError(f"{item.id}: tags of one word each are wanted, these are {item.tags}")
    base = embed(backbone, pixels, texts, pooled=config.calibrated)
    mask = (backbone.mask_scale, backbone.mask_bias)
    soft = backbone.soft_mask(similarity_maps(base, texts).words)
    everything = Choice(texts.valid, torch.zeros(texts.valid.shape), texts.foreign)
    # sigmoid(sharpness a (S - b)) of the student, where its mask sigmoid(a (S - b)) is CUT.
    reached = 1 / (1 + math.exp(-config.sharpness * math.log(CUT / (1 - CUT))))
    found = {BEFORE: at_full_size(soft, image) > CUT}
    for how in STRETCHES:
        settings = replace(config, stretch=how)
        targets = make_targets(
            base, texts, settings, mask, choice=everything, images=pixels, pamr=PAMR()
        )
        found[how] = at_full_size(targets.words, image) > reached
    return {name: values.numpy() for name, values in found.items()}


def at_full_size(maps: Tensor, image: Tensor) -> Tensor:
    """Maps [1, T, h, w] at the size of image [1, 3, H, W]: [T, H, W]."""
    return resize_maps(maps, size_of(image))[0]


def overlap(found: np.ndarray, truth: np.ndarray, every: np.ndarray) -> tuple[float, float]:
    """IoU of two masks bool [H, W]; the share of the others' pixels, of `every` [T, H, W], found.

    No others: no number.
    """
    others = every.any(0) & ~truth
    union = (found | truth).sum()
    iou = float((found & truth).sum() / union) if union else 1.0
    return iou, float(found[others].mean()) if others.any() else math.nan


def means(values: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Of IoUs, and of the shares that are numbers."""
    ious, shares = np.array(values).T
    return float(ious.mean()), float(np.nanmean(shares))


if __name__ == "__main__":
    run(main)
