"""How few bits positions can take: the yardsticks a file is measured against.

Evenly drawn positions take H(p)/p bits each. Real masks cluster, and take fewer: the two-part
bound states some counts and then, for each stretch of n entries with c kept, which of the
C(n, c) choices it is.

    bits = log2 C(k+T-1, T-1) + sum over tensors of min(tensor, rows, columns)
    tensor  = log2 C(n, c)
    rows    = log2 C(c+R-1, R-1) + sum over rows of log2 C(n/R, c_r)       columns alike

with log2 3 more for each matrix that keeps some entries and not all, to say which of the three.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from streamlab.diff.format.partition import is_matrix
from streamlab.diff.format.values import ValueType, keep_values, round_values

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from streamlab.diff.vector import DiffVector, SparseTensor

Grouping = Literal["tensor", "rows", "columns"]


@dataclass(frozen=True)
class TwoPartBound:
    """The bits that all positions of a diff take, and the grouping chosen for each tensor."""

    bits: float
    n_entries: int
    groupings: tuple[Grouping, ...]

    @property
    def bits_per_entry(self) -> float:
        """Return bits / k; 0 for a diff without entries."""
        return self.bits / self.n_entries if self.n_entries else 0.0


def even_bits_per_entry(density: float) -> float:
    """Return H(p)/p in bits, what each of many evenly drawn positions takes.

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
    """Return the zero-order entropy of a diff's codes, scales included, in bits.

    What a coder takes that knows how often each code occurs and nothing more; one that knows
    where codes stand may take less.
    """
    none = np.zeros(0, dtype=np.float32)
    joined = np.concatenate([none, *(tensor.values for tensor in diff.tensors)])
    if diff.mode == "replace":
        codes = keep_values(joined, value_type)
    else:
        codes = round_values(joined, np.array(diff.counts, dtype=np.int64), value_type)
    _, tallies = np.unique(codes.numbers, return_counts=True)
    entropy = float((tallies * np.log2(len(joined) / tallies)).sum()) if len(joined) else 0.0
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
    """Return the bits for groups of `length` entries with these counts, counts included."""
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
    """Return log2 of the number of ways to split `total` over `groups`."""
    return _log2_choices(total + groups - 1, groups - 1) if groups else 0.0
