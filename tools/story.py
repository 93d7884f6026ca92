"""TTD from start to end in a few minutes on two cores, with nothing to download.

    python tools/story.py                            # out/ttd.png and a table; works in out/story
    python tools/story.py --steps 20 --train 200 --held-out 20

A world is made (images, captions, and for the held-out ones the ground truth); the tiny model is
scored on the held-out images; it is trained on the captions alone, by the recipe in --config; it is
scored again. The training never sees the ground truth. The same command makes the same adapter.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from cli import ROOT, positive_int, run, seed_number

if TYPE_CHECKING:
    from core.backbones.base import Backbone
    from core.data.heldout import Item
    from core.evaluation.heldout import Measured
    from core.ttd.config import TTDConfig

# Steps between two lines of progress where no terminal shows the bar: nohup, a cluster's log.
LINE_EVERY = 10


def get_args_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--config",
        type=Path,
        default=ROOT / "configs" / "ttd_tiny.yaml",
        metavar="YAML",
        help="the recipe (default: configs/ttd_tiny.yaml)",
    )
    parser.add_argument("--arch", metavar="NAME", help="another model than the recipe's")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("out"),
        metavar="FOLDER",
        help="where ttd.png goes, and the story's own folder (default: %(default)s)",
    )
    parser.add_argument(
        "--train",
        type=positive_int,
        default=2000,
        metavar="N",
        help="training pairs (default: %(default)s)",
    )
    parser.add_argument(
        "--held-out",
        type=positive_int,
        default=120,
        metavar="N",
        help="images to score on (default: %(default)s)",
    )
    parser.add_argument(
        "--steps", type=positive_int, metavar="N", help="of training (default: the recipe's)"
    )
    parser.add_argument(
        "--seed", type=seed_number, default=11, help="of the world (default: %(default)s)"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run all five stages."""
    args = get_args_parser().parse_args(argv)
    if hasattr(sys.stdout, "reconfigure"):
        # Progress is read while it happens, through a pipe too.
        sys.stdout.reconfigure(line_buffering=True)
    start = time.perf_counter()
    print(
        "Text-tag self-distillation: a CLIP learns, from captions alone, to find all that a "
        "caption names.\n"
        "Five stages: a world is drawn, the model scored, trained, scored again, the image drawn. "
        "2 to 10 minutes on two cores, by machine and load.\n"
    )
    world = make_world(args)
    config = recipe(args, world)

    from core.backbones import load_backbone
    from core.backbones.device import use_threads
    from core.data.heldout import load_heldout

    use_threads(config.threads)
    items = load_heldout(world)
    before = score("2/5  scores before", load_backbone(config.arch, device=config.device), items)
    adapter = train(config)
    after = score(
        "4/5  scores after", load_backbone(config.arch, lora=adapter, device=config.device), items
    )
    print(f"5/5  on {len(items)} images that the training never saw, percent:\n")
    print(f"{results(before, after)}\n")
    picture(config, adapter, before, after, args.out / "ttd.png")
    print(
        f"adapter: {adapter} ({adapter.stat().st_size / 2**20:.1f} MB); python demo.py "
        f"--arch {config.arch} --lora {adapter} uses it\n"
        f"{(time.perf_counter() - start) / 60:.1f} minutes in all"
    )
    return 0


def make_world(args: argparse.Namespace) -> Path:
    """The story's world."""
    from story_parts import make_story_world
    from tqdm import tqdm

    folder = args.out / "story" / "world"
    print(
        f"1/5  a world of {args.train} training pairs and {args.held_out} held-out images in "
        f"{folder}"
    )
    with tqdm(
        total=args.train + args.held_out, unit="picture", file=sys.stderr, leave=False, disable=None
    ) as bar:
        make_story_world(folder, args.train, args.held_out, args.seed, progress=bar.update)
    return folder


def recipe(args: argparse.Namespace, world: Path) -> TTDConfig:
    """The recipe's settings for this world; nothing is chosen by held-out scores on the way."""
    from core.errors import TTDError
    from core.ttd.config import load_config
    from core.utils.config import blamed, merge, read_recipe

    own = {
        "data": str(world / "cc3m" / "train"),
        "root": str(world),
        "out": str(args.out / "story" / "run"),
        "eval_root": None,
        "keep": "last",
        "tag": "TTD",
    }
    own |= {key: value for key, value in (("steps", args.steps), ("arch", args.arch)) if value}
    try:
        return load_config(merge(read_recipe(args.config), own), str(args.config))
    except TTDError as error:
        raise blamed(error, args.config) from None


def score(title: str, backbone: Backbone, items: list[Item]) -> Measured:
    """What a model makes of the held-out images, and its three scores in one line."""
    from tqdm import tqdm

    from core.evaluation.heldout import measure

    with tqdm(total=len(items), unit="picture", file=sys.stderr, leave=False, disable=None) as bar:
        measured = measure(backbone, items, progress=bar.update)
    scores = measured.at()
    print(
        f"{title}: pixel F1 {100 * scores.pixel_f1:.1f}, "
        f"Caption IoU {100 * scores.caption_iou:.1f}, "
        f"word-map IoU {100 * scores.word_map_iou:.1f}"
    )
    return measured


def train(config: TTDConfig) -> Path:
    """Train from the start; the adapter's file."""
    from tqdm import tqdm

    from core.backbones import load_backbone
    from core.data.pairs import open_pairs
    from core.training.trainer import Trainer
    from core.ttd.task import TTDTask

    print(f"3/5  {config.steps} steps of {config.batch} pairs")
    backbone = load_backbone(
        config.arch, weights=config.weights, head=config.head, device=config.device
    )
    task = TTDTask(config, backbone, open_pairs(config.data, config.root, refresh=True))
    with (
        closing(Trainer(task, overwrite=True)) as trainer,
        tqdm(total=config.steps, unit="step", file=sys.stderr, disable=None) as bar,
    ):

        def progress(step: int, values: Mapping[str, float]) -> None:
            bar.set_postfix_str(f"loss {values['loss']:.4f}", refresh=False)
            bar.update(step - bar.n)
            if not sys.stderr.isatty() and step % LINE_EVERY == 0:
                print(f"     step {step} of {config.steps}, loss {values['loss']:.4f}")

        return trainer.run(progress).file


def results(before: Measured, after: Measured) -> str:
    """The table."""
    from core.evaluation.heldout import baselines
    from core.evaluation.report import heldout_lines, heldout_table

    return heldout_table(
        heldout_lines([before.at(), after.at()], baselines(before.items), minmax=False),
        ("before", "after"),
    )


def picture(
    config: TTDConfig, adapter: Path, before: Measured, after: Measured, path: Path
) -> None:
    """Draw one held-out image before and after, and say which."""
    from PIL import Image
    from story_parts import LEGEND, RULE, choose_picture, columns_of, look

    from core.backbones import load_backbone
    from core.errors import TTDError
    from core.plots.before_after import draw_before_after

    item = choose_picture(before, after)
    looks = [
        look(load_backbone(config.arch, lora=lora, device=config.device), item)
        for lora in (None, adapter)
    ]
    panel = draw_before_after(item.image, item.text, columns_of(item, looks), legend=LEGEND)
    try:
        Image.fromarray(panel).save(path)
    except OSError as error:
        raise TTDError(
            f"{path}: cannot be written ({error.strerror or error}); name another --out"
        ) from None
    print(f"image: {path}: {item.id}, {RULE}")


if __name__ == "__main__":
    run(main)
