"""How fast masks are made from tags (protocol `ttd`, PAMR), against the literal definition.

    python benchmarks/bench_masks.py             # ViT-B/16, TCL; 640x480; 21, 171 classes
    python benchmarks/bench_masks.py --quick     # tiny only, a small image
    python benchmarks/bench_masks_cuda.py        # on a GPU, where nothing needs to be sampled

ViT-B/16 and TCL have random weights.

The reference (`reference_masks.py`) does windows, scales and flips one by one in float32, with the
published PAMR and all classes. Both run whole, except that a tower sees one batch of every shape
and PAMR's reference one iteration: other batches of that shape are given the same result and
counted with the same time ("scaled"). Both get the same threads.

Random weights say nothing of images, so texts are made such that --surviving classes exceed the
threshold (and once all). Whether both give the same labels is checked with `tiny` on images of
the procedural world, nothing sampled.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import common
import reference_masks
import reference_pamr
from common import positive_int, run
from mask_cases import MANY, QUICK_SIZE, SIZE, TTD, model, ours, picture, protocol_of, texts

from core.errors import TTDError

BG = 0.4
AGREE = 0.999  # share of pixels
PICTURES = 3  # with >= 3 classes and 5 to 80 % background
CANDIDATES = 20  # looked through for them


def get_args_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = common.parser(__doc__, rounds=1)
    parser.add_argument(
        "--model", nargs="+", choices=("ViT-B-16", "TCL", "tiny"), help="default: ViT-B-16 and TCL"
    )
    parser.add_argument(
        "--classes",
        nargs="+",
        type=positive_int,
        default=[21, 171],
        metavar="N",
        help="class counts (default: 21 and 171)",
    )
    parser.add_argument(
        "--surviving",
        type=positive_int,
        default=5,
        metavar="N",
        help="classes that exceed the threshold somewhere (default: %(default)s)",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables."""
    args = common.start(get_args_parser(), argv)
    goals, tables = [], [agreement(args)]
    with tempfile.TemporaryDirectory() as folder:
        for name in args.model or (["tiny"] if args.quick else ["ViT-B-16", "TCL"]):
            table, met = speed(name, args, Path(folder))
            tables.append(table)
            goals += met
    common.save(args, tables, goals)
    return 0


class Sampled:
    """Calls `work` once for every shape of its tensors; later calls get that result and its time.

    spent: seconds of calls that were made; owed: of those that were not; calls: how many of every
    shape.
    """

    def __init__(self, work: Callable):
        self.work, self.seen, self.calls, self.spent, self.owed = work, {}, Counter(), 0.0, 0.0

    def __call__(self, *args):
        key = tuple(tuple(a.shape) for a in args if hasattr(a, "shape"))
        self.calls[key] += 1
        if key in self.seen:
            self.owed += self.seen[key][1]
            return self.seen[key][0]
        results = []
        took = common.once(lambda: results.append(self.work(*args)))
        self.seen[key] = (results[0], took)
        self.spent += took
        return results[0]

    def reset(self) -> None:
        """Counts from zero; results are kept."""
        self.calls, self.spent, self.owed = Counter(), 0.0, 0.0


def speed(name: str, args: argparse.Namespace, folder: Path) -> tuple[common.Table, list[dict]]:
    """Both paths for one model, at every class count."""
    import torch

    backbone = model(name, args.device, folder)
    used = protocol_of(backbone, args)
    pixels = picture(QUICK_SIZE if args.quick else SIZE)
    machine, least = fast_goal()
    table = common.Table(
        f"{name}, classes, path", "time", "ratio", "towers", "maps", "resize+PAMR", width=15
    )
    literal = {
        n: reference_time(
            backbone, pixels, texts(backbone, pixels, n, min(n, args.surviving)), used
        )
        for n in args.classes
    }
    goals = []
    for dtype in dict.fromkeys((args.dtype, "float32")):
        backbone.to(getattr(torch, dtype))
        encode = backbone.encode_pixels = Sampled(backbone.encode_pixels)
        for n in args.classes:
            if dtype == args.dtype:
                table.row(f"{n} literal float32", literal[n][0], "", *literal[n][1])
            for kept in dict.fromkeys((min(n, args.surviving), n)):
                text = texts(backbone, pixels, n, kept)
                total, stages, left = fast_time(backbone, pixels, text, used, encode)
                row = f"{n} ours {dtype}"
                if left != kept:
                    raise TTDError(
                        f"{name}: {left} classes exceed the threshold, not the {kept} that should"
                    )
                table.row(
                    row,
                    total,
                    common.ratio(literal[n][0], total),
                    *stages,
                    f"{left} classes refined",
                )
                if dtype == args.dtype and kept < n:
                    goals.append(
                        common.goal(
                            f"masks, {name}, {n} classes, {dtype}, {machine}",
                            least,
                            literal[n][0],
                            total,
                        )
                    )
        del backbone.encode_pixels
    print(work_done(backbone, encode), flush=True)
    return table, goals


def fast_goal() -> tuple[str, float]:
    """This kind of machine in words, and its goal."""
    if common.has_amx():
        return "CPU with AMX", 7
    return "CPU without AMX", 2


def reference_time(backbone, pixels, text, used) -> tuple[common.Time, list[common.Time]]:
    """The literal path, float32: whole time; that of windows, merging, PAMR with the labels."""
    windows = Sampled(reference_masks.window_masks)
    weights, iterate = Sampled(reference_pamr.weights), Sampled(reference_pamr.iterate)
    maps = []
    merged = common.once(
        lambda: maps.append(reference_masks.soft_masks(backbone, pixels, text, used, windows))
    )
    rest = common.once(
        lambda: reference_masks.label_map(
            reference_masks.refine(pixels, maps[0], weights, iterate), used.background_threshold
        )
    )
    stages = [
        windows.spent + windows.owed,
        merged - windows.spent,
        rest + weights.owed + iterate.owed,
    ]
    return common.Time(sum(stages), scaled=True), [
        common.Time(stage, scaled=True) for stage in stages
    ]


def fast_time(
    backbone, pixels, text, used, encode: Sampled
) -> tuple[common.Time, list[common.Time], int]:
    """Our path: whole time; that of towers, maps, resizing with PAMR; classes that were refined."""
    from core.maps.views import prepare
    from core.masks.labels import decide
    from core.masks.merge import merge
    from core.refine.pamr import PAMR

    prepared = prepare(pixels, used.views)
    encode.reset()
    merged = []
    views = common.once(lambda: merged.append(merge(backbone, prepared, text, used)))
    rest = common.once(lambda: decide(merged[0], pixels, used, pamr=PAMR(pictures=MANY)))
    stages = [encode.spent + encode.owed, views - encode.spent, rest]
    scaled = [common.Time(stage, scaled=i == 0) for i, stage in enumerate(stages)]
    return (
        common.Time(sum(stages), scaled=True),
        scaled,
        int((merged[0].highest > used.background_threshold).sum()),
    )


def work_done(backbone, encode: Sampled) -> str:
    """Windows of the last call and the FLOPs of their towers."""
    import torch

    shapes = {key[0]: calls for key, calls in encode.calls.items()}  # (b, 3, h, w)
    with torch.no_grad():
        each = {
            shape[2:]: common.flops(lambda s=shape: encode.work(torch.zeros(1, *s[1:])))
            for shape in shapes
        }
    windows = sum(shape[0] * calls for shape, calls in shapes.items())
    total = sum(each[shape[2:]] * shape[0] * calls for shape, calls in shapes.items())
    return f"  {windows} windows, {total / 1e12:.2f} TFLOP in our towers"


def agreement(args: argparse.Namespace) -> common.Table:
    """Labels of both paths with `tiny`, images with several classes; TTDError if they differ."""
    kinds = dict.fromkeys(("float32", args.dtype))
    table = common.Table("agreement, tiny, world", "classes", "background", *kinds)
    for number, (pixels, text, used) in enumerate(interesting(args)):
        want, shares = None, []
        for dtype in kinds:
            backbone = tiny(args.device, dtype)
            if want is None:
                want = reference_masks.masks_from_tags(backbone, pixels, text, used)
            same = (ours(backbone, pixels, text, used) == want.cpu().numpy()).mean()
            common.check(f"labels of image {number}, {dtype}", 1 - float(same), 1 - AGREE)
            shares.append(f"{100 * same:.3f} %")
        kept = want.unique()
        table.row(
            f"image {number}",
            len(kept[kept >= 0]),
            f"{100 * float((want < 0).float().mean()):.0f} %",
            *shares,
        )
    return table


def interesting(args: argparse.Namespace) -> list:
    """(pixels, text, resolved protocol) of images where labels can be wrong.

    They have 3 classes or more and 5 to 80 % background.
    """
    from core.masks.protocol import protocol
    from core.text.prompts import embed_classes
    from core.world.objects import NOUNS

    backbone, found = tiny(args.device, "float32"), []
    text = embed_classes(backbone, NOUNS, "OpenAI")
    for background_threshold in (BG, 0.5, 0.6, 0.7, 0.3, 0.2):
        used = protocol("ttd", **TTD).resolve(
            backbone.arch, backbone.image_size, "threshold", background_threshold
        )
        for index in range(CANDIDATES):
            pixels = picture((96, 128), index)
            labels = ours(backbone, pixels, text, used)
            if 0.05 <= (labels < 0).mean() < 0.8 and len(set(labels[labels >= 0])) >= 3:
                found.append((pixels, text, used))
            if len(found) == (1 if args.quick else PICTURES):
                return found
    raise TTDError(
        "no image with three classes and 5 to 80 % background was found to compare labels on"
    )


def tiny(device: str, dtype: str):
    """The shipped model."""
    from core.backbones import load_backbone

    return load_backbone("tiny", device=device, dtype=dtype)


if __name__ == "__main__":
    run(main)
