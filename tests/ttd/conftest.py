"""A small TTD run: twelve pairs, a small random CLIP."""

import pytest
from small_pairs import write_set

from core.ttd.config import LoraConfig, TTDConfig


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A training set of 12 pairs."""
    return write_set(tmp_path_factory.mktemp("pairs"), 12)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("TTD_CACHE", str(tmp_path_factory.getbasetemp() / "ttd_cache"))


@pytest.fixture
def config(small_clip, root, tmp_path):
    return TTDConfig(
        arch=f"local-dir:{small_clip}",
        root=str(root),
        steps=6,
        batch=4,
        lr=1e-3,
        warmup=2,
        tag="small",
        out=str(tmp_path / "run"),
        checkpoint_every=2,
        log_every=1,
        eval_every=2,
        device="cpu",
        lora=LoraConfig(rank=2, alpha=2.0),
    )
