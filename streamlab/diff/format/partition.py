"""Partition of tensors into lines, and of lines into classes of similar density.

A tensor is one line, or is cut into its rows or its columns. Each line belongs to a class; class 0
has no entries. The lines of a class, in the base's order, form one string.

The writer chooses cuts and classes. In a class of density p with a share q of its tensor's lines, a
line of n entries, c of them non-zero, takes

    -c log2 p - (n - c) log2(1 - p) - log2 q        bits

for its entries and the number of its class. Assigning each line to its cheapest class and
recomputing the classes' densities in turn is entropy-constrained quantisation (Chou, Lookabaugh
and Gray, 1989). A reader does not depend on the choice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamlab.diff.layout import Layout
from streamlab.errors import DiffFormatError

WHOLE, ROWS, COLUMNS = 0, 1, 2  # cuts
CLASS_BITS = 480.0  # overhead of a class, which has pages of its own
# Initially one class per octave.
START_DENSITIES: NDArray[np.float64] = 2.0 ** -(np.arange(20, dtype=np.float64) + 0.5)
ROUNDS = 5
REFINEMENTS = 3
NAMES_BITS = 320.0  # overhead of the class numbers of a cut tensor

Positions = NDArray[np.int64]
Counts = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _Candidate:
    """One way to cut a tensor into lines of `length`.

    `kept`: distinct numbers of entries per line; `tallies`: how many lines have each; `of_line`:
    index into `kept` of each line.
    """

    cut: int
    length: int
    kept: NDArray[np.int64]
    tallies: NDArray[np.int64]
    of_line: NDArray[np.int64]


@dataclass(frozen=True)
class _Choice:
    """A candidate, the class of each element of its `kept`, and the bits in total."""

    candidate: _Candidate
    classes: NDArray[np.int64]
    bits: float


def choose_classes(
    positions: Sequence[Positions], layout: Layout
) -> tuple[Cuts, list[NDArray[np.uint16]]]:
    """Choose a cut for every tensor and a class for each of its lines, 0 for empty lines.

    Classes 1, 2, ... are in order of falling density and not empty.
    """
    if not layout.shapes:
        return np.zeros(0, dtype=np.uint8), []
    candidates = [
        [_candidate(*way) for way in line_counts(kept, shape)]
        for kept, shape in zip(positions, layout.shapes, strict=True)
    ]
    densities = START_DENSITIES
    for _ in range(ROUNDS):
        choices = [_best(ways, densities) for ways in candidates]
        densities = _measure(choices, len(densities))
        densities = _without_needless(choices, densities)
    choices = [_best(ways, densities) for ways in candidates]
    used = np.zeros(len(densities) + 1, dtype=bool)
    for choice in choices:
        used[choice.classes[choice.candidate.kept > 0]] = True
    number = np.where(used, np.cumsum(used), 0).astype(np.uint16)
    cuts = np.array([choice.candidate.cut for choice in choices], dtype=np.uint8)
    return cuts, [number[choice.classes[choice.candidate.of_line]] for choice in choices]


def line_counts(positions: Positions, shape: tuple[int, ...]) -> Iterator[tuple[int, int, Counts]]:
    """Yield each cut of a tensor, the length of its lines, and the number of entries in each.

    A tensor of at least two axes has columns; the later axes are flattened.
    """
    size = int(np.prod(shape, dtype=np.int64))
    yield WHOLE, size, np.array([len(positions)])
    if len(shape) >= 2 and 0 < len(positions) < size:
        n_rows, n_columns = shape[0], size // shape[0]
        rows, columns = np.divmod(positions, n_columns)
        yield ROWS, n_columns, np.bincount(rows, minlength=n_rows)
        yield COLUMNS, n_rows, np.bincount(columns, minlength=n_columns)


def _candidate(cut: int, length: int, counts: Counts) -> _Candidate:
    kept, of_line, tallies = np.unique(counts, return_inverse=True, return_counts=True)
    return _Candidate(cut, length, kept, tallies, of_line.reshape(-1))


def _best(ways: Sequence[_Candidate], densities: Floats) -> _Choice:
    """Return the cheapest candidate with its classes, the first of equal ones."""
    return min((_assign(way, densities) for way in ways), key=lambda choice: choice.bits)


def _assign(way: _Candidate, densities: Floats) -> _Choice:
    """Assign each line to its cheapest class, including the cost of class numbers."""
    bits = _bits(way, densities)
    classes = np.asarray(bits.argmin(axis=1))
    if way.cut == WHOLE:
        return _Choice(way, classes, float(bits.min()))
    names = np.zeros(bits.shape[1])
    for _ in range(REFINEMENTS):
        shares = np.bincount(classes, weights=way.tallies, minlength=bits.shape[1]) + 0.5
        names = np.log2(shares.sum() / shares)
        classes = np.asarray((bits + names).argmin(axis=1))
    taken = bits[np.arange(len(classes)), classes] + names[classes]
    return _Choice(way, classes, float((taken * way.tallies).sum()) + NAMES_BITS)


def _bits(way: _Candidate, densities: Floats) -> Floats:
    """Return the bits of a line by element of `kept` and class, (n, 1 + n_classes)."""
    kept = way.kept[:, None].astype(np.float64)
    bits = -(kept * np.log2(densities) + (way.length - kept) * np.log2(1 - densities))
    return np.concatenate([np.where(kept > 0, np.inf, 0.0), bits], axis=1)


def _measure(choices: Sequence[_Choice], n_classes: int) -> Floats:
    """Return the densities of non-empty classes, falling."""
    kept, sizes = np.zeros(n_classes + 1), np.zeros(n_classes + 1)
    for choice in choices:
        way = choice.candidate
        kept += np.bincount(choice.classes, way.kept * way.tallies, n_classes + 1)
        sizes += np.bincount(choice.classes, way.length * way.tallies, n_classes + 1)
    if not kept[1:].any():
        return START_DENSITIES
    used = kept > 0  # never class 0
    lowest = 2.0**-50  # keeps both logarithms finite
    densities: Floats = np.clip(kept[used] / sizes[used], lowest, 1 - lowest)
    return np.sort(densities)[::-1]


def _without_needless(choices: Sequence[_Choice], densities: Floats) -> Floats:
    """Remove, the least useful first, each class that saves less than its overhead."""
    ways = [choice.candidate for choice in choices]
    bits = np.concatenate([_bits(way, densities) for way in ways])
    tallies = np.concatenate([way.tallies for way in ways])
    while len(densities) > 1:
        lowest_two = np.partition(bits, 1, axis=1)[:, :2]
        penalty = np.where(bits == lowest_two[:, :1], lowest_two[:, 1:] - lowest_two[:, :1], 0.0)
        saved = (penalty * tallies[:, None]).sum(axis=0)[1:]
        least = int(saved.argmin())
        if saved[least] >= CLASS_BITS:
            break
        densities = np.delete(densities, least)
        bits = np.delete(bits, least + 1, axis=1)
    return densities


Cuts = NDArray[np.uint8]
Classes = NDArray[np.uint16]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Lines:
    """All lines by number: first uncut tensors, then cut ones, both in the base's order.

    `tensors`: (T,) the tensors in that order. `cuts`, `n_lines`, `lengths`: (T,) the cut of each,
    its number of lines and their number of entries.
    """

    tensors: Integers
    cuts: Cuts
    n_lines: Integers
    lengths: Integers

    @property
    def total(self) -> int:
        """Return the number of lines."""
        return int(self.n_lines.sum())


@dataclass(frozen=True)
class Strings:
    """The strings of classes 1, 2, ..., concatenated.

    `n_named`: (T,) number of lines of each tensor in these classes, m in total. `in_tensor`: (m,)
    their indices within their tensors. `lengths`: (m,) their entries. `order`: (m,) the lines in
    concatenated order. `starts`: (m,) their starts there. `ends`: (n_classes,) the end of each
    class.
    """

    n_named: Integers
    in_tensor: Integers
    lengths: Integers
    order: Integers
    starts: Integers
    ends: Integers


def cut_into_lines(cuts: Cuts, layout: Layout) -> Lines:
    """Cut every tensor by `cuts` that are valid for the layout."""
    tensors = np.argsort(cuts != WHOLE, kind="stable")
    n_lines = np.ones(len(cuts), dtype=np.int64)
    for index in np.flatnonzero(cuts).tolist():
        n_rows = layout.shapes[index][0]
        n_lines[index] = n_rows if cuts[index] == ROWS else layout.sizes[index] // n_rows
    lengths = np.array(layout.sizes, dtype=np.int64) // n_lines
    return Lines(tensors, cuts[tensors], n_lines[tensors], lengths[tensors])


def string_together(lines: Lines, classes: Classes, n_classes: int) -> Strings:
    """Join the lines of each of `n_classes` classes to one string."""
    named = np.flatnonzero(classes != 0)  # three times as fast on booleans
    names = classes[named]
    ends = np.cumsum(lines.n_lines)
    n_named = np.diff(np.searchsorted(named, ends), prepend=0)
    lengths = np.repeat(lines.lengths, n_named)
    order = np.argsort(names, kind="stable")
    reached = np.zeros(len(named) + 1, dtype=np.int64)
    np.cumsum(lengths[order], out=reached[1:])
    upto = np.cumsum(np.bincount(names, minlength=n_classes + 1)[1:])
    in_tensor = named - np.repeat(ends - lines.n_lines, n_named)
    return Strings(n_named, in_tensor, lengths, order, reached[:-1], reached[upto])


def write_cuts(cuts: Cuts) -> bytes:
    """Write two bits per tensor, lowest bits first."""
    padded = np.concatenate([cuts, np.zeros(-len(cuts) % 4, dtype=np.uint8)]).reshape(-1, 4)
    shifted = padded << np.array([0, 2, 4, 6], dtype=np.uint8)
    return bytes(np.bitwise_or.reduce(shifted, axis=1))


def read_cuts(data: bytes, layout: Layout) -> Cuts:
    """Read one cut per tensor. Raises DiffFormatError (`cut-coding`)."""
    n_tensors = len(layout.shapes)
    expected = (n_tensors + 3) // 4
    if len(data) != expected:
        raise DiffFormatError("cut-coding", f"cuts take {expected} bytes, got {len(data)}.")
    packed = np.frombuffer(data, dtype=np.uint8)
    cuts = (packed[:, None] >> np.array([0, 2, 4, 6], dtype=np.uint8) & 3).reshape(-1)
    if cuts[n_tensors:].any():
        raise DiffFormatError("cut-coding", f"bits after tensor {n_tensors} must be 0.")
    cuts = cuts[:n_tensors]
    for index in np.flatnonzero(cuts).tolist():
        shape = layout.shapes[index]
        if cuts[index] > COLUMNS or len(shape) < 2 or not layout.sizes[index]:
            raise DiffFormatError(
                "cut-coding",
                f"`{layout.names[index]}` of shape {shape} cannot have the cut {cuts[index]}.",
            )
    return np.ascontiguousarray(cuts)
