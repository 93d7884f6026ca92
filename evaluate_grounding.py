"""Boxes against the true ones: accuracy at IoU 0.5 of every split beside the published rows.

    python evaluate_grounding.py --grounder clip-vg.pth --dataset unc unc+ \\
        --data_root DATA --split_root LABELS --json scores.json
    python evaluate_grounding.py --grounder runs/grounding_tiny/best.safetensors \\
        --data ../world/refer/val.jsonl ../world/refer/testA.jsonl --baselines tiny
    python evaluate_grounding.py --ref-l4 ref-l4-val.parquet --data_root images \\
        --grounder clip-vg.pth                      # or --predictions boxes.json
    torchrun --nproc_per_node 4 evaluate_grounding.py ...           # the same numbers, sooner

Prints Acc@0.5 (and 0.25, 0.75, 0.9, their mean over 0.50:0.95) and mean IoU, by length of the
phrase and size of the box. --pred FOLDER writes every box as JSONL and as COCO results.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import TTDError
from tools.cli import choose_device, positive_int
from tools.evaluation import against_file, report_options
from tools.grounding_report import (
    Found,
    Key,
    Rows,
    box_result,
    csv_of,
    draw,
    named,
    table_of,
    text_of,
    title,
    write_predictions,
)
from tools.ref_l4 import run_ref_l4
from tools.training import run_script

if TYPE_CHECKING:
    from core.data.grounding import PhraseList
    from core.training.distributed import Ranks


def get_args_parser() -> argparse.ArgumentParser:
    """All options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--grounder", "--eval_model", dest="grounder", nargs="+", metavar="FILE",
        help="ours, CLIP-VG's or hf-hub:ORG/NAME; of several, one table")  # fmt: skip
    add("--arch", metavar="NAME", help="its backbone, where that has another name than in training")
    add("--dataset", nargs="+", default=[], metavar="SET", help="unc, unc+, gref, gref_umd, ...")
    add("--eval_set", nargs="+", metavar="SPLIT", help="only these splits (default: all reported)")
    add("--data", nargs="+", default=[], metavar="FILE", help="lists of your own: JSONL, CSV, .pth")
    add("--ref-l4", nargs="+", default=[], metavar="FILE",
        help="Ref-L4's annotations (.parquet, or their rows as JSONL): its own numbers instead",
    )  # fmt: skip
    add("--predictions", type=Path, metavar="FILE",
        help="of --ref-l4: boxes that are there, {id, pred_bbox, format: xyxy|xywh}")  # fmt: skip
    add("--data_root", default="data/image_data", metavar="FOLDER", help="images of the sets")
    add("--split_root", default="data/pseudo_samples", metavar="FOLDER", help="lists of the sets")
    add("--prompt", metavar="TEXT", help="holds {pseudo_query} (default: the model's)")
    add("--batch", "--batch_size", dest="batch", type=positive_int, default=64, metavar="N",
        help="images through the tower at a time (default: %(default)s)")  # fmt: skip
    add("--limit", type=positive_int, metavar="N", help="only the first N phrases of each list")
    add("--baselines", nargs="*", metavar="ARCH[+LORA]",
        help="also without a grounding model, and from the word maps of these backbones (--data)",
    )  # fmt: skip
    add("--json", type=Path, metavar="FILE", help="write all numbers")
    add("--csv", type=Path, metavar="FILE", help="write the table")
    report_options(parser, "FILE", "an earlier --grounder, or earlier --predictions")
    add("--gallery", type=Path, metavar="FILE.png", help="draw 8 right and 8 wrong boxes")
    add("--pred", type=Path, metavar="FOLDER", help="write every box, as JSONL and COCO results")
    add("--device", metavar="DEVICE", help="cpu, cuda, cuda:N (default: CUDA where there is one)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Score and print; the first process alone prints and writes."""
    args = get_args_parser().parse_args(argv)
    from core.training.distributed import joined
    from tools.training import place

    if args.predictions and not args.ref_l4:
        raise TTDError("--predictions goes with --ref-l4")
    if not args.grounder and args.baselines is None and not args.ref_l4:
        raise TTDError("--grounder is missing: a trained model, ours or CLIP-VG's checkpoint")
    if (args.report or args.against) and not (args.grounder or args.ref_l4):
        raise TTDError("--report, --against: of a model; name it with --grounder")
    if args.gallery and len(args.grounder or []) > 1:
        raise TTDError("--gallery draws the boxes of one model: name one --grounder")
    device = place(choose_device(args.device, None), None)
    with joined(device) as ranks:
        with ranks.together():
            check_models(args, ranks)
        if args.ref_l4:
            run_ref_l4(args, device, ranks)
            return 0
        with ranks.together():
            lists = open_lists(args)
        models = names_of([*(args.grounder or []), *([args.against] if args.against else [])])
        found = {name: locate(args, path, lists, device, ranks) for name, path in models.items()}
        if ranks.first:
            report(args, found, baselines(args), lists)
            if args.report or args.against:
                show(args, found, models)
    return 0


def check_models(args: argparse.Namespace, ranks: Ranks) -> None:
    """TTDError, before hours of work: what is wrong with --against or with further models.

    The first model is loaded next, anyway. The others are read whole, as only that says whether
    they can be used; one at a time and on the CPU, where several of them have room.
    """
    from core.grounding.predict import load_grounder
    from core.grounding.weights.checkpoint import model_file

    if args.predictions:
        against_file(args)
        return
    if args.against:
        with said_of("--against"):
            model_file(args.against)
    if not ranks.first:
        return
    for file in (args.grounder or [])[1:]:
        load_grounder(file, arch=args.arch, device="cpu")
    if args.against:
        with said_of("--against"):
            load_grounder(args.against, arch=args.arch, device="cpu")


@contextmanager
def said_of(option: str) -> Iterator[None]:
    """What is wrong is said of an option."""
    try:
        yield
    except TTDError as error:
        raise TTDError(f"{option}: {error}") from None


def open_lists(args: argparse.Namespace) -> dict[Key, PhraseList]:
    """The lists that are scored, by (set, split). TTDError when there are none."""
    from dataclasses import replace

    from core.data.grounding import open_split, read_phrases
    from core.data.grounding_sets import grounding_set

    lists = {}
    for name in args.dataset:
        for split in args.eval_set or grounding_set(name).evaluate:
            lists[name, split] = open_split(args.data_root, args.split_root, name, split)
    for name, path in own_lists(args.data).items():
        lists["", name] = read_phrases(path)
    if not lists:
        raise TTDError("nothing to score: name sets with --dataset, or lists with --data")
    return {key: replace(part, phrases=part.phrases[: args.limit]) for key, part in lists.items()}


def own_lists(paths: Sequence[str]) -> dict[str, str]:
    """Lists of one's own by what they are called: the folder is named where two files are alike.

    TTDError for two that would still be one in tables and files.
    """
    paths = list(dict.fromkeys(paths))
    stems = [Path(path).stem for path in paths]
    named = {}
    for path, stem in zip(paths, stems, strict=True):
        place = Path(path)
        name = place.name if stems.count(stem) == 1 else f"{place.parent.name}-{place.name}"
        named[name] = path
    if len({Path(name).stem for name in named}) < len(paths):
        raise TTDError("--data: two lists of one name in folders of one name; rename one")
    return named


def names_of(paths: Sequence[str]) -> dict[str, str]:
    """The files by a short name: their own; the folder's and theirs where those are equal."""
    stems = [Path(path).stem for path in paths]
    if len(set(stems)) < len(stems):
        stems = [f"{Path(path).parent.name}/{Path(path).stem}" for path in paths]
    if len(set(stems)) < len(stems):
        raise TTDError("--grounder: two files of one name in folders of one name; rename one")
    return dict(zip(stems, paths, strict=True))


def locate(
    args: argparse.Namespace, path: str, lists: dict[Key, PhraseList], device: str, ranks: Ranks
) -> Found:
    """The boxes of all lists from the model in a file, each found by one process."""
    from core.grounding.locate import locate_sharded
    from core.grounding.predict import load_grounder

    with ranks.together():
        grounder = load_grounder(path, arch=args.arch, device=device)
        grounder.prompt = args.prompt or grounder.prompt
    return {
        key: locate_sharded(grounder, part.phrases, ranks, args.batch)
        for key, part in lists.items()
    }


def baselines(args: argparse.Namespace) -> Rows:
    """Acc@0.5 in percent of what needs no grounding model, by name and list."""
    if args.baselines is None:
        return {}
    from core.backbones import load_backbone
    from core.grounding.baselines import baseline_ious
    from core.predictor import Predictor

    predictors = {}
    for name in args.baselines:
        arch, _, lora = name.partition("+")
        backbone = load_backbone(arch, lora=lora or None, device="cpu")
        predictors[f"{arch}+TTD" if lora else arch] = Predictor(backbone)
    rows: Rows = {}
    for called, path in own_lists(args.data).items():
        for name, ious in baseline_ious(path, predictors, args.limit).items():
            rows.setdefault(name, {})["", called] = 100 * float((ious >= 0.5).mean())
    return rows


def report(
    args: argparse.Namespace,
    models: Mapping[str, Found],
    others: Rows,
    lists: Mapping[Key, PhraseList],
) -> None:
    """Print the tables, and write the files that were asked for."""
    from core.evaluation.grounding import PUBLISHED
    from core.grounding.locate import groups_of, scores_of
    from tools.evaluation import write

    found = next(iter(models.values()), {})
    keys = list(found) or list(dict.fromkeys(chain.from_iterable(others.values())))
    scores = {
        name: {key: scores_of(items) for key, items in own.items()} for name, own in models.items()
    }
    table = table_of(keys, scores, {**others, **PUBLISHED})
    print(text_of(table))
    for name, own in models.items():
        print_groups(own, name * (len(models) > 1))
    if args.json:
        import json

        content = {}
        for name, own in models.items():
            values = scores[name].items()
            content[name] = {title(k): {**v, "groups": groups_of(own[k])} for k, v in values}
        if len(content) <= 1:
            content = next(iter(content.values()), {})
        inputs = {title(key): part.digest for key, part in lists.items()}
        whole = {"scores": content, "others": named(others), "inputs": inputs}
        write(args.json, json.dumps(whole, indent=1) + "\n")
    if args.csv:
        write(args.csv, csv_of(table))
    if args.pred:
        for name, own in models.items():
            write_predictions(args.pred / name if len(models) > 1 else args.pred, own)
    if args.gallery:
        draw(args.gallery, list(chain.from_iterable(found.values())))


def show(args: argparse.Namespace, models: Mapping[str, Found], files: Mapping[str, str]) -> None:
    """Write --report over all lists, and say what has changed since --against, the last model."""
    from core.evaluation.grounding import PUBLISHED
    from core.grounding.locate import scores_of
    from core.metrics.bootstrap import mean_of
    from core.report.boxes import boxes_report, sums_of
    from tools.evaluation import say_change, write

    own = [box_result(tag, found, files[tag]) for tag, found in models.items()]
    results, before = (own[:-1], own[-1]) if args.against else (own, None)
    if before is not None:
        said = (before.tag, sums_of(before))
        say_change(results[0].tag, sums_of(results[0]), said, mean_of)
    if args.report:
        keys = list(next(iter(models.values())))
        scores = {tag: {k: scores_of(v) for k, v in found.items()} for tag, found in models.items()}
        table = table_of(keys, scores, dict(PUBLISHED))
        name = ", ".join(title(key) for key in keys)
        write(args.report, boxes_report(name, results, table, before))
        print(f"report: {args.report}")


def print_groups(found: Found, name: str) -> None:
    """Acc@0.5 by length of the phrase and size of the box, of every list."""
    from core.grounding.locate import groups_of

    for key, items in found.items():
        whose = f"{name}, {title(key)}" if name else title(key)
        print(f"\n{whose}: {len(items)} phrases, Acc@0.5 by words and by size of the box")
        for kind, groups in groups_of(items).items():
            parts = [f"{n} {100 * share:.1f} ({c})" for n, (c, share) in groups.items() if c]
            print(f"  {kind}: {', '.join(parts)}")


if __name__ == "__main__":
    run_script(main)
