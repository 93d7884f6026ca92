"""What the device can do at best: copies, matrix products, uploads, launches.

python benchmarks/bench_ceilings.py --device cuda
python benchmarks/bench_ceilings.py --quick
"""

import argparse
from collections.abc import Sequence

import common
import gpu_measures
from common import run

TYPES = ("float32", "bfloat16")


def get_args_parser() -> argparse.ArgumentParser:
    """The command line."""
    return common.parser(__doc__)


def main(argv: Sequence[str] | None = None) -> int:
    """Print one table."""
    args = common.start(get_args_parser(), argv)
    table, figures = common.Table("what", "rate"), {}
    for what, value in ceilings(args):
        table.row(what, f"{value:.3g}")
        figures[what] = value
    common.save(args, [table], figures=figures)
    return 0


def ceilings(args: argparse.Namespace) -> list[tuple[str, float]]:
    """(what in which unit, value)."""
    rows = [("copy, GB/s read and written", gpu_measures.copy_rate(args.device, args.quick) / 1e9)]
    rows += [
        (
            f"matrix product {dtype}, TFLOP/s",
            gpu_measures.matmul_rate(args.device, dtype, args.quick) / 1e12,
        )
        for dtype in TYPES
    ]
    rows.append(("a launch, us", 1e6 * gpu_measures.launch_seconds(args.device)))
    if gpu_measures.is_cuda(args.device):
        rows += [
            (
                f"upload {'pinned' if pinned else 'pageable'}, GB/s",
                gpu_measures.upload_rate(args.device, pinned, args.quick) / 1e9,
            )
            for pinned in (False, True)
        ]
    return rows


if __name__ == "__main__":
    run(main)
