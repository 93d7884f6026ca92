"""A caption about a picture: its words with scores and maps, with and without an adapter.

The answer is plain data for a browser, which can then cut words and maps elsewhere by itself.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..plots.heat import CLEAR, FADED, FULL, INK, OPACITY
from ..predictor import Predictor, Row, score_words
from .limits import caption_of
from .pictures import Picture, png_bytes
from .studio import Studio

# How a map lies over its picture, as `core.plots.heat.overlay` draws it.
OVERLAY = {"ink": INK, "opacity": OPACITY, "clear": CLEAR, "full": FULL, "faded": FADED}


def ask_caption(
    studio: Studio, path: str | None, text: str | None, model: str, adapter: str, pamr: bool
) -> dict[str, Any]:
    """The words of a caption in the picture of a file.

    Args: path: of the picture. model, adapter: names of the studio's offer, adapter "" for none;
        with one, the answer has two panes, without and with it. pamr: refine the maps, at the size
        at which they are shown.
    Returns: {"caption", "words" (distinct, in order), "refined" (by PAMR), "picture": {"name",
        "note", "image" (data URI), "width", "height"}, "overlay", "panes": see `pane`}.
    Errors: TTDError, one line, for whatever cannot be answered.
    """
    with studio.picture(path) as picture:
        caption, words = caption_of(text)
        panes = []
        for name, title in _compared(model, adapter):
            predictor = studio.predictor(picture, model, name)
            panes.append(pane(predictor, picture, title, (caption, words), pamr))
        names = [word["text"] for word in panes[0]["words"]]
        shown = {"picture": picture_data(picture), "overlay": OVERLAY, "panes": panes}
        return {"caption": caption, "words": names, "refined": pamr, **shown}


def _compared(model: str, adapter: str) -> list[tuple[str, str]]:
    """(adapter, title) of every pane."""
    without = [("", model)]
    return [*without, (adapter, f"{model} with {adapter}")] if adapter else without


def pane(
    predictor: Predictor,
    picture: Picture,
    title: str,
    asked: tuple[str, Sequence[str]],
    pamr: bool = False,
) -> dict[str, Any]:
    """What one model says. asked: the caption and its words.

    Returns: {"title", "cut" (Otsu's, from 0 to 1, between the kept and the rejected; None where
    nothing is rejected), "words": [{"text", "score", "norm", "kept", "at": [x, y], "map"}],
    "caption": {"score", "at", "map"}}. at: the nearest pixel, as shares of the picture's sides;
    map: the soft mask as a grey PNG, 0 to 255 for 0 to 1.
    """
    caption, words = asked
    rows = score_words(predictor, words, caption)
    masks = predictor.soft_masks([row.text for row in rows], size=picture.map_size)
    if pamr:
        masks = picture.refined(masks)
    size = (picture.pixels.shape[0], picture.pixels.shape[1])
    values = masks.cpu().numpy()
    entries = [_entry(row, one, size) for row, one in zip(rows, values, strict=True)]
    return {"title": title, "cut": cut_of(rows[1:]), "caption": entries[0], "words": entries[1:]}


def _entry(row: Row, values: npt.NDArray[np.float32], size: tuple[int, int]) -> dict[str, Any]:
    """A word or the caption as data. size: (H, W) that its pixel is of."""
    at = [round((row.x + 0.5) / size[1], 4), round((row.y + 0.5) / size[0], 4)]
    entry = {"text": row.text, "score": round(row.score, 4), "at": at, "map": map_uri(values)}
    if row.norm is not None:
        entry |= {"norm": round(row.norm, 4), "kept": row.selected}
    return entry


def cut_of(rows: Sequence[Row]) -> float | None:
    """Where Otsu's cut lies between kept and rejected words, from 0 to 1; None without rejected."""
    norms = [(row.norm or 0.0, row.selected) for row in rows]
    kept = [norm for norm, selected in norms if selected]
    rejected = [norm for norm, selected in norms if not selected]
    if not kept or not rejected:
        return None
    return round((min(kept) + max(rejected)) / 2, 4)


def map_uri(values: npt.NDArray[np.float32]) -> str:
    """A map [h, w] in [0, 1] as the data URI of a grey PNG; NaN is 0."""
    grey = np.round(255 * np.clip(np.nan_to_num(values), 0, 1)).astype(np.uint8)
    return "data:image/png;base64," + base64.b64encode(png_bytes(Image.fromarray(grey), 1)).decode()


def picture_data(picture: Picture) -> dict[str, Any]:
    """A picture for the browser."""
    height, width = picture.shown_size
    note = ""
    if picture.reduced is not None:
        own, now = picture.reduced, picture.pixels.shape
        note = f"{own[1]} x {own[0]} pixels, reduced to {now[1]} x {now[0]}"
    shown = {"image": picture.shown, "width": width, "height": height}
    return {"name": picture.name, "note": note, **shown}
