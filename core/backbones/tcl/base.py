"""What TCL's checkpoint layout takes for granted of its CLIP, and how it is said where it differs.

The layout was made for OpenAI's ViT-B/16: QuickGELU, heads 64 wide, CLIP's vocabulary. A TCL on
another CLIP stores what differs beside the tensors, under `base`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from ...errors import TTDError
from ...utils.tensors.file_kinds import file_kind
from ..base import Backbone, Preprocess
from ..layers import Block
from ..readouts import TokenReadout
from ..towers import MatrixProjection
from ..weights import reading

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HEAD_WIDTH = 64  # of OpenAI's CLIP
NORM_EPS = 1e-5
LONGEST_MERGES = 2**26  # bytes of an unpacked list of merges; CLIP's own has 3 MB
METADATA = "ttd_tcl"  # of a safetensors file
CONTEXT = 77  # tokens, of OpenAI's CLIP


@dataclass(frozen=True)
class Facts:
    """What tensors do not tell of a CLIP: activation, attention heads of both towers, vocabulary.

    merges: a gzipped list of byte-pair merges, None: CLIP's own.
    """

    quick_gelu: bool
    heads: int
    text_heads: int
    merges: bytes | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, and the merges as a tensor [bytes], for a checkpoint."""
        plain = asdict(self)
        if self.merges is not None:
            plain["merges"] = torch.frombuffer(bytearray(self.merges), dtype=torch.uint8)
        return plain

    def as_json(self) -> str:
        """The same as text, for the metadata of a safetensors file; the merges in base64."""
        packed = None if self.merges is None else base64.b64encode(self.merges).decode()
        return json.dumps({**asdict(self), "merges": packed}, sort_keys=True)


def base_in_metadata(path: Path) -> dict[str, Any] | None:
    """What a safetensors file tells of its CLIP, as `Facts.as_dict`; None where it tells nothing.

    TTDError where it is damaged.
    """
    if file_kind(path) != "safetensors":
        return None
    from safetensors import safe_open

    with reading(path), safe_open(path, framework="pt") as file:
        text = (file.metadata() or {}).get(METADATA)
    if text is None:
        return None
    try:
        values = dict(json.loads(text))
        packed = values["merges"]
        data = None if packed is None else bytearray(base64.b64decode(packed, validate=True))
    except (KeyError, TypeError, ValueError, RecursionError):
        raise TTDError(f"{path}: what it tells of its CLIP, under `base`, is invalid") from None
    return {**values, "merges": None if data is None else torch.frombuffer(data, dtype=torch.uint8)}


def usual_facts(width: int, text_width: int) -> Facts:
    """Those of a CLIP of OpenAI's kind: heads are 64 wide."""
    return Facts(True, width // HEAD_WIDTH, text_width // HEAD_WIDTH)


def read_facts(stored: Any, usual: Facts, path: str | Path) -> Facts:
    """`Facts` from what `as_dict` made, `usual` for None. TTDError for anything else."""
    if stored is None:
        return usual
    try:
        values = dict(stored)
        merges = values.pop("merges")
        facts = Facts(**values, merges=None if merges is None else _unpacked(merges))
    except (KeyError, TypeError, ValueError, zlib.error):
        raise TTDError(f"{path}: what it tells of its CLIP, under `base`, is invalid") from None
    kinds = (type(facts.quick_gelu), type(facts.heads), type(facts.text_heads))
    if kinds != (bool, int, int) or min(facts.heads, facts.text_heads) < 1:
        raise TTDError(f"{path}: what it tells of its CLIP, under `base`, is invalid")
    return facts


def _unpacked(merges: Tensor) -> bytes:
    """The bytes of a stored list of merges. ValueError: it does not unpack to a sensible text."""
    if not isinstance(merges, Tensor) or merges.dtype != torch.uint8 or merges.ndim != 1:
        raise ValueError("no list of bytes")
    data = merges.contiguous().numpy().tobytes()
    reader = zlib.decompressobj(wbits=31)  # gzip; the length is bounded before it is unpacked
    text = reader.decompress(data, LONGEST_MERGES)
    if not reader.eof:
        raise ValueError("too long, or cut short")
    text.decode("utf-8")
    return data


class MergesTokenizer:
    """CLIP's tokenizer with a list of merges of its own, kept in memory."""

    def __init__(self, merges: bytes | None, context: int):
        """merges: gzipped, None: CLIP's own; context: tokens of a text, at most."""
        self.merges, self.context = merges, context
        self._made: Callable[[list[str]], Tensor] | None = None

    def __call__(self, texts: list[str]) -> Tensor:
        """Strings -> token ids [N, context]."""
        if self._made is None:
            self._made = self._make()
        return self._made(texts)

    @property
    def key(self) -> str:
        """What decides its token ids."""
        digest = hashlib.sha256(self.merges or b"").hexdigest()
        return f"merges {digest}; {self.context} tokens; {version('open_clip_torch')}"

    def _make(self) -> Callable[[list[str]], Tensor]:
        import open_clip

        if self.merges is None:
            made: Callable[[list[str]], Tensor]
            made = open_clip.SimpleTokenizer(context_length=self.context)
            return made
        with tempfile.TemporaryDirectory() as folder:  # open_clip reads files alone
            path = Path(folder) / "bpe.txt.gz"
            path.write_bytes(self.merges)
            made = open_clip.SimpleTokenizer(bpe_path=str(path), context_length=self.context)
        return made


def imagenet_preprocess(side: int) -> Preprocess:
    """TCL's own normalization, for images of `side` pixels."""
    return Preprocess(IMAGENET_MEAN, IMAGENET_STD, side)


def facts_of(base: Backbone) -> Facts:
    """`Facts` of a CLIP that TCL's layout can describe. TTDError naming what it cannot."""
    reason = next((text for wrong, text in _obstacles(base) if wrong), None)
    if reason:
        raise TTDError(
            f"{base.arch}: {reason}; TCL can be trained on CLIP and on open_clip's ViTs with a "
            "class token"
        )
    image, text = (cast(Block, tower.blocks[0]) for tower in (base.visual, base.text))
    quick = type(_activation(image)).__name__ == "QuickGELU"
    return Facts(quick, image.attn.heads, text.attn.heads, base.merges())


def _obstacles(base: Backbone) -> Iterator[tuple[bool, str]]:
    """(is it so, what it is) for everything that the layout has no place for; in order."""
    visual, text = base.visual, base.text
    readout = visual.readout
    pooled = isinstance(readout, TokenReadout) and readout.pool == "tok"
    yield not pooled, "its image tower is not pooled by a class token"
    yield getattr(readout, "proj", None) is None, "its image tower has no projection"
    yield visual.conv.bias is not None, "its patch embedding has a bias"
    causal = text.causal and text.pool == "argmax" and text.pad_id is None
    yield not causal, "its text tower is not CLIP's causal one, read at the end token"
    projected = isinstance(text.projection, MatrixProjection)
    yield not projected, "its text tower's projection is not CLIP's"
    blocks = [cast(Block, block) for block in (*visual.blocks, *text.blocks)]
    norms: list[nn.Module] = [getattr(readout, "ln_post", text.ln_final)]
    norms += [visual.ln_pre, text.ln_final]
    for block in blocks:
        norms += [block.ln_1, block.ln_2]
    yield any(getattr(norm, "eps", None) != NORM_EPS for norm in norms), "its norms are not CLIP's"
    scales = [*(block.ls_1 for block in blocks), *(block.ls_2 for block in blocks)]
    scaled = not all(isinstance(scale, nn.Identity) for scale in scales)
    yield scaled, "its blocks scale their residuals"
    kinds = {type(_activation(block)).__name__ for block in blocks}
    yield kinds not in ({"QuickGELU"}, {"GELU"}), f"its activation is {' and '.join(kinds)}"


def _activation(block: Block) -> nn.Module | None:
    """The activation of a block's MLP, None where it is built otherwise than CLIP's."""
    return getattr(block.mlp, "gelu", None)
