from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from streamlab.diff.entropy import even_bits_per_entry, two_part_bound
from streamlab.diff.format.container import encode
from streamlab.diff.layout import Layout
from streamlab.diff.vector import DiffVector, SparseTensor

if TYPE_CHECKING:
    from collections.abc import Callable


def diff_of(*kept: tuple[tuple[int, ...], list[int]]) -> DiffVector:
    layout = Layout("ab", tuple(f"t{i}" for i in range(len(kept))), tuple(s for s, _ in kept))
    tensors = tuple(
        SparseTensor(shape, np.array(places, np.int64), np.ones(len(places), np.float32))
        for shape, places in kept
    )
    return DiffVector(layout, tensors, {"h": np.ones(1, np.float32)}, {})


@pytest.mark.parametrize(
    ("density", "bits"), [(0.001, 11.41), (0.005, 9.083), (0.01, 8.08), (0.05, 5.73), (0.5, 2.0)]
)
def test_even_positions_take_the_entropy_over_the_density(density: float, bits: float) -> None:
    assert even_bits_per_entry(density) == pytest.approx(bits, abs=0.006)


@pytest.mark.parametrize("density", [0.0, 1.0])
def test_a_certain_mask_takes_no_bits(density: float) -> None:
    assert even_bits_per_entry(density) == 0.0


def test_one_vector_takes_the_log_of_its_choices() -> None:
    bound = two_part_bound(diff_of(((10,), [1, 4, 7])))

    assert bound == pytest.approx(math.log2(math.comb(10, 3)))


def test_the_counts_of_tensors_are_charged() -> None:
    bound = two_part_bound(diff_of(((10,), [1, 4, 7]), ((5,), []), ((6,), [0, 1])))

    counts = math.log2(math.comb(5 + 2, 2))
    inside = math.log2(math.comb(10, 3)) + math.log2(math.comb(6, 2))
    assert bound == pytest.approx(counts + inside)


@pytest.mark.parametrize(("step", "start"), [(1, 3 * 40), (40, 3)])
def test_a_full_row_or_column_is_cheap(step: int, start: int) -> None:
    """All 40 entries of one line of a 40 x 40 matrix: only the counts of its lines are paid."""
    bound = two_part_bound(diff_of(((40, 40), [start + step * i for i in range(40)])))

    counts = math.log2(math.comb(40 + 39, 39))
    assert bound == pytest.approx(counts + math.log2(3))


def test_rows_are_paid_one_by_one() -> None:
    kept = [0, 1, 2, 3, 4, 5, 30, 31]  # six of ten in row 0, two of ten in row 3
    bound = two_part_bound(diff_of(((200, 10), kept)))

    as_rows = (
        math.log2(math.comb(8 + 199, 199))
        + math.log2(math.comb(10, 6))
        + math.log2(math.comb(10, 2))
    )
    as_tensor = math.log2(math.comb(2000, 8))
    assert as_rows < as_tensor
    assert bound == pytest.approx(as_rows + math.log2(3))


@pytest.mark.parametrize("kept", [[], list(range(12))])
def test_a_matrix_kept_not_at_all_or_wholly_takes_nothing(kept: list[int]) -> None:
    bound = two_part_bound(diff_of(((3, 4), kept)))

    assert bound == 0.0


def test_even_masks_meet_the_entropy_and_clustered_ones_fall_below() -> None:
    rng = np.random.default_rng(0)
    even = np.flatnonzero(rng.random((2000, 1000)) < 0.01)
    dense_rows = rng.random((2000, 1)) < 0.1
    clustered = np.flatnonzero((rng.random((2000, 1000)) < 0.1) & dense_rows)

    by_chance = two_part_bound(diff_of(((2000, 1000), even.tolist())))
    by_rows = two_part_bound(diff_of(((2000, 1000), clustered.tolist())))

    entropy = even_bits_per_entry(0.01)
    assert by_chance / len(even) == pytest.approx(entropy, rel=0.01)
    assert by_rows / len(clustered) < 0.7 * entropy


def test_no_file_of_even_positions_beats_the_bound(draw_diff: Callable[..., DiffVector]) -> None:
    diff = draw_diff(3, shapes=((300, 400), (400,)), density=0.02)

    assert 8 * encode(diff).parts.positions > two_part_bound(diff)
