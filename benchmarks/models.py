"""Models of the benchmarks by name, and how a definition encodes one text with them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def add_model(parser: argparse.ArgumentParser, default: str) -> None:
    """Add --model, one name for `arch_of`."""
    parser.add_argument(
        "--model",
        default=default,
        metavar="NAME",
        help="open_clip's name (random weights), tiny or local-dir:FOLDER (default: %(default)s)",
    )


def arch_of(name: str, folder: Path) -> str:
    """`tiny`, and names with a `:`, as they are; an open_clip name with random weights in `folder`.

    What is returned is for `load_backbone`. Another name is looked up by open_clip.
    """
    if name == "tiny" or ":" in name:
        return name
    return random_clip(name, folder)


def random_clip(name: str, folder: Path) -> str:
    """Write an open_clip model with random weights (seed 0); its arch for `load_backbone`."""
    import json

    import open_clip
    import torch
    from safetensors.torch import save_model

    torch.manual_seed(0)
    model = open_clip.create_model(name)
    folder.mkdir(parents=True, exist_ok=True)
    save_model(model, str(folder / "open_clip_model.safetensors"))
    config = {
        "model_cfg": open_clip.get_model_config(name),
        "preprocess_cfg": model.visual.preprocess_cfg,
    }
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return f"local-dir:{folder}"


def full_prompt(backbone, text: str) -> Tensor:
    """Unit embedding [D] of one text at full context length, padding included."""
    import torch.nn.functional as F

    tower, tokens = backbone.text, backbone.tokenize([text])
    x = tower.token_embedding(tokens) + tower.positional_embedding
    for block in tower.blocks:
        x = block(x, None, causal=tower.causal)
    x = x[:, int(tower.end_positions(tokens))]
    return F.normalize(tower.projection(tower.ln_final(x))[0].float(), dim=0)
