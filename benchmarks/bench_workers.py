"""How the mask scripts share work and grow with it: two workers, four times the images.

    python benchmarks/bench_workers.py
    python benchmarks/bench_workers.py --arch CLIP --images 8

produce_masks_from_tags.py on images of the procedural world, its own rate (start-up is not in
it): N images and 4 N in one process held to one thread, 4 N in two workers of one thread each.
The masks of both must be the same bytes.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import common
from common import positive_int, run

from core.errors import TTDError

RATE = re.compile(r"^(\d+) masks in ([\d.]+) s", re.MULTILINE)


def get_args_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = common.parser(__doc__)
    parser.add_argument(
        "--arch", default="tiny", metavar="NAME", help="as everywhere (default: %(default)s)"
    )
    parser.add_argument("--images", type=positive_int, default=48, help="N (default: %(default)s)")
    parser.add_argument(
        "--pictures",  # its name in 0.1
        type=positive_int,
        dest="images",
        default=argparse.SUPPRESS,
        help=argparse.SUPPRESS,
    )
    parser.add_argument(
        "--size", type=positive_int, default=256, help="their side in pixels (default: %(default)s)"
    )
    return parser


@dataclass(frozen=True)
class Run:
    """One run: its own count of seconds, bytes at its peak, the masks' bytes by file name."""

    time: common.Time
    memory: int
    masks: dict[str, bytes]


def main(argv: Sequence[str] | None = None) -> int:
    """Print one table."""
    args = common.start(get_args_parser(), argv)
    if args.quick:
        args.images, args.size = 2, 96
    few, many = args.images, 4 * args.images
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        data = write_set(folder / "set", many, args.size)
        warm = produce(data, folder / "warm", args, 1, 1)  # imports, first kernels
        small, large = (produce(data, folder / f"one{n}", args, n, 1) for n in (few, many))
        shared = produce(data, folder / "two", args, many, 2)
    if shared.masks != large.masks or not warm.masks:
        raise TTDError("two workers and one process made different masks")
    save(args, small, large, shared)
    return 0


def save(args: argparse.Namespace, small: Run, large: Run, shared: Run) -> None:
    """The table and the goals of three runs: N images, 4 N, and 4 N in two workers."""
    few, many = args.images, 4 * args.images
    table = common.Table("run", "time", "per image", "ratio", "peak memory", width=14)
    for one, count in ((small, few), (large, many)):
        each, memory = common.Time(one.time.seconds / count), common.megabytes(one.memory)
        table.row(f"1 process, 1 thread, {count} images", one.time, each, "", memory)
    each = common.Time(shared.time.seconds / many)
    ratio = common.ratio(large.time, shared.time)
    table.row(f"2 workers, {many} images", shared.time, each, ratio, "")
    growth, memory = large.time.seconds / small.time.seconds / 4, large.memory / small.memory
    two = "2 CPU workers against 1 process held to 1 thread"
    goals = [
        common.goal(two, 1.7, large.time, shared.time),
        common.goal_below("time per image, 4 N images to N", 1.1, growth, " times"),
        common.goal_below("peak memory, 4 N images to N", 1.1, memory, " times"),
    ]
    common.save(args, [table], goals)


def write_set(folder: Path, count: int, size: int) -> Path:
    """`count` images of the world and the YAML that names them; the YAML's path."""
    from PIL import Image

    from core.world.objects import NOUNS
    from core.world.sample import make_sample

    (folder / "images").mkdir(parents=True)
    for i in range(count):
        Image.fromarray(make_sample(0, "val", i, size).image).save(
            folder / "images" / f"{i:05d}.png"
        )
    (folder / "set.yaml").write_text(
        f"name: images\nimages: images\nclasses: [{', '.join(NOUNS)}]\n"
        "background: 0\nignore: 255\nbg: 0.4\n"
    )
    return folder / "set.yaml"


def produce(data: Path, out: Path, args: argparse.Namespace, count: int, workers: int) -> Run:
    """Run the script on the first `count` images, in this process or in two of its own."""
    import torch

    import produce_masks_from_tags

    words = [
        "--data",
        str(data),
        "--out",
        str(out),
        "--arch",
        args.arch,
        "--device",
        "cpu",
        "--limit",
        str(count),
        "--pamr",
        "--workers",
        str(workers),
    ]
    threads, printed, peak = torch.get_num_threads(), io.StringIO(), []
    torch.set_num_threads(1)
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
            base = common.resident()
            peak.append(base + common.peak_memory(lambda: produce_masks_from_tags.main(words)))
    finally:
        torch.set_num_threads(threads)
    found = RATE.search(printed.getvalue())
    if not found or int(found[1]) != count:
        raise TTDError(
            f"produce_masks_from_tags.py did not make {count} masks: {printed.getvalue()[-200:]}"
        )
    masks = {path.name: path.read_bytes() for path in sorted(out.glob("*/*.png"))}
    return Run(common.Time(float(found[2])), peak[0], masks)


if __name__ == "__main__":
    run(main)
