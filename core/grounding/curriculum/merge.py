"""Chosen labels as one list with a manifest: what came from where, by whose measure, how many."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from ...data.grounding import Phrase
from ...errors import TTDError
from ...utils.files import write_errors, write_json, write_text
from .lab import CurriculumLab
from .pool import Pool, without_copies

LIST, MANIFEST = "pseudo_labels.jsonl", "manifest.json"


def write_pool(
    folder: Path,
    lab: CurriculumLab,
    pool: Pool,
    most: int | None = None,
    seed: int = 0,
    about: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write FOLDER/pseudo_labels.jsonl and FOLDER/manifest.json; returns the manifest.

    most: draw so many of the labels without replacement, by `seed`, in their order; each source
    keeps its share. about: what else the manifest says. TTDError: nothing left, or no room.
    """
    parts = {part.source: lab.labels(Pool((part,))) for part in pool.parts}
    taken = drawn(parts, most, seed)
    labels = without_copies(list(chain.from_iterable(taken.values())))
    if not labels:
        raise TTDError("no label is left: nothing to write")
    manifest: dict[str, Any] = {
        **(about or {}),
        "labels": len(labels),
        "images": len({phrase.name for phrase in labels}),
        "copies_dropped": sum(len(phrases) for phrases in taken.values()) - len(labels),
        "sources": [_part(lab, part.source, pool, parts, taken) for part in pool.parts],
        "drawn": None if most is None else {"most": most, "seed": seed},
    }
    with write_errors(folder, "make room, or choose another --out"):
        folder.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps(phrase.row(), ensure_ascii=False) + "\n" for phrase in labels]
        write_text(folder / LIST, "".join(lines))
        write_json(folder / MANIFEST, manifest)
    return manifest


def _part(
    lab: CurriculumLab,
    source: str,
    pool: Pool,
    parts: Mapping[str, Sequence[Phrase]],
    taken: Mapping[str, Sequence[Phrase]],
) -> dict[str, Any]:
    part = next(part for part in pool.parts if part.source == source)
    return {
        "source": source,
        "file": str(lab.sources[source].place),
        "digest": lab.sources[source].digest,
        "measurer": None if part.measurer is None else part.measurer.name,
        "threshold": None if part.measurer is None else part.threshold,
        "labels": len(lab.sources[source]),
        "reliable": len(parts[source]),
        "taken": len(taken[source]),
    }


def drawn(
    parts: Mapping[str, Sequence[Phrase]], most: int | None, seed: int
) -> dict[str, Sequence[Phrase]]:
    """At most `most` phrases in all, of every source in proportion to what it has."""
    total = sum(len(phrases) for phrases in parts.values())
    if most is None or total <= most:
        return dict(parts)
    if most < 1:
        raise TTDError(f"at most {most} labels: must be at least 1")
    rng = np.random.default_rng([seed, 17])
    kept: dict[str, Sequence[Phrase]] = {}
    places = np.sort(rng.choice(total, most, replace=False))
    start = 0
    for source, phrases in parts.items():
        own = places[(places >= start) & (places < start + len(phrases))] - start
        kept[source] = [phrases[i] for i in own.tolist()]
        start += len(phrases)
    return kept
