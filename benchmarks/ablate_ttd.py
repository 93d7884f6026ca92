"""What each decision of the recipe is worth: one factor at a time, several seeds, three scores.

    python benchmarks/ablate_ttd.py --update docs/ablation.md               # hours on two cores
    python benchmarks/ablate_ttd.py --share 0/2 & python benchmarks/ablate_ttd.py --share 1/2
    python benchmarks/ablate_ttd.py --only teacher "learning rate" --seeds 0
    python benchmarks/ablate_ttd.py --only teacher --seeds 0 --steps 10 --limit 40       # a trial

Every cell (settings and seed) is a training run from the shipped model, scored on the grid's
held-out set when it ends. A finished cell is a line of --cells and is not run again; killed in the
middle, a cell goes on from its last checkpoint. A run that is stopped (collapse, NaN) is scored as
it was then, and marked.
"""

from __future__ import annotations

import argparse
import hashlib
import shlex
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common import ROOT, hardware, positive_int, run

from tools.doc_table import check, update

if TYPE_CHECKING:
    from ablation_grid import CellFile, Grid, Line

    from core.data.heldout import Item
    from core.ttd.config import TTDConfig

MARKS = ("<!-- ablation: begin (benchmarks/ablate_ttd.py --update) -->", "<!-- ablation: end -->")


def get_args_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--config",
        type=Path,
        default=ROOT / "configs" / "ablation.yaml",
        metavar="YAML",
        help="the grid (default: configs/ablation.yaml)",
    )
    add = parser.add_argument
    add("--only", nargs="+", metavar="FACTOR", help="only these factors")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of training (default: 0 1 2)")
    add("--steps", type=positive_int, metavar="N", help="of the recipe, instead of its own")
    parser.add_argument(
        "--limit",
        type=positive_int,
        metavar="N",
        help="only the first N training pairs and held-out images",
    )
    parser.add_argument(
        "--cells",
        type=Path,
        default=Path("runs/ablation/cells.jsonl"),
        metavar="FILE",
        help="finished cells (default: %(default)s); running ones lie beside it",
    )
    parser.add_argument(
        "--share",
        type=share,
        metavar="I/N",
        help="only the Ith (from 0) of N parts of the cells and no tables: for N processes side by "
        "side; the same command without it then prints the tables",
    )
    add("--update", type=Path, metavar="PAGE", help="put the tables between this page's marks")
    return parser


def share(text: str) -> tuple[int, int]:
    """`0/2` -> (0, 2)."""
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise argparse.ArgumentTypeError(f"{text!r}: write I/N, 0/2 or 1/2 for two parts")
    return int(index), int(count)


def main(argv: Sequence[str] | None = None) -> int:
    """Run what is missing, then print or store the tables."""
    args = get_args_parser().parse_args(argv)
    from ablation_grid import CellFile, read_grid

    if args.update:
        check(args.update, MARKS)
    changes = {key: value for key, value in (("steps", args.steps), ("limit", args.limit)) if value}
    ablation = Ablation(read_grid(args.config, changes), CellFile(args.cells, args.share), args)
    ablation.run()
    if args.share:
        return 0
    text = f"{ablation.head(argv)}\n\n{ablation.tables()}\n"
    if args.update:
        update(args.update, MARKS, text)
    else:
        print(text, end="")
    return 0


class Ablation:
    """A grid, the cells that are finished, and how to finish the others."""

    def __init__(self, grid: Grid, cells: CellFile, args: argparse.Namespace):
        """Load data and weights once, to know what cells are made of."""
        from ablation_grid import chosen_factors

        from core.backbones import load_backbone
        from core.backbones.device import use_threads
        from core.data.heldout import load_heldout
        from core.data.pairs import open_pairs

        self.grid, self.cells, self.seeds, self.share = (
            grid,
            cells,
            args.seeds,
            args.share or (0, 1),
        )
        self.folder = args.cells.parent
        self.factors = chosen_factors(grid, args.only)
        base = grid.config({}, args.seeds[0], self.folder)
        use_threads(base.threads)
        self.pairs = open_pairs(base.data, base.root, base.pruned, base.limit)
        self.items: list[Item] = load_heldout(grid.heldout, base.limit)
        model = load_backbone(base.arch, weights=base.weights, device=base.device)
        seen = hashlib.sha256(
            repr([(item.id, item.text, item.tags) for item in self.items]).encode()
        ).hexdigest()
        self.data = {"pairs": self.pairs.digest, "weights": model.checksum, "heldout": seen}
        self.device, self.model = str(model.device), f"{model.arch} ({model.checksum[:8]})"

    def config(self, settings: dict[str, Any], seed: int) -> TTDConfig:
        """Of a cell; its run's folder has the cell's name."""
        from ablation_grid import cell_key

        config = self.grid.config(settings, seed, self.folder)
        return self.grid.config(settings, seed, self.folder / cell_key(config, self.data))

    def planned(self) -> Iterator[tuple[str, str, TTDConfig]]:
        """(key, label, settings) of every cell, the recipe's first; some are alike."""
        from ablation_grid import cell_key, untrained_key

        rows: list[tuple[str, dict[str, Any]]] = [("base", {})]
        for name, values in self.factors.items():
            rows += [(f"{name} = {value.name}", value.settings) for value in values]
        for label, settings in rows:
            first = self.config(settings, self.seeds[0])
            yield untrained_key(first, self.data), "untrained", first
            for seed in self.seeds:
                config = self.config(settings, seed)
                yield cell_key(config, self.data), f"{label}, seed {seed}", config

    def run(self) -> None:
        """Finish every cell."""
        from ablation_grid import cell_scores
        from tqdm import tqdm

        from core.ttd.task import GUARDS

        planned = {key: (label, config) for key, label, config in self.planned()}
        index, count = self.share
        missing = {
            key: planned[key] for key in list(planned)[index::count] if key not in self.cells.cells
        }
        for key, (label, config) in tqdm(
            missing.items(), unit="cell", file=sys.stderr, disable=None
        ):
            start = time.perf_counter()
            scores, stopped = cell_scores(config, self.pairs, self.items, label != "untrained")
            self.cells.add(
                key,
                {
                    "label": label,
                    "scores": scores,
                    "stopped": stopped,
                    "steps": config.steps,
                    "seconds": round(time.perf_counter() - start, 1),
                },
            )
            shutil.rmtree(config.folder, ignore_errors=True)
            shown = ", ".join(f"{name} {100 * scores[name]:.1f}" for name in GUARDS)
            tqdm.write(f"{label}: {shown}{f' ({stopped})' if stopped else ''}", file=sys.stderr)

    def tables(self) -> str:
        """All tables: the recipe beside the untrained model, then one per factor."""
        from ablation_grid import markdown

        parts = [
            markdown("model", [self.untrained({}, "untrained"), self.line("base of the grid", {})])
        ]
        for name, values in self.factors.items():
            bases = []
            if any("head" in value.settings or "image" in value.settings for value in values):
                bases = [
                    self.untrained(value.settings, f"{value.name}, untrained") for value in values
                ]
            parts.append(
                markdown(
                    name, [*bases, *(self.line(value.name, value.settings) for value in values)]
                )
            )
        return "\n\n".join(parts)

    def untrained(self, settings: dict[str, Any], name: str) -> Line:
        """The row of a model before training."""
        from ablation_grid import line_of, untrained_key

        return line_of(
            name, [self.cells.cells[untrained_key(self.config(settings, self.seeds[0]), self.data)]]
        )

    def line(self, name: str, settings: dict[str, Any]) -> Line:
        """The row of some settings, over all seeds."""
        from ablation_grid import cell_key, line_of

        keys = [cell_key(self.config(settings, seed), self.data) for seed in self.seeds]
        own = [cell_key(self.config({}, seed), self.data) for seed in self.seeds]
        return line_of(
            name, [self.cells.cells[key] for key in keys], recipe=keys == own and bool(settings)
        )

    def head(self, argv: Sequence[str] | None) -> str:
        """What was run, on what, when."""
        base = self.config({}, self.seeds[0])
        command = shlex.join(
            ["python", "benchmarks/ablate_ttd.py", *(sys.argv[1:] if argv is None else argv)]
        )
        return (
            f"`{command}`\n\n{date.today()}, {hardware(self.device)}; {self.model}, "
            f"{base.steps} steps of {base.batch} in {base.dtype}, "
            f"{len(self.pairs):,} pairs of {base.root}; "
            f"{len(self.items)} images of {self.grid.heldout}; seeds "
            f"{', '.join(map(str, self.seeds))}; percent, mean ± deviation; **bold**: the base; "
            "†: stopped by the collapse monitor or a number that is not finite, and scored as it "
            "was."
        )


if __name__ == "__main__":
    run(main)
