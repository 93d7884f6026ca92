"""A SentencePiece unigram model (`tokenizer.model`), read as data and run by `tokenizers`.

The file is a protocol buffer. Of it are used: the pieces with scores and types, the normalizer's
table (`precompiled_charsmap`) and what it says about spaces. BPE models, byte fallback and
user-defined pieces are refused: no model that is supported has them.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...errors import TTDError

MOST_BYTES = 64_000_000
NORMAL, UNKNOWN = 1, 2
KINDS = {4: "user-defined pieces", 6: "byte fallback"}
UNIGRAM = 1
# ASCII alone, as TIPS's own tokenizer (tf.strings.lower) does
LOWER = {ord(letter): letter.lower() for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}
Value = int | bytes


@dataclass(frozen=True)
class Model:
    """What a file says. pieces: (text, score, kind) in the order of their ids; charsmap: b"": none.

    dummy_prefix: a space is put before the text; trim: spaces at both ends and doubled ones go.
    """

    pieces: list[tuple[str, float, int]]
    charsmap: bytes
    dummy_prefix: bool
    trim: bool


class SentencePieceTokenizer:
    """Lower-cased strings -> token ids without begin and end, padded with 0."""

    def __init__(self, path: Path, context: int, source: str):
        """path: of the file, read at the first call; context: L; source: where to get it."""
        self._path, self._context, self._source = path, context, source
        self._made: Any = None  # tokenizers has no types

    def __call__(self, texts: list[str]) -> Tensor:
        """Strings -> [N, L], longer texts cut.

        Errors: TTDError where the file is missing, damaged or of another kind.
        """
        if self._made is None:
            self._made = self._load()
        rows = torch.zeros(len(texts), self._context, dtype=torch.long)
        for row, text in zip(rows, texts, strict=True):
            ids = self._encode(text.translate(LOWER))[: self._context]
            row[: len(ids)] = torch.tensor(ids, dtype=torch.long)
        return rows

    @property
    def key(self) -> str:
        """What decides the token ids: the file's content."""
        if not self._path.is_file():
            return f"sentencepiece {self._path.name}"
        return f"sentencepiece {hashlib.sha256(self._path.read_bytes()).hexdigest()}"

    @property
    def merges(self) -> bytes | None:
        """TTDError: it has no byte-pair merges."""
        raise TTDError(f"{self._path}: its tokenizer is not CLIP's byte-pair encoding")

    def _encode(self, text: str) -> list[int]:
        try:
            ids: list[int] = self._made.encode(text, add_special_tokens=False).ids
        except BaseException as error:
            raise self._broken(error) from None
        return ids

    def _load(self) -> Any:
        if not self._path.is_file():
            raise TTDError(
                f"the SentencePiece model {self._path} is missing, which texts need: get "
                f"{self._path.name} from {self._source} and put it there"
            )
        model = read_model(self._path)
        try:
            return make_tokenizer(model)
        except BaseException as error:
            raise self._broken(error) from None

    def _broken(self, error: BaseException) -> BaseException:
        """A TTDError for what the library says of a damaged file, a panic of Rust's included."""
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            return error  # an interrupt
        return TTDError(f"{self._path} is a damaged SentencePiece model: download it again")


def make_tokenizer(model: Model) -> Any:
    """The `tokenizers.Tokenizer` that segments as SentencePiece does."""
    from tokenizers import Regex, Tokenizer, models, normalizers

    kinds = [kind for _, _, kind in model.pieces]
    # Control pieces are never made from text: a name that no text has.
    vocabulary = [
        (text if kind == NORMAL else f"\uffff{place}", score)
        for place, (text, score, kind) in enumerate(model.pieces)
    ]
    made = Tokenizer(models.Unigram(vocabulary, kinds.index(UNKNOWN), False))
    steps: list[Any] = []
    if model.charsmap:
        steps.append(normalizers.Precompiled(model.charsmap))
    if model.trim:
        steps.append(normalizers.Replace(Regex(r"\A +| +\z"), ""))
        steps.append(normalizers.Replace(Regex(" {2,}"), " "))
    steps.append(normalizers.Replace(" ", "▁"))
    if model.dummy_prefix:
        steps.append(normalizers.Prepend("▁"))
    made.normalizer = normalizers.Sequence(steps)
    return made


def read_model(path: Path) -> Model:
    """The model in a file. TTDError for what is no SentencePiece unigram model."""
    if path.stat().st_size > MOST_BYTES:
        raise TTDError(f"{path} has over {MOST_BYTES} bytes: it is no SentencePiece model")
    try:
        model = _parse(path.read_bytes(), path)
    except (ValueError, IndexError, KeyError, struct.error):
        raise TTDError(f"{path} is not a SentencePiece model: download it again") from None
    kinds = [kind for _, _, kind in model.pieces]
    if kinds.count(UNKNOWN) != 1 or NORMAL not in kinds:
        raise TTDError(f"{path} is not a SentencePiece model: it has no pieces of text")
    for kind, words in KINDS.items():
        if kind in kinds:
            raise TTDError(f"{path}: SentencePiece models with {words} are not supported")
    return model


def _check_charsmap(charsmap: bytes) -> None:
    """ValueError for a normalizer's table that leads outside of itself, where Rust would panic.

    It is the size in bytes of a double-array trie, the trie (units of 32 bits: label, whether a
    value follows, offset; or a value), and the texts that its values point into, each ended by 0.
    """
    size = int.from_bytes(charsmap[:4], "little")
    if size % 4 or not 1024 <= size <= len(charsmap) - 4:
        raise ValueError("a table of another size")
    units = np.frombuffer(charsmap, "<u4", size // 4, 4).astype(np.int64)
    texts = charsmap[4 + size :]
    texts.decode("utf-8")
    inner = np.flatnonzero(units < 1 << 31)
    follow = units[inner]
    base = inner ^ ((follow >> 10) << ((follow & 512) >> 6))
    if (base | 255).max(initial=0) >= len(units):
        raise ValueError("a trie that leads outside")
    values = units[base[follow & 256 > 0]] & ((1 << 31) - 1)
    starts = np.flatnonzero(np.frombuffer(b"\0" + texts, np.uint8) == 0)
    if not np.isin(values, starts).all():
        raise ValueError("a trie whose values are no texts")


def _parse(data: bytes, path: Path) -> Model:
    """ModelProto: 1 pieces, 2 trainer (3 model_type), 3 normalizer (2 charsmap, 3, 4 spaces)."""
    pieces: list[tuple[str, float, int]] = []
    trainer: dict[int, Value] = {}
    normalizer: dict[int, Value] = {}
    for field, value in _fields(data):
        if field == 1:
            pieces.append(_piece(_bytes(value)))
        elif field == 2:
            trainer = dict(_fields(_bytes(value)))
        elif field == 3:
            normalizer = dict(_fields(_bytes(value)))
    if trainer.get(3, UNIGRAM) != UNIGRAM:
        raise TTDError(f"{path}: SentencePiece models other than unigram are not supported")
    charsmap = _bytes(normalizer.get(2, b""))
    if charsmap:
        _check_charsmap(charsmap)
    return Model(pieces, charsmap, bool(normalizer.get(3, 1)), bool(normalizer.get(4, 1)))


def _piece(data: bytes) -> tuple[str, float, int]:
    """SentencePiece: 1 text, 2 score (float), 3 type."""
    fields = dict(_fields(data))
    (score,) = struct.unpack("<f", _bytes(fields.get(2, b"\0\0\0\0")))
    kind = fields.get(3, NORMAL)
    if not math.isfinite(score) or not isinstance(kind, int):
        raise ValueError("a score that is no number")
    return _bytes(fields[1]).decode("utf-8"), score, kind


def _bytes(value: Value) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("a number where bytes must be")
    return value


def _fields(data: bytes) -> Iterator[tuple[int, Value]]:
    """(field number, varint or bytes) of a protocol buffer's message; ValueError, IndexError."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        field, wire = tag >> 3, tag & 7
        if wire == 0:
            number, at = _varint(data, at)
            yield field, number
            continue
        sizes = {1: 8, 5: 4}
        if wire == 2:
            size, at = _varint(data, at)
        elif wire in sizes:
            size = sizes[wire]
        else:
            raise ValueError(f"wire type {wire}")
        if at + size > len(data):
            raise ValueError("cut short")
        yield field, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """(number, place behind it)."""
    number = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, at
    raise ValueError("a number of over ten bytes")
