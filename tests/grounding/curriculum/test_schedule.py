"""SSA and MSA on synthetic curves: what is trained, in what order, what is chosen."""

import math

import pytest

from core.errors import TTDError
from core.grounding.curriculum.pool import Part, Pool, whole
from core.grounding.curriculum.schedule import adapt_multiple, adapt_single, trainings
from core.grounding.curriculum.search import Grid


class Curves:
    """A lab whose performance is a formula of the pool; asks are counted."""

    def __init__(self, formula):
        self.formula, self.known, self.asked = formula, {}, []

    def performance(self, pool):
        if pool.name not in self.known:
            self.asked.append(pool.name)
            self.known[pool.name] = self.formula(pool)
        return self.known[pool.name]


def peak_at(threshold):
    """Of the last part: 1 at the threshold, less by the distance; a whole source 0.2."""

    def formula(pool):
        last = pool.parts[-1]
        return 0.2 if last.measurer is None else 1 - abs(last.threshold - threshold)

    return formula


def test_ssa_trains_the_source_then_climbs():
    lab = Curves(peak_at(0.3))
    found = adapt_single(lab, "template")
    assert found.pool == Pool((Part("template", whole("template"), 0.3),))
    assert found.performance == 1 and found.alone == {"template": 0.2}
    assert lab.asked == [
        "template",
        "template>0.5 by template",
        "template>0.4 by template",
        "template>0.6 by template",
        "template>0.3 by template",
        "template>0.2 by template",
    ]


def test_a_second_round_measures_by_the_chosen_model():
    lab = Curves(peak_at(0.5))
    found = adapt_single(lab, "t", rounds=2)
    assert found.pool.name == "t>0.5 by [t>0.5 by t]"
    assert [step.chosen for step in found.steps] == ["t", "t>0.5 by t"]
    with pytest.raises(TTDError, match="rounds"):
        adapt_single(lab, "t", rounds=0)


def test_msa_adds_source_by_source_with_the_best_measurer_and_threshold():
    best_by = {"template": "template", "relation": "caption", "caption": "template"}
    best_at = {"template": 0.5, "relation": 0.6, "caption": 0.4}

    def formula(pool):
        last = pool.parts[-1]
        if last.measurer is None:
            return 0.1
        right = last.measurer.name == best_by[last.source]
        return len(pool.parts) + 0.5 * right - abs(last.threshold - best_at[last.source])

    lab = Curves(formula)
    found = adapt_multiple(lab, ["template", "relation", "caption"])
    assert found.pool.name == (
        "template>0.5 by template + relation>0.6 by caption + caption>0.4 by template"
    )
    assert found.performance == 3.5 and [step.chosen for step in found.steps] == list(
        best_by.values()
    )
    # 3 sources, then for each 3 measurers; 2 neighbours, and one more where the climb moved on.
    assert len(lab.asked) == 3 + (3 + 2) + (3 + 3) + (3 + 3) == len(set(lab.asked))
    assert lab.asked[:3] == ["template", "relation", "caption"]
    assert lab.asked[8] == "template>0.5 by template + relation>0.5 by template"


def test_a_source_of_bad_labels_is_still_taken_at_its_best_threshold():
    lab = Curves(lambda pool: -len(pool.parts) - pool.parts[-1].threshold)
    found = adapt_multiple(lab, ["a", "b"])
    assert [part.threshold for part in found.pool.parts] == [0.0, 0.0]


def test_a_source_that_lowers_the_performance_may_be_left_out():
    worth = {"a": 5, "b": -2, "c": 3}

    def formula(pool):
        return sum(worth[part.source] for part in pool.parts) - abs(pool.parts[-1].threshold - 0.5)

    lab = Curves(formula)
    found = adapt_multiple(lab, ["a", "b", "c"], leave_out=True)
    assert [part.source for part in found.pool.parts] == ["a", "c"] and found.performance == 8
    assert [step.taken for step in found.steps] == [True, False, True]
    every = adapt_multiple(lab, ["a", "b", "c"])
    assert [part.source for part in every.pool.parts] == ["a", "b", "c"] and every.performance == 6
    # The first one is taken, whatever it is worth.
    alone = adapt_multiple(lab, ["b"], leave_out=True)
    assert alone.pool.parts and alone.performance == -2


@pytest.mark.parametrize("sources", [[], ["a", "a"]])
def test_sources_that_cannot_be(sources):
    with pytest.raises(TTDError):
        adapt_multiple(Curves(peak_at(0.5)), sources)


@pytest.mark.parametrize("start", [0.0, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("count, algorithm", [(1, "ssa"), (1, "msa"), (3, "msa")])
def test_how_many_trainings_there_can_be(start, count, algorithm):
    grid = Grid(0.1, start)
    least, most = trainings(count, algorithm, grid)
    names = [f"s{i}" for i in range(count)]
    counts = []
    for best in range(10):
        lab = Curves(peak_at(best / 10))
        if algorithm == "ssa":
            adapt_single(lab, names[0], grid)
        else:
            adapt_multiple(lab, names, grid)
        counts.append(len(lab.asked))
    assert (min(counts), max(counts)) == (least, most)


def test_names_tell_pools_apart_and_give_safe_files():
    one = Pool().with_part("a", whole("b"), 0.5)
    assert one.name == "a>0.5 by b" and one.key != Pool().with_part("a", whole("b"), 0.6).key
    assert one.with_part("c", one, 0.25).name == "a>0.5 by b + c>0.25 by [a>0.5 by b]"
    assert math.isclose(one.parts[0].threshold, 0.5)
