"""Train the tiny CLIP that ships with the project, or evaluate one.

    python tools/make_world.py --out ../world
    python tools/make_world.py --out ../world_dev --train 0 --seed 1
    python tools/train_tiny_clip.py --config configs/tiny_clip.yaml --dev ../world_dev   # resumable
    python tools/train_tiny_clip.py --eval-only weights/tiny --world ../world

After training the mask mapping (a, b) is fitted on --dev and written into open_clip_config.json.
Several processes: torchrun --nproc_per_node N tools/train_tiny_clip.py ...
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cli  # noqa: F401  (puts the repository on the import path)

from tools.training import Chosen, launch, run_script, settings
from tools.training_data import reading_bar
from tools.training_options import common_options, run_options

if TYPE_CHECKING:
    from core.tiny_clip.config import PretrainConfig, TextStageConfig
    from core.training.distributed import Ranks
    from core.training.task import Task
    from core.training.trainer import Outcome

EVALUATION = ("eval_only", "fit_only", "world", "dev", "head")


def get_args_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[common_options(), run_options()],
    )
    add = parser.add_argument_group("evaluation").add_argument
    add("--eval-only", type=Path, metavar="DIR", help="evaluate this model's folder, train nothing")
    add("--fit-only", type=Path, metavar="DIR", help="fit and record this model's mask mapping")
    add("--world", type=Path, default=Path("../world"), help="evaluated on (default: %(default)s)")
    add("--dev", type=Path, default=Path("../world_dev"), help="fitted on (default: %(default)s)")
    add("--head", help="dense head of the evaluation (default: the model's own)")
    return parser


def evaluate_folder(folder: Path, world: Path, head: str | None = None) -> None:
    """Print the tables of a model on a world's evaluation set; head None: the model's own."""
    from core.backbones import load_backbone
    from core.data.heldout import load_heldout, unseen_items
    from core.evaluation.heldout import baselines, measure
    from core.evaluation.report import cuts_line, heldout_lines, heldout_table, scorer_table
    from core.tags.scoring import SCORERS

    items = load_heldout(world)
    backbone = load_backbone(f"local-dir:{folder}", head=head)
    measured = measure(backbone, items, scorers=SCORERS)
    parts = {"all": items, "with a noun-colour pair unseen in training": unseen_items(world, items)}
    for name, part in parts.items():
        if not part:
            continue
        own = measured.part([item.id for item in part])
        print(f"{folder} ({backbone.head}) on {world}: {len(part)} images, {name}")
        print(scorer_table(own))
        print(heldout_table(heldout_lines([own.at()], baselines(part))))
        print(f"({cuts_line(own.at())})\n")


def fit_folder(folder: Path, dev: Path) -> None:
    """Fit a, b on `dev` and write them into the model's config."""
    from core.backbones import load_backbone
    from core.data.heldout import load_heldout
    from core.evaluation.calibrate import fit_mask_mapping
    from core.tiny_clip.model import read_config, update_config

    items = load_heldout(dev)
    fitted = fit_mask_mapping(load_backbone(f"local-dir:{folder}"), items)
    note = (
        f"{len(items)} images of the world of make_world.py --seed 1: slope by logistic fit, bias "
        "by best IoU at 0.4"
    )
    config = read_config(folder)
    config["ttd"] = {**config.get("ttd", {}), **fitted, "fitted_on": note}
    update_config(folder, config)
    print(
        f"soft mask: sigmoid({fitted['mask_scale']} (S - {fitted['mask_bias']})), fitted on {dev}"
    )


def choose(args: Mapping[str, Any]) -> Chosen[PretrainConfig | TextStageConfig]:
    """The settings of --config, of --set and of the flags."""
    from core.tiny_clip.config import load_config

    own = {key: value for key, value in args.items() if key not in EVALUATION}
    return settings(own, load_config, args["config"])


def build(
    config: PretrainConfig | TextStageConfig, device: str, ranks: Ranks
) -> Task[Any, Any, Any]:
    """The task of the stage that the settings are of, in every process."""
    import torch

    from core.tiny_clip.config import TextStageConfig
    from core.tiny_clip.task import PretrainTask
    from core.tiny_clip.text_task import TextTask

    with ranks.together():
        if isinstance(config, TextStageConfig):
            return TextTask(config, torch.device(device))
        if not ranks.first:
            return PretrainTask(config, torch.device(device))
        return PretrainTask(config, torch.device(device), drawing(config.world))


def drawing(world: str) -> Callable[[int], None]:
    """Says with the first image what is drawn and why, and then how many images are."""
    bar = reading_bar("drawing", "image")

    def show(done: int) -> None:
        if done == 1:
            said = f"{world}: drawing the training images again, to know what each patch shows"
            print(said, flush=True)
        bar(done)

    return show


def main(argv: Sequence[str] | None = None) -> int:
    """Train, fit and evaluate; or one of the last two alone."""
    parser = get_args_parser()
    args = vars(parser.parse_args(argv))
    folder = args["eval_only"] or args["fit_only"]
    if not (folder or "config" in args):
        parser.error("give --config, --eval-only or --fit-only")

    def report(outcome: Outcome, config: PretrainConfig | TextStageConfig) -> None:
        fit_folder(outcome.file.parent, args["dev"])
        evaluate_folder(outcome.file.parent, args["world"], args["head"])

    if not folder:
        return launch(args, choose, build, report=report)
    import torch

    torch.set_num_threads(args.get("threads", 2))
    if args["fit_only"] and not args["eval_only"]:
        fit_folder(folder, args["dev"])
    evaluate_folder(folder, args["world"], args["head"])
    return 0


if __name__ == "__main__":
    run_script(main)
