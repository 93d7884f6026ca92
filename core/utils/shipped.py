"""Where the files that ship with the project lie: in a checkout, and installed as `ttd`.

In a checkout they lie beside `core/`, as weights/ and configs/; an installed package holds them
inside of it.
"""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
INSTALLED = (PACKAGE / "weights").is_dir()


def shipped(name: str) -> Path:
    """A file or folder that ships, by its path in the repository, such as "weights/tiny"."""
    return (PACKAGE if INSTALLED else PACKAGE.parent) / name


def own_weights() -> Path:
    """The folder for weights that do not ship: weights/ of the checkout.

    Of an installed package it is weights/ in the current folder: nobody looks into site-packages.
    """
    return Path("weights").absolute() if INSTALLED else PACKAGE.parent / "weights"


def demo_image() -> Path:
    """The image that ships, a scene of the offline world: something to try a model on."""
    return shipped("weights/tiny/demo.jpg")
