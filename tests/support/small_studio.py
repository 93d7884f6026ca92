"""A studio whose models are colours, and pictures for it."""

from pathlib import Path

from colour_backbone import ColourBackbone, planted
from PIL import Image

from core.app.models import Model, Offer
from core.app.studio import Studio


class Colours(ColourBackbone):
    """Words that are no colour point to padding, which none of the pictures has."""

    own = None
    arch, logit_scale = "colours", 100.0

    def encode_text(self, texts):
        import torch

        self.calls["text"] += len(texts)
        rows = [self.words.get(text.lower(), self.words["padding"]) for text in texts]
        return torch.tensor(rows, dtype=torch.float32)


def studio(monkeypatch, **limits):
    """A studio with the models one (an adapter: one+more) and two, and what was loaded so far."""
    from core.app import studio as module
    from core.app.limits import Limits

    loaded = []

    def load(arch, weights=None, lora=None, **options):
        loaded.append((arch, lora and lora.name))
        return Colours()

    monkeypatch.setattr(module, "load_backbone", load)
    monkeypatch.setattr(module, "Backbone", Colours)
    models = (Model("one", "one", adapters={"one+more": Path("one+more.pt")}), Model("two", "two"))
    return Studio(Offer(models, {}), limits=Limits(**limits)), loaded


def picture(folder, name="a.png", size=(48, 64), at=(8, 16), colour=(255, 0, 0)):
    """The path of a blue picture with a square of a colour, 16 pixels wide, at (y, x)."""
    path = folder / name
    Image.fromarray(planted(*size, *at, side=16, colour=colour)).save(path)
    return str(path)
