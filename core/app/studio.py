"""Pictures of several people and the models that are asked about them: one question at a time.

A picture is encoded once per model and adapter, and remembered while there is room; the oldest
pictures and models make room for new ones.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from ..backbones import load_backbone
from ..backbones.base import Backbone
from ..data.images import decode_image
from ..errors import TTDError
from ..grounding.predict import Grounder, load_grounder
from ..plots.heat import resized
from ..predictor import Predictor
from ..utils.files import regular_bytes
from ..utils.memory import memory_errors
from .limits import MEGABYTE, Limits
from .models import Offer
from .pictures import MANY, SHOWN, Picture, fitted_size, jpeg_uri

if TYPE_CHECKING:
    import torch

GROUNDER = "grounder"  # first part of the key of a grounding model
NO_MEMORY = "not enough memory for this picture; try a smaller one"


class NotLoadedError(TTDError):
    """A model that cannot be loaded, said without any file's place; `reason` names them.

    Visitors of a page see the first, whoever runs it both.
    """

    def __init__(self, name: str, reason: str) -> None:
        """name: what the page calls it; reason: the line of whoever tried to load it."""
        super().__init__(f"{name} cannot be loaded; whoever runs the page sees why in its terminal")
        self.reason = reason


@dataclass(frozen=True)
class Looks:
    """How every picture is looked at, as of `Predictor`, and where models compute."""

    image: int | None = None
    scales: tuple[float, ...] = (1.0,)
    hflip: bool = False
    device: str | torch.device | None = None
    dtype: str | None = None
    head: str | None = None


class Studio:
    """Models, and the pictures they were asked about. Safe to use from several threads."""

    def __init__(
        self, offer: Offer, looks: Looks | None = None, limits: Limits | None = None
    ) -> None:
        """offer: what can be chosen. Nothing is loaded before it is asked."""
        self.offer, self.looks, self.limits = offer, looks or Looks(), limits or Limits()
        self.encoded = 0  # forward passes of image towers, since the start
        self._lock = Lock()
        self._pictures: OrderedDict[str, Picture] = OrderedDict()
        self._models: OrderedDict[tuple[str, str], Backbone | Grounder] = OrderedDict()
        self._grounded = ("", "")  # which grounder holds which picture

    @contextmanager
    def picture(self, path: str | Path | None, name: str = "") -> Iterator[Picture]:
        """A picture, alone with the models until the block ends: questions wait for each other.

        path: its file; name: what errors call it. TTDError: no picture, or not one that can be
        read, and where memory runs out.
        """
        if not path:
            raise TTDError("no picture yet: drop one, or choose an example")
        with self._lock, memory_errors(NO_MEMORY):
            picture = self._read(Path(path), name or Path(path).name)
            try:
                yield picture
            finally:
                self._make_room()

    def predictor(
        self, picture: Picture, model: str, adapter: str = "", pamr: bool = False
    ) -> Predictor:
        """A model with an adapter (or none, ""), which has seen the picture; inside of `picture`.

        TTDError: no such model or adapter, or a file that cannot be loaded.
        """
        key = (model, adapter)
        predictor = picture.predictors.get(key)
        if predictor is None:
            looks = self.looks
            predictor = Predictor(
                self._backbone(*key), looks.image, looks.scales, looks.hflip, pictures=MANY
            )
            predictor.set_image(picture.pixels)
            self.encoded += 1
            picture.predictors[key] = predictor
        # The encoding is the same with and without refinement, which acts on answers alone.
        predictor.refine = "pamr" if pamr else None
        return predictor

    def grounder(self, picture: Picture, name: str) -> Grounder:
        """A grounding model that has seen the picture; inside of `picture`. TTDError as above."""
        if name not in self.offer.grounders:
            raise TTDError(f"no grounding model {str(name)[:40]!r} here")
        grounder = self._loaded((GROUNDER, name))
        assert isinstance(grounder, Grounder)
        if self._grounded != (name, picture.digest):
            self._grounded = ("", "")
            grounder.set_image(picture.pixels)
            self.encoded += 1
            self._grounded = (name, picture.digest)
        return grounder

    @property
    def held(self) -> int:
        """Bytes of all pictures with what is known of them."""
        return sum(picture.held for picture in self._pictures.values())

    def _read(self, path: Path, name: str) -> Picture:
        """The picture of a file, which may be known already."""
        data = _bytes_of(path, name, self.limits.upload)
        digest = hashlib.sha256(data).hexdigest()
        if digest not in self._pictures:
            self._pictures[digest] = self._decoded(data, digest, name)
        self._pictures.move_to_end(digest)
        picture = self._pictures[digest]
        picture.name = name  # of equal files, the one that is asked about
        return picture

    def _decoded(self, data: bytes, digest: str, name: str) -> Picture:
        """A picture from the bytes of its file, reduced to the side that is allowed."""
        pixels = decode_image(data, name)
        size = (pixels.shape[0], pixels.shape[1])
        pixels = resized(pixels, fitted_size(pixels, self.limits.side))
        shown = jpeg_uri(resized(pixels, fitted_size(pixels, SHOWN)))
        reduced = size if pixels.shape[:2] != size else None
        return Picture(name, digest, pixels, shown, reduced)

    def _backbone(self, model: str, adapter: str) -> Backbone:
        """A model with its adapter, loaded where it is not yet."""
        chosen = self.offer.model(model)
        if adapter and adapter not in chosen.adapters:
            raise TTDError(f"no adapter {str(adapter)[:40]!r} for {model} here")
        backbone = self._loaded((model, adapter))
        assert isinstance(backbone, Backbone)
        return backbone

    def _loaded(self, key: tuple[str, str]) -> Backbone | Grounder:
        """What stands for a key of `_models`; the one that was not asked for longest makes room.

        NotLoadedError: its files cannot be used.
        """
        if key not in self._models:
            while len(self._models) >= self.limits.models:
                self._forget(self._models.popitem(last=False)[0])
            try:
                self._models[key] = self._load(*key)
            except TTDError as error:
                name = key[1] if key[0] == GROUNDER else " with ".join(filter(None, key))
                raise NotLoadedError(name, str(error)) from None
        self._models.move_to_end(key)
        return self._models[key]

    def _load(self, name: str, more: str) -> Backbone | Grounder:
        """A model with an adapter, or a grounding model."""
        device = self.looks.device
        if name == GROUNDER:
            return load_grounder(self.offer.grounders[more], device=device)
        model = self.offer.model(name)
        looks: dict[str, Any] = {
            "device": device,
            "dtype": self.looks.dtype,
            "head": self.looks.head,
        }
        lora = model.adapters[more] if more else None
        return load_backbone(model.arch, weights=model.weights, lora=lora, **looks)

    def _forget(self, key: tuple[str, str]) -> None:
        """Let go of what holds a model."""
        self._grounded = ("", "")
        for picture in self._pictures.values():
            picture.predictors.pop(key, None)

    def _make_room(self) -> None:
        """Let go of the oldest pictures until the rest fits."""
        while self._pictures and self.held > self.limits.memory:
            self._pictures.popitem(last=False)


def _bytes_of(path: Path, name: str, most: int) -> bytes:
    """The bytes of a picture's file. TTDError naming it as its owner does, without its folder."""
    try:
        size = path.stat().st_size
    except OSError:
        size = 0  # what is wrong is said below
    if size > most:
        raise TTDError(f"{name}: larger than {most // MEGABYTE} MB; make the picture smaller first")
    try:
        return regular_bytes(path, most)
    except TTDError as error:
        raise TTDError(str(error).replace(str(path), name)) from None
