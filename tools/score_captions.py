"""How well does each caption fit its image? One cosine per training pair, for tools/prune_pairs.py.

    python tools/score_captions.py --root ../world --data cc3m                      # the tiny model, offline
    python tools/score_captions.py --data cc3m --arch TCL --image 224 --scales 1.0 --hflip        # ../cc3m/train
    python tools/score_captions.py --data cc3m+cc12m --arch TCL --hflip             # two sets, a file for each
    python tools/score_captions.py --data 'shards/{00000..00331}.tar' --arch CLIP --gpus 0 --batch 256

The score is the cosine of the pooled image embedding with the caption's, averaged over scales and
flip. `--data NAME` is ROOT/NAME/DOMAIN; a folder, a JSONL list or shards serve too. Output:
`OUT/DATA_DOMAIN@ARCH_SIZE_[scales][@hflip] .jsonl`, a line per pair in input order; beside it what
made it (.meta.json) and what was skipped and why (.skipped.jsonl). Interrupted, the same command
resumes where it stopped. Several GPUs: a process on each, with a part of the shards as --data.
docs/adapters.md tells what follows.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cli import load_model, model_options, positive_int, run, say, view_options

if TYPE_CHECKING:
    from core.backbones.base import Backbone
    from core.data.records import RecordSet
    from core.tags.pipeline import Batch
    from core.tags.results import ResultPaths, TagWriter

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
    data.add_argument(
        "--limit", type=positive_int, metavar="N", help="only the first N records of each set"
    )
    data.add_argument(
        "--out",
        type=Path,
        default=Path("results_pairs"),
        metavar="FOLDER",
        help="where the scores go (default: ./%(default)s)",
    )
    data.add_argument(
        "--overwrite", action="store_true", help="replace scores made with other settings"
    )
    data.add_argument(
        "--batch",
        type=positive_int,
        default=64,
        metavar="N",
        help="records at a time (default: 64)",
    )
    data.add_argument(
        "--workers",
        type=positive_int,
        default=min(4, os.cpu_count() or 1),
        metavar="N",
        help="threads that read images ahead (default: %(default)s)",
    )
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
    for place, records in sets.items():
        produce(args, backbone, place, records)
    return 0


def produce(args: argparse.Namespace, backbone: Backbone, place: str, records: RecordSet) -> None:
    """Write the scores of one set, from where they stop on."""
    from core.tags.results import TagWriter, is_finished
    from core.utils.provenance import now, versions

    paths, identity = result_paths(args, backbone, place), settings(args, backbone, place, records)
    if is_finished(paths, identity, args.overwrite):
        print(f"nothing to do, complete already: {paths.lines}")
        return
    meta = {
        "identity": identity,
        "input": records.description,
        "versions": versions(),
        "started_at": now(),
    }
    with closing(TagWriter({KEY: paths}, meta, args.batch, args.overwrite)) as writer:
        start, first = time.perf_counter(), writer.done
        for batch, lines in batches(args, backbone, records, writer):
            writer.write({KEY: lines}, batch.skipped)
        seconds, counts = time.perf_counter() - start, writer.counts[KEY]
        writer.finish(finished_at=now(), seconds=round(seconds, 2))
    rate = f" ({(counts['captions'] + counts['skipped'] - first) / seconds:.1f} pairs/s)"
    print(
        f"{paths.lines}: {counts['captions']} pairs scored in {seconds:.1f} s{rate}, {counts['skipped']} skipped"
    )
    if counts["skipped"]:
        say(f"{counts['skipped']} records could not be used: see {paths.skipped}")


def batches(
    args: argparse.Namespace, backbone: Backbone, records: RecordSet, writer: TagWriter
) -> Iterator[tuple[Batch, list[str]]]:
    """Every batch that is still missing, with its lines, under a progress bar."""
    from tqdm import tqdm

    from core.tags.pair_scores import score_lines, score_pairs
    from core.tags.pipeline import load_batches
    from core.tags.protocol import TagProtocol
    from core.utils.memory import in_smaller_batches

    views = TagProtocol(args.image or backbone.image_size, tuple(args.scales), args.hflip)
    count = min(records.count, args.limit or records.count)
    if writer.done:
        print(f"going on after {writer.done} of {'' if records.exact else 'about '}{count} records")
    items, size = records.iterate(writer.done, args.limit), args.batch
    with tqdm(
        total=count, initial=writer.done, unit="pair", file=sys.stderr, disable=None, smoothing=0.1
    ) as bar:
        for batch in load_batches(items, views, args.batch, args.workers):
            texts = [record.text for record in batch.records]
            work = partial(score_pairs, backbone, batch.pictures, texts, args.hflip)
            scores, size = in_smaller_batches(work, size, "use a smaller --image or fewer --scales")
            yield batch, score_lines(batch.records, scores)
            bar.update(len(batch.records) + len(batch.skipped))


def result_paths(args: argparse.Namespace, backbone: Backbone, place: str) -> ResultPaths:
    """The files of one set; settings that are not at their default are in the name."""
    from core.tags.pair_scores import pair_label
    from core.tags.results import ResultPaths, result_name

    unusual = {
        "weights": Path(args.weights).stem if args.weights else None,
        "limit": args.limit,
        "dtype": None if args.dtype == "float32" else args.dtype,
    }
    extras = {key: value for key, value in unusual.items() if value is not None}
    size = args.image or backbone.image_size
    name = result_name(args.arch, size, args.scales, "", args.lora is not None, extras)
    flip = "@hflip" * args.hflip
    return ResultPaths.of(args.out, f"{pair_label(place)}@" + name.replace("]@", f"]{flip}", 1))


def settings(
    args: argparse.Namespace, backbone: Backbone, place: str, records: RecordSet
) -> dict[str, object]:
    """All that decides what is in a score file."""
    names = ("arch", "dtype", "scales", "hflip", "batch", "limit")
    paths = {
        name: os.path.normpath(value) if value else None
        for name, value in (("weights", args.weights), ("lora", args.lora), ("data", place))
    }
    return (
        {name: getattr(args, name) for name in names}
        | paths
        | {
            "records": records.count,
            "image": args.image or backbone.image_size,
            "device": backbone.device.type,
            "checksum": backbone.checksum,
        }
    )


if __name__ == "__main__":
    run(main)
