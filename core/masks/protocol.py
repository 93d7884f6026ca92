"""Every constant that a mask depends on, in one frozen object; the papers' protocols by name.

    protocol("ttd", scales=(1.0, 0.5, 1.5, 2.0), hflip=True, pamr=True)     # TTD as published

Papers differ in constants that move the numbers by several points, so results of two methods
compare only under one protocol: name it, and print it with every score.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

from ..errors import TTDError
from ..maps.views import Views, Windows
from ..utils.config import plain
from ..utils.files import safe_name

RULES = ("threshold", "none")
PAMR_AT = ("picture", "window")

Value = TypeVar("Value")


@dataclass(frozen=True)
class MaskProtocol:
    """How an image becomes a label map. None = decided by the model or the data set: see `resolve`.

    image: short side in pixels at scale 1. window: side of the sliding windows (None: `image`). s:
    their stride is window / s. scales, hflip: views that are averaged. resize: `antialias` (ours)
    or `opencv` (mmsegmentation's), see `core.maps.resize`.
    head: dense head. templates: prompts of class names.
    mapping: `sigmoid`, soft masks sigmoid(a (S - b)) of each view, the model's a and b; or
    `softmax` over the classes of `scale` times the average cosine. pamr, crf: refinement; pamr_at:
    `picture` (after merging, at the image's size) or `window` (inside each window, by the
    backbone). kp_weight: share of TCL's knowledge prior.
    rule: `threshold` (below `background_threshold`, --bg, no class) or `none` (the best class
    everywhere).
    Raises TTDError for values that cannot be.
    """

    name: str = "ttd"
    image: int | None = None
    window: int | None = None
    s: int = 2
    scales: tuple[float, ...] = (1.0,)
    hflip: bool = False
    resize: str = "antialias"
    head: str | None = None
    templates: str = "OpenAI"
    mapping: str = "sigmoid"
    scale: float | None = None
    pamr: bool = False
    crf: bool = False
    pamr_at: str = "picture"
    kp_weight: float | None = 0.0
    rule: str | None = None
    background_threshold: float | None = None

    def __post_init__(self) -> None:
        if self.s < 1:
            raise TTDError(f"s {self.s}: the stride of the windows is their side / s, s >= 1")
        size = 1 if self.image is None else self.image
        side = size if self.window is None else self.window
        Views(size, self.scales, self.hflip, Windows(side, 1), self.resize)  # its checks
        for problem in _problems(self):
            raise TTDError(problem)

    @property
    def side(self) -> int:
        """Side of a window in pixels; only of a resolved protocol."""
        return self.window or known(self.image)

    @property
    def step(self) -> int:
        """Stride of the windows in pixels; only of a resolved protocol."""
        return max(1, self.side // self.s)

    @property
    def views(self) -> Views:
        """What is looked at of an image; only of a resolved protocol."""
        windows = Windows(self.side, self.step)
        return Views(known(self.image), self.scales, self.hflip, windows, self.resize)

    @property
    def by_window(self) -> bool:
        """Whether `Backbone.masks` must make each window's maps: it refines or mixes them."""
        return (self.pamr and self.pamr_at == "window") or bool(self.kp_weight)

    @property
    def by_image(self) -> bool:
        """Whether PAMR acts on the merged maps."""
        return self.pamr and self.pamr_at == "picture"

    def resolve(
        self, arch: str, image_size: int, rule: str, background_threshold: float
    ) -> MaskProtocol:
        """The protocol with nothing left open.

        For a model of that name and own size in pixels, and a set's rule and threshold. kp_weight
        None (protocol tcl) is 0.3 for TCL and 0 for models without a knowledge prior; its bg is
        TCL's 0.4 with PAMR and 0.5 without, for all sets.
        """
        cut, share = self.background_threshold, self.kp_weight
        if cut is None:
            cut = background_threshold
            if self.name == "tcl":
                cut = 0.4 if self.pamr else 0.5
        if share is None:
            share = 0.3 if arch == "TCL" else 0.0
        return replace(
            self,
            image=self.image or 2 * image_size,
            rule=self.rule or rule,
            background_threshold=cut,
            kp_weight=share,
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; the background threshold is called as its flag, `bg`."""
        values = plain(self)
        values["bg"] = values.pop("background_threshold")
        return values


def known(value: Value | None) -> Value:
    """A value that `MaskProtocol.resolve` has set. TTDError when the protocol is not resolved."""
    if value is None:
        raise TTDError("this mask protocol is not resolved: call its resolve(...) first")
    return value


def _problems(p: MaskProtocol) -> Iterator[str]:
    """What is wrong with a protocol beside its views, a sentence each."""
    if p.rule not in (None, *RULES):
        yield f"background rule {p.rule!r}: choose one of {', '.join(RULES)}"
    if p.background_threshold is not None and not 0 <= p.background_threshold <= 1:
        yield f"background threshold {p.background_threshold}: soft masks lie in [0, 1]"
    if p.kp_weight is not None and not 0 <= p.kp_weight <= 1:
        yield f"kp_weight {p.kp_weight}: must be a share in [0, 1]"
    if p.pamr_at not in PAMR_AT:
        yield f"pamr_at {p.pamr_at!r}: choose one of {', '.join(PAMR_AT)}"
    if p.pamr and p.crf:
        yield "PAMR and CRF both refine the masks: choose one of them"
    if p.mapping == "softmax" and p.crf:
        yield f"the CRF works on soft masks, protocol {p.name} has none: use PAMR"
    if p.mapping == "softmax" and p.by_window:
        yield (
            f"protocol {p.name} averages cosines, but PAMR inside windows and the knowledge prior "
            "act on soft masks"
        )


def _softmax(name: str, image: int, window: int, scale: float) -> MaskProtocol:
    """A protocol of a dense head of its own name, by softmax at that temperature."""
    return MaskProtocol(
        name, image=image, window=window, resize="opencv", head=name, mapping="softmax", scale=scale
    )


_TCL = MaskProtocol(
    "tcl",
    image=448,
    resize="opencv",
    templates="custom",
    pamr=True,
    pamr_at="window",
    kp_weight=None,
)
_ALL = (
    MaskProtocol("ttd"),
    _TCL,
    _softmax("sclip", 336, 224, 40.0),
    _softmax("naclip", 336, 224, 40.0),
    _softmax("clearclip", 448, 448, 50.0),
)
PROTOCOLS: Mapping[str, MaskProtocol] = {p.name: p for p in _ALL}


def protocol(name: str, **overrides: Any) -> MaskProtocol:
    """The protocol of that name with every override that is not None.

    TTDError for an unknown name or a value that cannot be.
    """
    if name not in PROTOCOLS:
        raise TTDError(f"unknown protocol {name!r}: choose one of {', '.join(PROTOCOLS)}")
    given = {key: value for key, value in overrides.items() if value is not None}
    return replace(PROTOCOLS[name], **given)


# Fields with a place of their own in a folder's name.
IN_NAME = {"name", "image", "scales", "s", "hflip", "pamr", "templates", "background_threshold"}


def folder_name(
    arch: str,
    data: str,
    used: MaskProtocol,
    adapted: bool,
    rule: str,
    extras: Mapping[str, Any] | None = None,
) -> str:
    """The published form of a result's name, then `@key=value` for what is unusual.

    `ARCH@DATA@TEMPLATES@[scales]@SIZE@s=2[@hflip][@pamr][@TTD]@bg=B`. used: resolved protocol;
    rule: the data set's own background rule; extras: further settings, None = at default.

    >>> used = protocol("ttd", image=448, background_threshold=0.4, pamr=True)
    >>> folder_name("TCL", "VOC2012", used, True, "threshold")
    'TCL@VOC2012@OpenAI@[1.0]@448@s=2@pamr@TTD@bg=0.40'
    """
    flags = "@hflip" * used.hflip + "@pamr" * used.pamr + "@TTD" * adapted
    own = _unusual(arch, used, rule)
    own |= {key: value for key, value in (extras or {}).items() if value is not None}
    more = "".join(f"@{key}={value}" for key, value in own.items())
    scales = [float(scale) for scale in used.scales]
    return safe_name(
        f"{arch}@{data}@{used.templates}@{scales}@{used.image}@s={used.s}{flags}"
        f"@bg={used.background_threshold:.2f}{more}"
    )


def _unusual(arch: str, used: MaskProtocol, rule: str) -> dict[str, Any]:
    """What distinguishes a resolved protocol from the one of its name, and a name not `ttd`."""
    cut = known(used.background_threshold)
    usual = PROTOCOLS[used.name].resolve(arch, 1, rule, cut)
    usual = replace(usual, image=used.image)
    own: dict[str, Any] = {} if used.name == "ttd" else {"protocol": used.name}
    for field in fields(used):
        value = getattr(used, field.name)
        if field.name not in IN_NAME and value != getattr(usual, field.name):
            own[field.name] = value
    return own
