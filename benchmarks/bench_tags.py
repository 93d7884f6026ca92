"""How fast words are scored, against one caption, one word, one full prompt at a time.

    python benchmarks/bench_tags.py                   # ViT-B/16 (random weights), and tiny
    python benchmarks/bench_tags.py --model tiny --captions 64
    python benchmarks/bench_tags.py --model ViT-B-16 --dtype bfloat16 --threads 2

Both score the same words with the three scorers in the same process: same weights, threads and
images (of the procedural world, in memory: reading is not timed), the reference on the first
captions alone ("scaled"). The answers are compared, then times are taken in turns. A row per number
type: `ratio` is to the reference in the same type, the last one to the reference in float32.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import common
from common import positive_int, run
from models import arch_of, full_prompt

COLUMNS = (
    "model, captions per image",
    *("dtype", "reference", "ours", "ratio", "to float32", "images/s", "words/s"),
)
ALLOWED = {"float32": 1e-4, "bfloat16": 0.03}  # largest difference of a score


def get_args_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = common.parser(__doc__)
    parser.add_argument(
        "--model",
        nargs="+",
        default=["ViT-B-16", "tiny"],
        metavar="NAME",
        help="open_clip's names (random weights), tiny, local-dir:FOLDER "
        "(default: ViT-B-16 and tiny)",
    )
    parser.add_argument(
        "--captions", type=positive_int, default=32, help="captions to score (default: 32)"
    )
    parser.add_argument(
        "--slice", type=positive_int, default=6, help="of the reference (default: 6)"
    )
    parser.add_argument(
        "--per-image",
        type=positive_int,
        nargs="+",
        default=[1, 5],
        metavar="N",
        help="captions of each image: 1 as in CC3M, 5 as in COCO (default: both)",
    )
    parser.add_argument(
        "--per-picture",  # its name in 0.1
        type=positive_int,
        nargs="+",
        dest="per_image",
        default=argparse.SUPPRESS,
        help=argparse.SUPPRESS,
    )
    parser.add_argument(
        "--batch", type=positive_int, default=32, help="of the batched path (default: 32)"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Print one table."""
    parser = get_args_parser()
    # bfloat16 is worth its row wherever it is not known to be slow
    both = parser.parse_args(argv).dtype == "auto"
    args = common.start(parser, argv)
    if args.quick:
        args.model, args.captions, args.slice, args.per_image = ["tiny"], 8, 4, [2]
    table = common.Table(*COLUMNS, width=14)
    figures: dict[str, float] = {}
    goals, dtypes = [], [args.dtype]
    if both:
        dtypes = ["float32", "bfloat16"]
    with tempfile.TemporaryDirectory() as folder:
        for name in args.model:
            for count in args.per_image:
                goals += bench(
                    name, count, dtypes, args, folder=Path(folder), table=table, figures=figures
                )
    common.save(args, [table], goals, figures)
    return 0


def bench(
    name: str,
    per_image: int,
    dtypes: Sequence[str],
    args: argparse.Namespace,
    folder: Path,
    table: common.Table,
    figures: dict[str, float],
) -> list[dict]:
    """Compare and time both paths for one model in each number type; this model's goals."""
    from core.backbones import load_backbone
    from core.world.sample import make_sample

    arch = arch_of(name, folder / name)
    slow, rows = {}, {}
    for dtype in dtypes:
        backbone = load_backbone(arch, device=args.device, dtype=dtype)
        samples = [make_sample(0, "val", i, backbone.image_size) for i in range(args.captions)]
        captions = [sample.text for sample in samples]
        images = [samples[i // per_image].image for i in range(args.captions)]
        few = min(args.slice, len(images))
        words = compare(
            name,
            batched(backbone, images, captions, args.batch),
            literal(backbone, images[:few], captions[:few]),
            ALLOWED[dtype],
        )
        both = {
            "ours": partial(batched, backbone, images, captions, args.batch),
            "reference": partial(literal, backbone, images[:few], captions[:few]),
        }
        taken = common.in_turns(both, args, warm_up=0)
        slow[dtype], rows[dtype] = taken["reference"].times(args.captions / few), taken["ours"]
        seconds = taken["ours"].seconds
        figures |= {
            f"images/s, {name}, {per_image} captions, {dtype}": len(images) / per_image / seconds,
            f"ratio, {name}, {per_image} captions, {dtype}": slow[dtype].seconds / seconds,
        }
        ratios = [common.ratio(slow[one], taken["ours"]) for one in (dtype, dtypes[0])]
        rates = (f"{len(images) / per_image / seconds:.1f}", f"{words / seconds:.0f}")
        title = f"{name[-11:]}, {per_image}"
        table.row(title, dtype, slow[dtype], taken["ours"], *ratios, *rates)
        print(
            f"    {stages(backbone, images, captions, args)}; image tower "
            f"{tower_flops(backbone, images[0]) / 1e9:.1f} GFLOP an image",
            flush=True,
        )
    return goals_of(name, per_image, slow, rows)


def goals_of(
    name: str, per_image: int, slow: dict[str, common.Time], fast: dict[str, common.Time]
) -> list[dict]:
    """The project's goals for one caption per image."""
    if per_image > 1 or "float32" not in fast:
        return []
    title = f"tags from text, {name}"
    least = 2.3
    if name == "tiny":
        least = 5
    goals = [common.goal(f"{title}, float32", least, slow["float32"], fast["float32"])]
    if "bfloat16" in fast and name != "tiny":
        goals.append(
            common.goal(f"{title}, bfloat16 to float32", 5, slow["float32"], fast["bfloat16"])
        )
    return goals


def compare(name: str, fast: Sequence[dict], slow: Sequence[dict], allowed: float) -> int:
    """TTDError unless the scores of the first captions agree; the number of words in `fast`."""
    differences = []
    for mine, literal_ in zip(fast, slow, strict=False):
        differences += [float((mine[key] - literal_[key]).abs().max()) for key in literal_]
    common.check(f"{name}: scores", max(differences), allowed)
    return sum(len(row["pixel"]) for row in fast)


def batched(backbone, images: Sequence, captions: Sequence[str], batch: int) -> list[dict]:
    """Our path: raw scores [K] by scorer for every caption."""
    from core.tags.scoring import score_batch

    scored = []
    for start in range(0, len(images), batch):
        part = slice(start, start + batch)
        scored += score_batch(backbone, images[part], captions[part])
    return [one.scores for one in scored]


def literal(backbone, images: Sequence, captions: Sequence[str]) -> list[dict]:
    """The definition: every image and every word by itself, every prompt at full length."""
    import torch
    import torch.nn.functional as F

    from core.data.words import split_words

    results = []
    with torch.no_grad():
        for image, caption in zip(images, captions, strict=True):
            pixels = backbone.normalize(
                torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
            )
            dense = F.normalize(backbone.encode_pixels(pixels)[0].float(), dim=0)  # (D, h, w)
            pooled = F.normalize(backbone.encode_image(pixels)[0].float(), dim=0)
            whole = full_prompt(backbone, caption)
            rows = []
            for word in split_words(caption):
                text = full_prompt(backbone, word.text)
                rows.append(
                    (torch.einsum("dhw,d->hw", dense, text).max(), pooled @ text, whole @ text)
                )
            pixel, image_, text_ = (torch.stack(column).cpu() for column in zip(*rows, strict=True))
            results.append({"pixel": pixel, "image": image_, "text": text_})
    return results


def stages(backbone, images: Sequence, captions: Sequence[str], args: argparse.Namespace) -> str:
    """Times of resizing, texts and towers alone; what is left of `ours` is maps and bookkeeping."""
    import torch

    from core.data.words import split_words
    from core.maps.encode import encode_views
    from core.maps.views import Views, prepare
    from core.text.encode import encode_texts

    views, taken = Views(backbone.image_size), dict.fromkeys(("resize", "texts", "towers"), 0.0)
    for start in range(0, len(images), args.batch):
        part = slice(start, start + args.batch)
        each = list({id(image): image for image in images[part]}.values())  # every image once
        prepared = [prepare(image, views) for image in each]
        spoken = itertools.chain.from_iterable(map(split_words, captions[part]))
        texts = [list(dict.fromkeys(word.text for word in spoken)), captions[part]]
        works = {
            "resize": partial(_each, partial(prepare, views=views), each),
            "texts": partial(_each, partial(encode_texts, backbone), texts),
            "towers": partial(encode_views, backbone, prepared, views, pooled=True),
        }
        with torch.no_grad():
            for name, work in works.items():
                taken[name] += common.once(work)
    return "stages: " + ", ".join(f"{name} {common.Time(took)}" for name, took in taken.items())


def _each(work: Callable[..., object], items: Sequence) -> None:
    for item in items:
        work(item)


def tower_flops(backbone, image) -> float:
    """Of one image through the image tower, pixels and pooled embedding."""
    import torch

    from core.maps.encode import encode_views
    from core.maps.views import Views, prepare

    views = Views(backbone.image_size)
    prepared = [prepare(image, views)]
    with torch.no_grad():
        return common.flops(lambda: encode_views(backbone, prepared, views, pooled=True))


if __name__ == "__main__":
    run(main)
