"""The laboratory: every pool once, whatever kills it; the state file; the labels of a pool."""

import json
from pathlib import Path

import numpy as np
import pytest

from core.data.grounding import Phrase, PhraseList
from core.errors import TTDError
from core.grounding.curriculum.judge import hold_out
from core.grounding.curriculum.lab import CurriculumLab, Trained
from core.grounding.curriculum.ledger import NAME, Ledger
from core.grounding.curriculum.merge import drawn, write_pool
from core.grounding.curriculum.pool import Pool, phrases_of, reliable, whole, without_copies
from core.grounding.curriculum.schedule import adapt_multiple, adapt_single
from core.grounding.curriculum.search import NOTHING


def phrase(index, source, text="dog"):
    name = f"{source}{index}.jpg"
    return Phrase(index, str(index), Path(name), name, text, (0.0, 0.0, 10.0, 10.0 + index))


def source(name, count=100):
    return PhraseList(Path(f"{name}.jsonl"), [phrase(i, name) for i in range(count)])


class Kill(BaseException):
    """A kill that no handler of errors stops."""


class FakeWork:
    """Label i of a source has reliability i / 100; performance is best near 50 labels a source."""

    def __init__(self, kill_at=None):
        self.trained, self.measured, self.kill_at = [], [], kill_at

    def train(self, folder, labels):
        if self.kill_at == len(self.trained):
            raise Kill
        self.trained.append(folder.name)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model").write_text("")
        return Trained(folder / "model", 1 - abs(len(labels) - 55) / 1000)

    def measure(self, model, source, file):
        assert model.is_file()
        self.measured.append(file.name)
        return np.arange(len(source)) / 100


def laboratory(folder, work, sources=("a", "b"), **more):
    lists = {name: source(name) for name in sources}
    ledger = Ledger(folder, {"sources": sorted(sources)}, **more)
    return CurriculumLab(folder, lists, ledger, work, fewest=20)


def test_reliable_is_strict_and_drops_what_nothing_touches():
    values = np.array([0.0, 0.3, 0.30000001, 1.0])
    assert reliable(values, 0.0).tolist() == [False, True, True, True]
    assert reliable(values, 0.3).tolist() == [False, False, True, True]
    for wrong in ([np.nan], [-0.1], [1.1]):
        with pytest.raises(TTDError):
            reliable(np.array(wrong), 0.5)


def test_the_labels_of_a_pool_by_hand():
    sources = {"a": source("a", 4), "b": source("b", 3)}
    table = {("a", "a"): [0, 0.5, 0.6, 1.0], ("a", "b"): [0.1, 0.2, 0.9]}
    pool = Pool().with_part("a", whole("a"), 0.5).with_part("b", whole("a"), 0.1)
    found = phrases_of(pool, sources, lambda by, name: np.array(table[by.name, name]))
    assert [(p.index, p.name) for p in found] == [
        (0, "a2.jpg"), (1, "a3.jpg"), (2, "b1.jpg"), (3, "b2.jpg"),
    ]  # fmt: skip


def test_copies_are_kept_once_in_their_first_place():
    twice = [phrase(0, "a"), phrase(1, "a"), phrase(0, "a"), phrase(0, "a", "cat")]
    assert [(p.name, p.text) for p in without_copies(twice)] == [
        ("a0.jpg", "dog"), ("a1.jpg", "dog"), ("a0.jpg", "cat"),
    ]  # fmt: skip


def test_the_threshold_found_is_the_best_of_all(tmp_path):
    lab = laboratory(tmp_path, FakeWork(), ("a",))
    found = adapt_single(lab, "a")
    kept = {h / 10: 99 - 10 * h for h in range(10)}  # labels above h / 10
    best = min((h for h in kept if kept[h] >= 20), key=lambda h: abs(kept[h] - 55))
    assert found.pool.parts[0].threshold == best == 0.4
    assert lab.ledger.trainings["a>0.4 by a"].phrases == 59


def test_too_few_labels_are_not_trained_on(tmp_path):
    work = FakeWork()
    lab = laboratory(tmp_path, work, ("a",))
    assert lab.performance(Pool().with_part("a", whole("a"), 0.8)) == NOTHING  # 19 of them
    assert work.trained == [whole("a").key]
    again = laboratory(tmp_path, FakeWork(), ("a",))
    assert again.ledger.trainings["a>0.8 by a"].performance == NOTHING


def test_killed_at_every_training_it_resumes_and_trains_nothing_twice(tmp_path):
    calm = FakeWork()
    want = adapt_multiple(laboratory(tmp_path / "calm", calm), ["a", "b"])
    for count in range(len(calm.trained)):
        folder = tmp_path / str(count)
        first, second = FakeWork(kill_at=count), FakeWork()
        with pytest.raises(Kill):
            adapt_multiple(laboratory(folder, first), ["a", "b"])
        assert adapt_multiple(laboratory(folder, second), ["a", "b"]) == want
        assert first.trained + second.trained == calm.trained


def test_the_state_of_another_curriculum_is_refused_and_a_damaged_one_named(tmp_path):
    adapt_single(laboratory(tmp_path, FakeWork(), ("a",)), "a")
    with pytest.raises(TTDError, match="another curriculum.*--overwrite"):
        laboratory(tmp_path, FakeWork(), ("a", "b"))
    content = json.loads((tmp_path / NAME).read_text())
    for name in ("trainings", "scores", "another's"):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "old").touch()
    assert not laboratory(tmp_path, FakeWork(), ("a", "b"), overwrite=True).ledger.trainings
    assert not list(tmp_path.glob("[ts]*/old")) and (tmp_path / "another's" / "old").exists()
    laboratory(tmp_path, FakeWork(), ("a", "b"))  # nothing is left that would refuse it
    for damaged in ("", "[]", "{}", json.dumps({**content, "done": {"x": {}}})):
        (tmp_path / NAME).write_text(damaged)
        with pytest.raises(TTDError, match="damaged") as caught:
            laboratory(tmp_path, FakeWork(), ("a",))
        assert "\n" not in str(caught.value)


def test_the_final_list_and_its_manifest(tmp_path):
    lab = laboratory(tmp_path, FakeWork())
    pool = Pool().with_part("a", whole("a"), 0.5).with_part("b", whole("b"), 0.8)
    manifest = write_pool(tmp_path, lab, pool)
    rows = [json.loads(line) for line in (tmp_path / "pseudo_labels.jsonl").open()]
    assert [row["image"] for row in rows[:1] + rows[-1:]] == ["a51.jpg", "b99.jpg"]
    assert len(rows) == manifest["labels"] == 49 + 19
    assert [(s["source"], s["measurer"], s["threshold"], s["labels"], s["reliable"], s["taken"])
            for s in manifest["sources"]] == [
        ("a", "a", 0.5, 100, 49, 49), ("b", "b", 0.8, 100, 19, 19),
    ]  # fmt: skip
    fewer = write_pool(tmp_path, lab, pool, most=30, seed=1)
    assert fewer["labels"] == 30 == sum(s["taken"] for s in fewer["sources"])
    assert fewer == write_pool(tmp_path, lab, pool, most=30, seed=1)


def test_drawing_keeps_order_and_each_source_s_share():
    parts = {"a": [phrase(i, "a") for i in range(300)], "b": [phrase(i, "b") for i in range(100)]}
    found = drawn(parts, 200, 0)
    assert sum(map(len, found.values())) == 200 and abs(len(found["a"]) - 150) < 25
    for phrases in found.values():
        assert [p.index for p in phrases] == sorted({p.index for p in phrases})
    assert drawn(parts, 400, 0) == parts


def test_held_out_images_are_in_no_source():
    sources = {"a": source("x", 200), "b": source("x", 200), "c": source("y", 50)}
    kept, judge = hold_out(sources, 0.2)
    aside = {p.name for p in judge.phrases}
    for name, part in kept.items():
        assert not aside.intersection(p.name for p in part.phrases)
        assert [p.index for p in part.phrases] == list(range(len(part)))
        assert 0.65 < len(part) / len(sources[name]) < 0.9
    assert len(kept["a"]) == len(kept["b"])  # the same images in every source
    assert len(hold_out(sources, 0.5, most=30)[1]) == 30
    for share in (0, 1, 0.001):
        with pytest.raises(TTDError):
            hold_out({"a": source("a", 10)}, share)
