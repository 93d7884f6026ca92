"""Tags, masks and boxes for millions of pairs: one Parquet file per webdataset shard.

    python label_shards.py --shards 'cc12m/{00000..01242}.tar' --out labels        # this machine
    python label_shards.py --shards 'cc12m/*.tar' --out labels --want tags masks boxes --dry-run
    torchrun --nproc_per_node 8 label_shards.py --shards 'cc12m/*.tar' --out labels --arch CLIP
    python label_shards.py --shards 's3://bucket/cc12m/*.tar' --out s3://bucket/labels --engine ray

Output: OUT/NAME.parquet per shard (key, caption, words with scores and nearest pixels, tags; masks
as COCO run lengths; boxes), OUT/NAME.json (what made it, what was skipped), _protocol.json and
_manifest.parquet. What is whole is kept: interrupted, by whatever, the same command resumes, and
the files are the same bytes. Needs pyarrow: pip install -r requirements-labels.txt. docs/scale.md
explains engines, files and costs.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from tools.cli import positive_float, positive_int, run, worker_count
from tools.label_options import label_options, settings_of
from tools.label_run import dry_run, produce

ENGINES = ("auto", "local", "ray", "torchrun")


def get_args_parser() -> argparse.ArgumentParser:
    """All options."""
    parser = argparse.ArgumentParser(
        parents=[label_options()],
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _data_options(parser.add_argument_group("data"))
    _engine_options(parser.add_argument_group("engine"))
    return parser


def _data_options(data: argparse._ArgumentGroup) -> None:
    data.add_argument(
        "--shards",
        required=True,
        nargs="+",
        metavar="PATTERN",
        help="tars, folders of tars, or patterns of them; local, or URLs of s3, gs, hf, ...",
    )
    data.add_argument(
        "--out", default="labels", metavar="PLACE", help="folder or URL (default: ./%(default)s)"
    )
    data.add_argument(
        "--overwrite", action="store_true", help="replace labels made with other settings"
    )
    data.add_argument(
        "--dry-run",
        action="store_true",
        help="write nothing: count, time a sample, and say what the whole would take",
    )
    data.add_argument(
        "--sample",
        type=positive_int,
        default=256,
        metavar="N",
        help="pairs that --dry-run times (default: %(default)s)",
    )
    data.add_argument(
        "--price", type=positive_float, metavar="P", help="of an hour of one worker, for --dry-run"
    )


def _engine_options(engine: argparse._ArgumentGroup) -> None:
    engine.add_argument(
        "--engine",
        choices=ENGINES,
        default="auto",
        help="local: processes of this machine; torchrun: this is one process of torchrun, srun or "
        "a job array; ray: a Ray cluster (default: what the environment says, else local)",
    )
    engine.add_argument(
        "--workers",
        type=worker_count,
        metavar="N",
        help="processes or actors (default: one for each GPU, else for each processor)",
    )
    engine.add_argument(
        "--part", metavar="I/N", help="only part I of N of the shards, from 0, for jobs of your own"
    )
    engine.add_argument(
        "--ray-address", metavar="ADDRESS", help="of a running cluster (default: RAY_ADDRESS)"
    )
    engine.add_argument(
        "--cpus-per-worker",
        type=positive_float,
        default=1.0,
        metavar="N",
        help="that Ray reserves (default: 1)",
    )
    engine.add_argument(
        "--gpus-per-worker",
        type=float,
        metavar="N",
        help="that Ray reserves, also parts of one (default: 1 where there are any)",
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Label the shards that are missing, or say what that would take."""
    args = get_args_parser().parse_args(argv)
    settings = settings_of(args)
    return dry_run(args, settings) if args.dry_run else produce(args, settings)


if __name__ == "__main__":
    run(main)
