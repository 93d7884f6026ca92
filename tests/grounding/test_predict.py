"""Asking a model: one image and many phrases, many images, batches and single ones agree."""

import numpy as np
import pytest
import torch
from PIL import Image
from small_grounding import write_backbone, write_phrases

from core.backbones import load_backbone
from core.data.grounding import read_phrases
from core.data.grounding_view import view
from core.errors import TTDError
from core.grounding.locate import locate_phrases, locate_sharded, scores_of
from core.grounding.model import GroundingModel, model_config
from core.grounding.predict import Grounder
from core.training.distributed import Ranks


@pytest.fixture(scope="module", params=["class token", "tiny"])
def grounder(request, tmp_path_factory):
    name = "tiny" if request.param == "tiny" else write_backbone(tmp_path_factory.mktemp("clip"))
    backbone = load_backbone(name, device="cpu")
    torch.manual_seed(0)
    config = model_config(backbone, heads=4, layers=2, feedforward=64, hidden=64)
    model = GroundingModel(backbone, config)
    with torch.no_grad():
        model.bbox_embed.layers[2].weight.mul_(8)  # boxes that differ
    return Grounder(model)


@pytest.fixture(scope="module")
def phrases(tmp_path_factory):
    return read_phrases(write_phrases(tmp_path_factory.mktemp("phrases"), 12)).phrases


def alone(grounder, image, text):
    """One image and one phrase through the model's own forward."""
    seen = view(image, grounder.model.config.image_size)
    tokens = grounder.model.backbone.tokenize([text.lower()])
    with torch.no_grad():
        box = grounder.model(seen.image[None], seen.ignored[None], tokens)
    return seen.placement.to_pixels(box)[0]


def test_boxes_of_many_phrases(grounder, phrases):
    image = np.array(Image.open(phrases[0].image))
    texts = ["red", "The green square on the left", "a blue thing", "red"]
    grounder.set_image(phrases[0].image)
    got = grounder.boxes(texts)
    assert got.shape == (4, 4) and torch.equal(got[0], got[3])
    for text, box in zip(texts, got, strict=True):
        assert torch.allclose(box, alone(grounder, image, text), atol=1e-3)
    assert (got[:, 2] >= got[:, 0]).all() and (got >= 0).all()
    assert (got[:, [0, 2]] <= 60).all() and (got[:, [1, 3]] <= 40).all()
    for same in (image, Image.open(phrases[0].image)):
        grounder.set_image(same)
        assert torch.allclose(grounder.boxes(texts), got)
    assert grounder.boxes([]).shape == (0, 4)


@pytest.mark.parametrize("batch", [1, 4, 64])
def test_lists_in_any_batches(grounder, phrases, batch):
    found = {item.number: item for item in locate_phrases(grounder, phrases, batch)}
    for number, phrase in enumerate(phrases):
        want = alone(grounder, np.array(Image.open(phrase.image)), phrase.text)
        assert torch.allclose(torch.tensor(found[number].box, dtype=want.dtype), want, atol=1e-3)
        assert found[number].phrase is phrase
        left, top, right, bottom = phrase.box
        assert found[number].share == pytest.approx((right - left) * (bottom - top) / 2400)


class Shard(Ranks):
    """A process that finds its own part alone, and hears of the others' by `parts`."""

    def gather_objects(self, value):
        self.parts.append(value)
        return self.parts if len(self.parts) == self.world else [value, *[[]] * (self.world - 1)]


def test_shards_make_up_the_whole(grounder, phrases):
    whole = locate_sharded(grounder, phrases, Ranks(), 4)
    parts = []
    for rank in range(3):
        shard = Shard(rank, 3)
        object.__setattr__(shard, "parts", parts)
        together = locate_sharded(grounder, phrases, shard, 4)
    assert [item.number for item in together] == list(range(len(phrases)))
    for ours, theirs in zip(whole, together, strict=True):
        assert ours.phrase is theirs.phrase
        assert ours.iou == pytest.approx(theirs.iou, abs=1e-5)
    assert scores_of(whole)["miou"] == pytest.approx(scores_of(together)["miou"], abs=1e-5)


def test_iou_is_that_of_the_pixels(grounder, phrases):
    """On the canvas or on the image: the scale is the same along both axes."""
    from core.metrics.boxes import box_iou

    for item in locate_phrases(grounder, phrases):
        inside = np.array([item.box]), np.array([item.phrase.box], np.float64)
        canvas_cut = box_iou(*inside)[0]  # cut to the image, where the canvas's is cut to itself
        assert item.iou <= canvas_cut + 1e-4


def test_attention_is_where_the_model_looks(grounder, phrases):
    grounder.set_image(phrases[0].image)
    seen = grounder.attention("the red square")
    assert seen.shape == (40, 60) and seen.max() == 1.0 and seen.min() >= 0
    assert seen.std() > 0
    assert not torch.equal(seen, grounder.attention("blue"))


def test_wrong_calls(grounder):
    fresh = Grounder(grounder.model)
    with pytest.raises(TTDError, match="set_image"):
        fresh.boxes(["dog"])
    fresh.set_image(np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(TTDError, match="empty phrase"):
        fresh.boxes(["dog", " "])
    for wrong in (np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3)), "no-such-file.jpg"):
        with pytest.raises(TTDError):
            fresh.set_image(wrong)
