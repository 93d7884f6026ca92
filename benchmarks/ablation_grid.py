"""One factor at a time around a recipe: the grid, its cells, what is stored, and the tables.

A cell is one training run: the recipe with one factor's settings changed, and a seed. Cells that
come to the same settings (a factor's value may be the recipe's own) are one cell, and a finished
cell is never run again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

from core.errors import TTDError
from core.training.config import identity
from core.training.precision import settled
from core.ttd.config import TTDConfig, load_config
from core.utils.config import blamed, merge, read_recipe, read_yaml

if TYPE_CHECKING:
    from core.data.heldout import Item
    from core.data.pairs import Pairs

KEYS = ("recipe", "settings", "data", "root", "heldout", "factors")
SHOWN = {
    "pixel_f1": "pixel F1",
    "caption_iou": "Caption IoU",
    "word_map_iou": "word-map IoU",
    "word_map_iou_minmax": "word-map IoU, min-max maps",
}


@dataclass(frozen=True)
class Value:
    """One row of a table: a name and the settings it changes, dotted names of core.ttd.config."""

    name: str
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Grid:
    """What is tried: the recipe's settings, and the values of each factor; scored on `heldout`."""

    source: str
    recipe: Mapping[str, Any]
    heldout: str
    factors: Mapping[str, tuple[Value, ...]]

    def config(self, settings: Mapping[str, Any], seed: int, out: Path) -> TTDConfig:
        """The recipe with some settings changed; nothing is scored or chosen on the way.

        TTDError: unknown settings.
        """
        fixed = {"eval_root": None, "keep": "last", "seed": seed, "out": str(out), "tag": "cell"}
        config = load_config(merge(self.recipe, settings, fixed), self.source)
        return settled(config, config.device)


def read_grid(path: str | Path, changes: Mapping[str, Any] | None = None) -> Grid:
    """A grid from YAML (configs/ablation.yaml); `changes` are settings that win over the recipe's.

    TTDError: unknown or missing keys, a factor without values, settings that there are none of.
    """
    path, content = Path(path), read_yaml(path)
    if set(content) != set(KEYS):
        raise TTDError(
            f"{path}: wanted are {', '.join(KEYS)}; there are "
            f"{', '.join(map(str, content)) or 'none'}"
        )
    sections = [content["factors"] or {}, content["settings"] or {}]
    if not all(isinstance(one, Mapping) for one in sections) or not isinstance(
        content["recipe"], str
    ):
        raise TTDError(f"{path}: recipe is a file's name, factors and settings are mappings")
    factors = {
        str(name): _values(values, f"{path}: {name}")
        for name, values in (content["factors"] or {}).items()
    }
    own = {"data": content["data"], "root": content["root"]}
    base = sound_recipe(_beside(path, content["recipe"]))
    recipe = merge(base, content["settings"] or {}, own, changes or {})
    grid = Grid(str(path), recipe, str(content["heldout"]), factors)
    for values in factors.values():
        for value in values:
            grid.config(value.settings, 0, Path("."))
    return grid


def sound_recipe(path: Path) -> dict[str, Any]:
    """The settings of a recipe, which are checked while it is known in which file they stand.

    TTDError: it cannot be read; unknown or wrong settings.
    """
    values = read_recipe(path)
    try:
        load_config(values, str(path), lambda line: None)
    except TTDError as error:
        raise blamed(error, path) from None
    return values


def _beside(path: Path, recipe: str) -> Path:
    """The recipe's file: as named, else in the grid's folder."""
    return Path(recipe) if Path(recipe).is_file() else path.parent / recipe


def _values(values: Any, what: str) -> tuple[Value, ...]:
    if (
        not isinstance(values, Mapping)
        or not values
        or not all(isinstance(one, Mapping) for one in values.values())
    ):
        raise TTDError(
            f"{what}: write a line `name: {{setting: value}}` for each value of the factor"
        )
    return tuple(Value(str(name), settings) for name, settings in values.items())


def chosen_factors(grid: Grid, only: Sequence[str] | None) -> dict[str, tuple[Value, ...]]:
    """All factors, or those named. TTDError for a name there is none of."""
    if unknown := sorted(set(only or ()) - set(grid.factors)):
        raise TTDError(
            f"no factor {', '.join(unknown)} in {grid.source}; there are {', '.join(grid.factors)}"
        )
    return {name: values for name, values in grid.factors.items() if not only or name in only}


def cell_key(config: TTDConfig, data: Mapping[str, str]) -> str:
    """What a cell is known by: settings, seed, `data` (pairs, weights and held-out images)."""
    return hashlib.sha256(
        json.dumps([identity(config), dict(data)], sort_keys=True).encode()
    ).hexdigest()[:24]


def untrained_key(config: TTDConfig, data: Mapping[str, str]) -> str:
    """The same for the model before training: of all settings only the model's own count."""
    own = {
        key: value for key, value in identity(config).items() if key in ("arch", "head", "image")
    }
    return hashlib.sha256(
        json.dumps(["untrained", own, dict(data)], sort_keys=True).encode()
    ).hexdigest()[:24]


class CellFile:
    """Finished cells in a JSONL file, one line each, on disk before the next begins.

    A line that was cut off is dropped.

    share (I, N): written is a file of its own beside `path`, `STEM.I-of-N.jsonl`, so that N
    processes never write to the same one; read are `path` and all such files.
    """

    def __init__(self, path: Path, share: tuple[int, int] | None = None):
        """Read what is there. TTDError when it cannot be."""
        self.path = path.with_suffix(f".{share[0]}-of-{share[1]}{path.suffix}") if share else path
        self.cells: dict[str, dict[str, Any]] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TTDError(
                f"{path.parent}: cannot be made ({error}); name another --cells"
            ) from None
        for other in {*path.parent.glob(f"{path.stem}.*-of-*{path.suffix}"), path} - {self.path}:
            self._read(other)
        self._end = self._read(self.path)

    def _read(self, path: Path) -> int:
        """Take in a file's cells; the end of its last whole line in bytes."""
        try:
            text = path.read_text(encoding="utf-8") if path.exists() else ""
        except (OSError, UnicodeDecodeError) as error:
            raise TTDError(f"{path}: cannot be read ({error}); name another --cells") from None
        whole = text[: text.rfind("\n") + 1]
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                cell = json.loads(line)
                self.cells[cell["key"]] = cell
            except (ValueError, KeyError, TypeError):
                raise TTDError(
                    f"{path}:{number}: no cell of an ablation; name another --cells"
                ) from None
        return len(whole.encode())

    def add(self, key: str, cell: Mapping[str, Any]) -> None:
        """Store one. TTDError: disk full."""
        line = (json.dumps({"key": key, **cell}) + "\n").encode()
        try:
            with self.path.open("r+b" if self.path.exists() else "wb") as file:
                file.truncate(self._end)
                file.seek(self._end)
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise TTDError(
                f"{self.path}: cannot be written ({error.strerror}); make room and run the same "
                "command again"
            ) from None
        self._end += len(line)
        self.cells[key] = {"key": key, **cell}


@dataclass(frozen=True)
class Line:
    """One row of a table: scores of its cells [seeds] by name, how many were stopped.

    recipe: whether it is the recipe itself.
    """

    name: str
    scores: Mapping[str, Sequence[float]]
    stopped: int = 0
    recipe: bool = False


def line_of(name: str, cells: Iterable[Mapping[str, Any]], recipe: bool = False) -> Line:
    """A row from its finished cells."""
    cells = list(cells)
    found = [cell["scores"] for cell in cells]
    scores = {key: [one[key] for one in found] for key in SHOWN}
    return Line(name, scores, sum(cell["stopped"] is not None for cell in cells), recipe)


def markdown(factor: str, lines: Sequence[Line]) -> str:
    """A table in percent, mean ± deviation over seeds.

    The recipe's own row is bold; † where runs were stopped.
    """
    rows = [
        f"| {factor} | {' | '.join(SHOWN.values())} | runs |",
        f"|---{'|---' * len(SHOWN)}|---|",
    ]
    for line in lines:
        mark = "**" * line.recipe
        count = len(next(iter(line.scores.values())))
        runs = f"{count}" + f", {line.stopped} stopped †" * bool(line.stopped)
        cells = [f"{mark}{spread(line.scores[key])}{mark}" for key in SHOWN]
        rows.append(f"| {mark}{line.name}{mark} | {' | '.join(cells)} | {runs} |")
    return "\n".join(rows)


def spread(values: Sequence[float]) -> str:
    """`mean ± deviation` (of a sample) in percent; the mean alone for one value, `-` for none."""
    if not values:
        return "-"
    text = f"{100 * mean(values):.1f}"
    if len(values) == 1:
        return text
    return f"{text} ± {100 * stdev(values):.1f}"


def cell_scores(
    config: TTDConfig, pairs: Pairs, items: Sequence[Item], train: bool
) -> tuple[dict[str, float], str | None]:
    """The scores of a cell's model on held-out items, and why its run was stopped, if it was."""
    from core.backbones import load_backbone
    from core.evaluation.heldout import evaluate_heldout
    from core.training.trainer import Trainer
    from core.ttd.task import TTDTask

    backbone = load_backbone(
        config.arch, weights=config.weights, head=config.head, device=config.device
    )
    stopped = None
    if train:
        with closing(Trainer(TTDTask(config, backbone, pairs))) as trainer:
            try:
                trainer.run()
            except TTDError as error:
                if not str(error).startswith("stopped at step"):  # a full disk is no result
                    raise
                stopped = str(error).split(";")[0]
    return evaluate_heldout(backbone, items, image_size=config.image).numbers(), stopped
