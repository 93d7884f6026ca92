"""How fast a training step of TTD is, against loops over captions, words and full prompts.

    python benchmarks/bench_ttd_step.py             # ViT-B/16, random weights, batch 64
    python benchmarks/bench_ttd_step.py --model tiny --batch 16
    python benchmarks/bench_ttd_step.py --device cuda --dtype bfloat16

A step: images and texts through both towers, loss, gradients of a LoRA adapter of rank 8 on both
encoders. The images go through the tower as one batch on both sides; the reference encodes every
word of every caption by itself at full length (77 tokens) and loops over captions, on a slice of
the batch ("scaled"). Losses and gradients are compared there. Captions have 9 to 11 words each, so
that a slice of them is like the whole. Text side = texts alone, forward and backward; "no word
twice" is its worst case, captions of made-up words that share nothing.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import common
import models
from common import run
from models import full_prompt

if TYPE_CHECKING:
    from torch import Tensor

    from core.backbones.base import Backbone
    from core.ttd.embedding import TextBatch
    from core.ttd.loss import Losses

WORDS = range(9, 12)  # of a caption
SYLLABLES = list(map("".join, itertools.product("bdfgklmnprstvz", "aeiou")))


def get_args_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = common.parser(__doc__, rounds=2)
    models.add_model(parser, default="ViT-B-16")
    parser.add_argument(
        "--batch", type=common.positive_int, default=64, help="captions (default: %(default)s)"
    )
    parser.add_argument(
        "--slice",
        type=common.positive_int,
        default=4,
        help="captions of the reference, whose time is then scaled (default: %(default)s)",
    )
    return parser


@dataclass(frozen=True)
class Case:
    """A backbone with an adapter, normalized images [B, 3, H, W] on its device and their captions.

    raw [B, 3, H, W]: the images in [0, 1] on the CPU, where something needs them.
    """

    backbone: Backbone
    images: Tensor
    captions: list[str]
    raw: Tensor | None = None

    def first(self, count: int) -> Case:
        """The same with `count` images."""
        return Case(self.backbone, self.images[:count], self.captions[:count])


def main(argv: Sequence[str] | None = None) -> int:
    """Compare, time, print."""
    import torch

    from core.backbones.device import use_threads

    args = common.start(get_args_parser(), argv)
    use_threads(args.threads)  # as training does; the reference gains as much
    if args.quick:
        args.model, args.batch, args.slice = "tiny", 8, 4
    if args.dtype == "bfloat16" and not args.device.startswith("cuda"):
        args.dtype = "float32"  # training on a CPU is float32
    with tempfile.TemporaryDirectory() as folder:
        case = make_case(args, Path(folder))
        case.backbone.tokenize(["made while its folder is there"])
    part = case.first(args.slice)
    compare(part, 1e-5)  # in float32: after rounding to bfloat16 Otsu's cut may fall elsewhere
    case.backbone.to(getattr(torch, args.dtype))
    table = common.Table("part", "reference", "ours", "ratio", "GFLOP", "reference's", width=14)
    factor = args.batch / len(part.captions)
    unique = Case(case.backbone, case.images, made_up(args.batch))
    rows = {
        "text side": time_texts(case, part, args),
        "text side, no word twice": time_texts(unique, unique.first(args.slice), args),
        "whole step": time_steps(case, part, args),
    }
    for name, (slow, fast, work) in rows.items():
        slow = slow.times(factor)
        shown = case.captions
        if "twice" in name:
            shown = unique.captions
        figures_of_work = (f"{work[1] / 1e9:.0f}", f"{work[0] * factor / 1e9:.0f}")
        table.row(name, slow, fast, common.ratio(slow, fast), *figures_of_work, counts(shown))
    stages(case, args)
    goals = [("text side", 10), ("whole step", 2.3)]
    if args.device.startswith("cuda"):
        goals = [("text side", 10), ("whole step", 5)]
    title = f"TTD step, batch {args.batch}, {args.model}, {args.dtype}"
    figures = {
        f"ratio, {name}": slow.seconds * factor / fast.seconds
        for name, (slow, fast, _) in rows.items()
    }
    common.save(
        args,
        [table],
        [
            common.goal(f"{title}: {name}", least, rows[name][0].times(factor), rows[name][1])
            for name, least in goals
        ],
        figures,
    )
    return 0


def make_case(args: argparse.Namespace, folder: Path) -> Case:
    """The model in float32 with a fresh adapter, and captioned images of the procedural world."""
    import torch

    from core.backbones import load_backbone
    from core.backbones.lora.adapter import add_adapter
    from core.backbones.lora.targets import lora_targets
    from core.data.words import split_words
    from core.world.sample import make_sample

    backbone = load_backbone(models.arch_of(args.model, folder), device=args.device)
    torch.manual_seed(0)
    add_adapter(backbone, lora_targets(backbone), rank=8, alpha=8.0)
    samples = (make_sample(0, "train", i, backbone.image_size) for i in itertools.count())
    samples = list(
        itertools.islice((s for s in samples if len(split_words(s.text)) in WORDS), args.batch)
    )
    pictures = torch.stack([torch.from_numpy(sample.image) for sample in samples])
    raw = pictures.permute(0, 3, 1, 2).float().div(255).contiguous()
    return Case(
        backbone.to(args.device), backbone.normalize(raw), [sample.text for sample in samples], raw
    )


def ours(case: Case) -> Losses:
    """The project's loss (core/ttd/loss.py)."""
    from core.ttd.config import DistillConfig
    from core.ttd.embedding import embed, gather_texts
    from core.ttd.loss import ttd_loss

    texts = gather_texts(case.captions)
    student = embed(case.backbone, case.images, texts)
    return ttd_loss(
        student, texts, DistillConfig(), (case.backbone.mask_scale, case.backbone.mask_bias)
    )


def literal(case: Case) -> Tensor:
    """The definition: each word a full prompt, MSE against min-max maps and their union.

    A scalar, the mean over the images.
    """
    import torch
    import torch.nn.functional as F

    from core.data.words import split_words

    total = 0
    pixels = F.normalize(case.backbone.encode_pixels(case.images).float(), dim=1)  # (B, D, h, w)
    for dense, caption in zip(pixels, case.captions, strict=True):
        maps = torch.stack(
            [
                torch.einsum("dhw,d->hw", dense, full_prompt(case.backbone, word.text))
                for word in split_words(caption)
            ]
        )  # (K, h, w)
        own = torch.einsum("dhw,d->hw", dense, full_prompt(case.backbone, caption))
        selected = otsu(maps.detach().amax((1, 2)))
        targets = torch.zeros_like(maps)
        for target, one, kept in zip(targets, maps.detach(), selected, strict=True):
            if kept:
                target.copy_(stretched(one))
        total = total + ((own - targets.amax(0)) ** 2).mean() + ((maps - targets) ** 2).mean()
    return total / len(case.captions)


def stretched(values: Tensor) -> Tensor:
    """[...] -> [...]: min-max to [0, 1]."""
    return (values - values.min()) / (values.max() - values.min())


def otsu(scores: Tensor) -> list[bool]:
    """Which of a caption's scores [K] lie above Otsu's cut: most variance between its sides."""
    if len(scores) < 2:
        return [True] * len(scores)
    stretched_scores = stretched(scores.double()).tolist()
    values, cuts = sorted(stretched_scores), []
    for count in range(1, len(values)):
        low, high = values[:count], values[count:]
        gap = sum(low) / len(low) - sum(high) / len(high)
        cuts.append((len(low) * len(high) * gap**2, (low[-1] + high[0]) / 2))
    best = max(cuts)[1]
    return [score > best for score in stretched_scores]


def texts_ours(case: Case) -> Tensor:
    """All texts of a batch as `embed` encodes them; a scalar that depends on all of them."""
    from core.text.encode import encode_texts
    from core.ttd.embedding import gather_texts

    texts = gather_texts(case.captions)
    return encode_texts(case.backbone, texts.words + texts.captions).square().sum(1).mean()


def texts_literal(case: Case) -> Tensor:
    """All texts of a batch as `literal` encodes them; a scalar that depends on all of them."""
    from core.data.words import split_words

    texts = list(case.captions)
    for caption in case.captions:
        texts += [word.text for word in split_words(caption)]
    return sum(full_prompt(case.backbone, text).square().sum() for text in texts)


def gradients(case: Case, loss: Tensor) -> list[Tensor]:
    """The adapter's gradients of a loss, a scalar: each [...] as its parameter."""
    import torch

    trained = [parameter for parameter in case.backbone.parameters() if parameter.requires_grad]
    return list(torch.autograd.grad(loss, trained, allow_unused=True, materialize_grads=True))


def compare(case: Case, allowed: float) -> None:
    """TTDError unless the loss agrees within `allowed` and gradients within 100 times that.

    Gradients are compared relative to the largest one.
    """
    mine, theirs = ours(case).total, literal(case)
    common.check("loss", abs(float(mine.detach()) - float(theirs.detach())), allowed)
    pairs = list(zip(gradients(case, mine), gradients(case, theirs), strict=True))
    largest = max(float(b.abs().max()) for _, b in pairs)
    common.check(
        "gradients", max(float((a - b).abs().max()) for a, b in pairs) / largest, 100 * allowed
    )


def time_texts(
    case: Case, part: Case, args: argparse.Namespace
) -> tuple[common.Time, common.Time, tuple]:
    """Texts alone, forward and backward: reference on `part`, ours on `case`; FLOPs of both."""
    return _both(
        lambda: _text_step(part, texts_literal), lambda: _text_step(case, texts_ours), args
    )


def time_steps(
    case: Case, part: Case, args: argparse.Namespace
) -> tuple[common.Time, common.Time, tuple]:
    """The same for a whole step."""
    return _both(
        lambda: gradients(part, literal(part)), lambda: gradients(case, ours(case).total), args
    )


def _text_step(case: Case, texts: Callable[[Case], Tensor]) -> None:
    gradients(case, texts(case))


def _both(
    slow: Callable, fast: Callable, args: argparse.Namespace
) -> tuple[common.Time, common.Time, tuple]:
    work = common.flops(slow), common.flops(fast)  # warms up as well
    taken = common.in_turns({"reference": slow, "ours": fast}, args, warm_up=0)
    return taken["reference"], taken["ours"], work


def stages(case: Case, args: argparse.Namespace) -> None:
    """Print where our step's time goes."""
    import torch

    from core.text.encode import encode_texts
    from core.ttd.embedding import gather_texts

    texts = gather_texts(case.captions)
    with torch.no_grad():
        parts = {
            "gather texts": lambda: gather_texts(case.captions),
            "texts forward": lambda: encode_texts(case.backbone, texts.words + texts.captions),
            "images forward": lambda: case.backbone.encode_pixels(case.images),
        }
        taken = {
            name: common.measure(work, args, warm_up=0, rounds=1) for name, work in parts.items()
        }
    print(
        "stages of ours: "
        + ", ".join(f"{name} {value}" for name, value in taken.items())
        + "; the rest is maps, loss and the backward pass"
    )


def counts(captions: Sequence[str]) -> str:
    """What the texts of a batch are."""
    from core.ttd.embedding import gather_texts

    texts: TextBatch = gather_texts(captions)
    return f"{len(captions)} captions, {int(texts.valid.sum())} words, {len(texts.words)} distinct"


def made_up(count: int, words: int = 10) -> list[str]:
    """Captions of made-up words, none twice: they begin with the caption's number in syllables."""
    captions = []
    for number in range(count):
        later, first = divmod(number, len(SYLLABLES))
        start = SYLLABLES[first] + SYLLABLES[later]
        captions.append(" ".join(start + end for end in SYLLABLES[:words]))
    return captions


if __name__ == "__main__":
    run(main)
