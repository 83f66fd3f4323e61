"""The fused step written in PyTorch: for GPUs, and for machines with no C compiler.

It computes what `step.c` computes; the last bits may differ, so which of the two ran is part
of what a training is known by.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamlab.methods.gates.hard_concrete import Stretch, open_counts, open_probability, sample
from streamlab.methods.kernels.counter_rng import uniforms

# A parameter and Adam's two moments of it, all of one shape and changed in place.
Moving = tuple[Tensor, Tensor, Tensor]


def step_block(
    *,
    live: Tensor,
    base: Tensor,
    grad: Tensor,
    w: Moving,
    alpha: Moving,
    draw: tuple[int, int, int],
    block: NDArray[np.void],
    rates: NDArray[np.void],
    stretch: Stretch,
) -> Tensor:
    """Take one step on one block of entries, in place.

    `draw` is (seed, step, position of the first entry); `block` and `rates` are the rows that
    the compiled step reads. Returns the sums of grad * w * z, of P(z > 0), of the gates open at
    u = 0.5 and of P(z > 0) P(z = 0), the latter three after the step, as float64 on the
    entries' device: on a GPU nothing waits for them before the step is done.
    """
    seed, step, position = draw
    log_alpha = alpha[0]
    u = uniforms(seed, step, position, live.numel(), live.device)
    s = u / (u + (1.0 - u) * torch.exp(-log_alpha))
    width = stretch.high - stretch.low
    stretched = s * width + stretch.low
    z = stretched.clamp(0.0, 1.0)
    slope = torch.where(z == stretched, s * (1.0 - s) * width, 0.0)
    p = open_probability(log_alpha, stretch)

    g = grad * float(rates["grad_scale"])
    g_z = g * w[0]
    group_now, group_next = float(block["group_now"]), float(block["group_next"])
    group_gradient = (g_z * z).sum(dtype=torch.float64)
    _adam(w, g * z * group_now, rates, "w")
    _adam(alpha, g_z * group_now * slope + float(block["penalty"]) * p * (1.0 - p), rates, "alpha")

    log_alpha += float(rates["alpha_shift"])
    u = uniforms(seed, step + 1, position, live.numel(), live.device)
    live.copy_(base + sample(log_alpha, u, stretch) * group_next * w[0])
    return torch.cat([group_gradient.reshape(1), open_counts(log_alpha, stretch)])


def _adam(moving: Moving, gradient: Tensor, rates: NDArray[np.void], name: str) -> None:
    value, mean, square = moving
    beta1, beta2 = float(rates["beta1"]), float(rates["beta2"])
    mean.mul_(beta1).add_(gradient, alpha=1.0 - beta1)
    square.mul_(beta2).addcmul_(gradient, gradient, value=1.0 - beta2)
    first, second = float(rates[f"{name}_correction1"]), float(rates[f"{name}_correction2"])
    scale = (square * second).sqrt_().add_(float(rates[f"{name}_epsilon"]))
    value.addcdiv_(mean, scale, value=-float(rates[f"{name}_rate"]) * first)
