"""Boxes for phrases: one image and one phrase at a time, against each image once for all phrases.

    python benchmarks/bench_grounding.py                        # ViT-B/16 of random weights, CPU
    python benchmarks/bench_grounding.py --model tiny
    python benchmarks/bench_grounding.py --device cuda --images 64     # also batch 1 against 64

Reference: the published forward pass, towers for every pair, 77 text tokens, every token in every
layer. Ours: the same boxes (checked) from towers that run once per image, text cut to the longest
phrase, and a last layer for the box token alone.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import common
import models
from common import positive_int, run

PHRASES = (
    "the woman in red on the left",
    "dog",
    "the biggest car behind the tree",
    "a blue umbrella",
    "man holding a phone next to the door",
)
TOLERANCE = 1e-4  # of boxes in shares of the canvas


def get_args_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = common.parser(__doc__)
    parser.add_argument(
        "--model",
        default="ViT-B-16-quickgelu",
        metavar="NAME",
        help="open_clip's name (random weights), tiny or local-dir:FOLDER (default: %(default)s)",
    )
    parser.add_argument(
        "--images", type=positive_int, default=4, help="images (default: %(default)s)"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Print one table."""
    args = common.start(get_args_parser(), argv)
    args.dtype = "float32"  # as published behind the towers; boxes are compared
    model = "tiny" if args.quick else args.model
    count = 2 if args.quick else args.images
    with tempfile.TemporaryDirectory() as place:
        given = model == "tiny" or ":" in model
        arch = model if given else models.random_clip(model, Path(place) / "m")
        grounder, views = prepare(arch, count, args.device)
    few = views[: max(1, count // 4)]
    slow = common.measure(lambda: literal(grounder, few), args).times(count / len(few))
    fast = common.measure(lambda: ours(grounder, views, count), args)
    single = common.measure(lambda: ours(grounder, views, 1), args)
    difference = literal(grounder, few) - ours(grounder, few, len(few))
    common.check("boxes", float(difference.abs().max()), TOLERANCE)
    table = common.Table(f"{model}, {count} images x {len(PHRASES)} phrases", "time", "ratio")
    table.row("reference", slow, "")
    table.row("ours, an image at a time", single, common.ratio(slow, single))
    table.row(f"ours, {count} images at a time", fast, common.ratio(slow, fast))
    goals = [common.goal(f"boxes for {len(PHRASES)} phrases an image, {model}", 3.0, slow, fast)]
    common.save(args, [table], goals)
    return 0


def prepare(arch: str, count: int, device: str):
    """A grounding model of random weights, and views of images of noise."""
    import numpy as np
    import torch

    from core.backbones import load_backbone
    from core.data.grounding_view import view
    from core.grounding.model import GroundingModel, model_config
    from core.grounding.predict import Grounder

    torch.manual_seed(0)
    backbone = load_backbone(arch, device="cpu")
    backbone.tokenize(list(PHRASES))  # while the folder is there
    model = GroundingModel(backbone, model_config(backbone), train_visual_pos=False).to(device)
    draw = np.random.default_rng(0)
    images = [draw.integers(0, 256, (240, 320, 3)).astype(np.uint8) for _ in range(count)]
    return Grounder(model), [view(image, model.config.image_size) for image in images]


def literal(grounder, views):
    """Every pair by itself, every token in every layer: cxcywh [images * phrases, 4]."""
    import torch

    from core.grounding.model import patch_mask

    model, boxes = grounder.model, []
    with torch.inference_mode():
        for seen in views:
            for phrase in PHRASES:
                pixels = seen.image[None].to(grounder.device)
                ignored = patch_mask(seen.ignored[None].to(grounder.device), model.backbone.patch)
                tokens = model.backbone.tokenize([phrase])
                visual, text = model.encode_images(pixels), model.encode_texts(tokens)
                x = torch.cat([model.reg_token.weight[None], text, visual], 1)
                seen_by_all = ignored.new_zeros(1, 1)
                first = ignored.new_zeros(1, visual.shape[1] - ignored.shape[1])
                mask = torch.cat([seen_by_all, tokens == 0, first, ignored], 1)
                for layer in model.vl_transformer.encoder.layers:
                    x, _ = layer(x, model.vl_pos_embed.weight, mask, x.shape[1])
                boxes.append(model.bbox_embed(x[:, 0]))
    return torch.cat(boxes).cpu()


def ours(grounder, views, batch: int):
    """The same, `batch` images at a time."""
    import torch

    boxes = []
    for start in range(0, len(views), batch):
        part = views[start : start + batch]
        owners = [owner for owner in range(len(part)) for _ in PHRASES]
        images = grounder.encode_views(part)
        boxes.append(grounder.locate_on_canvas(images, list(PHRASES) * len(part), owners))
    return torch.cat(boxes).cpu()


if __name__ == "__main__":
    run(main)
