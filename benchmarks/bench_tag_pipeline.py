"""What bounds tags from text: reading and decoding images, or the model?

    python benchmarks/bench_tag_pipeline.py --device cuda     # ViT-B/16, random weights, 512 photos
    python benchmarks/bench_tag_pipeline.py --quick

JPEG files of the procedural world go through what produce_tags_from_text.py does: reading ahead in
threads (`load_batches`: file, decoding, resizing) and `tag_batch` with all scorers. Each is timed
alone, then both as one.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import common
import models
from common import positive_int, run

DISTINCT = 16  # images drawn; more files are copies, which cost the same to decode
SIZE = (480, 640)


def get_args_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = common.parser(__doc__)
    parser.add_argument(
        "--model", default="ViT-B-16", metavar="NAME", help="open_clip's name, or tiny"
    )
    parser.add_argument("--images", type=positive_int, default=512, help="default: %(default)s")
    parser.add_argument(
        "--pictures",  # its name in 0.1
        type=positive_int,
        dest="images",
        default=argparse.SUPPRESS,
        help=argparse.SUPPRESS,
    )
    parser.add_argument(
        "--batch", type=positive_int, default=64, help="captions at a time (default: %(default)s)"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Print one table."""
    from core.backbones import load_backbone
    from core.tags.pipeline import load_batches, tag_batch
    from core.tags.protocol import TagProtocol

    args = common.start(get_args_parser(), argv)
    if args.quick:
        args.model, args.images, args.batch = "tiny", 8, 4
    cores = common.cores()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        arch = models.arch_of(args.model, folder / "model")
        backbone = load_backbone(arch, device=args.device, dtype=args.dtype)
        views = TagProtocol(backbone.image_size)
        records = write_records(folder, args.images)

        def read(workers: int) -> list:
            return list(load_batches(records, views.views, args.batch, workers))

        batches = read(cores)
        works = {
            f"decoding, {n} thread{'s' * (n > 1)}": (lambda n=n: read(n))
            for n in dict.fromkeys((1, cores))
        }
        works["the model alone"] = lambda: [tag_batch(backbone, batch, views) for batch in batches]
        works["both, as the script runs"] = lambda: [
            tag_batch(backbone, batch, views)
            for batch in load_batches(records, views.views, args.batch, cores)
        ]
        return report(works, args, cores)


def report(works: dict, args: argparse.Namespace, cores: int) -> int:
    """Time each, say which is the slower and whether the whole is as fast as that."""
    table, rates = common.Table("what", "time", "images/s"), {}
    for name, work in works.items():
        took = common.measure(work, args)
        rates[name] = args.images / took.seconds
        table.row(name, took, f"{rates[name]:.1f}")
    *decoding, model, both = rates.values()
    slower = min(decoding[-1], model)
    goals = [
        common.goal_share(
            f"tags from files: of the slower of decoding ({cores} threads) and model",
            0.7,
            both / slower,
        ),
        common.goal_share(
            "tags: the model against decoding, so that decoding is the bound",
            1.0,
            model / decoding[-1],
        ),
    ]
    common.save(args, [table], goals, {f"images/s, {name}": rate for name, rate in rates.items()})
    return 0


def write_records(folder: Path, count: int) -> list:
    """`count` JPEG files and the records that name them."""
    from core.data.records import Record
    from core.world.sample import make_sample
    from core.world.writer import encode_jpeg

    samples = [make_sample(0, "val", i, max(SIZE)) for i in range(min(count, DISTINCT))]
    files = [encode_jpeg(sample.image[: SIZE[0]]) for sample in samples]
    records = []
    for i in range(count):
        path = folder / f"{i:05d}.jpg"
        path.write_bytes(files[i % len(files)])
        records.append(Record(i, path.stem, path, path.name, samples[i % len(files)].text))
    return records


if __name__ == "__main__":
    run(main)
