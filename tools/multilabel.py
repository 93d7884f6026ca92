"""Multi-label recognition: which classes do images show? mAP on the labels that papers score.

    python evaluate_classification.py --protocol multilabel --set voc07 --root VOCdevkit \\
        --arch CLIP --head sclip --scorer pixel piaa
    python evaluate_classification.py --protocol multilabel --set nus --root NUS-WIDE \\
        --labels PIAA.jsonl --scorer piaa --arch CLIP --head sclip
    python evaluate_classification.py --protocol multilabel --labels own.jsonl --arch tiny

Scorers: pixel = cosine with the nearest pixel, image = with the whole image, softmax = the largest
share of any pixel, piaa = a classifier of patches fitted to unlabelled training images. Each
reading of the labels is a column; published rows stand under the labels they were measured on.
docs/multilabel.md describes sets, files and methods.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import TTDError
from core.utils.files import safe_name
from core.utils.resumed_lines import ResumedLines
from tools.cli import load_model, model_options, positive_float, positive_int, say, worker_count
from tools.evaluation import against_file, progress_bar, report_options, write, write_json
from tools.grounding_report import text_of

if TYPE_CHECKING:
    from core.backbones.base import Backbone
    from core.data.multilabel.label_sets import LabelSet
    from core.evaluation.multilabel.scoring import Asked, Floats, Trained
    from core.tags.class_scores import Look
    from core.tags.piaa.classifier import PiaaSettings


def get_args_parser() -> argparse.ArgumentParser:
    """All options."""
    parser = argparse.ArgumentParser(
        parents=[model_options()],
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--protocol", choices=("words", "multilabel"), help="multilabel: this one")
    add("--set", metavar="SET", help="voc07, voc12, coco14 or nus")
    add("--root", metavar="FOLDER", help="the release; of a list of your own: its images' folder")
    add("--labels", nargs="+", default=[], metavar="FILE",
        help="a list of your own; with --set: further readings of its labels, side by side",
    )  # fmt: skip
    add("--classes", metavar="FILE", help="classes of your list, one a line (default: its labels)")
    add("--scorer", nargs="+", default=["pixel"], metavar="NAME",
        help="pixel, softmax, image, piaa (default: pixel)")  # fmt: skip
    add("--names", default="piaa", metavar="PAPER",
        help="whose class names and prompts: piaa, tagclip, sparc, tai-dpt; plain: the "
        "names alone (default: %(default)s)",
    )  # fmt: skip
    add("--view", choices=("crop", "whole"), default="crop",
        help="the square in the image's middle, or the whole image (default: %(default)s)",
    )  # fmt: skip
    add("--image", type=positive_int, metavar="PIXELS", help="short side (default: the model's)")
    add("--pred", nargs="+", type=Path, default=[], metavar="FILE",
        help="saved scores, scored without a model: {image, scores: {class: number}} a line",
    )  # fmt: skip
    add("--save", type=Path, metavar="FOLDER", help="write the scores, a file for each scorer")
    add("--limit", type=positive_int, metavar="N", help="only the first N images")
    add("--batch", type=positive_int, default=32, metavar="N",
        help="images through the model at a time (default: %(default)s)")  # fmt: skip
    add("--workers", type=worker_count, default=4, metavar="N", help="threads that read images")
    add("--allow-missing", action="store_true", help="leave out images that are not there")
    add("--overwrite", action="store_true", help="begin again what other settings began")
    add("--per-class", action="store_true", help="also print every class's average precision")
    add("--json", type=Path, metavar="FILE", help="write everything as JSON")
    report_options(parser, "FILE", "saved scores of an earlier result, as of --save")
    _piaa_options(parser.add_argument_group("piaa"))
    return parser


def _piaa_options(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--train", nargs="+", metavar="PATH",
        help="unlabelled images: files, folders, patterns (default: the release's train split)",
    )  # fmt: skip
    add("--cache", type=Path, metavar="FOLDER",
        help="where fitted classifiers are kept (default: $TTD_CACHE, ~/.cache/ttd)")  # fmt: skip
    for name, what in (
        ("tau", "the classifier's softmax over training patches"),
        ("beta", "the softmax over an image's classes"),
        ("alpha", "the class token's softmax"),
    ):
        add(f"--{name}", type=positive_float, metavar="T", help=f"scale of {what} (by the set)")
    add("--keep", type=positive_int, metavar="K", help="training patches of each class (512)")


def main(argv: Sequence[str] | None = None) -> int:
    """Score, print the table and its notes, write what was asked for."""
    args = get_args_parser().parse_args(argv)
    from core.evaluation.multilabel.table import (
        class_rows,
        notes_of,
        report_of,
        table_of,
        unlike_published,
    )

    against_file(args)
    labels = open_labels(args)
    unlike = unlike_published(labels) if args.limit is None else []
    for line in unlike:
        say(line)
    labels = labels.scored().first(args.limit)
    scores: dict[str, Floats] = {}
    facts: dict[str, Any] = {}
    if args.pred:
        scores = saved_scores(args, labels)
    else:
        labels, scores, facts = measured(args, labels)
    print(f"{labels.title}: {len(labels)} images, {len(labels.classes)} classes\n")
    print(text_of(table_of(labels, scores)))
    notes = notes_of(labels)
    print("\n" + "\n".join(notes))
    if args.per_class:
        print("\n" + text_of(class_rows(labels, scores)))
    if args.json:
        write_json(args.json, {**report_of(labels, scores), "made": facts})
    if args.report or args.against:
        from tools.multilabel_report import show

        show(args, labels, scores, facts, [*notes, *unlike])
    return 0


def open_labels(args: argparse.Namespace) -> LabelSet:
    """The set: a release with further lists, or one list of one's own."""
    from core.data.multilabel import read_set
    from core.data.multilabel.own import read_classes, read_own, with_list

    if args.set is None:
        if len(args.labels) != 1:
            raise TTDError("nothing to score: name a --set, or one list of your own with --labels")
        classes = read_classes(args.classes) if args.classes else ()
        return read_own(args.labels[0], classes, args.root)
    if args.classes:
        raise TTDError(f"--classes: {args.set} has its own; leave it out")
    if args.root is None:
        raise TTDError("--root is missing: the folder of the release")
    labels = read_set(args.set, args.root)
    for path in args.labels:
        labels = with_list(labels, path)
    return labels


def saved_scores(args: argparse.Namespace, labels: LabelSet) -> dict[str, Floats]:
    """The scores of --pred by file name."""
    from core.evaluation.multilabel.scoring import read_scores

    names = [path.stem for path in args.pred]
    if len(set(names)) < len(names):
        raise TTDError("--pred: two files of one name; rename one")
    return {path.stem: read_scores(path, labels) for path in args.pred}


def measured(
    args: argparse.Namespace, labels: LabelSet
) -> tuple[LabelSet, dict[str, Floats], dict[str, Any]]:
    """The images that could be scored, their scores by row of the table, and how they were made."""
    import numpy as np

    from core.evaluation.multilabel.names import name_protocol
    from core.evaluation.multilabel.scoring import SCORERS, ask, score_images
    from core.tags.class_scores import Look
    from core.utils.shown import first_few

    protocol = name_protocol(args.names)
    if unknown := set(args.scorer) - set(SCORERS):
        raise TTDError(f"unknown scorer {min(unknown)!r}: choose from {', '.join(SCORERS)}")
    labels = labels.there(args.allow_missing)
    backbone = load_model(args)
    look = Look(args.image or backbone.image_size, args.view == "crop")
    asked = ask(backbone, protocol, labels)
    trained, facts = train(args, backbone, labels, asked, look)
    options = {"trained": trained, "batch": args.batch, "workers": args.workers}
    label = f"{args.arch}{'+TTD' * (args.lora is not None)} {backbone.head}"
    made = {
        "arch": args.arch, "lora": args.lora, "head": backbone.head, "checksum": backbone.checksum,
        "names": args.names, "templates": list(protocol.templates), "words": asked.prompts[0],
        "view": args.view, "image": look.size, **facts,
    }  # fmt: skip
    with logging(args, labels, made) as log, progress_bar(len(labels)) as bar:
        found, rows, damaged = score_images(
            backbone, labels, asked, args.scorer, look, log=log, progress=bar.update, **options
        )
    if damaged and not args.allow_missing:
        raise TTDError(
            f"{len(damaged)} images cannot be decoded ({first_few(damaged, 2)}); --allow-missing "
            "scores the others"
        )
    labels = labels.take(np.isin(np.arange(len(labels)), rows))
    if log is not None:
        save(args, labels, found)
        log.finish()
    named = {f"{label} {name}": scores for name, scores in found.items()}
    return labels, named, {**made, "damaged": damaged}


def logging(
    args: argparse.Namespace, labels: LabelSet, made: dict[str, Any]
) -> AbstractContextManager[ResumedLines | None]:
    """Keep the scores of every image while others are made; only with --save."""
    if args.save is None:
        return nullcontext()
    decides = {name: value for name, value in made.items() if name != "piaa"}
    decides["piaa"] = made.get("piaa", {}).get("identity")
    identity = {**decides, "scorers": args.scorer, "set": labels.title}
    log = ResumedLines(args.save / f"{stem_of(args, labels)}.part", identity, args.overwrite)
    if log.done:
        say(f"{log.path}: resumes after {len(log.done)} images")
    return log


def stem_of(args: argparse.Namespace, labels: LabelSet) -> str:
    """SET@ARCH, as the files of --save begin."""
    return safe_name(f"{labels.key}@{args.arch}{'+TTD' * (args.lora is not None)}")


def train(
    args: argparse.Namespace, backbone: Backbone, labels: LabelSet, asked: Asked, look: Look
) -> tuple[Trained | None, dict[str, Any]]:
    """PIAA's classifier where a scorer needs it, and its provenance."""
    if "piaa" not in args.scorer:
        return None, {}
    from core.data.image_lists import list_images
    from core.evaluation.multilabel.scoring import Trained
    from core.tags.piaa.fitted import Question, fitted_classifier
    from core.utils.cache import cache_folder

    images = labels.train
    if args.train:
        images = tuple(item.path for item in list_images(args.train))
    settings = piaa_settings(args, labels.key)
    question = Question(asked.prompts, asked.text, images, look, settings)
    with progress_bar(len(images)) as bar:
        fitted = fitted_classifier(
            backbone,
            question,
            args.cache or cache_folder(),
            batch=args.batch,
            workers=args.workers,
            progress=bar.update,
        )
    told = fitted.provenance
    empty = int((fitted.classifier.patches == 0).sum())
    say(
        f"PIAA's classifier {'was found' if fitted.found else 'is fitted'}: {told['images']} "
        f"unlabelled images, {told['damaged']} of them damaged, {empty} of {len(asked.text)} "
        f"classes by their text alone; {fitted.path or 'not kept'}"
    )
    return Trained(fitted.classifier, settings), {"piaa": dict(told)}


def piaa_settings(args: argparse.Namespace, key: str) -> PiaaSettings:
    """The set's constants, with those that were named."""
    from core.tags.piaa.classifier import SETTINGS

    named = {name: getattr(args, name) for name in ("tau", "beta", "alpha", "keep")}
    given = {name: value for name, value in named.items() if value is not None}
    return replace(SETTINGS.get(key, SETTINGS["voc07"]), **given)


def save(args: argparse.Namespace, labels: LabelSet, found: dict[str, Floats]) -> None:
    """FOLDER/SET@ARCH@SCORER.jsonl, a line per image."""
    for name, scores in found.items():
        lines = []
        for image, row in zip(labels.ids, scores.tolist(), strict=True):
            own = dict(zip(labels.classes, row, strict=True))
            lines.append(json.dumps({"image": image, "scores": own}, ensure_ascii=False))
        write(args.save / f"{stem_of(args, labels)}@{name}.jsonl", "\n".join(lines) + "\n")
