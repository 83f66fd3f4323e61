"""The rule for learning rates that fits scores by learning rate best, and what a rule loses."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from streamlab.methods.rate_rule import RateRule

_POWERS: Final = tuple(round(0.05 * i, 2) for i in range(21))  # 0 to 1
_RATES: Final = tuple(10 ** (-3.5 + i / 20) for i in range(61))  # 3e-4 to 0.3


@dataclass(frozen=True)
class RateCurve:
    """The scores of one task at one density, by learning rate."""

    task: str
    density: float
    scores: Mapping[float, float]

    def at(self, rate: float) -> float:
        """Return the score at a rate, linear in its logarithm, constant beyond those tried."""
        rates = sorted(self.scores)
        values = [self.scores[rate] for rate in rates]
        return float(np.interp(math.log(rate), np.log(rates), values))


def regret(rule: RateRule, curves: Iterable[RateCurve]) -> float:
    """Return how far a rule's scores are below the best that was tried, mean over the curves."""
    return statistics.fmean(
        max(curve.scores.values()) - curve.at(rule.rate(curve.density)) for curve in curves
    )


def fit_rate_rule(curves: Sequence[RateCurve], *, powers: Sequence[float] = _POWERS) -> RateRule:
    """Return the rule with the least regret, of these powers and of 61 rates from 3e-4 to 0.3.

    Of equals, the one with the first power, then the lowest rate.
    """
    rules = (RateRule(rate, power) for power, rate in itertools.product(powers, _RATES))
    return min(rules, key=lambda rule: round(regret(rule, curves), 9))
