"""The list of training pairs worth keeping, from their scores.

A pruned list is a text file: a header line that starts with `# ttd pruned list`, then the ids to
keep, in input order.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import TTDError
from ..utils.files import atomic, read_json, safe_name, section, write_errors

HEADER = "# ttd pruned list"
BARS = 10  # of the histogram
HEIGHTS = " ▁▂▃▄▅▆▇█"

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Pruning:
    """What was decided: pairs scored, dropped and skipped before, and the smallest kept score."""

    scored: int
    dropped: int
    skipped: int
    threshold: float

    @property
    def kept(self) -> int:
        """Pairs on the list."""
        return self.scored - self.dropped


def find_scores(folder: Path, label: str, arch: str) -> Path:
    """The one score file of a data set and arch in `folder`. TTDError: none, or several."""
    start = safe_name(f"{label}@{arch}_")
    found = [path for path in sorted(folder.glob("*.jsonl")) if path.name.startswith(start)]
    found = [path for path in found if not path.name.endswith(".skipped.jsonl")]
    if not found:
        raise TTDError(
            f"{folder} has no scores {start}*.jsonl: make them with tools/score_captions.py, or "
            "pass --scores"
        )
    if len(found) > 1:
        raise TTDError(
            f"{folder} has several scores of {label} by {arch}: pass --scores with one of "
            f"{', '.join(path.name for path in found)}"
        )
    return found[0]


def read_scores(path: Path) -> Iterator[tuple[str, float]]:
    """(id, score) of every line of a score file. TTDError: missing, unfinished, damaged."""
    meta = _meta(path)
    if not path.is_file() or not meta:
        raise TTDError(
            f"{path}: no scores here, or their .meta.json is missing: make them with "
            "tools/score_captions.py"
        )
    if not meta.get("finished") or meta.get("bytes") != path.stat().st_size:
        raise TTDError(
            f"{path}: these scores are not complete; the same tools/score_captions.py command "
            "resumes where it stopped"
        )
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
                yield _text(row["id"]), float(row["score"])
            except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
                raise TTDError(
                    f"{path}:{number}: not a line of scores; make them again with --overwrite"
                ) from None


def _text(value: object) -> str:
    """`value` where it is text. TypeError."""
    if not isinstance(value, str):
        raise TypeError("an id that is no text")
    return value


def _meta(scores: Path) -> dict[str, Any]:
    """The .meta.json beside a score file; empty where there is none."""
    return read_json(scores.with_name(scores.name.removesuffix(".jsonl") + ".meta.json")) or {}


def worst(scores: Values, drop: float) -> npt.NDArray[np.bool_]:
    """Which of the scores [n] belong to the worst share `drop` in [0, 1): bool [n].

    floor(drop * n) of them; of equal scores the later ones are dropped first. TTDError: another
    share, scores that are no numbers.
    """
    if not 0 <= drop < 1:
        raise TTDError(
            f"a share of {drop} cannot be dropped: give a number from 0 to below 1, such as 0.2"
        )
    invalid = int((~np.isfinite(scores)).sum())
    if invalid:
        raise TTDError(
            f"{invalid} of {len(scores)} scores are no numbers: the model or its adapter is damaged"
        )
    count = int(round(drop * len(scores), 6))  # 0.29 * 100 is 28.999999999999996
    flags = np.zeros(len(scores), bool)
    flags[np.lexsort((-np.arange(len(scores)), scores))[:count]] = True
    return flags


def prune(scores: Path, out: Path, drop: float) -> tuple[Pruning, Values]:
    """Write the pruned list `out` from a score file; the same input gives the same bytes.

    Returns what was decided and all scores [n]. TTDError: see `read_scores` and `worst`; nothing
    scored; disk full.
    """
    values = np.frombuffer(array("d", (score for _, score in read_scores(scores))))
    if not len(values):
        raise TTDError(f"{scores}: no pair was scored, so there is nothing to keep")
    flags = worst(values, drop)
    meta = _meta(scores)
    skipped = section(meta, "counts").get("skipped", 0)
    skipped = skipped if isinstance(skipped, int) else 0
    done = Pruning(len(values), int(flags.sum()), skipped, float(values[~flags].min()))
    made = section(meta, "identity")
    header = (
        f"{HEADER}: data={made.get('data')} arch={made.get('arch')} drop={drop:g} "
        f"scored={done.scored} kept={done.kept} dropped={done.dropped} skipped={done.skipped} "
        f"threshold={done.threshold:.6f}\n"
    )
    rows = zip(read_scores(scores), flags, strict=True)
    _write_list(out, header, (name for (name, _), bad in rows if not bad))
    return done, values


def _write_list(out: Path, header: str, names: Iterator[str]) -> None:
    """Write the header and one id per line, whole or not at all."""
    with write_errors(out, "make room, or choose another --out"):
        out.parent.mkdir(parents=True, exist_ok=True)
        with (
            atomic(out, durable=True) as part,
            part.open("w", encoding="utf-8", newline="\n", errors="surrogatepass") as file,
        ):
            file.write(header)
            for name in names:
                if "\n" in name or "\r" in name:
                    raise TTDError(
                        f"the id {name!r} has a line break, so no list can name it: "
                        "rename its files"
                    )
                file.write(name + "\n")


def histogram(scores: Values, threshold: float) -> str:
    """One line: the range, bars of ten equal steps, and where in it the threshold lies.

    >>> histogram(np.array([0.0, 0.05, 0.5, 1.0]), 0.05)
    'scores from 0.000 |█    ▄   ▄| to 1.000, kept from 0.050'
    """
    low, high = float(scores.min()), float(scores.max())
    top = high if high > low else low + 1
    counts, _ = np.histogram(scores, BARS, (low, top))
    levels = np.ceil(counts / counts.max() * (len(HEIGHTS) - 1)).astype(int)
    bars = "".join(HEIGHTS[level] for level in levels)
    return f"scores from {low:.3f} |{bars}| to {high:.3f}, kept from {threshold:.3f}"
