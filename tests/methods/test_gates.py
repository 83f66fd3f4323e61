"""The Hard-Concrete gate against its exact distribution."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy.integrate import quad
from scipy.stats import kstest

from streamlab.methods.gates.hard_concrete import (
    Stretch,
    deterministic,
    expected_gate,
    most_likely_open,
    open_probability,
    sample,
)
from streamlab.methods.kernels.counter_rng import uniforms

Array = NDArray[np.float64]

N = 400_000
ALPHAS = [-5.0, -2.0, 0.0, 2.0, 5.0]
STRETCHES = [Stretch(), Stretch(low=-0.1, high=1.1), Stretch(low=-0.5, high=2.0)]

each_gate = pytest.mark.parametrize("alpha", ALPHAS)
each_stretch = pytest.mark.parametrize(
    "stretch", STRETCHES, ids=lambda s: f"{s.low:g} to {s.high:g}"
)


def exceeds(t: Array, alpha: float, stretch: Stretch) -> Array:
    """Return P(s_bar > t): the logistic distribution, written out."""
    q = (t - stretch.low) / (stretch.high - stretch.low)
    return np.asarray(1.0 / (1.0 + np.exp(np.log(q / (1.0 - q)) - alpha)))


def chance(t: float, alpha: float, stretch: Stretch) -> float:
    return float(exceeds(np.array(t), alpha, stretch))


def draw(alpha: float, stretch: Stretch) -> Array:
    u = uniforms(11, 0, 0, N, torch.device("cpu")).double()
    return np.asarray(sample(torch.full_like(u, alpha), u, stretch))


@each_gate
@each_stretch
def test_gates_between_0_and_1_follow_their_exact_distribution(
    alpha: float, stretch: Stretch
) -> None:
    gates = draw(alpha, stretch)
    inside = gates[(gates > 0.0) & (gates < 1.0)]
    top, bottom = chance(1.0, alpha, stretch), chance(0.0, alpha, stretch)

    # Through its own distribution function, a number becomes uniform.
    ranks = (bottom - exceeds(inside, alpha, stretch)) / (bottom - top)
    assert len(inside) > 1_000
    assert kstest(ranks, "uniform").statistic < 1.95 / math.sqrt(len(inside))


def within_4_errors(share: float, expected: float) -> bool:
    return abs(share - expected) < 4.0 * math.sqrt(expected * (1.0 - expected) / N)


@each_gate
@each_stretch
def test_the_shares_of_gates_at_0_and_at_1_are_the_exact_ones(
    alpha: float, stretch: Stretch
) -> None:
    gates = draw(alpha, stretch)

    assert within_4_errors(float((gates == 0.0).mean()), 1.0 - chance(0.0, alpha, stretch))
    assert within_4_errors(float((gates == 1.0).mean()), chance(1.0, alpha, stretch))


@each_gate
@each_stretch
def test_the_open_probability_is_the_share_of_open_gates(alpha: float, stretch: Stretch) -> None:
    log_alpha = torch.tensor(alpha, dtype=torch.float64)
    probability = float(open_probability(log_alpha, stretch))

    assert probability == pytest.approx(chance(0.0, alpha, stretch), rel=1e-12)
    assert within_4_errors(float((draw(alpha, stretch) > 0.0).mean()), probability)


@each_gate
@each_stretch
def test_the_expected_gate_is_the_mean_of_samples_and_the_integral(
    alpha: float, stretch: Stretch
) -> None:
    log_alpha = torch.tensor([alpha], dtype=torch.float64)
    gates = draw(alpha, stretch)
    integral, _ = quad(chance, 0.0, 1.0, args=(alpha, stretch), epsabs=1e-12)

    expected = float(expected_gate(log_alpha, stretch))

    assert expected == pytest.approx(integral, abs=1e-6)
    assert float(expected_gate(log_alpha.float(), stretch)) == pytest.approx(integral, abs=1e-6)
    assert abs(float(gates.mean()) - expected) < 4.0 * float(gates.std()) / math.sqrt(N)


@each_stretch
def test_a_gate_is_read_at_one_half(stretch: Stretch) -> None:
    log_alpha = torch.linspace(-8.0, 8.0, 1001, dtype=torch.float64)

    gates = deterministic(log_alpha, stretch)

    stretched = torch.sigmoid(log_alpha) * (stretch.high - stretch.low) + stretch.low
    torch.testing.assert_close(gates, stretched.clamp(0.0, 1.0), rtol=1e-12, atol=1e-12)
    # An entry is kept alive exactly where its log-odds lie above the shift.
    assert torch.equal(gates > 0.0, log_alpha > stretch.shift)


def test_gates_stay_gates_at_the_ends_of_the_scale() -> None:
    log_alpha = torch.tensor([-1e4, -100.0, 100.0, 1e4])
    u = torch.tensor(2.0**-24)

    for gates in (sample(log_alpha, u, Stretch()), sample(log_alpha, 1.0 - u, Stretch())):
        assert gates.tolist() == [0.0, 0.0, 1.0, 1.0]
    assert open_probability(log_alpha, Stretch()).tolist() == [0.0, 0.0, 1.0, 1.0]
    assert expected_gate(log_alpha, Stretch()).tolist() == pytest.approx([0.0, 0.0, 1.0, 1.0])


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.5), (-1.5, 1.0), (0.5, 2.0), (2.0, -1.0)])
def test_a_stretch_that_does_not_cover_the_unit_interval_is_refused(
    low: float, high: float
) -> None:
    with pytest.raises(ValidationError, match="must reach below 0 and above 1"):
        Stretch(low=low, high=high)


def test_the_gates_most_likely_open_are_those_of_entry_and_group_together() -> None:
    entries = [torch.tensor([3.0, -1.0, 0.5]), torch.tensor([2.0, 4.0])]

    alone = most_likely_open(entries, [1.0, 1.0], 2, Stretch())
    behind_a_closed_group = most_likely_open(entries, [1.0, 1e-3], 3, Stretch())

    assert [found.tolist() for found in alone] == [[True, False, False], [False, True]]
    assert [found.tolist() for found in behind_a_closed_group] == [[True] * 3, [False, False]]
