"""Ground language in images with CLIP, without annotation: TTD, TCL and what they are built from.

    from core import Predictor, TTDError, load_backbone

Installed (`pip install .`) it is called `ttd`. The names are loaded when they are first used, so
importing it costs nothing.
"""

from typing import TYPE_CHECKING, Any

from .errors import TTDError
from .utils.shipped import demo_image

if TYPE_CHECKING:
    from .backbones import load_backbone
    from .predictor import Predictor

__all__ = ["Predictor", "TTDError", "demo_image", "load_backbone"]


def __getattr__(name: str) -> Any:
    """Import what is asked for (PEP 562)."""
    if name == "Predictor":
        from .predictor import Predictor

        return Predictor
    if name == "load_backbone":
        from .backbones import load_backbone

        return load_backbone
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
