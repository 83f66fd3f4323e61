"""The Hard-Concrete gate (Louizos et al., 2018): a relaxed coin in [0, 1].

    s = sigmoid(log u - log(1 - u) + log_alpha) = u / (u + (1 - u) exp(-log_alpha))
    z = clamp(s * (r - l) + l, 0, 1)

A structured gate is the product of an entry's own gate and its group's (one group a tensor).
"""

from __future__ import annotations

import math
from typing import Self

import numpy as np
import torch
from pydantic import model_validator
from torch import Tensor

from streamlab.config import Settings


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
    """Return the gates at u = 0.5, which is how a gate is read once training has ended."""
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
