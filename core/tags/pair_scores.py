"""How well captions fit their images: one cosine per training pair.

Scores are files of `core.tags.results`' kind (lines, meta, skipped; resumed batch by batch); a line
is `{"index": 7, "id": "000007", "score": 0.213456}`. `core.tags.pruning` reads them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..backbones.base import Backbone
from ..data.records import Record
from ..maps.encode import encode_pooled
from ..maps.views import Prepared, Views, same_shapes
from ..text.encode import encode_texts
from ..utils.files import expanded, safe_name
from ..utils.finite import check_finite
from .pipeline import Batch


def pair_label(source: str) -> str:
    """The last two parts of a source's path, for a file's name: `../cc3m/train` -> `cc3m_train`."""
    label = "_".join(Path(os.path.abspath(expanded(source))).parts[-2:])
    return safe_name(label).replace("@", "_")


@torch.no_grad()
def score_pairs(
    backbone: Backbone, prepared: Sequence[Prepared], captions: Sequence[str], views: Views
) -> Tensor:
    """Cosine of each caption with its image's pooled embedding: float32 [B], on the CPU.

    Averaged over scales and flip. prepared: B images of these `views`; captions: B strings, encoded
    as they stand. Images of one size are encoded together; what they are resized to does not depend
    on the batch.
    """
    scores = torch.zeros(len(prepared))
    text = encode_texts(backbone, captions).cpu()  # [B, D]
    for rows in same_shapes([image.shapes for image in prepared]):
        pooled = encode_pooled(backbone, [prepared[row] for row in rows], views)
        scores[rows] = (pooled * text[rows]).sum(1)
    return scores


def score_lines(records: Sequence[Record], scores: Tensor) -> list[str]:
    """Lines of a score file, scores [B] with 6 decimals. TTDError for what is no number."""
    for record, score in zip(records, scores, strict=True):
        check_finite(score, record.name)
    return [
        f'{{"index": {record.index}, "id": {json.dumps(record.id)}, "score": {score:.6f}}}\n'
        for record, score in zip(records, scores.tolist(), strict=True)
    ]


def pair_batch(backbone: Backbone, batch: Batch, views: Views, at_once: int = 2**30) -> list[str]:
    """Result lines of a batch; `at_once`: pairs that go through the model together."""
    lines: list[str] = []
    for start in range(0, len(batch.records), at_once):
        some = slice(start, start + at_once)
        scores = score_pairs(backbone, batch.prepared[some], batch.captions[some], views)
        lines += score_lines(batch.records[some], scores)
    return lines
