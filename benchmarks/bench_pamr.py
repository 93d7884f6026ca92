"""How fast PAMR is, against its published form, which gathers neighbours by convolutions.

    python benchmarks/bench_pamr.py          # 21 classes 375x500, 150 classes 512x683, CPU
    python benchmarks/bench_pamr.py --device cuda
    python benchmarks/bench_pamr.py --quick

Both get the same random image and maps, the same threads, float32, 10 iterations. Of the
published form the weights and one iteration are run, on as many classes as make 0.8 GB, and
multiplied ("scaled"). The last table shows what a class and a pixel more cost.
"""

import argparse
from collections.abc import Sequence
from typing import Any, NamedTuple

import common
import gpu_measures
import reference_pamr
from common import run

# classes, height, width: PASCAL VOC's, ADE20K's, and a window of TCL's
SIZES = ((21, 375, 500), (150, 512, 683), (21, 448, 448))
QUICK = ((8, 48, 64),)
GROWTH = (1, 3, 5, 10, 21, 42)  # classes
GATHERED = 800_000_000  # bytes of one [N, 48, H, W] of the reference, at most
TOLERANCE = 1e-5
ITERATIONS = 10
MANY = 10**6  # images of a job that is worth compiling a kernel for


def get_args_parser() -> argparse.ArgumentParser:
    """The command line."""
    return common.parser(__doc__)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables."""
    args = common.start(get_args_parser(), argv)
    table = common.Table(
        "classes x image, path", "time", "ratio", "peak memory", "smaller", "difference", width=15
    )
    args.copy_rate = gpu_measures.copy_rate(args.device, args.quick)
    figures: dict[str, float] = {}
    sizes = SIZES
    if args.quick:
        sizes = QUICK
    goals = []
    for size in sizes:
        goals += compare(size, args, table, figures)
    common.save(args, [table, growth(sizes[0], args)], goals, figures)
    return 0


def compare(
    size: tuple[int, int, int],
    args: argparse.Namespace,
    table: common.Table,
    figures: dict[str, float],
) -> list[dict]:
    """The published form and every path of ours for one size, a row each; the goals, met or not."""
    import torch

    classes, height, width = size
    image, mask = example(size, args.device)
    name = f"{classes} x {height}x{width}"
    part = max(1, min(classes, GATHERED // (4 * 48 * height * width)))
    alpha = reference_pamr.weights(image)
    # cuDNN's first call of a shape takes longer than the rest.
    warm_up = int(args.device.startswith("cuda"))
    step = common.measure(
        lambda: reference_pamr.iterate(alpha, mask[:, :part], 1), args, warm_up, rounds=1
    )
    start = common.measure(lambda: reference_pamr.weights(image), args, warm_up, rounds=1)
    slow = common.Time(ITERATIONS * step.seconds * classes / part + start.seconds, scaled=True)
    memory = common.peak_memory(lambda: reference_pamr.pamr(image, mask[:, :part], 1), args.device)
    memory = memory * classes // part  # nearly all of it is [N, 48, H, W]
    shown = common.megabytes(memory) + " scaled" * (part < classes)
    table.row(f"{name} published", slow, "", shown)
    few = mask[:, : min(part, 4)]
    published = Published(slow, memory, reference_pamr.pamr(image, few))
    goals = []
    for pamr in paths(image, classes):
        goals += compare_path(
            pamr, size, (image, mask), published, args, table=table, figures=figures
        )
    if args.device.startswith("cuda"):
        torch.cuda.empty_cache()
    return goals


class Published(NamedTuple):
    """What the published form took for one size, and the maps of its first classes."""

    time: common.Time
    memory: int  # bytes
    maps: Any  # float [1, few, H, W]


def compare_path(
    pamr,
    size: tuple[int, int, int],
    inputs: tuple[Any, Any],
    published: Published,
    args: argparse.Namespace,
    *,
    table: common.Table,
    figures: dict[str, float],
) -> list[dict]:
    """One of our paths against the published form, three rows; its goals, met or not."""
    classes, height, width = size
    image, mask = inputs
    name, way = f"{classes} x {height}x{width}", pamr.path(image.device, classes)
    fast = common.measure(lambda: pamr(image, mask), args)
    memory = max(common.peak_memory(lambda: pamr(image, mask), args.device), 1e6)
    smaller = published.memory / memory
    few = mask[:, : published.maps.shape[1]]
    difference = float((pamr(image, few) - published.maps).abs().max())
    common.check(f"PAMR of {size}, {way}", difference, TOLERANCE)
    table.row(
        f"{name} {way}",
        fast,
        common.ratio(published.time, fast),
        common.megabytes(memory),
        f"{smaller:.0f}x",
        f"{difference:.0e}",
    )
    weights = pamr.weights(image, classes)
    rest = common.measure(lambda: pamr.refine(weights, mask), args)
    start = common.measure(lambda: pamr.weights(image, classes), args)
    table.row("  of which weights", start)
    table.row("  10 iterations", rest, *[""] * 4, floor(size, rest, args, ITERATIONS))
    share = seconds_of_floor(size, args, ITERATIONS) / rest.seconds
    figures |= {
        f"ms, {name}, {way}": 1000 * fast.seconds,
        f"ratio, {name}, {way}": published.time.seconds / fast.seconds,
        f"share of the copy's rate, {name}, {way}": share,
    }
    goals = [
        common.goal(f"PAMR, {name}, {way}", least_ratio(way, args.device), published.time, fast),
        {
            "what": f"PAMR's memory, {name}, {way}",
            "goal": ">= 20x less",
            "got": f"{smaller:.1f}x",
            "met": smaller >= 20,
        },
    ]
    if way == "fused":
        floor_goal = common.goal_share(f"PAMR's share of the bandwidth floor, {name}", 0.5, share)
        goals.insert(0, floor_goal)
    return goals


def least_ratio(way: str, device: str) -> int:
    """How many times faster than the published form a path has to be."""
    if device.startswith("cuda"):
        return 10
    if way == "native":
        return 50
    return 8


def paths(image, classes: int):
    """A `PAMR` for one image, and one for a long job where a compiler gives that another path."""
    from core.refine.pamr import PAMR

    both = [PAMR(ITERATIONS, pictures=pictures) for pictures in (1, MANY)]
    return both[: len({pamr.path(image.device, classes) for pamr in both})]


def floor(
    size: tuple[int, int, int], took: common.Time, args: argparse.Namespace, num_iter: int
) -> str:
    """How near the iterations come to reading weights and maps and writing maps once each."""
    classes, height, width = size
    operations = num_iter * 2 * 48 * classes * height * width
    least = seconds_of_floor(size, args, num_iter)
    rate, moved = operations / took.seconds / 1e9, bytes_of_floor(size, num_iter) / 1e9
    return (
        f"{rate:.0f} GFLOP/s; {moved:.2f} GB at the speed of a copy are {common.Time(least)}: "
        f"{100 * least / took.seconds:.0f} % of that floor"
    )


def bytes_of_floor(size: tuple[int, int, int], num_iter: int) -> int:
    """Weights read, maps read and written, once an iteration."""
    classes, height, width = size
    return num_iter * 4 * height * width * (48 + 2 * classes)


def seconds_of_floor(size: tuple[int, int, int], args: argparse.Namespace, num_iter: int) -> float:
    """The time of moving that at the speed of a copy."""
    return bytes_of_floor(size, num_iter) / args.copy_rate


def growth(size: tuple[int, int, int], args: argparse.Namespace) -> common.Table:
    """Time against the number of classes, with one set of weights, and of pixels."""
    table = common.Table("iterations alone", "path", "time", "per class, MP")
    for classes, height, width in [(n, *size[1:]) for n in GROWTH] + [
        (size[0], 2 * size[1], size[2])
    ]:
        image, mask = example((classes, height, width), args.device)
        pamr = paths(image, classes)[-1]
        weights = pamr.weights(image, classes)
        took = common.measure(lambda p=pamr, w=weights, m=mask: p.refine(w, m), args)
        each = common.Time(took.seconds / classes / (height * width / 1e6))
        table.row(f"{classes} x {height}x{width}", pamr.path(image.device, classes), took, each)
    return table


def example(size: tuple[int, int, int], device: str):
    """A random image [1, 3, H, W] and maps [1, N, H, W]; smooth, with edges, as images are."""
    import torch
    import torch.nn.functional as F

    classes, height, width = size
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 9, 12, generator=generator)
    image = F.interpolate(coarse, size=(height, width)) + 0.05 * torch.rand(
        1, 3, height, width, generator=generator
    )
    return image.to(device), torch.rand(1, classes, height, width, generator=generator).to(device)


if __name__ == "__main__":
    run(main)
