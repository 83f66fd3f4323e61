"""Differences between two lots of scores, pair by pair: what is common to both cancels out.

A pair is one task under one seed, learnt and scored twice: as both saw the same rows, their
difference says more than the difference of two means. The spread is the sample standard
deviation (n - 1).
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from streamlab.views.scores import TaskScore


@dataclass(frozen=True)
class Paired:
    """The differences of pairs, `this - other`, in the order of their seeds."""

    differences: tuple[float, ...]

    @property
    def mean(self) -> float | None:
        """Return the mean difference; None without a pair."""
        return statistics.fmean(self.differences) if self.differences else None

    @property
    def spread(self) -> float | None:
        """Return the sample standard deviation of the differences; None below two pairs."""
        return statistics.stdev(self.differences) if len(self.differences) > 1 else None

    @property
    def n_pairs(self) -> int:
        """Return how many pairs there are."""
        return len(self.differences)


def paired(this: TaskScore, other: TaskScore) -> Paired:
    """Pair two lots of one task's scores by seed; a seed that one of them lacks is left out."""
    both = [seed for seed in sorted(this.by_seed) if seed in other.by_seed]
    return Paired(tuple(this.by_seed[seed] - other.by_seed[seed] for seed in both))


def together(lots: Iterable[Paired]) -> Paired:
    """Bring the pairs of several tasks together."""
    return Paired(tuple(difference for lot in lots for difference in lot.differences))
