"""Landing: all gates of a training are moved alike, so that as many are open as are wanted.

    find c such that  sum_i P(z_group > 0) sigmoid(log_alpha_i + c - log(-l/r)) = wanted

A price closes gates step by step, and in a short stage it comes too late or goes too far. A move
that is the same for all leaves their order as the price and the gradients have made it, and sets
how many are open to the one number that was asked for. Moved all at once, too much of what the
model computes with is gone; so the way down begins before the end of the stage, and has steps.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamlab.methods.gates import Stretch, deterministic, open_probability

Vector = NDArray[np.float64]

DESCENT_FROM = 0.6  # of the stage
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


class Descent:
    """The way down: evenly many moves over the last part of a stage, of one ratio each.

    The density falls geometrically from what the price has left at the beginning of it to `goal`
    at the end of the stage.
    """

    def __init__(self, n_steps: int, n_moves: int, goal: float) -> None:
        self._n_moves, self._goal = n_moves, goal
        first = round(DESCENT_FROM * n_steps)
        self._first = first
        self._moves = {
            first + round(number * (n_steps - first) / n_moves): number
            for number in range(1, n_moves)
        }
        self._begins_at: float | None = None

    def wanted(self, n_taken: int, density: float) -> float | None:
        """Return the density to move to after `n_taken` steps, None where there is no move.

        `density`: what there is now; to be told after every step.
        """
        if n_taken <= self._first or self._begins_at is None:
            self._begins_at = density
        number = self._moves.get(n_taken)
        if number is None:
            return None
        share = number / self._n_moves
        return float(self._begins_at ** (1.0 - share) * self._goal**share)


def _counts(block: Tensor, n_bins: int) -> Vector:
    """Count the gates of a block by log_alpha."""
    bins = ((block + _REACH) / _BIN).long().clamp_(0, n_bins - 1)
    counts: Vector = torch.bincount(bins, minlength=n_bins).cpu().numpy().astype(np.float64)
    return counts
