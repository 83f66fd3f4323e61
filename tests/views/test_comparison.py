"""Comparisons: settings that differ, and each score compared with the first item's."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamlab.views.comparison import Comparison, Side, lay_out
from streamlab.views.pages import leaves
from streamlab.views.table import Cell
from streamlab.views.task_scores import Paired, TaskScore, paired, pooled

seeds = st.dictionaries(st.integers(1, 6), st.floats(0, 1), min_size=1)


def score(by_seed: Mapping[int, float], task: str = "sst2", method: str = "lora") -> TaskScore:
    return TaskScore(task, method, "accuracy", "dev", "files", by_seed)


def side(name: str, settings: Mapping[str, Cell], *scores: TaskScore) -> Side:
    return Side(name, {"settings": settings}, scores, {"file": 100})


@settings(deadline=None)
@given(seeds, seeds)
def test_pairs_are_the_seeds_of_both_and_turn_their_sign(
    one: dict[int, float], other: dict[int, float]
) -> None:
    there, back = paired(score(one), score(other)), paired(score(other), score(one))

    assert there.n_pairs == len(one.keys() & other.keys())
    assert there.differences == tuple(-d for d in back.differences)
    assert there.spread == back.spread
    assert (there.mean is None) == (there.n_pairs == 0)
    assert set(paired(score(one), score(one)).differences) == {0.0}


def test_mean_and_spread_are_those_of_the_pairs_alone() -> None:
    found = paired(score({1: 0.9, 2: 0.8, 3: 0.1}), score({2: 0.5, 1: 0.7, 9: 0.9}))

    assert found.differences == pytest.approx((0.2, 0.3))
    assert found.mean == pytest.approx(0.25)
    assert found.spread == pytest.approx(statistics.stdev([0.2, 0.3]))
    assert paired(score({1: 0.5}), score({2: 0.5})) == Paired(())


def test_pairs_of_tasks_are_pooled() -> None:
    assert pooled([Paired((0.1, 0.2)), Paired(()), Paired((0.3,))]) == Paired((0.1, 0.2, 0.3))


def test_leaves_have_dotted_paths_and_items_their_names() -> None:
    tree = {
        "seeds": [1, 2],
        "none": [],
        "data": {"sources": [{"files": "x"}, "hub"]},
        "baselines": [{"name": "lora", "rank": 8}, {"name": "full"}],
        "twins": [{"name": "a", "k": 1}, {"name": "a", "k": 2}],
        "layers": None,
    }

    assert leaves(tree) == {
        "seeds": "1, 2",
        "none": "none",
        "data.sources.0.files": "x",
        "data.sources.1": "hub",
        "baselines.lora.name": "lora",
        "baselines.lora.rank": 8,
        "baselines.full.name": "full",
        "twins.0.name": "a",
        "twins.0.k": 1,
        "twins.1.name": "a",
        "twins.1.k": 2,
        "layers": None,
    }


cells = st.none() | st.booleans() | st.integers(0, 2) | st.sampled_from(["a", "b"])
trees = st.dictionaries(st.sampled_from("pqrst"), cells)


@settings(deadline=None)
@given(st.lists(trees, min_size=2, max_size=3))
def test_what_differs_and_what_is_equal_is_all_there_is(given_trees: list[dict[str, Cell]]) -> None:
    sides = [side(str(place), tree) for place, tree in enumerate(given_trees)]
    (few,), (every,) = (
        lay_out("run", sides, everything=everything).facts for everything in (False, True)
    )

    assert {row[0] for row in every.rows} == set().union(*given_trees)
    assert [row for row in every.rows if len(set(row[1:])) > 1] == list(few.rows)
    for name, *values in every.rows:
        assert values == [tree.get(str(name)) for tree in given_trees]


@pytest.fixture
def three() -> Comparison:
    """Three runs: the second shares both seeds with the first, the third has other tasks too."""
    first = side("a", {"rate": 0.1, "layers": 2}, score({1: 0.5, 2: 0.6}), score({1: 0.5}, "rte"))
    second = side("b", {"rate": 0.2, "layers": 2}, score({1: 0.6, 2: 0.8}), score({1: 0.4}, "rte"))
    third = side("c", {"rate": 0.2, "layers": 2}, score({3: 0.9}), score({1: 1.0}, "new"))
    return lay_out("run", [first, second, third], everything=False)


def test_every_side_is_held_against_the_first(three: Comparison) -> None:
    (table,) = three.scores

    rows = [(r["task"], r["run"], r["difference"], r["pairs"]) for r in table.records()]

    assert rows == [
        ("sst2", "a", None, None),
        ("sst2", "b", pytest.approx(0.15), 2),
        ("sst2", "c", None, 0),  # it has the task under another seed only
        ("rte", "a", None, None),
        ("rte", "b", pytest.approx(-0.1), 1),
        ("new", "c", None, None),
    ]
    assert [row[:3] for row in three.facts[0].rows] == [("rate", 0.1, 0.2)]
    assert three.sizes.rows == ()
    assert three.n_pairs == 3


def test_all_tasks_together_count_pairs_and_name_only_sides_with_some(three: Comparison) -> None:
    (row,) = three.overall.records()

    assert (row["method"], row["run"], row["tasks"], row["pairs"]) == ("lora", "b", 2, 3)
    assert row["difference"] == pytest.approx((0.1 + 0.2 - 0.1) / 3)
    assert row["spread"] == pytest.approx(statistics.stdev([0.1, 0.2, -0.1]))


def test_scores_by_another_metric_or_method_are_no_pair() -> None:
    first = side("a", {}, score({1: 0.5}))
    other = TaskScore("sst2", "lora", "f1", "dev", "files", {1: 0.9})

    found = lay_out(
        "run", [first, side("b", {}, other, score({1: 0.9}, method="full"))], everything=False
    )

    assert found.n_pairs == 0
    assert [row[6] for table in found.scores for row in table.rows] == [None, None, None]


def test_one_table_holds_every_value_with_the_source_of_its_rows(three: Comparison) -> None:
    rows = three.rows.records()

    shown = [r for table in three.scores for r in table.records()]
    listed = [r for r in rows if r["part"] == "scores_lora"]
    assert [(r["run"], r["value"], r["difference"], r["source"]) for r in listed] == [
        (r["run"], r["score"], r["difference"], r["source"]) for r in shown
    ]
    assert [(r["name"], r["run"], r["value"]) for r in rows if r["part"] == "settings"] == [
        ("rate", "a", 0.1), ("rate", "b", 0.2), ("rate", "c", 0.2),
    ]  # fmt: skip


def test_each_score_stands_beside_the_majority_and_whether_the_task_was_learned() -> None:
    weak = replace(score({1: 0.5}), majority=0.5, n_examples=100)
    strong = replace(score({1: 0.9}), majority=0.5, n_examples=100)

    (table,) = lay_out("run", [side("a", {}, weak), side("b", {}, strong)], everything=False).scores

    assert [(row["majority"], row["learned"]) for row in table.records()] == [
        (0.5, False),
        (0.5, True),
    ]


def test_spread_and_pairs_are_shown_where_there_are_several_seeds() -> None:
    one, three = score({1: 0.5}), score({1: 0.5, 2: 0.6, 3: 0.7})

    def shown(scored: TaskScore) -> set[str]:
        sides = [side("a", {}, scored), side("b", {}, scored)]
        return {c.name for c in lay_out("run", sides, everything=False).scores[0].brief().columns}

    assert shown(three) - shown(one) == {"spread", "pairs"}
