"""Lines: what tensors are cut into, so that entries of like density can stand together.

A tensor stays whole (one line), or is cut by rows or by columns. Each line belongs to a class;
class 0 keeps nothing. The lines of a class, in the base's order, make one long string.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from streamlab.errors import DiffFormatError

if TYPE_CHECKING:
    from streamlab.diff.layout import Layout

WHOLE, ROWS, COLUMNS = 0, 1, 2

Cuts = NDArray[np.uint8]
Classes = NDArray[np.uint16]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Lines:
    """All lines by number: those of tensors left whole first, both kinds in the base's order.

    `tensors`: (T,) the tensors in that order. `cuts`, `n_lines`, `lengths`: (T,) how each of
    these is cut, into how many lines, of how many entries.
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
    """The strings of classes 1, 2, ..., one after another on one number line.

    `n_named`: (T,) how many lines of each tensor are in a class, m in all. `in_tensor`: (m,)
    their numbers inside their tensors. `lengths`: (m,) their entries. `order`: (m,) the lines as
    they stand on the number line. `starts`: (m,) where each of these begins there. `ends`:
    (n_classes,) where each class ends.
    """

    n_named: Integers
    in_tensor: Integers
    lengths: Integers
    order: Integers
    starts: Integers
    ends: Integers


def is_matrix(shape: tuple[int, ...]) -> bool:
    """Tell whether a tensor has columns: two axes or more (the later ones are one)."""
    return len(shape) >= 2


def cut_into_lines(cuts: Cuts, layout: Layout) -> Lines:
    """Cut every tensor; `cuts` are valid for the layout."""
    tensors = np.argsort(cuts != WHOLE, kind="stable")
    n_lines = np.ones(len(cuts), dtype=np.int64)
    for index in np.flatnonzero(cuts).tolist():
        n_rows = layout.shapes[index][0]
        n_lines[index] = n_rows if cuts[index] == ROWS else layout.sizes[index] // n_rows
    lengths = np.array(layout.sizes, dtype=np.int64) // n_lines
    return Lines(tensors, cuts[tensors], n_lines[tensors], lengths[tensors])


def string_together(lines: Lines, classes: Classes, n_classes: int) -> Strings:
    """Put the lines of each class on one string; no class is above `n_classes`."""
    named = np.flatnonzero(classes != 0)  # of booleans: three times as fast
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
    """Write two bits a tensor, four tensors a byte, lowest bits first."""
    padded = np.concatenate([cuts, np.zeros(-len(cuts) % 4, dtype=np.uint8)]).reshape(-1, 4)
    shifted = padded << np.array([0, 2, 4, 6], dtype=np.uint8)
    return bytes(np.bitwise_or.reduce(shifted, axis=1))


def read_cuts(data: bytes, layout: Layout) -> Cuts:
    """Read one cut per tensor; only a matrix with entries may be cut (`cut-coding`)."""
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
        if cuts[index] > COLUMNS or not is_matrix(shape) or not layout.sizes[index]:
            raise DiffFormatError(
                "cut-coding",
                f"`{layout.names[index]}` of shape {shape} cannot be cut in way {cuts[index]}.",
            )
    return np.ascontiguousarray(cuts)
