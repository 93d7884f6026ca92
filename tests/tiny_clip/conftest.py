"""A small world, and the settings of a small model of it."""

import pytest
from paths import ROOT

from core.tiny_clip.config import load_config
from core.utils.config import read_recipe

SMALL = {
    "width": 64,
    "text_width": 64,
    "embed_dim": 32,
    "layers": 1,
    "text_layers": 1,
    "merges": 100,
    "batch": 8,
    "steps": 6,
    "warmup": 2,
    "decay_steps": 2,
    "plain_steps": 1,
    "threads": None,
    "log_every": 1,
}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    from core.world.writer import WorldConfig, make_world

    folder = tmp_path_factory.mktemp("world")
    make_world(folder, WorldConfig(train=40, val=0, seed=9))
    return folder


@pytest.fixture
def config(world, tmp_path):
    values = read_recipe(ROOT / "configs/tiny_clip.yaml")
    return load_config({**values, **SMALL, "world": str(world), "out": str(tmp_path / "run")})
