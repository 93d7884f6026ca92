"""What the prompts of a class list cost at first and second start: 171 classes x 80 templates.

    python benchmarks/bench_prompts.py                          # tiny
    python benchmarks/bench_prompts.py --model ViT-B-16         # random weights; minutes on a CPU

Reference: every prompt at full length, class by class, on a slice of the classes ("scaled"), at
every start. First start: ours, which writes the cache. Second start: the backbone is loaded again,
the embeddings are read from disk. The checksum of its weights, which is the key of the cache and
which every result stores anyway, is timed by itself.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections.abc import Sequence
from pathlib import Path

import common
import models
from common import positive_int, run

SET = "COCO-Stuff"  # 171 classes
TEMPLATES = "OpenAI"  # 80 of them


def get_args_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = common.parser(__doc__)
    models.add_model(parser, default="tiny")
    parser.add_argument(
        "--classes", type=positive_int, default=171, help="of them (default: all 171)"
    )
    parser.add_argument(
        "--slice", type=positive_int, default=4, help="of the reference (default: %(default)s)"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Print one table."""
    args = common.start(get_args_parser(), argv)
    args.dtype = "float32"  # what is cached is float32
    if args.quick:
        args.classes = 4
    names = class_names()[: args.classes]
    table = common.Table("start", "time", "ratio", width=14)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        arch = models.arch_of(args.model, folder / "m")
        slow = reference(arch, names, args)
        first, second = starts(arch, names, folder, args)
        another = load(arch, args)
        checksum = common.Time(common.once(lambda: another.checksum))
    table.row(f"reference, {args.model}, {len(names)} x 80", slow, "")
    table.row("ours, first", first, common.ratio(slow, first))
    table.row("ours, second", second, common.ratio(slow, second))
    table.row("checksum of the weights", checksum, "")
    title = f"text embeddings, {args.model}: second start"
    common.save(args, [table], [common.goal_below(title, 0.1, second.seconds, " s")])
    return 0


def reference(arch: str, names: Sequence[str], args: argparse.Namespace) -> common.Time:
    """The literal way on the first classes, scaled to all."""
    backbone, few = load(arch, args), names[: args.slice]
    return common.Time(common.once(lambda: literal(backbone, few))).times(len(names) / len(few))


def starts(
    arch: str, names: Sequence[str], folder: Path, args: argparse.Namespace
) -> tuple[common.Time, common.Time]:
    """Times of the first start and of a second one (the median); TTDError if embeddings differ."""
    first, embedded = timed_start(load(arch, args), names, TEMPLATES, folder)
    again = [timed_start(load(arch, args), names, TEMPLATES, folder) for _ in range(args.rounds)]
    common.check("cached embeddings", float((again[0][1] - embedded).abs().max()), 0)
    few = names[: args.slice]
    definition = literal(load(arch, args), few)
    common.check("embeddings", float((definition - embedded[: len(few)]).abs().max()), 1e-5)
    times = sorted((took for took, _ in again), key=lambda took: took.seconds)
    return first, times[len(again) // 2]


def class_names() -> tuple[str, ...]:
    """The classes of COCO-Stuff."""
    from core.data.labels.dataset_yaml import load_shipped, parse_labels

    return tuple(parse_labels(load_shipped(SET), SET)["classes"])


def load(arch: str, args: argparse.Namespace):
    """The model, loaded again."""
    from core.backbones import load_backbone

    return load_backbone(arch, device=args.device, dtype=args.dtype)


def literal(backbone, names: Sequence[str]):
    """The definition: the mean of a class's prompts at full length, made unit length: [N, D]."""
    import torch

    from core.text import prompts as texts

    tower, rows = backbone.text, []
    with torch.no_grad():
        for name in names:
            synonyms = [part.strip() for part in name.split("|")]
            prompts = itertools.product(synonyms, texts.TEMPLATES[TEMPLATES])
            tokens = backbone.tokenize([form.replace("{}", synonym) for synonym, form in prompts])
            x = tower.token_embedding(tokens) + tower.positional_embedding
            for block in tower.blocks:
                x = block(x, None, causal=tower.causal)
            x = x[torch.arange(len(x), device=x.device), tower.end_positions(tokens)]
            mean = tower.projection(tower.ln_final(x)).float().mean(0)
            rows.append(mean / mean.norm())
    return torch.stack(rows)


def timed_start(backbone, names: Sequence[str], templates: str, cache: Path):
    """Time of the classes' embeddings for a model whose checksum is known, and the embeddings."""
    from core.text.prompts import embed_classes

    backbone.checksum  # noqa: B018  (timed by itself)
    found = []
    took = common.once(
        lambda: found.append(embed_classes(backbone, names, templates, cache_dir=cache))
    )
    return common.Time(took), found[0]


if __name__ == "__main__":
    run(main)
