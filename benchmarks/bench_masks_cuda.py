"""How fast a GPU makes masks from tags by protocol `ttd` with PAMR, against one view at a time.

    python benchmarks/bench_masks_cuda.py --device cuda     # ViT-B/16 and TCL, random weights
    python benchmarks/bench_masks_cuda.py --quick           # tiny on the CPU, a small image

A GPU is fast enough to run everything whole, so nothing is sampled as in `bench_masks.py`. The
reference is float32 with the published PAMR on all classes. Ours gets a resized image, as a job's
reading threads hand it over; resizing is timed apart. `towers` are the same batches again without
anything between; their share is that of a large bfloat16 product of matrices measured in this run.
Soft masks are compared in float32; labels are only counted, since random weights leave classes
close together.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import common
import gpu_measures
import mask_cases
import reference_masks
from common import run

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

CLASSES = (21, 171)
SURVIVING = 5  # classes that exceed the threshold somewhere
ALLOWED = 1e-3  # of a soft mask, in float32


@dataclass(frozen=True)
class Case:
    """A model, its protocol, an image and the FLOP/s of a large bfloat16 product."""

    name: str
    backbone: object
    used: object
    pixels: object
    peak: float
    args: argparse.Namespace


def get_args_parser() -> argparse.ArgumentParser:
    """The command line."""
    return common.parser(__doc__)


def main(argv: Sequence[str] | None = None) -> int:
    """Print a table per model."""
    args = common.start(get_args_parser(), argv)
    peak = gpu_measures.matmul_rate(args.device, "bfloat16", args.quick)
    tables, goals, figures = [], [], {}
    with tempfile.TemporaryDirectory() as folder:
        for name in ("tiny",) if args.quick else ("ViT-B-16", "TCL"):
            backbone = mask_cases.model(name, args.device, Path(folder))
            pixels = mask_cases.picture(mask_cases.QUICK_SIZE if args.quick else mask_cases.SIZE)
            case = Case(name, backbone, mask_cases.protocol_of(backbone, args), pixels, peak, args)
            tables.append(measure_model(case, goals, figures))
    common.save(args, tables, goals, figures)
    return 0


def measure_model(case: Case, goals: list[dict], figures: dict[str, float]) -> common.Table:
    """Both paths of one model, for each class count and number type."""
    import torch

    table = common.Table(
        f"{case.name}, classes, path", "time", "ratio", "images/s", "GPU busy", width=13
    )
    slow = {n: literal(case, n, table) for n in CLASSES}
    for dtype in ("float32", "bfloat16"):
        case.backbone.to(getattr(torch, dtype))
        for n in CLASSES:
            fast = ours(case, n, dtype, slow[n], table, figures)
            if dtype == "bfloat16":
                what = f"masks, {case.name}, {n} classes, bfloat16"
                goals.append(common.goal(what, 10, slow[n], fast))
        towers(case, dtype, table, goals, figures)
    figures[f"resize ms, {case.name}"] = 1000 * resize(case, table).seconds
    return table


def made_texts(case: Case, classes: int) -> Tensor:
    """Embeddings [N,D] of which `SURVIVING` exceed the threshold."""
    return mask_cases.texts(case.backbone, case.pixels, classes, min(classes, SURVIVING))


def literal(case: Case, classes: int, table: common.Table) -> common.Time:
    """The definition in float32, whole; checks that ours gives the same soft masks before PAMR."""
    text, found = made_texts(case, classes), []
    warm_up = int(classes == CLASSES[0])

    def work() -> None:
        maps = reference_masks.soft_masks(case.backbone, case.pixels, text, case.used)
        refined = reference_masks.refine(case.pixels, maps)
        found[:] = [maps, reference_masks.label_map(refined, case.used.background_threshold)]

    took = common.measure(torch_off(work), case.args, warm_up, rounds=1)
    own, labels = own_maps(case, text)
    difference = float((own - found[0]).abs().max())
    common.check(f"soft masks of {case.name}, {classes} classes", difference, ALLOWED)
    same = (labels == found[1].cpu().numpy()).mean()
    table.row(f"{classes} literal float32", took, "", "", "", f"{100 * same:.2f} % same labels")
    return took


def torch_off(work: Callable[[], None]) -> Callable[[], None]:
    """`work` without gradients."""
    import torch

    return torch.no_grad()(work)


def own_maps(case: Case, text: Tensor) -> tuple[Tensor, np.ndarray]:
    """Our soft masks [N, H, W] before PAMR, and our labels [H, W]."""
    from core.masks.merge import merge

    image = mask_cases.loaded(case.pixels, case.used)
    merged = merge(case.backbone, image.prepared, text, case.used)
    labels = mask_cases.ours_loaded(case.backbone, image, text, case.used)
    return merged.at_image_size(range(len(text))), labels


def ours(
    case: Case,
    classes: int,
    dtype: str,
    slow: common.Time,
    table: common.Table,
    figures: dict[str, float],
) -> common.Time:
    """A row of our path whole."""
    text, image = made_texts(case, classes), mask_cases.loaded(case.pixels, case.used)

    def work() -> None:
        mask_cases.ours_loaded(case.backbone, image, text, case.used)

    fast = common.measure(work, case.args, warm_up=2)
    busy, share = None, "unknown"
    if gpu_measures.is_cuda(case.args.device):
        busy = gpu_measures.gpu_busy(work)
    if busy is not None:
        share = f"{100 * busy:.0f} %"
    rate = f"{1 / fast.seconds:.1f}"
    table.row(f"{classes} ours {dtype}", fast, common.ratio(slow, fast), rate, share)
    figures[f"images/s, {case.name}, {classes} classes, {dtype}"] = 1 / fast.seconds
    figures[f"ratio, {case.name}, {classes} classes, {dtype}"] = slow.seconds / fast.seconds
    if busy is not None:
        figures[f"GPU busy, {case.name}, {classes} classes, {dtype}"] = busy
    return fast


def towers(
    case: Case, dtype: str, table: common.Table, goals: list[dict], figures: dict[str, float]
) -> None:
    """The image tower on the image's batches alone, and its share of the peak."""
    import torch

    batches = batches_of(case)
    encode = case.backbone.encode_pixels

    @torch.no_grad()
    def work() -> None:
        for batch in batches:
            encode(batch)

    took = common.measure(work, case.args, warm_up=2)
    count = common.flops(work)
    share = count / took.seconds / case.peak
    table.row(
        f"  towers {dtype}",
        took,
        "",
        "",
        "",
        f"{sum(map(len, batches))} windows, {count / took.seconds / 1e12:.1f} TFLOP/s, "
        f"{100 * share:.0f} % of the bfloat16 peak",
    )
    figures[f"share of bfloat16 peak, {case.name}, {dtype}"] = share
    if dtype == "bfloat16":
        goals.append(
            common.goal_share(f"towers' share of the bfloat16 peak, {case.name}", 0.4, share)
        )


def batches_of(case: Case) -> list[Tensor]:
    """The batches [B, 3, h, w] of windows that our path gives to the image tower."""
    seen, encode = [], case.backbone.encode_pixels
    case.backbone.encode_pixels = lambda images: seen.append(images) or encode(images)
    try:
        text = made_texts(case, CLASSES[0])
        image = mask_cases.loaded(case.pixels, case.used)
        mask_cases.ours_loaded(case.backbone, image, text, case.used)
    finally:
        del case.backbone.encode_pixels
    return seen


def resize(case: Case, table: common.Table) -> common.Time:
    """Resizing to all scales on one CPU thread: what reading threads do beside decoding."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        took = common.measure(lambda: mask_cases.loaded(case.pixels, case.used), case.args)
    finally:
        torch.set_num_threads(threads)
    table.row("  resizing, one CPU thread", took, "", f"{1 / took.seconds:.1f}")
    return took


if __name__ == "__main__":
    run(main)
