"""Models, images and texts of the benchmarks of masks: random weights in official shapes."""

from __future__ import annotations

import argparse
from pathlib import Path

import models

TTD = {"scales": (1.0, 0.5, 1.5, 2.0), "hflip": True, "pamr": True}
SIZE = (480, 640)
QUICK_SIZE = (96, 128)
MADE_BG = 0.75  # for `texts`: the image's own are above it everywhere, the others below
MANY = 10**6  # images of a job that is worth compiling PAMR for


def model(name: str, device: str, folder: Path):
    """The backbone: ViT-B/16 and TCL have random weights."""
    from core.backbones import load_backbone

    if name == "TCL":
        return random_tcl().to(device)
    return load_backbone(models.arch_of(name, folder / name), device=device)


def random_tcl():
    """TCL in the released shapes, random weights; its text tower, of no use here, is shorter."""
    import torch

    from core.backbones.tcl import layout as tcl_layout
    from core.backbones.tcl.loading import build_tcl

    sizes = tcl_layout.Sizes(
        width=768,
        hidden=3072,
        layers=12,
        patch=16,
        positions=197,
        dim=512,
        text_width=512,
        text_hidden=2048,
        text_layers=1,
        context=77,
        vocabulary=49408,
        tail=(11,),
        stages=(0, 1),
    )
    generator = torch.Generator().manual_seed(0)
    state = {
        name: torch.randn(shape, generator=generator) / max(1, shape[-1] if shape else 1) ** 0.5
        for name, shape in tcl_layout.layout(sizes).items()
    }
    for name, value in state.items():
        if name.endswith("conv.weight"):
            value /= 9**0.5 * 768**0.5 / 3**0.5
    state["masker.sim2mask.w"], state["masker.sim2mask.b"] = torch.tensor(10.0), torch.tensor(-2.5)
    backbone = build_tcl(state, "random TCL")
    backbone.arch, backbone.head = "TCL", "maskclip"
    return backbone.eval().requires_grad_(False)


def protocol_of(backbone, args: argparse.Namespace):
    """Protocol `ttd` with PAMR, resolved, for `texts`."""
    from core.masks.protocol import protocol

    views = {**TTD, "scales": (1.0, 0.5)} if args.quick else TTD
    return protocol("ttd", **views).resolve(
        backbone.arch, backbone.image_size, "threshold", MADE_BG
    )


def picture(size: tuple[int, int], index: int = 0):
    """An image of the procedural world, uint8 [H,W,3]."""
    import numpy as np
    from PIL import Image

    from core.world.sample import make_sample

    sample = make_sample(0, "val", index, max(size)).image
    return np.array(Image.fromarray(sample).resize(size[::-1]))


def texts(backbone, pixels, classes: int, kept: int):
    """Embeddings [N, D]; the first `kept` are the image's own, the others point away from it."""
    import torch
    import torch.nn.functional as F

    generator = torch.Generator().manual_seed(1)
    small = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    small = F.interpolate(small, size=(64, 64))
    encode = type(backbone).encode_pixels
    with torch.no_grad():
        dense = F.normalize(
            encode(backbone, backbone.normalize(small)).float()[0].flatten(1).T, dim=1
        )  # (h*w, D)
    own = dense[torch.arange(kept, device=dense.device) * 7 % len(dense)]
    noise = F.normalize(torch.randn(classes, dense.shape[1], generator=generator), dim=1).to(dense)
    return torch.cat(
        [own + 0.1 * noise[:kept], 0.3 * noise[kept:] - F.normalize(dense.mean(0), dim=0)]
    )


def ours(backbone, pixels, text, used):
    """Our path whole: class indices [H, W], -1 for the background."""
    return ours_loaded(backbone, loaded(pixels, used), text, used)


def ours_loaded(backbone, image, text, used):
    """The same of an image that is already resized, as reading threads do in a job."""
    from core.masks.labels import decide
    from core.masks.merge import merge
    from core.refine.pamr import PAMR

    merged = merge(backbone, image.prepared, text, used)
    return decide(merged, image.pixels, used, pamr=PAMR(pictures=MANY))[0]


def loaded(pixels, used):
    """An image uint8 [H, W, 3] as reading threads hand it over."""
    from core.maps.views import prepare
    from core.masks.pipeline import Loaded

    return Loaded(pixels, prepare(pixels, used.views))
