"""Train TTD: fine-tune a CLIP-like model with image-text pairs alone.

A caption then lights up all that it names.

    python train_ttd.py --config configs/ttd_tiny.yaml                           # tiny, on the CPU
    python train_ttd.py --data cc3m+cc12m --arch TCL --scales 1.0 --tag "TCL+TTD"         # one GPU
    torchrun --nproc_per_node 8 train_ttd.py --data cc3m+cc12m --arch TCL                  # 8 GPUs
    torchrun --nnodes 2 --node_rank 0 --nproc_per_node 8 --master_addr HOST --master_port 29500 \\
        train_ttd.py --data cc3m+cc12m --arch TCL         # two machines; --node_rank 1 on the other

--data: sets ROOT/NAME/train/{image,json} by name, or a folder, JSONL list or webdataset shards,
joined by "+". Flags win over --config; without it, TCL, CLIP and tiny take configs/ttd_ARCH.yaml,
other models configs/ttd_any.yaml.
--batch is that of the whole run: any number of processes trains the same. The same command resumes
a run that was stopped, by Ctrl-C or `kill -9`. --dry-run says what would happen.
Everything else: docs/training.md
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools.cli import say
from tools.training import Chosen, launch, run_script, setting, settings
from tools.training_data import DataChoice, data_options, open_data
from tools.training_options import common_options, run_options

if TYPE_CHECKING:
    from core.training.distributed import Ranks
    from core.training.trainer import Outcome
    from core.ttd.config import TTDConfig
    from core.ttd.task import Evaluate, TTDTask

RECIPES = {
    "TCL": "ttd_tcl.yaml",
    "CLIP": "ttd_clip.yaml",
    "MaskCLIP": "ttd_clip.yaml",
    "tiny": "ttd_tiny.yaml",
}
CONFIGS = Path(__file__).parent / "configs"


def get_args_parser() -> argparse.ArgumentParser:
    """The command line.

    A setting's flag is named as in YAML but for `_`; what is not given is not in the namespace.
    """
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
        parents=[common_options(), data_options(), run_options()],
    )
    _model_options(parser.add_argument_group("model and adapter"))
    _loss_options(parser.add_argument_group("loss and evaluation"))
    return parser


def _model_options(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--arch", metavar="NAME", help="CLIP, TCL, tiny, or another that README.md names")
    add("--weights", metavar="FILE", help="base weights instead of those the name stands for")
    add("--head", metavar="HEAD", help="dense head (default: the model's own)")
    add("--lora-rank", dest="lora.rank", type=int, metavar="R", help="rank of the adapter")
    add("--lora-alpha", dest="lora.alpha", type=float, metavar="A", help="its scale is A / R")
    add(
        "--lora-targets",
        dest="lora.targets",
        nargs="+",
        metavar="LINEAR",
        help="linears it sits on, such as q_proj v_proj (default: all that get a gradient)",
    )
    add(
        "--encoders",
        dest="lora.encoders",
        choices=("text", "image", "both"),
        help="which are trained",
    )
    add("--image", type=int, metavar="PIXELS", help="side of the images (default: the model's own)")
    add("--scales", type=float, nargs="+", metavar="S", help="one of these is drawn for every step")
    add("--peft", action="store_true", help="write the adapter as a PEFT folder too")


def _loss_options(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--teacher",
        dest="distill.teacher",
        choices=("current", "ema", "frozen"),
        help="whose maps are the targets",
    )
    add("--distance", dest="distill.distance", choices=("l1", "mse", "bce"), help="d of the loss")
    add("--lambda", dest="distill.tag_weight", type=float, metavar="L", help="weight of L_tag")
    add("--eval-root", metavar="FOLDER", help="held-out set in the layout of CC3M-TagMask")
    add("--eval-limit", type=int, metavar="N", help="only its first N images")


def main(argv: Sequence[str] | None = None) -> int:
    """Train; 0 when done, 2 in a process whose peer has said what is wrong, 130 after Ctrl-C."""
    args = vars(get_args_parser().parse_args(argv))
    reindex = args.pop("reindex", False)

    def build(config: TTDConfig, device: str, ranks: Ranks) -> TTDTask:
        return build_task(config, device, ranks, reindex)

    return launch(args, choose, build, report=report, shown=shown)


def choose(args: Mapping[str, Any]) -> Chosen[TTDConfig]:
    """The settings of --config (or the model's own recipe), of --set and of the flags."""
    from core.ttd.config import load_config

    given = dict(setting(item) for item in args.get("set", ()))
    own = RECIPES.get(args.get("arch") or str(given.get("arch", "tiny")), "ttd_any.yaml")
    return settings(args, load_config, args.get("config") or CONFIGS / own)


def build_task(config: TTDConfig, device: str, ranks: Ranks, reindex: bool) -> TTDTask:
    """Data and model, in every process."""
    from core.backbones import load_backbone
    from core.ttd.task import TTDTask

    pairs = open_data(DataChoice.of(config, reindex), ranks)
    with ranks.together():
        backbone = load_backbone(
            config.arch, weights=config.weights, head=config.head, device=device
        )
        task = TTDTask(config, backbone, pairs, held_out(config, ranks.first))
    if ranks.first and config.eval_root is None:
        say(
            "no --eval-root: F1, Caption IoU and word-map IoU are not measured, and the last "
            "adapter is kept"
        )
    return task


def held_out(config: TTDConfig, first: bool) -> Evaluate | None:
    """What scores a model on the held-out set, read by the `first` process; None without one."""
    if config.eval_root is None:
        return None
    if not first:
        return lambda backbone: {}
    from core.evaluation.heldout import evaluate_heldout, load_heldout

    items = load_heldout(config.eval_root, config.eval_limit)
    return lambda backbone: evaluate_heldout(backbone, items, image_size=config.image).numbers()


def shown(values: Mapping[str, float]) -> str:
    """What stands beside the progress bar."""
    return f"loss {values['loss']:.4f}, {100 * values['selected']:.0f} % of words"


def report(outcome: Outcome, config: TTDConfig) -> None:
    """The scores before and after, and where the adapter is."""
    from core.ttd.task import GUARDS

    if outcome.before and outcome.best and outcome.last:
        rows = {
            "before": outcome.before,
            f"step {outcome.best_step} (best)": outcome.best,
            f"step {outcome.step} (last)": outcome.last,
        }
        print(f"{'':>20s}" + "".join(f"{name:>14s}" for name in GUARDS))
        for name, scores in rows.items():
            print(f"{name:>20s}" + "".join(f"{100 * scores[key]:14.1f}" for key in GUARDS))
    print(f"{outcome.file}: use it with --arch {config.arch} --lora {outcome.file}")


if __name__ == "__main__":
    run_script(main)
