"""Make the procedural world: images, captions, true tags and masks, with nothing to download.

    python tools/make_world.py --out ../world --train 40000 --val 500 --seed 0
    # a separate split for tuning
    python tools/make_world.py --out ../world_dev --train 0 --val 500 --seed 1
    # for the second stage of the tiny CLIP
    python tools/make_world.py --out ../world_noisy --noise 0.5 --val 0
    # another look, vocabulary and grammar: does a recipe hold there?
    python tools/make_world.py --out ../world2 --look second --train 20000 --seed 0
    python tools/make_world.py --out ../world3 --look third --train 20000 --seed 0
    # expressions with boxes alone, into OUT/refer
    python tools/make_world.py --out ../world --refer 6000
    # only the image of demo.py, that of demo.py --ground, or 16 images side by side
    python tools/make_world.py --demo weights/tiny
    python tools/make_world.py --ground-demo weights/tiny-grounder
    python tools/make_world.py --sheet docs/world.png

The same arguments give the same bytes. Layout and statistics: docs/world.md.
"""

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

from cli import positive_int, run

from core.errors import TTDError


def get_args_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_targets(parser)
    parser.add_argument(
        "--train", type=int, default=40000, help="training pairs (default 40000; 0 for none)"
    )
    parser.add_argument(
        "--val",
        type=int,
        default=500,
        help="evaluation images with true tags and masks (default 500)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="another seed, another world (default 0)"
    )
    parser.add_argument(
        "--size", type=int, default=96, help="side of the images in pixels (default 96)"
    )
    parser.add_argument(
        "--noise",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="chance that what a training caption names after the main thing is absent (default 0)",
    )
    parser.add_argument(
        "--look",
        default="first",
        metavar="NAME",
        help="first; second: other things, textures, camera and captions; third: as the second, "
        "but things wear patterns of their own (default first)",
    )
    add_run_options(parser)
    return parser


def add_targets(parser: argparse.ArgumentParser) -> None:
    """What to make and where: one of them must be given."""
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--out", type=Path, help="folder of the world; made when missing")
    target.add_argument(
        "--demo", type=Path, help="only write demo.jpg (384 px) and demo.json into this folder"
    )
    target.add_argument(
        "--ground-demo",
        type=Path,
        metavar="FOLDER",
        help="only write the image of demo.py --ground",
    )
    target.add_argument(
        "--sheet",
        type=Path,
        help="only write 16 images of --look (seed 1, 96 px), side by side, as this PNG",
    )


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """How the world is written."""
    parser.add_argument(
        "--shards", action="store_true", help="also pack the training pairs in webdataset tars"
    )
    parser.add_argument(
        "--refer",
        type=int,
        metavar="N",
        help="only make OUT/refer: N training images with expressions and boxes, and "
        "--refer-val of each evaluation split",
    )
    parser.add_argument(
        "--refer-val", type=int, default=300, metavar="N", help="see --refer (default 300)"
    )
    parser.add_argument(
        "--workers",
        type=positive_int,
        default=os.cpu_count() or 1,
        help="processes (default: the machine's cores)",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace another world found at --out"
    )


def table(world: dict[str, Any]) -> str:
    """What was measured (world.yaml), a line each."""
    lines = []
    for split, measured in world["measured"].items():
        lines.append(f"{split}:")
        lines += [f"  {name.replace('_', ' '):32s} {value:g}" for name, value in measured.items()]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Make the world and print its statistics (percent, unless the name says otherwise)."""
    args = get_args_parser().parse_args(argv)
    from tqdm import tqdm

    from core.world.demo_scene import write_demo, write_ground_demo, write_sheet
    from core.world.writer import WorldConfig, make_world

    if args.look != "first" and (args.demo or args.ground_demo or args.refer is not None):
        raise TTDError(
            f"--look {args.look}: --demo, --ground-demo and --refer know the first alone"
        )
    if args.demo:
        print(f"{args.demo}/demo.jpg: {write_demo(args.demo)}")
        return 0
    if args.ground_demo:
        print(write_ground_demo(args.ground_demo))
        return 0
    if args.sheet:
        write_sheet(args.sheet, args.look)
        print(args.sheet)
        return 0
    if args.refer is not None:
        return _refer(args)
    if args.train == args.val == 0:
        raise TTDError("--train 0 --val 0: nothing to make; give one of them a number of images")
    config = WorldConfig(
        args.train, args.val, args.seed, args.size, args.shards, args.noise, args.look
    )
    start = time.perf_counter()
    with tqdm(total=args.train + args.val, unit="image", disable=None, file=sys.stderr) as bar:
        world = make_world(
            args.out, config, workers=args.workers, overwrite=args.overwrite, progress=bar.update
        )
    rate = (args.train + args.val) / (time.perf_counter() - start)
    print(table(world))
    print(f"{args.train + args.val} images in {args.out}, {rate:.0f} images/s")
    return 0


def _refer(args: argparse.Namespace) -> int:
    """Expressions with boxes, and what was measured of them."""
    from tqdm import tqdm

    from core.world.refer.writer import ReferConfig, make_refer_world

    config = ReferConfig(args.refer, args.refer_val, args.seed, args.size)
    total = args.refer + 3 * args.refer_val
    with tqdm(total=total, unit="image", disable=None, file=sys.stderr) as bar:
        world = make_refer_world(args.out, config, workers=args.workers, progress=bar.update)
    print(table(world))
    return 0


if __name__ == "__main__":
    run(main)
