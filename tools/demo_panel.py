"""What `demo.py` shows of an image: the panel, its file, and the table on the terminal."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from core.utils.files import write_errors

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from core.plots.panel import Cut, Look, Word
    from core.plots.sheet import Sheet
    from core.predictor import Predictor, Row


def draw(
    predictor: Predictor,
    image: npt.NDArray[np.uint8],
    rows: Sequence[Row],
    look: Look,
    least: float | None = None,
) -> Sheet:
    """The panel of an image uint8 [H, W, 3]; the caption, where there is one, is the first row.

    least: --min-score. Without it and without a caption no word is drawn as rejected.
    """
    from core.plots.panel import Word, draw_panel
    from core.plots.panel_plan import plan

    words = [row for row in rows if row.norm is not None]
    captions = [row for row in rows if row.norm is None]
    cuts = bool(captions) or least is not None
    kept = sum(row.selected for row in words) if cuts else len(words)
    layout = plan(*image.shape[:2], kept, len(words) - kept, bool(captions))

    def maps(some: Sequence[Row], size: tuple[int, int]) -> list[Word]:
        masks = predictor.soft_masks([row.text for row in some], size=size).cpu().numpy()
        pairs = zip(some, masks, strict=True)
        return [Word(row.text, row.score, values) for row, values in pairs]

    return draw_panel(
        image,
        maps(words, layout.picture),
        selected=[row.selected for row in words] if cuts else None,
        caption=maps(captions, layout.large)[0] if captions else None,
        look=replace(look, cut=cut_of(words, least) if cuts else None),
    )


def cut_of(words: Sequence[Row], least: float | None = None) -> Cut | None:
    """Where the words were cut, and by what; None where nothing was.

    It is --min-score (`least`) where that rejected all that were, else Otsu's cut, between the kept
    and the rejected words.
    """
    from core.plots.panel import Cut

    kept = [row.score for row in words if row.selected]
    rejected = [row.score for row in words if not row.selected]
    if rejected and least is not None and max(rejected) < least:
        return Cut(least, "--min-score")
    if not kept or not rejected:
        return None
    return Cut((min(kept) + max(rejected)) / 2, "Otsu's cut of these words")


def save(sheet: Sheet, path: Path) -> None:
    """Write the panel in the format that its name ends with."""
    from core.plots.vector import encoded

    content = encoded(sheet, path.suffix[1:])
    with write_errors(path, "name another --out"):
        path.write_bytes(content)


def table(rows: Sequence[Row]) -> str:
    """The rows as text.

    Number (as in the panel), word, score, normalized score, `*` = kept, nearest pixel.
    """
    texts = [_clip(" ".join(row.text.split()), 48) for row in rows]
    width = max(4, *(_columns(text) for text in texts))
    lines = [f"  #  {'word'.ljust(width)}   score   norm  kept  nearest pixel (x, y)"]
    for number, (row, text) in enumerate(zip(rows, texts, strict=True), start=1):
        norm = mark = ""
        if row.norm is not None:
            norm, mark = f"{row.norm:.2f}", "*" * row.selected
        pad = " " * (width - _columns(text))
        lines.append(
            f"{number:>3}  {text}{pad}  {row.score:6.3f}  {norm:>5}  {mark:^4}  ({row.x}, {row.y})"
        )
    return "\n".join(lines)


def _columns(text: str) -> int:
    """Terminal columns of a text: two for wide characters, none for combining ones."""
    seen = [character for character in text if not unicodedata.combining(character)]
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in seen)
    return len(seen) + wide


def _clip(text: str, columns: int) -> str:
    """The text, cut to at most `columns` terminal columns."""
    if _columns(text) <= columns:
        return text
    while _columns(text) > columns - 3:
        text = text[:-1]
    return text + "..."
