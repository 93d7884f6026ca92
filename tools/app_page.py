"""The page itself: how it looks, and which question each part of it asks (`core/app` answers).

Gradio is imported here and nowhere else; `tools/app.py` starts it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cli import ROOT, say

from core.app.captions import ask_caption
from core.app.models import Model, own_threshold
from core.app.phrases import ask_phrases
from core.app.studio import Studio
from core.app.tags import ask_tags
from core.errors import TTDError

FILES = Path(__file__).parent / "app_files"
NONE = "none"
WAITING = 64  # questions in the queue; more are told to come back
TITLE = "TTD: words light up in a picture"
CAPTION = "A red house and a tree under the purple bird, but without a fish"
TAGS = "red house, tree, purple bird, fish"
PHRASE = "the red star on the left"
FONTS = ["system-ui", "-apple-system", "Segoe UI", "DejaVu Sans", "Arial", "sans-serif"]
MONO = ["ui-monospace", "DejaVu Sans Mono", "Consolas", "monospace"]
