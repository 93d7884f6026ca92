"""Folders of images and caption files: image/ and json/ apart, or files side by side."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ...errors import TTDError, UnreadableError
from ...utils.files import regular_bytes, visible_names
from .lists import LISTS
from .record import SUFFIXES, Item, RecordSet, Skipped, Source, lacking, make_record, parse_caption
from .shards import open_shards

# Folders with the captions beside image/, and what such a set is.
LAYOUTS = (("json_refined", "captions with tags"), ("json", "training pairs"))


def open_folder(root: Path, forms: str) -> RecordSet:
    """The records of a folder, or of cc3m_for_evaluation in it.

    TTDError that names `forms`, the forms there are, when it has none of them.
    """
    for base in (root, root / "cc3m_for_evaluation"):
        for texts, kind in LAYOUTS:
            if (base / "image").is_dir() and (base / texts).is_dir():
                return _two_folders(base, texts, kind)
    names = visible_names(root)
    if tars := [root / name for name in names if name.lower().endswith(".tar")]:
        return open_shards(tars, root)
    if pairs := _side_by_side(root, names):
        return pairs
    lists = [name for name in names if name.lower().endswith(LISTS)]
    hint = f"; for the list there, name it: {root / lists[0]}" if lists else ""
    raise TTDError(f"{root}: no images with captions here; wanted: {forms}{hint}")


def _two_folders(root: Path, texts: str, kind: str) -> RecordSet:
    """ROOT/image/ID.jpg and ROOT/json/ID.json (training) or ROOT/json_refined/ID.json (tags)."""
    names = [name for name in visible_names(root / "image") if name.lower().endswith(SUFFIXES)]
    images = {Path(name).stem: f"image/{name}" for name in names}
    files = [name for name in visible_names(root / texts) if name.lower().endswith(".json")]
    captions = {Path(name).stem: f"{texts}/{name}" for name in files}
    several = _several(names, lambda name: Path(name).stem)
    return _of_captions(root, kind, captions, images, several)


def _side_by_side(root: Path, names: Sequence[str]) -> RecordSet | None:
    """Images beside .txt or .json files, in the folder or else in its subfolders; None for none."""
    if not any(name.lower().endswith(SUFFIXES) for name in names):
        folders, names = [name for name in names if (root / name).is_dir()], []
        for folder in folders:
            names += [f"{folder}/{name}" for name in visible_names(root / folder)]
    images = {_stem(name): name for name in names if name.lower().endswith(SUFFIXES)}
    texts = {
        _stem(name): name
        for name in names
        if name.lower().endswith(".json") and _stem(name) in images
    }
    texts |= {_stem(name): name for name in names if name.lower().endswith(".txt")}
    if not images or not texts:
        return None
    several = _several([name for name in names if name.lower().endswith(SUFFIXES)], _stem)
    captions = dict(sorted(texts.items()))
    return _of_captions(root, "images with captions", captions, images, several)


def _several(names: Sequence[str], stem: Callable[[str], str]) -> dict[str, list[str]]:
    """Ids with more than one image, and those images: which one a caption means is not known."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(stem(name), []).append(name)
    return {key: images for key, images in found.items() if len(images) > 1}


def _of_captions(
    root: Path,
    kind: str,
    captions: Mapping[str, str],
    images: Mapping[str, str],
    several: Mapping[str, list[str]],
) -> RecordSet:
    """One record per caption file; captions and images are names relative to root by id."""
    missing, unused = captions.keys() - images.keys(), images.keys() - captions.keys()
    ids = list(captions)

    def walk(start: int) -> Iterator[Item]:
        """The items from number `start` on."""
        for index, stem in enumerate(ids[start:], start):
            if stem not in images:
                yield Skipped(index, stem, "no image with this name")
                continue
            if stem in several:
                reason = f"several images: {', '.join(several[stem])}; keep one"
                yield Skipped(index, stem, reason)
                continue
            source = Source(index, stem, root / images[stem], images[stem])
            yield make_record(source, partial(_read_caption, root / captions[stem]))

    description = (
        f"{root}: {kind}, {len(captions)} captions; "
        f"{lacking(len(missing), 'captions without an image')}, "
        f"{lacking(len(unused), 'images without a caption')}"
    )
    return RecordSet(description, len(captions), True, walk, distinct=True)


def _read_caption(path: Path) -> dict[str, Any]:
    """A caption file as {"text": ..., "tags": ...}. ValueError or UnreadableError: the reason."""
    try:
        return parse_caption(regular_bytes(path), path.suffix)
    except UnreadableError:
        raise
    except TTDError as error:
        raise ValueError(str(error)) from None


def _stem(name: str) -> str:
    return os.path.splitext(name)[0]
