"""Does one recipe gain on models and worlds that it was not made for? Before and after, a table.

    python benchmarks/prove_ttd.py --update docs/proof.md                  # hours on two cores
    python benchmarks/prove_ttd.py --only TCL --seeds 0 --steps 40 --limit 100          # a trial

Every cell (model, world, seed) is a training run of the recipe as it stands, scored on images that
no choice has seen. A finished cell is a line of --cells and is not run again; killed in the middle,
a cell goes on from its last checkpoint. A run that is stopped (collapse, NaN) is scored as it was
then, and marked.
"""

from __future__ import annotations

import argparse
import hashlib
import shlex
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

from common import ROOT, hardware, positive_int, run

from core.errors import TTDError
from tools.doc_table import check, update

if TYPE_CHECKING:
    from ablation_grid import CellFile

    from core.data.heldout import Item
    from core.ttd.config import TTDConfig

MARKS = ("<!-- proof: begin (benchmarks/prove_ttd.py --update) -->", "<!-- proof: end -->")
KEYS = ("recipe", "settings", "models")
SHOWN = {
    "pixel_f1": "pixel F1",
    "average_precision": "mAP",
    "caption_iou": "Caption IoU",
    "word_map_iou": "word-map IoU",
}


def get_args_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    default = ROOT / "configs" / "proof.yaml"
    add("--config", type=Path, default=default, metavar="YAML", help="the models and worlds")
    add("--only", nargs="+", metavar="MODEL", help="only these models")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of training (default: 0 1 2)")
    add("--steps", type=positive_int, metavar="N", help="of the recipe, instead of its own")
    add("--limit", type=positive_int, metavar="N", help="only the first N held-out images")
    add(
        "--cells",
        type=Path,
        default=Path("runs/proof/cells.jsonl"),
        metavar="FILE",
        help="finished cells (default: %(default)s); running ones lie beside it",
    )
    add("--update", type=Path, metavar="PAGE", help="put the table between this page's marks")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is missing, then print or store the table."""
    args = get_args_parser().parse_args(argv)
    from ablation_grid import CellFile

    if args.update:
        check(args.update, MARKS)
    models = read_models(args.config, args.steps, args.only)
    cells = CellFile(args.cells)
    rows, gains = [], []
    for name, model in models.items():
        made = Cells(name, model, args.limit, cells)
        rows += made.table(args.seeds)
        gains.append(made.gains(args.seeds))
    rows.append(gain_row("mean gain", {key: mean(gain[key] for gain in gains) for key in SHOWN}))
    numbers = ", ".join(sorted({one.config(0, Path(".")).dtype for one in models.values()}))
    command = shlex.join(["python", "benchmarks/prove_ttd.py", *(argv or sys.argv[1:])])
    text = "\n".join(
        [
            f"`{command}`, {date.today()}, {hardware('cpu')}, {numbers}; percent.",
            "",
            *head(),
            *rows,
            "",
        ]
    )
    if args.update:
        update(args.update, MARKS, text)
    else:
        print(text, end="")
    return 0


@dataclass(frozen=True)
class Model:
    """A model and its world: the recipe with the model's settings; folders of held-out images.

    heldout: what is reported. dev: what a choice may see.
    """

    settings: Mapping[str, Any]
    heldout: str
    dev: str

    def config(self, seed: int, out: Path) -> TTDConfig:
        """Of one run: nothing is scored or chosen on the way."""
        from core.training.precision import settled
        from core.ttd.config import load_config
        from core.utils.config import merge

        fixed = {"eval_root": None, "keep": "last", "seed": seed, "out": str(out), "tag": "cell"}
        config = load_config(merge(self.settings, fixed), "proof")
        return settled(config, config.device)


def read_models(
    path: Path, steps: int | None = None, only: Sequence[str] | None = None
) -> dict[str, Model]:
    """The models of configs/proof.yaml by name, or some of them, in their order.

    TTDError: unknown or missing keys or settings; `only` names one that there is not.
    """
    from ablation_grid import sound_recipe

    from core.utils.config import merge, read_yaml

    content = read_yaml(path)
    models = content.get("models")
    if set(content) != set(KEYS) or not isinstance(models, Mapping) or not models:
        raise TTDError(f"{path}: wanted are {', '.join(KEYS)}, models by name")
    common = content["settings"] or {}
    if not isinstance(content["recipe"], str) or not isinstance(common, Mapping):
        raise TTDError(f"{path}: recipe is a file's name, settings are lines of `name: value`")
    recipe = merge(sound_recipe(path.parent / content["recipe"]), common)
    if steps is not None:
        recipe = merge(recipe, {"steps": steps})
    made = {}
    for name, own in models.items():
        if not isinstance(own, Mapping) or not {"heldout", "dev"} <= set(own):
            raise TTDError(
                f"{path}: {name}: write settings, heldout (images scored on) and dev (images that "
                "a choice may see)"
            )
        settings = {key: value for key, value in own.items() if key not in ("heldout", "dev")}
        made[str(name)] = Model(merge(recipe, settings), str(own["heldout"]), str(own["dev"]))
        made[str(name)].config(0, Path("."))
    if unknown := sorted(set(only or ()) - set(made)):
        raise TTDError(f"no model {', '.join(unknown)} in {path}; there are {', '.join(made)}")
    return {name: made[name] for name in only or made}


class Cells:
    """One model's runs."""

    def __init__(self, name: str, model: Model, limit: int | None, cells: CellFile):
        """Load data and weights once, to know what cells are made of."""
        from core.backbones import load_backbone
        from core.data.heldout import load_heldout
        from core.data.pairs import open_pairs

        self.name, self.model, self.cells = name, model, cells
        config = model.config(0, cells.path.parent)
        self.pairs = open_pairs(config.data, config.root, config.pruned, config.limit)
        self.items: list[Item] = load_heldout(model.heldout, limit)
        texts = repr([(item.id, item.text, item.tags) for item in self.items])
        base = load_backbone(config.arch, weights=config.weights, device=config.device)
        self.data = {
            "pairs": self.pairs.digest,
            "weights": base.checksum,
            "heldout": hashlib.sha256(texts.encode()).hexdigest(),
        }

    def cell(self, seed: int | None) -> Mapping[str, Any]:
        """The scores of a run, or of the model before training (None), stored or made now."""
        from ablation_grid import cell_key, cell_scores, untrained_key

        from core.backbones.device import use_threads

        config = self.model.config(seed or 0, self.cells.path.parent)
        make_key = untrained_key if seed is None else cell_key
        key = make_key(config, self.data)
        if key not in self.cells.cells:
            config = replace(config, out=str(self.cells.path.parent / key))
            start = time.perf_counter()
            use_threads(config.threads)
            scores, stopped = cell_scores(config, self.pairs, self.items, seed is not None)
            seconds = round(time.perf_counter() - start, 1)
            label = f"{self.name}, {'untrained' if seed is None else f'seed {seed}'}"
            found = {"label": label, "scores": scores, "stopped": stopped, "seconds": seconds}
            self.cells.add(key, found)
            shutil.rmtree(config.folder, ignore_errors=True)
        return self.cells.cells[key]

    def table(self, seeds: Sequence[int]) -> list[str]:
        """`rows`, and a fourth: what needs no model."""
        from core.evaluation.heldout import baselines

        trivial = baselines(self.items)
        none = [
            f"{100 * trivial.all_content_words.f1:.1f}",
            "",
            f"{100 * max(trivial.caption_iou.values()):.1f}",
            f"{100 * max(trivial.word_map_iou.values()):.1f}",
        ]
        return [*self.rows(seeds), row("without a model", none)]

    def gains(self, seeds: Sequence[int]) -> dict[str, float]:
        """Mean over the seeds, in points, by score."""
        before, after = self.cell(None)["scores"], [self.cell(seed)["scores"] for seed in seeds]
        return {key: 100 * (mean(cell[key] for cell in after) - before[key]) for key in SHOWN}

    def rows(self, seeds: Sequence[int]) -> list[str]:
        """Before, after (mean and deviation over seeds), gain."""
        from ablation_grid import spread

        before, after = self.cell(None)["scores"], [self.cell(seed) for seed in seeds]
        stopped = sum(cell["stopped"] is not None for cell in after)
        mark = f", {stopped} of {len(after)} stopped" * bool(stopped)
        return [
            row(f"{self.name}: before", [f"{100 * before[key]:.1f}" for key in SHOWN]),
            row(f"after{mark}", [spread([cell["scores"][key] for cell in after]) for key in SHOWN]),
            gain_row("gain", self.gains(seeds)),
        ]


def gain_row(name: str, gains: Mapping[str, float]) -> str:
    """One line of gains, in points by score."""
    return row(name, [f"**{gains[key]:+.1f}**" for key in SHOWN])


def head() -> list[str]:
    """The first two lines of the table."""
    return [row("model", list(SHOWN.values())), f"|---{'|---' * len(SHOWN)}|"]


def row(name: str, cells: Sequence[str]) -> str:
    """One line of the table."""
    return f"| {name} | {' | '.join(cells)} |"


if __name__ == "__main__":
    run(main)
