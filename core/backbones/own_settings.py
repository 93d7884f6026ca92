"""What a model's folder says about itself: the section "ttd" of its open_clip_config.json.

    "ttd": {
        "head": "maskclip-value",            # dense head
        "mask_scale": 5.1, "mask_bias": 0.09,  # a, b of the soft mask sigmoid(a (S - b))
        "defaults": {"image": 96, "templates": "identity", "bg": 0.6},
        "min_score": 0.2,                    # lowest cosine of a word that is there
        "trained_on": "drawings", "square": true
    }

Every key may be left out; keys that are not known are notes and are ignored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import TTDError

SECTION = "ttd"


@dataclass(frozen=True)
class ModelDefaults:
    """What suits a model where the user says nothing. None: the general default.

    image: short side in pixels at scale 1, for masks; templates: a name of
    `core.text.templates.TEMPLATES`; bg: background threshold in [0, 1] of masks from tags.
    """

    image: int | None = None
    templates: str | None = None
    bg: float | None = None


@dataclass(frozen=True)
class OwnSettings:
    """A model's own settings; None: not given.

    mask_scale, mask_bias: a, b of the soft mask. min_score: cosine in [-1, 1] with the nearest
    pixel below which a word is not in the image. trained_on: the only kind of images that the model
    knows, in words; square: whether all of them are square.
    """

    head: str | None = None
    mask_scale: float | None = None
    mask_bias: float | None = None
    min_score: float | None = None
    trained_on: str | None = None
    square: bool = False
    defaults: ModelDefaults = field(default_factory=ModelDefaults)


def own_settings(name: str) -> OwnSettings:
    """Those of open_clip's `local-dir:/path`; none for other models. TTDError as below."""
    from .openclip_config import FOLDER_CONFIG, folder_config

    if not name.startswith("local-dir:"):
        return OwnSettings()
    folder = Path(name.removeprefix("local-dir:"))
    return parse_own_settings(folder_config(folder), str(folder / FOLDER_CONFIG))


def parse_own_settings(config: Mapping[str, Any], source: str) -> OwnSettings:
    """The settings in a whole config. TTDError naming `source` and the key for other values."""
    section = _mapping(config, SECTION, source)
    own = _mapping(section, "defaults", source)
    defaults = ModelDefaults(
        image=_size(own, source),
        templates=_text(own, "templates", source),
        bg=_number(own, "bg", 0.0, 1.0, source),
    )
    return OwnSettings(
        head=_text(section, "head", source),
        mask_scale=_number(section, "mask_scale", -math.inf, math.inf, source),
        mask_bias=_number(section, "mask_bias", -math.inf, math.inf, source),
        min_score=_number(section, "min_score", -1.0, 1.0, source),
        trained_on=_text(section, "trained_on", source),
        square=section.get("square") is True,
        defaults=defaults,
    )


def _mapping(values: Mapping[str, Any], key: str, source: str) -> Mapping[str, Any]:
    found = values.get(key) or {}
    if not isinstance(found, Mapping):
        raise TTDError(f"{source}: {key} must be an object of settings")
    return found


def _text(values: Mapping[str, Any], key: str, source: str) -> str | None:
    found = values.get(key)
    if found is not None and not isinstance(found, str):
        raise TTDError(f"{source}: {key} {found!r} must be a string")
    return found


def _number(
    values: Mapping[str, Any], key: str, low: float, high: float, source: str
) -> float | None:
    found = values.get(key)
    if found is None:
        return None
    number = isinstance(found, int | float) and not isinstance(found, bool)
    if not number or not math.isfinite(found) or not low <= found <= high:
        raise TTDError(f"{source}: {key} {found!r} must be a number from {low:g} to {high:g}")
    return float(found)


def _size(values: Mapping[str, Any], source: str) -> int | None:
    found = _number(values, "image", 1, 8192, source)
    if found is not None and found != int(found):
        raise TTDError(f"{source}: image {found!r} must be a whole number of pixels")
    return None if found is None else int(found)
