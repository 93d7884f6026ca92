"""The classifier of a model, a set's classes and its unlabelled images: fitted once, kept on disk.

A file of the cache holds what it was made from; it is used again only where all of that is equal.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ...backbones.base import Backbone
from ...data.inputs.table import stamps_of
from ...errors import TTDError
from ...utils.cache import make_private
from ...utils.files import atomic
from ...utils.finite import check_finite
from ...utils.provenance import now, versions
from ..class_scores import Look, look_at
from .classifier import Classifier, LowEntropy, PiaaSettings, fit

FORMAT = 1  # raise it when the meaning of a stored array changes


@dataclass(frozen=True)
class Fitted:
    """A classifier and where it comes from.

    provenance: what it was made from, versions, time, counts of images and damaged ones. path: its
    file, None where there is no cache. found: it was there already.
    """

    classifier: Classifier
    provenance: Mapping[str, Any]
    path: Path | None
    found: bool


@dataclass(frozen=True)
class Question:
    """What a classifier is fitted for.

    prompts: what stands for the classes, such as names and templates. text: their embeddings, float
    [C, D], unit length, on the CPU. images: unlabelled ones of the training split.
    """

    prompts: Sequence[Sequence[str]]
    text: Tensor
    images: Sequence[Path]
    look: Look
    settings: PiaaSettings


def fitted_classifier(
    backbone: Backbone,
    question: Question,
    folder: Path | None,
    *,
    batch: int = 32,
    workers: int = 4,
    progress: Callable[[int], None] = lambda done: None,
) -> Fitted:
    """The classifier from `folder`, else fitted now and stored there (None: not stored).

    A cache that cannot be read or written is no error. TTDError: no images, none of them can be
    decoded, embeddings that are not finite; UnreadableError: one cannot be read now.
    """
    if not question.images:
        raise TTDError("PIAA needs unlabelled images of the training split: name them with --train")
    identity = _identity(backbone, question)
    path = _file(folder, identity)
    stored = load(path, identity, question.text.shape) if path else None
    if stored is not None:
        return Fitted(stored[0], stored[1], path, True)
    classifier, counts = _fit(backbone, question, batch, workers, progress)
    provenance = {"identity": identity, **counts, "versions": versions(), "time": now()}
    written = path if path and store(path, classifier, provenance) else None
    return Fitted(classifier, provenance, written, False)


def _fit(
    backbone: Backbone,
    question: Question,
    batch: int,
    workers: int,
    progress: Callable[[int], None],
) -> tuple[Classifier, dict[str, int]]:
    """Fit to the images; also how many there were, and how many of them are damaged."""
    chosen = LowEntropy(question.text.numpy().astype(np.float64), question.settings)
    damaged = 0
    with closing(look_at(backbone, question.images, question.look, batch, workers)) as looked_at:
        for path, seen in looked_at:
            progress(1)
            if isinstance(seen, TTDError):
                damaged += 1
                continue
            check_finite(seen.patches, str(path))
            chosen.add(seen.patches.numpy())
    if damaged == len(question.images):
        raise TTDError(f"PIAA: none of the {damaged} training images can be decoded")
    classifier = fit(chosen, question.settings)
    return classifier, {"images": len(question.images), "damaged": damaged}


def _identity(backbone: Backbone, question: Question) -> dict[str, Any]:
    """All that decides the classifier."""
    sizes, times = stamps_of(question.images)
    digest = hashlib.sha256()
    for path, size, time in zip(question.images, sizes.tolist(), times.tolist(), strict=True):
        digest.update(f"{path.name}\0{size}\0{time}\n".encode("utf-8", "surrogatepass"))
    return {
        "format": FORMAT,
        "model": backbone.checksum,
        "head": backbone.head,
        "dtype": str(backbone.dtype),
        "tokenizer": backbone.tokenizer_key,
        "look": asdict(question.look),
        "prompts": [list(prompts) for prompts in question.prompts],
        "settings": asdict(question.settings),
        "images": digest.hexdigest(),
    }


def _file(folder: Path | None, identity: Mapping[str, Any]) -> Path | None:
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:32]
    return folder / f"piaa-{key}.npz" if folder else None


def load(
    path: Path, identity: Mapping[str, Any], shape: Sequence[int]
) -> tuple[Classifier, dict[str, Any]] | None:
    """A stored classifier and its provenance; None where it is absent, damaged, or another's.

    shape: (C, D) that it must have.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = [archive[name] for name in ("weight", "bias", "patches")]
            provenance = json.loads(str(archive["provenance"]))
    except Exception:  # a damaged archive raises a dozen kinds: each means to fit it again
        return None
    weight, bias, patches = arrays
    sound = weight.shape == tuple(shape) and bias.shape == patches.shape == weight.shape[:1]
    finite = sound and all(np.isfinite(array).all() for array in arrays)
    if not finite or provenance.get("identity") != identity:
        return None
    return Classifier(weight, bias, patches), provenance


def store(path: Path, classifier: Classifier, provenance: Mapping[str, Any]) -> bool:
    """Write a classifier whole or not at all; whether that went well."""
    arrays = {name: getattr(classifier, name) for name in ("weight", "bias", "patches")}
    try:
        make_private(path.parent)
        with atomic(path, shared=True) as part, part.open("wb") as stream:
            np.savez(stream, provenance=np.array(json.dumps(provenance)), **arrays)
    except OSError:
        return False
    return True
