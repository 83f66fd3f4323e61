from __future__ import annotations

import copy
import pickle
from typing import TYPE_CHECKING

import numpy as np
import pytest

from streamlab.diff.layout import Layout
from streamlab.diff.vector import DiffVector, SparseTensor
from streamlab.errors import BaseMismatchError, DiffError

if TYPE_CHECKING:
    from collections.abc import Callable

LAYOUT = Layout("cd" * 32, ("a", "b"), ((2, 3), (4,)))


def sparse(
    shape: tuple[int, ...], positions: list[int], values: list[float] | None = None
) -> SparseTensor:
    given = [1.0] * len(positions) if values is None else values
    return SparseTensor(shape, np.array(positions, np.int64), np.array(given, np.float32))


def vector(a: SparseTensor, b: SparseTensor, layout: Layout = LAYOUT) -> DiffVector:
    return DiffVector(layout, (a, b), {}, {})


@pytest.mark.parametrize(
    ("positions", "values", "said"),
    [
        ([0, 6], [1, 1], r"lie in \[0, 6\)"),
        ([-1, 2], [1, 1], r"lie in \[0, 6\)"),
        ([3, 3], [1, 1], "strictly ascending"),
        ([4, 3], [1, 1], "strictly ascending"),
        ([0, 1], [1], "equally long"),
        ([0], [np.nan], "finite"),
        ([0], [np.inf], "finite"),
    ],
)
def test_what_is_no_sparse_tensor_is_refused(
    positions: list[int], values: list[float], said: str
) -> None:
    with pytest.raises(DiffError, match=said):
        sparse((2, 3), positions, values)


def test_numbers_of_another_type_are_refused() -> None:
    with pytest.raises(DiffError, match="`positions` must be a numpy array of int64"):
        SparseTensor((4,), np.array([1], np.int32), np.array([1], np.float32))
    with pytest.raises(DiffError, match="`values` must be a numpy array of float32"):
        SparseTensor((4,), np.array([1], np.int64), np.array([1], np.float64))


def test_a_scalar_in_place_of_rows_is_refused() -> None:
    with pytest.raises(DiffError, match="equally long"):
        SparseTensor((4,), np.array(1, np.int64), np.array(1, np.float32))


def test_dense_and_back_is_the_same_diff(draw_diff: Callable[..., DiffVector]) -> None:
    diff = draw_diff(3)

    dense = [tensor.dense() for tensor in diff.tensors]

    for tensor, flat in zip(diff.tensors, map(np.ravel, dense), strict=True):
        entries = np.flatnonzero(flat)
        assert SparseTensor(tensor.shape, entries, flat[entries]) == tensor


def test_an_entry_of_value_zero_is_dropped() -> None:
    diff = vector(sparse((2, 3), [1, 4], [0.0, 2.0]), sparse((4,), [2], [-0.0]))

    assert diff.counts == (1, 0)
    assert diff == vector(sparse((2, 3), [4], [2.0]), sparse((4,), []))


def test_counts_and_density_leave_the_head_out() -> None:
    head = {"h.weight": np.ones((2, 5), np.float32)}
    diff = DiffVector(LAYOUT, (sparse((2, 3), [1, 4]), sparse((4,), [0])), head, {})

    assert (diff.n_gated, diff.n_entries, diff.n_head_entries) == (10, 3, 10)
    assert diff.counts == (2, 1)
    assert diff.density == 0.3


def test_overlap_is_the_jaccard_index_of_positions() -> None:
    one = vector(sparse((2, 3), [0, 1, 2]), sparse((4,), [3]))
    other = vector(sparse((2, 3), [1, 2, 3], [9, 9, 9]), sparse((4,), [0]))

    assert one.overlap(other) == 2 / 6
    assert one.overlap(one) == 1.0


def test_two_empty_diffs_overlap_wholly() -> None:
    empty = (sparse((2, 3), []), sparse((4,), []))
    head = {"h": np.ones(1, np.float32)}

    assert DiffVector(LAYOUT, empty, head, {}).overlap(DiffVector(LAYOUT, empty, head, {})) == 1.0


def test_diffs_on_different_bases_have_no_overlap() -> None:
    other = Layout("ef" * 32, LAYOUT.names, LAYOUT.shapes)
    tensors = sparse((2, 3), [0]), sparse((4,), [])

    with pytest.raises(BaseMismatchError, match="'efef"):
        vector(*tensors).overlap(vector(*tensors, layout=other))


def test_a_diff_that_changes_nothing_is_refused_but_a_head_alone_is_fine() -> None:
    empty = (sparse((2, 3), []), sparse((4,), []))

    with pytest.raises(DiffError, match="changes nothing"):
        DiffVector(LAYOUT, empty, {}, {})
    assert DiffVector(LAYOUT, empty, {"h": np.ones(2, np.float32)}, {}).n_entries == 0


def test_tensors_that_do_not_fit_the_layout_are_refused() -> None:
    with pytest.raises(DiffError, match="each of the base's 2 tensors, got 1"):
        DiffVector(LAYOUT, (sparse((2, 3), [0]),), {}, {})
    with pytest.raises(DiffError, match=r"`a` has the shape \(2, 3\) in the base, \(3, 2\)"):
        vector(sparse((3, 2), [0]), sparse((4,), []))


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ({"": np.ones(1, np.float32)}, "needs a name"),
        ({"h": np.ones(0, np.float32)}, "at least one entry"),
        ({"h": np.array([np.nan], np.float32)}, "NaN or infinite"),
        ({"h": np.ones(1, np.float64)}, "float32"),
        ({"\ud800": np.ones(1, np.float32)}, "JSON"),
    ],
)
def test_what_is_no_head_is_refused(head: dict[str, np.ndarray], said: str) -> None:
    with pytest.raises(DiffError, match=said):
        DiffVector(LAYOUT, (sparse((2, 3), [0]), sparse((4,), [])), head, {})


@pytest.mark.parametrize("task", [{"a": float("nan")}, {"a": {1, 2}}, {"a": "\udc00"}])
def test_a_task_that_is_not_json_is_refused(task: dict[str, object]) -> None:
    with pytest.raises(DiffError, match="must be JSON"):
        DiffVector(LAYOUT, (sparse((2, 3), [0]), sparse((4,), [])), {}, task)


def test_a_task_is_kept_as_json_gives_it_back() -> None:
    task = {"labels": ("a", "b"), "ids": {1: "x"}}

    diff = DiffVector(LAYOUT, (sparse((2, 3), [0]), sparse((4,), [])), {}, task)

    assert diff.task == {"labels": ["a", "b"], "ids": {"1": "x"}}


def test_equality_looks_at_every_part(draw_diff: Callable[..., DiffVector]) -> None:
    diff = draw_diff(1)
    head = dict(diff.head)
    head["classifier.bias"] = head["classifier.bias"] + 1

    assert diff == draw_diff(1)
    assert diff != draw_diff(2)
    assert diff != DiffVector(diff.layout, diff.tensors, head, diff.task)
    assert diff != DiffVector(diff.layout, diff.tensors, diff.head, {})
    assert diff != "diff"
    assert diff.tensors[3] != "tensor"


def test_entries_cannot_be_written_to(draw_diff: Callable[..., DiffVector]) -> None:
    diff = draw_diff(1)

    with pytest.raises(ValueError, match="read-only"):
        diff.tensors[4].values[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        diff.head["classifier.bias"][0] = 1


def test_the_arrays_handed_in_stay_writable() -> None:
    positions, values = np.array([1]), np.array([1], np.float32)

    SparseTensor((4,), positions, values)
    values[0] = 2

    assert values[0] == 2


def test_a_diff_survives_pickling_and_copying(draw_diff: Callable[..., DiffVector]) -> None:
    diff = draw_diff(1)

    assert pickle.loads(pickle.dumps(diff)) == diff  # noqa: S301 - made two words earlier
    assert copy.deepcopy(diff) == diff
