"""A rule for the learning rate: what it was fitted to is what it finds."""

from __future__ import annotations

import math

import pytest

from streamlab.methods.rate_rule import REFERENCE_DENSITY, RateRule
from streamlab.stats.rate_rule import RateCurve, fit_rate_rule, regret

RATES = tuple(10 ** (-3.5 + i / 20) for i in range(61))


def curve(density: float, best: float, task: str = "t") -> RateCurve:
    """Return scores that fall with the distance from the best rate."""
    return RateCurve(task, density, {rate: -abs(math.log(rate / best)) for rate in RATES})


@pytest.mark.parametrize("power", [0.0, 0.5, 0.8])
def test_the_rule_that_made_the_scores_is_found(power: float) -> None:
    truth = RateRule(0.01, power)
    densities = [REFERENCE_DENSITY * factor for factor in (1.0, 0.2, 0.05)]

    found = fit_rate_rule([curve(d, truth.rate(d)) for d in densities])

    assert [found.rate(d) for d in densities] == pytest.approx(
        [truth.rate(d) for d in densities], rel=0.2
    )


def test_regret_is_the_distance_from_the_best_score_that_was_tried() -> None:
    tried = RateCurve("t", REFERENCE_DENSITY, {1e-3: 0.5, 1e-2: 0.9, 1e-1: 0.7})

    assert regret(RateRule(1e-2, 0.0), [tried]) == 0.0
    assert regret(RateRule(math.sqrt(1e-3), 0.0), [tried]) == pytest.approx(0.1)
    assert regret(RateRule(1.0, 0.0), [tried]) == pytest.approx(0.2)  # as at the end of the grid
