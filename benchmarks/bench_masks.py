"""How fast masks are made from tags (protocol `ttd`, PAMR), against the literal definition.

    python benchmarks/bench_masks.py             # ViT-B/16, TCL; 640x480; 21, 171 classes
    python benchmarks/bench_masks.py --device cuda
    python benchmarks/bench_masks.py --quick     # tiny only, a small image

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
from functools import partial
from pathlib import Path

import common
import reference_masks
import reference_pamr
from common import positive_int, run

from core.errors import TTDError

TTD = {"scales": (1.0, 0.5, 1.5, 2.0), "hflip": True, "pamr": True}
SIZE = (480, 640)
BG = 0.4
MADE_BG = 0.75  # for `texts`: the image's own are above it everywhere, the others below
AGREE = 0.999  # share of pixels
PICTURES = 3  # with >= 3 classes and 5 to 80 % background
MANY = 10**6  # images of a job that is worth compiling PAMR for
CANDIDATES = 20  # looked through for them


def get_args_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[common.options(rounds=1)],
    )
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
    pixels = picture(SIZE if not args.quick else (96, 128))
    ours, least = fast_goal(args)
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
                            f"masks, {name}, {n} classes, {dtype}, {ours}",
                            least,
                            literal[n][0],
                            total,
                        )
                    )
                    goals += busy_goal(
                        f"{name}, {n} classes",
                        partial(whole, backbone, encode, pixels, text, used),
                        args,
                    )
        del backbone.encode_pixels
    print(work_done(backbone, encode), flush=True)
    return table, goals


def fast_goal(args: argparse.Namespace) -> tuple[str, float]:
    """The goal of this kind of machine, and the machine in words."""
    if args.device.startswith("cuda"):
        return "CUDA", 10
    return ("CPU with AMX", 7) if common.has_bfloat16_units("cpu") else ("CPU without AMX", 2)


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


def busy_goal(what: str, work: Callable[[], object], args: argparse.Namespace) -> list[dict]:
    """On CUDA: how much of our path's time a kernel runs."""
    if not args.device.startswith("cuda"):
        return []
    share = common.gpu_busy(work)
    return [
        {
            "what": f"GPU busy, masks, {what}",
            "goal": ">= 90 %",
            "got": f"{100 * share:.0f} %",
            "met": share >= 0.9,
        }
    ]


def whole(backbone, encode: Sampled, pixels, text, used) -> None:
    """Our path with nothing sampled."""
    backbone.encode_pixels = encode.work
    try:
        ours(backbone, pixels, text, used)
    finally:
        backbone.encode_pixels = encode


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


def model(name: str, device: str, folder: Path):
    """The backbone: ViT-B/16 and TCL have random weights."""
    from core.backbones import load_backbone

    if name == "TCL":
        return random_tcl().to(device)
    return load_backbone(
        "tiny" if name == "tiny" else common.random_clip(name, folder / name), device=device
    )


def random_tcl():
    """TCL in the released shapes, random weights; a shorter text tower, which no mask needs."""
    import torch

    from core.backbones import tcl_layout
    from core.backbones.tcl_loading import build_tcl

    sizes = tcl_layout.Sizes(
        width=768,
        hidden=3072,
        layers=12,
        patch=16,
        positions=197,
        dim=512,
        text_width=512,
        text_hidden=2048,
        text_layers=1,
        context=77,
        vocabulary=49408,
        tail=(11,),
        stages=(0, 1),
    )
    generator = torch.Generator().manual_seed(0)
    state = {
        name: torch.randn(shape, generator=generator) / max(1, shape[-1] if shape else 1) ** 0.5
        for name, shape in tcl_layout.layout(sizes).items()
    }
    for name, value in state.items():
        if name.endswith("conv.weight"):
            value /= 9**0.5 * 768**0.5 / 3**0.5
    state["masker.sim2mask.w"], state["masker.sim2mask.b"] = torch.tensor(10.0), torch.tensor(-2.5)
    backbone = build_tcl(state, "random TCL")
    backbone.arch, backbone.head = "TCL", "maskclip"
    return backbone.eval().requires_grad_(False)


def protocol_of(backbone, args: argparse.Namespace):
    """Protocol `ttd` with PAMR, resolved, for `texts`."""
    from core.masks.protocol import protocol

    views = {**TTD, "scales": (1.0, 0.5)} if args.quick else TTD
    return protocol("ttd", **views).resolve(
        backbone.arch, backbone.image_size, "threshold", MADE_BG
    )


def picture(size: tuple[int, int], index: int = 0):
    """An image of the procedural world, uint8 [H, W, 3]."""
    import numpy as np
    from PIL import Image

    from core.world.sample import make_sample

    sample = make_sample(0, "val", index, max(size)).image
    return np.array(Image.fromarray(sample).resize(size[::-1]))


def texts(backbone, pixels, classes: int, kept: int):
    """Embeddings [N, D]; the first `kept` are the image's own and survive, the others do not."""
    import torch
    import torch.nn.functional as F

    generator = torch.Generator().manual_seed(1)
    small = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    small = F.interpolate(small, size=(64, 64))
    encode = type(backbone).encode_pixels
    with torch.no_grad():
        dense = F.normalize(
            encode(backbone, backbone.normalize(small)).float()[0].flatten(1).T, dim=1
        )  # (h*w, D)
    own = dense[torch.arange(kept, device=dense.device) * 7 % len(dense)]
    noise = F.normalize(torch.randn(classes, dense.shape[1], generator=generator), dim=1).to(dense)
    return torch.cat(
        [own + 0.1 * noise[:kept], 0.3 * noise[kept:] - F.normalize(dense.mean(0), dim=0)]
    )


def agreement(args: argparse.Namespace) -> common.Table:
    """Labels of both paths with `tiny`, images with several classes; TTDError if they differ."""
    kinds = dict.fromkeys(("float32", args.dtype))
    table = common.Table("agreement, tiny, world", "classes", "background", *kinds)
    for number, (pixels, text, used) in enumerate(interesting(args)):
        want, shares = None, []
        for dtype in kinds:
            backbone = tiny(args.device, dtype)
            want = (
                reference_masks.masks_from_tags(backbone, pixels, text, used)
                if want is None
                else want
            )
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


def ours(backbone, pixels, text, used):
    """Our path whole: class indices [H, W], -1 for the background."""
    from core.maps.views import prepare
    from core.masks.labels import decide
    from core.masks.merge import merge
    from core.refine.pamr import PAMR

    merged = merge(backbone, prepare(pixels, used.views), text, used)
    return decide(merged, pixels, used, pamr=PAMR(pictures=MANY))[0]


if __name__ == "__main__":
    run(main)
