"""Train the tiny CLIP that ships with the project, or evaluate one.

    python tools/make_world.py --out ../world && python tools/make_world.py --out ../world_dev --train 0 --seed 1
    python tools/train_tiny_clip.py --config configs/tiny_clip.yaml --dev ../world_dev    # resumes where it stopped
    python tools/train_tiny_clip.py --eval-only weights/tiny --world ../world             # the held-out images

After training the mask mapping (a, b) is fitted on --dev and written into open_clip_config.json.
"""

import argparse
import json
import sys
from pathlib import Path

from cli import run


def get_args_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--config", type=Path, help="YAML of settings, such as configs/tiny_clip.yaml"
    )
    parser.add_argument(
        "--eval-only", type=Path, metavar="DIR", help="evaluate this model's folder, train nothing"
    )
    parser.add_argument(
        "--fit-only", type=Path, metavar="DIR", help="fit and record the mask mapping of this model"
    )
    parser.add_argument(
        "--world", type=Path, default=Path("../world"), help="evaluated on (default ../world)"
    )
    parser.add_argument(
        "--dev", type=Path, default=Path("../world_dev"), help="fitted on (default ../world_dev)"
    )
    parser.add_argument("--head", help="dense head of the evaluation (default: the model's own)")
    parser.add_argument(
        "--threads", type=int, default=2, help="CPU threads of the evaluation (default 2)"
    )
    return parser


def evaluate_folder(folder: Path, world: Path, head: str | None = None) -> None:
    """Print the tables of a model on a world's evaluation set; `head` None is the model's own dense head."""
    from core.backbones import load_backbone
    from core.data.heldout import load_heldout, unseen_items
    from core.evaluation.heldout import baselines, measure
    from core.evaluation.report import cuts_line, heldout_lines, heldout_table, scorer_table
    from core.tags.scoring import SCORERS

    items = load_heldout(world)
    backbone = load_backbone(f"local-dir:{folder}", head=head)
    measured = measure(backbone, items, scorers=SCORERS)
    for name, part in (
        ("all", items),
        ("with a noun-colour pair unseen in training", unseen_items(world, items)),
    ):
        if part:
            own = measured.part([item.id for item in part])
            print(f"{folder} ({backbone.head}) on {world}: {len(part)} images, {name}")
            print(
                f"{scorer_table(own)}\n{heldout_table(heldout_lines([own.at()], baselines(part)))}\n({cuts_line(own.at())})\n"
            )


def fit_folder(folder: Path, dev: Path) -> None:
    """Fit a, b on `dev` and write them into the model's config."""
    from core.backbones import load_backbone
    from core.data.heldout import load_heldout
    from core.evaluation.calibrate import fit_mask_mapping
    from core.tiny_clip.model import read_config, write_config

    items = load_heldout(dev)
    fitted = fit_mask_mapping(load_backbone(f"local-dir:{folder}"), items)
    note = f"{len(items)} images of the world of make_world.py --seed 1: slope by logistic fit, bias by best IoU at 0.4"
    config = read_config(folder)
    config["ttd"] = {**config.get("ttd", {}), **fitted, "fitted_on": note}
    write_config(folder, config)
    print(
        f"soft mask: sigmoid({fitted['mask_scale']} (S - {fitted['mask_bias']})), fitted on {dev}"
    )


def train(path: Path) -> Path:
    """Train by a YAML; JSONL log in the run's folder. Returns that folder."""
    import yaml
    from tqdm import tqdm

    from core.errors import TTDError
    from core.tiny_clip import task as pretrain
    from core.tiny_clip import text_task as pretrain_text

    if not path.is_file():
        raise TTDError(f"no such config: {path}")
    values = yaml.safe_load(path.read_text()) or {}
    stage = pretrain_text if "model" in values else pretrain  # the second stage starts from a model
    config = stage.load_config(values, str(path))
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    with open(out / "train_log.jsonl", "a", encoding="utf-8", buffering=1) as log:
        keep = lambda record: print(json.dumps(record), file=log)  # noqa: E731
        if stage is pretrain_text:
            with tqdm(total=config.steps, unit="step", file=sys.stderr) as bar:
                return pretrain_text.train_text_tower(config, keep, lambda step: bar.update())
        trainer = pretrain.Pretrainer(config, keep)
        with tqdm(total=config.steps, initial=trainer.step, unit="step", file=sys.stderr) as bar:
            trainer.run(lambda step: bar.update())
    return out


def main(argv: list[str] | None = None) -> int:
    """Train, fit and evaluate; or one of the last two alone."""
    parser = get_args_parser()
    args = parser.parse_args(argv)
    if not (args.config or args.eval_only or args.fit_only):
        parser.error("give --config, --eval-only or --fit-only")
    import torch

    torch.set_num_threads(args.threads)
    folder = args.eval_only or args.fit_only or train(args.config)
    if not args.eval_only:
        fit_folder(folder, args.dev)
    evaluate_folder(folder, args.world, args.head)
    return 0


if __name__ == "__main__":
    run(main)
