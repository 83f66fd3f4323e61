"""Adam (Kingma and Ba, 2015, algorithm 1): PyTorch's for parameters, one update for other state.

The second is for values that are no parameters of a model: gates, and the retained weights of a
fixed mask. `kernels/step.c` repeats its operations in their order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_


@dataclass(frozen=True, kw_only=True)
class AdamSettings:
    """The constants of Adam for one kind of value."""

    learning_rate: float
    epsilon: float = 1e-8
    beta1: float = 0.9
    beta2: float = 0.999

    def corrections(self, n_steps: int) -> tuple[float, float]:
        """Return the factors 1 / (1 - beta^t) that remove the bias of both moments."""
        return 1.0 / (1.0 - self.beta1**n_steps), 1.0 / (1.0 - self.beta2**n_steps)


def adam_update(
    state: tuple[Tensor, Tensor, Tensor],
    gradient: Tensor,
    settings: AdamSettings,
    corrections: tuple[float, float],
) -> None:
    """Update `state`, a value and its two moments, in place; all tensors have one shape."""
    value, mean, square = state
    mean.mul_(settings.beta1).add_(gradient, alpha=1.0 - settings.beta1)
    square.mul_(settings.beta2).addcmul_(gradient, gradient, value=1.0 - settings.beta2)
    first, second = corrections
    scale = (square * second).sqrt_().add_(settings.epsilon)
    value.addcdiv_(mean, scale, value=-settings.learning_rate * first)


class AdamState:
    """A tensor under Adam, with its moments and the number of steps taken."""

    def __init__(
        self, value: Tensor, moments: tuple[Tensor, Tensor] | None = None, *, n_steps: int = 0
    ) -> None:
        """Start with the `moments` after `n_steps` steps, or afresh."""
        self.value = value
        self.moments = moments or (torch.zeros_like(value), torch.zeros_like(value))
        self._n_steps = n_steps

    def step(self, gradient: Tensor, settings: AdamSettings) -> None:
        """Update the value in place."""
        adam_update((self.value, *self.moments), gradient, settings, self.count_step(settings))

    def state_dict(self) -> dict[str, Any]:
        """Return value, moments and number of steps, not copies."""
        mean, square = self.moments
        return {"value": self.value, "mean": mean, "square": square, "n_steps": self._n_steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned, in place."""
        for tensor, name in zip(
            (self.value, *self.moments), ("value", "mean", "square"), strict=True
        ):
            tensor.copy_(state[name])
        self._n_steps = state["n_steps"]

    def count_step(self, settings: AdamSettings) -> tuple[float, float]:
        """Count a step and return its corrections, for an update that is computed elsewhere."""
        self._n_steps += 1
        return settings.corrections(self._n_steps)


def adam_optimizer(
    *groups: tuple[Iterable[nn.Parameter], float],
    clipped: Iterable[nn.Parameter] = (),
    clip_norm: float = math.inf,
) -> tuple[torch.optim.AdamW, Callable[[float], None]]:
    """Return fused Adam without weight decay over (parameters, learning rate) pairs.

    The second result takes a step with a share of every learning rate, after clipping the joint
    norm of the gradients of `clipped` to `clip_norm`.
    """
    settings = [{"params": list(parameters), "lr": rate} for parameters, rate in groups]
    optimizer = torch.optim.AdamW(settings, weight_decay=0.0, fused=True)
    clipped = list(clipped)

    def take_step(share: float) -> None:
        if clipped:
            clip_grad_norm_(clipped, clip_norm)
        for group, (_, learning_rate) in zip(optimizer.param_groups, groups, strict=True):
            group["lr"] = learning_rate * share
        optimizer.step()

    return optimizer, take_step
