"""Which words of a caption are in its image: scores, tags and nearest pixels for every word of a data set.

    python produce_tags_from_text.py --root ../world/cc3m_for_evaluation      # the tiny model, offline
    python produce_tags_from_text.py --root captions.jsonl --scorer pixel --out tags
    python produce_tags_from_text.py --root 'shards/{00000..00331}.tar' --arch CLIP --gpus 0 --batch 256
    python3 produce_tags_from_text.py --root ../cc3m_for_evaluation/ --arch TCL --lora ./weights/TCL+TTD.pt \\
        --scales 1.0 --hflip --fixed --stopwords                               # as published

Input: CC3M-TagMask (image/, json_refined/), training pairs (image/, json/), a folder of images
beside .txt or .json files, a JSONL list, or webdataset shards. Output, one result per scorer:
`OUT/ARCH_SIZE_[scales]@SCORER[+TTD].jsonl`, a line per caption in input order; beside it what made
it (.meta.json) and what was skipped and why (.skipped.jsonl). Interrupted, the same command goes on
where it stopped. docs/tags.md explains scorers, cuts and files.
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

from core.errors import TTDError
from tools.cli import load_model, model_options, positive_int, run, say, view_options

if TYPE_CHECKING:
    from core.backbones.base import Backbone
    from core.data.records import RecordSet
    from core.tags.pipeline import Batch
    from core.tags.protocol import TagProtocol
    from core.tags.results import ResultPaths, TagWriter

SCORERS = ("pixel", "image", "text")
THRESHOLD = 0.5


def get_args_parser() -> argparse.ArgumentParser:
    """All options."""
    parser = argparse.ArgumentParser(
        parents=[model_options(), view_options("the model's own size", pamr=False)],
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    data = parser.add_argument_group("data")
    data.add_argument(
        "--root", required=True, metavar="PATH", help="images with captions: folder, list or shards"
    )
    data.add_argument("--limit", type=positive_int, metavar="N", help="only the first N records")
    data.add_argument(
        "--out",
        type=Path,
        default=Path("results_tags"),
        metavar="FOLDER",
        help="where the results go (default: ./%(default)s)",
    )
    data.add_argument(
        "--overwrite", action="store_true", help="replace results made with other settings"
    )
    data.add_argument(
        "--batch",
        type=positive_int,
        default=32,
        metavar="N",
        help="records at a time (default: 32)",
    )
    data.add_argument(
        "--workers",
        type=positive_int,
        default=min(4, os.cpu_count() or 1),
        metavar="N",
        help="threads that read images ahead (default: %(default)s)",
    )
    tags = parser.add_argument_group("tags")
    tags.add_argument(
        "--scorer",
        nargs="+",
        choices=SCORERS,
        default=list(SCORERS),
        metavar="SCORER",
        help="pixel, image, text: a result for each (default: all three)",
    )
    tags.add_argument(
        "--normalize",
        choices=("minmax", "softmax", "none"),
        default="minmax",
        help="common scale of the scores of a caption (default: %(default)s)",
    )
    tags.add_argument(
        "--fixed",
        action="store_true",
        help="cut at --threshold (default: adaptive, Otsu's threshold of each caption)",
    )
    tags.add_argument(
        "--threshold",
        type=float,
        metavar="T",
        help=f"with --fixed: words at or above it are kept (default: {THRESHOLD})",
    )
    tags.add_argument(
        "--stopwords",
        nargs="?",
        const="shipped",
        choices=("shipped", "nltk"),
        help="never select function words: the list that ships, or NLTK's where it is installed",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Score and cut the words of every record; results that are complete already are left alone."""
    args = get_args_parser().parse_args(argv)
    if args.threshold is not None and not args.fixed:
        raise TTDError(
            f"--threshold {args.threshold:g} acts only with --fixed; without it the cut is adaptive"
        )
    from core.data.records import open_records
    from core.data.words import stopwords

    stopwords(args.stopwords or "shipped")  # find out now whether NLTK's list is there
    records = open_records(args.root)
    print(records.description)
    if not args.overwrite and (names := finished_before(args, records)):
        print("nothing to do, complete already: " + ", ".join(names))
        return 0
    backbone = load_model(args)
    protocol = make_protocol(args, backbone)
    print(
        f"{backbone.arch} ({backbone.head}), {protocol.image_size} px, scales {list(protocol.scales)}"
        f"{', flip' * protocol.hflip}, {backbone.device}, {args.dtype}"
    )
    produce(args, backbone, protocol, records)
    return 0


def make_protocol(args: argparse.Namespace, backbone: Backbone) -> TagProtocol:
    """The constants of this run."""
    from core.tags.protocol import TagProtocol

    return TagProtocol(
        args.image or backbone.image_size,
        tuple(args.scales),
        args.hflip,
        tuple(dict.fromkeys(args.scorer)),
        args.normalize,
        threshold(args),
        args.stopwords,
    )


def threshold(args: argparse.Namespace) -> float | None:
    """The constant cut, or None for the adaptive one."""
    return (THRESHOLD if args.threshold is None else args.threshold) if args.fixed else None


def produce(
    args: argparse.Namespace, backbone: Backbone, protocol: TagProtocol, records: RecordSet
) -> None:
    """Write the results that are missing, and say what was written. Raises TTDError, also when memory is short."""
    from core.tags.results import TagWriter, is_finished
    from core.utils.provenance import now

    identity = settings(args, records) | {
        "image": protocol.image_size,
        "device": backbone.device.type,
        "checksum": backbone.checksum,
    }
    results = result_paths(args, backbone, protocol)
    todo = {
        name: path
        for name, path in results.items()
        if not is_finished(path, identity, args.overwrite)
    }
    if not todo:
        print(
            "nothing to do, complete already: "
            + ", ".join(path.lines.name for path in results.values())
        )
        return
    meta = describe(args, backbone, protocol, records, identity)
    with closing(TagWriter(todo, meta, args.batch, args.overwrite)) as writer:
        start, first, pictures = time.perf_counter(), writer.done, 0
        for batch, lines in batches(args, backbone, protocol, records, writer):
            writer.write(lines, batch.skipped)
            pictures += len({id(picture) for picture in batch.pictures})
        seconds = time.perf_counter() - start
        writer.finish(
            finished_at=now(), seconds=round(seconds, 2), **({"resumed_at": first} if first else {})
        )
        report(writer, todo, seconds, None if first else pictures)


def batches(
    args: argparse.Namespace,
    backbone: Backbone,
    protocol: TagProtocol,
    records: RecordSet,
    writer: TagWriter,
) -> Iterator[tuple[Batch, dict[str, list[str]]]]:
    """Every batch that is still missing with its lines by scorer, under a progress bar."""
    from tqdm import tqdm

    from core.tags.pipeline import load_batches, tag_batch
    from core.utils.memory import in_smaller_batches

    protocol = protocol_of(protocol, writer)
    count = min(records.count, args.limit or records.count)
    if writer.done:
        print(f"going on after {writer.done} of {'' if records.exact else 'about '}{count} records")
    items = records.iterate(writer.done, args.limit)
    words, size, start = 0, args.batch, time.perf_counter()
    with tqdm(
        total=count,
        initial=writer.done,
        unit="caption",
        file=sys.stderr,
        disable=None,
        smoothing=0.1,
    ) as bar:
        for batch in load_batches(items, protocol, args.batch, args.workers):
            lines, size = in_smaller_batches(
                partial(tag_batch, backbone, batch, protocol),
                size,
                "use a smaller --image or fewer --scales",
            )
            yield batch, lines
            words += sum(line.count('"selected": ') for line in next(iter(lines.values())))
            bar.set_postfix_str(
                f"{words / (time.perf_counter() - start):.0f} words/s", refresh=False
            )
            bar.update(len(batch.records) + len(batch.skipped))


def protocol_of(protocol: TagProtocol, writer: TagWriter) -> TagProtocol:
    """The protocol with only the scorers whose results are missing."""
    from dataclasses import replace

    return replace(protocol, scorers=tuple(writer.paths))


def report(
    writer: TagWriter, paths: dict[str, ResultPaths], seconds: float, pictures: int | None
) -> None:
    """What was done, and a line per result; `images` read in those seconds, None when a run was only gone on with."""
    counts = next(iter(writer.counts.values()))
    rate = (
        f", {pictures / seconds:.1f} images/s, {counts['words'] / seconds:.0f} words/s"
        if pictures
        else ""
    )
    print(
        f"{counts['captions']} captions, {counts['words']} words in {seconds:.1f} s{rate}; "
        f"{counts['skipped']} skipped"
    )
    for scorer, path in paths.items():
        print(f"{path.lines}: {writer.counts[scorer]['selected']} words selected")
    if counts["skipped"]:
        say(
            f"{counts['skipped']} records could not be used: see {next(iter(paths.values())).skipped}"
        )


def result_paths(
    args: argparse.Namespace, backbone: Backbone, protocol: TagProtocol
) -> dict[str, ResultPaths]:
    """The files of every scorer; --hflip, --fixed and --stopwords have no place in the published names."""
    from core.tags.results import ResultPaths, result_name

    unusual = {
        "weights": Path(args.weights).stem if args.weights else None,
        "head": args.head,
        "dtype": None if args.dtype == "float32" else args.dtype,
        "normalize": None if args.normalize == "minmax" else args.normalize,
        "threshold": None if protocol.threshold in (None, THRESHOLD) else protocol.threshold,
        "stopwords": args.stopwords if args.stopwords == "nltk" else None,
        "limit": args.limit,
    }
    extras = {key: value for key, value in unusual.items() if value is not None}
    return {
        scorer: ResultPaths.of(
            args.out,
            result_name(
                args.arch,
                protocol.image_size,
                protocol.scales,
                scorer,
                args.lora is not None,
                extras,
            ),
        )
        for scorer in protocol.scorers
    }


def settings(args: argparse.Namespace, records: RecordSet) -> dict[str, object]:
    """The arguments that decide what is in a result, and how many records there are."""
    names = ("arch", "head", "dtype", "scales", "hflip", "normalize", "stopwords", "batch", "limit")
    paths = {
        name: located(value)
        for name, value in (("root", args.root), ("weights", args.weights), ("lora", args.lora))
    }
    return (
        {name: getattr(args, name) for name in names}
        | paths
        | {"threshold": threshold(args), "records": records.count}
    )


def located(path: str | None) -> str | None:
    """A path as it is called from everywhere: `../set` is another set in another folder, /data/set/ is /data/set."""
    return (
        path
        if path is None or path.startswith("hf-hub:")
        else os.path.abspath(os.path.expanduser(path))
    )


def finished_before(args: argparse.Namespace, records: RecordSet) -> list[str]:
    """Names of the results when all of them are complete and nothing has changed, found without loading the model."""
    from core.tags.results import ResultPaths, is_complete
    from core.utils.files import read_json
    from core.utils.provenance import weight_stamps

    ours, stamps, found = (
        settings(args, records),
        weight_stamps(args.arch, args.weights, args.lora),
        {},
    )
    for path in sorted(args.out.glob("*.meta.json")):
        meta, name = read_json(path) or {}, path.name.removesuffix(".meta.json")
        if meta.get("weight_files") != stamps or not is_complete(
            ResultPaths.of(args.out, name), meta
        ):
            continue
        same = all(meta["identity"].get(key) == value for key, value in ours.items())
        if same and args.image in (meta["arguments"]["image"], meta["identity"]["image"]):
            found[meta["scorer"]] = f"{name}.jsonl"
    return [found[scorer] for scorer in args.scorer] if set(args.scorer) <= found.keys() else []


def describe(
    args: argparse.Namespace,
    backbone: Backbone,
    protocol: TagProtocol,
    records: RecordSet,
    identity: dict[str, object],
) -> dict:
    """What goes into the meta files: all that made the result."""
    from dataclasses import asdict

    from core.utils.provenance import now, versions, weight_stamps

    model = {
        "arch": backbone.arch,
        "head": backbone.head,
        "checksum": backbone.checksum,
        "patch": backbone.patch,
        "stride": backbone.stride,
        "logit_scale": backbone.logit_scale,
        "device": str(backbone.device),
    }
    return {
        "arguments": {
            key: str(value) if isinstance(value, Path) else value
            for key, value in vars(args).items()
        },
        "identity": identity,
        "protocol": asdict(protocol),
        "model": model,
        "input": records.description,
        "versions": versions(),
        "weight_files": weight_stamps(args.arch, args.weights, args.lora),
        "started_at": now(),
    }


if __name__ == "__main__":
    run(main)
