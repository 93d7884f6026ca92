"""Every constant that a mask depends on, in one frozen object; the protocols of the papers by name.

    protocol("ttd", scales=(1.0, 0.5, 1.5, 2.0), hflip=True, pamr=True)     # what TTD's published commands set

Papers differ in constants that move the numbers by several points, so results of two methods
compare only under one protocol: name it, and print it with every score.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from ..errors import TTDError
from ..utils.config import plain

RULES = ("threshold", "none")
RESIZES = ("antialias", "opencv")


@dataclass(frozen=True)
class MaskProtocol:
    """How an image becomes a label map. None = decided by the model or the data set: see `resolve`.

    image: short side in pixels at scale 1. window: side of the sliding windows (None: `image`). s:
    their stride is window / s. scales, hflip: views that are averaged. resize: `antialias` (ours,
    long side at most 4 x short) or `opencv` (mmsegmentation's: bilinear on 8-bit values, the
    image must fit into 2048 x `image`).
    head: dense head. templates: prompts of class names.
    mapping: `sigmoid`, soft masks sigmoid(a (S - b)) of each view, the model's a and b; or
    `softmax` over the classes of `scale` times the average cosine. pamr, crf: refinement; pamr_at:
    `image` (after merging, at the image's size) or `window` (inside each window, by the
    backbone). kp_weight: share of TCL's knowledge prior.
    rule: `threshold` (below `background_threshold`, --bg, no class) or `none` (the
    best class everywhere).
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
        problem = next((text for wrong, text in _problems(self) if wrong), None)
        if problem:
            raise TTDError(problem)

    @property
    def side(self) -> int:
        """Side of a window in pixels; only for a resolved protocol."""
        return self.window or self.image

    @property
    def step(self) -> int:
        """Stride of the windows in pixels."""
        return max(1, self.side // self.s)

    @property
    def by_window(self) -> bool:
        """Whether `Backbone.masks` must make each window's maps, since it refines or mixes them."""
        return (self.pamr and self.pamr_at == "window") or bool(self.kp_weight)

    def resolve(
        self, arch: str, image_size: int, rule: str, background_threshold: float
    ) -> MaskProtocol:
        """The protocol with nothing left open: for a model of that name and own size, and a set's rule and threshold.

        kp_weight None (protocol tcl) is 0.3 for TCL and 0 for models without a knowledge prior; its
        bg is TCL's 0.4 with PAMR and 0.5 without, for all sets.
        """
        background_threshold = (
            (0.4 if self.pamr else 0.5) if self.name == "tcl" else background_threshold
        )
        return replace(
            self,
            image=self.image or 2 * image_size,
            rule=self.rule or rule,
            background_threshold=background_threshold
            if self.background_threshold is None
            else self.background_threshold,
            kp_weight=(0.3 if arch == "TCL" else 0.0) if self.kp_weight is None else self.kp_weight,
        )

    def as_dict(self) -> dict[str, object]:
        """Plain values for JSON; the background threshold is called as its flag, `bg`."""
        values = plain(self)
        values["bg"] = values.pop("background_threshold")
        return values


def _problems(p: MaskProtocol) -> list[tuple[bool, str]]:
    """(is it wrong, what to say) for every value that can be."""
    return [
        (
            not p.scales or min(p.scales) <= 0,
            f"scales must be positive numbers, got {list(p.scales)}",
        ),
        (
            any(side is not None and side < 1 for side in (p.image, p.window, p.s)),
            f"image {p.image}, window {p.window}, s {p.s}: all must be >= 1",
        ),
        (
            p.rule not in (None, *RULES),
            f"background rule {p.rule!r}: choose one of {', '.join(RULES)}",
        ),
        (
            p.background_threshold is not None and not 0 <= p.background_threshold <= 1,
            f"background threshold {p.background_threshold}: soft masks lie in [0, 1]",
        ),
        (not 0 <= (p.kp_weight or 0) <= 1, f"kp_weight {p.kp_weight}: a share in [0, 1] is due"),
        (p.resize not in RESIZES, f"resize {p.resize!r}: choose one of {', '.join(RESIZES)}"),
        (p.pamr_at not in ("picture", "window"), f"pamr_at {p.pamr_at!r}: choose image or window"),
        (p.pamr and p.crf, "PAMR and CRF both refine the masks: choose one of them"),
        (
            p.mapping == "softmax" and p.crf,
            f"the CRF works on soft masks, protocol {p.name} has none: use PAMR",
        ),
        (
            p.mapping == "softmax" and p.by_window,
            f"protocol {p.name} averages cosines, but PAMR inside windows and the knowledge prior act on soft masks",
        ),
    ]


def _softmax(name: str, image: int, window: int, scale: float, head: str) -> MaskProtocol:
    return MaskProtocol(
        name, image=image, window=window, resize="opencv", head=head, mapping="softmax", scale=scale
    )


PROTOCOLS: Mapping[str, MaskProtocol] = {
    p.name: p
    for p in (
        MaskProtocol("ttd"),
        MaskProtocol(
            "tcl",
            image=448,
            resize="opencv",
            templates="custom",
            pamr=True,
            pamr_at="window",
            kp_weight=None,
        ),
        _softmax("sclip", 336, 224, 40.0, "sclip"),
        _softmax("naclip", 336, 224, 40.0, "naclip"),
        _softmax("clearclip", 448, 448, 50.0, "clearclip"),
    )
}


def protocol(name: str, **overrides: object) -> MaskProtocol:
    """The protocol of that name with every override that is not None. TTDError for an unknown name or a bad value."""
    if name not in PROTOCOLS:
        raise TTDError(f"unknown protocol {name!r}: choose one of {', '.join(PROTOCOLS)}")
    return replace(
        PROTOCOLS[name], **{key: value for key, value in overrides.items() if value is not None}
    )


IN_NAME = {
    "name",
    "image",
    "scales",
    "s",
    "hflip",
    "pamr",
    "templates",
    "background_threshold",
}  # fields with a place of their own
SAFE = str.maketrans(dict.fromkeys('/\\:*?"<>|', "_"))


def folder_name(
    arch: str,
    data: str,
    used: MaskProtocol,
    adapted: bool,
    rule: str,
    extras: Mapping[str, object] | None = None,
) -> str:
    """`ARCH@DATA@TEMPLATES@[scales]@SIZE@s=2[@hflip][@pamr][@TTD]@bg=B`, then `@key=value` for what is unusual.

    used: resolved protocol; rule: the data set's own background rule; extras: further settings,
    None = at default.

    >>> folder_name("TCL", "VOC2012", protocol("ttd", image=448, background_threshold=0.4, pamr=True), True, "threshold")
    'TCL@VOC2012@OpenAI@[1.0]@448@s=2@pamr@TTD@bg=0.40'
    """
    usual = replace(
        PROTOCOLS[used.name].resolve(arch, used.image // 2, rule, used.background_threshold),
        image=used.image,
    )
    own = {} if used.name == "ttd" else {"protocol": used.name}
    own |= {
        f.name: getattr(used, f.name)
        for f in fields(used)
        if f.name not in IN_NAME and getattr(used, f.name) != getattr(usual, f.name)
    }
    own |= {key: value for key, value in (extras or {}).items() if value is not None}
    flags = "@hflip" * used.hflip + "@pamr" * used.pamr + "@TTD" * adapted
    more = "".join(f"@{key}={value}" for key, value in own.items())
    scales = [float(scale) for scale in used.scales]
    name = f"{arch}@{data}@{used.templates}@{scales}@{used.image}@s={used.s}{flags}@bg={used.background_threshold:.2f}{more}"
    return name.translate(SAFE)
