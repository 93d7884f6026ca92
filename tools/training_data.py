"""The image-caption pairs of a training script: its options, and opening them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from core.errors import TTDError
from tools.cli import say

if TYPE_CHECKING:
    from tqdm import tqdm

    from core.data.pairs import Pairs
    from core.training.distributed import Ranks

SHOWN = 5  # names in a message


def data_options() -> argparse.ArgumentParser:
    """Parent parser with the options that say which pairs are trained on."""
    parser = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    add = parser.add_argument_group("data").add_argument
    add("--data", metavar="SETS", help="training pairs, such as cc3m+cc12m")
    add("--root", metavar="FOLDER", help="where the sets are (default: ../)")
    add(
        "--pruned",
        nargs="+",
        metavar="LIST",
        help="ids to keep, of tools/prune_pairs.py: one list for all sets, or one for each "
        "(none: keep all)",
    )
    add("--limit", type=int, metavar="N", help="only the first N pairs")
    add("--allow-missing", action="store_true", help="train although shards are missing")
    add("--reindex", action="store_true", help="read all captions again; needed after editing some")
    return parser


class PairConfig(Protocol):
    """The settings of a run that trains on pairs."""

    @property
    def data(self) -> str:
        """Name of the data, such as `cc3m+cc12m`."""

    @property
    def root(self) -> str:
        """The folder that it lies in."""

    @property
    def pruned(self) -> tuple[str, ...]:
        """Lists of ids to keep: none, one for all inputs, or one per input."""

    @property
    def limit(self) -> int | None:
        """Only so many pairs from the first; None: all."""

    @property
    def trust_inputs(self) -> bool:
        """Whether files are taken for unchanged without a look."""

    @property
    def allow_missing(self) -> bool:
        """Whether missing shards are left out instead of being an error."""


@dataclass(frozen=True)
class DataChoice:
    """Which pairs: the settings of these names."""

    data: str
    root: str
    pruned: tuple[str, ...] = ()
    limit: int | None = None
    allow_missing: bool = False
    reindex: bool = False
    trust: bool = False

    @classmethod
    def of(cls, config: PairConfig, reindex: bool) -> DataChoice:
        """From a run's settings."""
        return cls(
            config.data,
            config.root,
            pruned=config.pruned,
            limit=config.limit,
            allow_missing=config.allow_missing,
            reindex=reindex,
            trust=config.trust_inputs,
        )


def open_data(choice: DataChoice, ranks: Ranks) -> Pairs:
    """The training pairs; the first process of a machine makes their index, the others wait.

    TTDError: shards are missing, unless that is allowed; as from `open_pairs`.
    """
    from core.training.distributed import local_rank

    pairs = None
    with ranks.together():
        check_shards(choice, ranks)
        if ranks.world == 1 or local_rank() == 0:
            pairs = _opened(choice, ranks, choice.reindex)
    return pairs or _opened(choice, ranks, False)


def check_shards(choice: DataChoice, ranks: Ranks) -> None:
    """Say which of the named shards are missing; TTDError unless that is allowed."""
    from core.data.shards import named_shards

    shards = named_shards(choice.data, choice.root)
    if not shards.missing:
        return
    more = len(shards.missing) - SHOWN
    names = ", ".join(shards.missing[:SHOWN]) + (f" and {more:,} more" if more > 0 else "")
    text = f"{len(shards.missing):,} of {shards.named:,} shards are missing: {names}"
    if not choice.allow_missing:
        raise TTDError(f"{text}; fetch them, or add --allow-missing")
    if ranks.first:
        say(text)


def _opened(choice: DataChoice, ranks: Ranks, refresh: bool) -> Pairs:
    from core.data.pairs import open_pairs

    bar = reading_bar() if ranks.first else (lambda done: None)
    return open_pairs(
        choice.data,
        choice.root,
        choice.pruned,
        limit=choice.limit,
        refresh=refresh,
        progress=bar,
        trust=choice.trust,
    )


def reading_bar(what: str = "reading captions", unit: str = "pair") -> Callable[[int], None]:
    """Shows how many pairs have been read while an index is made; or how far other work is.

    Nothing before it is first called, and where stderr is no terminal.
    """
    from tqdm import tqdm

    bar: tqdm[None] | None = None

    def show(done: int) -> None:
        nonlocal bar
        if bar is None:
            bar = tqdm(desc=what, unit=unit, file=sys.stderr, disable=None, leave=False)
        bar.update(done - bar.n)

    return show
