"""A training step of TCL against the loss written down: all masks of all texts held at once.

    python benchmarks/bench_tcl_step.py                              # ViT-B/16, random weights
    python benchmarks/bench_tcl_step.py --batch 64 --texts 1024 --device cuda --dtype bfloat16
    python benchmarks/bench_tcl_step.py --quick

A step: images through the frozen tower, masker, all terms of the loss, gradients of everything that
is trained, the copied block included. --texts: of all processes of the published run; those beyond
the batch are random embeddings, so one process does the work that each of the 16 has. The reference
is the definition: similarity, logits, masks and pooled features of all texts in one graph.
Losses and gradients are compared, then time and peak memory of both are measured in turns.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import common
import models
from common import run

if TYPE_CHECKING:
    from torch import Tensor

    from core.backbones.tcl.model import TCLBackbone
    from core.training.distributed import Ranks


def get_args_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = common.parser(__doc__, rounds=2)
    add = parser.add_argument
    add("--model", default="ViT-B-16", metavar="NAME", help="open_clip's name (random weights)")
    add("--batch", type=common.positive_int, default=4, help="images (default: %(default)s)")
    add("--texts", type=common.positive_int, default=256, help="of the loss (default: %(default)s)")
    add("--chunk", type=int, help="texts at a time (default: by memory)")
    return parser


@dataclass(frozen=True)
class Case:
    """A TCL, normalized images [B, 3, H, W], text embeddings [N, D], noise [B, 1, h, w]."""

    backbone: TCLBackbone
    images: Tensor
    texts: Tensor
    noise: Tensor
    dtype: str


def main(argv: Sequence[str] | None = None) -> int:
    """Compare, time, print."""
    args = common.start(get_args_parser(), argv)
    if args.quick:
        args.batch, args.texts = 2, 64
    with tempfile.TemporaryDirectory() as folder:
        case = make_case(args, Path(folder))
    compare(case, args)
    whole = compared(
        args,
        "step",
        lambda: gradients(case, literal(case)),
        lambda: gradients(case, ours(case, args.chunk)),
    )
    pixels = detached_pixels(case)
    texts = compared(
        args,
        "masks of all texts",
        lambda: text_gradients(case, pixels, literal_texts),
        lambda: text_gradients(case, pixels, lambda *of: our_texts(*of, args.chunk)),
    )
    share = texts.peaks[1] / max(1, texts.peaks[0])
    what = f"TCL, masks of {args.texts} texts for {args.batch} images, {args.model}: peak memory"
    goals = [common.goal_below(what, 0.4, share, " of the reference's")]
    common.save(args, [whole.table, texts.table, stages(case, args)], goals)
    return 0


@dataclass(frozen=True)
class Compared:
    """A printed table, and peak memory of the reference and of ours in bytes."""

    table: common.Table
    peaks: tuple[int, int]


def compared(
    args: argparse.Namespace, what: str, slow: Callable[[], object], fast: Callable[[], object]
) -> Compared:
    """Time in turns, peak memory and FLOPs of the reference and of ours."""
    works = {"reference": slow, "ours": fast}
    peaks = {name: common.peak_memory(work, args.device) for name, work in works.items()}
    flops = {name: common.flops(work) for name, work in works.items()}
    times = common.in_turns(works, args, warm_up=0)
    table = common.Table(what, "time", "peak memory", "GFLOP", "images/s", width=14)
    for name, time in times.items():
        memory, rate = common.megabytes(peaks[name]), f"{args.batch / time.seconds:.3g}"
        table.row(name, time, memory, f"{flops[name] / 1e9:.0f}", rate)
    return Compared(table, (peaks["reference"], peaks["ours"]))


def make_case(args: argparse.Namespace, folder: Path) -> Case:
    """A fresh TCL on a random CLIP, its gates open."""
    import torch

    from core.backbones import load_backbone
    from core.tcl.model import tcl_from_clip, trained_parameters

    base = load_backbone(models.arch_of(args.model, folder), device=args.device)
    backbone = tcl_from_clip(base)
    trained = trained_parameters(backbone)
    generator = torch.Generator().manual_seed(0)
    side = backbone.image_size
    with torch.no_grad():
        for name, parameter in trained.items():
            if name.endswith("gate"):
                parameter.fill_(0.3)
    images = torch.randn(args.batch, 3, side, side, generator=generator)
    dim = backbone.masker.proj.shape[1]
    texts = torch.randn(max(args.texts, args.batch), dim, generator=generator)
    cells = side // backbone.stride
    noise = torch.rand(args.batch, 1, cells, cells, generator=generator)
    moved = [part.to(args.device) for part in (images, texts, noise)]
    return Case(backbone, moved[0], moved[1], moved[2], args.dtype)


class OneOfMany:
    """The first of several processes; the others have texts alone, and no gradients."""

    rank = 0

    def __init__(self, case: Case):
        self.case, self.world = case, len(case.texts) // len(case.images)

    def all_gather(self, values: Tensor) -> Tensor:
        """The texts of all, where texts are gathered; else this process's rows, repeated."""
        import torch
        import torch.nn.functional as F

        if len(values) != len(self.case.images):
            return values  # means over this process
        if not values.requires_grad:
            return F.normalize(self.case.texts.float(), dim=-1)
        return torch.cat([values, *[values.detach()] * (self.world - 1)])


def ours(case: Case, chunk: int | None) -> Tensor:
    """The project's loss (core/tcl/objective.py)."""
    from core.tcl.config import LossConfig
    from core.tcl.objective import tcl_loss

    ranks: Ranks = OneOfMany(case)  # type: ignore[assignment]
    mine = case.texts[: len(case.images)]
    with autocast(case):
        config = LossConfig(chunk=chunk)
        terms, _ = tcl_loss(case.backbone, case.images, mine, config, ranks=ranks, noise=case.noise)
    return sum(terms.values())


def literal(case: Case) -> Tensor:
    """The definition, all texts at once."""
    import torch
    import torch.nn.functional as F

    count, learned = len(case.images), case.backbone.make_trainable()
    ranks = OneOfMany(case)
    t = F.normalize(case.texts.float(), dim=-1, eps=1e-6)
    with autocast(case):
        e = case.backbone.encode_pixels(case.images)
        similarity = torch.einsum("bdhw,nd->bnhw", F.normalize(e, dim=1, eps=1e-6), t)
    e, logits = e.float(), learned.w * similarity.float() + learned.b
    soft = logits.sigmoid()  # [B, N, h, w]
    positive = soft[torch.arange(count), torch.arange(count)]
    others = ~torch.eye(count, len(t), dtype=torch.bool, device=e.device)
    negative = soft[others]
    with autocast(case):
        sums = torch.einsum("bnhw,bdhw->bnd", soft, e)
    pooled = sums.float() / (soft.sum((2, 3))[..., None] + 1e-6)
    agreement = (F.normalize(pooled, dim=-1, eps=1e-6) * t).sum(-1)
    felt = learned.tclf.exp().clamp(max=100)
    labels = torch.arange(count, device=e.device)
    columns = ranks.all_gather(agreement)[:, :count].T
    tclf = (F.cross_entropy(felt * agreement, labels) + F.cross_entropy(felt * columns, labels)) / 2
    own = logits[torch.arange(count), torch.arange(count)]
    y = torch.sigmoid(own + torch.logit(case.noise[:, 0]))
    hard = ((y > 0.5).float() - y.detach() + y)[:, None]
    with autocast(case):
        shown = case.images * F.interpolate(hard, size=case.images.shape[-2:], mode="nearest")
        seen = case.backbone.encode_image(shown)
    v = F.normalize(seen.float(), dim=-1, eps=1e-6)
    scale = learned.tcli.exp().clamp(max=100)
    there = F.cross_entropy(scale * v @ t.T, labels)
    back = F.cross_entropy(scale * t[:count] @ ranks.all_gather(v).T, labels)
    area, other_area = (positive.mean() - 0.4).abs(), negative.mean()
    losses = 0.4 * area + 0.4 * other_area + 0.1 * tclf + 0.1 * (there + back) / 2
    return losses + variation(e) + variation(soft)


def detached_pixels(case: Case) -> Tensor:
    """The masker's embeddings [B, D, h, w], as a leaf."""
    import torch

    with torch.no_grad(), autocast(case):
        pixels = case.backbone.encode_pixels(case.images).float()
    return pixels.requires_grad_(True)


def text_gradients(case: Case, pixels: Tensor, total: Callable[..., Tensor]) -> Tensor:
    """Of a scalar made of the masks of all texts, back to the pixels."""
    import torch
    import torch.nn.functional as F

    texts = F.normalize(case.texts.float(), dim=-1)
    with autocast(case):
        loss = total(case, pixels, texts)
    return torch.autograd.grad(loss, pixels)[0]


def our_texts(case: Case, pixels: Tensor, texts: Tensor, chunk: int | None) -> Tensor:
    """Agreement, area and total variation of all masks, in chunks (core/tcl/text_maps.py)."""
    from core.tcl.text_maps import lengths_of, text_maps

    learned = case.backbone.make_trainable()
    sim2mask = (learned.w, learned.b)
    maps = text_maps(pixels, lengths_of(pixels), texts, sim2mask, chunk)
    return maps.agreement.mean() + maps.area.mean() + maps.variation.mean()


def literal_texts(case: Case, pixels: Tensor, texts: Tensor) -> Tensor:
    """The same of all masks at once."""
    import torch
    import torch.nn.functional as F

    learned = case.backbone.make_trainable()
    directions = F.normalize(pixels, dim=1, eps=1e-6)
    similarity = torch.einsum("bdhw,nd->bnhw", directions, texts).float()
    soft = torch.sigmoid(learned.w * similarity + learned.b)
    sums = torch.einsum("bnhw,bdhw->bnd", soft, pixels).float()
    pooled = F.normalize(sums / (soft.sum((2, 3))[..., None] + 1e-6), dim=-1, eps=1e-6)
    return (pooled * texts).sum(-1).mean() + soft.mean() + variation(soft)


def variation(x: Tensor) -> Tensor:
    """Mean absolute differences of neighbours."""
    across = (x[..., :, 1:] - x[..., :, :-1]).abs().mean()
    return across + (x[..., 1:, :] - x[..., :-1, :]).abs().mean()


def autocast(case: Case):
    """The towers' products in the benchmark's type."""
    import contextlib

    import torch

    if case.dtype == "float32":
        return contextlib.nullcontext()
    return torch.autocast(case.images.device.type, getattr(torch, case.dtype))


def gradients(case: Case, loss: Tensor) -> list[Tensor]:
    """Of everything that is trained."""
    import torch

    trained = [p for p in case.backbone.parameters() if p.requires_grad]
    return list(torch.autograd.grad(loss, trained, allow_unused=True, materialize_grads=True))


def compare(case: Case, args: argparse.Namespace) -> None:
    """TTDError unless loss and gradients agree."""
    allowed = 1e-5 if case.dtype == "float32" else 2e-2
    mine, theirs = ours(case, args.chunk), literal(case)
    common.check("loss", abs(mine.item() - theirs.item()), allowed)
    pairs = list(zip(gradients(case, mine), gradients(case, theirs), strict=True))
    largest = max(float(b.abs().max()) for _, b in pairs)
    difference = max(float((a - b).abs().max()) for a, b in pairs) / largest
    common.check("gradients", difference, 10 * allowed)


def stages(case: Case, args: argparse.Namespace) -> common.Table:
    """Where our step's time goes, forward alone; the rest is the backward pass."""
    import torch
    import torch.nn.functional as F

    from core.tcl.text_maps import lengths_of, text_maps

    backbone, learned = case.backbone, case.backbone.make_trainable()
    with torch.no_grad(), autocast(case):
        pixels = backbone.encode_pixels(case.images).float()
    lengths, texts = lengths_of(pixels), F.normalize(case.texts, dim=1)
    before = len(backbone.visual.blocks) - 1
    parts: dict[str, Callable[[], object]] = {
        "frozen blocks": lambda: backbone.visual.before_block(case.images, before),
        "with the masker": lambda: backbone.encode_pixels(case.images),
        "masks of all texts": lambda: text_maps(
            pixels, lengths, texts, (learned.w, learned.b), args.chunk
        ),
        "masked images": lambda: backbone.encode_image(case.images),
    }
    table = common.Table("stage, forward", "time")
    with torch.no_grad(), autocast(case):
        for name, work in parts.items():
            table.row(name, common.measure(work, args, rounds=1))
    return table


if __name__ == "__main__":
    run(main)
