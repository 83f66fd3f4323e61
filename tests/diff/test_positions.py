from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamlab.diff.entropy import even_bits_per_entry
from streamlab.diff.format import positions as positions_module
from streamlab.diff.format.partition import (
    COLUMNS,
    ROWS,
    WHOLE,
    cut_into_lines,
    read_cuts,
    write_cuts,
)
from streamlab.diff.format.positions import join, split
from streamlab.diff.format.varints import read_varints
from streamlab.diff.layout import Layout
from streamlab.diff.native_entries import LEAST_ENTRIES, native_entries
from streamlab.errors import DiffError, DiffFormatError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from streamlab.diff.format.positions import PositionStreams

Positions = list["NDArray[np.int64]"]
SHAPE = st.lists(st.integers(0, 9), max_size=3).map(tuple)


@pytest.fixture(scope="module", params=["numpy", "compiled"], autouse=True)
def _way(request: pytest.FixtureRequest) -> Iterator[None]:
    """Join positions one way, however few they are."""
    compiled = native_entries(LEAST_ENTRIES)
    if request.param == "compiled" and compiled is None:
        pytest.skip("no C compiler here")
    chosen = compiled if request.param == "compiled" else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(positions_module, "native_entries", lambda _: chosen)
        yield


def layout_of(*shapes: tuple[int, ...]) -> Layout:
    return Layout("aa", tuple(f"t{i}" for i in range(len(shapes))), shapes)


def joined(streams: PositionStreams, layout: Layout) -> Positions:
    lines = cut_into_lines(read_cuts(streams.cuts, layout), layout)
    counts = np.array(read_varints(streams.counts, "x"), dtype=np.int64)
    return join(streams.gaps, counts, streams.classes, lines, layout)


def cuts_of(streams: PositionStreams, layout: Layout) -> list[int]:
    return read_cuts(streams.cuts, layout).tolist()


def assert_comes_back(positions: Sequence[NDArray[np.int64]], layout: Layout) -> None:
    back = joined(split(positions, layout), layout)

    assert [p.tolist() for p in back] == [p.tolist() for p in positions]
    assert all(p.dtype == np.int64 and not p.flags.writeable for p in back)


@settings(deadline=None, max_examples=150)
@given(st.lists(SHAPE, max_size=6), st.sampled_from([0.0, 0.03, 0.3, 1.0]), st.integers(0, 99))
def test_positions_of_any_shapes_and_density_come_back(
    shapes: list[tuple[int, ...]], density: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    positions = [np.flatnonzero(rng.random(shape) < density) for shape in shapes]

    assert_comes_back(positions, layout_of(*shapes))


@pytest.mark.parametrize("axis", [0, 1])
def test_clustered_lines_come_back_and_are_cut_along_themselves(axis: int) -> None:
    rng = np.random.default_rng(axis)
    chances = np.where(rng.random(300) < 0.1, 0.5, 0.002)
    kept = rng.random((300, 400)) < chances[:, None]
    matrix = kept if axis == 0 else kept.T
    layout = layout_of(matrix.shape, (50,), matrix.shape)
    positions = [np.flatnonzero(matrix), np.arange(0, 50, 7), np.flatnonzero(matrix)]

    along = [ROWS, COLUMNS][axis]
    assert cuts_of(split(positions, layout), layout) == [along, WHOLE, along]
    assert_comes_back(positions, layout)


def test_a_matrix_without_pattern_stays_whole() -> None:
    rng = np.random.default_rng(0)
    layout = layout_of((300, 400))

    streams = split([np.flatnonzero(rng.random(300 * 400) < 0.02)], layout)

    assert cuts_of(streams, layout) == [WHOLE]


def test_lines_of_like_density_share_one_string() -> None:
    rng = np.random.default_rng(1)
    shapes = ((500, 600), (40_000,), (500, 600), (7,))
    chances = [0.02, 0.3, 0.02, 0.0]
    positions = [
        np.flatnonzero(rng.random(shape) < p) for shape, p in zip(shapes, chances, strict=True)
    ]
    layout = layout_of(*shapes)

    streams = split(positions, layout)

    assert streams.classes.tolist() == [2, 1, 2, 0]  # the densest is 1, an empty one has none
    assert streams.pages == (len(positions[1]), len(positions[0]) + len(positions[2]))
    assert_comes_back(positions, layout)


def test_a_gap_counts_what_lies_between_along_the_string() -> None:
    layout = layout_of((10,), (10,))

    streams = split([np.array([3, 4, 9]), np.array([0, 2])], layout)

    assert streams.classes.tolist() == [1, 1]
    assert streams.gaps.tolist() == [3, 0, 4, 0, 1]


def test_later_axes_are_read_as_one() -> None:
    layout = layout_of((2, 2, 3))
    positions = np.array([0, 4, 10], dtype=np.int64)
    lines = cut_into_lines(np.array([COLUMNS], dtype=np.uint8), layout)
    gaps = np.array([0, 7, 0], dtype=np.uint32)  # (0,0), (0,4), (1,4) of a 2 x 6 matrix
    classes = np.ones(6, dtype=np.uint16)

    back = join(gaps, np.array([3]), classes, lines, layout)

    assert back[0].tolist() == positions.tolist()
    assert_comes_back([positions], layout)


@pytest.mark.parametrize("n_rows", [2**16, 2**16 + 1])
def test_columns_of_any_length_become_sorted_positions(n_rows: int) -> None:
    layout = layout_of((n_rows, 3))
    lines = cut_into_lines(np.array([COLUMNS], dtype=np.uint8), layout)
    gaps = np.array([0, n_rows - 2, 0, n_rows - 1], dtype=np.uint32)
    # (0,0), (n-1,0), (0,1), (0,2) down the columns

    back = join(gaps, np.array([4]), np.ones(3, dtype=np.uint16), lines, layout)

    assert back[0].tolist() == [0, 1, 2, 3 * (n_rows - 1)]


def test_a_line_out_of_every_class_is_skipped() -> None:
    layout = layout_of((3, 4))
    lines = cut_into_lines(np.array([ROWS], dtype=np.uint8), layout)
    gaps = np.array([1, 2, 2], dtype=np.uint32)  # places 1, 4 and 7 of rows 0 and 2
    classes = np.array([1, 0, 1], dtype=np.uint16)

    assert join(gaps, np.array([3]), classes, lines, layout)[0].tolist() == [1, 8, 11]


@pytest.mark.parametrize(
    ("gaps", "counts", "rule"),
    [
        ([0, 0, 8], [3], "position-range"),
        ([0, 0, 1, 0], [2, 2], "count-range"),
        ([0], [0, 1], "count-range"),
        ([0] * 9, [9], "count-range"),
    ],
)
def test_entries_beyond_their_class_are_refused(
    gaps: list[int], counts: list[int], rule: str
) -> None:
    layout = layout_of((3, 4))
    lines = cut_into_lines(np.array([ROWS], dtype=np.uint8), layout)
    classes = np.array([1, 0, 1], dtype=np.uint16)

    with pytest.raises(DiffFormatError) as caught:
        join(np.array(gaps, dtype=np.uint32), np.array(counts), classes, lines, layout)

    assert caught.value.rule == rule


def test_a_gap_reaches_the_largest_tensor() -> None:
    assert_comes_back([np.array([0, 2**32], dtype=np.int64)], layout_of((2**32 + 1,)))


def test_a_gap_past_32_bits_is_refused() -> None:
    with pytest.raises(DiffError, match="4294967296"):
        split([np.array([0, 2**32 + 1], dtype=np.int64)], layout_of((2**32 + 2,)))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.sampled_from([WHOLE, ROWS, COLUMNS]), max_size=9))
def test_cuts_come_back(cuts: list[int]) -> None:
    layout = layout_of(*[(2, 3)] * len(cuts))

    assert read_cuts(write_cuts(np.array(cuts, dtype=np.uint8)), layout).tolist() == cuts


def test_cuts_take_two_bits_a_tensor_lowest_first() -> None:
    assert write_cuts(np.array([1, 2, 0, 1, 2], dtype=np.uint8)) == bytes([0b01_00_10_01, 2])


@pytest.mark.parametrize("density", [0.001, 0.05])
def test_evenly_drawn_positions_lie_in_one_class_near_their_entropy(density: float) -> None:
    rng = np.random.default_rng(5)
    layout = layout_of((1000, 300), (900, 1000), (300,), (2, 300))
    positions = [np.flatnonzero(rng.random(size) < density) for size in layout.sizes]

    streams = split(positions, layout)

    geometric = np.log2(1 / density) + streams.gaps * np.log2(1 / (1 - density))
    assert geometric.sum() / len(streams.gaps) < 1.02 * even_bits_per_entry(density)
    assert max(streams.pages) > 0.95 * len(streams.gaps)


def test_blocks_of_entries_give_the_same_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    shapes = ((40, 30), (7,), (25, 16))
    rng = np.random.default_rng(3)
    whole = [np.flatnonzero(rng.random(int(np.prod(shape))) < 0.2) for shape in shapes]
    monkeypatch.setattr("streamlab.diff.format.positions.native_entries", lambda _n: None)
    monkeypatch.setattr("streamlab.diff.format.positions._BLOCK_ENTRIES", 5)

    assert_comes_back(whole, layout_of(*shapes))
