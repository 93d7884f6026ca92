"""Calling the two scripts that make masks, on a small set and model that `write_place` makes."""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from paths import ROOT
from PIL import Image
from small_clip import model_config, write_clip

from core.errors import TTDError

PICTURES = 7
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def picture(seed: int) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 255, (4, 5, 3)).astype(np.uint8)
    return Image.fromarray(noise).resize((40 + seed, 33), Image.Resampling.BILINEAR)


def write_place(folder):
    """A small model, a YAML set of PICTURES images and the same images with captions."""
    write_clip(
        folder / "model",
        model_config(text={"vocab_size": 49408}),
        seed=1,
        ttd={"mask_scale": 8.0, "mask_bias": -0.35},
    )
    images = folder / "set" / "images"
    images.mkdir(parents=True)
    rows = []
    for i in range(PICTURES):
        picture(i).save(images / f"p{i}.png")
        rows.append({"image": f"images/p{i}.png", "text": f"a dog, a red cat and {i} boats"})
    (folder / "set" / "set.yaml").write_text(
        "name: pets\nimages: images\nclasses: [dog, cat|kitten, boat, tree]\n"
        "background: 0\nignore: 255\nbg: 0.4\n"
    )
    (folder / "set" / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def command(place, out, *options, script="tags", data=None):
    data = data or place / "set" / ("set.yaml" if script == "tags" else "captions.jsonl")
    return [
        sys.executable,
        str(ROOT / f"produce_masks_from_{script}.py"),
        "--arch",
        f"local-dir:{place / 'model'}",
        "--data",
        str(data),
        "--out",
        str(out),
        "--device",
        "cpu",
        *map(str, options),
    ]


def call(place, out, *options, env=None, **kwargs):
    environment = ENVIRONMENT | {"TTD_CACHE": str(place / "cache")} | (env or {})
    return subprocess.run(
        command(place, out, *options, **kwargs),
        capture_output=True,
        text=True,
        env=environment,
        timeout=600,
    )


def run_here(capsys, place, out, *options, script="tags", data=None):
    """The script's main in this process: (exit code, stdout, error message)."""
    module = importlib.import_module(f"produce_masks_from_{script}")
    try:
        code, said = module.main(command(place, out, *options, script=script, data=data)[2:]), ""
    except TTDError as error:
        code, said = 2, str(error)
    printed = capsys.readouterr()
    return code, printed.out, said + printed.err


def masks(out: Path) -> dict[str, bytes]:
    """The bytes of every mask in the one result folder of `out`."""
    (folder,) = out.iterdir()
    return {path.name: path.read_bytes() for path in folder.glob("*.png")}
