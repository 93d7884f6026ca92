"""Small sets with predictions: label maps of images, and masks of captions."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from core.masks.results import save_scores

NAME = "TCL@VOC2012@OpenAI@[1.0, 0.5, 1.5, 2.0]@448@s=2@hflip@pamr@TTD@bg=0.40"
CAPTIONS = NAME.replace("VOC2012", "CC3M")
HEIGHT, WIDTH = 24, 30


def save(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def draw(rng, labels, ignored=0.1):
    """Blocks of labels with some 255."""
    values = np.kron(rng.choice(labels, (HEIGHT // 6, WIDTH // 6)), np.ones((6, 6))).astype(
        np.uint8
    )
    return np.where(rng.random(values.shape) < ignored, 255, values).astype(np.uint8)


def make_captions(root: Path, seed: int) -> Path:
    rng = np.random.default_rng(seed)
    base, folder = root / "cc3m_for_evaluation", root / "results_caption" / CAPTIONS
    for number in range(6):
        tags = [["dog"], ["dog", "sea"], ["sea", "sun"], ["sun"], ["dog"], []][number]
        save(base / f"image/{number}.jpg", rng.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8))
        (base / "json_refined").mkdir(exist_ok=True)
        (base / f"json_refined/{number}.json").write_text(
            json.dumps({"text": "a dog, sea, sun", "tags": tags})
        )
        (base / "mask_using_HQ-SAM").mkdir(exist_ok=True)
        for tag in tags:
            save(base / f"mask_using_HQ-SAM/{number}/{tag}.png", (draw(rng, [0, 0, 255], 0)))
        soft = rng.random((HEIGHT, WIDTH)).astype(np.float16)
        save(folder / f"{number}.png", ((soft > 0.4) * 255).astype(np.uint8))
        save_scores(folder / f"scores/{number}.npz", soft[None], np.zeros(1, np.int16), soft.shape)
    return root
