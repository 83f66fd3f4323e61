"""Group gates: one more gate for every tensor, so that whole tensors can be left untouched.

A group gate moves by the sum over its entries of grad * w * z. That sum is known only when the
pass over the entries has ended, and by then the next effective weights are written. So the
gate used at step t was drawn from a log_alpha last moved by the gradients of step t - 2.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from streamlab.methods.adam import AdamRates
from streamlab.methods.gates.hard_concrete import Stretch, expected_gate, open_probability, sample
from streamlab.methods.kernels.counter_rng import uniforms

Vector = NDArray[np.float64]

# Entries are numbered from 0; groups draw from positions no entry can have.
FIRST_POSITION = 1 << 48


class GroupGates:
    """The group gates of one training, in float64: there are as many as tensors."""

    def __init__(self, n_groups: int, log_alpha: float, stretch: Stretch, seed: int) -> None:
        self._stretch = stretch
        self._seed = seed
        self._n_steps = 0
        self._mean = np.zeros(n_groups)
        self._square = np.zeros(n_groups)
        self.log_alpha = np.full(n_groups, log_alpha)
        self._used = self.log_alpha.copy()  # what the gates now in use were drawn from
        self.now = self._draw(0)
        self.next = self._draw(1)

    def step(self, gradient: Vector, penalty: float | Vector, rates: AdamRates) -> None:
        """Move by `gradient` of the gates in use plus a `penalty` on P(z > 0); draw the next."""
        u = self._uniforms(self._n_steps)
        s = u / (u + (1.0 - u) * np.exp(-self._used))
        width = self._stretch.high - self._stretch.low
        stretched = s * width + self._stretch.low
        inside = (stretched >= 0.0) & (stretched <= 1.0)
        p = _function(open_probability, self._used, self._stretch)
        total = gradient * inside * s * (1.0 - s) * width + penalty * p * (1.0 - p)
        self._mean += (1.0 - rates.beta1) * (total - self._mean)
        self._square += (1.0 - rates.beta2) * (total**2 - self._square)
        c1, c2 = rates.corrections(self._n_steps + 1)
        # The gates of the coming step are drawn already; this moves the ones after it.
        self._used = self.log_alpha
        self.log_alpha = self.log_alpha - rates.rate * self._mean * c1 / (
            np.sqrt(self._square * c2) + rates.epsilon
        )
        self._n_steps += 1
        self.now = self.next
        self.next = self._draw(self._n_steps + 1)

    @property
    def open_probability(self) -> Vector:
        """Return P(z > 0) of every group, as of its latest move."""
        return _function(open_probability, self.log_alpha, self._stretch)

    @property
    def expected(self) -> Vector:
        """Return E[z] of every group, as of its latest move."""
        return _function(expected_gate, self.log_alpha, self._stretch)

    @property
    def deterministic(self) -> Vector:
        """Return every gate at u = 0.5, as of its latest move."""
        half = np.full_like(self.log_alpha, 0.5)
        return _sample(self.log_alpha, half, self._stretch)

    def _draw(self, step: int) -> Vector:
        return _sample(self.log_alpha, self._uniforms(step), self._stretch)

    def _uniforms(self, step: int) -> Vector:
        count, cpu = len(self.log_alpha), torch.device("cpu")
        drawn: Vector = uniforms(self._seed, step, FIRST_POSITION, count, cpu).double().numpy()
        return drawn


def _sample(log_alpha: Vector, u: Vector, stretch: Stretch) -> Vector:
    gates: Vector = sample(torch.from_numpy(log_alpha), torch.from_numpy(u), stretch).numpy()
    return gates


def _function(
    formula: Callable[[torch.Tensor, Stretch], torch.Tensor], log_alpha: Vector, stretch: Stretch
) -> Vector:
    values: Vector = formula(torch.from_numpy(log_alpha), stretch).numpy()
    return values
