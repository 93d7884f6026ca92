"""Writes small random open_clip models as `local-dir` folders, for the tests and the oracles."""

import json
import math
from pathlib import Path

import torch

VISION = {"image_size": 32, "patch_size": 8, "width": 64, "head_width": 32, "layers": 3}
TEXT = {"context_length": 77, "vocab_size": 128, "width": 32, "heads": 2, "layers": 2}
# Not the usual constants, so that a model that ignores its own config is caught.
PREPROCESS = {
    "size": [32, 32],
    "mode": "RGB",
    "mean": [0.4, 0.5, 0.6],
    "std": [0.2, 0.25, 0.3],
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}


def random_tensor(name: str, shape: torch.Size, generator: torch.Generator) -> torch.Tensor:
    """A weight of a sensible size for its kind: no zero, no symmetry; every weight matters."""
    noise = torch.randn(shape, generator=generator)
    is_norm = any(part.startswith(("ln", "norm")) for part in name.split("."))
    if len(shape) == 0:
        return 0.5 + 0.5 * noise.abs()
    if len(shape) == 1:
        return 1 + 0.3 * noise if is_norm and name.endswith("weight") else 0.3 * noise
    if "positional_embedding" in name or "pos_embed" in name:
        return 0.5 * noise
    return 1.5 * noise / math.sqrt(math.prod(shape[1:]))


def random_weights(shapes: dict[str, torch.Size], seed: int) -> dict[str, torch.Tensor]:
    """One random tensor per name, the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    return {name: random_tensor(name, shape, generator) for name, shape in shapes.items()}


def model_config(vision: dict | None = None, text: dict | None = None, **top) -> dict:
    """An open_clip config: the small default with `vision`, `text` and top-level keys changed."""
    return {
        "embed_dim": 24,
        "vision_cfg": {**VISION, **(vision or {})},
        "text_cfg": {**TEXT, **(text or {})},
        **top,
    }


def write_config(folder: Path, config: dict, preprocess: dict | None = None, **extra) -> Path:
    """Write `open_clip_config.json` into `folder`; extra: further top-level entries, as `ttd`."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {"model_cfg": config, "preprocess_cfg": preprocess or PREPROCESS, **extra}
    (folder / "open_clip_config.json").write_text(json.dumps(content))
    return folder


def write_clip(
    folder: Path, config: dict, *, seed: int = 0, preprocess: dict | None = None, **extra
):
    """Write config and random weights; return the weights {open_clip's name: float32 tensor}."""
    import open_clip
    from safetensors.torch import save_file

    write_config(folder, config, preprocess, **extra)
    model = open_clip.create_model(f"local-dir:{folder}", load_weights=False, pretrained_text=False)
    weights = random_weights(
        {name: value.shape for name, value in model.state_dict().items()}, seed
    )
    save_file(weights, folder / "open_clip_model.safetensors")
    return weights


def reference_model(folder: Path) -> torch.nn.Module:
    """open_clip's own model of such a folder, in eval mode."""
    import open_clip

    return open_clip.create_model(f"local-dir:{folder}", require_pretrained=True).eval()


def relative_error(got: torch.Tensor, want: torch.Tensor) -> float:
    """Largest absolute difference over the largest absolute wanted value; shapes must agree."""
    got, want = torch.as_tensor(got).detach().double(), torch.as_tensor(want).detach().double()
    assert got.shape == want.shape, f"shape {tuple(got.shape)}, wanted {tuple(want.shape)}"
    assert torch.isfinite(got).all()
    return float((got - want).abs().max() / want.abs().max())


def random_images(*shape: int, seed: int = 0) -> torch.Tensor:
    """Normalized images of noise, [B, 3, H, W] or any other shape."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def random_texts(n: int, dim: int = 24) -> torch.Tensor:
    """Random text embeddings [n, dim] that are not normalized."""
    return 3 * torch.randn(n, dim, generator=torch.Generator().manual_seed(7))


def token_rows(length: int = 77) -> torch.Tensor:
    """Three rows [3, length] of ids under 128: start 126, words, end 127, zeros."""
    rows = torch.zeros(3, length, dtype=torch.long)
    for row, words in zip(rows, ([5], [9, 17, 40], [3, 3, 80, 2, 61]), strict=True):
        row[: len(words) + 2] = torch.tensor([126, *words, 127])
    return rows


def assert_equals_open_clip(folder: Path, backbone, length: int = 77) -> None:
    """Pooled image and text equal open_clip's own model of the folder."""
    reference = reference_model(folder)
    images, rows = random_images(2, 3, 32, 32), token_rows(length)
    assert relative_error(backbone.encode_image(images), reference.encode_image(images)) < 1e-5
    assert relative_error(backbone.encode_tokens(rows), reference.encode_text(rows)) < 1e-5
