"""The tables and files of evaluate_grounding.py."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools.evaluation import save_picture, write

if TYPE_CHECKING:
    from core.grounding.locate import Located
    from core.report.boxes import BoxResult

Key = tuple[str, str]  # (set, split), or ("", file) for a list of one's own
Found = Mapping[Key, "list[Located]"]
Rows = dict[str, dict[Key, float]]  # Acc@0.5 in percent, by name and list
SHOWN = ("acc@0.5", "acc@0.25", "acc@0.75", "acc@0.9", "mean_acc", "miou")


def table_of(
    keys: Sequence[Key], models: Mapping[str, Mapping[Key, Mapping[str, float]]], others: Rows
) -> list[list[str]]:
    """Rows of text: measures of every model, then Acc@0.5 of others, a column per list.

    models: measures by name and list; one model's rows do not name it.
    """
    table = [["percent", *(title(key) for key in keys)]]
    names = list(SHOWN)
    every = [values for scores in models.values() for values in scores.values()]
    if any("clean_acc@0.5" in values for values in every):
        names.append("clean_acc@0.5")
    for name in names:
        for model, scores in models.items():
            values = [scores[key].get(name) for key in keys]
            label = f"{name}, {model}" if len(models) > 1 else name
            table.append([label, *("" if v is None else f"{100 * v:.2f}" for v in values)])
    for name, row in others.items():
        if any(key in row for key in keys):
            table.append([name, *(f"{row[key]:.2f}" if key in row else "" for key in keys)])
    return table


def text_of(table: Sequence[Sequence[str]]) -> str:
    """The rows with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for row in table:
        cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join([row[0].ljust(widths[0]), *cells]))
    return "\n".join(lines)


def csv_of(table: Sequence[Sequence[str]]) -> str:
    """The rows as CSV: a model's name may hold a comma."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(table)
    return buffer.getvalue()


def title(key: Key) -> str:
    """What a list is called: "unc val", or the file's name."""
    return f"{key[0]} {key[1]}" if key[0] else Path(key[1]).stem


def named(others: Rows) -> dict[str, dict[str, float]]:
    """The same with titles for keys, as JSON can hold them."""
    rows: dict[str, dict[str, float]] = {}
    for name, row in others.items():
        rows[name] = {title(key): value for key, value in row.items()}
    return rows


def write_predictions(folder: Path, found: Found) -> None:
    """FOLDER/LIST.jsonl, a line per phrase, and FOLDER/LIST.coco.json, boxes as x, y, w, h."""
    from core.utils.files import write_errors

    with write_errors(folder, "choose another --pred"):
        folder.mkdir(parents=True, exist_ok=True)
    for key, items in found.items():
        lines, coco = [], []
        for item in items:
            box = [round(value, 2) for value in item.box]
            row: dict[str, Any] = {"id": item.phrase.id, "image": item.phrase.name}
            row |= {"text": item.phrase.text, "box": box, "iou": round(item.iou, 5)}
            lines.append(json.dumps(row, ensure_ascii=False))
            wide = [box[0], box[1], round(box[2] - box[0], 2), round(box[3] - box[1], 2)]
            coco.append(
                {"image_id": item.phrase.name, "category_id": 1, "bbox": wide, "score": 1.0}
            )
        name = title(key).replace(" ", "_")
        write(folder / f"{name}.jsonl", "\n".join(lines) + "\n")
        write(folder / f"{name}.coco.json", json.dumps(coco) + "\n")


def box_result(tag: str, found: Found, file: str) -> BoxResult:
    """The boxes of all lists as a report takes them. file: of the model."""
    from core.data.images import read_image
    from core.report.boxes import BoxResult as Result
    from core.report.boxes import Found as One

    entries = []
    for item in chain.from_iterable(found.values()):
        phrase, path = item.phrase, item.phrase.image
        read = partial(read_image, path)
        box, truth = tuple(item.box), tuple(phrase.box)
        iou = min(1.0, float(item.iou))
        entries.append(One(str(path), phrase.text, box, truth, iou, float(item.share), read))
    return Result(tag, entries, {"grounder": file})


def draw(path: Path, items: Sequence[Located]) -> None:
    """The 8 best and the 8 worst boxes, true in green, found in red."""
    from core.data.images import read_image
    from core.plots.boxes import draw_gallery

    ranked = sorted(items, key=lambda item: -item.iou)
    chosen = ranked if len(ranked) <= 16 else [*ranked[:8], *ranked[-8:]]
    rows = [(read_image(i.phrase.image), i.phrase.text, i.phrase.box, i.box) for i in chosen]
    save_picture(path, draw_gallery(rows))
