"""Writes a small random TIPSv2: a folder with vision, text and SentencePiece files."""

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from small_clip import random_weights

WIDTH, GRID, PATCH, DEPTH, WORDS = 128, 4, 14, 2, 40
PIECES = ("▁a", "▁dog", "▁cat", "s", "▁", *"abcdegot")  # ids from 3


@dataclass(frozen=True)
class Sizes:
    """width, hidden layer, depth, patches a side, vocabulary."""

    width: int = WIDTH
    hidden: int = 96
    depth: int = DEPTH
    grid: int = GRID
    words: int = WORDS
    swiglu: bool = False


SMALL = Sizes()


def vision_shapes(sizes: Sizes) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the vision file, as DINOv2's code names them."""
    c, hidden = sizes.width, sizes.hidden
    shapes = {
        "cls_token": (1, 1, c),
        "register_tokens": (1, 1, c),
        "mask_token": (1, c),
        "pos_embed": (1, 1 + sizes.grid**2, c),
        "patch_embed.proj.weight": (c, 3, PATCH, PATCH),
        "patch_embed.proj.bias": (c,),
        "norm.weight": (c,),
        "norm.bias": (c,),
    }
    for i in range(sizes.depth):
        block = {
            **{f"norm{n}.{kind}": (c,) for n in (1, 2) for kind in ("weight", "bias")},
            "attn.qkv.weight": (3 * c, c),
            "attn.qkv.bias": (3 * c,),
            "attn.proj.weight": (c, c),
            "attn.proj.bias": (c,),
            "ls1.gamma": (c,),
            "ls2.gamma": (c,),
        }
        if sizes.swiglu:
            block |= {"mlp.w12.weight": (2 * hidden, c), "mlp.w12.bias": (2 * hidden,)}
            block |= {"mlp.w3.weight": (c, hidden), "mlp.w3.bias": (c,)}
        else:
            block |= {"mlp.fc1.weight": (hidden, c), "mlp.fc1.bias": (hidden,)}
            block |= {"mlp.fc2.weight": (c, hidden), "mlp.fc2.bias": (c,)}
        shapes |= {f"blocks.{i}.{name}": shape for name, shape in block.items()}
    return shapes


def text_shapes(sizes: Sizes) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the text file."""
    c, hidden = sizes.width, sizes.hidden
    shapes = {
        "token_embedding.weight": (sizes.words, c),
        "ln_final.weight": (c,),
        "ln_final.bias": (c,),
        "temperature": (1,),
    }
    for i in range(sizes.depth):
        block = {
            **{f"ln_{n}.{kind}": (c,) for n in (1, 2) for kind in ("weight", "bias")},
            "attn.in_proj_weight": (3 * c, c),
            "attn.in_proj_bias": (3 * c,),
            "attn.out_proj.weight": (c, c),
            "attn.out_proj.bias": (c,),
            "mlp.c_fc.weight": (hidden, c),
            "mlp.c_fc.bias": (hidden,),
            "mlp.c_proj.weight": (c, hidden),
            "mlp.c_proj.bias": (c,),
        }
        shapes |= {f"transformer.resblocks.{i}.{name}": shape for name, shape in block.items()}
    return shapes


def write_tips(folder: Path, sizes: Sizes = SMALL) -> tuple[dict, dict]:
    """Patch 14; the small one: 56 px, D = 128, two heads. Returns the weights of both towers."""
    folder.mkdir(parents=True, exist_ok=True)
    vision = random_weights({k: torch.Size(v) for k, v in vision_shapes(sizes).items()}, 0)
    text = random_weights({k: torch.Size(v) for k, v in text_shapes(sizes).items()}, 1)
    for kind, state in (("vision", vision), ("text", text)):
        arrays = {name: value.numpy() for name, value in state.items()}
        np.savez(folder / f"tips_v2_oss_b14_{kind}.npz", **arrays)
    (folder / "tokenizer.model").write_bytes(sentencepiece_model())
    return vision, text


def _charsmap() -> bytes:
    """A normalizer's table: a tab becomes a space. A trie of three units in use, of 512."""
    units = [0] * 512
    units[0] = 256 << 10  # the children of the root are at 256 ^ letter
    units[256 ^ 9] = 9 | 1 << 8 | 3 << 10  # "\t": a value follows, at its own place ^ 3
    units[256 ^ 9 ^ 3] = 1 << 31  # the text at 0
    return struct.pack("<I512I", 2048, *units) + b" \0"


CHARSMAP = _charsmap()


def sentencepiece_model(kind: int = 1, extra: tuple = (), charsmap: bytes = b"") -> bytes:
    """A unigram model: <pad> 0, </s> 1, <unk> 2, then `PIECES`, earlier ones more likely.

    kind: of the model (2: BPE); extra: further pieces (text, score, type); charsmap: of the
    normalizer.
    """
    pieces = [("<pad>", 0.0, 3), ("</s>", 0.0, 3), ("<unk>", 0.0, 2)]
    pieces += [(piece, -1.0 - 0.5 * place, 1) for place, piece in enumerate(PIECES)]
    data = b"".join(_message(1, _piece(*piece)) for piece in [*pieces, *extra])
    normalizer = b"\x18\x01\x20\x01" + (_message(2, charsmap) if charsmap else b"")
    return data + _message(2, b"\x18" + bytes([kind])) + _message(3, normalizer)


def _piece(text: str, score: float, kind: int) -> bytes:
    return _message(1, text.encode()) + b"\x15" + struct.pack("<f", score) + b"\x18" + bytes([kind])


def _message(field: int, data: bytes) -> bytes:
    assert len(data) < 16384
    size = bytes([len(data)]) if len(data) < 128 else bytes([len(data) & 127 | 128, len(data) >> 7])
    return bytes([field << 3 | 2]) + size + data
