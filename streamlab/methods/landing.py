"""Landing: all gates of a training are moved alike, so that as many are open as are wanted.

    find c such that  sum_i P(z_group > 0) sigmoid(log_alpha_i + c - log(-l/r)) = wanted

A price closes gates step by step, and in a short stage it comes too late or goes too far. A move
that is the same for all leaves their order as the price and the gradients have made it, and sets
how many are open to the one number that was asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamlab.methods.gates import Stretch, deterministic, open_probability

Vector = NDArray[np.float64]

MOST_UP = 5.0  # log-odds; where groups are shut, no move of their entries opens them
_REACH = 40.0  # log-odds: a gate further out than this is as good as open, or shut
_BIN = 0.01
_BLOCK = 1 << 20  # entries looked at in one go
_CUTS = 60  # halvings of an interval of 85: to the last bit of what bins can tell


def find_shift(
    log_alpha: Sequence[Tensor], group_open: Vector, idle: tuple[Vector, Vector], wanted: float,
    stretch: Stretch,
) -> float:  # fmt: skip
    """Return c, to within the half of a hundredth of log-odds, MOST_UP at the most.

    `group_open`: P(z_group > 0) of each tensor. `idle`: log_alpha and number of each tensor's
    entries that are not among its `log_alpha`. `wanted`: a number of entries.
    """
    n_bins = round(2 * _REACH / _BIN)
    weights = np.zeros(n_bins)
    for tensor, share in zip(log_alpha, group_open, strict=True):
        for block in tensor.split(_BLOCK):
            weights += share * _counts(block, n_bins)
    places = _REACH * np.linspace(-1.0 + 1.0 / n_bins, 1.0 - 1.0 / n_bins, n_bins)
    points = np.concatenate([places, idle[0]]) - stretch.shift
    weights = np.concatenate([weights, idle[1] * group_open])
    low, high = -2.0 * _REACH, MOST_UP
    for _ in range(_CUTS):
        middle = (low + high) / 2.0
        n_open = float(weights @ (1.0 / (1.0 + np.exp(-(points + middle)))))
        low, high = (low, middle) if n_open > wanted else (middle, high)
    return (low + high) / 2.0


def open_counts(log_alpha: Tensor, stretch: Stretch) -> tuple[float, float]:
    """Return the expected number of open gates, and how many are open at u = 0.5."""
    expected = certain = 0.0
    for block in log_alpha.split(_BLOCK):
        expected += float(open_probability(block, stretch).sum(dtype=torch.float64))
        certain += float((deterministic(block, stretch) > 0.0).sum())
    return expected, certain


def landings(n_steps: int, n_landings: int) -> frozenset[int]:
    """Return after how many steps to land: evenly over the stage, its end left out.

    >>> sorted(landings(50, 5))
    [10, 20, 30, 40]
    """
    return frozenset(_evenly(n_steps, n_landings))


def _evenly(n_steps: int, n_landings: int) -> Iterator[int]:
    for number in range(1, n_landings):
        yield round(number * n_steps / n_landings)


def _counts(block: Tensor, n_bins: int) -> Vector:
    """Count the gates of a block by log_alpha."""
    bins = ((block + _REACH) / _BIN).long().clamp_(0, n_bins - 1)
    counts: Vector = torch.bincount(bins, minlength=n_bins).cpu().numpy().astype(np.float64)
    return counts
