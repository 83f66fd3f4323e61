"""lambda, the price of an open gate: fixed, or steered so that the density comes out right."""

from __future__ import annotations

import math
from typing import Protocol


class Penalty(Protocol):
    """Price the expected count of open gates at every step."""

    def update(self, step: int, density: float) -> float:
        """Return lambda for the step after `step` (from 0), given the expected density."""
        ...


class FixedPenalty:
    """The same lambda throughout, as published."""

    def __init__(self, value: float) -> None:
        self._value = value

    def update(self, step: int, density: float) -> float:
        """Return the one lambda, whatever the step and the density."""
        del step, density
        return self._value


class SteeredPenalty:
    """Move lambda so that the expected density follows a falling line to `goal`.

    The wanted density falls geometrically from 1 to `goal` over the first `share` of the
    steps and stays there. Every `every` steps lambda is multiplied by
    (density / wanted) ** gain. Gates need many steps to close, and what closed at too high a
    price does not open again: lambda stays within a factor of `reach` of its start.
    """

    def __init__(
        self,
        goal: float,
        n_steps: int,
        *,
        start: float,
        gain: float,
        every: int,
        share: float,
        reach: float,
    ) -> None:
        self._goal = goal
        self._n_falling = max(1.0, share * n_steps)
        self._gain = gain
        self._every = every
        self._value = start
        self._lowest, self._highest = start / reach, start * reach

    def wanted(self, step: int) -> float:
        """Return the density to be at after `step`."""
        return float(self._goal ** min(1.0, (step + 1) / self._n_falling))

    def update(self, step: int, density: float) -> float:
        """Return the next lambda; it moves at every `every`-th step."""
        if (step + 1) % self._every == 0:
            ratio = max(density, 1e-12) / self.wanted(step)
            moved = self._value * math.exp(self._gain * math.log(ratio))
            self._value = min(max(moved, self._lowest), self._highest)
        return self._value
