"""Class names to text embeddings by prompt templates; encoded once, kept on disk.

    e_n = mean over the class's prompts of the raw (not normalized) text embeddings
    result = e_n / max(|e_n|, 1e-6)

as TCL (CVPR 2023) averages them.

"background" is a name like any other here: a caller whose background is a threshold leaves it out
of `names`.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from ..errors import TTDError
from ..utils.cache import cache_folder, make_private
from ..utils.files import atomic
from .templates import TEMPLATES

ENCODE_BATCH = 256  # prompts per text-tower pass: bounds the memory, whatever the number of classes
FORMAT = 1  # of the cache; raise it when the meaning of a stored array changes

ClassName = str | Sequence[str]
Embeddings = npt.NDArray[np.float32]


class TextBackbone(Protocol):
    """What this file needs of a backbone (`core.backbones.load_backbone`)."""

    @property
    def checksum(self) -> str:
        """Stands for the weights."""

    @property
    def tokenizer_key(self) -> str:
        """Stands for the tokenizer."""

    @property
    def device(self) -> torch.device:
        """Where embeddings go."""

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""

    def encode_text(self, texts: list[str]) -> torch.Tensor:
        """N strings -> [N, D], not normalized."""


@torch.no_grad()
def embed_classes(
    backbone: TextBackbone,
    names: Sequence[ClassName],
    templates: str | Sequence[str] = "OpenAI",
    *,
    cache_dir: str | Path | None = None,
    use_cache: bool = True,
) -> torch.Tensor:
    """Text embeddings of N classes: float32 [N, D], each of length 1, without gradient.

    names: one entry per class, used verbatim in the prompts; synonyms as "person|human|man" (blanks
    around | are dropped) or as a sequence of strings: the prompts of all of them are averaged.
    templates: a key of TEMPLATES or a sequence of strings that contain "{}". cache_dir: default
    $TTD_CACHE, else ~/.cache/ttd; the key holds the backbone's checksum, tokenizer and dtype, so
    pass use_cache=False for weights that change, as in training. A cache that cannot be read or
    written is ignored. The result is on the backbone's device. Raises TTDError for an unknown
    template set and for empty or non-text names.
    """
    patterns = resolve_templates(templates)
    classes = _split_synonyms(names)
    file = _cache_file(backbone, classes, patterns, cache_dir) if use_cache else None
    stored = _load(file, len(classes)) if file else None
    if stored is None:
        stored = _embed(backbone, classes, patterns)
        if file:
            _store(file, stored)
    return torch.from_numpy(stored).to(backbone.device)


def resolve_templates(templates: str | Sequence[str]) -> tuple[str, ...]:
    """The T template strings of a set's name, or a checked copy of a sequence of them.

    Raises TTDError for an unknown set, an empty sequence and a template without {}.
    """
    if isinstance(templates, str):
        if templates not in TEMPLATES:
            raise TTDError(
                f"unknown template set {templates!r}: one of {', '.join(TEMPLATES)}, "
                "or a list of templates"
            )
        return TEMPLATES[templates]
    for template in templates:
        if not isinstance(template, str) or "{}" not in template:
            raise TTDError(
                f"template {template!r} has no place for the class name: write {{}} where it goes"
            )
    if not templates:
        raise TTDError("the list of templates is empty: pass at least one, for instance '{}'")
    return tuple(templates)


def _split_synonyms(names: Sequence[ClassName]) -> list[list[str]]:
    """N class names -> N lists of synonyms."""
    if isinstance(names, str):
        raise TTDError(f"class names are the string {names!r}: pass a list of names")
    classes = []
    for name in names:
        synonyms = _synonyms(name)
        if not synonyms or not all(isinstance(s, str) and s.strip() for s in synonyms):
            raise TTDError(
                f"class name {name!r} is empty or holds an empty synonym: give every class a word"
            )
        classes.append(synonyms)
    if not classes:
        raise TTDError("no class names given: pass at least one")
    return classes


def _synonyms(name: ClassName) -> list[str]:
    """The synonyms that one class name holds."""
    if isinstance(name, str):  # a name without | stays as it is: ADE's "bed " keeps its blank
        return [part.strip() for part in name.split("|")] if "|" in name else [name]
    return list(name) if isinstance(name, Sequence) else [name]


def _embed(
    backbone: TextBackbone, classes: list[list[str]], templates: tuple[str, ...]
) -> Embeddings:
    """Encode every distinct prompt once and average per class: [N, D], rows of length 1."""
    prompts = [_prompts(synonyms, templates) for synonyms in classes]
    distinct = sorted(set(itertools.chain(*prompts)), key=lambda p: (len(p), p))
    row = {prompt: i for i, prompt in enumerate(distinct)}
    encoded = _encode(backbone, distinct)  # [P, D]
    means = torch.stack([encoded[[row[p] for p in some]].mean(dim=0) for some in prompts])
    means = means / means.norm(dim=-1, keepdim=True).clamp(min=1e-6)
    if not means.isfinite().all():
        raise TTDError(
            f"text embeddings are not finite in {backbone.dtype}: "
            "load the backbone in float32 or bfloat16"
        )
    return np.asarray(means.numpy(), np.float32)


def _prompts(synonyms: list[str], templates: tuple[str, ...]) -> list[str]:
    """Every synonym in every template."""
    return [t.replace("{}", name) for name, t in itertools.product(synonyms, templates)]


def _encode(backbone: TextBackbone, prompts: list[str]) -> torch.Tensor:
    """P prompts -> float32 [P, D] on the CPU.

    The prompts come sorted by length: a batch is as long as its longest one. The order, hence every
    batch and every bit of the result, does not depend on the order of the names.
    """
    batches = (prompts[i : i + ENCODE_BATCH] for i in range(0, len(prompts), ENCODE_BATCH))
    return torch.cat([backbone.encode_text(batch).float().cpu() for batch in batches])


def _cache_file(
    backbone: TextBackbone,
    classes: list[list[str]],
    templates: tuple[str, ...],
    cache_dir: str | Path | None,
) -> Path | None:
    """Where this question's answer is kept; None when there is no home directory to keep it in."""
    question = [
        FORMAT,
        backbone.checksum,
        backbone.tokenizer_key,
        str(backbone.dtype),
        templates,
        classes,
    ]
    key = hashlib.sha256(json.dumps(question).encode()).hexdigest()
    folder = cache_dir or cache_folder()
    return folder and Path(folder) / f"text-{key}.npz"


def _load(file: Path, classes: int) -> Embeddings | None:
    """The stored [N, D], or None when it is absent, cut off or changed (npz keeps a CRC)."""
    try:
        with np.load(file, allow_pickle=False) as archive:
            array = archive["embeddings"]
    except Exception:  # a damaged archive raises a dozen kinds: each means to compute it again
        return None
    shaped = array.dtype == np.float32 and array.ndim == 2 and len(array) == classes
    return array if shaped and np.isfinite(array).all() else None


def _store(file: Path, array: Embeddings) -> None:
    """Readers and other writers see a whole file or none; failing to write is no error."""
    with contextlib.suppress(OSError):
        make_private(file.parent)
        with atomic(file, shared=True) as part, part.open("wb") as stream:
            np.savez(stream, embeddings=array)
