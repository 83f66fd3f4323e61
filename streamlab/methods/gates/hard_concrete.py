"""Hard-Concrete gates (Louizos et al., 2018): relaxed Bernoulli variables in [0, 1].

    s = sigmoid(log u - log(1 - u) + log_alpha) = u / (u + (1 - u) exp(-log_alpha))
    z = clamp(s * (r - l) + l, 0, 1)

A structured gate is the product of an entry's own gate and its group's; each tensor is a group.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import model_validator
from torch import Tensor
from torch.nn.functional import logsigmoid

from streamlab.config import Settings
from streamlab.methods.adam import AdamSettings, AdamState
from streamlab.methods.kernels.counter_rng import uniforms
from streamlab.methods.masks.selection import nth_largest

Vector = NDArray[np.float64]

FIRST_POSITION: Final = 1 << 48  # group gates are sampled at positions that no entry can have
_BLOCK: Final = 1 << 20  # entries per pass, which bounds temporary memory


class Stretch(Settings):
    """The interval that s is stretched to before it is clamped to [0, 1]."""

    low: float = -1.5
    """l; below 0."""
    high: float = 1.5
    """r; above 1."""

    @model_validator(mode="after")
    def _covers_the_unit_interval(self) -> Self:
        if not (self.low < 0.0 and self.high > 1.0):
            raise ValueError("the stretch must reach below 0 and above 1")
        return self

    @property
    def shift(self) -> float:
        """Return log(-l/r), the log_alpha at which a gate is open with probability 1/2."""
        return math.log(-self.low / self.high)


def sample(log_alpha: Tensor, u: Tensor, stretch: Stretch) -> Tensor:
    """Sample gates from uniform `u` in (0, 1), of the same shape (Guo et al., 2021, eq. 6)."""
    s = u / (u + (1.0 - u) * torch.exp(-log_alpha))
    return (s * (stretch.high - stretch.low) + stretch.low).clamp(0.0, 1.0)


def deterministic(log_alpha: Tensor, stretch: Stretch) -> Tensor:
    """Return the gates at u = 0.5."""
    return sample(log_alpha, torch.full_like(log_alpha, 0.5), stretch)


def open_probability(log_alpha: Tensor, stretch: Stretch) -> Tensor:
    """Return P(z > 0) = sigmoid(log_alpha - log(-l/r)) (Guo et al., 2021, eq. 8)."""
    return torch.sigmoid(log_alpha - stretch.shift)


def expected_gate(log_alpha: Tensor, stretch: Stretch, n_nodes: int = 12) -> Tensor:
    """Return E[z], the integral of P(z > t) over t in [0, 1], by Gauss-Legendre quadrature.

    P(z > t) = sigmoid(log_alpha - logit((t - l) / (r - l))) is smooth in t; `n_nodes` points are
    exact to single precision.
    """
    nodes, weights = np.polynomial.legendre.leggauss(n_nodes)
    total = torch.zeros_like(log_alpha)
    for node, weight in zip((nodes + 1.0) / 2.0, weights / 2.0, strict=True):
        q = (node - stretch.low) / (stretch.high - stretch.low)
        total += weight * torch.sigmoid(log_alpha - math.log(q / (1.0 - q)))
    return total


def most_likely_open(
    log_alpha: Sequence[Tensor], group_open: Sequence[float], n: int, stretch: Stretch
) -> list[Tensor]:
    """Return a boolean mask of the `n` gates with the largest P(z > 0) P(z_group > 0).

    `group_open` holds P(z_group > 0) of each flat tensor. Ties with the n-th are all included.
    """
    odds = [
        logsigmoid(tensor - stretch.shift) + math.log(max(share, 1e-30))
        for tensor, share in zip(log_alpha, group_open, strict=True)
    ]
    least = nth_largest(torch.cat(odds), n)
    return [values >= least for values in odds]


class Densities(NamedTuple):
    """Open gates after a step, as shares of all d gated entries."""

    expected: float  # sum of P(z > 0) P(z_group > 0), over d
    deterministic: float  # gates open at u = 0.5, over d
    slope: float  # derivative of `expected` by a common shift of the entries' log_alpha
    reachable: float  # `expected` if all entry gates were open: the mean P(z_group > 0)


def open_counts(log_alpha: Tensor, stretch: Stretch) -> Tensor:
    """Return the sums of P(z > 0), of gates open at u = 0.5, and of P(z > 0) P(z = 0).

    Three float64 numbers, left on the gates' device to avoid synchronisation.
    """
    total = torch.zeros(3, dtype=torch.float64, device=log_alpha.device)
    for block in log_alpha.split(_BLOCK):
        p = open_probability(block, stretch)
        certain = deterministic(block, stretch) > 0.0
        total += torch.stack([n.sum(dtype=torch.float64) for n in (p, certain, p * (1.0 - p))])
    return total


class GroupGates:
    """The group gates of one training, one per group of entries, in float64.

    The gradient of a group gate is the sum of grad * w * z over its entries. It is known only
    after the pass over the entries, which already writes the next effective weights, so the gate
    used at step t is sampled from a log_alpha that includes the gradients up to step t - 2.
    """

    def __init__(self, n_groups: int, log_alpha: float, stretch: Stretch, seed: int) -> None:
        self._stretch = stretch
        self._seed = seed
        self._n_steps = 0
        self._state = AdamState(torch.full((n_groups,), log_alpha, dtype=torch.float64))
        self._used = self.log_alpha.copy()  # what the current gates were sampled from
        self.now = self._sample(0)
        self.next = self._sample(1)

    @property
    def log_alpha(self) -> Vector:
        """Return log_alpha of every group, after the latest step; not a copy."""
        values: Vector = self._state.value.numpy()
        return values

    def step(self, gradient: Vector, penalty: float | Vector, adam: AdamSettings) -> None:
        """Step by `gradient` of the current gates plus `penalty` * P(z > 0); sample the next."""
        u = self._uniforms(self._n_steps)
        s = u / (u + (1.0 - u) * np.exp(-self._used))
        width = self._stretch.high - self._stretch.low
        stretched = s * width + self._stretch.low
        inside = (stretched >= 0.0) & (stretched <= 1.0)
        p = _apply(open_probability, self._used, self._stretch)
        total = gradient * inside * s * (1.0 - s) * width + penalty * p * (1.0 - p)
        # The gates of the coming step are already sampled; this moves the ones after it.
        self._used = self.log_alpha.copy()
        self._state.step(torch.from_numpy(total), adam)
        self._n_steps += 1
        self.now = self.next
        self.next = self._sample(self._n_steps + 1)

    def move(self, shift: float) -> None:
        """Add `shift` to every group's log_alpha after the latest step; sample the next anew."""
        self._state.value += shift
        self.next = self._sample(self._n_steps + 1)

    def state_dict(self) -> dict[str, Any]:
        """Return gates, log_alpha and its moments, not copies."""
        gates = {"used": self._used, "now": self.now, "next": self.next}
        return {
            "n_steps": self._n_steps,
            "log_alpha": self._state.state_dict(),
            **{name: torch.from_numpy(gate) for name, gate in gates.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self._n_steps = state["n_steps"]
        self._state.load_state_dict(state["log_alpha"])
        self._used = state["used"].numpy().copy()
        self.now, self.next = state["now"].numpy().copy(), state["next"].numpy().copy()

    @property
    def open_probability(self) -> Vector:
        """Return P(z > 0) of every group, after the latest step."""
        return _apply(open_probability, self.log_alpha, self._stretch)

    @property
    def expected(self) -> Vector:
        """Return E[z] of every group, after the latest step."""
        return _apply(expected_gate, self.log_alpha, self._stretch)

    @property
    def deterministic(self) -> Vector:
        """Return every gate at u = 0.5, after the latest step."""
        return _apply(deterministic, self.log_alpha, self._stretch)

    def _sample(self, step: int) -> Vector:
        u = torch.from_numpy(self._uniforms(step))
        gates: Vector = sample(self._state.value, u, self._stretch).numpy()
        return gates

    def _uniforms(self, step: int) -> Vector:
        count, cpu = len(self.log_alpha), torch.device("cpu")
        u: Vector = uniforms(self._seed, step, FIRST_POSITION, count, cpu).double().numpy()
        return u


class NoGroupGates:
    """Group gates that are always open: the entries have their own gates alone."""

    def __init__(self, n_groups: int) -> None:
        ones = np.ones(n_groups)
        self.now = self.next = self.open_probability = self.expected = self.deterministic = ones

    def step(self, _gradient: Vector, _penalty: float | Vector, _adam: AdamSettings) -> None:
        """Leave the gates as they are."""

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: there is nothing to keep."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Leave the gates as they are."""


def _apply(
    formula: Callable[[Tensor, Stretch], Tensor], log_alpha: Vector, stretch: Stretch
) -> Vector:
    values: Vector = formula(torch.from_numpy(log_alpha), stretch).numpy()
    return values
