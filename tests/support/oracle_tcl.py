"""TCL (CVPR 2023) as plain functions of its state dict: key table, random checkpoint, graph.

Everything is float64 and literal; nothing of the library under test is used.
"""

import itertools
import math

import torch
import torch.nn.functional as F
from oracle_pamr import pamr

TEXT = "clip_text_encoder."
IMAGE = "clip_image_encoder.clip_visual."
PROJ = "clip_image_encoder.clip_proj."
MASKER = "masker.image_encoder."
DECODER = MASKER + "decoder.decoder.net."


def block_shapes(prefix: str, width: int) -> dict[str, tuple[int, ...]]:
    """The twelve tensors of one CLIP block."""
    table = {
        "attn.in_proj_weight": (3 * width, width),
        "attn.in_proj_bias": (3 * width,),
        "attn.out_proj.weight": (width, width),
        "attn.out_proj.bias": (width,),
        "mlp.c_fc.weight": (4 * width, width),
        "mlp.c_fc.bias": (4 * width,),
        "mlp.c_proj.weight": (width, 4 * width),
        "mlp.c_proj.bias": (width,),
    }
    for norm in ("ln_1", "ln_2"):
        table[f"{norm}.weight"] = table[f"{norm}.bias"] = (width,)
    return {f"{prefix}.{name}": shape for name, shape in table.items()}


def tower_shapes(
    *,
    width: int,
    layers: int,
    text_width: int,
    text_layers: int,
    patch: int,
    grid: int,
    embed: int,
    vocab: int,
    context: int,
) -> dict[str, tuple[int, ...]]:
    """The frozen towers under TCL's names."""
    shapes = {
        TEXT + "token_embedding.weight": (vocab, text_width),
        TEXT + "positional_embedding": (context, text_width),
        TEXT + "ln_final.weight": (text_width,),
        TEXT + "ln_final.bias": (text_width,),
        TEXT + "text_projection": (text_width, embed),
        IMAGE + "class_embedding": (width,),
        IMAGE + "positional_embedding": (1 + grid * grid, width),
        IMAGE + "conv1.weight": (width, 3, patch, patch),
        IMAGE + "ln_pre.weight": (width,),
        IMAGE + "ln_pre.bias": (width,),
        PROJ + "ln.weight": (width,),
        PROJ + "ln.bias": (width,),
        PROJ + "proj": (width, embed),
    }
    for i in range(text_layers):
        shapes |= block_shapes(f"{TEXT}transformer.resblocks.{i}", text_width)
    for i in range(layers):
        shapes |= block_shapes(f"{IMAGE}transformer.resblocks.{i}", width)
    return shapes


def masker_shapes(width: int, embed: int, copied: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """The masker and the two loss scales; `copied` are the indices of the copied blocks."""
    shapes: dict[str, tuple[int, ...]] = {}
    for i in copied:
        shapes |= block_shapes(f"{MASKER}backbone.transformer.resblocks.{i}", width)
    for stage, name in itertools.product((0, 1), ("conv", "conv2")):
        conv = f"{DECODER}{stage}.{name}"
        shapes |= {
            f"{conv}.norm.weight": (width,),
            f"{conv}.norm.bias": (width,),
            f"{conv}.conv.weight": (width, width, 3, 3),
            f"{conv}.conv.bias": (width,),
            f"{conv}.gate.gate": (),
        }
    proj = MASKER + "decoder.image_proj."
    shapes |= {
        proj + "ln.weight": (width,),
        proj + "ln.bias": (width,),
        proj + "proj": (width, embed),
    }
    shapes |= {"masker.sim2mask.w": (), "masker.sim2mask.b": ()}
    return shapes | {"tcli_loss.logit_scale": (), "tclf_loss.logit_scale": ()}


def tcl_shapes(
    width=768,
    layers=12,
    text_width=512,
    text_layers=12,
    patch=16,
    grid=14,
    embed=512,
    vocab=49408,
    context=77,
    copied=None,
) -> dict[str, tuple[int, ...]]:
    """{key: shape} of a full TCL checkpoint; the defaults are the official ViT-B/16."""
    copied = (layers - 1,) if copied is None else copied
    towers = tower_shapes(
        width=width,
        layers=layers,
        text_width=text_width,
        text_layers=text_layers,
        patch=patch,
        grid=grid,
        embed=embed,
        vocab=vocab,
        context=context,
    )
    return towers | masker_shapes(width, embed, copied)


def random_value(name: str, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """A float32 weight of a sensible size; gates away from zero."""
    if name == "masker.sim2mask.w":
        return torch.tensor(10.0)
    if name == "masker.sim2mask.b":
        return torch.tensor(-2.5)
    if name.endswith("logit_scale"):
        return torch.tensor(math.log(1 / 0.07))
    noise = torch.randn(shape, generator=generator)
    if len(shape) == 0:
        return noise.sign() * (0.3 + 0.5 * noise.abs())
    if len(shape) == 1 and ".ln_" not in name and ".ln." not in name and ".norm." not in name:
        return 0.3 * noise
    if len(shape) == 1:
        return 1 + 0.3 * noise if name.endswith("weight") else 0.3 * noise
    if "positional_embedding" in name or "token_embedding" in name:
        return 0.5 * noise
    fan_in = math.prod(shape[1:])
    if name.endswith(("proj.proj", "clip_proj.proj", "text_projection")):
        fan_in = shape[0]
    return 1.2 * noise / math.sqrt(fan_in)


def random_checkpoint(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, torch.Tensor]:
    """{key: float32 tensor} for the given shapes, the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    return {name: random_value(name, shape, generator) for name, shape in shapes.items()}


def double(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value.double() for name, value in weights.items()}


# --- one CLIP block


def norm(p: dict, name: str, x: torch.Tensor) -> torch.Tensor:
    """LayerNorm over the last dimension, eps 1e-5."""
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()
    return scaled * p[name + ".weight"] + p[name + ".bias"]


def block(
    p: dict, name: str, x: torch.Tensor, *, value_path: bool = False, causal: bool = False
) -> torch.Tensor:
    """x [B, L, width] through a block of heads 64 wide with QuickGELU.

    value_path: attention is the identity.
    """
    width, length = x.shape[-1], x.shape[1]
    mask = torch.zeros(length, length, dtype=x.dtype)
    if value_path:  # as the paper's code does it: -inf off the diagonal
        mask = torch.full_like(mask, -math.inf).fill_diagonal_(0)
    if causal:
        mask = torch.full_like(mask, -math.inf).triu(1)
    qkv = (
        norm(p, name + ".ln_1", x) @ p[name + ".attn.in_proj_weight"].T
        + p[name + ".attn.in_proj_bias"]
    )
    heads = []
    for h in range(width // 64):
        q, k, v = (
            qkv[..., part * width + h * 64 : part * width + (h + 1) * 64] for part in range(3)
        )
        heads.append(((q @ k.transpose(1, 2)) / 8 + mask).softmax(-1) @ v)
    x = (
        x
        + torch.cat(heads, -1) @ p[name + ".attn.out_proj.weight"].T
        + p[name + ".attn.out_proj.bias"]
    )
    hidden = (
        norm(p, name + ".ln_2", x) @ p[name + ".mlp.c_fc.weight"].T + p[name + ".mlp.c_fc.bias"]
    )
    hidden = hidden * torch.sigmoid(1.702 * hidden)
    return x + hidden @ p[name + ".mlp.c_proj.weight"].T + p[name + ".mlp.c_proj.bias"]


def block_indices(p: dict, prefix: str) -> list[int]:
    """The block numbers stored under `prefix`."""
    return sorted({int(name[len(prefix) :].split(".")[0]) for name in p if name.startswith(prefix)})


# --- towers


def encode_tokens(p: dict, tokens: torch.Tensor) -> torch.Tensor:
    """Token ids [N, 77] -> [N, D]: causal tower, read at the end token (the highest id)."""
    x = p[TEXT + "token_embedding.weight"][tokens] + p[TEXT + "positional_embedding"]
    for i in block_indices(p, TEXT + "transformer.resblocks."):
        x = block(p, f"{TEXT}transformer.resblocks.{i}", x, causal=True)
    x = norm(p, TEXT + "ln_final", x)
    return x[torch.arange(len(tokens)), tokens.argmax(1)] @ p[TEXT + "text_projection"]


def pad(images: torch.Tensor, patch: int) -> tuple[torch.Tensor, int, int]:
    """Zeros around, centred, to multiples of the patch: padded images, rows above, columns left."""
    height, width = images.shape[2:]
    bottom, right = -height % patch, -width % patch
    top, left = bottom // 2, right // 2
    return F.pad(images, (left, right - left, top, bottom - top)), top, left


def position_table(table: torch.Tensor, h: int, w: int) -> torch.Tensor:
    """[1 + g², width] -> [1 + hw, width]; the class row stays."""
    side = math.isqrt(len(table) - 1)
    if (h, w) == (side, side):
        return table
    grid = table[1:].reshape(1, side, side, -1).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, size=(h, w), mode="bicubic", align_corners=False)
    return torch.cat([table[:1], grid[0].flatten(1).T])


def embed(p: dict, images: torch.Tensor) -> torch.Tensor:
    """Padded images -> tokens [B, 1 + hw, width] behind ln_pre."""
    kernel = p[IMAGE + "conv1.weight"]
    x = F.conv2d(images, kernel, stride=kernel.shape[-1])
    h, w = x.shape[2:]
    x = torch.cat(
        [p[IMAGE + "class_embedding"].expand(len(x), 1, -1), x.flatten(2).transpose(1, 2)], 1
    )
    return norm(p, IMAGE + "ln_pre", x + position_table(p[IMAGE + "positional_embedding"], h, w))


def project(p: dict, name: str, x: torch.Tensor) -> torch.Tensor:
    return norm(p, name + "ln", x) @ p[name + "proj"]


def encode_image(p: dict, images: torch.Tensor) -> torch.Tensor:
    """The CLS path: ordinary attention everywhere, [B, D]."""
    x = embed(p, pad(images, p[IMAGE + "conv1.weight"].shape[-1])[0])
    for i in block_indices(p, IMAGE + "transformer.resblocks."):
        x = block(p, f"{IMAGE}transformer.resblocks.{i}", x)
    return project(p, PROJ, x[:, 0])


def spatial(p: dict, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Padded images -> (last block on the value path, tap before the masker's first), with CLS."""
    indices = block_indices(p, IMAGE + "transformer.resblocks.")
    first_copied = block_indices(p, MASKER + "backbone.transformer.resblocks.")[0]
    x, tap = embed(p, images), None
    for i in indices:
        if i == first_copied:
            tap = x
        x = block(p, f"{IMAGE}transformer.resblocks.{i}", x, value_path=i == indices[-1])
    return x, tap


# --- masker


def grid_of(x: torch.Tensor, images: torch.Tensor, patch: int) -> torch.Tensor:
    """Tokens [B, 1 + hw, C] -> [B, C, h, w] without CLS, row-major."""
    height, width = images.shape[2] // patch, images.shape[3] // patch
    return x[:, 1:].transpose(1, 2).reshape(len(x), -1, height, width)


def gated_conv(p: dict, name: str, x: torch.Tensor) -> torch.Tensor:
    """tanh(g) · Conv3x3(GELU(LN over the channels of each pixel))."""
    u = norm(p, name + ".norm", x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    u = u * 0.5 * (1 + torch.erf(u / math.sqrt(2)))
    u = F.conv2d(u, p[name + ".conv.weight"], p[name + ".conv.bias"], padding=1)
    return torch.tanh(p[name + ".gate.gate"]) * u


def masker(p: dict, tap: torch.Tensor, images: torch.Tensor, patch: int) -> torch.Tensor:
    """Tap [B, L, width] -> embedding [B, D, 4h, 4w]."""
    copied = block_indices(p, MASKER + "backbone.transformer.resblocks.")
    x = tap
    for i in copied:
        x = block(p, f"{MASKER}backbone.transformer.resblocks.{i}", x, value_path=i == copied[-1])
    x = grid_of(x, images, patch)
    for stage in (0, 1):
        x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
        x = x + gated_conv(p, f"{DECODER}{stage}.conv", x)
        x = x + gated_conv(p, f"{DECODER}{stage}.conv2", x)
    return project(p, MASKER + "decoder.image_proj.", x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def encode_pixels(p: dict, images: torch.Tensor) -> torch.Tensor:
    """Normalized images -> the masker's embedding at stride 4."""
    patch = p[IMAGE + "conv1.weight"].shape[-1]
    images = pad(images, patch)[0]
    return masker(p, spatial(p, images)[1], images, patch)


def cosine(pixels: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
    """[B, D, h, w] and [N, D] -> [B, N, h, w], norms at least 1e-6."""
    pixels = pixels / pixels.norm(dim=1, keepdim=True).clamp_min(1e-6)
    text = text / text.norm(dim=1, keepdim=True).clamp_min(1e-6)
    return torch.einsum("bdhw,nd->bnhw", pixels, text)


def masks(
    p: dict,
    images: torch.Tensor,
    text: torch.Tensor,
    *,
    refine: bool = False,
    kp_weight: float = 0.0,
):
    """The inference graph -> [B, N, H, W].

    Pad, soft mask, PAMR on the map's grid, mix with frozen CLIP, resize, crop.
    """
    patch = p[IMAGE + "conv1.weight"].shape[-1]
    padded, top, left = pad(images, patch)
    last, tap = spatial(p, padded)
    s = cosine(masker(p, tap, padded, patch), text)
    m = torch.sigmoid(p["masker.sim2mask.w"] * s + p["masker.sim2mask.b"])
    if refine:
        small = F.interpolate(padded, size=m.shape[2:], mode="bilinear", align_corners=True)
        m = torch.stack([pamr(image, maps) for image, maps in zip(small, m, strict=True)])
    if kp_weight:
        frozen = cosine(grid_of(project(p, PROJ, last), padded, patch), text)
        k = torch.sigmoid((frozen - 0.25) * 10)
        k = F.interpolate(k, size=m.shape[2:], mode="bilinear", align_corners=False)
        m = kp_weight * k + (1 - kp_weight) * m
    m = F.interpolate(m, size=padded.shape[2:], mode="bilinear", align_corners=False)
    return m[:, :, top : top + images.shape[2], left : left + images.shape[3]]
