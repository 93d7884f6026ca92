"""What TCL's checkpoint layout takes for granted of its CLIP, and how it is said where it differs.

The layout was made for OpenAI's ViT-B/16: QuickGELU, heads 64 wide, CLIP's vocabulary. A TCL on
another CLIP stores what differs beside the tensors, under `base`.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..errors import TTDError
from .base import Backbone, Preprocess
from .layers import Block
from .towers import MatrixProjection, TokenReadout
from .weights import OPENAI_MODEL

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LONGEST_VOCABULARY = 2**26  # bytes of an unpacked list of merges; CLIP's own has 3 MB


@dataclass(frozen=True)
class Facts:
    """What tensors do not tell of a CLIP. vocabulary: a gzipped list of merges, None: CLIP's."""

    quick_gelu: bool = True
    heads: int | None = None
    text_heads: int | None = None
    tokenizer: str = OPENAI_MODEL
    vocabulary: bytes | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values and tensors, for a checkpoint; empty for OpenAI's kind of CLIP."""
        plain = {Facts(): {}}.get(self, asdict(self))
        if self.vocabulary is not None:
            plain["vocabulary"] = torch.frombuffer(bytearray(self.vocabulary), dtype=torch.uint8)
        return plain


def read_facts(stored: Any, path: str | Path) -> Facts:
    """`Facts` from what `as_dict` made. TTDError for anything else."""
    if stored is None or stored == {}:
        return Facts()
    try:
        values = dict(stored)
        merges = values.pop("vocabulary")
        facts = Facts(**values)
        kinds = (bool, int, int, str)
        fits = all(type(v) is k for v, k in zip(asdict(facts).values(), kinds, strict=False))
        fits = fits and min(cast(int, facts.heads), cast(int, facts.text_heads)) > 0
        if merges is None and fits:
            return facts
        if fits and isinstance(merges, Tensor) and merges.dtype == torch.uint8:
            data = merges.contiguous().numpy().tobytes()
            _check_vocabulary(data)
            return Facts(**values, vocabulary=data)
    except (KeyError, TypeError, ValueError, zlib.error):
        pass
    raise TTDError(f"{path}: what is stored of its CLIP, under `base`, is invalid")


def _check_vocabulary(data: bytes) -> None:
    """ValueError unless `data` unpacks to text of a sensible size."""
    reader = zlib.decompressobj(wbits=31)
    text = reader.decompress(data, LONGEST_VOCABULARY)
    if not reader.eof:
        raise ValueError("too long, or cut short")
    text.decode("utf-8")


def imagenet_preprocess(side: int) -> Preprocess:
    """TCL's own normalization, for images of `side` pixels."""
    return Preprocess(IMAGENET_MEAN, IMAGENET_STD, side)


def towers_of(base: Backbone) -> Facts:
    """`Facts` of a CLIP that TCL's layout can describe. TTDError naming what it cannot."""
    reason = next((text for wrong, text in _obstacles(base) if wrong), None)
    if reason:
        raise TTDError(
            f"{base.arch}: {reason}; TCL can be trained on CLIP and on open_clip's ViTs with a "
            "class token"
        )
    image, text = (cast(Block, tower.blocks[0]) for tower in (base.visual, base.text))
    facts = Facts(
        quick_gelu=_activation(image) == "QuickGELU",
        heads=image.attn.heads,
        text_heads=text.attn.heads,
        tokenizer=base.tokenizer.name,
        vocabulary=base.tokenizer.vocabulary,
    )
    usual = (base.visual.conv.out_channels // 64, base.text.positional_embedding.shape[1] // 64)
    own = (facts.heads, facts.text_heads)
    plain = facts.quick_gelu and facts.vocabulary is None and own == usual
    return Facts() if plain and facts.tokenizer == OPENAI_MODEL else facts
