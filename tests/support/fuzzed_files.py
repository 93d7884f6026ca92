"""Readers to fuzz: images, masks, descriptions of sets, settings."""

import json

import numpy as np
from fuzzed import Reader, beside_images, image, stored
from PIL import Image

from core.data.images import read_image
from core.data.labels.datasets import open_dataset
from core.data.labels.mask_files import read_foreground, read_stored, read_values
from core.errors import TTDError
from core.utils.config import read_recipe

READERS: dict[str, Reader] = {}

for ending in ("png", "jpg", "webp", "gif", "tiff", "bmp", "ppm", "tga", "ico"):
    # Pillow before 13 writes no size of an icon that is larger than the image, so names none here.
    options = {"sizes": [(6, 5)]} if ending == "ico" else {}
    READERS[f"image {ending}"] = Reader(image(ending, **options), read_image)


def label_png(folder):
    path = folder / "labels.png"
    mask = Image.fromarray(np.arange(30, dtype=np.uint8).reshape(5, 6))
    mask.putpalette(bytes(range(90)))
    mask.save(path)
    return path


def all_mask_readers(path):
    for read in (read_stored, read_foreground, read_values):
        try:
            value = read(path)
        except TTDError:
            continue
        assert value is not None


READERS["label png"] = Reader(label_png, all_mask_readers)


SET = {
    "name": "pets",
    "images": "images",
    "classes": ["cat|kitten", "dog", "old dog"],
    "background": 0,
    "ignore": 255,
    "bg": 0.4,
    "palette": [[1, 2, 3], [4, 5, 6], [7, 8, 9]],
    "masks_drawn": "stored",
}


def read_set(path):
    data = open_dataset(str(path))
    return data.describe(), data.items(), data.digest


READERS["dataset yaml"] = Reader(beside_images("set.yaml", json.dumps(SET).encode()), read_set, SET)


def run_config(name):
    """The reader of the settings of train_NAME.py."""

    def read(path):
        import importlib

        module = {"ttd": "core.ttd.config", "tcl": "core.tcl.config"}.get(
            name, "core.grounding.run_config"
        )
        load = importlib.import_module(module).load_config
        config = load(read_recipe(path), str(path), lambda line: None)
        return config.name, config.folder

    return read


RUNS = {
    "ttd": {
        "arch": "tiny",
        "data": "cc3m",
        "pruned": ["none"],
        "limit": 5,
        "scales": [1.0],
        "steps": 10,
        "batch": 4,
        "lr": "1e-4",
        "distill": {"teacher": "ema"},
        "lora": {"rank": 4, "alpha": 8.0},
        "out": "runs/x",
        "tag": "name",
        "workers": 2,
        "grad_clip": None,
    },
    "tcl": {
        "arch": "CLIP",
        "stages": 2,
        "loss": {"area": 0.3},
        "augment": {},
        "evaluation": {},
        "image": 224,
        "warmup": 2,
        "lr_floor": 0.1,
    },
    "grounding": {
        "arch": "tiny",
        "dataset": ["unc"],
        "sup": "full",
        "prompt": "a {pseudo_query}",
        "epochs": 1.5,
        "optimizer": "adamw",
        "dropout": 0.1,
        "schedule": "step",
        "lr_drop_every": 3,
    },
}
for name, values in RUNS.items():
    READERS[f"run config {name}"] = Reader(
        stored("run.yaml", json.dumps(values).encode()), run_config(name), values
    )
