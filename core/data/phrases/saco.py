"""SA-Co/Gold: pairs of an image and a phrase, with the masks of three annotators; predictions.

    gold_metaclip_merged_a_release_test.json, ..._b_..., ..._c_...        one file an annotator
    {"images": [{"id", "text_input", "file_name", "width", "height",
                 "is_instance_exhaustive", "is_pixel_exhaustive"}, ...],
     "annotations": [{"image_id", "segmentation": RLE, "iscrowd"}, ...]}

An entry of `images` is a pair; one without annotations is negative.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ...errors import TTDError
from ...utils.files import bad_id, expanded
from ...utils.json_lines import load_json
from ...utils.shown import first_few
from ..labels.regions import Region, region_of

NAME = re.compile(r"gold_(.+)_merged_([a-z])_release_test\.json")
FORM = "wanted is a file of SA-Co/Gold"
RESULTS = '[{"image_id": id of a pair, "segmentation": RLE, "score": number}, ...]'


@dataclass(frozen=True)
class Pair:
    """An image and a phrase. file: the image, relative to its folder; size: (H, W)."""

    id: int
    text: str
    file: str
    size: tuple[int, int]


@dataclass(frozen=True)
class Annotator:
    """What one annotator says.

    instances, pixels: the pairs whose objects, or whose pixels, are all marked. masks, crowds: the
    run lengths of objects and of crowds by pair.
    """

    name: str
    instances: frozenset[int]
    pixels: frozenset[int]
    masks: dict[int, list[dict[str, Any]]]
    crowds: dict[int, list[dict[str, Any]]]

    def objects(self, pair: Pair) -> list[Region]:
        """The masks of a pair's objects, without crowds. TTDError: damaged, or of another size."""
        return regions(self.masks.get(pair.id, []), pair, self.name)

    def whole(self, pair: Pair) -> list[Region]:
        """The masks of its objects and crowds."""
        return self.objects(pair) + regions(self.crowds.get(pair.id, []), pair, self.name)


@dataclass(frozen=True)
class Subset:
    """A subset of the benchmark: pairs by id, in the first file's order, and its annotators."""

    name: str
    pairs: dict[int, Pair]
    annotators: tuple[Annotator, ...]

    @property
    def scored(self) -> list[Pair]:
        """Pairs whose objects are all marked, by every annotator."""
        common = frozenset.intersection(*(one.instances for one in self.annotators))
        return [pair for key, pair in self.pairs.items() if key in common]

    @property
    def semantic(self) -> list[Pair]:
        """Pairs whose pixels are all marked, by every annotator."""
        common = frozenset.intersection(*(one.pixels for one in self.annotators))
        return [pair for key, pair in self.pairs.items() if key in common]


def regions(masks: Sequence[dict[str, Any]], pair: Pair, where: str) -> list[Region]:
    """Run lengths as regions of a pair's image. TTDError naming pair and file."""
    found = []
    for mask in masks:
        try:
            region = region_of(mask)
        except TTDError as error:
            raise TTDError(f"{where}: pair {pair.id}: {error}") from None
        if region.size != pair.size:
            raise TTDError(
                f"{where}: pair {pair.id}: a mask of {region.size[0]} x {region.size[1]} pixels, "
                f"the image has {pair.size[0]} x {pair.size[1]} (height x width)"
            )
        found.append(region)
    return found


def find_subsets(paths: Sequence[str | Path]) -> dict[str, list[Path]]:
    """The files of each subset: of folders by their official names; files named one by one.

    Files of other names are one subset, called by the first one's name. TTDError: none.
    """
    found: dict[str, list[Path]] = defaultdict(list)
    others: list[Path] = []
    for item in map(expanded, paths):
        files = sorted(item.glob("gold_*.json")) if item.is_dir() else [item]
        for file in files:
            name = NAME.fullmatch(file.name)
            (found[name[1]] if name else others).append(file)
    if others:
        found[others[0].stem] += others
    if not found:
        raise TTDError(
            f"{first_few([str(path) for path in paths], 2)}: no gold_SUBSET_merged_a_release_test"
            ".json; name the folder of SA-Co/Gold's annotations, or its files"
        )
    return dict(found)


def read_subset(name: str, paths: Sequence[Path]) -> Subset:
    """A subset from its annotators' files, which must be of the same pairs.

    TTDError naming file and entry.
    """
    read = [_read(path) for path in paths]
    pairs, _ = read[0]
    for path, (others, _) in zip(paths, read, strict=True):
        unlike = [key for key in pairs.keys() | others.keys() if pairs.get(key) != others.get(key)]
        if unlike:
            names = first_few([str(key) for key in sorted(unlike)], 3)
            raise TTDError(
                f"{path}: {len(unlike)} pairs differ from those of {paths[0].name} ({names}); the "
                "annotators' files must be of one subset"
            )
    return Subset(name, pairs, tuple(annotator for _, annotator in read))


def _read(path: Path) -> tuple[dict[int, Pair], Annotator]:
    content = load_json(path, FORM)
    entries = _entries(path, content, "images")
    pairs: dict[int, Pair] = {}
    marks: dict[str, set[int]] = {"is_instance_exhaustive": set(), "is_pixel_exhaustive": set()}
    for at, entry in enumerate(entries):
        pair = _pair(f"{path}: images[{at}]", entry)
        if pair.id in pairs:
            raise TTDError(f"{path}: images[{at}]: pair {pair.id} is listed twice")
        pairs[pair.id] = pair
        for key, own in marks.items():
            value = entry.get(key)
            if value not in (0, 1):
                raise TTDError(f"{path}: images[{at}]: {key} must be 0 or 1; {FORM}")
            own.update([pair.id] * bool(value))
    masks, crowds = _masks(path, content, pairs)
    instances, pixels = (frozenset(own) for own in marks.values())
    return pairs, Annotator(path.name, instances, pixels, masks, crowds)


def _masks(
    path: Path, content: dict[str, Any], pairs: dict[int, Pair]
) -> tuple[dict[int, list[dict[str, Any]]], dict[int, list[dict[str, Any]]]]:
    """Run lengths of objects, and of crowds, by pair."""
    masks: dict[int, list[dict[str, Any]]] = defaultdict(list)
    crowds: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for at, entry in enumerate(_entries(path, content, "annotations")):
        owner, mask = entry.get("image_id"), entry.get("segmentation")
        crowd = entry.get("iscrowd", 0)
        if type(owner) is not int or owner not in pairs:
            raise TTDError(f"{path}: annotations[{at}]: image_id {str(owner)[:40]} is no pair")
        if not isinstance(mask, dict) or crowd not in (0, 1):
            raise TTDError(f"{path}: annotations[{at}]: no run-length segmentation; {FORM}")
        (crowds if crowd else masks)[owner].append(mask)
    return dict(masks), dict(crowds)


def _entries(path: Path, content: Any, key: str) -> list[dict[str, Any]]:
    entries = content.get(key) if isinstance(content, dict) else None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise TTDError(f"{path}: no list of {key}; {FORM}")
    return entries


def _pair(where: str, entry: dict[str, Any]) -> Pair:
    key, text, file = entry.get("id"), entry.get("text_input"), entry.get("file_name")
    size = (entry.get("height"), entry.get("width"))
    if type(key) is not int or not isinstance(text, str) or not text.strip():
        raise TTDError(f"{where}: needs a whole number as id, and a text_input; {FORM}")
    if not isinstance(file, str) or bad_id(file):
        raise TTDError(f"{where}: no file_name; {FORM}")
    place = PurePosixPath(file)
    if place.is_absolute() or ".." in place.parts:
        raise TTDError(f"{where}: file_name {file[:60]!r} leaves the folder of the images")
    if any(type(side) is not int or not 0 < side < 1 << 20 for side in size):
        raise TTDError(f"{where}: height and width {str(size)[:60]} are no size of an image")
    return Pair(key, text, file, (int(size[0] or 0), int(size[1] or 0)))


@dataclass(frozen=True)
class Prediction:
    """A predicted mask, as run lengths, and its score."""

    mask: dict[str, Any]
    score: float


def read_predictions(path: str | Path) -> dict[int, list[Prediction]]:
    """Predictions of a subset by pair, in the file's order. TTDError naming file and entry."""
    place = expanded(path)
    content = load_json(place, f"wanted is {RESULTS}")
    if not isinstance(content, list):
        raise TTDError(f"{place}: not a list; wanted is {RESULTS}")
    found: dict[int, list[Prediction]] = defaultdict(list)
    for at, entry in enumerate(content):
        row = entry if isinstance(entry, dict) else {}
        owner, mask, score = row.get("image_id"), row.get("segmentation"), row.get("score")
        if type(owner) is not int or not isinstance(mask, dict) or not _is_score(score):
            raise TTDError(f"{place}: entry {at}: wanted is {RESULTS}, the score a finite number")
        found[owner].append(Prediction(mask, float(score or 0)))
    return dict(found)


def subset_predictions(
    path: str | Path, subset: Subset, whole: Collection[int] = ()
) -> dict[int, list[Prediction]]:
    """`read_predictions` of a subset from its file, or from a folder of SUBSET.json.

    whole: the ids of all pairs, where the subset is a part of them; predictions of the others are
    left out. TTDError naming the file: predictions of pairs that are not there.
    """
    place = expanded(path)
    file = place / f"{subset.name}.json" if place.is_dir() else place
    found = read_predictions(file)
    lost = [str(key) for key in sorted(found.keys() - subset.pairs.keys() - set(whole))]
    if lost:
        raise TTDError(
            f"{file}: predictions of {len(lost)} pairs that {subset.name} does not have "
            f"({first_few(lost, 3)}); image_id is the id of a pair"
        )
    return {key: found[key] for key in subset.pairs if key in found}


def _is_score(value: Any) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return abs(value) < 1e9  # False for NaN
