"""How costs grow: time and memory with images, resizing and PAMR with surviving classes.

    python benchmarks/bench_growth.py
    python benchmarks/bench_growth.py --quick

No reference: time should be linear and memory flat, so the last columns should stay the same.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial

import bench_masks
import common
from common import run

SMALL = (96, 128)
CLASSES, SURVIVING = 21, 5
COUNTS, QUICK_COUNTS = (4, 8, 16), (2, 4)


def get_args_parser() -> argparse.ArgumentParser:
    """The command line."""
    return common.parser(__doc__)


def main(argv: Sequence[str] | None = None) -> int:
    """Print two tables."""
    args = common.start(get_args_parser(), argv)
    common.save(args, [growth_in_images(args), growth_in_classes(args)])
    return 0


def growth_in_images(args: argparse.Namespace) -> common.Table:
    """Time and memory of 2, 4, 8 ... images with `tiny`."""
    table = common.Table("growth with images", "time", "per image", "peak memory")
    backbone = bench_masks.tiny(args.device, args.dtype)
    used = bench_masks.protocol_of(backbone, args)
    pixels = bench_masks.picture(SMALL)
    text = bench_masks.texts(backbone, pixels, CLASSES, SURVIVING)
    bench_masks.ours(backbone, pixels, text, used)
    for count in QUICK_COUNTS if args.quick else COUNTS:
        work = partial(repeat, count, backbone, pixels, text, used)
        took = common.Time(common.once(work))
        memory = common.megabytes(common.peak_memory(work, args.device))
        table.row(f"{count} images", took, common.Time(took.seconds / count), memory)
    return table


def repeat(count: int, *case) -> None:
    """Our path `count` times."""
    for _ in range(count):
        bench_masks.ours(*case)


def growth_in_classes(args: argparse.Namespace) -> common.Table:
    """Time of resizing and PAMR against the number of classes that survive, of 171."""
    import torch

    from core.maps.sliding import Layer, Merged
    from core.maps.windows import bilinear
    from core.masks.labels import decide
    from core.refine.pamr import PAMR

    size, classes = bench_masks.SIZE, 171
    if args.quick:
        size, classes = SMALL, 40
    backbone = bench_masks.tiny(args.device, "float32")
    used = bench_masks.protocol_of(backbone, args)
    rows, cols = (bilinear(length, length // 8).float().to(args.device) for length in size)
    pamr = PAMR(pictures=bench_masks.MANY)
    table = common.Table("growth with survivors", "time", "per class")
    for kept in (1, 2, 5, 10, 20, 40):
        maps = torch.rand(classes, rows.shape[1], cols.shape[1], device=args.device) * 0.5
        maps[:kept] += 0.5
        merged, pixels = Merged([Layer(maps, rows, cols)], size), bench_masks.picture(size)
        took = common.measure(lambda m=merged, p=pixels: decide(m, p, used, pamr=pamr), args)
        table.row(f"{kept} of {classes}", took, common.Time(took.seconds / kept))
    return table


if __name__ == "__main__":
    run(main)
