"""Training as users run it: steps/s, memory, and whether bfloat16 learns what float32 learns.

    python benchmarks/bench_training.py --device cuda                      # 100 steps of ViT-B/16
    python benchmarks/bench_training.py --model tiny --steps 20 --batch 16        # a CPU, minutes
    python benchmarks/bench_training.py --quick

The whole trainer runs on pairs of a world made for it (reading, decoding, both towers, loss, AdamW,
log), once for each number type with the same seed, so the same batches; the loss curves are printed
side by side. On a CPU once more with the subnormal numbers that `use_threads` does away with. Every
run has a process of its own. Weights of models other than `tiny` are random: cost and rounding are
those of trained ones, the loss and its subnormal gradients are not.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from pathlib import Path
from statistics import median

import common
import models
from common import run

CURVE = 10  # points of a loss curve that are printed


def get_args_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = common.parser(__doc__)
    models.add_model(parser, default="ViT-B-16")
    parser.add_argument(
        "--batch",
        type=common.positive_int,
        default=64,
        help="pairs of a step (default: %(default)s)",
    )
    parser.add_argument(
        "--steps", type=common.positive_int, default=100, help="of each run (default: %(default)s)"
    )
    parser.add_argument(
        "--workers",
        type=common.positive_int,
        default=2,
        help="reading threads (default: %(default)s)",
    )
    parser.add_argument(
        "--pairs", type=common.positive_int, default=2000, help="made for it (default: %(default)s)"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Train in float32 and in bfloat16; print rate, memory and both curves."""
    args = common.start(get_args_parser(), argv)
    if args.quick:
        args.model, args.batch, args.steps, args.pairs = "tiny", 4, 4, 24
    from core.world.writer import WorldConfig, make_world

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        os.environ["TTD_CACHE"] = folder  # the pairs' index goes with them
        size, workers = 224, common.cores()
        if args.model == "tiny":
            size = 96
        if args.quick:
            workers = 1
        make_world(root / "world", WorldConfig(train=args.pairs, val=0, size=size), workers=workers)
        arch = models.arch_of(args.model, root / "model")
        cases = {"float32": ("float32", True), "bfloat16": ("bfloat16", True)}
        if not args.device.startswith("cuda"):
            cases = {"float32, subnormal numbers kept": ("float32", False), **cases}
        logs, memory = {}, {}
        for name, case in cases.items():
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                logs[name], memory[name] = pool.submit(measured, arch, *case, root, args).result()
    speed, figures = common.Table("type", "pairs/s", "ratio", "steps/s", "memory"), {}
    first = None
    for name, log in logs.items():
        rate = median(
            row["pairs_per_s"] for row in log[1:] or log
        )  # the first row holds the warm-up
        first = first or rate
        speed.row(
            name,
            f"{rate:.1f}",
            f"{rate / first:.2f}x",
            f"{rate / args.batch:.2f}",
            common.megabytes(memory[name]),
        )
        figures |= {
            f"pairs/s with reading, {name}": rate,
            f"peak MB, {name}": memory[name] / 1e6,
            f"last loss, {name}": end_of(log),
        }
    gap = abs(figures["last loss, bfloat16"] / figures["last loss, float32"] - 1)
    figures["last loss, bfloat16 to float32, relative difference"] = gap
    goals = [
        common.goal_below(
            "loss after training, bfloat16 to float32, difference", 2, 100 * gap, " %"
        )
    ]
    common.save(args, [speed, curve_table(logs)], goals, figures)
    return 0


def end_of(log: Sequence[dict]) -> float:
    """Mean loss of the last tenth of a run: single batches differ more than number types do."""
    rows = log[-max(1, len(log) // 10) :]
    return sum(row["loss"] for row in rows) / len(rows)


def curve_table(logs: dict[str, list[dict]]) -> common.Table:
    """Both loss curves side by side, at `CURVE` points."""
    curves = common.Table("step", "float32", "bfloat16", "difference")
    pairs = list(zip(logs["float32"], logs["bfloat16"], strict=True))
    for one, other in pairs[:: max(1, len(pairs) // CURVE)]:
        curves.row(
            one["step"],
            f"{one['loss']:.4f}",
            f"{other['loss']:.4f}",
            f"{abs(one['loss'] - other['loss']):.4f}",
        )
    return curves


def measured(
    arch: str, dtype: str, flush: bool, root: Path, args: argparse.Namespace
) -> tuple[list[dict], int]:
    """`train` in this process, which is its own; the log, and bytes at the peak."""
    import torch

    from core.backbones.device import use_threads

    if flush:
        use_threads(args.threads)
    elif args.threads:
        torch.set_num_threads(args.threads)
    log = []
    memory = common.peak_memory(
        lambda: log.extend(train(arch, dtype, root / str(flush), root, args)), args.device
    )
    return log, memory


def train(arch: str, dtype: str, out: Path, root: Path, args: argparse.Namespace) -> list[dict]:
    """One run by the published loss with a frozen teacher; its log, one row per step."""
    from core.backbones import load_backbone
    from core.data.pairs import open_pairs
    from core.training.trainer import Trainer
    from core.ttd.config import DistillConfig, TTDConfig
    from core.ttd.task import TTDTask

    config = TTDConfig(
        arch=arch,
        root=str(root / "world"),
        steps=args.steps,
        batch=args.batch,
        dtype=dtype,
        workers=args.workers,
        log_every=1,
        checkpoint_every=args.steps,
        keep="last",
        out=str(out / dtype),
        device=args.device,
        distill=DistillConfig(teacher="frozen"),
    )
    backbone = load_backbone(arch, device=args.device)
    task = TTDTask(config, backbone, open_pairs(config.data, config.root))
    with closing(Trainer(task)) as trainer:
        trainer.run()
    lines = (out / dtype / "train_log.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if "loss" in row]


if __name__ == "__main__":
    run(main)
