"""Entropy bounds on the bits of positions and values, which file sizes are compared with.

Uniformly random positions take H(p)/p bits each. Real masks are clustered and take fewer: the
two-part bound encodes counts, and then, for each group of n entries with c non-zero, one of the
C(n, c) subsets.

    bits = log2 C(k+T-1, T-1) + sum over tensors of min(tensor, rows, columns)
    tensor  = log2 C(n, c)
    rows    = log2 C(c+R-1, R-1) + sum over rows of log2 C(n/R, c_r)       columns alike

plus log2 3 for the choice of the minimum, for each matrix that is neither empty nor full.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from streamlab.diff.format.partition import is_matrix
from streamlab.diff.format.values import ValueType, diff_codes
from streamlab.diff.vector import DiffVector, SparseTensor

Grouping = Literal["tensor", "rows", "columns"]


@dataclass(frozen=True)
class TwoPartBound:
    """The bits of all positions of a diff, and the grouping chosen for each tensor."""

    bits: float
    n_entries: int
    groupings: tuple[Grouping, ...]

    @property
    def bits_per_entry(self) -> float:
        """Return bits / k; 0 without entries."""
        return self.bits / self.n_entries if self.n_entries else 0.0


def even_bits_per_entry(density: float) -> float:
    """Return H(p)/p, the bits of each of many uniformly random positions.

    >>> round(even_bits_per_entry(0.005), 3)
    9.083
    """
    if not 0 < density < 1:
        return 0.0
    rest = 1 - density
    return -math.log2(density) - rest * math.log2(rest) / density


def two_part_bound(diff: DiffVector) -> TwoPartBound:
    """Return the two-part bound on a diff's positions, in bits."""
    n_tensors = len(diff.tensors)
    bits = _log2_compositions(diff.n_entries, n_tensors)
    groupings: list[Grouping] = []
    for tensor in diff.tensors:
        costs = _costs(tensor)
        best = min(costs, key=lambda grouping: costs[grouping])
        bits += costs[best] + (math.log2(3) if len(costs) > 1 else 0.0)
        groupings.append(best)
    return TwoPartBound(bits, diff.n_entries, tuple(groupings))


def value_entropy(diff: DiffVector, value_type: ValueType) -> float:
    """Return the zero-order entropy of a diff's codes and its scales, in bits.

    A coder that also models positions may take fewer bits.
    """
    codes = diff_codes(diff, value_type)
    _, tallies = np.unique(codes.numbers, return_counts=True)
    entropy = float((tallies * np.log2(diff.n_entries / tallies)).sum())
    return entropy + 32.0 * len(codes.scales)


def _costs(tensor: SparseTensor) -> dict[Grouping, float]:
    size, kept = tensor.size, len(tensor)
    costs: dict[Grouping, float] = {"tensor": _log2_choices(size, kept)}
    if is_matrix(tensor.shape) and 0 < kept < size:
        n_rows = tensor.shape[0]
        n_columns = size // n_rows
        rows, columns = np.divmod(tensor.positions, n_columns)
        costs["rows"] = _grouped(np.bincount(rows, minlength=n_rows), n_columns)
        costs["columns"] = _grouped(np.bincount(columns, minlength=n_columns), n_rows)
    return costs


def _grouped(counts: NDArray[np.int64], length: int) -> float:
    """Return the bits of groups of `length` entries with these counts, including the counts."""
    tally = np.bincount(counts)
    choices = [_log2_choices(length, count) for count in np.flatnonzero(tally).tolist()]
    inside = float(np.dot(tally[tally > 0], choices))
    return _log2_compositions(int(counts.sum()), len(counts)) + inside


def _log2_choices(total: int, kept: int) -> float:
    """Return log2 C(total, kept)."""
    if kept in (0, total):
        return 0.0
    log = math.lgamma(total + 1) - math.lgamma(kept + 1) - math.lgamma(total - kept + 1)
    return log / math.log(2)


def _log2_compositions(total: int, groups: int) -> float:
    """Return log2 of the number of ways to distribute `total` over `groups`."""
    return _log2_choices(total + groups - 1, groups - 1) if groups else 0.0
