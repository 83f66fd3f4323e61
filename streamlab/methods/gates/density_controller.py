"""The density controller: a common shift of all gates per step steers the expected density.

    log_alpha_i <- log_alpha_i + c,   c such that  sum_i P(z_i > 0) P(z_group > 0) = wanted

The L0 penalty and the gradients decide which gates close first; c decides how many. Without
groups, the shifted gates are the closest in Kullback-Leibler divergence to the unshifted ones
among all independent gates of that expected number (Csiszar, 1975: a constraint on a mean tilts a
distribution). Group gates are not shifted; with them this does not hold.

c follows from what the last step has measured, so it needs no pass over the gates: the density,
its derivative by c, and its drift by the gradients alone. A final correction after the last step
covers the remaining error, and the steps that were skipped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

from streamlab.methods.gates.hard_concrete import Densities

FALL_SHARE: Final = 0.8  # of the steps; the density is held over the rest
MAX_SHIFT: Final = 2.0  # log-odds per step, or twice the mean shift where that is more
REACHABLE_SHARE: Final = 0.995  # of the reachable density: no more is wanted
_MIN_SLOPE: Final = 0.1  # below it hardly any gate is near 0, and c has no measurable effect
_DRIFT_WEIGHT: Final = 0.5  # of the last step in the moving average of the drift
_EDGE: Final = 1e-9
_MAX_CORRECTION: Final = 80.0  # log-odds
_TOLERANCE: Final = 0.005  # of the final correction, relative to the goal


class DensityController:
    """Steer the expected density down to `goal`, along a straight line in log-odds."""

    def __init__(self, n_steps: int, *, start: float, goal: float) -> None:
        """Plan the path from `start`, the density before the first of `n_steps` steps.

        The density is never raised: where `goal` is above `start`, it is held at `start`.
        """
        self.goal = min(start, goal)
        self._from, self._to = _log_odds(start), _log_odds(self.goal)
        self._n_falling = max(1.0, FALL_SHARE * n_steps)
        self._max_shift = max(MAX_SHIFT, 2.0 * (self._from - self._to) / self._n_falling)
        self._n_taken = 0
        self._before: tuple[float, float, float] | None = None  # log-odds, slope, shift
        self._drift = 0.0

    def state_dict(self) -> dict[str, Any]:
        """Return the path and where the controller is on it."""
        names = (
            "goal",
            "_from",
            "_to",
            "_n_falling",
            "_max_shift",
            "_n_taken",
            "_before",
            "_drift",
        )
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        for name, value in state.items():
            setattr(self, name, value)

    def wanted(self, n_taken: int) -> float:
        """Return the density to reach after `n_taken` steps."""
        share = min(1.0, n_taken / self._n_falling)
        return 1.0 / (1.0 + math.exp(-(self._from + share * (self._to - self._from))))

    def shift(self, now: Densities) -> float:
        """Return c of the next step from the densities after the last; call it once per step."""
        odds, slope = _log_odds(now.expected), _slope(now)
        if self._before is not None:
            odds_before, slope_before, shift_before = self._before
            measurable = slope_before > _MIN_SLOPE
            drift = (odds - odds_before) / slope_before - shift_before if measurable else 0.0
            self._drift += (_DRIFT_WEIGHT if self._n_taken > 1 else 1.0) * (drift - self._drift)
        self._n_taken += 1
        wanted = min(self.wanted(self._n_taken), REACHABLE_SHARE * now.reachable)
        missing = (_log_odds(wanted) - odds) / max(_MIN_SLOPE, slope)
        shift = min(self._max_shift, max(-self._max_shift, missing - self._drift))
        self._before = (odds, slope, shift)
        return shift


def correct(now: Densities, goal: float, move: Callable[[float], Densities]) -> Densities:
    """Shift all gates until `goal` is their expected density, to within 0.5%; return the densities.

    `move` applies a shift and measures. Where the groups admit less than `goal`, the reachable
    density is the goal. Newton steps in log-odds, with bisection where they fail to halve the
    error.
    """
    goal = max(_EDGE, min(goal, REACHABLE_SHARE * now.reachable))
    at, low, high, before = 0.0, -_MAX_CORRECTION, _MAX_CORRECTION, math.inf
    while abs(now.expected - goal) > _TOLERANCE * goal and high - low > _TOLERANCE / 10.0:
        low, high = (low, at) if now.expected > goal else (at, high)
        missing = _log_odds(goal) - _log_odds(now.expected)
        to = at + missing / max(_EDGE, _slope(now))
        if not low < to < high or abs(missing) > before / 2.0:
            to = (low + high) / 2.0
        now, at, before = move(to - at), to, abs(missing)
    return now


def _slope(now: Densities) -> float:
    """Return the derivative of the density's log-odds by a shift of the gates' log-odds, <= 1."""
    spread = now.expected * (1.0 - now.expected)
    return min(1.0, now.slope / spread) if spread > _EDGE else 1.0


def _log_odds(density: float) -> float:
    inside = min(1.0 - _EDGE, max(_EDGE, density))
    return math.log(inside / (1.0 - inside))
