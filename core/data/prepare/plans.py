"""The plan for each set: which release it comes from, and which options it takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ...errors import TTDError
from ...utils.files import expanded, safe_id
from .captions import caption_plan
from .coco_release import objects_plan, stuff_plan
from .releases import ade_plan, cityscapes_plan, context_plan, voc_plan
from .runner import Plan

# Each takes (name, source, root, split, objects).
PLANS: dict[str, Callable[[str, Path, Path, str, str | None], Plan]] = {
    "VOC2012": voc_plan,
    "COCO2014": objects_plan,
    "ADE2016": ade_plan,
    "Cityscapes": cityscapes_plan,
    "COCO-Stuff": stuff_plan,
    "PascalContext": context_plan,
    "CC3M": caption_plan,
    "CC12M": caption_plan,
}
ALIASES = {"VOC20": "VOC2012", "Context59": "PascalContext"}


def make_plan(
    name: str,
    source: Path,
    root: Path,
    *,
    split: str = "val",
    objects: str | None = None,
    to: str | None = None,
) -> Plan:
    """The plan for a set from its release, to ROOT/SET/validation (ROOT/SET/SPLIT otherwise).

    to: another name for that folder. objects: COCO2014 only, from `instances` (json) or `stuff`
    (pixel maps); None takes what is there, json first.
    Raises TTDError for an unknown name and when the release does not look as it should; it says
    what was looked for.
    """
    if name in ALIASES:
        raise TTDError(f"{name} reads the files of {ALIASES[name]}: prepare that")
    if name not in PLANS:
        raise TTDError(
            f"{name}: no converter for it; there are {', '.join(PLANS)}. Your own data needs none: "
            "describe it in a YAML"
        )
    if objects is not None and name != "COCO2014":
        raise TTDError(f"--objects is for COCO2014, not for {name}")
    if to is not None and safe_id(to) != to:
        raise TTDError(f"--to {to[:80]!r}: not a plain name for a folder")
    source = expanded(source)
    if not source.exists() and "{" not in str(source):
        raise TTDError(f"{source}: no such folder; --source is the unpacked release")
    plan = PLANS[name](name, source, expanded(root), split, objects)
    return replace(plan, out=plan.out.with_name(to)) if to else plan
