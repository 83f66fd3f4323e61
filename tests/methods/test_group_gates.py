"""Group gates: the recurrence with its lag, in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from streamlab.methods.adam import AdamSettings
from streamlab.methods.gates.hard_concrete import (
    FIRST_POSITION,
    GroupGates,
    Stretch,
    deterministic,
    expected_gate,
    open_probability,
)
from streamlab.methods.kernels.counter_rng import uniforms

N = 12
SEED = 8
STRETCH = Stretch(low=-0.4, high=1.3)
RATES = AdamSettings(learning_rate=0.2, epsilon=1e-3)
Vector = NDArray[np.float64]


def gates() -> GroupGates:
    return GroupGates(N, 0.5, STRETCH, SEED)


def gradients(n_steps: int) -> Vector:
    return np.random.default_rng(1).normal(size=(n_steps, N))


def draw(log_alpha: torch.Tensor, step: int) -> torch.Tensor:
    u = uniforms(SEED, step, FIRST_POSITION, N, torch.device("cpu")).double()
    s = torch.sigmoid(torch.log(u) - torch.log(1.0 - u) + log_alpha)
    return (s * (STRETCH.high - STRETCH.low) + STRETCH.low).clamp(0.0, 1.0)


@pytest.mark.parametrize("penalty", [0.0, 0.3, np.linspace(0.0, 2.0, N)])
def test_the_gates_of_a_step_are_sampled_from_log_alpha_two_steps_before(
    penalty: float | Vector,
) -> None:
    groups = gates()
    alpha = torch.full((N,), 0.5, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([alpha], lr=RATES.learning_rate, eps=RATES.epsilon)
    history = [alpha.detach().clone()]

    for step, gradient in enumerate(gradients(8)):
        sampled_from = history[max(0, step - 1)].clone().requires_grad_()
        z = draw(sampled_from, step)
        penalised = torch.as_tensor(penalty, dtype=torch.float64) * open_probability(
            sampled_from, STRETCH
        )
        objective = (torch.from_numpy(gradient) * z + penalised).sum()
        (alpha.grad,) = torch.autograd.grad(objective, sampled_from)
        adam.step()
        history.append(alpha.detach().clone())

        np.testing.assert_allclose(groups.now, z.detach(), rtol=1e-9)
        groups.step(gradient, penalty, RATES)

        np.testing.assert_allclose(groups.log_alpha, history[-1], rtol=1e-9)
        np.testing.assert_allclose(groups.now, draw(history[step], step + 1), rtol=1e-9)
        np.testing.assert_allclose(groups.next, draw(history[step + 1], step + 2), rtol=1e-9)


def test_a_gradient_reaches_the_gates_two_steps_later() -> None:
    one, other = gates(), gates()

    one.step(np.ones(N), 0.0, RATES)
    other.step(-np.ones(N), 0.0, RATES)
    assert np.array_equal(one.now, other.now)

    for groups in (one, other):
        groups.step(np.zeros(N), 0.0, RATES)
    assert not np.array_equal(one.now, other.now)


def test_no_group_is_sampled_at_the_position_of_an_entry() -> None:
    assert FIRST_POSITION > 2**40


def test_groups_are_sampled_independently_and_from_the_seed() -> None:
    assert len(set(gates().now)) > N // 2
    assert np.array_equal(gates().now, gates().now)
    assert not np.array_equal(gates().now, GroupGates(N, 0.5, STRETCH, SEED + 1).now)


def test_what_is_read_off_a_group_is_that_of_its_latest_move() -> None:
    groups = gates()
    for gradient in gradients(3):
        groups.step(gradient, 0.1, RATES)
    latest = torch.from_numpy(groups.log_alpha)

    assert np.array_equal(groups.open_probability, open_probability(latest, STRETCH).numpy())
    assert np.array_equal(groups.expected, expected_gate(latest, STRETCH).numpy())
    assert np.array_equal(groups.deterministic, deterministic(latest, STRETCH).numpy())
    assert len(set(groups.log_alpha)) > N // 2
