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

import numpy as np
from numpy.typing import NDArray

from streamlab.diff.format.partition import line_counts
from streamlab.diff.format.values import ValueType, diff_codes
from streamlab.diff.vector import DiffVector


def even_bits_per_entry(density: float) -> float:
    """Return H(p)/p, the bits of each of many uniformly random positions.

    >>> round(even_bits_per_entry(0.005), 3)
    9.083
    """
    if not 0 < density < 1:
        return 0.0
    rest = 1 - density
    return -math.log2(density) - rest * math.log2(rest) / density


def two_part_bound(diff: DiffVector) -> float:
    """Return the two-part bound on a diff's positions, in bits."""
    bits = _log2_compositions(diff.n_entries, len(diff.tensors))
    for tensor in diff.tensors:
        ways = line_counts(tensor.positions, tensor.shape)
        costs = [_grouped(counts, length) for _, length, counts in ways]
        bits += min(costs) + (math.log2(3) if len(costs) > 1 else 0.0)
    return bits


def value_entropy(diff: DiffVector, value_type: ValueType) -> float:
    """Return the zero-order entropy of a diff's codes and its scales, in bits.

    A coder that also models positions may take fewer bits.
    """
    codes = diff_codes(diff, value_type)
    _, tallies = np.unique(codes.numbers, return_counts=True)
    entropy = float((tallies * np.log2(len(codes.numbers) / tallies)).sum())
    return entropy + 32.0 * len(codes.scales)


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
