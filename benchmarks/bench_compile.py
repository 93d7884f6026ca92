"""What `torch.compile` and CUDA graphs would add to the image tower: where do launches bind?

    python benchmarks/bench_compile.py --device cuda     # ViT-B/16, random weights, bfloat16
    python benchmarks/bench_compile.py --quick

Rows: the tower as it is; the same captured once as a CUDA graph and replayed (no launches);
compiled by torch.compile, with the seconds that compiling took. A tower that a graph makes no
faster is not bound by launches.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import common
import gpu_measures
import models
from common import run

if TYPE_CHECKING:
    from torch import Tensor

CASES = (
    (1, 224),
    (8, 448),
    (64, 224),
)  # images, side: the demo's, a batch of windows, tags or training
QUICK = ((2, 96),)
ALLOWED = {"float32": 1e-3, "bfloat16": 5e-2}  # |difference| / |value|


def get_args_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = common.parser(__doc__)
    parser.add_argument(
        "--model", default="ViT-B-16", metavar="NAME", help="open_clip's name, or tiny"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Print one table."""
    from core.backbones import load_backbone

    args = common.start(get_args_parser(), argv)
    if args.quick:
        args.model = "tiny"
    table = common.Table("images x side, way", "time", "ratio", "compiling", width=15)
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        arch = models.arch_of(args.model, Path(folder))
        backbone = load_backbone(arch, device=args.device, dtype=args.dtype)
        for count, side in QUICK if args.quick else CASES:
            compare(backbone, count, side, args, table, figures)
    common.save(args, [table], figures=figures)
    return 0


def compare(
    backbone,
    count: int,
    side: int,
    args: argparse.Namespace,
    table: common.Table,
    figures: dict[str, float],
) -> None:
    """Rows of one batch shape. A way that does not work here has a row that says why."""
    import torch

    generator = torch.Generator().manual_seed(0)
    images = torch.randn(count, 3, side, side, generator=generator).to(args.device, backbone.dtype)
    name, plain = f"{count} x {side}", None
    for way, make in (("as it is", eager), ("CUDA graph", graph), ("torch.compile", compiled)):
        try:
            with torch.no_grad():
                work, prepared = make(backbone, images)
                taken = common.measure(work, args, warm_up=2)
        except (
            Exception
        ) as error:  # no compiler here, a graph that cannot be captured: said, not hidden
            table.row(
                f"{name} {way}",
                "no",
                "",
                "",
                " ".join(str(error).split())[:100] or type(error).__name__,
            )
            continue
        plain = plain or (taken, work())
        agree(f"{name} {way}", work(), plain[1], args.dtype)
        table.row(f"{name} {way}", taken, common.ratio(plain[0], taken), prepared or "")
        figures[f"ms, {name}, {way}"] = 1000 * taken.seconds


def agree(what: str, got: Tensor, want: Tensor, dtype: str) -> None:
    """TTDError when two ways give different pixel embeddings [B, D, h, w]."""
    got, want = got.float(), want.float()
    common.check(what, float((got - want).norm() / want.norm()), ALLOWED[dtype])


def eager(backbone, images: Tensor) -> tuple[Callable[[], Tensor], None]:
    """The tower as it is, on images [B, 3, H, W]."""
    return lambda: backbone.encode_pixels(images), None


def graph(backbone, images: Tensor) -> tuple[Callable[[], Tensor], common.Time]:
    """Its kernels on images [B, 3, H, W], recorded once and replayed; the time of recording."""
    import torch

    if not gpu_measures.is_cuda(str(images.device)):
        raise RuntimeError("CUDA graphs need a GPU")
    recorded, result = torch.cuda.CUDAGraph(), []

    def record() -> None:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                backbone.encode_pixels(images)
        torch.cuda.current_stream().wait_stream(side)
        with torch.cuda.graph(recorded):
            result.append(backbone.encode_pixels(images))

    took = common.Time(common.once(record))

    def replay() -> Tensor:
        recorded.replay()
        return result[0]

    return replay, took


def compiled(backbone, images: Tensor) -> tuple[Callable[[], Tensor], common.Time]:
    """Compiled for images of this shape [B, 3, H, W]; the time until the first result."""
    import torch

    torch._dynamo.reset()
    tower = torch.compile(backbone.encode_pixels, dynamic=False)
    took = common.once(lambda: tower(images))
    return lambda: tower(images), common.Time(took)


if __name__ == "__main__":
    run(main)
