"""Train TTD: fine-tune a CLIP-like model with image-text pairs alone, so that a caption lights up all that it names.

    python train_ttd.py --config configs/ttd_tiny.yaml                                      # the tiny model, on the CPU
    python train_ttd.py --data cc3m+cc12m --arch TCL --scales 1.0 --tag "TCL+TTD"           # one GPU
    torchrun --nproc_per_node 8 train_ttd.py --data cc3m+cc12m --arch TCL                   # one machine, 8 GPUs
    torchrun --nnodes 2 --node_rank 0 --nproc_per_node 8 --master_addr HOST --master_port 29500 \\
        train_ttd.py --data cc3m+cc12m --arch TCL                       # two machines; --node_rank 1 on the second

--data: sets ROOT/NAME/train/{image,json} by name, or a folder, JSONL list or webdataset shards,
joined by "+". Flags win over --config; without it, TCL, CLIP and tiny take configs/ttd_ARCH.yaml.
--batch is that of the whole run: any number of processes trains the same. The same command goes on
where it was stopped, by Ctrl-C or `kill -9`.
Everything else: docs/training.md
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import TTDError
from tools.cli import choose_device, run, say

if TYPE_CHECKING:
    from core.data.pairs import Pairs
    from core.training.distributed import Ranks
    from core.training.trainer import Evaluate, Outcome, Trainer
    from core.ttd.config import TTDConfig

RECIPES = {
    "TCL": "ttd_tcl.yaml",
    "CLIP": "ttd_clip.yaml",
    "MaskCLIP": "ttd_clip.yaml",
    "tiny": "ttd_tiny.yaml",
}
CONFIGS = Path(__file__).parent / "configs"


def get_args_parser() -> argparse.ArgumentParser:
    """The command line. A setting's flag is named as in YAML but for `_`; what is not given is not in the namespace."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("--config", metavar="YAML", help="settings, such as configs/ttd_tiny.yaml")
    parser.add_argument(
        "--set",
        nargs="+",
        metavar="KEY=VALUE",
        help="any setting by its name in YAML, such as distill.anchor=frozen distill.anchor_weight=0.1",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="remove the run of other settings that is in --out"
    )
    parser.add_argument(
        "--reindex", action="store_true", help="read all captions anew; needed after editing some"
    )
    _data_options(parser.add_argument_group("data"))
    _model_options(parser.add_argument_group("model and adapter"))
    _loss_options(parser.add_argument_group("loss"))
    _run_options(parser.add_argument_group("run"))
    return parser


def _data_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--data", metavar="SETS", help="training pairs, such as cc3m+cc12m")
    group.add_argument("--root", metavar="FOLDER", help="where the sets are (default: ../)")
    group.add_argument(
        "--pruned",
        nargs="+",
        metavar="LIST",
        help="ids to keep, of tools/prune_pairs.py: one list for "
        "all sets, or one for each (none: keep all)",
    )
    group.add_argument("--limit", type=int, metavar="N", help="only the first N pairs")
    group.add_argument(
        "--image", type=int, metavar="PIXELS", help="side of the images (default: the model's own)"
    )
    group.add_argument(
        "--scales", type=float, nargs="+", metavar="S", help="one of these is drawn for every step"
    )
    group.add_argument(
        "--workers", type=int, metavar="N", help="threads that read images, in each process"
    )


def _model_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--arch", metavar="NAME", help="CLIP, TCL, tiny, or another that README.md names"
    )
    group.add_argument(
        "--weights", metavar="FILE", help="base weights instead of those the name stands for"
    )
    group.add_argument("--head", metavar="HEAD", help="dense head (default: the model's own)")
    group.add_argument(
        "--lora-rank", dest="lora.rank", type=int, metavar="R", help="rank of the adapter"
    )
    group.add_argument(
        "--lora-alpha", dest="lora.alpha", type=float, metavar="A", help="its scale is A / R"
    )
    group.add_argument(
        "--lora-targets",
        dest="lora.targets",
        nargs="+",
        metavar="LINEAR",
        help="linears it sits on, such as q_proj v_proj (default: all that get a gradient)",
    )
    group.add_argument(
        "--encoders",
        dest="lora.encoders",
        choices=("text", "image", "both"),
        help="which are trained",
    )


def _loss_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--teacher",
        dest="distill.teacher",
        choices=("current", "ema", "frozen"),
        help="whose maps are the targets",
    )
    group.add_argument(
        "--distance", dest="distill.distance", choices=("l1", "mse", "bce"), help="d of the loss"
    )
    group.add_argument(
        "--lambda", dest="distill.tag_weight", type=float, metavar="L", help="weight of L_tag"
    )
    group.add_argument("--lr", type=float, help="peak learning rate")
    group.add_argument("--steps", type=int, metavar="N", help="updates")
    group.add_argument(
        "--batch", type=int, metavar="N", help="pairs per update, over all processes"
    )
    group.add_argument(
        "--accumulate",
        type=int,
        metavar="N",
        help="parts a process cuts its share of the batch into",
    )
    group.add_argument("--warmup", type=int, metavar="N", help="steps of linear warm-up")
    group.add_argument("--clip", type=float, metavar="NORM", help="largest norm of the gradient")
    group.add_argument("--seed", type=int)


def _run_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--out", metavar="FOLDER", help="the run's folder (default: runs/NAME)")
    group.add_argument(
        "--tag", metavar="NAME", help="name of the finished adapter (default: ARCH+TTD)"
    )
    group.add_argument("--peft", action="store_true", help="write it as a PEFT folder too")
    group.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        help="of the towers' products; the rest is float32",
    )
    group.add_argument(
        "--device", metavar="DEVICE", help="cpu or cuda:N (default: CUDA where there is one)"
    )
    group.add_argument(
        "--gpus", nargs="+", metavar="N", help="the same as --device cuda:N; several need torchrun"
    )
    group.add_argument(
        "--threads", type=int, metavar="N", help="CPU threads; other numbers round differently"
    )
    group.add_argument(
        "--eval-root", metavar="FOLDER", help="held-out set in the layout of CC3M-TagMask"
    )
    group.add_argument(
        "--eval-every", type=int, metavar="STEPS", help="score it every so many steps"
    )
    group.add_argument("--eval-limit", type=int, metavar="N", help="only its first N images")
    group.add_argument(
        "--checkpoint-every", type=int, metavar="STEPS", help="store the state every so many steps"
    )
    group.add_argument("--log-every", type=int, metavar="STEPS", help="log every so many steps")


def main(argv: Sequence[str] | None = None) -> int:
    """Train; 0 when done, 2 in a process whose peer has said what is wrong, 130 after Ctrl-C."""
    args = vars(get_args_parser().parse_args(argv))
    from core.training.distributed import PeerError, joined, local_rank, started_by_torchrun

    try:
        config = settings(args)
        device = place(config.device, args.get("gpus"))
    except TTDError:
        if (
            started_by_torchrun() and local_rank()
        ):  # every process finds the same mistake: one of them says so
            return 2
        raise
    from core.backbones.device import use_threads

    use_threads(config.threads)
    try:
        with joined(device) as ranks:
            return train(
                config, device, ranks, args.get("overwrite", False), args.get("reindex", False)
            )
    except PeerError:
        return 2


def settings(args: dict[str, Any]) -> TTDConfig:
    """The settings of --config (or the model's own recipe), of --set and of the flags; the later win."""
    from core.ttd.config import load_config
    from core.utils.config import merge, read_yaml

    chosen = dict(setting(item) for item in args.get("set", ()))
    own = RECIPES.get(args.get("arch") or str(chosen.get("arch", "tiny")))
    path = args.get("config") or (CONFIGS / own if own else None)
    flags = {
        key: value
        for key, value in args.items()
        if key not in ("config", "set", "overwrite", "reindex", "gpus")
    }
    return load_config(
        merge(read_yaml(path) if path else {}, chosen, flags), str(path or "settings")
    )


def setting(text: str) -> tuple[str, Any]:
    """`KEY=VALUE` of --set, the value as YAML reads it."""
    import yaml

    key, equals, value = text.partition("=")
    if not equals:
        raise TTDError(f"--set {text}: write KEY=VALUE")
    try:
        return key, yaml.safe_load(value)
    except yaml.YAMLError:
        raise TTDError(f"--set {text}: {value} is no value that YAML can read") from None


def place(device: str | None, gpus: list[str] | None) -> str:
    """The device of this process. TTDError for several GPUs without torchrun, or a process without a GPU."""
    import torch

    from core.backbones.device import resolve_device
    from core.training.distributed import local_rank, started_by_torchrun

    numbers = [number for group in gpus or () for number in group.split(",")]
    if not started_by_torchrun():
        if len(numbers) > 1:
            raise TTDError(
                f"{len(numbers)} GPUs need as many processes: torchrun --nproc_per_node {len(numbers)} "
                "train_ttd.py ..."
            )
        return str(resolve_device(choose_device(device, numbers[0] if numbers else None)))
    if device == "cpu" or not torch.cuda.is_available():
        return "cpu"
    count = int(os.environ.get("LOCAL_WORLD_SIZE", local_rank() + 1))
    there = numbers or [str(number) for number in range(torch.cuda.device_count())]
    if count > len(there):
        raise TTDError(
            f"{count} processes on this machine for {len(there)} GPUs: lower --nproc_per_node"
        )
    return str(resolve_device(choose_device(None, there[local_rank()])))


def train(config: TTDConfig, device: str, ranks: Ranks, overwrite: bool, reindex: bool) -> int:
    """Load data and model, train, and say how it went (the first process)."""
    from core.training.trainer import Trainer

    with ranks.together():
        pairs = open_data(config, ranks, reindex)
    with ranks.together():
        from core.backbones import load_backbone

        backbone = load_backbone(
            config.arch, weights=config.weights, head=config.head, device=device
        )
        evaluate = held_out(config) if ranks.first else (lambda backbone: {})
    with closing(
        Trainer(
            config,
            backbone,
            pairs,
            ranks=ranks,
            evaluate=evaluate if config.eval_root else None,
            overwrite=overwrite,
        )
    ) as trainer:
        if ranks.first:
            describe(trainer, ranks)
        outcome = trained(trainer, ranks)
    if ranks.first:
        report(outcome, config)
    return 130 if outcome.stopped else 0


def open_data(config: TTDConfig, ranks: Ranks, reindex: bool) -> Pairs:
    """The training pairs; the first process of a machine makes their index, the others wait for it."""
    from core.data.pairs import open_pairs
    from core.training.distributed import local_rank

    def opened(refresh: bool) -> Pairs:
        return open_pairs(config.data, config.root, config.pruned, config.limit, refresh, bar)

    bar = reading_bar() if ranks.first else (lambda done: None)
    with ranks.together():
        pairs = opened(reindex) if ranks.world == 1 or local_rank() == 0 else None
    return pairs or opened(False)


def reading_bar() -> Callable[[int], None]:
    """Shows how many pairs have been read while an index is made."""
    from tqdm import tqdm

    bar = None

    def show(done: int) -> None:
        nonlocal bar
        if bar is None:
            bar = tqdm(
                desc="reading captions", unit="pair", file=sys.stderr, disable=None, leave=False
            )
        bar.update(done - bar.n)

    return show


def held_out(config: TTDConfig) -> Evaluate | None:
    """What scores a model on the held-out set; None without one."""
    if config.eval_root is None:
        return None
    from core.evaluation.heldout import evaluate_heldout, load_heldout

    items = load_heldout(config.eval_root, config.eval_limit)
    return lambda backbone: evaluate_heldout(backbone, items, image_size=config.image).numbers()


def describe(trainer: Trainer, ranks: Ranks) -> None:
    """What is about to happen."""
    config, backbone = trainer.config, trainer.backbone
    for line in trainer.pairs.descriptions:
        print(line)
    count = sum(parameter.numel() for parameter in backbone.parameters() if parameter.requires_grad)
    print(
        f"{backbone.arch} ({backbone.head}), adapter of rank {config.lora.rank} with {count:,} parameters; "
        f"{len(trainer.pairs):,} pairs, {config.steps} steps of {config.batch}, {ranks.world} process"
        f"{'es' * (ranks.world > 1)}, {backbone.device}, {config.dtype}; {config.folder}"
    )
    if trainer.step:
        print(f"resuming after step {trainer.step}")
    if config.eval_root is None:
        say(
            "no --eval-root: F1, Caption IoU and word-map IoU are not measured, and the last adapter is kept"
        )
    if not trainer.logs_to_board:
        say("TensorBoard is not installed: the log is train_log.jsonl alone")


def trained(trainer: Trainer, ranks: Ranks) -> Outcome:
    """Run under a progress bar; the first Ctrl-C (or SIGTERM) ends the step and stores it, the second ends at once."""
    from tqdm import tqdm

    asked = []

    def ask(number: int, frame: object) -> None:
        asked.append(number)
        signal.signal(number, signal.default_int_handler)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with tqdm(
            total=trainer.config.steps,
            initial=trainer.step,
            unit="step",
            file=sys.stderr,
            disable=None if ranks.first else True,
        ) as bar:

            def progress(step: int, values: dict[str, float]) -> None:
                bar.set_postfix_str(
                    f"loss {values['loss']:.4f}, {100 * values['selected']:.0f} % of words", False
                )
                bar.update(step - bar.n)

            return trainer.run(progress, lambda: bool(asked))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def report(outcome: Outcome, config: TTDConfig) -> None:
    """The scores before and after, and where the adapter is."""
    from core.training.trainer import GUARDS

    if outcome.skipped:
        say(f"{outcome.skipped} pairs could not be used: see {config.folder / 'skipped.jsonl'}")
    if outcome.stopped:
        say(
            f"stopped after step {outcome.step} of {config.steps}; the same command goes on, the adapter so far is "
            f"{outcome.adapter}"
        )
        return
    if outcome.before and outcome.last:
        rows = {
            "before": outcome.before,
            f"step {outcome.best_step} (best)": outcome.best,
            f"step {outcome.step} (last)": outcome.last,
        }
        print(f"{'':>20s}" + "".join(f"{name:>14s}" for name in GUARDS))
        for name, scores in rows.items():
            print(f"{name:>20s}" + "".join(f"{100 * scores[key]:14.1f}" for key in GUARDS))
    print(f"{outcome.adapter}: use it with --arch {config.arch} --lora {outcome.adapter}")


def alone_or_at_once(code: object) -> None:
    """Leave. One process of several leaves at once: threads of a broken group of processes abort an orderly exit."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)
    sys.exit(code)


if __name__ == "__main__":
    try:
        run(main)
    except SystemExit as end:
        alone_or_at_once(end.code)
