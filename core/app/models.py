"""Which models the page can offer: those whose files are here, and what the others need."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ..backbones.clip_loading import SHORT_NAMES
from ..backbones.own_settings import own_settings
from ..errors import TTDError
from ..predictor.labelled import THRESHOLD
from ..utils.shipped import own_weights, shipped

ENDINGS = (".safetensors", ".pt", ".pth")  # of adapters
GROUNDERS = ("clip-vg.pth", "tiny-grounder/model.safetensors")
TINY = "knows the small drawn world that ships, and no photographs"


@dataclass(frozen=True)
class Model:
    """A model that can be loaded now.

    name: what the page calls it. arch, weights: as of `load_backbone`. note: what it knows.
    adapters: file by name.
    """

    name: str
    arch: str
    weights: Path | None = None
    note: str = ""
    adapters: dict[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class Offer:
    """Everything a page offers: models, and grounding files by name. missing: a line for each
    model that is not here, with what it needs."""

    models: tuple[Model, ...]
    grounders: dict[str, Path]
    missing: tuple[str, ...] = ()

    def model(self, name: str) -> Model:
        """The model of this name. TTDError that lists them for another one."""
        for model in self.models:
            if model.name == name:
                return model
        names = ", ".join(model.name for model in self.models)
        raise TTDError(f"no model {str(name)[:40]!r} here; choose one of {names}")


def offer(folder: Path | None = None) -> Offer:
    """What is in the folder of weights (by default the project's own) and what is not.

    Nothing is downloaded, and no file is opened.
    """
    place = folder or own_weights()
    drawn, tcl, clip = place / "tiny-TCL.pth", place / "tcl.pth", _clip_file(place)
    known = [
        (Model("tiny", "tiny", note=TINY), [shipped("weights/tiny/open_clip_model.safetensors")]),
        (Model("tiny-TCL", "TCL", drawn, TINY), [drawn]),
        (Model("CLIP", "CLIP", note="OpenAI's ViT-B/16, for photographs"), [clip]),
        (Model("TCL", "TCL", tcl, "for photographs"), [tcl, clip]),
    ]
    models, missing = [], []
    for model, files in known:
        lacking = [file.name for file in files if not file.is_file()]
        if not lacking:
            models.append(_with_adapters(model, place))
        elif not model.name.startswith("tiny"):
            missing.append(f"{model.name}: put {' and '.join(lacking)} into {place.name}/")
    return Offer(tuple(models), _grounders(place), tuple(missing))


def _clip_file(folder: Path) -> Path:
    """OpenAI's ViT-B/16 as far as it is here; where it is missing, where it would be put."""
    ours, cached = folder / "ViT-B-16.pt", Path("~/.cache/clip/ViT-B-16.pt").expanduser()
    return cached if cached.is_file() and not ours.is_file() else ours


def with_given(
    found: Offer, arch: str, weights: Path | None, lora: Path | None, grounder: Path | None
) -> Offer:
    """The offer with what was named on the command line first in every list."""
    models, grounders = list(found.models), dict(found.grounders)
    called = _called(arch)
    name = called if weights is None else f"{called} ({weights.name})"
    known = [model for model in models if model.name == name]
    first = known[0] if known else Model(name, arch, weights)
    models = [first, *(model for model in models if model.name != name)]
    if lora is not None:
        adapters = {_stem(lora): lora, **first.adapters}
        models[0] = Model(first.name, first.arch, first.weights, first.note, adapters)
    if grounder is not None:
        grounders = {_stem(grounder): grounder, **grounders}
    return Offer(tuple(models), grounders, found.missing)


def _called(arch: str) -> str:
    """A model as visitors see it: of local-dir:/FOLDER or MODEL:/FILE not where that is."""
    family, _, place = arch.partition(":")
    hidden = "/" in place and not arch.startswith("hf-hub:")
    return f"{family}:{Path(place).name}" if hidden else arch


def own_threshold(model: Model) -> float:
    """The background threshold that suits a model, from 0 to 1; no model is loaded for it."""
    own = own_settings(SHORT_NAMES.get(model.arch, model.arch)).defaults.bg
    return THRESHOLD if own is None else own


def _with_adapters(model: Model, folder: Path) -> Model:
    """A model with the adapters beside it: NAME+TTD.safetensors, NAME+ANYTHING.pt."""
    files = sorted(folder.glob(f"{model.name}+*"))
    adapters = {_stem(file): file for file in files if file.suffix in ENDINGS and file.is_file()}
    return Model(model.name, model.arch, model.weights, model.note, adapters)


def _grounders(folder: Path) -> dict[str, Path]:
    """Grounding files by name."""
    files = [path for name in GROUNDERS if (path := folder / name).is_file()]
    return {_grounder_name(path): path for path in files}


def _grounder_name(path: Path) -> str:
    """Of a folder where the file is only called model."""
    return path.parent.name if path.stem == "model" else path.stem


def _stem(path: Path) -> str:
    """A file's name without a known ending; names such as ViT-B-16+TTD keep their dots."""
    return path.name.removesuffix(path.suffix) if path.suffix in ENDINGS else path.name
