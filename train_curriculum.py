"""Train grounding without annotation: keep the pseudo-labels that a model itself finds reliable.

    python train_curriculum.py --sources template.jsonl --algorithm ssa --val val.jsonl
    python train_curriculum.py --sources template.jsonl relation.jsonl caption.jsonl ttd.jsonl \\
        --algorithm msa --select-on pseudo --out runs/curriculum

CLIP-VG's self-paced adaptation, from one source (ssa) or several (msa): a model is trained on a
source, measures how far it agrees with every label, and labels above a threshold are kept, which is
found by hill climbing over trainings. Says first how many trainings that is and how long it takes;
--dry-run says only that. The same command resumes. Settings of a training: --config, --set, as in
train_grounding.py. Everything else: docs/curriculum.md
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.errors import TTDError
from tools.cli import positive_int, say
from tools.training import place, run_script, setting, settings, stop_requests
from tools.training_options import common_options, run_options

if TYPE_CHECKING:
    from core.data.grounding import PhraseList
    from core.grounding.curriculum.lab import CurriculumLab
    from core.grounding.curriculum.ledger import Training
    from core.grounding.curriculum.schedule import Lab, Outcome
    from core.grounding.curriculum.search import Grid
    from core.grounding.curriculum.work import GroundingWork
    from core.grounding.run_config import GroundingConfig
    from core.training.distributed import Ranks

CONFIG = Path(__file__).parent / "configs" / "grounding_pseudo.yaml"
OWN = ("sources", "algorithm", "select_on", "held_out", "delta", "start", "rounds", "order")
OWN += ("leave_out", "fewest", "most", "publish", "images", "val")


def get_args_parser() -> argparse.ArgumentParser:
    """The command line; settings of a training that are not given are not in the namespace."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
        parents=[common_options(), run_options()],
    )
    _curriculum_options(parser.add_argument_group("curriculum"))
    add = parser.add_argument_group("data and model").add_argument
    add("--images", metavar="FOLDER", default=None, help="of the sources (default: beside them)")
    add("--data_root", metavar="FOLDER", help="images of --publish's data set instead")
    add("--arch", metavar="NAME", help="backbone (default: the recipe's)")
    add("--weights", metavar="FILE", help="backbone weights instead of those of the name")
    add("--cache", metavar="FOLDER", help="keep the frozen towers' features there")
    add("--epochs", type=float, metavar="N", help="passes over the labels, instead of --steps")
    return parser


def _curriculum_options(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--sources", nargs="+", required=True, metavar="FILE",
        help="lists of pseudo-labels: JSONL, CSV, .pth; a source is named as its file")  # fmt: skip
    add("--algorithm", choices=("ssa", "msa"), default=None,
        help="default: ssa for one source, msa for several")  # fmt: skip
    add("--select-on", choices=("val", "pseudo"), default="val",
        help="what decides: annotated phrases (--val), as published, or held-out pseudo-labels, "
        "which need no annotation (default: val)")  # fmt: skip
    add("--val", metavar="FILE", default=None, help="annotated phrases, for --select-on val")
    add("--held-out", type=float, default=0.1, metavar="SHARE",
        help="of the images, for --select-on pseudo (default: 0.1)")  # fmt: skip
    add("--delta", type=float, default=0.1, help="step of the threshold (default: 0.1)")
    add("--start", type=float, default=0.5, help="first threshold (default: 0.5)")
    add("--leave-out", action="store_true", default=False,
        help="msa: leave out a source that lowers the performance (default: take all)")  # fmt: skip
    add("--rounds", type=positive_int, default=1, metavar="N", help="of ssa (default: 1)")
    add("--order", choices=("entities", "given"), default="entities",
        help="sources by the mean number of things an expression names, or as given")  # fmt: skip
    add("--fewest", type=positive_int, default=64, metavar="N",
        help="labels below which nothing is trained (default: 64)")  # fmt: skip
    add("--most", type=positive_int, default=None, metavar="N",
        help="labels in the final list, drawn by --seed")  # fmt: skip
    add("--publish", metavar="SET", default=None,
        help="also write the reliability files as CLIP-VG does, for unc, flickr, ...")  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run the curriculum; 0 when done, 130 after Ctrl-C."""
    args = vars(get_args_parser().parse_args(argv))
    from core.backbones.device import use_threads
    from core.training.distributed import PeerError, joined

    config = choose(args)
    device = place(config.device, args.get("gpus"))
    use_threads(config.threads)
    try:
        with joined(device) as ranks, stop_requests() as asked:
            return carry_out(args, config, device, ranks, lambda: bool(asked))
    except PeerError:
        return 2


def choose(args: Mapping[str, Any]) -> GroundingConfig:
    """The settings of a training."""
    from core.grounding.run_config import load_config
    from core.training.precision import settled

    flags = {key: value for key, value in args.items() if key not in OWN}
    config = settings(flags, load_config, args.get("config") or CONFIG).config
    config = replace(config, keep="last", val=None, out=config.out or "runs/curriculum")
    if "steps" in flags or "steps" in dict(setting(item) for item in args.get("set", ())):
        config = replace(config, epochs=None)  # the same number for every pool
    return settled(config, config.device)


def carry_out(
    args: Mapping[str, Any], config: GroundingConfig, device: str, ranks: Ranks, should_stop: Any
) -> int:
    """Everything after the settings, in every process."""
    from core.grounding.curriculum.work import Stopped

    with ranks.together():
        sources, judge = data(args, config)
        work = worker(config, sources, judge, device, ranks, should_stop)
        lab = laboratory(args, sources, judge, work, ranks)
    if ranks.first:
        introduce(args, sources, judge)
    estimate(args, lab, work, ranks)
    if args.get("dry_run"):
        return 0
    try:
        outcome = schedule(args, lab, list(sources))
    except Stopped:
        if ranks.first:
            say(f"stopped; the same command resumes: {lab.ledger.path}")
        return 130
    with ranks.together():
        if ranks.first:
            finish(args, lab, outcome, config)
    return 0


def data(
    args: Mapping[str, Any], config: GroundingConfig
) -> tuple[dict[str, PhraseList], PhraseList]:
    """The sources by name, simple ones first, and what a model is judged by."""
    from core.data.grounding import read_phrases
    from core.data.grounding_sets import grounding_set
    from core.grounding.curriculum.judge import hold_out

    known = grounding_set(args["publish"]) if args["publish"] else None
    images = args["images"]
    if images is None and known is not None and "data_root" in args:
        images = Path(args["data_root"]).expanduser() / known.images
    sources: dict[str, PhraseList] = {}
    for file in args["sources"]:
        name = Path(file).stem
        if name in sources:
            raise TTDError(f"--sources: two files are called {name}; sources are named by them")
        sources[name] = read_phrases(file, images, known)
    if args["order"] == "entities":
        sources = dict(sorted(sources.items(), key=lambda item: mean_entities(item[1])))
    if args["select_on"] == "pseudo":
        return hold_out(sources, args["held_out"])
    if args["val"] is None:
        raise TTDError("--val FILE is missing: annotated phrases; or add --select-on pseudo")
    judge = read_phrases(args["val"], None, known)
    return sources, replace(judge, phrases=judge.phrases[: config.eval_limit])


def mean_entities(source: PhraseList) -> float:
    """How many things the expressions of a source name on average."""
    from core.grounding.pseudo_labels.head_noun import entities

    return sum(entities(phrase.text) for phrase in source.phrases) / len(source)


def worker(
    config: GroundingConfig,
    sources: Mapping[str, PhraseList],
    judge: PhraseList,
    device: str,
    ranks: Ranks,
    should_stop: Any,
) -> GroundingWork:
    """What trains and measures."""
    from core.backbones import load_backbone
    from core.grounding.curriculum.work import GroundingWork

    backbone = load_backbone(config.arch, weights=config.weights, device=device)
    images = list(sources.values())
    return GroundingWork(config, backbone, judge, images, ranks, should_stop=should_stop)


def laboratory(
    args: Mapping[str, Any],
    sources: Mapping[str, PhraseList],
    judge: PhraseList,
    work: GroundingWork,
    ranks: Ranks,
) -> CurriculumLab:
    """Where it is done, with what is known from an earlier run."""
    from core.grounding.curriculum.lab import CurriculumLab
    from core.grounding.curriculum.ledger import Ledger
    from core.training.config import identity

    config, backbone = work.config, work.backbone
    made_with = {
        "settings": identity(replace(config, data=None)),
        "backbone": backbone.checksum,
        "sources": {name: source.digest for name, source in sources.items()},
        "judge": [args["select_on"], judge.digest],
        "curriculum": {key: args[key] for key in ("algorithm", "delta", "start", "fewest")},
    }
    overwrite = bool(args.get("overwrite"))
    ledger = Ledger(config.folder, made_with, overwrite, writes=ranks.first)
    report = told if ranks.first else (lambda training: None)
    return CurriculumLab(config.folder, sources, ledger, work, args["fewest"], report)


def told(training: Training) -> None:
    """A line about a finished training."""
    result = f"Acc@0.5 {100 * training.performance:.2f}"
    if training.model is None:
        result = "too few labels to train on"
    print(f"{training.pool}: {training.phrases:,} labels, {result}", flush=True)


def introduce(
    args: Mapping[str, Any], sources: Mapping[str, PhraseList], judge: PhraseList
) -> None:
    """The sources, and by what a model is judged."""
    for name, source in sources.items():
        print(f"{name}: {len(source):,} labels, {mean_entities(source):.2f} things a phrase")
    kind = "annotated" if args["select_on"] == "val" else "no annotation"
    print(f"judged by {len(judge):,} phrases of {judge.place} ({kind})")


def estimate(
    args: Mapping[str, Any], lab: CurriculumLab, work: GroundingWork, ranks: Ranks
) -> None:
    """How many trainings remain, and how long they take by three timed steps."""
    if complete(args, lab):
        if ranks.first:
            print(f"all {len(lab.ledger.trainings)} trainings done")
        return
    from core.grounding.curriculum.schedule import trainings
    from core.grounding.run_config import in_steps

    least, most = trainings(len(lab.sources), algorithm(args), grid(args))
    done = len(lab.ledger.trainings)
    source = max(lab.sources.values(), key=len)
    seconds = work.seconds_a_step(lab.folder / "timing", source)
    steps = in_steps(work.config, len(source)).steps
    hours = [max(0, count - done) * steps * seconds / 3600 for count in (least, most)]
    if ranks.first:
        print(
            f"{least} to {most} trainings, {done} done; {steps:,} steps of {seconds:.2f} s on the "
            f"largest source: {hours[0]:.1f} to {hours[1]:.1f} hours left at most"
        )


def algorithm(args: Mapping[str, Any]) -> str:
    """ssa for one source, msa for several, where none is given. TTDError: ssa for several."""
    chosen = args["algorithm"] or ("ssa" if len(args["sources"]) == 1 else "msa")
    if chosen == "ssa" and len(args["sources"]) > 1:
        raise TTDError("--algorithm ssa takes one source; msa is for several")
    if chosen == "ssa" and args["leave_out"]:
        raise TTDError("--leave-out is for msa, which takes several sources")
    return str(chosen)


def grid(args: Mapping[str, Any]) -> Grid:
    """The thresholds that are searched."""
    from core.grounding.curriculum.search import Grid

    return Grid(args["delta"], args["start"])


def complete(args: Mapping[str, Any], lab: CurriculumLab) -> bool:
    """Whether what is known is the whole curriculum."""
    from core.grounding.curriculum.ledger import NotYet, Replay

    try:
        schedule(args, Replay(lab.ledger.trainings), list(lab.sources))
    except NotYet:
        return False
    return True


def schedule(args: Mapping[str, Any], lab: Lab, sources: Sequence[str]) -> Outcome:
    """The whole curriculum."""
    from core.grounding.curriculum.schedule import adapt_multiple, adapt_single

    if algorithm(args) == "ssa":
        return adapt_single(lab, sources[0], grid(args), args["rounds"])
    return adapt_multiple(lab, sources, grid(args), args["leave_out"])


def finish(
    args: Mapping[str, Any], lab: CurriculumLab, outcome: Outcome, config: GroundingConfig
) -> None:
    """Write the chosen labels, the manifest and the pictures, and say what came out."""
    from core.grounding.curriculum.merge import LIST, write_pool
    from core.grounding.curriculum.pictures import draw

    about = {
        "algorithm": algorithm(args),
        "selected_on": args["select_on"],
        "performance": outcome.performance,
        "whole_sources": dict(outcome.alone),
        "left_out": [step.source for step in outcome.steps if not step.taken],
    }
    manifest = write_pool(lab.folder, lab, outcome.pool, args["most"], config.seed, about)
    draw(lab.folder, lab, outcome)
    if args["publish"]:
        from core.grounding.curriculum.publish import write_source_files

        write_source_files(lab.folder / "published", args["publish"], lab, outcome)
    for step in outcome.steps:
        kept = f"measured by {step.chosen}, reliability > {step.climb.threshold:g}"
        print(f"{step.source}: {kept if step.taken else 'left out'}")
    best = max(outcome.alone, key=lambda name: outcome.alone[name])
    print(
        f"Acc@0.5 {100 * outcome.performance:.2f} ({100 * outcome.alone[best]:.2f} on all of "
        f"{best}); {manifest['labels']:,} labels in {lab.folder / LIST}"
    )
    print(f"{lab.model(outcome.pool)}: the model trained on them")


if __name__ == "__main__":
    run_script(main)
