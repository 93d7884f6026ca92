"""TCL's names and shapes: the table of the released checkpoint, and OpenAI's names."""

import math

import oracle_tcl as oracle
import torch
from paths import ROOT
from small_tcl import small_weights

from core.backbones.tcl import layout as tcl_layout

OFFICIAL = tcl_layout.Sizes(
    width=768,
    hidden=3072,
    layers=12,
    patch=16,
    positions=197,
    dim=512,
    text_width=512,
    text_hidden=2048,
    text_layers=12,
    context=77,
    vocabulary=49408,
    tail=(11,),
    stages=(0, 1),
)


def published() -> dict[str, tuple[int, ...]]:
    """The 340 tensors of the release by name."""
    table = {}
    for line in (ROOT / "tests/support/facts/tcl_keys.txt").read_text().splitlines():
        if line.startswith("#"):
            continue
        name, *shape = line.split()
        for layer in range(12 if "{layer}" in name else 1):
            table[name.format(layer=layer)] = tuple(map(int, shape))
    return table


def test_the_layout_is_the_published_one():
    wanted = published()
    assert len(wanted) == 340 and set(wanted) >= tcl_layout.LOSSES
    layout = tcl_layout.layout(OFFICIAL)
    assert layout == {k: v for k, v in wanted.items() if k not in tcl_layout.LOSSES}
    assert tcl_layout.masker_layout(OFFICIAL).keys() == {k for k in layout if "masker." in k}


def test_the_oracles_table_is_the_published_one_too():
    shapes = oracle.tcl_shapes()
    assert shapes == published()
    counts = dict.fromkeys(("masker", "clip_image_encoder", "clip_text_encoder"), 0)
    for name, shape in shapes.items():
        part = name.split(".")[0]
        if part in counts:
            counts[part] += math.prod(shape)
    assert counts == {
        "masker": 28_725_510,
        "clip_image_encoder": 86_192_640,
        "clip_text_encoder": 63_428_096,
    }


def test_sizes_are_read_from_the_tensors():
    state = {name: torch.empty(shape, device="meta") for name, shape in published().items()}
    assert tcl_layout.sizes_of(state, "x") == OFFICIAL


def test_openais_names():
    """Written out for one tensor of each kind, and back again for every one."""
    pairs = {
        "clip_image_encoder.clip_visual.conv1.weight": "visual.conv1.weight",
        "clip_image_encoder.clip_visual.transformer.resblocks.3.attn.in_proj_weight": (
            "visual.transformer.resblocks.3.attn.in_proj_weight"
        ),
        "clip_image_encoder.clip_proj.ln.weight": "visual.ln_post.weight",
        "clip_image_encoder.clip_proj.proj": "visual.proj",
        "clip_text_encoder.text_projection": "text_projection",
        "clip_text_encoder.transformer.resblocks.0.ln_1.bias": (
            "transformer.resblocks.0.ln_1.bias"
        ),
    }
    for ours, theirs in pairs.items():
        assert tcl_layout.to_openai(ours) == theirs and tcl_layout.from_openai(theirs) == ours
    frozen = [name for name in published() if name.startswith("clip_")]
    assert [tcl_layout.from_openai(tcl_layout.to_openai(name)) for name in frozen] == frozen


def test_what_inference_needs():
    extra = {"pamr.kernel": torch.ones(1), "half": torch.ones(2, dtype=torch.float16)}
    kept = tcl_layout.needed_for_inference({**small_weights(), **extra})
    assert kept.keys() == (small_weights().keys() - tcl_layout.LOSSES) | {"half"}
    assert kept["half"].dtype == torch.float32
