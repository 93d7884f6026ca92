"""Averaging gradients over processes: one flat vector, buckets, or a call for every tensor.

    torchrun --standalone --nproc_per_node 2 benchmarks/bench_reduce.py
    torchrun --standalone --nproc_per_node 8 benchmarks/bench_reduce.py --device cuda

Shapes of TTD's adapter on CLIP ViT-B/16 (rank 8) and of a grounding model of 21 M parameters.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from statistics import median

import common
from common import run

ROUNDS = 9
BLOCK = ((1536, 512), (1536,), (512, 512), (512,), (2048, 512), (2048,), (512, 2048), (512,))
SHAPES = {
    "adapter": [(8, 512), (512, 8)] * 72 + [(8, 768), (768, 8)] * 60,
    "grounding": [(512, 3072), (275, 512), (512, 512), (512, 512), *(BLOCK * 6)],
}


def get_args_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Print the median time of each way, in the first process."""
    import torch

    from core.training.distributed import BUCKET, joined, local_rank

    args = get_args_parser().parse_args(argv)
    device = args.device if args.device == "cpu" else f"{args.device}:{local_rank()}"
    rows = []
    with joined(device) as ranks:
        for name, shapes in SHAPES.items():
            tensors = [torch.randn(shape, device=device) for shape in shapes]
            sizes = {"flat": 2**62, "buckets": BUCKET, "each": 1}
            ways = {way: _averager(ranks, tensors, size) for way, size in sizes.items()}
            times = timed(ways, device)
            count = sum(tensor.numel() for tensor in tensors)
            rows.append([name, f"{count:,}", *(f"{1e3 * time:.1f} ms" for time in times.values())])
    if ranks.first:
        table = common.Table("gradients", "number", "flat", f"{BUCKET >> 20} MB buckets", "each")
        for row in rows:
            table.row(*row)
    return 0


def _averager(ranks, tensors, size) -> Callable[[], None]:
    return lambda: ranks.average(tensors, bucket=size)


def timed(ways: dict[str, Callable[[], None]], device: str) -> dict[str, float]:
    """Median seconds of each way, taken in turns."""
    import torch

    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, work in ways.items():
            start = time.perf_counter()
            work()
            if device != "cpu":
                torch.cuda.synchronize(device)
            times[name].append(time.perf_counter() - start)
    return {name: median(values) for name, values in times.items()}


if __name__ == "__main__":
    run(main)
