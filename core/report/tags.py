"""The report of tags: precision and recall, words that are found and taken for true, captions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..data.records import Record, read_record
from ..evaluation.tags import Method, Row
from ..metrics.bootstrap import Floats, by_image, f1_of
from ..metrics.tags import precision_recall_curve
from ..plots.gallery import best_and_worst
from ..utils.files import read_json
from ..utils.shown import without_folders
from .parts import images
from .parts.charts import Bar, Line, bars, lines, percent, signed
from .parts.page import Html, element, join, numbers, page, section, table, text
from .parts.sections import DRAWN, change, left_out, most_changed, protocols, range_words, scored

WORDS, OFTEN = 30, 2  # words with a bar, and how often they must be true
STEPS = tuple(round(0.01 * k, 2) for k in range(1, 101))
RECALLS = tuple(round(0.02 * k, 2) for k in range(51))
KINDS = ("hit", "false", "missed", "")  # classes of words: TP, FP, FN, TN


def tags_report(
    title: str,
    truth: Mapping[str, Record],
    methods: Sequence[Method],
    rows: Sequence[Row],
    metas: Mapping[str, Path],
    before: Method | None = None,
    count: int = 6,
) -> str:
    """The page of results over the same captions; charts are of the first.

    title: what the set is; truth: its captions by id; rows: of the table that is printed; metas:
    the .meta.json of each result by name; before: what the first is compared with, one of
    `methods`; count: best and worst captions.
    """
    first = methods[0]
    return page(
        "Tags from captions",
        f"{first.name}; {without_folders(title)}; {len(first.captions)} captions scored",
        [
            _table(methods, rows, before, truth),
            protocols({name: read_json(path) or {} for name, path in metas.items()}, _line),
            _curves(methods),
            _words(first, before),
            _mistakes(first),
            _gallery(first, before, truth, count),
            left_out({one.name: "; ".join(one.problems) for one in methods}),
        ],
    )


def sums_of(method: Method, truth: Mapping[str, Record]) -> Floats:
    """TP, FP, FN of each image, float64 [images, 3]; see `f1_of`. truth: its captions by id.

    Captions of one image depend on each other, so they are drawn together. The order is that of
    the sorted ids, whatever the result's own is: the same for all results.
    """
    order = np.argsort(np.array(method.captions), kind="stable")
    names = [truth[method.captions[place]].name for place in order]
    return by_image(names, method.counts[order, :3])


def f1_by_caption(method: Method) -> dict[str, float]:
    """F1 of each caption by id; NaN where nothing is true and nothing was selected."""
    counts = method.counts[:, :3]
    scores = np.where(counts.sum(1) > 0, f1_of(counts.astype(np.float64)), np.nan)
    return dict(zip(method.captions, scores.tolist(), strict=True))


def _line(stored: Mapping[str, object]) -> str:
    """What made a result, in short."""
    identity = stored.get("identity")
    known = identity if isinstance(identity, dict) else {}
    said = [str(known[key]) for key in ("arch", "scorer", "root") if key in known]
    return ", ".join(said) or "not known: no .meta.json beside the result"


def _table(
    methods: Sequence[Method],
    rows: Sequence[Row],
    before: Method | None,
    truth: Mapping[str, Record],
) -> Html:
    """The table that is printed, with intervals of F1."""
    drawn = {one.name: scored(sums_of(one, truth), f1_of) for one in methods}
    cells = []
    for row in rows:
        spread = ""
        if row.name in drawn:
            found = drawn[row.name][0]
            spread = f"{percent(found.low)} to {percent(found.high)}"
        scores = row.scores
        area = "" if row.average_precision is None else percent(row.average_precision)
        three = [percent(value) for value in (scores.precision, scores.recall, scores.f1)]
        cells.append([row.name.strip(), *three, spread, percent(scores.accuracy), area])
    head = ["result", "precision", "recall", "F1", "95 % interval", "accuracy", "mAP"]
    first = methods[0].name
    cards = [("F1, %", percent(drawn[first][0].value), range_words(drawn[first][0]))]
    if before is not None:
        cards.append(change(drawn[first], drawn[before.name], before.name))
    note = "In percent; every word occurrence of every caption counts once. " + DRAWN
    return section("Scores", numbers(cards), table(head, cells), note=note)


def _curves(methods: Sequence[Method]) -> Html:
    """Precision over recall of all results, and the first one's scores over the threshold."""
    drawn = []
    for number, one in enumerate(methods):
        precision, recall, _ = precision_recall_curve(one.norms, one.truth)
        drawn.append(Line(one.name, _at_recalls(precision, recall), dashed=number > 0))
    first = methods[0]
    chosen = [first.allowed & (first.norms >= step) for step in STEPS]
    sums = np.array([_counts(one, first.truth) for one in chosen], np.float64)
    total = [np.maximum(1, sums[:, 0] + sums[:, place]) for place in (1, 2)]
    named = [Line("F1", f1_of(sums)), Line("precision", sums[:, 0] / total[0], dashed=True)]
    named.append(Line("recall", sums[:, 0] / total[1], dashed=True))
    note = "Right: words of the first result kept at or above one threshold of the scores."
    charts = [
        lines(RECALLS, drawn, "recall", "precision, %", peaks=False),
        lines(STEPS, named, "threshold", "%"),
    ]
    return section("Curves", element("div", *charts, class_="items"), note=note)


def _counts(selected: npt.NDArray[np.bool_], truth: npt.NDArray[np.bool_]) -> list[int]:
    """TP, FP, FN of words [W]."""
    pairs = ((selected, truth), (selected, ~truth), (~selected, truth))
    return [int((one & other).sum()) for one, other in pairs]


def _at_recalls(precision: Floats, recall: Floats) -> Floats:
    """The best precision at each of `RECALLS` or above; NaN beyond the highest recall."""
    best = np.maximum.accumulate(precision[::-1])[::-1]
    place = np.searchsorted(recall, RECALLS, side="left")
    return np.append(best, np.nan)[place]


def _words(first: Method, before: Method | None) -> Html:
    """F1 of the words that are true most often."""
    now, old = _by_word(first), None if before is None else _by_word(before)
    common = sorted(now, key=lambda word: (-now[word][0] - now[word][2], word))
    rows = []
    for word in common[:WORDS]:
        hits, _, missed = now[word]
        if hits + missed < OFTEN:
            continue
        past = None
        if old is not None:
            past = float(f1_of(np.array([old.get(word, (0, 0, 0))], np.float64))[0])
        value = float(f1_of(np.array([now[word]], np.float64))[0])
        rows.append(Bar(word, value, past, f"true {hits + missed} times"))
    rows.sort(key=lambda row: -row.value)
    note = "F1 of single words, of those that are true most often."
    return section("Words", bars(rows) if rows else Html(""), note=note)


def _by_word(method: Method) -> dict[str, tuple[int, int, int]]:
    """TP, FP, FN of every word, in lower case."""
    found: dict[str, list[int]] = {}
    for word, chosen, true in zip(method.words, method.selected, method.truth, strict=True):
        own = found.setdefault(word.lower(), [0, 0, 0])
        if chosen or true:
            own[0 if chosen and true else 1 if chosen else 2] += 1
    return {word: (own[0], own[1], own[2]) for word, own in found.items()}


def _mistakes(first: Method) -> Html:
    """The words most often selected wrongly, and missed."""
    counts = _by_word(first)
    parts = []
    for place, title in ((1, "selected, not true"), (2, "true, not selected")):
        ranked = sorted(counts, key=lambda word: (-counts[word][place], word))[:12]
        rows = [
            [word, counts[word][place], counts[word][0]] for word in ranked if counts[word][place]
        ]
        if rows:
            parts.append(element("div", table([title, "times", "times right"], rows)))
    shown = element("div", *parts, class_="items") if parts else Html("")
    return section("Confusions", shown, note="Words that are wrong most often.")


def _gallery(first: Method, before: Method | None, truth: Mapping[str, Record], count: int) -> Html:
    """The best and worst captions; of two results those that changed most, too."""
    scores = f1_by_caption(first)
    old = {} if before is None else f1_by_caption(before)
    places = {name: place for place, name in enumerate(first.captions)}

    def entries(names: Sequence[str]) -> Html:
        """The captions of these names, side by side."""
        shown = []
        for name in names:
            title = f"{name}: F1 {percent(scores[name])}"
            if name in old:
                title += f" ({signed(scores[name] - old[name])})"
            shown.append(_entry(title, first, places[name], truth[name]))
        return images.items(shown)

    note = "Green: selected and true; red: selected, not true; dashed: true, not selected."
    sections = [section("Best and worst", entries(best_and_worst(scores, count)), note=note)]
    if before is not None:
        changed = most_changed(scores, old, count)
        said = f"Gains over {before.name} first, then losses."
        sections.append(section("Most changed", entries(changed), note=said))
    return Html("".join(sections))


def _entry(title: str, method: Method, place: int, record: Record) -> Html:
    """A caption with its words marked, and its image where that can be read."""
    marked = []
    for number in np.flatnonzero(method.owner == place).tolist():
        chosen, true = method.selected[number], method.truth[number]
        kind = KINDS[(0 if true else 1) if chosen else (2 if true else 3)]
        word = text(method.words[number])
        marked.append(element("span", word, class_=kind) if kind else word)
    photo = images.found(partial(read_record, record))
    picture = Html("")
    if photo is not None:
        picture = images.views([("", images.image(photo, record.name))])
    return images.item(title, picture, element("p", join(marked, " ")))
