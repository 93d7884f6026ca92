"""A run of six steps, every one of them logged."""

import pytest

from core.training.config import RunConfig


@pytest.fixture
def config(tmp_path):
    return RunConfig(
        steps=6,
        batch=4,
        lr=0.1,
        warmup=2,
        weight_decay=0.0,
        grad_clip=None,
        log_every=1,
        checkpoint_every=2,
        out=str(tmp_path / "run"),
    )
