"""The small set on which the scripts that make masks run."""

import pytest


@pytest.fixture(scope="session")
def mask_place(tmp_path_factory):
    """A small model, a YAML set of images and the same images with captions; do not change it."""
    from mask_scripts import write_place

    return write_place(tmp_path_factory.mktemp("masks"))


@pytest.fixture
def place(mask_place, monkeypatch):
    """That set, its caches beside it."""
    monkeypatch.setenv("TTD_CACHE", str(mask_place / "cache"))
    return mask_place
