"""The options of the two scripts that make masks, and the protocol that they describe."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from core.backbones.own_settings import ModelDefaults
from core.errors import TTDError
from core.masks.protocol import PAMR_AT, PROTOCOLS, RULES, MaskProtocol, protocol
from tools.cli import model_options, positive_float, positive_int, trust_option, worker_count
from tools.exports import export_option


def mask_options(out: str) -> argparse.ArgumentParser:
    """Parent parser with all options of making masks; `out` is where results go by default."""
    parser = argparse.ArgumentParser(add_help=False, parents=[model_options(many_gpus=True)])
    data = parser.add_argument_group("data")
    data.add_argument(
        "--root", default="..", metavar="FOLDER", help="parent folder of the sets (default: ..)"
    )
    data.add_argument("--limit", type=positive_int, metavar="N", help="only the first N images")
    data.add_argument(
        "--out", type=Path, default=Path(out), metavar="FOLDER", help="default: ./%(default)s"
    )
    data.add_argument(
        "--overwrite", action="store_true", help="replace masks made with other settings"
    )
    trust_option(data)
    data.add_argument(
        "--save-scores", action="store_true", help="also keep soft maps, for tools/sweep_bg.py"
    )
    data.add_argument(
        "--rle",
        action="store_true",
        help="also write rle.json, COCO's run-length form of all masks by their names; "
        "--export coco is what other tools import",
    )
    export_option(data)
    data.add_argument(
        "--batch",
        type=positive_int,
        default=8,
        metavar="N",
        help="windows in one forward pass (default: %(default)s)",
    )
    data.add_argument(
        "--workers",
        type=worker_count,
        metavar="N",
        help="processes that share the work (default: one, or one per GPU); torchrun works too",
    )
    protocol_options(
        parser.add_argument_group(
            "protocol (what is left out is the model's default, else the protocol's own)"
        )
    )
    return parser


def protocol_options(group: argparse._ArgumentGroup) -> None:
    """Options whose default is the protocol's own value."""
    group.add_argument(
        "--protocol",
        choices=tuple(PROTOCOLS),
        default="ttd",
        help="constants of a paper (default: ttd)",
    )
    group.add_argument(
        "--image",
        type=positive_int,
        metavar="PIXELS",
        help="short side at scale 1, and the windows' side (ttd: the model's default, "
        "else twice its own size)",
    )
    group.add_argument(
        "--scales", type=positive_float, nargs="+", metavar="S", help="scales that are averaged"
    )
    _mask_rules(group)


def _mask_rules(group: argparse._ArgumentGroup) -> None:
    """Mirroring, refinement, the background, and what is rarely changed."""
    switch = argparse.BooleanOptionalAction
    group.add_argument(
        "--hflip", action=switch, default=None, help="also average with the mirrored windows"
    )
    group.add_argument(
        "--pamr", action=switch, default=None, help="refine along the image's edges (PAMR)"
    )
    group.add_argument(
        "--crf", action="store_true", default=None, help="refine by a dense CRF (needs pydensecrf2)"
    )
    group.add_argument(
        "--bg",
        type=float,
        metavar="T",
        dest="background_threshold",
        help="background threshold (default: the model's, else the set's own)",
    )
    group.add_argument(
        "--bg-rule",
        choices=RULES,
        dest="rule",
        help="whether pixels below --bg belong to no class (default: the set's own)",
    )
    group.add_argument(
        "--templates", metavar="NAME", help="prompts: OpenAI, custom, maskclip, simple, identity"
    )
    group.add_argument(
        "--s", type=positive_int, metavar="N", help="stride of the windows is their side / N"
    )
    group.add_argument(
        "--window", type=positive_int, metavar="PIXELS", help="windows of another side than --image"
    )
    group.add_argument("--pamr-at", choices=PAMR_AT, help="where PAMR acts")
    group.add_argument(
        "--kp-weight", type=float, metavar="W", help="share of TCL's knowledge prior"
    )


def check_for_captions(args: argparse.Namespace) -> None:
    """TTDError for options that compare classes with each other: a caption has none."""
    if args.rule == "none":
        raise TTDError(
            "--bg-rule none: a caption's mask is what lies above --bg, so there is no other rule "
            "here"
        )
    if args.protocol not in ("ttd", "tcl"):
        raise TTDError(
            f"--protocol {args.protocol} compares classes with each other; a caption has none: "
            "use ttd, tcl"
        )


def model_defaults(
    args: argparse.Namespace, own: ModelDefaults, acting: Sequence[str], rule: str
) -> dict[str, Any]:
    """The model's own defaults that act on this run, by the protocol's names.

    None beside a protocol that sets every constant itself, nor where a flag was given. acting: the
    names that the task uses; rule: the set's, without `threshold` there is no threshold.
    """
    if args.protocol != "ttd":
        return {}
    values = {"image": own.image, "templates": own.templates}
    if (args.rule or rule) == "threshold":
        values["background_threshold"] = own.bg
    return {
        name: value
        for name, value in values.items()
        if name in acting and value is not None and getattr(args, name) is None
    }


def make_protocol(args: argparse.Namespace, usual: Mapping[str, Any] | None = None) -> MaskProtocol:
    """The named protocol with the flags that were given. TTDError for values that cannot be.

    usual: what stands where a flag was not given, before the protocol's own value.
    """
    from core.text.prompts import resolve_templates

    names = (
        "image",
        "hflip",
        "pamr",
        "crf",
        "background_threshold",
        "rule",
        "templates",
        "s",
        "window",
        "pamr_at",
        "kp_weight",
        "head",
    )
    values = {name: getattr(args, name) for name in names}
    values["scales"] = tuple(args.scales) if args.scales else None
    given = {name: value for name, value in values.items() if value is not None}
    chosen = protocol(args.protocol, **{**(usual or {}), **given})
    resolve_templates(chosen.templates)
    return chosen
