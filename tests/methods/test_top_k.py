"""The L0 ball: exactly k, over all tensors together, and the same ones every time."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from streamlab.errors import TrainingError
from streamlab.methods.masks.selection import budget, nth_largest, top_k

# Few different scores, so that most draws have ties at the threshold.
scores = st.lists(
    st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0, 1e-30, 3.0]), max_size=12), max_size=5
)


@settings(deadline=None, max_examples=300)
@given(scores=scores, data=st.data())
def test_the_k_largest_are_selected_and_ties_go_to_the_lowest_index(
    scores: list[list[float]], data: st.DataObject
) -> None:
    flat = [score for tensor in scores for score in tensor]
    n_candidates = sum(score > 0.0 for score in flat)
    if n_candidates == 0:
        return
    k = data.draw(st.integers(1, n_candidates))

    positions = top_k([torch.tensor(tensor) for tensor in scores], k)

    expected = set(sorted(range(len(flat)), key=lambda i: (-flat[i], i))[:k])
    starts = [sum(map(len, scores[:i])) for i in range(len(scores))]
    kept = [at.tolist() for at in positions]
    assert [at.dtype for at in positions] == [torch.int64] * len(scores)
    assert all(at == sorted(at) for at in kept)
    assert {s + p for s, at in zip(starts, kept, strict=True) for p in at} == expected
    assert sum(map(len, kept)) == k


@settings(deadline=None, max_examples=50)
@given(scores=scores.filter(any), extra=st.integers(1, 5))
def test_too_few_candidates_is_a_training_error(scores: list[list[float]], extra: int) -> None:
    n_candidates = sum(score > 0.0 for tensor in scores for score in tensor)
    k = n_candidates + extra

    with pytest.raises(TrainingError, match=f"{k} of .* only {n_candidates} have changed"):
        top_k([torch.tensor(tensor) for tensor in scores], k)


def test_matrices_are_counted_row_by_row() -> None:
    kept = top_k([torch.tensor([[0.0, 3.0], [2.0, 1.0]]), torch.tensor(2.5)], 3)

    assert [at.tolist() for at in kept] == [[1, 2], [0]]


def test_scores_that_are_not_finite_are_a_training_error() -> None:
    scores = [torch.tensor([1.0, 2.0]), torch.tensor([float("nan"), 3.0, float("inf")])]

    with pytest.raises(TrainingError, match=r"2 of 5 entries became NaN or infinite"):
        top_k(scores, 2)


@pytest.mark.parametrize(
    ("density", "n_gated", "k"), [(0.005, 1000, 5), (0.005, 22_700_001, 113_500), (1.0, 7, 7)]
)
def test_the_budget_is_the_rounded_share(density: float, n_gated: int, k: int) -> None:
    assert budget(density, n_gated) == k


def test_the_budget_is_at_least_one() -> None:
    assert budget(1e-9, 10) == 1


@given(st.lists(st.floats(-5, 5, width=32), min_size=1, max_size=30), st.integers(1, 40))
def test_the_nth_largest_is_the_least_where_there_are_fewer(values: list[float], n: int) -> None:
    found = nth_largest(torch.tensor(values), n)

    assert found == sorted(values, reverse=True)[min(n, len(values)) - 1]
