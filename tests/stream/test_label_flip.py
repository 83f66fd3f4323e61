"""`flip_labels`: exactly the share asked for, of the rows that the provider holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamlab.errors import DataError
from streamlab.stream.providers.behaviours import flip_labels
from streamlab.tasks.examples import SourceUsed, TaskData
from streamlab.tasks.metrics import find_metric
from streamlab.tasks.types.example import Example

SHARES = st.floats(0, 1)
SEEDS = st.integers(0, 1000)


def classified(n_classes: int, n_train: int, n_validation: int = 5) -> TaskData:
    def rows(n: int) -> tuple[Example, ...]:
        return tuple(Example(f"text {i}", None, i % n_classes) for i in range(n))

    return TaskData(
        name="mood",
        dataset="files",
        kind="classification",
        labels=tuple(f"label {i}" for i in range(n_classes)),
        metrics=(find_metric("accuracy"),),
        train=rows(n_train),
        validation=rows(n_validation),
        dev=rows(7),
        source=SourceUsed("files", "rows", "00" * 32),
    )


def numbered(*labels: float) -> TaskData:
    rows = tuple(Example(f"text {i}", "more", label) for i, label in enumerate(labels))
    data = classified(2, 1)
    return replace(
        data,
        kind="regression",
        labels=(),
        metrics=(find_metric("pearson"),),
        train=rows,
        validation=rows[:1],
    )


def changed(before: Sequence[Example], after: Sequence[Example]) -> list[int]:
    """Return the rows whose labels differ; nothing else may."""
    pairs = list(zip(before, after, strict=True))
    assert all(replace(new, label=old.label) == old for old, new in pairs)
    return [i for i, (old, new) in enumerate(pairs) if old.label != new.label]


@settings(deadline=None)
@given(st.integers(2, 4), st.integers(1, 40), st.integers(0, 9), SHARES, SEEDS)
def test_exactly_the_share_of_classes_is_wrong(
    n_classes: int, n_train: int, n_validation: int, share: float, seed: int
) -> None:
    data = classified(n_classes, n_train, n_validation)

    flipped = flip_labels(data, share=share, seed=seed)

    assert len(changed(data.train, flipped.train)) == round(share * n_train)
    assert len(changed(data.validation, flipped.validation)) == round(share * n_validation)
    assert {row.label for row in flipped.train} <= set(range(n_classes))
    assert replace(flipped, train=data.train, validation=data.validation) == data  # dev stays


def test_a_wrong_class_is_any_of_the_others() -> None:
    data = classified(4, 400)

    flipped = flip_labels(data, share=1.0, seed=3)

    pairs = {(old.label, new.label) for old, new in zip(data.train, flipped.train, strict=True)}
    assert len(pairs) == 4 * 3


def test_numbers_are_mirrored_in_their_range() -> None:
    flipped = flip_labels(numbered(0.0, 1.0, 5.0), share=1.0, seed=0)

    assert [row.label for row in flipped.train] == [5.0, 4.0, 0.0]
    assert [row.label for row in flipped.validation] == [5.0]


@settings(deadline=None)
@given(st.integers(1, 40), SHARES, SEEDS)
def test_exactly_the_share_of_numbers_is_wrong(n: int, share: float, seed: int) -> None:
    data = numbered(-1.0, *(0.1 + i for i in range(n)))  # no number in the middle of the range

    flipped = flip_labels(data, share=share, seed=seed)

    assert len(changed(data.train, flipped.train)) == round(share * (n + 1))


@settings(deadline=None)
@given(SHARES, SEEDS)
def test_the_same_seed_flips_the_same_rows(share: float, seed: int) -> None:
    data = classified(3, 20)

    assert flip_labels(data, share=share, seed=seed) == flip_labels(data, share=share, seed=seed)


def test_another_seed_flips_other_rows() -> None:
    data = classified(2, 40)
    flips = {flip_labels(data, share=0.5, seed=seed).train for seed in range(5)}

    assert len(flips) == 5


def test_one_class_alone_cannot_be_flipped() -> None:
    with pytest.raises(DataError, match="has two `labels` or more"):
        flip_labels(classified(1, 5), share=0.5, seed=0)
