"""Which words of a caption are in its image: scores, tags and nearest pixels for every word.

    python produce_tags_from_text.py --root ../world/cc3m_for_evaluation     # tiny model, offline
    python produce_tags_from_text.py --root captions.jsonl --scorer pixel --out tags
    python produce_tags_from_text.py --root 'shards/{00000..00331}.tar' --arch CLIP --gpus 0 \\
        --batch 256
    python3 produce_tags_from_text.py --root ../cc3m_for_evaluation/ --arch TCL \\
        --lora ./weights/TCL+TTD.pt --scales 1.0 --hflip --fixed --stopwords # as published

Input: CC3M-TagMask (image/, json_refined/), training pairs (image/, json/), a folder of images
beside .txt or .json files, a JSONL list, or webdataset shards. Output, one result per scorer:
`OUT/ARCH_SIZE_[scales]@SCORER[+TTD].jsonl`, a line per caption in input order; beside it what made
it (.meta.json) and what was skipped and why (.skipped.jsonl). Interrupted, the same command
resumes where it stopped. docs/tags.md explains scorers, cuts and files.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from core.errors import TTDError
from core.tags.protocol import NORMS, SCORERS, TagProtocol
from tools.caption_run import (
    CaptionRun,
    Done,
    caption_options,
    describe,
    finished_before,
    run_captions,
    unusual,
)
from tools.cli import load_model, min_score, min_score_option, model_options, run, view_options

if TYPE_CHECKING:
    from core.backbones.base import Backbone
    from core.data.inputs.table import Inputs
    from core.data.records import RecordSet
    from core.tags.results import ResultPaths

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
    caption_options(data, out="results_tags", batch=32)
    _tag_options(parser.add_argument_group("tags"))
    return parser


def _tag_options(tags: argparse._ArgumentGroup) -> None:
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
        choices=NORMS,
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
    min_score_option(tags)


def main(argv: Sequence[str] | None = None) -> int:
    """Score and cut the words of every record; results that are complete already are left alone."""
    args = get_args_parser().parse_args(argv)
    if args.threshold is not None and not args.fixed:
        raise TTDError(
            f"--threshold {args.threshold:g} acts only with --fixed; without it the cut is adaptive"
        )
    from core.data.inputs.sources import inputs_of
    from core.data.records import open_records
    from core.data.words import stopwords

    args.min_score = min_score(args)
    stopwords(args.stopwords or "shipped")  # find out now whether NLTK's list is there
    records = open_records(args.root)
    print(records.description)
    inputs = inputs_of(records, args.limit, args.trust_inputs)
    found = finished_before(args, settings(args, records), inputs)
    if set(args.scorer) <= found.keys():
        _say_complete([found[scorer][0].name for scorer in args.scorer])
        return 0
    backbone = load_model(args)
    protocol = make_protocol(args, backbone)
    print(
        f"{backbone.arch} ({backbone.head}), {protocol.image_size} px, "
        f"scales {list(protocol.scales)}{', flip' * protocol.hflip}, {backbone.device}, "
        f"{args.dtype}"
    )
    return produce(args, backbone, protocol, records, inputs)


def _say_complete(names: Sequence[str]) -> None:
    print("nothing to do, complete already: " + ", ".join(names))


def make_protocol(args: argparse.Namespace, backbone: Backbone) -> TagProtocol:
    """The constants of this run."""
    return TagProtocol(
        args.image or backbone.image_size,
        tuple(args.scales),
        args.hflip,
        scorers=tuple(dict.fromkeys(args.scorer)),
        normalize=args.normalize,
        threshold=threshold(args),
        stopwords=args.stopwords,
        min_score=args.min_score,
    )


def threshold(args: argparse.Namespace) -> float | None:
    """The constant cut, or None for the adaptive one."""
    if not args.fixed:
        return None
    return THRESHOLD if args.threshold is None else args.threshold


def produce(
    args: argparse.Namespace,
    backbone: Backbone,
    protocol: TagProtocol,
    records: RecordSet,
    inputs: Inputs,
) -> int:
    """Write the results that are missing and report; the exit code.

    Raises TTDError, also when memory is short.
    """
    from dataclasses import asdict, replace

    from core.tags.pipeline import Batch, tag_batch

    def lines_of(batch: Batch, scorers: Sequence[str], at_once: int) -> dict[str, list[str]]:
        """Only of the scorers whose results are missing."""
        return tag_batch(backbone, batch, replace(protocol, scorers=tuple(scorers)), at_once)

    protocol.views.check(backbone.patch)
    identity = settings(args, records) | {
        "image": protocol.image_size,
        "device": backbone.device.type,
        "checksum": backbone.checksum,
    }
    results = result_paths(args, protocol)
    meta = describe(args, backbone, records) | {"protocol": asdict(protocol)}
    run = CaptionRun(
        results=results,
        records=records,
        identity=identity,
        meta=meta,
        views=protocol.views,
        unit="caption",
        lines_of=lines_of,
        inputs=inputs,
    )
    done = run_captions(args, run)
    if done is None:
        _say_complete([paths.lines.name for paths in results.values()])
        return 0
    report(done)
    return done.end("records")


def report(done: Done) -> None:
    """What was done, and a line per result; rates only of a run that was not resumed."""
    counts = next(iter(done.counts.values()))
    rate = ""
    if not done.resumed_at and done.images:
        images, words = done.images / done.seconds, counts["words"] / done.seconds
        rate = f", {images:.1f} images/s, {words:.0f} words/s"
    print(
        f"{counts['captions']} captions, {counts['words']} words in {done.seconds:.1f} s{rate}; "
        f"{counts['skipped']} skipped"
    )
    for scorer, path in done.paths.items():
        print(f"{path.lines}: {done.counts[scorer]['selected']} words selected")


def result_paths(args: argparse.Namespace, protocol: TagProtocol) -> dict[str, ResultPaths]:
    """The files of every scorer; --hflip, --fixed, --stopwords are not in the published names."""
    from core.tags.results import ResultPaths, result_name

    cut = protocol.threshold
    extras = unusual(
        args,
        head=args.head,
        dtype=None if args.dtype == "float32" else args.dtype,
        normalize=None if args.normalize == "minmax" else args.normalize,
        threshold=None if cut in (None, THRESHOLD) else cut,
        stopwords="nltk" if args.stopwords == "nltk" else None,
        min_score=args.min_score,
        limit=args.limit,
    )
    results = {}
    for scorer in protocol.scorers:
        adapted = args.lora is not None
        size, scales = protocol.image_size, protocol.scales
        name = result_name(args.arch, size, scales, scorer, adapted, extras)
        results[scorer] = ResultPaths.of(args.out, name)
    return results


def settings(args: argparse.Namespace, records: RecordSet) -> dict[str, Any]:
    """The arguments that decide what is in a result, and how many records there are."""
    names = ("arch", "head", "dtype", "scales", "hflip", "normalize", "stopwords", "batch", "limit")
    values = {name: getattr(args, name) for name in names}
    for name in ("root", "weights", "lora"):
        values[name] = located(getattr(args, name))
    values["min_score"] = args.min_score
    return values | {"threshold": threshold(args), "records": records.count}


def located(path: str | None) -> str | None:
    """A path as it is called from everywhere.

    `../set` is another set in another folder, /data/set/ is /data/set.
    """
    if path is None or path.startswith("hf-hub:"):
        return path
    return os.path.abspath(os.path.expanduser(path))


if __name__ == "__main__":
    run(main)
