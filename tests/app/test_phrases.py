"""Boxes of phrases: in pixels of the picture, and the image is encoded once."""

import pytest
import torch
from PIL import Image
from small_studio import picture

from core.app import studio as module
from core.app.models import Model, Offer
from core.app.phrases import ask_phrases
from core.app.studio import Studio
from core.errors import TTDError
from core.grounding.predict import Grounder


class Corner(Grounder):
    """Finds everything in the lower right quarter."""

    def __init__(self):
        self.seen = []

    def set_image(self, image):
        self.seen.append(image.shape[:2])

    def boxes(self, phrases):
        height, width = self.seen[-1]
        return torch.tensor([[width / 2, height / 2, width - 0.6, height]] * len(phrases))

    def attention(self, phrase):
        return torch.ones(self.seen[-1])


@pytest.fixture
def desk(monkeypatch):
    grounder = Corner()
    monkeypatch.setattr(module, "load_grounder", lambda path, device: grounder)
    return Studio(Offer((Model("one", "one"),), {"corner": "corner.pth"})), grounder


def test_boxes_are_whole_pixels_of_the_picture(desk, tmp_path):
    studio, grounder = desk
    path = picture(tmp_path, size=(48, 64))
    found = ask_phrases(studio, path, "the dog, on the left\na cat", "corner")
    assert found.boxes == {"the dog, on the left": [32, 24, 63, 48], "a cat": [32, 24, 63, 48]}
    assert found.view.ndim == 3 and found.view.shape[1] > 3 * 64  # all boxes, then each phrase
    ask_phrases(studio, path, "again", "corner")
    assert grounder.seen == [(48, 64)] and studio.encoded == 1
    ask_phrases(studio, picture(tmp_path, "b.png", size=(20, 30), at=(2, 2)), "a", "corner")
    assert grounder.seen == [(48, 64), (20, 30)]


def test_a_large_picture_is_drawn_small(desk, tmp_path):
    Image.new("RGB", (1500, 1000)).save(tmp_path / "large.png")
    found = ask_phrases(desk[0], str(tmp_path / "large.png"), "a", "corner")
    assert found.boxes == {"a": [750, 500, 1499, 1000]}
    assert found.view.shape[0] == 427 and found.view.shape[1] == 640 * 2 + 10


def test_a_grounding_model_that_is_not_there(desk, tmp_path):
    with pytest.raises(TTDError, match="no grounding model 'x' here"):
        ask_phrases(desk[0], picture(tmp_path), "a", "x")
