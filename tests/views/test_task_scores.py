"""Scores by task and seed, and what counts as an arrival's own score."""

from __future__ import annotations

import statistics
from dataclasses import replace

import pytest

from streamlab.errors import UsageError
from streamlab.registry.records import ScoreRecord
from streamlab.views.table import Column, Table
from streamlab.views.task_scores import own_scores, score_table, task_scores

SCORE = ScoreRecord(
    id=1,
    arrival_id=1,
    run="stream-1",
    seed=1,
    task="sst2",
    provider="p",
    method="diff_pruning",
    source="files",
    synthetic=False,
    metric="accuracy",
    value=0.5,
    split="dev",
    n_examples=10,
    after_sequence=2,
    is_primary=True,
)


def seeds(*values: float) -> list[ScoreRecord]:
    return [
        replace(SCORE, arrival_id=number, seed=number, value=value)
        for number, value in enumerate(values, start=1)
    ]


def test_an_arrivals_own_score_is_primary_first_and_on_dev() -> None:
    later = replace(SCORE, after_sequence=3)
    validation = replace(SCORE, split="validation")
    secondary = replace(SCORE, metric="f1", is_primary=False, after_sequence=0)

    number = SCORE.arrival_id
    assert own_scores([later, secondary, validation, SCORE]) == {number: SCORE}
    assert own_scores([later, validation]) == {number: validation}
    assert own_scores([secondary]) == {}


def test_mean_and_spread_are_over_seeds() -> None:
    (score,) = task_scores(seeds(0.5, 0.75, 0.25))

    assert score.mean == 0.5
    assert score.spread == statistics.stdev([0.5, 0.75, 0.25])


def test_one_seed_has_no_spread_and_no_column_for_it() -> None:
    scores = task_scores(seeds(0.5))

    table = score_table("scores", "Scores", scores)

    assert scores[0].spread is None
    assert [column.name for column in table.columns][-1] == "seed 1"


def test_many_seeds_show_the_range_in_place_of_every_value() -> None:
    table = score_table("scores", "Scores", task_scores(seeds(0.5, 0.7, 0.6, 0.4)))

    (row,) = table.records()
    assert (row["lowest"], row["highest"], row["seeds"]) == (0.4, 0.7, 4)
    assert row["mean"] == pytest.approx(0.55)


def test_methods_are_never_averaged_together() -> None:
    baseline = replace(SCORE, arrival_id=9, method="head_only", value=0.1)

    scores = task_scores([SCORE, baseline])

    assert [(score.method, score.mean) for score in scores] == [
        ("diff_pruning", 0.5),
        ("head_only", 0.1),
    ]


def test_synthetic_rows_are_marked_as_the_source() -> None:
    (score,) = task_scores([replace(SCORE, source="synthetic", synthetic=True)])

    assert score.source == "synthetic"


TABLE = Table("t", "T", (Column("a"), Column("b", "count")), (("x", 2), ("y", None), ("z", 1)))


def test_empty_cells_sort_last_both_ways() -> None:
    assert [row[0] for row in TABLE.sort("b", descending=False).rows] == ["z", "x", "y"]
    assert [row[0] for row in TABLE.sort("b", descending=True).rows] == ["x", "z", "y"]


def test_select_keeps_columns_in_the_order_asked_for() -> None:
    assert TABLE.select(("b", "a")).rows == ((2, "x"), (None, "y"), (1, "z"))


def test_an_unknown_column_is_refused_with_what_is_known() -> None:
    with pytest.raises(UsageError, match="Known: a, b"):
        TABLE.select(("colour",))
