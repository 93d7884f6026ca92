"""Train TCL: a masker on a frozen CLIP, with image-text pairs alone.

    python train_tcl.py --config configs/tcl_tiny.yaml                        # on the CPU
    torchrun --nproc_per_node 8 train_tcl.py --config configs/tcl_8gpu.yaml   # one machine, 8 GPUs
    torchrun --nnodes 2 --node_rank 0 --nproc_per_node 8 --master_addr HOST --master_port 29500 \\
        train_tcl.py --config configs/tcl.yaml            # as published; --node_rank 1 on the other

--data: sets ROOT/NAME/train/{image,json} by name, or a folder, JSONL list or webdataset shards,
joined by "+". --batch is that of the whole run: any number of processes trains the same. The same
command resumes a run that was stopped, by Ctrl-C or `kill -9`. --dry-run says what would happen.
Starts from a CLIP (--arch, --weights), or from a TCL's weights (--resume-from tcl.pth).
The result, OUT/TCL.pth, is used with --arch TCL --weights OUT/TCL.pth. More: docs/tcl.md
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools.cli import say
from tools.training import Chosen, launch, run_script, settings
from tools.training_data import DataChoice, data_options, open_data
from tools.training_options import common_options, run_options

if TYPE_CHECKING:
    from core.tcl.config import TCLConfig
    from core.tcl.task import TCLTask
    from core.training.distributed import Ranks
    from core.training.trainer import Outcome

CONFIGS = Path(__file__).parent / "configs"


def get_args_parser() -> argparse.ArgumentParser:
    """The command line; what is not given is not in the namespace."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
        parents=[common_options(), data_options(), run_options()],
    )
    add = parser.add_argument_group("model and loss").add_argument
    add("--arch", metavar="NAME", help="CLIP, or a class-token ViT of open_clip")
    add("--weights", metavar="FILE", help="its weights instead of those the name stands for")
    add("--resume-from", metavar="FILE", help="start from the weights of this TCL checkpoint")
    add("--image", type=int, metavar="PIXELS", help="side of the images (default: the model's own)")
    add("--thaw-at", type=int, metavar="STEP", help="train the copied block from this step on")
    add(
        "--parity",
        dest="loss.parity",
        action="store_true",
        help="on several processes, compute what the released code does",
    )
    add(
        "--eval-sets",
        dest="evaluation.sets",
        nargs="+",
        metavar="SET",
        help="segmentation sets (names or YAML) that the best step is chosen by",
    )
    add("--eval-root", dest="evaluation.root", metavar="FOLDER", help="where named sets are")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Train; 0 when done, 2 in a process whose peer has said what is wrong, 130 after Ctrl-C."""
    args = vars(get_args_parser().parse_args(argv))
    reindex = args.pop("reindex", False)

    def build(config: TCLConfig, device: str, ranks: Ranks) -> TCLTask:
        return build_task(config, device, ranks, reindex)

    return launch(args, choose, build, report=report, shown=shown)


def choose(args: Mapping[str, Any]) -> Chosen[TCLConfig]:
    """The settings of --config (or the published recipe), of --set and of the flags."""
    from core.tcl.config import load_config

    return settings(args, load_config, args.get("config") or CONFIGS / "tcl.yaml")


def build_task(config: TCLConfig, device: str, ranks: Ranks, reindex: bool) -> TCLTask:
    """Data and model, in every process."""
    from core.tcl.model import OPENAI, starting_point
    from core.tcl.task import TCLTask

    pairs = open_data(DataChoice.of(config, reindex), ranks)
    with ranks.together():
        backbone = starting_point(config, device)
        openai = config.arch in OPENAI and config.weights is None
        task = TCLTask(config, backbone, pairs, towers=not openai)
    if ranks.first and not config.evaluation.sets:
        say("no --eval-sets: mIoU is not measured, and the last step is kept")
    return task


def shown(values: Mapping[str, float]) -> str:
    """What stands beside the progress bar."""
    return f"loss {values['loss']:.4f}, masks cover {100 * values['mask_area']:.0f} %"


def report(outcome: Outcome, config: TCLConfig) -> None:
    """The scores before and after, and where the checkpoint is."""
    if outcome.before and outcome.best and outcome.last:
        rows = {
            "before": outcome.before,
            f"step {outcome.best_step} (best)": outcome.best,
            f"step {outcome.step} (last)": outcome.last,
        }
        for name, scores in rows.items():
            numbers = "".join(f"{key:>20s} {100 * value:5.1f}" for key, value in scores.items())
            print(f"{name:>20s}{numbers}")
    print(f"{outcome.file}: use it with --arch TCL --weights {outcome.file}")


if __name__ == "__main__":
    run_script(main)
