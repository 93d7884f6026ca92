"""What patches show, against the world's own drawing, and the loss that tells it apart."""

import json
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import train_tiny_clip
import yaml
from line_task import fit, lines
from safetensors.torch import load_file

from core.errors import TTDError
from core.tiny_clip.patch_nouns import NOTHING, noun_maps, patch_loss, patch_nouns
from core.tiny_clip.task import PretrainTask
from core.training.distributed import Ranks
from core.training.task import Step
from core.world.looks import LOOKS

CPU = torch.device("cpu")
needs_muon = pytest.mark.skipif(
    not hasattr(torch.optim, "Muon"), reason="training the tiny model needs torch >= 2.9"
)


def captions(world):
    """Of the training images, in order."""
    files = sorted((world / "cc3m/train/json").glob("*.json"))
    return [json.loads(file.read_text())["text"] for file in files]


def test_maps_show_the_nouns_of_the_training_images(world):
    maps, count = noun_maps(world, captions(world), 96)
    assert maps.shape == (40, 96, 96) and maps.dtype == torch.uint8 and count == 26
    nouns = LOOKS["first"].nouns
    for i in range(3):
        sample = LOOKS["first"].make(9, "train", i, 96, 0.0)  # the fixture's seed
        for y, x in ((0, 0), (30, 50), (48, 48), (70, 20), (95, 95)):
            which = int(sample.index[y, x])  # 0 and 1 are scenes
            shown = sample.contents.things[which - 2].noun if which >= 2 else None
            value = int(maps[i, y, x])
            assert (nouns[value - 1] if value else None) == shown


def test_a_run_says_what_it_draws_and_how_far_it_is(config, capsys, monkeypatch):
    """One line and a bar of 40 images where patch_weight asks for them, else nothing."""
    shown = []
    monkeypatch.setattr(
        train_tiny_clip, "reading_bar", lambda what, unit: lambda done: shown.append(done)
    )
    train_tiny_clip.build(config, "cpu", Ranks())
    assert not shown and not capsys.readouterr().out
    train_tiny_clip.build(replace(config, patch_weight=3.0), "cpu", Ranks())
    assert shown == list(range(1, 41))
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and said.startswith(f"{config.world}: drawing the training images")
    other = SimpleNamespace(first=False, together=nullcontext)  # the second of two processes
    train_tiny_clip.build(replace(config, patch_weight=3.0), "cpu", other)
    assert len(shown) == 40 and not capsys.readouterr().out


def test_a_patch_has_the_noun_of_its_middle():
    maps = torch.zeros(1, 12, 12, dtype=torch.uint8)
    maps[0, :, 6:] = 5
    maps[0, 2, 2] = 1  # the middle of the first of 3 x 3 patches of 4
    assert patch_nouns(maps, 3).tolist() == [[0, 4, 4, NOTHING, 4, 4, NOTHING, 4, 4]]
    assert patch_nouns(maps, 2).tolist() == [[NOTHING, 4, NOTHING, 4]]


def test_the_loss_is_of_patches_that_show_a_thing():
    logits = torch.tensor([[[0.0, 0.0], [2.0, 1.0], [5.0, -5.0]]])
    nouns = torch.tensor([[NOTHING, 1, 0]])
    want = (torch.log1p(torch.tensor(1.0).exp()) + torch.log1p(torch.tensor(-10.0).exp())) / 2
    assert patch_loss(logits, nouns).item() == pytest.approx(want.item(), rel=1e-6)
    assert patch_loss(logits, torch.full((1, 3), NOTHING)).item() == 0


def test_a_world_that_does_not_say_how_it_was_made_is_refused(world, tmp_path):
    texts = captions(world)
    with pytest.raises(TTDError, match="does not say how the world was made"):
        noun_maps(tmp_path, texts, 96)
    with pytest.raises(TTDError, match="39 training images of 96 pixels, world.yaml says 40 of 96"):
        noun_maps(world, texts[1:], 96)
    with pytest.raises(TTDError, match="of 64 pixels, world.yaml says 40 of 96"):
        noun_maps(world, texts, 64)
    with pytest.raises(TTDError, match="train_000001 is not what world.yaml says"):
        noun_maps(world, [texts[0], *texts[:-1]], 96)


@pytest.mark.parametrize(
    ("made", "why"),
    [
        ({"look": "fifth"}, "world.yaml: look 'fifth': choose one of first"),
        ({"trian": 1}, "unknown setting trian"),
        ({"seed": -1}, "world.yaml: --train, --val and --seed must be 0 or more"),
        ({"size": 10**8}, "world.yaml: --size 100000000"),
    ],
)
def test_a_world_that_cannot_be_is_refused(tmp_path, made, why):
    (tmp_path / "world.yaml").write_text(yaml.safe_dump({"made_with": made}))
    with pytest.raises(TTDError, match=why):
        noun_maps(tmp_path, ["a boat"], 96)


@needs_muon
def test_a_tower_learns_the_nouns_of_its_patches(config):
    """The loss of the patches falls; what is exported is a model like any other."""
    plain = replace(config, out=config.out + "_plain")
    fit(PretrainTask(plain, CPU))
    told = replace(config, patch_weight=3.0, steps=40, decay_steps=5, lr=1e-2)
    task = PretrainTask(told, CPU)
    fit(task)
    losses = [line["patches"] for line in lines(told)]
    assert losses[-1] < 0.9 * losses[0]
    a, b = (load_file(c.folder / "open_clip_model.safetensors") for c in (plain, told))
    assert a.keys() == b.keys()


@pytest.mark.parametrize("step", [0, 5], ids=["shrunk", "whole"])
def test_labels_lie_where_the_crops_show_their_things(config, step):
    """Images that are white where there is a thing: its patches are, and the others are not."""
    task = PretrainTask(replace(config, patch_weight=1.0, crop=0.5), CPU)
    source = task.source
    source.images = (source.nouns > 0)[:, None].expand(-1, 3, -1, -1).to(torch.uint8) * 255
    draws = [np.random.default_rng(i) for i in range(40)]
    samples = [task.transform(source.read(i), step, draws[i]) for i in range(40)]
    batch = task.collate(samples, step)
    assert (batch.keep is None) == (step == 5)
    patches = batch.images[:, 0].unfold(1, 8, 8).unfold(2, 8, 8).flatten(3).mean(3).flatten(1)
    if batch.keep is not None:
        patches = patches[:, batch.keep[1:] - 1]
    shown = batch.nouns != NOTHING
    assert shown.shape == patches.shape and 0.05 < shown.float().mean() < 0.6
    low, high = batch.images[:, 0].min(), batch.images[:, 0].max()
    white = (patches - low) / (high - low)
    assert white[shown].mean() > 0.75 and white[~shown].mean() < 0.15
    kinds = {int(noun) for noun in batch.nouns[shown]}
    assert kinds <= {int(noun) - 1 for noun in source.nouns.unique() if noun}


def test_the_weight_counts(config):
    """The loss grows with the weight by the loss of the patches."""
    task = PretrainTask(replace(config, patch_weight=1.0), CPU)
    samples = [task.transform(task.source.read(i), 0, np.random.default_rng(i)) for i in range(8)]
    batch, step = task.collate(samples, 0), Step(0, Ranks(), CPU)
    once, values = task.loss(batch, step)
    task.config = replace(task.config, patch_weight=3.0)
    thrice, _ = task.loss(batch, step)
    assert (thrice - once).item() == pytest.approx(2 * float(values["patches"]), rel=1e-4)


def test_the_weight_of_the_patches_cannot_be_negative(config):
    with pytest.raises(TTDError, match="patch_weight -1"):
        replace(config, patch_weight=-1.0)
