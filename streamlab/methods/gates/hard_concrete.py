"""The Hard-Concrete gate (Louizos et al., 2018): a relaxed coin in [0, 1].

    s = sigmoid(log u - log(1 - u) + log_alpha) = u / (u + (1 - u) exp(-log_alpha))
    z = clamp(s * (r - l) + l, 0, 1)

A structured gate is the product of an entry's own gate and its group's (one group a tensor).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple, Self

import numpy as np
import torch
from pydantic import model_validator
from torch import Tensor
from torch.nn.functional import logsigmoid

from streamlab.config import Settings
from streamlab.methods.masks.topk import nth_largest

_BLOCK: Final = 1 << 20  # entries looked at in one go


class Stretch(Settings):
    """The interval that the coin is stretched to before it is clamped to [0, 1]."""

    low: float = -1.5
    high: float = 1.5

    @model_validator(mode="after")
    def _covers_the_unit_interval(self) -> Self:
        if not (self.low < 0.0 and self.high > 1.0):
            raise ValueError("the stretch must reach below 0 and above 1")
        return self

    @property
    def shift(self) -> float:
        """Return log(-l/r), the log-odds at which a gate is as likely open as shut."""
        return math.log(-self.low / self.high)


def sample(log_alpha: Tensor, u: Tensor, stretch: Stretch) -> Tensor:
    """Draw gates from uniform `u` in (0, 1); both of one shape. Guo et al. 2021, eq. 6."""
    s = u / (u + (1.0 - u) * torch.exp(-log_alpha))
    return (s * (stretch.high - stretch.low) + stretch.low).clamp(0.0, 1.0)


def deterministic(log_alpha: Tensor, stretch: Stretch) -> Tensor:
    """Return the gates at u = 0.5, by which open and closed ones are counted."""
    return sample(log_alpha, torch.full_like(log_alpha, 0.5), stretch)


def open_probability(log_alpha: Tensor, stretch: Stretch) -> Tensor:
    """Return P(z > 0) = sigmoid(log_alpha - log(-l/r)). Guo et al. 2021, eq. 8."""
    return torch.sigmoid(log_alpha - stretch.shift)


def expected_gate(log_alpha: Tensor, stretch: Stretch, n_nodes: int = 12) -> Tensor:
    """Return E[z], the integral of P(z > t) over t in [0, 1].

    P(z > t) = sigmoid(log_alpha - logit((t - l) / (r - l))) is smooth in t, so that `n_nodes`
    points of Gauss and Legendre give it to single precision.
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
    """Tell of every gate whether it is among the `n` with the largest P(z > 0) P(z_group > 0).

    `group_open`: P(z_group > 0) of each flat tensor. Ties at the edge are all counted in.
    """
    odds = [
        logsigmoid(tensor - stretch.shift) + math.log(max(share, 1e-30))
        for tensor, share in zip(log_alpha, group_open, strict=True)
    ]
    least = nth_largest(torch.cat(odds), n)
    return [values >= least for values in odds]


class Densities(NamedTuple):
    """How many gated entries are open after a step, as a share of all."""

    expected: float  # sum of P(z > 0) P(z_group > 0), over d
    deterministic: float  # gates open at u = 0.5, over d
    slope: float  # how fast `expected` rises when all log_alpha of entries do
    reachable: float  # `expected` if all entries were open: the mean P(z_group > 0)


def open_counts(log_alpha: Tensor, stretch: Stretch) -> Tensor:
    """Return the expected number of open gates, how many are open at u = 0.5, and the slope.

    Three float64 numbers on the gates' own device, which nobody has to wait for here.
    """
    total = torch.zeros(3, dtype=torch.float64, device=log_alpha.device)
    for block in log_alpha.split(_BLOCK):
        p = open_probability(block, stretch)
        certain = deterministic(block, stretch) > 0.0
        total += torch.stack([n.sum(dtype=torch.float64) for n in (p, certain, p * (1.0 - p))])
    return total
