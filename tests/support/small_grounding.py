"""Small images with coloured squares and phrases, and a class-token CLIP of random weights."""

import json

import numpy as np
import torch
from PIL import Image
from small_clip import model_config, write_clip

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 60, 230)}


def write_backbone(folder):
    """local-dir: name of a class-token ViT of 32 pixels, with CLIP's own vocabulary."""
    vision = {"pool_type": "tok", "layers": 4}
    write_clip(
        folder, model_config(vision=vision, text={"vocab_size": 49408, "context_length": 16})
    )
    return f"local-dir:{folder}"


def write_phrases(folder, count=64, seed=0, per_image=2):
    """FOLDER/list.jsonl and images: two squares an image, a phrase for each; the list's path."""
    draw = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    lines = []
    for number in range(count // per_image):
        names = draw.permutation(list(COLOURS))[:per_image]
        pixels = np.full((40, 60, 3), 128, np.uint8)
        for place, name in enumerate(names):
            left = int(draw.integers(0, 12)) + 30 * place
            top, side = int(draw.integers(0, 22)), int(draw.integers(10, 18))
            pixels[top : top + side, left : left + side] = COLOURS[str(name)]
            box = [left, top, min(60, left + side), min(40, top + side)]
            lines.append({"image": f"{number}.png", "box": box, "text": f"the {name} square"})
        Image.fromarray(pixels).save(folder / "images" / f"{number}.png")
    path = folder / "list.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def saved_grounder(folder):
    """A random grounding model on `write_backbone`'s, as train_grounding.py writes it."""
    import torch

    from core.backbones import load_backbone
    from core.grounding.model import GroundingModel
    from core.grounding.model import model_config as sizes
    from core.grounding.weights.checkpoint import save_model

    backbone = load_backbone(write_backbone(folder / "clip"), device="cpu")
    torch.manual_seed(0)
    config = sizes(backbone, heads=4, layers=1, feedforward=32, hidden=32)
    model = GroundingModel(backbone, config, train_visual_pos=False)
    save_model(model, folder / "model.safetensors", backbone.checksum, {"prompt": "find {}"})
    return folder / "model.safetensors"


def write_grounder(folder):
    """FOLDER/model.safetensors, a small grounder of random weights: its path."""
    from core.backbones import load_backbone
    from core.grounding.model import GroundingModel
    from core.grounding.model import model_config as sizes
    from core.grounding.weights.checkpoint import save_model

    backbone = load_backbone(write_backbone(folder / "clip"), device="cpu")
    torch.manual_seed(0)
    config = sizes(backbone, heads=4, layers=1, feedforward=32, hidden=32)
    model = GroundingModel(backbone, config, train_visual_pos=False)
    save_model(model, folder / "model.safetensors", backbone.checksum, {})
    return str(folder / "model.safetensors")
