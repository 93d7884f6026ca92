"""Scores of a set's images by several scorers, and the mAPs of every reading of its labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ...backbones.base import Backbone
from ...data.multilabel.label_sets import LabelSet, Variant
from ...errors import TTDError
from ...metrics.multilabel import class_precisions
from ...tags.class_scores import Look, Seen, best_share, look_at, nearest_pixel, whole_image
from ...tags.piaa.classifier import Classifier, PiaaSettings, piaa_scores
from ...text.prompts import embed_classes
from ...utils.finite import check_finite
from ...utils.resumed_lines import ResumedLines
from ...utils.shown import first_few
from .names import NameProtocol

SCORERS = ("pixel", "softmax", "image", "piaa")
Floats: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Asked:
    """What is asked of every image.

    text: embeddings of the C classes, [C, D]; background: of words that share the softmax, [G, D],
    G may be 0. Unit length, float32, on the CPU. prompts: what they were made of.
    """

    text: Tensor
    background: Tensor
    prompts: tuple[tuple[str, ...], ...]


def ask(backbone: Backbone, protocol: NameProtocol, labels: LabelSet) -> Asked:
    """The embeddings of a set's classes under a protocol of names."""
    words = protocol.words(labels.key, labels.classes)
    grounds = list(protocol.background.get(labels.key, ()))
    text = embed_classes(backbone, words, protocol.templates).cpu()
    others = text[:0]
    if grounds:
        others = embed_classes(backbone, grounds, protocol.templates).cpu()
    return Asked(text, others, (tuple(words), protocol.templates))


@dataclass(frozen=True)
class Trained:
    """PIAA's classifier and constants."""

    classifier: Classifier
    settings: PiaaSettings


def score_of(
    scorer: str, seen: Seen, asked: Asked, scale: float, trained: Trained | None
) -> Floats:
    """The scores [C] of one image by one of `SCORERS`. TTDError for another name."""
    if scorer == "piaa":
        if trained is None:
            raise TTDError("the scorer piaa needs a classifier fitted to unlabelled images")
        cosines = whole_image(seen, asked.text).numpy()
        return piaa_scores(trained.classifier, seen.patches.numpy(), cosines, trained.settings)
    if scorer == "pixel":
        found = nearest_pixel(seen, asked.text)
    elif scorer == "image":
        found = whole_image(seen, asked.text)
    elif scorer == "softmax":
        found = best_share(seen, asked.text, asked.background, scale)
    else:
        raise TTDError(f"unknown scorer {scorer!r}: choose from {', '.join(SCORERS)}")
    return found.double().numpy()


@torch.no_grad()
def score_images(
    backbone: Backbone,
    labels: LabelSet,
    asked: Asked,
    scorers: Sequence[str],
    look: Look,
    *,
    trained: Trained | None = None,
    batch: int = 32,
    workers: int = 4,
    log: ResumedLines | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[dict[str, Floats], list[int], list[str]]:
    """Scores [n, C] by scorer of the n images that can be decoded, their rows, and the errors.

    log: scores by image id that are done, which grows by the others.
    """
    done: dict[str, dict[str, list[float]]] = {} if log is None else log.done
    waiting = [row for row, name in enumerate(labels.ids) if name not in done]
    paths = [labels.images[row] for row in waiting]
    found, damaged = dict(done), []
    progress(len(labels) - len(waiting))
    with closing(look_at(backbone, paths, look, batch, workers)) as seen_images:
        for row, (path, seen) in zip(waiting, seen_images, strict=True):
            progress(1)
            if isinstance(seen, TTDError):
                damaged.append(str(seen))
                continue
            own = {}
            for name in scorers:
                scores = score_of(name, seen, asked, backbone.logit_scale, trained)
                check_finite(scores.tolist(), str(path))
                own[name] = scores.tolist()
            found[labels.ids[row]] = own if log is None else log.add(labels.ids[row], own)
    rows = [row for row, name in enumerate(labels.ids) if name in found]
    if not rows:
        raise TTDError(f"{labels.title}: no image can be decoded ({first_few(damaged, 2)})")
    stacked = {
        name: np.array([found[labels.ids[row]][name] for row in rows], np.float64)
        for name in scorers
    }
    return stacked, rows, damaged


def precisions_of(scores: Floats, variant: Variant) -> Floats:
    """Average precision of each class, [C], on one reading; scores [N, C]."""
    rows = variant.rows
    if not rows.any():
        return np.full(scores.shape[1], np.nan)
    return class_precisions(scores[rows], variant.truth[rows], variant.scored[rows])


def chance(variant: Variant) -> Floats:
    """What a constant score gets in each class: its share of positives, [C]."""
    return precisions_of(np.zeros(variant.truth.shape), variant)


def read_scores(path: Path, labels: LabelSet) -> Floats:
    """Saved scores [N, C] of a set: JSONL lines {"image": id, "scores": {class: number}}.

    TTDError with file and line: an image that is missing, listed twice or not of the set, another
    set of classes, no finite number.
    """
    from ...utils.json_lines import json_rows

    form = 'a line is {"image": id, "scores": {class: number}}'
    numbers = {name: row for row, name in enumerate(labels.ids)}
    scores = np.full((len(labels), len(labels.classes)), np.nan)
    for number, line in json_rows(path, form):
        where, name, own = f"{path}:{number}", line.get("image"), line.get("scores")
        if not isinstance(name, str) or not isinstance(own, dict):
            raise TTDError(f"{where}: {form}")
        if name not in numbers:
            continue  # of another part of the set: what counts is that none is missing
        if not np.isnan(scores[numbers[name]]).all():
            raise TTDError(f"{where}: {name} is listed twice")
        if own.keys() != set(labels.classes) or not all(map(_is_score, own.values())):
            raise TTDError(f"{where}: must hold a finite number for each of the set's classes")
        scores[numbers[name]] = [own[k] for k in labels.classes]
    lost = [name for name, row in numbers.items() if np.isnan(scores[row]).any()]
    if lost:
        raise TTDError(f"{path}: no scores of {len(lost)} images ({first_few(lost, 3)})")
    return scores


def _is_score(value: object) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return abs(value) < 1e300  # False for NaN
