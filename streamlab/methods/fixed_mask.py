"""Train the kept entries only: values, moments and gradients have the size of the mask."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from streamlab.diff.vector import SparseTensor
from streamlab.methods.adam import AdamRates


class FixedMask:
    """Kept values and Adam's moments of them, as three flat vectors over all tensors.

    The model's tensors hold the base plus the kept values. A tensor with nothing kept needs no
    gradient, and gets none.
    """

    def __init__(
        self,
        live: Sequence[nn.Parameter],
        base: Sequence[Tensor],
        positions: Sequence[Tensor],
        values: Sequence[Tensor],
    ) -> None:
        """Put the base back everywhere and the `values` on it at `positions` (flat, ascending)."""
        self._live = list(live)
        self._positions = list(positions)
        self._counts = [p.numel() for p in positions]
        self._under = torch.cat([b.reshape(-1)[p] for b, p in zip(base, positions, strict=True)])
        self.values = torch.cat(list(values)).to(torch.float32)
        self._mean = torch.zeros_like(self.values)
        self._square = torch.zeros_like(self.values)
        self._n_steps = 0
        for parameter, original, kept in zip(live, base, positions, strict=True):
            parameter.data.copy_(original)
            parameter.requires_grad_(kept.numel() > 0)
        self.write()

    def gradient(self) -> Tensor:
        """Gather the gradient of the kept values, (k,)."""
        parts = []
        for parameter, kept in zip(self._live, self._positions, strict=True):
            if parameter.grad is None:
                parts.append(self.values.new_zeros(kept.numel()))
            else:
                parts.append(parameter.grad.reshape(-1)[kept])
        return torch.cat(parts)

    def step(self, gradient: Tensor, rates: AdamRates) -> None:
        """Take one Adam step on the kept values and write them into the model."""
        self._n_steps += 1
        first, second = rates.corrections(self._n_steps)
        self._mean.mul_(rates.beta1).add_(gradient, alpha=1.0 - rates.beta1)
        self._square.mul_(rates.beta2).addcmul_(gradient, gradient, value=1.0 - rates.beta2)
        scale = (self._square * second).sqrt_().add_(rates.epsilon)
        self.values.addcdiv_(self._mean, scale, value=-rates.rate * first)
        self.write()

    def tensors(self) -> tuple[SparseTensor, ...]:
        """Return the kept positions and values, tensor by tensor."""
        parts = self.values.split(self._counts)
        return tuple(
            SparseTensor(tuple(parameter.shape), kept.cpu().numpy(), part.cpu().numpy().copy())
            for parameter, kept, part in zip(self._live, self._positions, parts, strict=True)
        )

    def write(self) -> None:
        """Write the base plus the kept values into the model."""
        parts = (self._under + self.values).split(self._counts)
        for parameter, kept, part in zip(self._live, self._positions, parts, strict=True):
            if kept.numel():
                parameter.data.view(-1).index_copy_(0, kept, part)
