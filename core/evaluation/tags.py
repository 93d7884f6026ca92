"""Results against the truth: matching by id, one row per method, the baselines that need no model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from ..data.records import Record, open_records
from ..data.words import is_stopword, split_words
from ..errors import TTDError
from ..metrics.tags import TagScores, average_precision, best_threshold, tag_scores, truth_of
from ..tags.results import ResultPaths, read_results
from ..utils.files import read_json

SHOWN = 5  # names in one line
Value = TypeVar("Value")


@dataclass(frozen=True)
class Row:
    """One line of the table; `average_precision` is None for what has no scores, `threshold` for what has no cut."""

    name: str
    scores: TagScores
    average_precision: float | None = None
    threshold: float | None = None


@dataclass(frozen=True)
class Method:
    """The pooled words of a result: normalized scores, selection, truth and which could be selected, [W] each."""

    name: str
    norms: np.ndarray
    selected: np.ndarray
    truth: np.ndarray
    allowed: np.ndarray
    problems: tuple[str, ...] = ()


def load_truth(root: str | Path, allow_missing: bool = False) -> tuple[str, dict[str, Record]]:
    """What the set holds in one line, and its captions with words and true tags by id.

    An empty list of tags is a truth: none of the words is in the image. Raises TTDError for
    captions without a list, unless they are to be left out (`allow_missing`), when there are none
    with one, and for two of the same id.
    """
    records = open_records(root)
    found = [
        item for item in records.iterate() if isinstance(item, Record) and split_words(item.text)
    ]
    untagged = [item.id for item in found if item.tags is None]
    if len(untagged) == len(found) or (untagged and not allow_missing):
        which = f"{len(untagged)} of {len(found)} captions without true tags ({_some(untagged)})"
        raise TTDError(
            f"{root}: {which if found else 'no captions to use'}; wanted json_refined/ID.json with "
            '{"text": caption, "tags": [word, ...]}'
        )
    return records.description, _by_id(
        root, [(item.id, item) for item in found if item.tags is not None]
    )


def _by_id(where: str | Path, pairs: Sequence[tuple[str, Value]]) -> dict[str, Value]:
    """The values by id. TTDError for two of one id: which of them belongs to which cannot be told."""
    values = dict(pairs)
    if len(values) < len(pairs):
        repeated = [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]
        raise TTDError(
            f"{where}: several captions with the id {_some(repeated)}; give each an id of its own, in a "
            'list as {"id": ..., "image": ..., "text": ...} or {"image": ..., "captions": [...]}'
        )
    return values


def find_result(name: str, folder: Path) -> ResultPaths:
    """The result called `name`: with or without .jsonl, a path or in `folder`. TTDError that lists what is there."""
    stem = name.removesuffix(".jsonl")
    for base in (folder / stem, Path(stem)):
        if (paths := ResultPaths.of(base.parent, base.name)).lines.exists():
            return paths
    there = sorted(path.name.removesuffix(".meta.json") for path in folder.glob("*.meta.json"))
    raise TTDError(
        f"no result {stem}.jsonl in {folder}; "
        + (f"there are: {_some(there, 12)}" if there else "make one with produce_tags_from_text.py")
    )


def load_method(paths: ResultPaths, truth: dict[str, Record]) -> Method:
    """Match a result with the truth; what does not match is left out and listed in `problems`."""
    name, meta = paths.lines.name.removesuffix(".jsonl"), read_json(paths.meta) or {}
    rows = _by_id(paths.lines, [(row["id"], row) for row in read_results(paths.lines)])
    common = [key for key in truth if key in rows and rows[key]["text"] == truth[key].text]
    problems = _problems(rows, truth)
    if not common:
        raise TTDError(
            f"{paths.lines}: none of its captions is in this set ({'; '.join(problems)}); check --root"
        )
    words = [word for key in common for word in rows[key]["words"]]
    stopwords = meta.get("protocol", {}).get("stopwords")
    allowed = [stopwords is None or not is_stopword(word["word"], stopwords) for word in words]
    true = np.concatenate(
        [truth_of([w["word"] for w in rows[key]["words"]], truth[key].tags) for key in common]
    )
    return Method(
        name,
        np.array([word["norm"] for word in words]),
        np.array([word["selected"] for word in words]),
        true,
        np.array(allowed),
        tuple(problems),
    )


def method_rows(method: Method) -> list[Row]:
    """The method as it cut, and the best that any one threshold could do with its normalized scores."""
    area = average_precision(method.norms, method.truth)
    best, scores = best_threshold(method.norms, method.truth, method.allowed)
    return [
        Row(method.name, tag_scores(method.selected, method.truth), area),
        Row("  best threshold there is", scores, area, best),
    ]


def baseline_rows(truth: dict[str, Record]) -> tuple[list[Row], list[str]]:
    """All words, all content words, NLTK's nouns; and a line for each that could not be made."""
    rows, notes = [], []
    choices: list[tuple[str, Callable[[list[str]], Sequence[bool]]]] = [
        ("all words", lambda words: [True] * len(words)),
        ("all content words", lambda words: [not is_stopword(word) for word in words]),
        ("NLTK nouns", nltk_nouns),
    ]
    captions = [
        ([word.text for word in split_words(record.text)], record.tags) for record in truth.values()
    ]
    true = np.concatenate([truth_of(words, tags) for words, tags in captions])
    for name, choose in choices:
        try:
            selected = np.concatenate(
                [np.array(choose(words), dtype=bool) for words, _ in captions]
            )
        except TTDError as error:
            notes.append(str(error))
        else:
            rows.append(Row(name, tag_scores(selected, true)))
    return rows, notes


def nltk_nouns(words: list[str]) -> list[bool]:
    """Which words NLTK's tagger takes for nouns (NN, NNS, NNP, NNPS). TTDError where its data are absent."""
    try:
        from nltk import pos_tag

        return [tag.startswith("NN") for _, tag in pos_tag(words)]
    except (ImportError, LookupError):
        raise TTDError(
            "NLTK nouns are left out, its tagger is not installed: run "
            "'python -m nltk.downloader averaged_perceptron_tagger_eng'"
        ) from None


def _problems(rows: dict[str, dict], truth: dict[str, Record]) -> list[str]:
    groups = {
        "missing": [key for key in truth if key not in rows],
        "not in the set": [key for key in rows if key not in truth],
        "with another caption": [
            key for key in truth if key in rows and rows[key]["text"] != truth[key].text
        ],
    }
    return [f"{len(keys)} {what}: {_some(keys)}" for what, keys in groups.items() if keys]


def _some(names: Sequence[str], limit: int = SHOWN) -> str:
    rest = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + rest
