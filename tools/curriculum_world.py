"""What a curriculum gains, as a table: sources alone and together, SSA, MSA, annotated boxes.

    python tools/curriculum_world.py --config configs/curriculum_tiny.yaml \\
        --sources template.jsonl relation.jsonl caption.jsonl ttd.jsonl --own ttd \\
        --images ../world/refer/images --val ../world/refer/val.jsonl \\
        --test ../world/refer/val.jsonl ../world/refer/testA.jsonl ../world/refer/testB.jsonl \\
        --ssa template ttd --annotated ../world/refer/train.jsonl --seeds 0 1 2 \\
        --out runs/curriculum_world --update docs/curriculum.md

One laboratory serves all schedules, so that nothing is trained twice. Pools are chosen with the
first of --seeds; each chosen pool is then trained with every seed and tested: mean and deviation.
MSA is tried without --own and with it; --annotated adds the row of true phrases and boxes of the
same images. searches.png shows the last MSA. The same command resumes. Everything else is as in
train_curriculum.py.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

from cli import run, say

import train_curriculum
from core.errors import TTDError
from tools.doc_table import check, update

if TYPE_CHECKING:
    from core.data.grounding import Phrase, PhraseList
    from core.grounding.curriculum.lab import CurriculumLab
    from core.grounding.curriculum.pool import Pool
    from core.grounding.curriculum.schedule import Outcome
    from core.grounding.curriculum.work import GroundingWork

MARKS = ("<!-- table: tools/curriculum_world.py -->", "<!-- end of table -->")
NAME = "curriculum_world.json"
OWN = ("own", "ssa", "annotated", "test", "seeds", "update")
# Of train_curriculum.py, and of no use for a table of all schedules.
REFUSED = ("dry_run", "leave_out", "publish")


@dataclass(frozen=True)
class Row:
    """A row of the table: what was trained on, under which key its results are kept.

    model: the file of its model by the seed.
    """

    name: str
    key: str
    labels: int
    model: Callable[[int], Path]


def get_args_parser() -> argparse.ArgumentParser:
    """train_curriculum.py's options and some more."""
    parser = train_curriculum.get_args_parser()
    parser.description = __doc__
    add = parser.add_argument_group("table").add_argument
    add("--own", default=None, metavar="SOURCE", help="the source that MSA is tried without")
    add("--ssa", nargs="*", default=None, metavar="SOURCE", help="tried alone (default: all)")
    add("--annotated", default=None, metavar="FILE", help="true phrases and boxes, for comparison")
    add("--test", nargs="+", required=True, metavar="FILE", help="annotated lists of the table")
    add("--seeds", nargs="+", type=int, default=[0], metavar="N", help="the first one chooses")
    add("--update", type=Path, default=None, metavar="FILE", help="put the table between its marks")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Choose, train, test, print."""
    args = vars(get_args_parser().parse_args(argv))
    own = {name: args.pop(name) for name in OWN}
    if asked := [name for name in REFUSED if args.get(name)]:
        raise TTDError(f"--{asked[0].replace('_', '-')}: not with a table; see train_curriculum.py")
    if own["update"]:
        check(own["update"], MARKS)
    from core.backbones.device import use_threads
    from core.data.grounding import read_phrases
    from core.training.distributed import Ranks

    config = replace(train_curriculum.choose(args), seed=own["seeds"][0])
    use_threads(config.threads)
    sources, judge = train_curriculum.data(args, config)
    stems = [Path(file).stem for file in own["test"]]
    if twice := sorted({stem for stem in stems if stems.count(stem) > 1}):
        raise TTDError(f"--test: two files are called {twice[0]}: rename one, they are columns")
    tests = dict(zip(stems, map(read_phrases, own["test"]), strict=True))
    device = train_curriculum.place(config.device, args.get("gpus"))
    work = train_curriculum.worker(config, sources, judge, device, Ranks(), lambda: False)
    if args.get("overwrite"):
        forget(config.folder)
    lab = train_curriculum.laboratory(args, sources, judge, work, Ranks())
    train_curriculum.introduce(args, sources, judge)
    table_of = Rows(lab, work, own["seeds"][0])
    # First, since it can fail.
    last = [table_of.annotated(own["annotated"], args["images"])] if own["annotated"] else []
    rows = [*chosen(args, table_of, own["own"], own["ssa"]), *last]
    text = table(rows, results(lab, work, rows, own["seeds"], tests), list(tests))
    print(text)
    if own["update"]:
        update(own["update"], MARKS, text)
    return 0


def forget(folder: Path) -> None:
    """Remove what the table adds to a laboratory that --overwrite removes: it would be stale."""
    from core.grounding.curriculum.ledger import NAME as LEDGER

    if (folder / LEDGER).exists():
        (folder / NAME).unlink(missing_ok=True)
        for trainings in folder.glob("seed_*"):
            shutil.rmtree(trainings, ignore_errors=True)


@dataclass(frozen=True)
class Rows:
    """Makes rows. first: the seed that the laboratory trains with."""

    lab: CurriculumLab
    work: GroundingWork
    first: int

    def of(self, name: str, pool: Pool) -> Row:
        """A pool, trained now if it was not; its labels need its measurers."""
        self.lab.performance(pool)
        labels = self.lab.ledger.trainings[pool.name].phrases

        def model(seed: int) -> Path:
            """That of the first seed is the laboratory's."""
            if seed == self.first:
                return self.lab.model(pool)
            return self._train(seed, pool.key, self.lab.labels(pool))

        return Row(name, pool.name, labels, model)

    def annotated(self, file: str, images: str | None) -> Row:
        """True phrases and boxes of the sources' images. TTDError: the file; no such phrase."""
        from core.data.grounding import read_phrases
        from core.grounding.curriculum.pool import without_copies

        seen = {item.image for source in self.lab.sources.values() for item in source.phrases}
        listed = read_phrases(file, images)
        every = without_copies(listed.phrases)
        own = [item for item in every if item.image in seen]
        own = [replace(item, index=number) for number, item in enumerate(own)]
        if not own:
            raise TTDError(f"--annotated {file}: none of its images is in a source")
        key = f"annotated_{listed.digest[:12]}"
        return Row("annotated boxes", key, len(own), partial(self._train, key=key, labels=own))

    def _train(self, seed: int, key: str, labels: Sequence[Phrase]) -> Path:
        from core.grounding.curriculum.pool import as_list

        folder = self.lab.folder / f"seed_{seed}" / key
        return self.work.with_seed(seed).train(folder, as_list(folder, labels)).model


def chosen(
    args: Mapping[str, Any], rows: Rows, own: str | None, single: Sequence[str] | None
) -> Iterator[Row]:
    """The rows of all schedules. TTDError: `own`, or one of `single`, is no source."""
    from core.grounding.curriculum.pictures import draw
    from core.grounding.curriculum.pool import Part, Pool, whole
    from core.grounding.curriculum.schedule import adapt_multiple, adapt_single

    lab, grid = rows.lab, train_curriculum.grid(args)
    every = list(lab.sources)
    for option, names in (("--own", [own] if own else []), ("--ssa", single or [])):
        if unknown := [name for name in names if name not in lab.sources]:
            raise TTDError(f"{option} {unknown[0]}: there are {', '.join(every)}")
    if own is not None and len(every) == 1:
        raise TTDError(f"--own {own}: there is no other source to compare it with")
    for name in every:
        yield rows.of(f"{name}, all of it", whole(name))
    others = [name for name in every if name != own]
    for names in [others, every] if own is not None else [every]:
        together = ", ".join(names)
        if len(names) > 1:
            yield rows.of(f"{together}, all of them", Pool(tuple(map(Part, names))))
        outcome = adapt_multiple(lab, names, grid)
        yield rows.of(f"MSA: {together}", told(outcome))
    draw(lab.folder, lab, outcome)
    if len(every) > 1:
        choosy = adapt_multiple(lab, every, grid, leave_out=True)
        yield rows.of(f"MSA that may leave sources out: {together}", told(choosy))
    for name in every if single is None else single:
        yield rows.of(f"SSA: {name}", told(adapt_single(lab, name, grid, args["rounds"])))


def told(outcome: Outcome) -> Pool:
    """The pool of a schedule, which is also said."""
    say(f"{outcome.pool.name}: Acc@0.5 {100 * outcome.performance:.1f} on what chooses")
    return outcome.pool


def results(
    lab: CurriculumLab,
    work: GroundingWork,
    rows: Sequence[Row],
    seeds: Sequence[int],
    tests: Mapping[str, PhraseList],
) -> dict[str, dict[str, list[float]]]:
    """Acc@0.5 by the row's key and the test's name, one number a seed; kept as they come.

    What is kept is known by the content of the test, too.
    """
    from core.utils.files import read_json, write_json

    file = lab.folder / NAME
    known: dict[str, dict[str, float]] = read_json(file) or {}
    names = {test: f"{test} {phrases.digest[:12]}" for test, phrases in tests.items()}
    for seed in seeds:
        for item in rows:
            key = f"{seed} {item.key}"
            done = known.setdefault(key, {})
            if left := {name: tests[test] for test, name in names.items() if name not in done}:
                done |= tested(item.model(seed), work, left)
                write_json(file, known)
                say(f"{item.name}, seed {seed}: {json.dumps(done)}")
    found = {}
    for item in rows:
        runs = [known[f"{seed} {item.key}"] for seed in seeds]
        found[item.key] = {test: [one[name] for one in runs] for test, name in names.items()}
    return found


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
    rows: Sequence[Row], found: Mapping[str, Mapping[str, Sequence[float]]], tests: Sequence[str]
) -> str:
    """Markdown: labels, and Acc@0.5 in percent, mean and deviation over the seeds."""
    lines = [f"| Acc@0.5, percent | labels | {' | '.join(tests)} |"]
    lines.append("|---" * (2 + len(tests)) + "|")
    for item in rows:
        cells = [cell(found[item.key][test]) for test in tests]
        lines.append(f"| {item.name} | {item.labels:,} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def cell(values: Sequence[float]) -> str:
    """Mean and sample deviation of fractions, in percent."""
    spread = f" ± {100 * stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * mean(values):.1f}{spread}"


if __name__ == "__main__":
    run(main)
