from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamlab.diff.layout import Layout
from streamlab.diff.positions import (
    density_order,
    join,
    read_counts,
    read_flags,
    split,
    write_counts,
)
from streamlab.errors import DiffError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def layout_of(*shapes: tuple[int, ...]) -> Layout:
    return Layout("aa", tuple(f"t{i}" for i in range(len(shapes))), shapes)


def counts_of(*counts: int) -> NDArray[np.int64]:
    return np.array(counts, dtype=np.int64)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 2**32), max_size=20))
def test_counts_come_back(counts: list[int]) -> None:
    layout = layout_of(*[(2**32,)] * len(counts))

    written = write_counts(counts_of(*counts))

    assert read_counts(written, sum(counts), layout).tolist() == counts


def test_a_count_is_written_seven_bits_a_byte_lowest_first() -> None:
    assert write_counts(counts_of(0, 127, 128, 300)) == bytes([0, 127, 0x80, 1, 0xAC, 2])


def test_tensors_stand_by_falling_density_and_ties_as_in_the_base() -> None:
    layout = layout_of((10,), (100,), (0,), (10,), (20,))

    assert density_order(counts_of(1, 50, 0, 5, 2), layout).tolist() == [1, 3, 0, 4, 2]


def test_gaps_start_anew_in_every_tensor() -> None:
    streams = split([np.array([3, 4, 9]), np.array([0, 2])], layout_of((10,), (10,)))

    assert streams.order.tolist() == [0, 1]
    assert streams.gaps.tolist() == [3, 0, 4, 0, 1]


def test_a_matrix_kept_in_one_column_is_read_column_by_column() -> None:
    column = np.arange(5, dtype=np.int64) * 6 + 2  # the third column of a 5 x 6 matrix
    layout = layout_of((5, 6), (30,))

    streams = split([column, column], layout)

    assert streams.flags == b"\x01"
    assert streams.gaps.tolist() == [10, 0, 0, 0, 0, 2, 5, 5, 5, 5]
    flags = read_flags(streams.flags, counts_of(5, 5), layout)
    joined = join(streams.gaps, counts_of(5, 5), flags, layout)
    assert [p.tolist() for p in joined] == [column.tolist(), column.tolist()]


def test_later_axes_are_read_as_one() -> None:
    layout = layout_of((2, 2, 3))
    positions = np.array([0, 4, 10], dtype=np.int64)
    streams = split([positions], layout)
    turned = np.array([True])
    gaps = np.array([0, 7, 0], dtype=np.uint32)  # (0,0), (0,4), (1,4) of a 2 x 6 matrix

    assert join(gaps, counts_of(3), turned, layout)[0].tolist() == positions.tolist()
    assert len(streams.gaps) == 3


def test_a_gap_reaches_the_largest_tensor() -> None:
    layout = layout_of((2**32,))
    far = np.array([0, 2**32 - 1], dtype=np.int64)

    streams = split([far], layout)
    joined = join(streams.gaps, counts_of(2), np.array([False]), layout)

    assert joined[0].tolist() == far.tolist()


def test_pages_are_cut_where_the_density_of_tensors_falls() -> None:
    layout = layout_of((3000,), (2500,), (100_000,), (200_000,), (50,))
    all_of = [np.arange(n) for n in (3000, 2400, 3000, 5000, 0)]

    streams = split(all_of, layout)

    assert streams.pages == (5400, 8000)
    assert sum(streams.pages) == len(streams.gaps)


def test_a_tensor_past_the_reach_of_a_gap_is_refused() -> None:
    with pytest.raises(DiffError, match="4294967297 entries"):
        split([np.zeros(0, dtype=np.int64)], layout_of((2**32 + 1,)))
