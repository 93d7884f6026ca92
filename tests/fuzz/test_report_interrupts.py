"""Ctrl-C while reports of benchmarks are made: exit code 130, one line, no page or the whole one.

tests/tools/test_cli.py: the same before a script's own work begins.
"""

import json
import subprocess
import sys

import numpy as np
import pytest
from paths import ROOT
from PIL import Image
from small_multilabel import write_voc
from small_phrases import SIZE, box_mask, write_saco

# A script that is interrupted when an image is opened for the Nth time, when draws begin, or when
# the page is written but for its name.
SCRIPT = """
import os, runpy, signal, sys
import PIL.Image
import core.metrics.bootstrap as bootstrap

signal.signal(signal.SIGINT, signal.default_int_handler)
moment, count, *sys.argv = sys.argv[1:]
left = [int(count)]

def interrupting(work, is_now):
    def wrapped(*given, **named):
        if is_now(*given):
            signal.raise_signal(signal.SIGINT)
        return work(*given, **named)
    return wrapped

def opened(*_):
    left[0] -= 1
    return left[0] == 0

if moment == "images":
    PIL.Image.open = interrupting(PIL.Image.open, opened)
if moment == "draws":
    bootstrap.draws_of = interrupting(bootstrap.draws_of, lambda *_: True)
if moment == "page":
    os.replace = interrupting(os.replace, lambda old, new: str(new).endswith("page.html"))
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def noise(path, size):
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)).save(path)


def multilabel(folder):
    """Four images, each opened once."""
    write_voc(folder)
    own = ["--protocol", "multilabel", "--set", "voc07", "--root", str(folder), "--arch", "tiny"]
    return 3, ["evaluate_classification.py", *own, "--save", str(folder / "saved")]


def saco(folder):
    """Four images, each opened for its size first."""
    pairs = {key: {} for key in range(1, 5)}
    truth = write_saco(folder / "gold", {"a": {1: [box_mask(0, 0, 3, 4)]}}, pairs)
    for key in pairs:
        noise(folder / f"images/{key}.png", SIZE)
    own = ["--protocol", "saco", "--truth", str(truth), "--images", str(folder / "images")]
    own += ["--arch", "tiny", "--bg", "0.1", "--save", str(folder / "saved")]
    return 7, ["evaluate_phrase_masks.py", *own]


def ref_l4(folder):
    """Four images, each opened once."""
    rows = []
    for key in range(4):
        noise(folder / f"images/{key}.jpg", (90, 120))
        row = {"id": str(key), "caption": "a star", "file_name": f"{key}.jpg", "height": 90}
        row |= {"width": 120, "bbox": [0, 0, 50, 40], "ori_category_id": "o365_7"}
        rows.append(json.dumps(row))
    (folder / "rows.jsonl").write_text("\n".join(rows))
    grounder = str(ROOT / "weights/tiny-grounder/model.safetensors")
    own = ["--ref-l4", str(folder / "rows.jsonl"), "--data_root", str(folder / "images")]
    return 3, ["evaluate_grounding.py", *own, "--grounder", grounder, "--batch", "1"]


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["images", "draws", "page"])
@pytest.mark.parametrize("make", [multilabel, saco, ref_l4])
def test_an_interrupt_is_one_line_and_leaves_no_half_page(make, moment, tmp_path):
    count, (script, *own) = make(tmp_path)
    page = tmp_path / "out/page.html"
    options = [*own, "--device", "cpu", "--report", str(page)]
    end = subprocess.run(
        [sys.executable, "-c", SCRIPT, moment, str(count), str(ROOT / script), *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = end.stderr.splitlines()
    assert end.returncode == 130, end.stderr
    assert lines[-1] == "interrupted" and lines.count("interrupted") == 1
    assert "Traceback" not in end.stderr and "unexpected" not in end.stderr
    assert not page.parent.exists() or not list(page.parent.iterdir())
    assert ("mAP" in end.stdout or "percent" in end.stdout) == (moment != "images")
