"""Small segmentation sets on disk."""

from pathlib import Path

import numpy as np
from PIL import Image

from core.data.labels.dataset_yaml import load_shipped
from core.data.labels.datasets import Dataset, open_dataset

# name: classes, first label, background, 0 ignored, bg, two landmarks (label: name)
FACTS = {
    "VOC2012": (20, 1, True, False, 0.40, {1: "aeroplane", 15: "person", 20: "tvmonitor"}),
    "VOC20": (20, 1, False, True, 0.40, {1: "aeroplane", 20: "tvmonitor"}),
    "COCO2014": (80, 1, True, False, 0.45, {1: "person", 17: "dog", 80: "toothbrush"}),
    "ADE2016": (150, 1, False, True, 0.45, {1: "wall", 8: "bed ", 150: "flag"}),
    "Cityscapes": (19, 0, False, False, 0.40, {0: "road", 11: "person", 18: "bicycle"}),
    "COCO-Stuff": (
        171,
        0,
        False,
        False,
        0.40,
        {0: "person", 79: "toothbrush", 80: "banner", 170: "wood"},
    ),
    "PascalContext": (59, 1, True, False, 0.45, {1: "aeroplane", 59: "wood"}),
    "Context59": (59, 1, False, True, 0.45, {1: "aeroplane", 59: "wood"}),
    "World": (26, 1, True, False, 0.40, {1: "car", 26: "bird"}),
}


def save(path: Path, values, mode=None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values), mode).save(path) if mode else Image.fromarray(
        np.asarray(values)
    ).save(path)
    return path


def make_set(root: Path, name: str, masks: dict[str, np.ndarray]) -> Path:
    """ROOT/FOLDER/validation with a grey image for each mask."""
    base = root / load_shipped(name)["folder"] / "validation"
    for key, mask in masks.items():
        save(base / "image" / f"{key}.jpg", np.full((*mask.shape[:2], 3), 128, np.uint8))
        save(base / "mask" / f"{key}.png", mask)
    return base


def index_set(tmp_path, mask, name="VOC2012") -> Dataset:
    make_set(tmp_path, name, {"a": mask})
    return open_dataset(name, tmp_path)
