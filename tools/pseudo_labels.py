"""Phrases with boxes from what models say of images: a source for train_curriculum.py.

    python tools/pseudo_labels.py template --scenes scenes.jsonl --out template.jsonl --set unc
    python tools/pseudo_labels.py relation --scenes scenes.jsonl --out relation.jsonl
    python tools/pseudo_labels.py caption --scenes scenes.jsonl --out caption.jsonl
    python tools/pseudo_labels.py scenes --coco instances_train2014.json \\
        --coco-captions captions_train2014.json --out scenes.jsonl
    python tools/pseudo_labels.py ttd --captions pairs.jsonl --out ttd.jsonl --arch tiny \\
        --lora weights/tiny+TTD.safetensors

scenes.jsonl holds a line per image (objects with attributes, relations, captions) that any detector
can write: docs/curriculum.md. `ttd` needs no detector: words that the image shows by TTD's scores,
their maps as boxes. `scenes` converts COCO's annotations, which people have drawn.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cli import load_model, model_options, positive_int, run, say

if TYPE_CHECKING:
    from core.grounding.pseudo_labels.scenes import Scene
    from core.grounding.pseudo_labels.sources import SourceConfig


def get_args_parser() -> argparse.ArgumentParser:
    """The command line, a command per source."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="SOURCE")
    for name in ("template", "relation", "caption"):
        command = commands.add_parser(name, help=f"the {name} source from scenes")
        command.add_argument("--scenes", type=Path, required=True, metavar="FILE")
        _out(command)
        _phrase_options(command)
    scenes = commands.add_parser("scenes", help="scenes from COCO's annotations")
    scenes.add_argument("--coco", type=Path, required=True, metavar="FILE", help="instances json")
    scenes.add_argument("--coco-captions", type=Path, metavar="FILE", help="captions json")
    _out(scenes)
    ttd = commands.add_parser(
        "ttd", help="from captions alone, by TTD's scores and maps", parents=[model_options()]
    )
    ttd.add_argument("--captions", required=True, metavar="PATH",
                     help="images with captions: a JSONL list, a folder, shards")  # fmt: skip
    ttd.add_argument("--scenes", type=Path, metavar="FILE", help="also write what was found")
    ttd.add_argument("--regions", type=positive_int, default=3, help="objects of a word at most")
    ttd.add_argument("--image", type=positive_int, metavar="PIXELS",
                     help="short side that is looked at (default: the model's own)")  # fmt: skip
    ttd.add_argument("--limit", type=positive_int, metavar="N", help="only the first N images")
    _out(ttd)
    _phrase_options(ttd)
    return parser


def _out(command: argparse.ArgumentParser) -> None:
    command.add_argument("--out", type=Path, required=True, metavar="FILE", help="JSONL to write")


def _phrase_options(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--set", metavar="SET", help="unc, flickr, ...: the published numbers of objects, phrases")
    add("--objects", type=positive_int, metavar="N", help="objects of an image (default: 3)")
    add("--phrases", type=positive_int, metavar="N", help="phrases of an image (default: 6)")
    add("--apart", type=float, metavar="PIXELS",
        help="range of centres from which on sides are named (default: 50)")  # fmt: skip
    add("--vocabulary", metavar="YAML", help="names of people and clothes (default: shipped)")
    add("--parser", choices=("rules", "spacy"), default="rules", help="of captions")
    add("--parity", action="store_true", help='the published rule for "top"')
    add("--seed", type=int, metavar="N", help="of what is drawn (default: the published one)")


def main(argv: Sequence[str] | None = None) -> int:
    """Write one source, or scenes, and say how many."""
    args = get_args_parser().parse_args(argv)
    from core.grounding.pseudo_labels.coco import coco_scenes
    from core.grounding.pseudo_labels.scenes import read_scenes
    from core.grounding.pseudo_labels.sources import write_scenes, write_source

    if args.command == "scenes":
        count = write_scenes(args.out, coco_scenes(args.coco, args.coco_captions))
        print(f"{args.out}: {count} scenes")
        return 0
    config = settings(args)
    if args.command != "ttd":
        written = write_source(args.out, read_scenes(args.scenes), config)
    elif args.scenes:
        write_scenes(args.scenes, found(args))
        written = write_source(args.out, read_scenes(args.scenes), config)
    else:
        written = write_source(args.out, found(args), config)
    print(
        f"{args.out}: {written.phrases} phrases of {written.used} images "
        f"({written.images - written.used} without), {written.entities:.2f} things a phrase"
    )
    return 0


def settings(args: argparse.Namespace) -> SourceConfig:
    """How phrases are made: what is given, else the set's numbers, else the defaults."""
    from core.errors import TTDError
    from core.grounding.pseudo_labels.sources import SourceConfig
    from core.grounding.pseudo_labels.template import SETTINGS

    if args.set is not None and args.set not in SETTINGS:
        raise TTDError(f"--set {args.set}: there are {', '.join(SETTINGS)}")
    objects, phrases = SETTINGS.get(args.set, (None, None))
    given = {
        "objects": args.objects or objects,
        "phrases": args.phrases or phrases,
        "apart": args.apart,
        "vocabulary": args.vocabulary,
        "seed": args.seed,
    }
    source = "template" if args.command == "ttd" else args.command
    chosen = {key: value for key, value in given.items() if value is not None}
    return SourceConfig(source, parser=args.parser, parity=args.parity, **chosen)


def found(args: argparse.Namespace) -> Iterator[Scene]:
    """What the model finds of the captions, image by image; unusable images are named."""
    import sys
    from itertools import groupby, islice

    from tqdm import tqdm

    from core.data.records import Record, open_records, read_record
    from core.errors import TTDError
    from core.grounding.pseudo_labels.from_ttd import scene_from_captions
    from core.predictor import Predictor

    records = open_records(args.captions)
    say(records.description)
    usable = (item for item in records.iterate() if isinstance(item, Record))
    images = groupby(usable, key=lambda record: record.name)
    backbone = load_model(args)
    predictor = Predictor(backbone, image_size=args.image or backbone.image_size)
    for name, group in tqdm(
        islice(images, args.limit), unit="image", disable=None, file=sys.stderr
    ):
        some = list(group)
        try:
            pixels = read_record(some[0])
        except (TTDError, OSError) as error:
            say(f"skipped: {error}")
            continue
        texts = [record.text for record in some]
        yield scene_from_captions(predictor, pixels, texts, name, args.regions)


if __name__ == "__main__":
    run(main)
