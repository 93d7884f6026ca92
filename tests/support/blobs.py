"""Images of coloured blobs, and resolved mask protocols for a small model."""

import numpy as np
import torch
import torch.nn.functional as F

from core.masks.protocol import protocol


def blobs(height: int, width: int, seed: int = 0) -> np.ndarray:
    """An image of coloured blobs, uint8 [H, W, 3]."""
    coarse = torch.rand(1, 3, 6, 7, generator=torch.Generator().manual_seed(seed))
    smooth = F.interpolate(coarse, size=(height, width), mode="bilinear")[0]
    return (smooth * 255).byte().permute(1, 2, 0).numpy()


def resolved(backbone, name="ttd", rule="threshold", background_threshold=0.4, **overrides):
    return protocol(name, **overrides).resolve(
        backbone.arch, backbone.image_size, rule, background_threshold
    )
