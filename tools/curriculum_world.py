"""What a curriculum gains: every source alone, SSA, MSA, and MSA with one more source, as a table.

    python tools/curriculum_world.py --config configs/grounding_tiny.yaml --steps 700 \\
        --sources template.jsonl relation.jsonl caption.jsonl ttd.jsonl --own ttd \\
        --images ../world/refer/images --val ../world/refer/val.jsonl \\
        --test ../world/refer/val.jsonl ../world/refer/testA.jsonl ../world/refer/testB.jsonl \\
        --seeds 0 1 2 --out runs/curriculum_world --update docs/curriculum.md

One laboratory serves all schedules, so that nothing is trained twice. Pools are chosen with the
first of --seeds; each chosen pool is then trained with every seed and tested: mean and deviation.
MSA leaves --own out, the last row has it. The same command resumes. Everything else is as in
train_curriculum.py.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

from cli import run, say

import train_curriculum
from core.errors import TTDError
from tools.doc_table import update

if TYPE_CHECKING:
    from core.data.grounding import PhraseList
    from core.grounding.curriculum.lab import CurriculumLab
    from core.grounding.curriculum.pool import Pool
    from core.grounding.curriculum.schedule import Outcome
    from core.grounding.curriculum.work import GroundingWork

MARKS = ("<!-- table: tools/curriculum_world.py -->", "<!-- end of table -->")
NAME = "curriculum_world.json"
OWN = ("own", "test", "seeds", "update")


@dataclass(frozen=True)
class Chosen:
    """A row of the table: what was trained on, and of how many labels that is."""

    name: str
    pool: Pool
    labels: int


def get_args_parser() -> argparse.ArgumentParser:
    """train_curriculum.py's options and four more."""
    parser = train_curriculum.get_args_parser()
    parser.description = __doc__
    add = parser.add_argument_group("table").add_argument
    add("--own", default=None, metavar="SOURCE", help="the source that MSA is tried without")
    add("--test", nargs="+", required=True, metavar="FILE", help="annotated lists of the table")
    add("--seeds", nargs="+", type=int, default=[0], metavar="N", help="the first one chooses")
    add("--update", type=Path, default=None, metavar="FILE", help="put the table between its marks")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Choose, train, test, print."""
    args = vars(get_args_parser().parse_args(argv))
    own = {name: args.pop(name) for name in OWN}
    from core.backbones.device import use_threads
    from core.data.grounding import read_phrases
    from core.training.distributed import Ranks

    config = replace(train_curriculum.choose(args), seed=own["seeds"][0])
    use_threads(config.threads)
    sources, judge = train_curriculum.data(args, config)
    tests = {Path(file).stem: read_phrases(file) for file in own["test"]}
    device = train_curriculum.place(config.device, args.get("gpus"))
    work = train_curriculum.worker(config, sources, judge, device, Ranks(), lambda: False)
    lab = train_curriculum.laboratory(args, sources, judge, work, Ranks())
    train_curriculum.introduce(args, sources, judge)
    rows = chosen(args, lab, own["own"])
    text = table(rows, results(lab, work, rows, own["seeds"], tests), list(tests))
    print(text)
    if own["update"]:
        update(own["update"], MARKS, text)
    return 0


def chosen(args: Mapping[str, Any], lab: CurriculumLab, own: str | None) -> list[Chosen]:
    """The pool of every row. TTDError: `own` is no source."""
    from core.grounding.curriculum.pool import whole
    from core.grounding.curriculum.schedule import adapt_multiple, adapt_single

    if own is not None and own not in lab.sources:
        raise TTDError(f"--own {own}: there are {', '.join(lab.sources)}")
    grid = train_curriculum.grid(args)
    rows = [row(lab, f"{name}, all of it", whole(name)) for name in lab.sources]
    others = [name for name in lab.sources if name != own]
    several = adapt_multiple(lab, others, grid)
    rows.append(row(lab, f"MSA: {', '.join(others)}", told(several)))
    if own is not None:
        every = adapt_multiple(lab, list(lab.sources), grid)
        rows.append(row(lab, f"MSA: {', '.join(lab.sources)}", told(every)))
    for name in lab.sources:
        single = adapt_single(lab, name, grid, args["rounds"])
        rows.append(row(lab, f"{name}, SSA", told(single)))
    return rows


def told(outcome: Outcome) -> Pool:
    """The pool of a schedule, which is also said."""
    say(f"{outcome.pool.name}: Acc@0.5 {100 * outcome.performance:.1f} on what chooses")
    return outcome.pool


def row(lab: CurriculumLab, name: str, pool: Pool) -> Chosen:
    """With the number of labels, which needs the pool's measurers."""
    lab.performance(pool)
    return Chosen(name, pool, lab.ledger.trainings[pool.name].phrases)


def results(
    lab: CurriculumLab,
    work: GroundingWork,
    rows: Sequence[Chosen],
    seeds: Sequence[int],
    tests: Mapping[str, PhraseList],
) -> dict[str, dict[str, list[float]]]:
    """Acc@0.5 by the pool's name and the test's, one number a seed; kept on disk as they come."""
    from core.utils.files import read_json, write_json

    file = lab.folder / NAME
    known: dict[str, dict[str, float]] = read_json(file) or {}
    for seed in seeds:
        for item in rows:
            key = f"{seed} {item.pool.name}"
            if key not in known:
                known[key] = tested(model_of(lab, work, item, seed, seeds[0]), work, tests)
                write_json(file, known)
                say(f"{item.name}, seed {seed}: {json.dumps(known[key])}")
    found = {}
    for item in rows:
        runs = [known[f"{seed} {item.pool.name}"] for seed in seeds]
        found[item.pool.name] = {test: [one[test] for one in runs] for test in tests}
    return found


def model_of(lab: CurriculumLab, work: GroundingWork, item: Chosen, seed: int, first: int) -> Path:
    """The model of a pool and seed, trained if need be; that of the first seed is the lab's."""
    from core.grounding.curriculum.pool import as_list

    if seed == first:
        return lab.model(item.pool)
    folder = lab.folder / f"seed_{seed}" / item.pool.key
    other = work.with_seed(seed)
    return other.train(folder, as_list(folder, lab.labels(item.pool))).model


def tested(model: Path, work: GroundingWork, tests: Mapping[str, PhraseList]) -> dict[str, float]:
    """Acc@0.5 of a model on every test."""
    from core.grounding.locate import locate_sharded, scores_of
    from core.grounding.predict import load_grounder
    from core.training.distributed import Ranks

    grounder = load_grounder(model, arch=work.config.arch, device=work.backbone.device)
    found = {}
    for name, test in tests.items():
        located = locate_sharded(grounder, test.phrases, Ranks(), work.config.eval_batch)
        found[name] = scores_of(located)["acc@0.5"]
    return found


def table(
    rows: Sequence[Chosen], found: Mapping[str, Mapping[str, Sequence[float]]], tests: Sequence[str]
) -> str:
    """Markdown: labels, and Acc@0.5 in percent, mean and deviation over the seeds."""
    lines = [f"| Acc@0.5, percent | labels | {' | '.join(tests)} |"]
    lines.append("|---" * (2 + len(tests)) + "|")
    for item in rows:
        cells = [cell(found[item.pool.name][test]) for test in tests]
        lines.append(f"| {item.name} | {item.labels:,} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def cell(values: Sequence[float]) -> str:
    """Mean and sample deviation of fractions, in percent."""
    spread = f" ± {100 * stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * mean(values):.1f}{spread}"


if __name__ == "__main__":
    run(main)
