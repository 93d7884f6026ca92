"""Model cards: what a model is, how it is used, what was measured with it and how.

Every number comes from an evaluator's --json; where none is given, the card says so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.errors import TTDError
from core.utils.json_lines import load_json
from core.utils.shown import visible, without_folders

NONE_MEASURED = "No measured numbers were given with this model."
SEEN = ("arch", "lora", "weights", "data", "root", "scales", "image", "bg", "limit", "seed")


@dataclass(frozen=True)
class Card:
    """What a card is made of.

    kind: "adapter", "TCL" or "grounder"; facts: what the file says of itself; use: commands;
    files: (name, bytes, SHA-256). licence: an identifier of the Hub, None: not stated.
    """

    name: str
    kind: str
    about: str
    use: Sequence[str]
    facts: Mapping[str, Any]
    files: Sequence[tuple[str, int, str]]
    licence: str | None = None
    tags: Sequence[str] = field(default_factory=list)


def card_text(card: Card, scores: Mapping[str, Any]) -> str:
    """The card as Markdown. scores: what evaluators wrote, by the names of their files.

    TTDError for scores of a form that no evaluator writes.
    """
    lines = ["---", *_head(card), "---", "", f"# {plain(card.name)}", "", card.about, ""]
    lines += ["## Use", "", "```bash", *card.use, "```", "", "## Measured", ""]
    if not scores:
        lines += [NONE_MEASURED, ""]
    for name, content in scores.items():
        lines += [*_section(name, content), ""]
    lines += ["## What the file says of itself", "", "```json"]
    lines += [fenced(json.dumps(card.facts, indent=1, ensure_ascii=True, sort_keys=True)), "```"]
    lines += ["", "## Files", "", "| file | bytes | SHA-256 |", "|---|---|---|"]
    lines += [f"| {plain(name)} | {size} | `{digest}` |" for name, size, digest in card.files]
    return "\n".join([*lines, ""])


def read_scores(paths: Sequence[Path]) -> dict[str, Any]:
    """What evaluators wrote, by file name. TTDError: no JSON, or two files of one name."""
    found: dict[str, Any] = {}
    for path in paths:
        if path.name in found:
            raise TTDError(f"--scores: two files are called {path.name}; rename one")
        found[path.name] = load_json(path, "name what an evaluator wrote with --json")
        list(rows_of(found[path.name], path.name))  # its form, before anything is made
    return found


def rows_of(content: Any, where: str) -> Iterator[tuple[str, str, float | None, str]]:
    """(result, measure, value, of how many) from the JSON of any evaluator.

    Values in percent where the measure ends in %. TTDError naming `where` for another form.
    """
    try:
        yield from _rows(content)
    except (KeyError, TypeError, AttributeError, ValueError):
        raise TTDError(
            f"{where}: of a form that no evaluator of tags, masks or boxes here writes with "
            "--json; name one that does"
        ) from None


def _rows(content: Any) -> Iterator[tuple[str, str, float | None, str]]:
    if isinstance(content, list):  # tools/evaluate_tcl.py
        for row in content:
            name = f"{row['data']}, {'PAMR' if row['pamr'] else 'no PAMR'}"
            yield name, "mIoU %", percent(row["miou"]), f"{int(row['images'])} images"
    elif "results" in content:  # several results of an evaluator of masks
        for one in content["results"]:
            yield from _rows(one)
    elif "sets" in content:  # tools/evaluate_ttd.py
        for part in content["sets"]:
            for kind in ("fixed", "chosen"):
                yield from _heldout(f"{part['name']}, {kind} thresholds", part.get(kind, {}))
    elif "iou" in content:  # masks from tags, masks of captions
        name, items = f"{content['tag']} on {content['data']}", str(int(content["scored"]))
        yield name, "mean IoU %", percent(content["iou"]), items
        yield name, "mFPR", number(content["fpr"]), items
        yield name, "mFNR", number(content["fnr"]), items
        for other, means in content.get("baselines", {}).items():
            yield f"{other} (no model)", "mean IoU %", percent(means["iou"]), items
    elif "scores" in content:  # evaluate_grounding.py
        for name, values in content["scores"].items():
            several = "acc@0.5" not in values  # models, and lists in each
            yield from _boxes(values, f"{name}, ") if several else _boxes({name: values})
    elif "labels" in content:  # evaluate_classification.py --protocol multilabel
        for reading, found in content["labels"].items():
            for name, one in found["results"].items():
                said = f"{name} on {content['set']}, {reading}"
                yield said, "mAP %", percent(one["map"]), f"{int(found['images'])} images"
    else:  # tags
        for row in content["rows"]:
            for key in ("precision", "recall", "f1", "accuracy", "average_precision"):
                if row[key] is not None:
                    yield str(row["name"]), f"{key} %", percent(row[key]), ""


def _boxes(
    lists: Mapping[str, Any], model: str = ""
) -> Iterator[tuple[str, str, float | None, str]]:
    for name, values in lists.items():
        for key in ("acc@0.5", "mean_acc", "miou"):
            if key in values:
                yield f"{model}{name}", f"{key} %", percent(values[key]), ""


def _heldout(kind: str, models: Mapping[str, Any]) -> Iterator[tuple[str, str, float | None, str]]:
    for model, scores in models.items():
        for key, value in scores.items():
            if isinstance(value, float):
                yield f"{model}, {kind}", f"{key} %", percent(value), str(int(scores["pictures"]))


def _section(name: str, content: Any) -> list[str]:
    """A table, and how its numbers were made."""
    lines = [f"From {plain(name)}:", "", "| result | measure | value | of |", "|---|---|---|---|"]
    for result, measure, value, items in rows_of(content, name):
        digits = 1 if measure.endswith("%") else 3
        shown = "not scored" if value is None else f"{value:.{digits}f}"
        lines.append(f"| {plain(result)} | {plain(measure)} | {shown} | {plain(items)} |")
    return [*lines, "", f"How: {how(content)}"]


def how(content: Any) -> str:
    """How numbers were made, as far as their file tells, in one line."""
    first = (
        content["results"][0] if isinstance(content, Mapping) and "results" in content else content
    )
    protocol = first.get("protocol") if isinstance(first, Mapping) else None
    if not isinstance(protocol, Mapping):
        return "the file of the scores does not say more than its name."
    identity = protocol.get("identity")
    identity = identity if isinstance(identity, Mapping) else {}
    given = protocol.get("arguments")
    given = given if isinstance(given, Mapping) else {}
    parts = [f"protocol {identity.get('name', 'not named')}"]
    parts += [f"{key} {given[key]}" for key in SEEN if given.get(key) not in (None, False)]
    parts += [f"{key} {value}" for key, value in protocol.items() if key in ("command", "device")]
    if isinstance(protocol.get("versions"), Mapping):
        parts += [f"{key} {value}" for key, value in protocol["versions"].items()]
    return plain(without_folders("; ".join(parts))) + "."


def _head(card: Card) -> list[str]:
    """The card's settings, as the Hub reads them: YAML of plain words."""
    lines = [] if card.licence is None else [f"license: {word(card.licence)}"]
    lines += ["library_name: ttd", "tags:", *(f"- {word(tag)}" for tag in ("clip", *card.tags))]
    return lines


def word(text: str) -> str:
    """A word of the card's settings. TTDError for what is none, such as a line of YAML."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9.+-]{0,60}", text):
        raise TTDError(f"{text[:80]!r}: not a word of a model card, such as mit or apache-2.0")
    return text


def plain(text: object) -> str:
    """Text that Markdown shows as it is: no markup, no table's bar, one line."""
    safe = " ".join(visible(str(text)).split())
    return re.sub(r"([\\`*{}\[\]<>|#!])", r"\\\1", safe)


def fenced(text: str) -> str:
    """Text inside a fence of three backticks, which it cannot end."""
    return text.replace("`", "\\u0060")


def percent(share: Any) -> float | None:
    """A fraction in percent; None stays None. TypeError for anything else."""
    value = number(share)
    return None if value is None else 100 * value


def number(value: Any) -> float | None:
    """A number or None. TypeError for anything else."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("not a number")
    return float(value)
