"""How well captions fit their images: one cosine per training pair, and the list of pairs worth keeping.

Scores are files of `core.tags.results`' kind (lines, meta, skipped; resumed batch by batch); a line
is `{"index": 7, "id": "000007", "score": 0.213456}`. A pruned list is a text file: a header line
that starts with `# ttd pruned list`, then the ids to keep, in input order.
"""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..backbones.base import Backbone
from ..data.records import Record
from ..errors import TTDError
from ..text.encode import encode_texts
from ..utils.files import atomic, read_json, write_errors
from .scoring import FORWARD_PIXELS, Prepared

HEADER = "# ttd pruned list"
BARS = 10  # of the histogram
HEIGHTS = " ▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Pruning:
    """What was decided: pairs scored, dropped and skipped before, and the smallest score that is kept."""

    scored: int
    dropped: int
    skipped: int
    threshold: float

    @property
    def kept(self) -> int:
        """Pairs on the list."""
        return self.scored - self.dropped


def pair_label(source: str) -> str:
    """The last two parts of a source's path as part of a file's name: `../cc3m/train` -> `cc3m_train`."""
    label = "_".join(Path(os.path.abspath(Path(source).expanduser())).parts[-2:])
    return label.translate({ord(c): "_" for c in '/\\:*?"<>|@'})


@torch.no_grad()
def score_pairs(
    backbone: Backbone,
    pictures: Sequence[Prepared],
    captions: Sequence[str],
    hflip: bool = False,
    at_once: int = 2**30,
) -> Tensor:
    """Cosine of each caption with its image's pooled embedding, averaged over scales and flip: [B] float32, CPU.

    images: B of `core.tags.scoring.prepare`, all with the same scales; captions: B strings,
    encoded as they stand. Images of one size are encoded together, at most `at_once`; what they
    are resized to does not depend on the batch.
    """
    vectors = torch.zeros(len(pictures), 0)
    for rows in _same_shapes(pictures, at_once):
        found = _pooled(backbone, [pictures[row] for row in rows], hflip)
        vectors = vectors if vectors.shape[1] else torch.zeros(len(pictures), found.shape[1])
        vectors[rows] = found
    return (
        (vectors * encode_texts(backbone, captions).cpu()).sum(1)
        if len(pictures)
        else torch.zeros(0)
    )


def _pooled(backbone: Backbone, pictures: Sequence[Prepared], hflip: bool) -> Tensor:
    """Pooled embeddings of images of one size, of unit length each, then averaged over the views: [B, D] float32."""
    views = []
    for images in zip(*(picture.scaled for picture in pictures), strict=True):
        stacked = torch.stack(images)
        for view in (stacked, stacked.flip(-1)) if hflip else (stacked,):
            vectors = backbone.encode_image(backbone.normalize(view.to(backbone.device)))
            views.append(F.normalize(vectors.float(), dim=-1).cpu())
    return torch.stack(views).mean(0)


def _same_shapes(pictures: Sequence[Prepared], at_once: int) -> Iterator[list[int]]:
    """Rows of images that are of one size at every scale, few enough for one forward pass."""
    by_shape: dict[tuple, list[int]] = {}
    for row, picture in enumerate(pictures):
        by_shape.setdefault(tuple(scaled.shape for scaled in picture.scaled), []).append(row)
    for shapes, rows in by_shape.items():
        fitting = max(1, FORWARD_PIXELS // max(shape[-1] * shape[-2] for shape in shapes))
        step = min(at_once, fitting)
        yield from (rows[start : start + step] for start in range(0, len(rows), step))


def score_lines(records: Sequence[Record], scores: Tensor) -> list[str]:
    """Lines of a score file, scores [B] with 6 decimals."""
    return [
        f'{{"index": {record.index}, "id": {json.dumps(record.id)}, "score": {score:.6f}}}\n'
        for record, score in zip(records, scores.tolist(), strict=True)
    ]


def find_scores(folder: Path, label: str, arch: str) -> Path:
    """The one finished score file of a data set and arch in `folder`. TTDError: none, unfinished, or several."""
    start = f"{label}@{arch}_".translate({ord(c): "_" for c in '/\\:*?"<>|'})
    found = sorted(
        path
        for path in folder.glob("*.jsonl")
        if path.name.startswith(start) and not path.name.endswith(".skipped.jsonl")
    )
    if not found:
        raise TTDError(
            f"{folder} has no scores {start}*.jsonl: make them with tools/score_captions.py, or pass "
            "--scores"
        )
    if len(found) > 1:
        raise TTDError(
            f"{folder} has several scores of {label} by {arch}: pass --scores with one of "
            f"{', '.join(path.name for path in found)}"
        )
    return found[0]


def read_scores(path: Path) -> Iterator[tuple[str, float]]:
    """(id, score) of every line of a finished score file. TTDError: missing, unfinished, damaged."""
    meta = read_json(path.with_name(path.name.removesuffix(".jsonl") + ".meta.json"))
    if not path.is_file() or not meta:
        raise TTDError(
            f"{path}: no scores here, or their .meta.json is missing: make them with "
            "tools/score_captions.py"
        )
    if not meta.get("finished") or meta.get("bytes") != path.stat().st_size:
        raise TTDError(
            f"{path}: these scores are not complete; the same tools/score_captions.py command goes on where "
            "it stopped"
        )
    with path.open(encoding="utf-8", newline="\n") as lines:
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
                yield row["id"], float(row["score"])
            except (ValueError, KeyError, TypeError):
                raise TTDError(
                    f"{path}:{number}: not a line of scores; make them again with --overwrite"
                ) from None


def worst(scores: np.ndarray, drop: float) -> np.ndarray:
    """Which of the scores [n] belong to the worst share `drop` in [0, 1): bool [n], floor(drop * n) of them.

    Of equal scores the later ones are dropped first. TTDError: another share, scores that are no
    numbers.
    """
    if not 0 <= drop < 1:
        raise TTDError(
            f"a share of {drop} cannot be dropped: give a number from 0 to below 1, such as 0.2"
        )
    if not np.isfinite(scores).all():
        raise TTDError(
            f"{int((~np.isfinite(scores)).sum())} of {len(scores)} scores are no numbers: the model or its "
            "adapter is damaged"
        )
    count = int(round(drop * len(scores), 6))
    flags = np.zeros(len(scores), bool)
    flags[np.lexsort((-np.arange(len(scores)), scores))[:count]] = True
    return flags


def prune(scores: Path, out: Path, drop: float) -> tuple[Pruning, np.ndarray]:
    """Write the pruned list `out` from a score file; the same input gives the same bytes. Returns all scores too.

    TTDError: see `read_scores` and `worst`; nothing scored; disk full.
    """
    values = np.frombuffer(array("d", (score for _, score in read_scores(scores))))
    if not len(values):
        raise TTDError(f"{scores}: no pair was scored, so there is nothing to keep")
    flags = worst(values, drop)
    meta = read_json(scores.with_name(scores.name.removesuffix(".jsonl") + ".meta.json")) or {}
    done = Pruning(
        len(values),
        int(flags.sum()),
        int(meta.get("counts", {}).get("skipped", 0)),
        float(values[~flags].min()),
    )
    made = meta.get("identity", {})
    header = (
        f"{HEADER}: data={made.get('data')} arch={made.get('arch')} drop={drop:g} scored={done.scored} "
        f"kept={done.kept} dropped={done.dropped} skipped={done.skipped} threshold={done.threshold:.6f}\n"
    )
    _write_list(
        out,
        header,
        (name for (name, _), bad in zip(read_scores(scores), flags, strict=True) if not bad),
    )
    return done, values


def _write_list(out: Path, header: str, names: Iterator[str]) -> None:
    with write_errors(out, "make room, or choose another --out"):
        out.parent.mkdir(parents=True, exist_ok=True)
        with (
            atomic(out) as part,
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


def histogram(scores: np.ndarray, threshold: float) -> str:
    """One line: the range, bars of ten equal steps, and where in it the threshold lies.

    >>> histogram(np.array([0.0, 0.05, 0.5, 1.0]), 0.05)
    'scores from 0.000 |█    ▄   ▄| to 1.000, kept from 0.050'
    """
    low, high = float(scores.min()), float(scores.max())
    counts, _ = np.histogram(scores, BARS, (low, high if high > low else low + 1))
    levels = np.ceil(counts / counts.max() * (len(HEIGHTS) - 1)).astype(int)
    bars = "".join(HEIGHTS[level] for level in levels)
    return f"scores from {low:.3f} |{bars}| to {high:.3f}, kept from {threshold:.3f}"
