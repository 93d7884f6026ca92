"""A random adapter on the small CLIP, for the tests of adapter files."""

import torch

MODULES = ["visual.blocks.1.attn.v_proj", "visual.blocks.1.attn.out_proj", "text.blocks.0.mlp.c_fc"]
ALPHA, RANK = 6.0, 3
RECIPE = {"lr": 1e-4, "loss": "mse", "steps": [100, 200]}


def tensors(rank: int = RANK, width: int = 64) -> dict[str, torch.Tensor]:
    """A valid adapter on one module of the small model, by names without prefix."""
    draw = torch.Generator().manual_seed(1)
    return {
        "visual.blocks.1.attn.v_proj.lora_A.weight": torch.randn(rank, width, generator=draw),
        "visual.blocks.1.attn.v_proj.lora_B.weight": torch.randn(width, rank, generator=draw),
    }
