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
    assert [column.name for column in table.columns][-3:] == ["seed 1", "majority", "learned"]


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


def learned(value: float, *, majority: float | None, n_examples: int) -> bool | None:
    one = replace(SCORE, value=value, majority=majority, n_examples=n_examples)
    (score,) = task_scores([one])
    return score.learned


def test_a_task_is_learned_above_the_majority_by_more_than_its_standard_error() -> None:
    # sqrt(0.8 * 0.2 / 100) is 0.04.
    assert learned(0.841, majority=0.8, n_examples=100) is True
    assert learned(0.839, majority=0.8, n_examples=100) is False
    assert learned(0.839, majority=0.8, n_examples=1000) is True


def test_a_majority_that_scores_0_has_the_standard_error_of_one_half() -> None:
    assert learned(0.051, majority=0.0, n_examples=100) is True
    assert learned(0.049, majority=0.0, n_examples=100) is False


def test_whether_a_task_is_learned_is_unknown_without_a_majority_to_compare_with() -> None:
    assert learned(0.9, majority=None, n_examples=100) is None


def test_the_majority_of_several_seeds_is_their_mean() -> None:
    scores = [replace(s, majority=m) for s, m in zip(seeds(0.5, 0.7), (0.4, 0.6), strict=True)]

    (score,) = task_scores(scores)

    assert score.majority == 0.5


def test_the_split_is_shown_where_it_is_not_dev() -> None:
    def shown(score: ScoreRecord) -> list[str]:
        return [c.name for c in score_table("s", "S", task_scores([score])).brief().columns]

    assert "split" not in shown(SCORE)
    assert "split" in shown(replace(SCORE, split="validation"))


TABLE = Table("t", "T", (Column("a"), Column("b", "count")), (("x", 2), ("y", None), ("z", 1)))


def test_empty_cells_sort_last_both_ways() -> None:
    assert [row[0] for row in TABLE.sort("b", descending=False).rows] == ["z", "x", "y"]
    assert [row[0] for row in TABLE.sort("b", descending=True).rows] == ["x", "z", "y"]


def test_select_keeps_columns_in_the_order_asked_for() -> None:
    assert TABLE.select(("b", "a")).rows == ((2, "x"), (None, "y"), (1, "z"))


def test_an_unknown_column_is_refused_with_what_is_known() -> None:
    with pytest.raises(UsageError, match="Known: a, b"):
        TABLE.select(("colour",))
