from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlab.errors import DataError
from streamlab.tasks.sampling import n_validation_examples, sample_dev, split_off_dev, split_train
from streamlab.tasks.types.example import Example


def rows(n_rows: int) -> list[Example]:
    return [Example(f"text {number}", None, number % 2) for number in range(n_rows)]


def split(
    n_rows: int, *, share: float = 0.1, n_most: int | None = None, seed: int = 1
) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    return split_train(rows(n_rows), share=share, n_most=n_most, seed=seed, dataset="mine")


@pytest.mark.parametrize(
    ("n_rows", "n_most", "n_train", "n_validation"),
    [
        (2000, None, 1800, 200),
        (2000, 500, 500, 50),
        (20_000, None, 19_500, 500),
        (100, None, 68, 32),
        (60, None, 40, 20),
        (60, 10, 10, 20),
        (2, None, 1, 1),
    ],
)
def test_rows_for_choosing_are_a_share_within_bounds(
    n_rows: int, n_most: int | None, n_train: int, n_validation: int
) -> None:
    train, validation = split(n_rows, n_most=n_most)

    assert (len(train), len(validation)) == (n_train, n_validation)


@given(st.integers(2, 400), st.floats(0.01, 0.5), st.integers(1, 400), st.integers(0, 2**63))
def test_no_row_is_both_learnt_from_and_chosen_by(
    n_rows: int, share: float, n_most: int, seed: int
) -> None:
    train, validation = split(n_rows, share=share, n_most=n_most, seed=seed)

    assert train
    assert validation
    assert len({*train, *validation}) == len(train) + len(validation)
    assert len(train) <= n_most


def test_another_seed_draws_other_rows_and_the_same_seed_the_same() -> None:
    assert split(300, seed=1) == split(300, seed=1)
    assert split(300, seed=1) != split(300, seed=2)


def test_one_row_cannot_be_split() -> None:
    with pytest.raises(DataError, match="'mine' has 1 "):
        split(1)


def test_as_many_rows_for_choosing_are_planned_as_are_split_off() -> None:
    n_learnt = 1000
    planned = n_validation_examples(n_learnt, 0.1)

    train, validation = split(n_learnt + planned, n_most=n_learnt)

    assert (len(train), len(validation)) == (n_learnt, planned)


def test_a_dev_split_is_split_off_whole_and_alike() -> None:
    train, dev = split_off_dev(rows(50), share=0.2, dataset="mine")

    assert (len(train), len(dev)) == (40, 10)
    assert {*train, *dev} == set(rows(50))
    assert split_off_dev(rows(50), share=0.2, dataset="mine") == (train, dev)


def test_rows_to_report_on_are_a_sample_in_order_and_alike() -> None:
    dev = sample_dev(rows(50), n_most=20, dataset="mine")

    assert len(dev) == 20
    assert list(dev) == [row for row in rows(50) if row in dev]
    assert dev == sample_dev(rows(50), n_most=20, dataset="mine")
    assert sample_dev(rows(5), n_most=20, dataset="mine") == tuple(rows(5))
