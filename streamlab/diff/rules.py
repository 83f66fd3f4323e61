"""Position rules: a few numbers that determine which entries of a base a diff changes.

A rule needs the base's layout and integers, nothing else, so that every machine and version gets
the same positions: ascending, without repeats, in O(k).

    Seeded          k of the entries of some tensors
    SeededCounts    so many of the entries of every tensor, or of every row
    SeededRows      k of the entries of some rows
    WholeTensors    every entry of some tensors
    Shared          n values, each of which changes s of the entries of some tensors

"Seeded" means stratified: of n entries, the i-th of k positions lies in
[floor(i n / k), floor((i + 1) n / k)). Where in it, a hash of the seed and i decides.

A matrix, or a tensor of more axes, has a row for each index of its first axis; any other tensor is
one row. Rows are numbered through all tensors in layout order.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import Any, ClassVar, Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streamlab.diff.counter_hash import WORD_BITS, prefix, words
from streamlab.diff.layout import Layout
from streamlab.diff.native_entries import native_entries
from streamlab.errors import DiffError

MAX_ENTRIES: Final = (1 << 31) - 1  # of a diff: a sum of 32-bit gaps fits in 63 bits
_MAX_STRATUM: Final = (1 << 31) - 1  # so that a word times its length fits in 63 bits
_PART_ENTRIES: Final = 16_000  # whose words stay in a cache, and below what malloc gets anew
# What a word is hashed for, in place of a step.
_PLACE, _SIGN, _ROTATION = 0, 1, 2

Positions = NDArray[np.int64]
Integers = NDArray[np.int64]
Unsigned = NDArray[Any]  # 32 or 64 bits
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Stretches:
    """Runs of consecutive entries of a layout: where they start among all d, and their lengths."""

    starts: Integers
    lengths: Integers

    def __getitem__(self, chosen: NDArray[np.bool_]) -> Stretches:
        """Return the chosen ones."""
        return Stretches(self.starts[chosen], self.lengths[chosen])

    @property
    def total(self) -> int:
        """Return the number of entries."""
        return int(self.lengths.sum())


def tensors_of(layout: Layout) -> Stretches:
    """Return every tensor as one stretch."""
    return _consecutive(np.array(layout.sizes, dtype=np.int64))


def rows_of(layout: Layout) -> Stretches:
    """Return every row of every tensor as one stretch."""
    lengths = [math.prod(shape[1:] if len(shape) > 1 else shape) for shape in layout.shapes]
    n_rows = [row_number(shape) for shape in layout.shapes]
    return _consecutive(np.repeat(np.array(lengths, dtype=np.int64), n_rows))


def row_number(shape: tuple[int, ...]) -> int:
    """Return how many rows a tensor has."""
    return shape[0] if len(shape) > 1 else 1


def _consecutive(lengths: Integers) -> Stretches:
    return Stretches(np.cumsum(lengths) - lengths, lengths)


@dataclass(frozen=True, eq=False)
class Rule(ABC):
    """Numbers that determine positions in any layout that they fit."""

    name: ClassVar[str]
    """As pages name it."""

    @abstractmethod
    def n_entries(self, layout: Layout) -> int:
        """Return k, the number of positions. Raises DiffError where the rule does not fit."""

    @abstractmethod
    def drawn(self, layout: Layout) -> tuple[Stretches, Positions]:
        """Return stretches, and the ascending places of the entries on them, joined."""

    def resized(self, k: int) -> Rule | None:  # noqa: ARG002
        """Return the rule of about `k` entries of the same places, never more.

        None where it cannot have as many.
        """
        return None

    def values_of(self, entries: Floats) -> Floats:
        """Return the values that determine those of all entries, (k,) in layout order.

        Raises DiffError where none do.
        """
        return entries

    def entries_of(self, values: Floats) -> Floats:
        """Return the values of all entries, (k,) in layout order; the inverse of `values_of`."""
        return values

    def groups(self, counts: Sequence[int]) -> tuple[int, ...]:
        """Return how many consecutive values have one scale, from the entries of every tensor."""
        return tuple(counts)

    def __eq__(self, other: object) -> bool:
        """Compare kind and content."""
        if not isinstance(other, Rule):
            return NotImplemented
        return type(self) is type(other) and all(
            np.array_equal(getattr(self, field.name), getattr(other, field.name))
            for field in fields(self)
        )


def positions(rule: Rule, layout: Layout) -> list[Positions]:
    """Return the flat, ascending positions of every tensor, read-only.

    Raises DiffError where the rule does not fit the layout.
    """
    stretches, places = rule.drawn(layout)
    tensors = tensors_of(layout)
    ends = np.cumsum(stretches.lengths)
    upto = np.concatenate([np.zeros(1, np.int64), np.searchsorted(places, ends)])
    owner = np.searchsorted(tensors.starts, stretches.starts, side="right") - 1
    # From a place on the joined stretches to one within its tensor.
    shifts = stretches.starts - (ends - stretches.lengths) - tensors.starts[owner]
    places += np.repeat(shifts, np.diff(upto))
    places.flags.writeable = False
    n_before = np.searchsorted(stretches.starts, tensors.starts + tensors.lengths)
    return [places[first:end] for first, end in pairwise([0, *upto[n_before].tolist()])]


def stratified(seed: int, sizes: ArrayLike, counts: ArrayLike) -> Positions:
    """Choose `counts[b]` places in each of consecutive blocks of `sizes[b]` entries, (sum,) int64.

    Ascending, one in each stratum of a block. The i-th of all takes word i. Raises DiffError where
    a block has fewer entries than are wanted, or a stratum 2^31.

    >>> stratified(7, [100], [5]).tolist()
    [6, 30, 59, 69, 92]
    """
    size, count = np.asarray(sizes, dtype=np.int64), np.asarray(counts, dtype=np.int64)
    _check_draws(size, count)
    native = native_entries(int(count.sum()))
    if native is not None:
        return native.stratified(prefix(seed, _PLACE, 0), size, count)
    kept = count > 0
    places = np.empty(int(count.sum()), dtype=np.int64)
    first = 0
    for starts, lengths in _strata(np.cumsum(size)[kept], size[kept], count[kept]):
        within = words(seed, _PLACE, len(starts), first).astype(np.uint64)
        within *= lengths
        within >>= WORD_BITS
        within += starts
        places[first : first + len(starts)] = within
        first += len(starts)
    return places


def _strata(end: Integers, size: Integers, count: Integers) -> Iterator[tuple[Unsigned, Unsigned]]:
    """Yield the starts and the lengths of `count[b] > 0` strata of each block, a part at a time."""
    last = np.cumsum(count)
    k = int(count.sum())
    parts = np.arange(0, k, _PART_ENTRIES)
    firsts = np.union1d(parts, last - count)  # of runs of strata in one part and one block
    taken = np.diff(firsts, append=k)
    block = np.searchsorted(last, firsts, side="right")
    skipped = firsts - (last - count)[block]  # of the block's strata, before the run
    end, size, count = end[block], size[block], count[block]
    whole, rest = np.divmod(size, count)
    # floor(i n / k) in steps from the first stratum of a run, so that the products are small.
    carried = skipped * rest
    begin = end - size + skipped * whole + carried // count
    carried %= count
    stop = begin + taken * whole + (carried + taken * rest) // count
    fits = max(int(end.max(initial=0)), _PART_ENTRIES * int(count.max(initial=0))) < 1 << WORD_BITS
    dtype = np.uint32 if fits else np.uint64  # the narrow ones are twice as fast
    columns: list[Unsigned] = [
        column.astype(dtype)
        for column in (firsts % _PART_ENTRIES, whole, rest, carried, count, begin, stop)
    ]
    ramp = np.arange(min(k, _PART_ENTRIES), dtype=dtype)
    edges = np.searchsorted(firsts, [*parts.tolist(), k]).tolist()
    for part, runs in zip(parts.tolist(), map(slice, edges, edges[1:]), strict=True):
        each, lasts = taken[runs], np.cumsum(taken[runs]) - 1
        *numbers, stops = (column[runs] for column in columns)
        if len(each) > 1:  # the numbers of one run broadcast
            numbers = [np.repeat(column, each) for column in numbers]
        offset, of_step, rest_of_step, carry, divisor, origin = numbers
        steps: Unsigned = ramp[: k - part] - offset
        starts: Unsigned = steps * rest_of_step
        starts += carry
        starts //= divisor
        starts += origin
        steps *= of_step
        starts += steps
        lengths = steps
        np.subtract(starts[1:], starts[:-1], out=lengths[:-1])
        lengths[lasts] = stops - starts[lasts]
        yield starts, lengths


@dataclass(frozen=True, eq=False)
class Seeded(Rule):
    """`k` seeded positions among all entries of the tensors that take part."""

    name: ClassVar[str] = "seeded"

    seed: int
    tensors: tuple[bool, ...]  # one per tensor of the layout
    k: int

    def __post_init__(self) -> None:
        """Validate the numbers."""
        _check_seed(self.seed)
        _check_count("k", self.k)

    def n_entries(self, layout: Layout) -> int:
        """See `Rule`."""
        _check_draw(self.k, _chosen(self.tensors, layout).total)
        return self.k

    def resized(self, k: int) -> Rule | None:
        """See `Rule`."""
        return replace(self, k=k)

    def drawn(self, layout: Layout) -> tuple[Stretches, Positions]:
        """See `Rule`."""
        return _drawn_among(self.seed, _chosen(self.tensors, layout), self.k)


@dataclass(frozen=True, eq=False)
class SeededCounts(Rule):
    """So many seeded positions in every tensor, or in every row."""

    name: ClassVar[str] = "seeded counts"

    seed: int
    counts: Integers  # one per tensor or row
    per: Literal["tensor", "row"] = "tensor"

    def __post_init__(self) -> None:
        """Validate the numbers, and keep the counts read-only."""
        _check_seed(self.seed)
        object.__setattr__(self, "counts", _read_only(self.counts, np.int64))
        if int(self.counts.min(initial=0)) < 0:
            raise DiffError(f"Counts must not be negative, got {self.counts.min()}.")
        _check_count("The sum of the counts", sum(self.counts.tolist()))

    def n_entries(self, layout: Layout) -> int:
        """See `Rule`."""
        _check_draws(self._cells(layout).lengths, self.counts)
        return int(self.counts.sum())

    def resized(self, k: int) -> Rule | None:
        """Return counts in the same proportion. See `Rule`."""
        total = int(self.counts.sum())
        if k > total:
            return None
        counts, remainders = np.divmod(self.counts * k, total)
        counts[np.argsort(-remainders, kind="stable")[: k - int(counts.sum())]] += 1
        return replace(self, counts=counts)

    def drawn(self, layout: Layout) -> tuple[Stretches, Positions]:
        """See `Rule`."""
        cells = self._cells(layout)
        return cells, stratified(self.seed, cells.lengths, self.counts)

    def _cells(self, layout: Layout) -> Stretches:
        cells = tensors_of(layout) if self.per == "tensor" else rows_of(layout)
        _check_length("counts", self.per, len(self.counts), len(cells.lengths))
        return cells


@dataclass(frozen=True, eq=False)
class SeededRows(Rule):
    """`k` seeded positions among all entries of the selected rows."""

    name: ClassVar[str] = "seeded rows"

    seed: int
    rows: NDArray[np.bool_]  # whether each row is selected
    k: int

    def __post_init__(self) -> None:
        """Validate the numbers, and keep the rows read-only."""
        _check_seed(self.seed)
        object.__setattr__(self, "rows", _read_only(self.rows, np.bool_))
        _check_count("k", self.k)

    def n_entries(self, layout: Layout) -> int:
        """See `Rule`."""
        _check_draw(self.k, self._selected(layout).total)
        return self.k

    def resized(self, k: int) -> Rule | None:
        """See `Rule`."""
        return replace(self, k=k)

    def n_places(self, layout: Layout) -> int:
        """Return the number of entries of the selected rows."""
        return self._selected(layout).total

    def drawn(self, layout: Layout) -> tuple[Stretches, Positions]:
        """See `Rule`."""
        return _drawn_among(self.seed, self._selected(layout), self.k)

    def _selected(self, layout: Layout) -> Stretches:
        rows = rows_of(layout)
        _check_length("flags", "row", len(self.rows), len(rows.lengths))
        return rows[self.rows]


@dataclass(frozen=True, eq=False)
class WholeTensors(Rule):
    """Every entry of the tensors that take part."""

    name: ClassVar[str] = "whole tensors"

    tensors: tuple[bool, ...]  # one per tensor of the layout

    def n_entries(self, layout: Layout) -> int:
        """See `Rule`."""
        total = _chosen(self.tensors, layout).total
        _check_count("The number of entries", total)
        return total

    def drawn(self, layout: Layout) -> tuple[Stretches, Positions]:
        """See `Rule`."""
        return _chosen(self.tensors, layout), np.arange(self.n_entries(layout))


@dataclass(frozen=True, eq=False)
class Shared(Rule):
    """`n` values, each of which changes `s` seeded positions by itself or by its negative.

    The n s positions are those of `Seeded`. Entry i takes value (i + o) mod n, where the rotation o
    is seeded and the same for each n consecutive entries, with a seeded sign.
    """

    name: ClassVar[str] = "shared values"

    seed: int
    tensors: tuple[bool, ...]  # one per tensor of the layout
    n: int
    s: int

    def __post_init__(self) -> None:
        """Validate the numbers."""
        _check_seed(self.seed)
        _check_count("n", self.n)
        _check_count("s", self.s)
        _check_count("n * s", self.n * self.s)

    def n_entries(self, layout: Layout) -> int:
        """See `Rule`."""
        _check_draw(self.n * self.s, _chosen(self.tensors, layout).total)
        return self.n * self.s

    def resized(self, k: int) -> Rule | None:
        """See `Rule`."""
        return replace(self, n=max(1, k // self.s))

    def drawn(self, layout: Layout) -> tuple[Stretches, Positions]:
        """See `Rule`."""
        return _drawn_among(self.seed, _chosen(self.tensors, layout), self.n * self.s)

    def sources(self) -> Integers:
        """Return the number of every entry's value, (n s,) below n."""
        rotations = words(self.seed, _ROTATION, self.s).astype(np.int64) * self.n >> WORD_BITS
        sources = np.arange(self.n) + rotations[:, None]
        sources %= self.n
        return np.asarray(sources.reshape(-1))

    def signs(self) -> Floats:
        """Return 1 or -1 for every entry, (n s,): -1 where the top bit of its word is set."""
        signs = np.empty(self.n * self.s, dtype=np.float32)
        for first in range(0, len(signs), _PART_ENTRIES):
            part = signs[first : first + _PART_ENTRIES]
            part[:] = words(self.seed, _SIGN, len(part), first) >> WORD_BITS - 1
        signs *= -2
        signs += 1
        return signs

    def values_of(self, entries: Floats) -> Floats:
        """See `Rule`."""
        values = np.empty(self.n, dtype=np.float32)
        values[self.sources()] = entries * self.signs()
        if not np.array_equal(self.entries_of(values), entries):
            raise DiffError(f"Entries that share one of {self.n} values have different ones.")
        return values

    def entries_of(self, values: Floats) -> Floats:
        """See `Rule`."""
        entries: Floats = values[self.sources()]
        entries *= self.signs()
        return entries

    def groups(self, counts: Sequence[int]) -> tuple[int, ...]:  # noqa: ARG002 - of any layout
        """Return n: values belong to no tensor, and all have one scale."""
        return (self.n,)


def _drawn_among(seed: int, stretches: Stretches, k: int) -> tuple[Stretches, Positions]:
    """Return the stretches, and k seeded places on them."""
    return stretches, stratified(seed, [stretches.total], [k])


def _chosen(tensors: tuple[bool, ...], layout: Layout) -> Stretches:
    _check_length("flags", "tensor", len(tensors), len(layout.names))
    return tensors_of(layout)[np.array(tensors, dtype=np.bool_)]


def _read_only(array: ArrayLike, dtype: type[np.generic]) -> NDArray[Any]:
    given = np.asarray(array)
    if given.ndim != 1 or (len(given) and given.dtype != dtype):
        raise DiffError(f"A rule needs a vector of {dtype.__name__}, got {given.dtype}.")
    copy: NDArray[Any] = given.astype(dtype)
    copy.flags.writeable = False
    return copy


def _check_seed(seed: int) -> None:
    if not 0 <= seed < 1 << 64:
        raise DiffError(f"A rule's seed must have at most 64 bits, got {seed}.")


def _check_count(what: str, count: int) -> None:
    if not 1 <= count <= MAX_ENTRIES:
        raise DiffError(f"{what} must be 1 to {MAX_ENTRIES} in a rule, got {count}.")


def _check_length(what: str, of: str, given: int, wanted: int) -> None:
    if given != wanted:
        raise DiffError(f"A rule needs {what} for each of the base's {wanted} {of}s, got {given}.")


def _check_draws(sizes: Integers, counts: Integers) -> None:
    """Check that `counts[b]` of `sizes[b]` entries can be drawn, one in each stratum."""
    if bool((counts > sizes).any()):
        block = int(np.argmax(counts > sizes))
        raise DiffError(f"A rule wants {counts[block]} of {sizes[block]} entries.")
    if bool((sizes[counts > 0] // counts[counts > 0] >= _MAX_STRATUM).any()):
        raise DiffError(f"A rule must keep at least one of {_MAX_STRATUM} entries.")


def _check_draw(k: int, n: int) -> None:
    _check_draws(np.array([n]), np.array([k]))
