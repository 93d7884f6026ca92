"""How good a model is on held-out captions, without and with an adapter, in one table.

    python tools/evaluate_ttd.py --root ../world --dev ../world_dev --arch tiny \\
        --lora weights/tiny+TTD.safetensors
    python tools/evaluate_ttd.py --root ../cc3m_for_evaluation --arch TCL \\
        --lora weights/TCL+TTD.pt --json scores.json

--root and --dev are sets in CC3M-TagMask's layout, or the folder above one. With --dev, each
model's own best single thresholds are chosen there and a second table shows what they give on
--root. Images go through the model once, at one scale (short side --image). The scores are F1 of
the tags, Caption IoU and word-map IoU; they belong together, because F1 alone can be high for a
model whose maps have collapsed.
"""

from __future__ import annotations

import argparse
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
    models = {}
    for name, model in load_models(args):
        models[name] = [measure_set(model, part, args, name) for part in (items, dev) if part]
    sections = [section(models, part, name, args) for name, part in parts.items() if part]
    print("\n\n".join(text for text, _ in sections))
    if args.json:
        from tools.evaluation import write_json

        made_of = {key: getattr(args, key) for key in ("arch", "lora", "root", "dev")}
        write_json(args.json, {**made_of, "sets": [content for _, content in sections]})
    return 0


def load_models(args: argparse.Namespace) -> Iterator[tuple[str, Backbone]]:
    """(name, backbone), one at a time: the plain model, then the one with the adapter if any."""
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

    options = {"unit": "image", "file": sys.stderr, "disable": None, "leave": False}
    with tqdm(total=len(items), desc=name, **options) as bar:
        return measure(backbone, items, image_size=args.image, progress=bar.update)


def section(
    models: dict[str, list[Measured]], items: list[Item], name: str, args: argparse.Namespace
) -> tuple[str, dict[str, Any]]:
    """The tables of some of the images as text, and their content for JSON."""
    from core.evaluation.heldout import Cuts, baselines
    from core.evaluation.report import baselines_json, heldout_json

    fixed = Cuts(caption=args.background_threshold, word=args.background_threshold)
    trivial, ids = baselines(items), [item.id for item in items]
    own = {model: measured[0].part(ids) for model, measured in models.items()}
    tables = {"fixed": {model: one.at(fixed) for model, one in own.items()}}
    if args.dev:
        tables["chosen"] = {
            model: one.at(models[model][1].best_cuts()) for model, one in own.items()
        }
    models_used = " and ".join(filter(None, (args.arch, args.lora)))
    blocks = [f"{args.root}: {name} ({len(items)}), {models_used}, percent"]
    content: dict[str, Any] = {"name": name, "pictures": len(items)}
    for kind, scores in tables.items():
        blocks.append(block(kind, scores, trivial, args.dev))
        content[kind] = {model: heldout_json(score) for model, score in scores.items()}
    return "\n\n".join(blocks), {**content, "without_a_model": baselines_json(trivial)}


def block(kind: str, scores: dict[str, HeldOut], trivial: Baselines, dev: str | None) -> str:
    """One table with a line on how it was cut."""
    from core.evaluation.report import cuts_line, heldout_lines, heldout_table

    title = "usual thresholds"
    if kind == "chosen":
        title = f"best single thresholds of {dev}, chosen for each model"
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
