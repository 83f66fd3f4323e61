"""Position rules: the positions that a seed regenerates, against an implementation in plain Python.

That implementation follows docs/reference/format.md number by number, and shares no code with ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.utils import murmurhash3_32

from streamlab.diff.counter_hash import words
from streamlab.diff.layout import Layout
from streamlab.diff.native_entries import LEAST_ENTRIES, native_entries
from streamlab.diff.rules import (
    Rule,
    Seeded,
    SeededCounts,
    SeededRows,
    Shared,
    WholeTensors,
    positions,
    rows_of,
    stratified,
)
from streamlab.errors import DiffError

SHAPES = ((), (0,), (7,), (40, 30), (3, 0), (0, 4), (2, 3, 4), (30, 40), (1,), (50,))
LAYOUT = Layout("ab" * 32, tuple(f"t{i}" for i in range(len(SHAPES))), SHAPES)
MATRICES = tuple(len(shape) > 1 for shape in SHAPES)
EVERY = (True,) * len(SHAPES)


def word(seed: int, step: int, i: int) -> int:
    """Return one word by another implementation of the hash."""
    message = b"".join(n.to_bytes(4, "little") for n in (seed >> 32, step, 0, i))
    return int(murmurhash3_32(message, seed=seed & 0xFFFFFFFF, positive=True))


def drawn(seed: int, entries: Sequence[Any], k: int, first: int = 0) -> list[Any]:
    """Return the i-th entry of every stratum, chosen by word `first` + i."""
    n = len(entries)
    chosen = []
    for i in range(k):
        low, high = i * n // k, (i + 1) * n // k
        chosen.append(entries[low + (word(seed, 0, first + i) * (high - low) >> 32)])
    return chosen


def rows(shape: tuple[int, ...]) -> list[list[int]]:
    size = math.prod(shape)
    if len(shape) < 2:
        return [list(range(size))]
    length = math.prod(shape[1:])
    return [list(range(r * length, (r + 1) * length)) for r in range(shape[0])]


def entries_in_order(tensors: tuple[bool, ...]) -> list[tuple[int, int]]:
    return [
        (t, position)
        for t, (shape, on) in enumerate(zip(SHAPES, tensors, strict=True))
        if on
        for position in range(math.prod(shape))
    ]


def expected(rule: Rule) -> list[tuple[int, int]]:
    """Return (tensor, position) of every entry, in order."""
    every_row = [(t, row) for t, shape in enumerate(SHAPES) for row in rows(shape)]
    match rule:
        case Seeded(seed, tensors, k):
            return drawn(seed, entries_in_order(tensors), k)
        case Shared(seed, tensors, n, s):
            return drawn(seed, entries_in_order(tensors), n * s)
        case WholeTensors(tensors):
            return entries_in_order(tensors)
        case SeededRows(seed, selected, k):
            pairs = zip(every_row, selected, strict=True)
            within = [(t, p) for (t, row), on in pairs if on for p in row]
            return drawn(seed, within, k)
        case SeededCounts(seed, counts, per):
            cells = every_row
            if per == "tensor":
                cells = [(t, list(range(math.prod(shape)))) for t, shape in enumerate(SHAPES)]
            chosen: list[tuple[int, int]] = []
            for (t, cell), count in zip(cells, counts.tolist(), strict=True):
                chosen += [(t, p) for p in drawn(seed, cell, count, len(chosen))]
            return chosen
    raise AssertionError(rule)


def flat(rule: Rule) -> list[tuple[int, int]]:
    parts = positions(rule, LAYOUT)
    return [(t, position) for t, part in enumerate(parts) for position in part.tolist()]


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    """Draw rules of every kind that fit the layout."""
    seed = draw(st.one_of(st.integers(0, 2**64 - 1), st.integers(0, 3)))
    kind = draw(st.sampled_from(["seeded", "counts", "row counts", "rows", "tensors", "shared"]))
    tensors = draw(st.sampled_from([EVERY, MATRICES, tuple(len(s) == 1 for s in SHAPES)]))
    size = len(entries_in_order(tensors))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    if kind == "counts":
        sizes = np.array(LAYOUT.sizes)
        counts = rng.integers(0, sizes + 1)
        counts[2] = 1
        return SeededCounts(seed, counts)
    lengths = rows_of(LAYOUT).lengths
    if kind == "row counts":
        counts = rng.integers(0, lengths + 1) * (rng.random(len(lengths)) < 0.5)
        counts[-1] = 50
        return SeededCounts(seed, counts, "row")
    if kind == "rows":
        selected = rng.random(len(lengths)) < 0.3
        selected[-1] = True
        return SeededRows(seed, selected, draw(st.integers(1, int(lengths[selected].sum()))))
    if kind == "tensors":
        return WholeTensors(tensors)
    if kind == "shared":
        n = draw(st.integers(1, size))
        return Shared(seed, tensors, n, draw(st.integers(1, size // n)))
    return Seeded(seed, tensors, draw(st.integers(1, size)))


@settings(deadline=None, max_examples=60)
@given(rule=rules())
def test_a_rule_gives_the_positions_that_the_specification_says(rule: Rule) -> None:
    assert flat(rule) == expected(rule)
    assert rule.n_entries(LAYOUT) == len(expected(rule))


@settings(deadline=None, max_examples=40)
@given(rule=rules())
def test_positions_ascend_lie_inside_their_tensors_and_cannot_be_written_to(rule: Rule) -> None:
    for part, size in zip(positions(rule, LAYOUT), LAYOUT.sizes, strict=True):
        assert part.dtype == np.int64
        assert not part.flags.writeable
        assert bool((np.diff(part) > 0).all())
        assert len(part) == 0 or 0 <= part[0] <= part[-1] < size


def test_words_are_golden() -> None:
    assert words(0, 0, 3).tolist() == [word(0, 0, i) for i in range(3)]
    assert words(2**63 + 5, 2, 3).tolist() == [word(2**63 + 5, 2, i) for i in range(3)]


def test_seeded_places_are_golden() -> None:
    assert stratified(7, [100], [5]).tolist() == [6, 30, 59, 69, 92]
    wide = stratified(2**40 + 1, [2**31 - 1], [3])
    assert wide.tolist() == [136776109, 1127425704, 1607813809]
    assert stratified(1, [10], [10]).tolist() == list(range(10))
    assert stratified(1, [10], [0]).tolist() == []
    assert stratified(1, [10, 0, 10], [2, 0, 3]).shape == (5,)


@pytest.mark.parametrize("n", [2**20, 2**33], ids=["32 bits", "64 bits"])
def test_places_do_not_depend_on_the_parts_in_which_they_are_computed(n: int) -> None:
    sizes, counts = [30_000, 7, n], [20_000, 5, 20_000]

    expected = drawn(9, range(30_000), 20_000)
    expected += [30_000 + place for place in drawn(9, range(7), 5, 20_000)]
    expected += [30_007 + place for place in drawn(9, range(n), 20_000, 20_005)]

    assert stratified(9, sizes, counts).tolist() == expected


def test_places_of_a_base_of_many_billions_do_not_overflow() -> None:
    n, k = 2**45, 2**16
    found = stratified(3, [n], [k]).tolist()

    assert found[-1] == (k - 1) * n // k + (word(3, 0, k - 1) * (n // k) >> 32)
    assert 0 <= found[0] < found[-1] < n


def test_seeded_places_are_spread_evenly_within_their_strata() -> None:
    offsets = stratified(3, [1_000_000], [10_000]) - np.arange(10_000) * 100

    counts = np.bincount(offsets, minlength=100)
    assert len(counts) == 100
    assert float(((counts - 100.0) ** 2 / 100).sum()) < 150  # chi-squared, 99 degrees: p = 0.001


def test_another_seed_gives_other_places() -> None:
    one, other = (set(stratified(seed, [100_000], [1_000]).tolist()) for seed in (1, 2))

    assert len(one & other) < 40  # ten by chance


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**64 - 1), n=st.integers(1, 40), s=st.integers(1, 9))
def test_every_shared_value_moves_s_entries_by_seeded_signs(seed: int, n: int, s: int) -> None:
    rule = Shared(seed, EVERY, n, s)
    values = np.arange(1, n + 1, dtype=np.float32)

    entries = rule.entries_of(values)

    rotations = [word(seed, 2, turn) * n >> 32 for turn in range(s)]
    wanted = [
        (-1.0 if word(seed, 1, i) >> 31 else 1.0) * ((i + rotations[i // n]) % n + 1)
        for i in range(n * s)
    ]
    assert entries.tolist() == wanted
    assert np.bincount(rule.sources(), minlength=n).tolist() == [s] * n
    np.testing.assert_array_equal(rule.values_of(entries), values)


def test_entries_that_do_not_share_their_value_are_refused() -> None:
    rule = Shared(1, EVERY, 4, 3)
    entries = rule.entries_of(np.ones(4, np.float32))
    entries[5] = 2

    with pytest.raises(DiffError, match="share one of 4 values"):
        rule.values_of(entries)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Seeded(-1, EVERY, 1), "at most 64 bits"),
        (lambda: Seeded(2**64, EVERY, 1), "at most 64 bits"),
        (lambda: Seeded(1, EVERY, 0), "k must be 1 to"),
        (lambda: Seeded(1, EVERY, 2**31), "k must be 1 to"),
        (lambda: Shared(1, EVERY, 2**16, 2**15), r"n \* s must be 1 to"),
        (lambda: Shared(1, EVERY, 0, 5), "n must be 1 to"),
        (lambda: SeededCounts(1, np.array([1, -1])), "must not be negative"),
        (lambda: SeededCounts(1, np.array([0, 0])), "must be 1 to"),
        (lambda: SeededCounts(1, np.full(4, 2**62)), "must be 1 to"),
        (lambda: SeededCounts(1, np.array([0.5])), "vector of int64"),
        (lambda: SeededRows(1, np.array([1]), 1), "vector of bool"),
    ],
)
def test_numbers_that_no_layout_fits_are_refused(make: Any, message: str) -> None:
    with pytest.raises(DiffError, match=message):
        make()


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (Seeded(1, (True,), 1), "for each of the base's 10 tensors, got 1"),
        (Seeded(1, tuple(shape == (7,) for shape in SHAPES), 8), "wants 8 of 7"),
        (SeededCounts(1, np.array([0, 1] + [0] * 8)), "wants 1 of 0"),
        (SeededCounts(1, np.array([1])), "for each of the base's 10 tensors"),
        (SeededCounts(1, np.array([1]), "row"), "for each of the base's 80 rows"),
        (SeededRows(1, np.array([True]), 1), "for each of the base's 80 rows"),
        (SeededRows(1, np.arange(80) == 0, 2), "wants 2 of 1"),
        (WholeTensors(tuple(0 in shape for shape in SHAPES)), "must be 1 to"),
        (Shared(1, EVERY, 500, 6), "wants 3000 of 2483"),
    ],
)
def test_a_rule_that_does_not_fit_a_layout_is_refused(rule: Rule, message: str) -> None:
    with pytest.raises(DiffError, match=message):
        rule.n_entries(LAYOUT)
    with pytest.raises(DiffError, match=message):
        positions(rule, LAYOUT)


@pytest.mark.parametrize(
    "rule",
    [Seeded(1, (True,), 2), SeededCounts(1, np.array([2])), Shared(1, (True,), 1, 2)],
    ids=lambda rule: rule.name,
)
def test_a_stratum_that_would_overflow_is_refused_before_anything_is_drawn(rule: Rule) -> None:
    layout = Layout("ab" * 32, ("t",), ((2**33,),))

    with pytest.raises(DiffError, match="at least one of 2147483647 entries"):
        rule.n_entries(layout)


def test_rules_are_compared_by_kind_and_content() -> None:
    counts = np.array([1, 2])

    assert SeededCounts(1, counts) == SeededCounts(1, counts.copy())
    assert SeededCounts(1, counts) != SeededCounts(1, counts, "row")
    assert Seeded(1, EVERY, 4) != Shared(1, EVERY, 4, 1)
    assert Seeded(1, EVERY, 4) != Seeded(2, EVERY, 4)


@pytest.mark.parametrize("seed", [0, 2**64 - 1])
def test_many_positions_are_those_of_numpy_in_c(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if native_entries(LEAST_ENTRIES) is None:
        pytest.skip("no C compiler")
    rng = np.random.default_rng(2)
    sizes = np.array([10, 0, 40_000, 1 << 31, 7, 3_000_000_000, 900])
    counts = np.array([10, 0, 39_999, 2_500, 0, 9_001, int(rng.integers(900))])

    found = stratified(seed, sizes, counts)
    monkeypatch.setattr("streamlab.diff.rules.native_entries", lambda _: None)

    assert np.array_equal(found, stratified(seed, sizes, counts))
