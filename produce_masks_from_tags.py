"""Segment the images of a benchmark, or your own, into its classes: a label map per image.

    python produce_masks_from_tags.py --data World --root ../world             # tiny model, offline
    python produce_masks_from_tags.py --data my_set.yaml --arch CLIP --pamr
    python produce_masks_from_tags.py --data VOC2012 --arch TCL --protocol tcl   # TCL's evaluation
    python produce_masks_from_tags.py --data ADE2016 --arch TCL --gpus 0 1 2 3   # a process on each
    torchrun --nproc_per_node 8 produce_masks_from_tags.py --data COCO-Stuff --arch TCL
    python3 produce_masks_from_tags.py --gpus 0 --root ../ --data VOC2012 --arch TCL --bg 0.40 \\
        --scales 1.0 0.5 1.5 2.0 --hflip --pamr --lora ./weights/TCL+TTD.pt         # as published

Output: `OUT/ARCH@DATA@TEMPLATES@[scales]@SIZE@s=2[@hflip][@pamr][@TTD]@bg=B/ID.png` with the set's
label values and colours, and beside them classes.json (what the values mean) and protocol.json
(everything that made them). Interrupted, the same command resumes where it stopped.
`evaluate_segmentation.py` scores the folder, `tools/preview.py` draws it; docs/masks.md explains
protocols and files.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from tools.cli import run
from tools.mask_options import mask_options
from tools.mask_run import Task, produce


def get_args_parser() -> argparse.ArgumentParser:
    """All options."""
    parser = argparse.ArgumentParser(
        parents=[mask_options("results")],
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--data",
        required=True,
        metavar="NAME",
        help="VOC2012, COCO2014, PascalContext, ADE2016, Cityscapes, COCO-Stuff, VOC20, Context59, "
        "World, or a YAML file of your own",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Make the label maps that are missing."""
    return produce(get_args_parser().parse_args(argv), setup)


def setup(args: argparse.Namespace) -> Task:
    """The set and its images."""
    import os
    from functools import partial

    from core.data.inputs.sources import inputs_of_images
    from core.data.labels.datasets import open_dataset
    from core.masks.class_list import classes_of
    from core.masks.pipeline import MasksFromTags, jobs_of_dataset

    dataset = open_dataset(args.data, args.root)
    return Task(
        name=dataset.name,
        description=dataset.describe(),
        rule=dataset.rule,
        background_threshold=dataset.background_threshold,
        jobs=jobs_of_dataset(dataset, args.limit),
        make=lambda backbone, used, batch: MasksFromTags(backbone, dataset, used, batch),
        categories={label: label for label in range(dataset.first_label, 255)},
        inputs=partial(inputs_of_images, dataset, args.limit, args.trust_inputs),
        palette=dataset.palette,
        classes=classes_of(dataset),
        identity={"classes": dataset.digest, "pictures": os.path.abspath(dataset.images)},
    )


if __name__ == "__main__":
    run(main)
