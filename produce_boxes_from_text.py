"""Boxes for phrases in many images: one JSONL line per phrase.

    python produce_boxes_from_text.py --root captions.jsonl --grounder clip-vg.pth
    python produce_boxes_from_text.py --root photos --phrases "a dog" "the red car" --grounder FILE

--root takes what produce_tags_from_text.py takes: folders of images with captions, JSONL lists
({"image": path, "text": phrase} or "captions": [...]), webdataset shards. Every caption is a phrase
of its own; --phrases asks the same of every image instead. Output: OUT/NAME.jsonl, and what could
not be used beside it. Interrupted, the same command resumes where it stopped.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from tools.caption_run import Done
from tools.cli import choose_device, positive_int, run, trust_option, worker_count
from tools.exports import export_option, export_result


def get_args_parser() -> argparse.ArgumentParser:
    """All options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--root", required=True, metavar="PATH", help="images with phrases")
    add("--grounder", required=True, metavar="FILE", help="our .safetensors, CLIP-VG's .pth, "
        "or hf-hub:ORG/NAME")  # fmt: skip
    add("--arch", metavar="NAME", help="its backbone, where that has another name than in training")
    add("--phrases", nargs="+", metavar="TEXT", help="ask these of every image")
    add("--out", type=Path, default=Path("results_boxes"), metavar="FOLDER", help="(%(default)s)")
    add("--tag", metavar="NAME", help="name of the result (default: GROUNDER@ROOT)")
    add("--batch", type=positive_int, default=64, metavar="N", help="phrases at a time")
    add("--workers", type=worker_count, default=2, metavar="N", help="threads that read images")
    add("--device", metavar="DEVICE", help="cpu, cuda, cuda:N (default: CUDA where there is one)")
    add("--gpus", metavar="N", help="the same as --device cuda:N")
    add("--overwrite", action="store_true", help="replace a result of other settings")
    trust_option(parser)
    export_option(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Find the boxes that are missing."""
    args = get_args_parser().parse_args(argv)
    from tqdm import tqdm

    from core.data.inputs.sources import inputs_of
    from core.data.records import open_records
    from core.grounding.predict import load_grounder
    from core.grounding.produce import NAME, asked, produce
    from core.tags.results import ResultPaths, is_finished
    from core.tags.writer import TagWriter
    from core.utils.files import safe_name

    name = safe_name(args.tag or f"{Path(args.grounder).stem}@{Path(args.root).name}")
    paths = ResultPaths.of(args.out, name)
    records = open_records(args.root)
    identity = identity_of(args)
    inputs = inputs_of(records, trust=args.trust_inputs)
    if is_finished(paths, identity, args.overwrite, inputs):
        print(f"{paths.lines}: complete")
        export_result(paths.lines, args.export)
        return 0
    grounder = load_grounder(
        args.grounder, arch=args.arch, device=choose_device(args.device, args.gpus)
    )
    meta = {"identity": identity, "input": records.description}
    total = None if args.phrases else records.count
    with (
        closing(TagWriter({NAME: paths}, meta, args.batch, args.overwrite, inputs)) as writer,
        tqdm(total=total, initial=writer.done, unit="phrase", file=sys.stderr, disable=None) as bar,
    ):
        produce(
            grounder,
            lambda: asked(records.iterate(), args.phrases),
            writer,
            args.workers,
            bar.update,
        )
        counts = writer.counts[NAME]
    print(f"{paths.lines}: {counts['captions']} boxes, {counts['skipped']} phrases skipped")
    export_result(paths.lines, args.export)
    lost = tuple(writer.unreadable.values())
    return Done({NAME: paths}, {NAME: counts}, 0.0, 0, 0, lost).end("phrases")


def identity_of(args: argparse.Namespace) -> dict[str, Any]:
    """What must be the same for a result to be resumed. TTDError: no such file."""
    import hashlib

    from core.grounding.weights.checkpoint import model_file

    digest = hashlib.sha256(model_file(args.grounder).read_bytes()).hexdigest()[:32]
    return {"root": args.root, "grounder": digest, "phrases": args.phrases, "batch": args.batch}


if __name__ == "__main__":
    run(main)
