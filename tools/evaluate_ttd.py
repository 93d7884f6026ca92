"""How good a model is on held-out captions, without and with an adapter: tags, Caption IoU and word maps in one table.

    python tools/evaluate_ttd.py --root ../world --dev ../world_dev --arch tiny --lora weights/tiny+TTD.safetensors
    python tools/evaluate_ttd.py --root ../cc3m_for_evaluation --arch TCL --lora weights/TCL+TTD.pt --json scores.json

--root and --dev are sets in CC3M-TagMask's layout, or the folder above one. With --dev, each
model's own best single thresholds are chosen there and a second table shows what they give on
--root. Images go through the model once, at one scale (short side --image). F1 alone can lie: the
three scores belong together.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli import load_model, model_options, positive_int, run

if TYPE_CHECKING:
    from core.backbones.base import Backbone
    from core.data.heldout import Item
    from core.evaluation.heldout import Baselines, HeldOut, Measured


def get_args_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        parents=[model_options()],
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--root", default="../world", metavar="FOLDER", help="scored on (default: %(default)s)"
    )
    parser.add_argument("--dev", metavar="FOLDER", help="another set, to choose thresholds on")
    parser.add_argument(
        "--image",
        type=positive_int,
        metavar="PIXELS",
        help="short side of the images (default: the model's own size)",
    )
    parser.add_argument(
        "--bg",
        type=float,
        default=0.4,
        dest="background_threshold",
        help="where soft masks are cut (default: %(default)s)",
    )
    parser.add_argument(
        "--limit", type=positive_int, metavar="N", help="only the first N images of each set"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything as JSON")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Score, print, write."""
    args = get_args_parser().parse_args(argv)
    from core.data.heldout import load_heldout, unseen_items

    items = load_heldout(args.root, args.limit)
    dev = load_heldout(args.dev, args.limit) if args.dev else []
    parts = {
        "all images": items,
        "images with a noun-colour pair unseen in training": unseen_items(args.root, items),
    }
    models = {
        name: [measure_set(model, part, args, name) for part in (items, dev) if part]
        for name, model in load_models(args)
    }
    sections = [section(models, part, name, args) for name, part in parts.items() if part]
    print("\n\n".join(text for text, _ in sections))
    if args.json:
        from tools.evaluation import write

        write(
            args.json,
            json.dumps(
                {
                    "arch": args.arch,
                    "lora": args.lora,
                    "root": args.root,
                    "dev": args.dev,
                    "sets": [content for _, content in sections],
                },
                indent=1,
            )
            + "\n",
        )
    return 0


def load_models(args: argparse.Namespace) -> Iterator[tuple[str, Backbone]]:
    """(name, backbone): the plain model, then the one with the adapter where one is given; one at a time."""
    plain = argparse.Namespace(**{**vars(args), "lora": None})
    yield ("before" if args.lora else "score"), load_model(plain)
    if args.lora:
        yield "after", load_model(args)


def measure_set(
    backbone: Backbone, items: list[Item], args: argparse.Namespace, name: str
) -> Measured:
    """What a model makes of a set, with a bar on the terminal."""
    from tqdm import tqdm

    from core.evaluation.heldout import measure

    with tqdm(
        total=len(items), desc=name, unit="picture", file=sys.stderr, disable=None, leave=False
    ) as bar:
        return measure(backbone, items, image_size=args.image, progress=bar.update)


def section(
    models: dict[str, list[Measured]], items: list[Item], name: str, args: argparse.Namespace
) -> tuple[str, dict[str, Any]]:
    """The tables of some of the images as text, and their content for JSON."""
    from core.evaluation.heldout import Cuts, baselines
    from core.evaluation.report import baselines_json, heldout_json

    trivial, fixed = (
        baselines(items),
        Cuts(caption=args.background_threshold, word=args.background_threshold),
    )
    own = {
        model: measured[0].part([item.id for item in items]) for model, measured in models.items()
    }
    tables = {"fixed": {model: one.at(fixed) for model, one in own.items()}}
    if args.dev:
        tables["chosen"] = {
            model: one.at(models[model][1].best_cuts()) for model, one in own.items()
        }
    head = f"{args.root}: {name} ({len(items)}), {args.arch}{f' and {args.lora}' if args.lora else ''}, percent"
    text = "\n\n".join(
        [head, *(block(kind, scores, trivial, args.dev) for kind, scores in tables.items())]
    )
    content = {
        kind: {model: heldout_json(score) for model, score in scores.items()}
        for kind, scores in tables.items()
    }
    return text, {
        "name": name,
        "pictures": len(items),
        **content,
        "without_a_model": baselines_json(trivial),
    }


def block(kind: str, scores: dict[str, HeldOut], trivial: Baselines, dev: str | None) -> str:
    """One table with a line on how it was cut."""
    from core.evaluation.report import cuts_line, heldout_lines, heldout_table

    title = (
        "usual thresholds"
        if kind == "fixed"
        else f"best single thresholds of {dev}, chosen for each model"
    )
    cuts = dict.fromkeys(cuts_line(score) for score in scores.values())
    return "\n".join(
        [
            f"-- {title}",
            heldout_table(heldout_lines(list(scores.values()), trivial), list(scores)),
            *cuts,
        ]
    )


if __name__ == "__main__":
    run(main)
