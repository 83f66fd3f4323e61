"""The way down: all gates moved alike at every step, so that as many are open as are wanted.

    log_alpha_i <- log_alpha_i + c,   c such that  sum_i P(z_i > 0) P(z_group > 0) = wanted

Price and gradients say which gates close first; c says how many are closed by now. Without
groups, and of all independent gates with so many open, those that were moved alike are the
nearest to where they were, in Kullback and Leibler's divergence (Csiszar, 1975: a constraint on a
mean tilts a distribution). With groups, whose own gates are not moved, this does not hold, and
moving all alike is merely simple.

c comes from what the last step has measured, so that no pass over the gates is needed to find
it: their density, how fast it rises with c, and by how much it has moved of itself. The last
hundredths, and what steps too few or left out have not done, a landing does at the end.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from streamlab.methods.gates.hard_concrete import Densities

FALLS_OVER: Final = 0.8  # of the stage; over the rest of it the density is held
MOST: Final = 2.0  # log-odds a step, or twice what an even way down takes
REACH: Final = 0.995  # of what the groups let through: no more is wanted
_LEAST_RISE: Final = 0.1  # below it hardly a gate is near 0, and a small c tells nothing
_NEWS: Final = 0.5  # what the last step counts in the estimate of the drift
_EDGE: Final = 1e-9
_FURTHEST: Final = 80.0  # log-odds that a landing may move
_NEAR: Final = 0.005  # of the goal: landed


class Descent:
    """Steer the expected density along a straight line in log-odds, down to `goal`."""

    def __init__(self, n_steps: int, *, start: float, goal: float) -> None:
        """Plan the way from `start`, the density before the first of `n_steps` steps.

        A goal above `start` is not climbed to: the density is then held where it is.
        """
        self.goal = min(start, goal)
        self._from, self._to = _log_odds(start), _log_odds(self.goal)
        self._n_falling = max(1.0, FALLS_OVER * n_steps)
        self._most = max(MOST, 2.0 * (self._from - self._to) / self._n_falling)
        self._n_taken = 0
        self._before: tuple[float, float, float] | None = None  # log-odds, rise, shift
        self._drift = 0.0

    def wanted(self, n_taken: int) -> float:
        """Return the density to be at after `n_taken` steps."""
        share = min(1.0, n_taken / self._n_falling)
        return 1.0 / (1.0 + math.exp(-(self._from + share * (self._to - self._from))))

    def shift(self, now: Densities) -> float:
        """Return c of the coming step, given what was left by the last; asked once a step."""
        odds, rise = _log_odds(now.expected), _rise(now)
        if self._before is not None:
            odds_before, rise_before, shift_before = self._before
            tells = rise_before > _LEAST_RISE
            moved = (odds - odds_before) / rise_before - shift_before if tells else 0.0
            self._drift += (_NEWS if self._n_taken > 1 else 1.0) * (moved - self._drift)
        self._n_taken += 1
        wanted = min(self.wanted(self._n_taken), REACH * now.reachable)
        missing = (_log_odds(wanted) - odds) / max(_LEAST_RISE, rise)
        shift = min(self._most, max(-self._most, missing - self._drift))
        self._before = (odds, rise, shift)
        return shift


def land(now: Densities, goal: float, move: Callable[[float], Densities]) -> Densities:
    """Move all gates alike until `goal` is their expected density; returns what there is then.

    `move` does it, and counts. Where the groups let less through than `goal`, that is what is
    landed on. A move is Newton's in log-odds; where that has not halved what is missing, the
    interval is.
    """
    goal = max(_EDGE, min(goal, REACH * now.reachable))
    at, low, high, before = 0.0, -_FURTHEST, _FURTHEST, math.inf
    while abs(now.expected - goal) > _NEAR * goal and high - low > _NEAR / 10.0:
        low, high = (low, at) if now.expected > goal else (at, high)
        missing = _log_odds(goal) - _log_odds(now.expected)
        to = at + missing / max(_EDGE, _rise(now))
        if not low < to < high or abs(missing) > before / 2.0:
            to = (low + high) / 2.0
        now, at, before = move(to - at), to, abs(missing)
    return now


def _rise(now: Densities) -> float:
    """Return how fast the log-odds of the density rise with those of the gates; at most 1."""
    spread = now.expected * (1.0 - now.expected)
    return min(1.0, now.slope / spread) if spread > _EDGE else 1.0


def _log_odds(density: float) -> float:
    inside = min(1.0 - _EDGE, max(_EDGE, density))
    return math.log(inside / (1.0 - inside))
