"""Train visual grounding (CLIP-VG): an image and a phrase give a box; the CLIP towers stay frozen.

    python train_grounding.py --config configs/grounding_tiny.yaml        # offline world, CPU
    python train_grounding.py --dataset unc --data_root DATA --split_root LABELS     # one GPU
    python train_grounding.py --sup pseudo --dataset unc --data_root DATA --split_root PSEUDO
    torchrun --nproc_per_node 5 train_grounding.py --dataset unc --batch_size 64 --lr 0.00025 \\
        --epochs 110 --lr_scheduler cosine --aug_crop --aug_scale --aug_translate --imsize 224 \\
        --max_query_len 77 --sup_type full --data_root DATA --split_root LABELS     # as published
    python train_grounding.py --data own.jsonl --val own_val.jsonl --arch CLIP     # your own boxes

The published flags are accepted as they stand; --batch_size counts the samples of one process,
--batch those of all. Without --lr the recipe's rate is scaled by the batch: 2.5e-4 at 320, 5e-5 at
64. The same command resumes a run that was stopped. Everything else: docs/grounding.md
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import TTDError
from core.utils.files import expanded
from tools.cli import say
from tools.training import Chosen, launch, run_script, setting, settings
from tools.training_options import common_options, run_options

if TYPE_CHECKING:
    from core.data.grounding import PhraseList
    from core.grounding.run_config import GroundingConfig
    from core.grounding.task import GroundingTask
    from core.training.distributed import Ranks
    from core.training.trainer import Outcome

CONFIGS = Path(__file__).parent / "configs"
MODELS = {
    "ViT-B/16": "CLIP",
    "ViT-B/32": "ViT-B-32-quickgelu:openai",
    "ViT-L/14": "ViT-L-14-quickgelu:openai",
}
# Published flags and the settings they are, with their types.
PUBLISHED: dict[str, tuple[str, type]] = {
    "--lr_power": ("lr_power", float),
    "--lr_exponential": ("lr_exponential", float),
    "--lr_scheduler": ("schedule", str),
    "--weight_decay": ("weight_decay", float),
    "--clip_max_norm": ("grad_clip", float),
    "--imsize": ("image", int),
    "--max_query_len": ("context", int),
    "--prompt": ("prompt", str),
    "--data_root": ("data_root", str),
    "--split_root": ("split_root", str),
    "--output_dir": ("out", str),
    "--num_workers": ("workers", int),
    "--optimizer": ("optimizer", str),
    "--resume": ("init", str),
    "--vl_dropout": ("dropout", float),
    "--vl_nheads": ("heads", int),
    "--vl_hidden_dim": ("hidden", int),
    "--vl_dim_feedforward": ("feedforward", int),
    "--vl_enc_layers": ("layers", int),
}
# Published flags that change nothing, there or here.
INERT = (
    "--lr_bert",
    "--lr_visu_cnn",
    "--lr_visu_tra",
    "--dim_feedforward",
    "--dropout",
    "--nheads",
)
INERT += ("--num_queries", "--emb_size", "--vl_dec_layers", "--world_size", "--dist_url")
INERT += ("--start_epoch", "--local_rank", "--local-rank")


def get_args_parser() -> argparse.ArgumentParser:
    """The command line; what is not given is not in the namespace."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
        parents=[common_options(), run_options()],
    )
    _data_options(parser.add_argument_group("data"))
    _model_options(parser.add_argument_group("model"))
    group = parser.add_argument_group("published flags, by the settings they are")
    for flag, (name, kind) in PUBLISHED.items():
        group.add_argument(flag, dest=name, type=kind, metavar="VALUE", help=name)
    for flag in INERT:
        group.add_argument(flag, dest="inert", help=argparse.SUPPRESS)
    for flag in ("--pre_norm", "--light", "--eval"):
        group.add_argument(flag, dest="inert", action="store_true", help=argparse.SUPPRESS)
    return parser


def _data_options(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--dataset", nargs="+", metavar="SET", help="unc, unc+, gref, gref_umd, referit, flickr")
    add("--data", metavar="FILE", help="a list of your own instead: JSONL, CSV or .pth")
    add("--val", metavar="FILE", help="the list that the best model is chosen on, with --data")
    add("--sup", choices=("full", "pseudo"), help="annotated boxes, or SET_train_pseudo")
    add("--sup_type", dest="sup_type", metavar="full|un", help="the same, as published")
    add("--epochs", type=float, metavar="N", help="passes over the data, instead of --steps")
    add("--batch_size", type=int, metavar="N", help="samples of one process, instead of --batch")
    add("--lr_drop", dest="lr_drop_every", type=int, metavar="N", help="epochs between drops")
    for name in ("crop", "scale", "translate", "blur"):
        add(f"--aug_{name}", dest=name, action="store_true", help="see docs/grounding.md")
    add("--cache", metavar="FOLDER", help="keep the frozen towers' features there")
    add("--parity", action="store_true", help="crops tested as published (axes swapped)")
    add("--eval-limit", type=int, metavar="N", help="evaluate on the first N phrases only")


def _model_options(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--arch", metavar="NAME", help="CLIP, tiny, or another that README.md names")
    add("--model", metavar="NAME", help=f"the same, as published: {', '.join(MODELS)}")
    add("--weights", metavar="FILE", help="backbone weights instead of those of the name")
    add("--init", metavar="FILE", help="start from this grounding model, ours or published")
    add(
        "--train-visual-pos",
        action=argparse.BooleanOptionalAction,
        help="train the image position table (default: yes, as the published code)",
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Train; 0 when done, 2 in a process whose peer has said what is wrong, 130 after Ctrl-C."""
    args = vars(get_args_parser().parse_args(argv))
    return launch(args, choose, build_task, report=report, shown=shown)


def choose(args: Mapping[str, Any]) -> Chosen[GroundingConfig]:
    """The settings of --config (or the recipe), of --set and of the flags; steps from epochs."""
    from core.grounding.run_config import in_steps, load_config

    flags = published(args)
    sup = flags.get("sup") or dict(setting(item) for item in args.get("set", ())).get("sup")
    path = (
        args.get("config") or CONFIGS / f"grounding_{'pseudo' if sup == 'pseudo' else 'full'}.yaml"
    )
    chosen = settings(flags, load_config, path)
    count = sum(len(part) for part in training_lists(chosen.config))
    return Chosen(in_steps(chosen.config, count, flags), chosen.recipe)


def published(args: Mapping[str, Any]) -> dict[str, Any]:
    """The options with published ones as the settings they are. TTDError for what cannot be."""
    flags = {key: value for key, value in args.items() if key not in ("inert", "sup_type", "model")}
    if "sup_type" in args:
        flags["sup"] = "full" if args["sup_type"] == "full" else "pseudo"
    if "model" in args:
        if args["model"] not in MODELS:
            raise TTDError(f"--model {args['model']}: choose {', '.join(MODELS)}, or use --arch")
        flags["arch"] = MODELS[args["model"]]
    if flags.get("schedule") == "step":
        flags.setdefault("lr_drop_every", 60)  # the published default, in epochs
    if flags.get("grad_clip") == 0:
        flags["grad_clip"] = None  # published for "no limit"
    if "batch_size" in flags:
        flags["batch"] = flags.pop("batch_size") * int(os.environ.get("WORLD_SIZE", "1"))
    return flags


@cache
def training_lists(config: GroundingConfig) -> list[PhraseList]:
    """The lists that are trained on. TTDError: not there, or they leak into an evaluation."""
    from core.data.grounding import open_split, read_phrases
    from core.data.prepare.grounding import check_leaks
    from core.grounding.run_config import SUPERVISION

    if config.data is not None:
        return [read_phrases(config.data)]
    if config.sup == "full":
        check_leaks(expanded(config.split_root), config.dataset)
    split = SUPERVISION[config.sup]
    places = config.data_root, config.split_root
    return [open_split(*places, name, split) for name in config.dataset]


def evaluation_lists(config: GroundingConfig) -> list[PhraseList]:
    """The lists that the best model is chosen on: val of every set; none for own data without."""
    from core.data.grounding import open_split, read_phrases

    if config.data is not None:
        return [read_phrases(config.val)] if config.val else []
    places = config.data_root, config.split_root
    return [open_split(*places, name, "val") for name in config.dataset]


def build_task(config: GroundingConfig, device: str, ranks: Ranks) -> GroundingTask:
    """Data and model, in every process."""
    from core.backbones import load_backbone
    from core.grounding.task import GroundingTask

    with ranks.together():
        train, val = training_lists(config), evaluation_lists(config)
        backbone = load_backbone(config.arch, weights=config.weights, device=device)
        task = GroundingTask(config, backbone, train, val)
    if ranks.first and not val:
        say("no --val: accuracy is not measured, and the last model is kept")
    return task


def shown(values: Mapping[str, float]) -> str:
    """What stands beside the progress bar."""
    return f"loss {values['loss']:.4f}, accuracy {100 * values['accuracy']:.0f} %"


def report(outcome: Outcome, config: GroundingConfig) -> None:
    """The best score, and how the model is used."""
    if outcome.best:
        print(
            f"step {outcome.best_step} (best): Acc@0.5 {100 * outcome.best['acc@0.5']:.2f}, "
            f"mIoU {100 * outcome.best['miou']:.2f}"
        )
    print(f'{outcome.file}: use it with demo.py --ground "a phrase" --grounder {outcome.file}')


if __name__ == "__main__":
    run_script(main)
