"""What the scripts that make masks and boxes share: --export, and what is said about it."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from core.export import FORMATS
from tools.cli import say


def export_option(group: argparse._ActionsContainer) -> None:
    """--export."""
    group.add_argument(
        "--export",
        nargs="+",
        choices=FORMATS,
        default=[],
        metavar="FORMAT",
        help=f"also write the result for other tools: {', '.join(FORMATS)} (docs/exports.md)",
    )


def export_result(
    path: Path,
    forms: Sequence[str],
    images: Path | None = None,
    out: Path | None = None,
    url: str | None = None,
) -> int:
    """Write a result in other tools' formats; how many images had to be left out of them.

    out: the folder, by default the one in the result or beside it. TTDError: see `open_source` and
    `export`.
    """
    if not forms:
        return 0
    from core.export.formats import default_out, export, open_source

    source, left = open_source(path, images), 0
    problems: dict[str, None] = {}
    options = {} if url is None else {"url": url}
    for form in forms:
        place = default_out(path, form)
        if out is not None:
            place = out / form if len(forms) > 1 else out
        done = export(form, source, place, **options)
        print(f"{form}: {done.images} images: {done.folder}")
        left = max(left, len(done.problems))
        problems |= dict.fromkeys(done.problems)
    for line in problems:
        say(f"left out: {line}")
    if source.lacking:
        say(f"{source.lacking} images are not found; see --images")
    return left + source.lacking
