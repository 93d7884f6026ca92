"""What becomes of averaged maps: pruning, thresholds, softmax, CRF and strips, by brute force."""

import numpy as np
import pytest
import torch
from blobs import blobs, resolved
from small_tcl import texts

from core.backbones import load_backbone
from core.maps.sliding import Merged
from core.maps.views import prepare
from core.masks.labels import Labels, decide
from core.masks.merge import merge
from core.masks.protocol import protocol
from core.masks.strips import strips_of


@pytest.fixture(scope="module")
def clip(small_clip):
    """The small CLIP, 32 px, patch 8, D = 24; its own a, b spread the soft masks."""
    return load_backbone(f"local-dir:{small_clip}")


@pytest.mark.parametrize("rule", ["threshold", "none"])
@pytest.mark.parametrize("pamr", [False, True])
def test_pruning_never_changes_a_label(clip, pamr, rule):
    """Many classes, most of them hopeless; label maps with and without pruning are the same."""
    text = torch.cat([texts(12, 24, seed=s) + 2 * s for s in range(3)])
    pruned = 0
    for seed in range(4):
        picture = blobs(41, 57, seed)
        for background_threshold in (0.1, 0.4, 0.6):
            used = resolved(
                clip,
                image=32,
                scales=(1.0, 0.5),
                pamr=pamr,
                rule=rule,
                background_threshold=background_threshold,
            )
            prepared = prepare(picture, used.views)
            merged = merge(clip, prepared, text, used)
            with_pruning, _ = decide(merged, picture, used)
            without, _ = decide(merged, picture, used, prune=False)
            assert (with_pruning == without).all()
            pruned += int((merged.highest <= background_threshold).sum())
    assert pruned > 0


class Fixed(Merged):
    """Maps given directly."""

    def __init__(self, maps):
        self.size, self.maps = tuple(maps.shape[1:]), maps
        self.highest, self.lowest = maps.flatten(1).amax(1), maps.flatten(1).amin(1)

    def at_image_size(self, classes, rows=slice(None)):
        return self.maps[list(classes), rows]


def fixed(maps, **overrides):
    used = protocol("ttd", image=32, **overrides).resolve("X", 16, "threshold", 0.4)
    return decide(Fixed(maps), np.zeros((*maps.shape[1:], 3), np.uint8), used, scores=True)


def test_background_wins_ties_and_the_first_class_among_equals(monkeypatch):
    maps = torch.tensor([[[0.4, 0.5, 0.2, 0.7]], [[0.1, 0.5, 0.39, 0.8]]])
    maps[0, 0, 0] = torch.tensor(0.4)
    for chunk in (2**24, 1):  # all classes at once, one at a time
        monkeypatch.setattr("core.masks.strips.CHUNK_VALUES", chunk)
        index, _ = fixed(maps, background_threshold=float(maps[0, 0, 0]))
        assert index.tolist() == [[-1, 0, -1, 1]]
        assert fixed(maps, rule="none")[0].tolist() == [[0, 0, 1, 1]]
    assert Labels(1, 0).of(index).tolist() == [[0, 1, 0, 2]]
    assert Labels(0, 255).of(index).tolist() == [[255, 0, 255, 1]]


@pytest.mark.parametrize("chunk", [1, 2**24])
def test_softmax_protocols_against_torchs_softmax(monkeypatch, chunk):
    monkeypatch.setattr("core.masks.strips.CHUNK_VALUES", chunk)
    cosines = torch.rand(6, 5, 7, generator=torch.Generator().manual_seed(3)) * 0.1 + 0.2
    used = protocol("naclip").resolve("X", 16, "threshold", 0.3)
    index, scores = decide(Fixed(cosines), np.zeros((5, 7, 3), np.uint8), used, scores=True)
    want = (40 * cosines).softmax(0)
    assert np.abs(scores.maps - want.numpy()).max() < 1e-3
    assert (torch.from_numpy(index) == torch.where(want.amax(0) > 0.3, want.argmax(0), -1)).all()


def test_saved_scores_give_the_labels_of_every_higher_threshold(clip):
    """Maps left out of the scores never exceed the floor."""
    picture, text = blobs(40, 50), texts(20, 24)
    used = resolved(clip, image=32)
    prepared = prepare(picture, used.views)
    merged = merge(clip, prepared, text, used)
    index, scores = decide(merged, picture, used, scores=True)
    everything = merged.at_image_size(range(20))
    left_out = sorted(set(range(20)) - set(scores.classes.tolist()))
    assert (everything[left_out] < 0.01).all() and (index == decide(merged, picture, used)[0]).all()
    assert np.abs(scores.maps - everything[scores.classes.tolist()].numpy()).max() < 1e-3


def test_no_class_at_all_is_background():
    index, scores = fixed(torch.full((3, 4, 5), 0.005))
    assert (index == -1).all() and scores.maps.shape == (0, 4, 5)


def test_crf_lets_the_background_compete(monkeypatch):
    """The CRF sees the threshold as a first, constant map and every class; its marginals decide."""
    seen = {}

    def fake(image, maps):
        seen["maps"] = maps
        return maps.flip(0)

    monkeypatch.setattr("core.refine.crf.dense_crf", fake)
    maps = torch.tensor([[[0.9, 0.1]], [[0.2, 0.3]]])
    index, _ = fixed(maps, crf=True)
    assert torch.equal(seen["maps"], torch.cat([torch.full((1, 1, 2), 0.4), maps]))
    assert index.tolist() == [
        [0, 1]
    ]  # the reversed marginals: background gets .2/.3, class 0 .9/.1, class 1 .4/.4


@pytest.mark.parametrize(("name", "pamr"), [("ttd", True), ("ttd", False), ("naclip", False)])
def test_large_pictures_in_strips_give_the_same(monkeypatch, name, pamr):
    """PAMR reaches 240 pixels; strips with that much around them equal the whole image at once."""
    picture = blobs(700, 20)
    maps = torch.rand(5, 700, 20, generator=torch.Generator().manual_seed(1)) * 0.3 + 0.2
    used = protocol(name, pamr=pamr, image=32).resolve(
        "X", 16, "threshold", 0.35 if name == "ttd" else 0.3
    )
    whole, scores = decide(Fixed(maps), picture, used, scores=True)
    monkeypatch.setattr("core.masks.strips.STRIP_PIXELS", 20 * 600)
    monkeypatch.setattr("core.masks.strips.CHUNK_VALUES", 1)
    assert len(strips_of((700, 20), used)) == (6 if pamr else 2)
    index, of_strips = decide(Fixed(maps), picture, used, scores=True)
    assert (index == whole).all() and len(np.unique(whole)) == 6
    assert (index == decide(Fixed(maps), picture, used)[0]).all()
    assert of_strips.classes.tolist() == scores.classes.tolist() == [0, 1, 2, 3, 4]
    assert np.abs(of_strips.maps.astype(float) - scores.maps).max() < 1e-3
