"""Both evaluators of masks: a perfect result of the world, and a light --help."""

import subprocess
import sys

import numpy as np
import pytest
from paths import ROOT
from small_predictions import save

import evaluate_segmentation
import evaluate_segmentation_for_text
from core.data.labels.datasets import open_caption_set, open_dataset
from core.metrics.segmentation import foreground_counts


def test_world_by_name(tmp_path, capsys):
    from core.world.writer import WorldConfig, make_world

    make_world(tmp_path / "world", WorldConfig(train=0, val=6, seed=1, size=64))
    data, texts = open_dataset("World", tmp_path), open_caption_set("World", tmp_path)
    folder, caption_folder = (
        tmp_path / "tiny@World@OpenAI@x",
        tmp_path / "c" / "tiny@World@OpenAI@x",
    )
    folder.mkdir()
    for item in data.items():
        (folder / item.mask.name).write_bytes(item.mask.read_bytes())
    for record in texts.records.iterate():
        save(caption_folder / f"{record.id}.png", texts.truth_mask(record).astype(np.uint8) * 255)
    assert evaluate_segmentation.main(["--pred", str(folder), "--root", str(tmp_path)]) == 0
    assert (
        evaluate_segmentation_for_text.main(
            ["--pred", str(caption_folder), "--root", str(tmp_path)]
        )
        == 0
    )
    assert capsys.readouterr().out.count("IoU: 100.0%, mFPR: 0.000, mFNR: 0.000") == 2
    counts = foreground_counts(texts.truth_mask(record), texts.truth_mask(record))
    assert counts[1] == counts[2] == 0


@pytest.mark.parametrize(
    "script",
    ["evaluate_segmentation.py", "evaluate_segmentation_for_text.py", "tools/prepare_dataset.py"],
)
def test_help_imports_nothing_heavy(script):
    path = ROOT / script
    code = f"""import runpy, sys
sys.argv, sys.path[:0] = ['x', '--help'], [{str(path.parent)!r}]
try:
    runpy.run_path({str(path)!r}, run_name='__main__')
except SystemExit:
    pass
bad = {{'numpy', 'torch', 'PIL', 'yaml', 'tqdm'}} & set(sys.modules)
assert not bad, bad"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and "--" in done.stdout, done.stderr
