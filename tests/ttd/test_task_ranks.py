"""Words of other captions in a run: drawn by step, exact in parts, new to runs begun before."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from runs import lines
from ttd_runs import fit, task_of

from core.backbones.lora.adapter import read_adapter
from core.data.words import is_stopword, split_words
from core.errors import TTDError
from core.ttd.calibration import Calibration, Choice
from core.ttd.config import DistillConfig


@pytest.mark.parametrize(
    "distill", [DistillConfig(), DistillConfig(selection="calibrated", rank_weight=1.0)]
)
def test_accumulation_changes_nothing_but_rounding(config, distill, monkeypatch):
    config = replace(config, distill=distill)

    def choose(calibration, base, texts, stopwords):
        """Every other word is shown: the small model of these tests tells none apart."""
        shown = texts.valid & (torch.arange(texts.valid.shape[1]) % 2 == 0)
        return Choice(shown, torch.zeros(shown.shape), texts.foreign)

    monkeypatch.setattr(Calibration, "choose", choose)
    for name, parts in (("whole", 1), ("parts", 4)):
        run = replace(config, out=f"{config.out}_{name}", grad_accum_steps=parts)
        fit(run)
        ranked = [line["ranking"] > 0 for line in lines(run) if "ranking" in line]
        assert len(ranked) == config.steps and all(ranked) is bool(distill.rank_weight)
    a, b = (
        read_adapter(f"{config.out}_{name}/small.safetensors")[0] for name in ("whole", "parts")
    )
    assert max(float((a[name] - b[name]).abs().max()) for name in a) < 1e-5


def test_words_from_elsewhere_are_drawn_anew_in_every_step(config):
    """The same for all parts of a step; content words of the captions alone."""
    distill = DistillConfig(selection="calibrated", stopwords=True, rank_weight=1.0, rank_words=2)
    task = task_of(replace(config, distill=distill))
    sample = task.transform(task.source.read(0), 0, np.random.default_rng(0))
    drawn = [task.collate([sample], step).others for step in (0, 0, 1, 2, 3, 4)]
    assert drawn[0] == drawn[1] and len({tuple(sorted(words)) for words in drawn}) > 2
    captions = [task.source.read(i).text for i in range(len(task.source))]
    named = {word.text for caption in captions for word in split_words(caption)}
    assert all(set(words) <= named and not any(map(is_stopword, words)) for words in drawn)
    plain = task_of(replace(config, distill=DistillConfig(selection="calibrated")))
    assert plain.collate([sample], 0).others == []


def test_a_run_begun_before_a_setting_was_there_says_what_it_did(config):
    """It has none of it, and nothing to differ in, until a recipe asks for more."""
    before = replace(config, steps=2, distill=DistillConfig(selection="calibrated"))
    fit(before)
    stored = json.loads((before.folder / "settings.json").read_text(encoding="utf-8"))
    names = {"rank_weight", "rank_words", "ema_share"}
    assert not names & stored["identity"]["distill"].keys()
    ranked = replace(before, distill=replace(before.distill, rank_weight=2.0))
    with pytest.raises(TTDError, match=r"settings \(distill.rank_weight: 0.0, not 2.0\)"):
        fit(ranked)
    assert fit(replace(before, steps=3))[0].step == 3  # more steps alone extend it
