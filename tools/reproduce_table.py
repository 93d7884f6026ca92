"""Rows of tools/reproduce.py: ours against published, as text, JSON and Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

HEADS = ("", "measure", "ours", "published", "difference")


@dataclass(frozen=True)
class Row:
    """One number. ours, published: None where there is none; difference: of the protocols.

    items: images, captions or phrases that ours is of; digits: decimals of both.
    """

    target: str
    name: str
    measure: str
    ours: float | None
    published: float | None
    difference: str
    items: int | None = None
    digits: int = 1


def rows_of(
    target: str,
    name: str,
    ours: Mapping[str, float | None],
    published: Mapping[str, tuple[float, int]],
    difference: str,
    items: int | None = None,
) -> list[Row]:
    """A row per measure. published: value and decimals by measure; ours may lack some."""
    rows = []
    for measure, (value, digits) in published.items():
        own = ours.get(measure)
        rows.append(Row(target, name, measure, own, value, difference, items, digits))
    return rows


def table(rows: Sequence[Row], limit: int | None = None) -> str:
    """The rows as aligned text, and below them what differs in the protocols, numbered.

    limit: the images that ours were limited to, None: all.
    """
    notes = list(dict.fromkeys(row.difference for row in rows if row.difference))
    cells = [HEADS]
    for row in rows:
        mark = f" [{notes.index(row.difference) + 1}]" if row.difference else ""
        own, theirs = shown(row.ours, row.digits), shown(row.published, row.digits)
        cells.append((f"{row.name}{mark}", row.measure, own, theirs, gap(row)))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for line in cells:
        left = [line[0].ljust(widths[0]), line[1].ljust(widths[1])]
        right = [text.rjust(width) for text, width in zip(line[2:], widths[2:], strict=True)]
        lines.append("  ".join([*left, *right]).rstrip())
    lines += [f"[{number}] {note}" for number, note in enumerate(notes, 1)]
    if limit is not None:
        lines.append(f"Ours are of the first {limit} images of each set: a rehearsal, no result.")
    return "\n".join(lines)


def markdown(rows: Sequence[Row], limit: int | None = None) -> str:
    """The same as a Markdown table, the protocol difference in its last column."""
    heads = [*HEADS, "images, captions or phrases", "difference of the protocols"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in rows:
        own, theirs = shown(row.ours, row.digits), shown(row.published, row.digits)
        items = "" if row.items is None else str(row.items)
        cells = [row.name, row.measure, own, theirs, gap(row), items, row.difference]
        lines.append(f"| {' | '.join(cells)} |")
    if limit is not None:
        lines.append(f"\nOurs are of the first {limit} images of each set: a rehearsal, no result.")
    return "\n".join([*lines, ""])


def as_json(rows: Sequence[Row], limit: int | None) -> dict[str, Any]:
    """Everything about the rows as plain values."""
    return {"limit": limit, "rows": [asdict(row) for row in rows]}


def shown(value: float | None, digits: int) -> str:
    """A number, `-` for none."""
    return "-" if value is None else f"{value:.{digits}f}"


def gap(row: Row) -> str:
    """Ours less published."""
    if row.ours is None or row.published is None:
        return ""
    return f"{row.ours - row.published:+.{row.digits}f}"
