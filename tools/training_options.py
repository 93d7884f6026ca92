"""The options of every train_*.py, as parent parsers."""

from __future__ import annotations

import argparse


def common_options() -> argparse.ArgumentParser:
    """Parent parser with what says where settings come from and what becomes of the run.

    Scripts set `argument_default=argparse.SUPPRESS`: what is not given is not in the namespace.
    """
    parser = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    parser.add_argument("--config", metavar="YAML", help="settings, such as configs/ttd_tiny.yaml")
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        metavar="KEY=VALUE",
        help="any setting by its name in YAML, such as distill.anchor=frozen",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="say what the run would do, time three steps, write nothing",
    )
    parser.add_argument(
        "--trust-inputs",
        action="store_true",
        help="take captions and images for unchanged since the run began, without a look",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="remove the run of other settings that is in --out"
    )
    return parser


def run_options() -> argparse.ArgumentParser:
    """Parent parser with the settings of `RunConfig` that have a flag."""
    parser = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    group = parser.add_argument_group("optimization")
    _number(group, "--steps", "N", "updates")
    _number(group, "--batch", "N", "samples per update, over all processes")
    _number(group, "--grad-accum-steps", "N", "micro-batches of a process's share of the batch")
    group.add_argument("--lr", type=float, help="peak learning rate")
    group.add_argument(
        "--no-scale-lr",
        action="store_true",
        help="keep the recipe's learning rate with another --batch (default: in proportion to it)",
    )
    _number(group, "--warmup", "N", "steps of linear warm-up")
    group.add_argument(
        "--grad-clip", type=float, metavar="NORM", help="largest norm of the gradient"
    )
    group.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "float16", "auto"),
        help="of the towers' products; parameters are float32. auto: bfloat16 where it is fast",
    )
    group.add_argument("--seed", type=int)
    _old_names(group)
    _place_options(parser.add_argument_group("run"))
    return parser


def _place_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--out", metavar="FOLDER", help="the run's folder (default: runs/NAME)")
    group.add_argument("--tag", metavar="NAME", help="name of the finished file")
    group.add_argument(
        "--device", metavar="DEVICE", help="cpu or cuda:N (default: CUDA where there is one)"
    )
    group.add_argument(
        "--gpus", nargs="+", metavar="N", help="the same as --device cuda:N; several need torchrun"
    )
    _number(group, "--threads", "N", "CPU threads; other numbers round differently")
    _number(group, "--workers", "N", "threads that read samples, in each process")
    _number(group, "--eval-every", "STEPS", "score the held-out set every so many steps")
    _number(group, "--checkpoint-every", "STEPS", "store the state every so many steps")
    _number(group, "--log-every", "STEPS", "log every so many steps")


def _number(group: argparse._ArgumentGroup, name: str, metavar: str, text: str) -> None:
    group.add_argument(name, type=int, metavar=metavar, help=text)


def _old_names(group: argparse._ArgumentGroup) -> None:
    """Flags that were renamed, accepted for one release."""
    for old, new, kind in (
        ("--accumulate", "grad_accum_steps", int),
        ("--clip", "grad_clip", float),
    ):
        group.add_argument(old, dest=new, type=kind, help=argparse.SUPPRESS)
