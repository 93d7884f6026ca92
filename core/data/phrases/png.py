"""Panoptic Narrative Grounding: captions of COCO 2017 whose phrases stand for panoptic segments.

annotations/png_coco_val2017.json      [{"image_id", "caption", "segments": [{"utterance",
                                         "segment_ids", "noun"}, ...]}, ...]
annotations/panoptic_val2017.json      COCO's panoptic json
annotations/panoptic_segmentation/val2017/000000000139.png       id = R + 256 G + 65536 B
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ...errors import TTDError
from ...utils.files import expanded, is_there
from ...utils.json_lines import load_json
from ..images import read_image
from .bert_words import basic_words

FORM = "wanted is the release of Panoptic Narrative Grounding"
MOST_WORDS, MOST_PHRASES = 230, 28  # of a narrative that the authors' evaluation can hold

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class NarrativePhrase:
    """A phrase that is scored. number: its place among the narrative's utterances.

    segments: ids of panoptic segments whose union it stands for. thing: whether the last one's
    class is a thing.
    """

    number: int
    text: str
    segments: tuple[int, ...]
    thing: bool

    @property
    def plural(self) -> bool:
        """Two or more segments; the release's own field `plural` is not what the authors score."""
        return len(self.segments) > 1


@dataclass(frozen=True)
class Narrative:
    """A caption of an image. number: its place in the file; size: (H, W) of the image."""

    number: int
    image_id: int
    image: Path
    panoptic: Path
    size: tuple[int, int]
    phrases: tuple[NarrativePhrase, ...]

    def truths(self) -> list[Mask]:
        """The mask bool [H, W] of each phrase. TTDError: a damaged file, or of another size."""
        ids = read_ids(self.panoptic, self.size)
        return [np.isin(ids, phrase.segments) for phrase in self.phrases]


@dataclass(frozen=True)
class Narratives:
    """The scored narratives of a split, in the file's order; dropped: how many, by reason."""

    place: Path
    rows: tuple[Narrative, ...]
    dropped: dict[str, int]


def read_narratives(
    root: str | Path, split: str = "val2017", images: str | Path | None = None
) -> Narratives:
    """The narratives of a split that the authors score.

    root: the folder of annotations/, or that itself. images: the folder of the split's images;
    None: ROOT/SPLIT or ROOT/images/SPLIT. TTDError naming file and entry.
    """
    base = expanded(root)
    place = base if (base / f"png_coco_{split}.json").is_file() else base / "annotations"
    path, panoptic = place / f"png_coco_{split}.json", _Panoptic(place, split)
    folder = _image_folder(base, split) if images is None else expanded(images)
    content = load_json(path, FORM)
    if not isinstance(content, list):
        raise TTDError(f"{path}: not a list of narratives; {FORM}")
    rows, dropped = [], Counter[str]()
    for number, entry in enumerate(content):
        where = f"{path}: narrative {number}"
        caption, image_id, segments = _parts(where, entry)
        if reason := _unscored(caption, segments):
            dropped[reason] += 1
            continue
        image, size, known = panoptic.image(image_id, where)
        phrases = tuple(_phrases(segments, known, where))
        png = panoptic.folder / f"{image_id:012d}.png"
        rows.append(Narrative(number, image_id, folder / image, png, size, phrases))
    if not rows:
        raise TTDError(f"{path}: no narrative to score ({dict(dropped)})")
    return Narratives(path, tuple(rows), dict(dropped))


def _image_folder(base: Path, split: str) -> Path:
    choices = [root / part / split for root in (base, base.parent) for part in ("", "images")]
    return next((folder for folder in choices if folder.is_dir()), choices[0])


def _parts(where: str, entry: Any) -> tuple[str, int, list[dict[str, Any]]]:
    """Caption, image id and utterances of a narrative. TTDError."""
    row = entry if isinstance(entry, dict) else {}
    caption, segments = row.get("caption"), row.get("segments")
    image_id = _number(row.get("image_id"))
    if not isinstance(caption, str) or image_id is None or not isinstance(segments, list):
        raise TTDError(f"{where}: needs image_id, caption and segments; {FORM}")
    for segment in segments:
        own = segment if isinstance(segment, dict) else {}
        ids = own.get("segment_ids")
        known = isinstance(ids, list) and all(_number(value) is not None for value in ids)
        if not isinstance(own.get("utterance"), str) or not known or "noun" not in own:
            raise TTDError(f"{where}: a segment needs utterance, segment_ids and noun; {FORM}")
        if not isinstance(own["noun"], bool | int):
            raise TTDError(f"{where}: noun must be true or false; {FORM}")
    return caption, image_id, segments


def _number(value: Any) -> int | None:
    """A whole number from 0 below 10^18, also as its digits; None for anything else."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19:
        return int(value)
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value if whole and 0 <= value < 10**18 else None


def _unscored(caption: str, segments: Sequence[dict[str, Any]]) -> str:
    """Why the authors leave a narrative out, "" where they score it."""
    kinds: list[int] = []
    for segment in segments:
        kinds += [_kind(segment)] * len(_utterance_words(segment["utterance"]))
    if len(kinds) != len(basic_words(caption.strip())):
        return "whose utterances do not make the caption"
    if not any(map(_kind, segments)):
        return "without a grounded phrase"
    merged = sum(kind > 0 for kind, _ in groupby(kinds))
    if len(kinds) > MOST_WORDS or merged > MOST_PHRASES:
        return f"of more than {MOST_WORDS} words or {MOST_PHRASES} phrases"
    return ""


def _kind(segment: dict[str, Any]) -> int:
    """0: not scored, 1: one segment, 2: several."""
    return min(len(segment["segment_ids"]), 2) if segment["noun"] else 0


def _utterance_words(utterance: str) -> list[str]:
    """The words of an utterance; "n't" is split as ' and t, which is what the caption gives."""
    text = utterance.strip()
    at = text.lower().find("n't")
    if at < 0:
        return basic_words(text)
    return [*basic_words(text[:at]), "'", "t", *basic_words(text[at + 3 :])]


def _phrases(
    segments: Sequence[dict[str, Any]], known: dict[int, bool], where: str
) -> list[NarrativePhrase]:
    """The scored phrases. known: whether each of the image's segments is a thing."""
    phrases = []
    for number, segment in enumerate(segments):
        if not _kind(segment):
            continue
        ids = tuple(int(value) for value in segment["segment_ids"])
        if lost := [value for value in ids if value not in known]:
            raise TTDError(f"{where}: segment {lost[0]} is not in the image's panoptic entry")
        phrases.append(NarrativePhrase(number, segment["utterance"], ids, known[ids[-1]]))
    return phrases


class _Panoptic:
    """COCO's panoptic json of a split."""

    def __init__(self, place: Path, split: str) -> None:
        self.path = place / f"panoptic_{split}.json"
        choices = [place / "panoptic_segmentation" / split, place / f"panoptic_{split}"]
        self.folder = next((folder for folder in choices if folder.is_dir()), choices[0])
        form = "wanted is COCO's panoptic json"
        content = load_json(self.path, form)
        try:
            things = {int(one["id"]): bool(one["isthing"]) for one in content["categories"]}
            self._images = {
                int(one["id"]): (str(one["file_name"]), (int(one["height"]), int(one["width"])))
                for one in content["images"]
            }
            self._segments = {
                int(one["image_id"]): {
                    int(s["id"]): things[int(s["category_id"])] for s in one["segments_info"]
                }
                for one in content["annotations"]
            }
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            what = f"{type(error).__name__}: {str(error)[:60]}"
            raise TTDError(f"{self.path}: a malformed entry ({what}); {form}") from None

    def image(self, image_id: int, where: str) -> tuple[str, tuple[int, int], dict[int, bool]]:
        """File, size, and by segment whether it is a thing. TTDError: not of this split."""
        if image_id not in self._images or image_id not in self._segments:
            raise TTDError(f"{where}: image {image_id} is not in {self.path.name}")
        file, size = self._images[image_id]
        if "/" in file or "\\" in file or file.startswith("."):
            raise TTDError(f"{self.path}: file_name {file[:60]!r} leaves the folder of the images")
        return file, size, self._segments[image_id]


def read_ids(path: Path, size: tuple[int, int]) -> npt.NDArray[np.int64]:
    """The segment ids of a panoptic PNG, int64 [H, W]. TTDError: no RGB PNG, or another size."""
    if not is_there(path):
        raise TTDError(f"{path}: no such file; unpack COCO's panoptic annotations there")
    pixels = read_image(path)
    with Image.open(path) as image:
        if image.format != "PNG" or image.mode != "RGB":
            raise TTDError(f"{path}: {image.format} {image.mode}; wanted is an RGB PNG of ids")
    if pixels.shape[:2] != size:
        raise TTDError(f"{path}: {pixels.shape[:2]} pixels, panoptic json says {size}")
    red, green, blue = np.moveaxis(pixels.astype(np.int64), -1, 0)
    ids: npt.NDArray[np.int64] = red + 256 * green + 65536 * blue
    return ids
