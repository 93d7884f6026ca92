"""NUS-WIDE's test split: an image list, and a column of 0 and 1 for each of 81 concepts.

ROOT/ImageList/TestImagelist.txt holds lines such as `actor\\0001_2124494179.jpg`, and
ROOT/Groundtruth/TrainTestLabels/Labels_CONCEPT_Test.txt a 0 or 1 for each of them.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np

from ...errors import TTDError
from ...utils.files import bad_id, expanded, is_there, regular_text
from .label_sets import Flags, LabelSet, any_class, plain_variant

FOLDERS = ("Flickr", "images", "image", "")  # of the images below ROOT
OFFICIAL = "official list"


def read_nus(root: str | Path, key: str = "nus") -> LabelSet:
    """The official test list, with and without its unlabelled images.

    root: the folder of ImageList/ and Groundtruth/, images in Flickr/ or images/ below it. PIAA's
    60,260 images are a part of which the list must be given (`--labels`). TTDError naming the file.
    """
    place = expanded(root)
    names = _image_list(_find(place, "ImageList", "TestImagelist.txt"))
    folder = _label_folder(place)
    concepts = _concepts(place, folder)
    truth = np.stack(
        [_column(folder / f"Labels_{c}_Test.txt", len(names)) for c in concepts], axis=1
    )
    train = place / "ImageList" / "TrainImagelist.txt"
    base = _image_folder(place, names)
    return LabelSet(
        key,
        "NUS-WIDE test",
        tuple(concepts),
        tuple(PurePosixPath(name).stem for name in names),
        tuple(_image(base, name) for name in names),
        (
            plain_variant(OFFICIAL, "unlabelled images: no class there", truth),
            plain_variant("labelled", "without unlabelled images", truth, any_class(truth)),
        ),
        tuple(_image(base, name) for name in (_image_list(train) if train.is_file() else ())),
    )


def _find(place: Path, folder: str, name: str) -> Path:
    for path in (place / folder / name, place / name):
        if path.is_file():
            return path
    raise TTDError(
        f"{place}: no {folder}/{name}; --root is the folder of NUS-WIDE's ImageList/ and "
        "Groundtruth/"
    )


def _label_folder(place: Path) -> Path:
    for folder in (place / "Groundtruth" / "TrainTestLabels", place / "TrainTestLabels"):
        if folder.is_dir():
            return folder
    raise TTDError(f"{place}: no Groundtruth/TrainTestLabels/ with Labels_CONCEPT_Test.txt files")


def _concepts(place: Path, folder: Path) -> list[str]:
    """The concepts' names: those of Concepts81.txt in its order, else those of the label files."""
    for path in (place / "ConceptsList" / "Concepts81.txt", place / "Concepts81.txt"):
        if path.is_file():
            listed = [line.strip() for line in regular_text(path).splitlines() if line.strip()]
            break
    else:
        files = sorted(folder.glob("Labels_*_Test.txt"))
        listed = [path.name[len("Labels_") : -len("_Test.txt")] for path in files]
    if not listed or len(set(listed)) < len(listed) or any("/" in name for name in listed):
        raise TTDError(f"{place}: no list of concepts, each named once")
    return listed


def _image_list(path: Path) -> list[str]:
    """File names relative to the images' folder, with forward slashes."""
    names = [line.strip().replace("\\", "/") for line in regular_text(path).splitlines()]
    names = [name for name in names if name]
    for name in names:
        parts = PurePosixPath(name)
        if bad_id(name) or parts.is_absolute() or ".." in parts.parts:
            raise TTDError(f"{path}: {name[:60]!r} is no file below the images' folder")
    if not names or len(set(names)) < len(names):
        raise TTDError(f"{path}: no images, or one that is listed twice")
    return names


def _column(path: Path, count: int) -> Flags:
    """The labels of one concept: bool [N]."""
    values = regular_text(path).split()
    if len(values) != count or not set(values) <= {"0", "1"}:
        raise TTDError(
            f"{path}: {len(values)} values for {count} images; there must be a 0 or 1 for each"
        )
    flags: Flags = np.array(values, np.int8) == 1
    return flags


def _image_folder(place: Path, names: list[str]) -> Path:
    """The folder below ROOT in which the first images that are there lie."""
    for name in names[:50]:
        for folder in FOLDERS:
            if is_there(_image(place / folder, name)):
                return place / folder
    return place / FOLDERS[0]


def _image(folder: Path, name: str) -> Path:
    """An image in its concept's folder, or without one."""
    path = folder / name
    flat = folder / PurePosixPath(name).name
    return flat if not is_there(path) and is_there(flat) else path
