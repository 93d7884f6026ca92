"""What patches show, against the world's own drawing, and the loss that tells it apart."""

from dataclasses import replace

import pytest
import torch
import yaml
from line_task import fit, lines
from safetensors.torch import load_file

from core.errors import TTDError
from core.tiny_clip.patch_nouns import NOTHING, noun_maps, patch_loss, patch_nouns
from core.tiny_clip.task import PretrainTask
from core.world.looks import LOOKS

CPU = torch.device("cpu")
needs_muon = pytest.mark.skipif(
    not hasattr(torch.optim, "Muon"), reason="training the tiny model needs torch >= 2.9"
)


def test_maps_show_the_nouns_of_the_training_images(world):
    maps = noun_maps(world, 3)
    assert maps.shape == (3, 96, 96) and maps.dtype == torch.uint8
    nouns = LOOKS["first"].nouns
    for i in range(3):
        sample = LOOKS["first"].make(9, "train", i, 96, 0.0)  # the fixture's seed
        for y, x in ((0, 0), (30, 50), (48, 48), (70, 20), (95, 95)):
            which = int(sample.index[y, x])  # 0 and 1 are scenes
            shown = sample.contents.things[which - 2].noun if which >= 2 else None
            value = int(maps[i, y, x])
            assert (nouns[value - 1] if value else None) == shown


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
    with pytest.raises(TTDError, match="does not say how the world was made"):
        noun_maps(tmp_path, 1)
    with pytest.raises(TTDError, match="41 training images, world.yaml says 40"):
        noun_maps(world, 41)
    made = {"train": 1, "look": "fifth"}
    (tmp_path / "world.yaml").write_text(yaml.safe_dump({"made_with": made}))
    with pytest.raises(TTDError, match="choose one of first"):
        noun_maps(tmp_path, 1)
    (tmp_path / "world.yaml").write_text(yaml.safe_dump({"made_with": {"trian": 1}}))
    with pytest.raises(TTDError, match="unknown setting trian"):
        noun_maps(tmp_path, 1)


@needs_muon
def test_a_tower_learns_the_nouns_of_its_patches(config):
    """The loss falls below that of guessing; what is exported is a model like any other."""
    plain = replace(config, out=config.out + "_plain")
    fit(PretrainTask(plain, CPU))
    told = replace(config, patch_weight=3.0, steps=40, decay_steps=5, lr=1e-2)
    task = PretrainTask(told, CPU)
    batch = task.collate([task.transform(task.source.read(i), 0, _draw(i)) for i in range(8)], 0)
    assert batch.nouns.shape == (8, len(batch.keep) - 1)
    fit(task)
    losses = [line["patches"] for line in lines(told)]
    assert losses[-1] < 0.9 * losses[0]
    a, b = (load_file(c.folder / "open_clip_model.safetensors") for c in (plain, told))
    assert a.keys() == b.keys()


def _draw(seed):
    import numpy as np

    return np.random.default_rng(seed)


def test_the_weight_of_the_patches_cannot_be_negative(config):
    with pytest.raises(TTDError, match="patch_weight -1"):
        replace(config, patch_weight=-1.0)
