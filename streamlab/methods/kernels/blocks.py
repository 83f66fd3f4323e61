"""How the entries of all gated tensors are cut into blocks, which the fused step goes through.

Where only some rows of a tensor are in use (the word embeddings: a task uses few of the
vocabulary's words), the state of the others is left out: its blocks follow the rows in use,
while an entry's position among all gated entries, which its gates are drawn from, stays what
it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]

# Sums are taken per block, so that their order does not depend on the number of threads. As many
# entries as a processor's cache holds; a GPU is busy with no fewer than millions at a time.
BLOCK_ENTRIES = 65_536
BLOCK_ENTRIES_GPU = 1 << 22


@dataclass(frozen=True)
class Blocks:
    """One row a block: its tensor, its first entry (in the tensor, in the state), its length."""

    tensors: Integers
    places: Integers  # of the first entry in the tensor
    firsts: Integers  # of the first entry in the state, where idle rows are left out
    counts: Integers
    positions: Integers  # of the first entry among all gated entries

    def slices(self) -> Iterator[tuple[int, slice, slice, int]]:
        """Yield each block's tensor, where it lies in the tensor and in the state, its position."""
        columns = (self.tensors, self.places, self.firsts, self.counts, self.positions)
        for tensor, place, first, count, position in zip(
            *map(np.ndarray.tolist, columns), strict=True
        ):
            yield tensor, slice(place, place + count), slice(first, first + count), position


def cut(
    shapes: Sequence[Sequence[int]],
    rows: Mapping[int, Integers],
    *,
    most: int = BLOCK_ENTRIES,
) -> Blocks:
    """Cut tensors of `shapes` into blocks of at most `most` entries.

    `rows` gives, by the tensor's number, its rows in use in ascending order; a tensor without an
    entry there is in use as a whole.
    """
    table: list[tuple[int, int, int, int, int]] = []
    start = 0
    for tensor, shape in enumerate(shapes):
        size = int(np.prod(shape))
        first = 0
        for place, count in _runs(size, shape, rows.get(tensor)):
            for at in range(0, count, most):
                length = min(most, count - at)
                table.append((tensor, place + at, first, length, start + place + at))
                first += length
        start += size
    return Blocks(*np.array(table, dtype=np.int64).reshape(-1, 5).T)


def _runs(size: int, shape: Sequence[int], rows: Integers | None) -> list[tuple[int, int]]:
    """Return the first entry and the length of every unbroken stretch of entries in use."""
    if rows is None:
        return [(0, size)] if size else []
    width = size // shape[0]
    breaks = np.flatnonzero(np.diff(rows) != 1) + 1
    return [(int(run[0]) * width, len(run) * width) for run in np.split(rows, breaks) if len(run)]
