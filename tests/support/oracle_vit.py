"""A ViT image tower in literal numpy float64, one image at a time, loops over heads and tokens.

It reads open_clip's tensors by name and knows nothing of the library under test. Source of the
heads: the formulas of MaskCLIP, SCLIP, NACLIP and ClearCLIP; `s` is 1 / sqrt(width of a head).
"""

import math

import numpy as np

RESIDUAL = {
    "vanilla": True,
    "maskclip": True,
    "maskclip-value": False,
    "sclip": True,
    "naclip": False,
    "kk": False,
    "clearclip": False,
}


def layer_norm(
    x: np.ndarray, weight: np.ndarray, bias: np.ndarray, eps: float = 1e-5
) -> np.ndarray:
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps) * weight + bias


def gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def quick_gelu(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-1.702 * x))


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max())
    return e / e.sum()


def cubic(t: float, a: float = -0.75) -> float:
    """Keys' cubic kernel at distance t."""
    t = abs(t)
    if t <= 1:
        return (a + 2) * t**3 - (a + 3) * t**2 + 1
    return a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a if t < 2 else 0.0


def resize_matrix(size: int, new: int) -> np.ndarray:
    """[new, size] bicubic weights: half-pixel centres, edge pixels repeated, no antialias."""
    matrix = np.zeros((new, size))
    for i in range(new):
        centre = (i + 0.5) * size / new - 0.5
        for j in range(math.floor(centre) - 1, math.floor(centre) + 3):
            matrix[i, min(max(j, 0), size - 1)] += cubic(centre - j)
    return matrix


def position_table(table: np.ndarray, h: int, w: int) -> np.ndarray:
    """[1 + g², D] -> [1 + hw, D]: the class row unchanged, the square grid resized bicubically."""
    side = math.isqrt(len(table) - 1)
    grid = table[1:].reshape(side, side, -1)
    grid = np.einsum("ia,jb,abd->ijd", resize_matrix(side, h), resize_matrix(side, w), grid)
    return np.concatenate([table[:1], grid.reshape(h * w, -1)])


def pad_centred(image: np.ndarray, patch: int) -> np.ndarray:
    """[3, H, W] -> sides multiples of `patch`, zeros around, the odd one at the end."""
    extra = [-side % patch for side in image.shape[1:]]
    return np.pad(image, [(0, 0)] + [(e // 2, e - e // 2) for e in extra])


def embed(p: dict, image: np.ndarray) -> tuple[np.ndarray, int, int]:
    """Patches, class token, positions, ln_pre: [3, H, W] -> [1 + hw, width], h, w."""
    kernel = p["visual.conv1.weight"]
    patch = kernel.shape[-1]
    image = pad_centred(image, patch)
    h, w = image.shape[1] // patch, image.shape[2] // patch
    tokens = [p["visual.class_embedding"]]
    for y in range(h):
        for x in range(w):
            window = image[:, y * patch : (y + 1) * patch, x * patch : (x + 1) * patch]
            tokens.append((kernel * window).sum((1, 2, 3)))
    x = np.stack(tokens) + position_table(p["visual.positional_embedding"], h, w)
    if "visual.ln_pre.weight" in p:
        x = layer_norm(x, p["visual.ln_pre.weight"], p["visual.ln_pre.bias"])
    return x, h, w


def attention_row(rule: str, i: int, q: np.ndarray, k: np.ndarray, w: int) -> np.ndarray:
    """Row i of one head's attention A; token 0 is the class token, token 1 + y·w + x a patch."""
    n, s = len(q), q.shape[1] ** -0.5
    if rule in ("maskclip", "maskclip-value"):
        return np.eye(n)[i]
    if rule == "vanilla":
        return softmax(np.array([s * q[i] @ k[j] for j in range(n)]))
    qq = np.array([s * q[i] @ q[j] for j in range(n)])
    kk = np.array([s * k[i] @ k[j] for j in range(n)])
    if rule == "clearclip":
        return softmax(qq)
    if rule == "kk":
        return softmax(kk)
    if rule == "sclip":
        return softmax(qq) + softmax(kk)
    assert rule == "naclip"
    near = np.zeros(n)
    for j in range(1, n):
        if i > 0:
            dy, dx = (i - 1) // w - (j - 1) // w, (i - 1) % w - (j - 1) % w
            near[j] = math.exp(-(dy * dy + dx * dx) / (2 * 5.0**2))
    return softmax(kk + near)


def attention(p: dict, name: str, x: np.ndarray, heads: int, rule: str, w: int) -> np.ndarray:
    """O(A) of the block `name` on x [n, width]."""
    normed = layer_norm(x, p[f"{name}.ln_1.weight"], p[f"{name}.ln_1.bias"])
    qkv = normed @ p[f"{name}.attn.in_proj_weight"].T + p[f"{name}.attn.in_proj_bias"]
    q, k, v = np.split(qkv, 3, axis=1)
    out, size = np.zeros_like(x), x.shape[1] // heads
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        for i in range(len(x)):
            row = attention_row(rule, i, q[:, part], k[:, part], w)
            out[i, part] = sum(row[j] * v[j, part] for j in range(len(x)))
    return out @ p[f"{name}.attn.out_proj.weight"].T + p[f"{name}.attn.out_proj.bias"]


def block(
    p: dict, name: str, x: np.ndarray, heads: int, act, rule: str = "vanilla", w: int = 0
) -> np.ndarray:
    """One transformer block whose attention follows the rule."""
    o = attention(p, name, x, heads, rule, w)
    if not RESIDUAL[rule]:
        return o
    x = x + o
    hidden = layer_norm(x, p[f"{name}.ln_2.weight"], p[f"{name}.ln_2.bias"])
    hidden = act(hidden @ p[f"{name}.mlp.c_fc.weight"].T + p[f"{name}.mlp.c_fc.bias"])
    return x + hidden @ p[f"{name}.mlp.c_proj.weight"].T + p[f"{name}.mlp.c_proj.bias"]


def tokens(p: dict, image: np.ndarray, heads: int, rule: str, act) -> tuple[np.ndarray, int, int]:
    """All tokens after ln_post and the projection: [1 + hw, D], with h and w."""
    x, h, w = embed(p, image)
    names = sorted(
        {k.split(".attn.")[0] for k in p if k.startswith("visual.transformer") and ".attn." in k},
        key=lambda name: int(name.split(".")[-1]),
    )
    for name in names:
        own = rule if name == names[-1] else "vanilla"
        x = block(p, name, x, heads, act, rule=own, w=w)
    x = layer_norm(x, p["visual.ln_post.weight"], p["visual.ln_post.bias"])
    return x @ p["visual.proj"], h, w


def dense(weights: dict, image, heads: int, rule: str, act=gelu) -> np.ndarray:
    """Dense features of one normalized image [3, H, W] by a head: [D, h, w]."""
    p = {name: np.asarray(value, np.float64) for name, value in weights.items()}
    x, h, w = tokens(p, np.asarray(image, np.float64), heads, rule, act)
    return x[1:].T.reshape(-1, h, w)
