"""How well does each caption fit its image? One cosine per pair, for tools/prune_pairs.py.

    python tools/score_captions.py --root ../world --data cc3m                 # tiny model, offline
    python tools/score_captions.py --data cc3m --arch TCL --image 224 --scales 1.0 --hflip
    python tools/score_captions.py --data cc3m+cc12m --arch TCL --hflip        # a file for each
    python tools/score_captions.py --data 'shards/{00000..00331}.tar' --arch CLIP --gpus 0

The score is the cosine of the pooled image embedding with the caption's, averaged over scales and
flip. `--data NAME` is ROOT/NAME/DOMAIN; a folder, a JSONL list or shards work too. Output:
`OUT/DATA_DOMAIN@ARCH_SIZE_[scales][@hflip] .jsonl`, a line per pair in input order; beside it what
made it (.meta.json) and what was skipped and why (.skipped.jsonl). Interrupted, the same command
resumes where it stopped. Several GPUs: a process on each, with a part of the shards as --data.
docs/adapters.md describes what follows.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cli import load_model, model_options, run, view_options

from tools.caption_run import CaptionRun, Done, caption_options, describe, run_captions, unusual

if TYPE_CHECKING:
    from core.backbones.base import Backbone
    from core.data.records import RecordSet
    from core.tags.results import ResultPaths

KEY = "pair"  # what the result calls its scorer


def get_args_parser() -> argparse.ArgumentParser:
    """All options."""
    parser = argparse.ArgumentParser(
        parents=[model_options(), view_options("the model's own size", pamr=False)],
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    data = parser.add_argument_group("data")
    data.add_argument(
        "--data",
        required=True,
        metavar="SETS",
        help="cc3m, cc3m+cc12m, or a folder, JSONL list or shards",
    )
    data.add_argument(
        "--root", default="../", metavar="FOLDER", help="parent of the sets (default: %(default)s)"
    )
    data.add_argument(
        "--domain",
        default="train",
        metavar="NAME",
        help="train or validation: the folder inside the set (default: %(default)s)",
    )
    caption_options(data, out="results_pairs", batch=64, part=" of each set")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Score the pairs of every set; what is complete already is left alone."""
    args = get_args_parser().parse_args(argv)
    from core.data.pairs import find_pairs
    from core.data.records import open_records

    sets = {place: open_records(place) for place in find_pairs(args.data, args.root, args.domain)}
    for records in sets.values():
        print(records.description)
    backbone = load_model(args)
    return max([produce(args, backbone, place, records) for place, records in sets.items()])


def produce(args: argparse.Namespace, backbone: Backbone, place: str, records: RecordSet) -> int:
    """Write the scores of one set, from where they stop on; the exit code."""
    from core.data.inputs.sources import inputs_of
    from core.maps.views import Views
    from core.tags.pair_scores import pair_batch
    from core.tags.pipeline import Batch

    views = Views(args.image or backbone.image_size, tuple(args.scales), args.hflip)
    views.check(backbone.patch)

    def lines_of(batch: Batch, _: Sequence[str], at_once: int) -> dict[str, list[str]]:
        """Of the one result."""
        return {KEY: pair_batch(backbone, batch, views, at_once)}

    paths = result_paths(args, views.size, place)
    run = CaptionRun(
        results={KEY: paths},
        records=records,
        identity=settings(args, backbone, place, records),
        meta=describe(args, backbone, records),
        views=views,
        unit="pair",
        lines_of=lines_of,
        inputs=inputs_of(records, args.limit, args.trust_inputs),
    )
    done = run_captions(args, run)
    if done is None:
        print(f"nothing to do, complete already: {paths.lines}")
        return 0
    report(done)
    return done.end("pairs")


def report(done: Done) -> None:
    """What was done."""
    paths, counts = done.paths[KEY], done.counts[KEY]
    new = counts["captions"] + counts["skipped"] - done.resumed_at
    print(
        f"{paths.lines}: {counts['captions']} pairs scored in {done.seconds:.1f} s "
        f"({new / done.seconds:.1f} pairs/s), {counts['skipped']} skipped"
    )


def result_paths(args: argparse.Namespace, size: int, place: str) -> ResultPaths:
    """The files of one set; settings that are not at their default are in the name."""
    from core.tags.pair_scores import pair_label
    from core.tags.results import ResultPaths, result_name

    dtype = None if args.dtype == "float32" else args.dtype
    extras = unusual(args, limit=args.limit, dtype=dtype)
    name = result_name(args.arch, size, args.scales, "", args.lora is not None, extras)
    flip = "@hflip" * args.hflip
    return ResultPaths.of(args.out, f"{pair_label(place)}@" + name.replace("]@", f"]{flip}", 1))


def settings(
    args: argparse.Namespace, backbone: Backbone, place: str, records: RecordSet
) -> dict[str, Any]:
    """All that decides what is in a score file."""
    names = ("arch", "dtype", "scales", "hflip", "batch", "limit")
    values = {name: getattr(args, name) for name in names}
    for name, path in (("weights", args.weights), ("lora", args.lora), ("data", place)):
        values[name] = os.path.normpath(path) if path else None
    return values | {
        "records": records.count,
        "image": args.image or backbone.image_size,
        "device": backbone.device.type,
        "checksum": backbone.checksum,
    }


if __name__ == "__main__":
    run(main)
