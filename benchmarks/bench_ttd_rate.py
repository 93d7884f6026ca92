"""How many pairs a second a TTD step takes, with its parts and its memory, as training does it.

    python benchmarks/bench_ttd_rate.py --device cuda     # ViT-B/16, random weights
    python benchmarks/bench_ttd_rate.py --quick

A step is what `Trainer` makes of a batch: images to the device and normalized, frozen teacher and
student through both towers (autocast in bfloat16), loss, backward, clipping, AdamW on a LoRA
adapter of rank 8. Reading pairs is not in it. "recipe", of the smallest batch, is the same with
the loss of configs/ttd_any.yaml: words chosen by a calibration, PAMR's targets, ranks. The parts
are those of the plain step, timed by themselves, each waited for, so their sum may exceed it.
`bench_ttd_step.py` compares a step with the loss written down literally.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import bench_ttd_step
import common
from common import ROOT, run

if TYPE_CHECKING:
    from core.ttd.distiller import Distiller

DTYPES = ("float32", "bfloat16")


def get_args_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = common.parser(__doc__)
    parser.add_argument(
        "--model", default="ViT-B-16", metavar="NAME", help="as bench_ttd_step.py's"
    )
    parser.add_argument(
        "--batch",
        nargs="+",
        type=common.positive_int,
        default=[64, 256],
        metavar="N",
        help="pairs of a step (default: 64 and 256)",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Print two tables."""
    from core.ttd.config import DistillConfig
    from core.ttd.distiller import Distiller
    from core.utils.memory import is_out_of_memory

    args = common.start(get_args_parser(), argv)
    if args.quick:
        args.model, args.batch = "tiny", [4]
    rates = common.Table("batch, type", "step", "pairs/s", "memory", "to plain")
    parts = common.Table("part", "time", "share of the step")
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        case = make_case(args, Path(folder))
        plain = Distiller(case.backbone, DistillConfig(teacher="frozen")), list[str]()
        losses = {"": plain, ", recipe": recipe(case)}
        tables = {"rates": rates, "parts": parts, "figures": figures}
        for batch, dtype in itertools.product(args.batch, DTYPES):
            chosen = losses if batch == min(args.batch) else {"": plain}  # one size is enough
            try:
                measure_step(case.first(batch), dtype, chosen, args, **tables)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                rates.row(f"{batch}, {dtype}", "no", "", "does not fit", "")
    common.save(args, [rates, parts], figures=figures)
    return 0


def make_case(args: argparse.Namespace, folder: Path) -> bench_ttd_step.Case:
    """As many pairs as the largest batch; images [B, 3, H, W] in [0, 1] on the CPU."""
    case = bench_ttd_step.make_case(
        argparse.Namespace(**{**vars(args), "batch": max(args.batch)}), folder
    )
    case.backbone.tokenize(["made while its folder is there"])
    return bench_ttd_step.Case(case.backbone, case.raw, case.captions)


def measure_step(
    few: bench_ttd_step.Case,
    dtype: str,
    losses: Mapping[str, tuple[Distiller, list[str]]],
    args: argparse.Namespace,
    rates: common.Table,
    parts: common.Table,
    figures: dict[str, float],
) -> None:
    """A row of each whole step and rows of the plain one's parts: one batch, one number type.

    losses: the plain one, "", and others by name, each with a step's words of other captions.
    """
    import torch

    from core.training.distributed import Ranks
    from core.training.task import Step

    batch = len(few.captions)
    name = f"{batch}, {dtype}"
    number = Step(0, Ranks(), few.backbone.device, getattr(torch, dtype))
    times = {}
    for of, (distiller, others) in losses.items():
        title = name + of
        optimizer = torch.optim.AdamW(distiller.parameters.values(), lr=1e-5)

        def step(distiller=distiller, others=others, optimizer=optimizer) -> None:
            optimizer.zero_grad(set_to_none=True)
            distiller.distill(few.images, few.captions, number, others).total.backward()
            torch.nn.utils.clip_grad_norm_(distiller.parameters.values(), 1.0)
            optimizer.step()

        took = times[title] = common.measure(step, args, warm_up=1 if args.quick else 3)
        memory = common.peak_memory(step, args.device)
        share = f"{took.seconds / times[name].seconds:.2f} times"
        rates.row(title, took, f"{batch / took.seconds:.1f}", common.megabytes(memory), share)
        figures |= {f"pairs/s, {title}": batch / took.seconds, f"peak MB, {title}": memory / 1e6}
    for part, work in works(few, losses[""][0], number).items():
        alone = common.measure(work, args)
        parts.row(f"{name}: {part}", alone, f"{100 * alone.seconds / times[name].seconds:.0f} %")
        figures[f"{part} ms, {name}"] = 1000 * alone.seconds


def recipe(case: bench_ttd_step.Case) -> tuple[Distiller, list[str]]:
    """The loss of configs/ttd_any.yaml, calibrated on the case's pairs; the words of one step."""
    import numpy as np

    from core.backbones.lora.adapter import adapter_disabled
    from core.refine.pamr import PAMR
    from core.ttd.calibration import calibrate
    from core.ttd.config import load_config
    from core.ttd.distiller import Distiller
    from core.utils.config import read_recipe

    config = load_config(read_recipe(ROOT / "configs" / "ttd_any.yaml"), "ttd_any.yaml").distill
    # As many as a run has, again and again the same: a step compares with all of them.
    pairs = itertools.cycle(zip(case.images, case.captions, strict=True))
    images, captions = zip(*itertools.islice(pairs, config.calibration), strict=True)
    with adapter_disabled(case.backbone):
        found = calibrate(case.backbone, images, captions, stopwords=True)
    pamr = PAMR(pictures=1000)  # as a run has: a kernel that must be compiled pays
    others = found.draw(np.random.default_rng(0), config.rank_words)
    return Distiller(case.backbone, config, pamr, found), others


def works(case: bench_ttd_step.Case, distiller, number) -> dict[str, Callable[[], object]]:
    """The parts of a step by name."""
    import torch

    from core.text.encode import encode_texts
    from core.ttd.embedding import gather_texts

    backbone, texts = case.backbone, gather_texts(case.captions)
    images = backbone.normalize(case.images.to(backbone.device))

    @torch.no_grad()
    def forward(work: Callable[[], object]) -> None:
        with number.autocast():
            work()

    def backward() -> None:
        distiller.distill(case.images, case.captions, number).total.backward()

    return {
        "captions to words": lambda: gather_texts(case.captions),
        "images to the device": lambda: backbone.normalize(case.images.to(backbone.device)),
        "images forward": lambda: forward(lambda: backbone.encode_pixels(images)),
        "texts forward": lambda: forward(
            lambda: encode_texts(backbone, texts.words + texts.captions)
        ),
        "loss with its forward passes": lambda: distiller.distill(
            case.images, case.captions, number
        ),
        "the same and backward": backward,
    }


if __name__ == "__main__":
    run(main)
