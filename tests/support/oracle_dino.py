"""DINOv2-like towers in literal numpy float64, one image and one text at a time, by loops.

It reads tensors by the names of the released files and knows nothing of the library under test.
"""

import math

import numpy as np
from oracle_vit import gelu, layer_norm, softmax


def linear(p: dict, name: str, x: np.ndarray) -> np.ndarray:
    return x @ p[f"{name}.weight"].T + p.get(f"{name}.bias", 0)


def silu(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x))


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def mlp(p: dict, name: str, x: np.ndarray) -> np.ndarray:
    """Plain, packed SwiGLU or SwiGLU of three linears."""
    if f"{name}.w12.weight" in p:
        gate, value = np.split(linear(p, f"{name}.w12", x), 2, axis=-1)
        return linear(p, f"{name}.w3", silu(gate) * value)
    if f"{name}.w1.weight" in p:
        gate, value = linear(p, f"{name}.w1", x), linear(p, f"{name}.w2", x)
        return linear(p, f"{name}.w3", silu(gate) * value)
    return linear(p, f"{name}.fc2", gelu(linear(p, f"{name}.fc1", x)))


def attend(q, k, v, heads: int, *, own_value=False, causal=False, turn=None) -> np.ndarray:
    """[n, C] each -> [n, C] before the projection; turn(x, token): a query or key at its place."""
    n, size = len(q), q.shape[1] // heads
    out = np.zeros_like(v)
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        qs = [q[i, part] if turn is None else turn(q[i, part], i) for i in range(n)]
        ks = [k[i, part] if turn is None else turn(k[i, part], i) for i in range(n)]
        for i in range(n):
            seen = range(i + 1) if causal else range(n)
            row = softmax(np.array([qs[i] @ ks[j] / math.sqrt(size) for j in seen]))
            mixed = sum(weight * v[j, part] for weight, j in zip(row, seen, strict=True))
            out[i, part] = v[i, part] if own_value else mixed
    return out


def vision_block(p: dict, name: str, x: np.ndarray, heads: int, *, eps=1e-6, **how) -> np.ndarray:
    """One block in DINOv2's names on tokens [n, C]."""
    qkv = layer_norm(x, p[f"{name}.norm1.weight"], p[f"{name}.norm1.bias"], eps)
    bias = p.get(f"{name}.attn.qkv.bias", np.zeros(1))
    if f"{name}.attn.qkv.bias_mask" in p:
        bias = bias * p[f"{name}.attn.qkv.bias_mask"]
    q, k, v = np.split(qkv @ p[f"{name}.attn.qkv.weight"].T + bias, 3, axis=1)
    out = linear(p, f"{name}.attn.proj", attend(q, k, v, heads, **how))
    x = x + out * p[f"{name}.ls1.gamma"]
    normed = layer_norm(x, p[f"{name}.norm2.weight"], p[f"{name}.norm2.bias"], eps)
    return x + mlp(p, f"{name}.mlp", normed) * p[f"{name}.ls2.gamma"]


def patches(p: dict, image: np.ndarray) -> tuple[np.ndarray, int, int]:
    """[3, H, W] -> tokens [h*w, C], h, w."""
    kernel = p["patch_embed.proj.weight"]
    side = kernel.shape[-1]
    h, w = image.shape[1] // side, image.shape[2] // side
    tokens = [
        (kernel * image[:, y * side : (y + 1) * side, x * side : (x + 1) * side]).sum((1, 2, 3))
        for y in range(h)
        for x in range(w)
    ]
    return np.stack(tokens) + p["patch_embed.proj.bias"], h, w
