"""Tag results against the truth: matching by id, one row per method, trivial baselines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from ..data.records import Record, open_records
from ..data.tag_words import matched, truth_of
from ..data.words import is_stopword, split_words
from ..errors import TTDError
from ..metrics.tags import TagScores, average_precision, best_threshold, tag_scores
from ..tags.results import ResultPaths, read_results
from ..utils.files import read_json, section
from ..utils.shown import beginning, first_few

RESULTS = 12  # names of results in one line
Value = TypeVar("Value")
Flags: TypeAlias = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Row:
    """One line of the table.

    average_precision: None for what has no scores; threshold: None for what has no single one.
    """

    name: str
    scores: TagScores
    average_precision: float | None = None
    threshold: float | None = None


@dataclass(frozen=True)
class Method:
    """The pooled words of a result.

    norms: normalized scores, float [W]; selected, truth, allowed: which words were selected, are
    true tags, and could be selected, bool [W]; problems: captions that did not match; captions:
    their ids; words: as they stand in them [W]; owner: the place of each word's caption, int [W].
    """

    name: str
    norms: npt.NDArray[np.float64]
    selected: Flags
    truth: Flags
    allowed: Flags
    problems: tuple[str, ...] = ()
    captions: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    owner: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """TP, FP, FN, TN of every caption's words, int64 [B, 4]."""
        kinds = np.where(self.selected, np.where(self.truth, 0, 1), np.where(self.truth, 2, 3))
        flat = np.bincount(4 * self.owner + kinds, minlength=4 * len(self.captions))
        return flat.reshape(-1, 4)


def load_truth(
    root: str | Path, allow_missing: bool = False, limit: int | None = None
) -> tuple[str, dict[str, Record]]:
    """What the set holds in one line, and its captions with words and true tags by id.

    limit: of the first so many records only (see `limit_of`).
    An empty list of tags is a truth: none of the words is in the image. Raises TTDError for
    captions without a list, unless they are to be left out (`allow_missing`), when there are none
    with one, and for two of the same id.
    """
    records = open_records(root)
    found = [record for record in records.usable(limit) if split_words(record.text)]
    untagged = [record.id for record in found if record.tags is None]
    if len(untagged) == len(found) or (untagged and not allow_missing):
        missing = f"{len(untagged)} of {len(found)} captions without true tags"
        which = f"{missing} ({first_few(untagged)})" if found else "no captions to use"
        raise TTDError(
            f"{root}: {which}; wanted json_refined/ID.json with "
            '{"text": caption, "tags": [word, ...]}'
        )
    tagged = [(record.id, record) for record in found if record.tags is not None]
    return records.description, _by_id(root, tagged)


def _by_id(where: str | Path, pairs: Sequence[tuple[str, Value]]) -> dict[str, Value]:
    """The values by id. TTDError for two of one id: which belongs to which cannot be told."""
    values = dict(pairs)
    if len(values) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        repeated = [key for key, count in counts.items() if count > 1]
        raise TTDError(
            f"{where}: several captions with the id {first_few(repeated)}; give each an id of its "
            'own, in a list as {"id": ..., "image": ..., "text": ...} or '
            '{"image": ..., "captions": [...]}'
        )
    return values


def unmatched_line(truth: dict[str, Record]) -> str:
    """How many true tags match no word of their caption, "" for none: nothing can find them."""
    lost, total = [], 0
    for record in truth.values():
        words = [word.text for word in split_words(record.text)]
        total += len(record.tags or ())
        lost += [f"{record.id}: {tag}" for tag in matched(words, record.tags or ())[1]]
    if not lost:
        return ""
    return f"{len(lost)} of {total} true tags match no word of their caption ({beginning(lost)})"


def find_result(name: str, folder: Path) -> ResultPaths:
    """The result called `name`: with or without .jsonl, in `folder` or a path.

    TTDError that lists what is there.
    """
    stem = name.removesuffix(".jsonl")
    for base in (folder / stem, Path(stem)):
        if (paths := ResultPaths.of(base.parent, base.name)).lines.exists():
            return paths
    there = sorted(path.name.removesuffix(".meta.json") for path in folder.glob("*.meta.json"))
    advice = "make one with produce_tags_from_text.py"
    if there:
        advice = f"there are: {first_few(there, RESULTS)}"
    raise TTDError(f"no result {stem}.jsonl in {folder}; {advice}")


def load_method(paths: ResultPaths, truth: dict[str, Record], part: bool = False) -> Method:
    """Match a result with the truth; what does not match is left out and listed in `problems`.

    part: the truth is that of the first captions of the set only, so the result may have more.
    TTDError when nothing matches, and for two captions of one id.
    """
    meta = read_json(paths.meta) or {}
    rows = _by_id(paths.lines, [(row["id"], row) for row in read_results(paths.lines)])
    common = [key for key in truth if key in rows and rows[key]["text"] == truth[key].text]
    problems = _problems(rows, truth, part)
    if not common:
        raise TTDError(
            f"{paths.lines}: none of its captions is in this set ({'; '.join(problems)}); "
            "check --root"
        )
    stopwords = section(meta, "protocol").get("stopwords")
    words: list[dict[str, Any]] = []
    true: list[Flags] = []
    owner: list[int] = []
    for place, key in enumerate(common):
        own = rows[key]["words"]
        words += own
        owner += [place] * len(own)
        true.append(truth_of([word["word"] for word in own], truth[key].tags or ()))
    listed = stopwords if isinstance(stopwords, str) else None
    rejected = [listed is not None and is_stopword(word["word"], listed) for word in words]
    return Method(
        name=paths.lines.name.removesuffix(".jsonl"),
        norms=np.array([word["norm"] for word in words], dtype=np.float64),
        selected=np.array([word["selected"] for word in words], dtype=bool),
        truth=np.concatenate(true),
        allowed=~np.array(rejected, dtype=bool),
        problems=tuple(problems),
        captions=tuple(common),
        words=tuple(word["word"] for word in words),
        owner=np.array(owner, dtype=np.int64),
    )


def method_rows(method: Method) -> list[Row]:
    """The method as it selected, and the best that any one threshold could do with its scores."""
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
    captions, true = [], []
    for record in truth.values():
        words = [word.text for word in split_words(record.text)]
        captions.append(words)
        true.append(truth_of(words, record.tags or ()))
    for name, choose in choices:
        try:
            selected = [np.array(choose(words), dtype=bool) for words in captions]
        except TTDError as error:
            notes.append(str(error))
        else:
            scores = tag_scores(np.concatenate(selected), np.concatenate(true))
            rows.append(Row(name, scores))
    return rows, notes


def nltk_nouns(words: list[str]) -> list[bool]:
    """Which words NLTK's tagger takes for nouns (NN, NNS, NNP, NNPS).

    TTDError where NLTK or the tagger's data are not installed.
    """
    try:
        from nltk import pos_tag

        return [tag.startswith("NN") for _, tag in pos_tag(words)]
    except (ImportError, LookupError):
        raise TTDError(
            "NLTK nouns are left out, its tagger is not installed: run "
            "'python -m nltk.downloader averaged_perceptron_tagger_eng'"
        ) from None


def limit_of(paths: ResultPaths) -> int | None:
    """The --limit that a result was made with: it is of the first so many records."""
    identity = (read_json(paths.meta) or {}).get("identity")
    limit = identity.get("limit") if isinstance(identity, dict) else None
    return limit if isinstance(limit, int) and limit > 0 else None


def _problems(rows: dict[str, dict[str, Any]], truth: dict[str, Record], part: bool) -> list[str]:
    common = [key for key in truth if key in rows]
    groups = {
        "missing": [key for key in truth if key not in rows],
        "not in the set": [key for key in rows if key not in truth and not part],
        "with another caption": [key for key in common if rows[key]["text"] != truth[key].text],
    }
    return [f"{len(keys)} {what}: {first_few(keys)}" for what, keys in groups.items() if keys]
