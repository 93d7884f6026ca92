"""What two training jobs at once do to each other on the CPU: goal, no more than their share.

    python benchmarks/bench_two_jobs.py
    python benchmarks/bench_two_jobs.py --quick

A TTD training of `tiny` alone, and two of them at the same time, each with as many threads as torch
takes. With libgomp's own waiting, and with what every script sets (`tools/cli.py`): its
threads wait for the others of a loop in a busy loop of 300,000 rounds, while the one they wait for
has no processor, as the other job's threads wait on it in the same way.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median
from unittest.mock import patch

import bench_training
import common
from cli import SPIN_ROUNDS
from common import run

LIBGOMP = "300000"  # its default where OMP_WAIT_POLICY is not set
WARM_UP = 2  # steps


def get_args_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = common.parser(__doc__, rounds=2)
    parser.add_argument(
        "--steps", type=common.positive_int, default=12, help="of each run (default: %(default)s)"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Print one table: pairs/s of each job."""
    args = common.start(get_args_parser(), argv)
    args.batch, args.workers = 16, 2
    args.steps = max(args.steps, WARM_UP + 1)
    if args.quick:
        args.batch, args.steps = 2, 3
    from core.world.writer import WorldConfig, make_world

    table = common.Table("threads wait", "alone", "each of two", "slower", "both / alone")
    slower = 0.0
    # The environment is as before when this ends; the pairs' index goes with the pairs.
    with tempfile.TemporaryDirectory() as folder, patch.dict(os.environ, {"TTD_CACHE": folder}):
        root = Path(folder)
        make_world(root / "world", WorldConfig(train=40 * args.batch, val=0), workers=1)
        rates: dict[str, list[list[float]]] = {SPIN_ROUNDS: []}
        if not args.quick:
            rates = {LIBGOMP: [], **rates}
        for number in range(args.rounds):  # in turns: a slow spell of the machine hits all
            for spins, found in rates.items():
                os.environ["GOMP_SPINCOUNT"] = spins  # read when a process loads torch
                name = f"{number}-{spins}"
                found.append([together(jobs, root, f"{name}-{jobs}", args) for jobs in (1, 2)])
    for spins, found in rates.items():
        alone, both = (median(one[i] for one in found) for i in (0, 1))
        slower = alone / both
        table.row(
            f"{int(spins):,} rounds",
            f"{alone:.1f}",
            f"{both:.1f}",
            f"{slower:.1f}x",
            f"{2 * both / alone:.2f}",
        )
    goal = common.goal_below("two training jobs at once, tiny: each slower", 2.2, slower, "x")
    common.save(args, [table], [goal])
    return 0


def together(jobs: int, root: Path, name: str, args: argparse.Namespace) -> float:
    """Pairs/s of each of `jobs` trainings that start together; their mean."""
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        running = [pool.submit(rate, root, f"{name}-{job}", args) for job in range(jobs)]
        return sum(one.result() for one in running) / jobs


def rate(root: Path, name: str, args: argparse.Namespace) -> float:
    """Pairs/s of one training in this process, which is its own."""
    from core.backbones.device import use_threads

    use_threads(args.threads)
    rows = bench_training.train("tiny", args.dtype, root / name, root, args)
    return median(row["pairs_per_s"] for row in rows[WARM_UP:])


if __name__ == "__main__":
    run(main)
