"""Official releases, made small: the folders and files that their archives unpack to."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from core.data.labels.dataset_checks import check
from core.data.labels.dataset_yaml import voc_palette
from core.data.labels.datasets import open_dataset
from core.data.labels.mask_files import read_index
from core.data.prepare import make_plan, run_plan

SIZE = (5, 7)
rng = np.random.default_rng(0)


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 256, (*SIZE, 3), np.uint8)).save(path)
    return path


def mask(path: Path, values: np.ndarray, palette: bool = False) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(values)
    if palette:
        image.putpalette(voc_palette().tobytes())
    image.save(path)
    return values


def values_of(labels) -> np.ndarray:
    """A label map of SIZE that holds every one of the labels (35 pixels)."""
    filled = np.resize(rng.permutation(np.asarray(labels)), SIZE)
    return filled.astype(np.uint8)


def make(name, source, root, **options):
    plan_options = {key: options.pop(key) for key in ("split", "objects", "to") if key in options}
    return run_plan(make_plan(name, source, root, **plan_options), workers=2, **options)


def result(name, root) -> dict[str, np.ndarray]:
    data = open_dataset(name, root)
    assert check(data) == []
    return {item.id: read_index(item.mask) for item in data.items()}


def voc_release(source: Path, ids=("2007_1", "2007_2")) -> dict[str, np.ndarray]:
    base = source / "VOCdevkit" / "VOC2012"
    truths = {}
    for number, key in enumerate((*ids, "unlisted")):
        picture(base / "JPEGImages" / f"{key}.jpg")
        labels = values_of([0, 255, *range(1 + 7 * number, min(21, 8 + 7 * number))])
        truths[key] = mask(base / "SegmentationClass" / f"{key}.png", labels, palette=True)
    lists = base / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("\n".join(ids) + "\n")
    return {key: truths[key] for key in ids}


def cityscapes_release(source: Path, kind: str, labels) -> np.ndarray:
    picture(source / "leftImg8bit/val/ulm/ulm_000000_000019_leftImg8bit.png")
    values = values_of(labels)
    mask(source / f"gtFine/val/ulm/ulm_000000_000019_gtFine_{kind}.png", values)
    mask(source / "gtFine/val/ulm/ulm_000000_000019_gtFine_instanceIds.png", values)
    return values


STUFF_UNUSED = {11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90}


def stuff_release(source: Path, labels) -> np.ndarray:
    picture(source / "val2017/000000000139.jpg")
    values = values_of(labels)
    mask(source / "stuffthingmaps/val2017/000000000139.png", values)
    mask(
        source / "stuffthingmaps/val2017/000000000139_labelTrainIds.png", values
    )  # of another project's converter
    return values


def instances(source: Path, annotations, size=(20, 30)) -> Path:
    (source / "images").mkdir(parents=True)
    Image.fromarray(np.zeros((*size, 3), np.uint8)).save(source / "images/7.jpg")
    content = {
        "images": [{"id": 7, "file_name": "7.jpg", "height": size[0], "width": size[1]}],
        "categories": [
            {"id": 1, "name": "person"},
            {"id": 32, "name": "tie"},
            {"id": 90, "name": "toothbrush"},
        ],
        "annotations": [
            {"image_id": 7, "id": k, "iscrowd": 0, **a} for k, a in enumerate(annotations)
        ],
    }
    (source / "instances.json").write_text(json.dumps(content))
    return source


def box(x0, y0, x1, y1):
    return [[x0, y0, x1, y0, x1, y1, x0, y1]]


def context_release(source: Path) -> Path:
    base = source / "VOC2010"
    for key in ("a", "b"):
        picture(base / "JPEGImages" / f"{key}.jpg")
    (base / "ImageSets/Main").mkdir(parents=True)
    (base / "ImageSets/Main/val.txt").write_text("a -1\nb 1\nwithout_a_mask 1\n")
    return base
