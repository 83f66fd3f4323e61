"""lambda: fixed, or steered towards the density that is wanted."""

from __future__ import annotations

import itertools
import math

import pytest

from streamlab.methods.penalty import FixedPenalty, SteeredPenalty


def steered(*, every: int = 1, reach: float = 1e6, gain: float = 0.5) -> SteeredPenalty:
    return SteeredPenalty(0.01, 100, start=2.0, gain=gain, every=every, share=0.8, reach=reach)


def test_a_fixed_penalty_stays_whatever_happens() -> None:
    penalty = FixedPenalty(1.25e-7)

    assert {penalty.update(step, density) for step in (-1, 0, 9) for density in (0.0, 1.0)} == {
        1.25e-7
    }


def test_the_wanted_density_falls_geometrically_from_1_to_the_goal_and_stays() -> None:
    penalty = steered()
    wanted = [penalty.wanted(step) for step in range(-1, 100)]

    assert wanted[0] == 1.0
    ratios = [after / before for before, after in itertools.pairwise(wanted)]
    assert ratios[:80] == pytest.approx([0.01 ** (1 / 80)] * 80)
    assert wanted[80:] == pytest.approx([0.01] * 21)


def test_lambda_rises_where_too_many_gates_are_open_and_falls_where_too_few() -> None:
    step = 50
    wanted = steered().wanted(step)

    assert steered().update(step, 4.0 * wanted) == pytest.approx(2.0 * 4.0**0.5)
    assert steered().update(step, wanted) == pytest.approx(2.0)
    assert steered().update(step, 0.25 * wanted) == pytest.approx(2.0 * 0.25**0.5)


def test_lambda_moves_at_every_nth_step_only() -> None:
    penalty = steered(every=3)

    prices = [penalty.update(step, 1.0) for step in range(-1, 9)]

    moved = [after != before for before, after in itertools.pairwise([2.0, *prices])]
    # The call before the first step finds the density where it is wanted.
    assert moved == [False, False, False, True, False, False, True, False, False, True]


def test_lambda_stays_within_reach_of_its_start() -> None:
    rising, falling = steered(reach=8.0), steered(reach=8.0)

    for step in range(80, 100):
        prices = rising.update(step, 1.0), falling.update(step, 0.0)

    assert prices == (16.0, 0.25)
    assert rising.update(99, 0.0) < 16.0
    assert falling.update(99, 1.0) > 0.25


def test_lambda_survives_a_density_of_zero() -> None:
    penalty = steered()

    assert 0.0 < penalty.update(99, 0.0) < 2.0


def test_a_density_that_answers_to_the_price_is_brought_to_the_goal() -> None:
    penalty, density = steered(gain=0.1), 1.0

    for step in range(100):
        density = 1.0 / (1.0 + math.exp(penalty.update(step, density) - 5.0))

    assert density == pytest.approx(0.01, rel=0.05)
