"""The training step of gated weights in PyTorch: for GPUs, and for machines without a C compiler.

It computes what `step.c` computes. The last bits may differ, so which of the two ran is recorded.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamlab.methods.adam import AdamSettings, adam_update
from streamlab.methods.gates.hard_concrete import Stretch, open_counts, open_probability, sample
from streamlab.methods.kernels.counter_rng import uniforms

# A value and its two moments, of one shape.
Moving = tuple[Tensor, Tensor, Tensor]


def step_block(
    *,
    live: Tensor,
    base: Tensor,
    grad: Tensor,
    w: Moving,
    alpha: Moving,
    counter: tuple[int, int, int],
    block: NDArray[np.void],
    scalars: NDArray[np.void],
    stretch: Stretch,
) -> Tensor:
    """Take one step on one block of entries, in place.

    `counter` is (seed, step, position of the first entry); `block` and `scalars` have the types
    BLOCK and SCALARS of the compiled step. Returns the sums of grad * w * z before the step, and
    of P(z > 0), of gates open at u = 0.5 and of P(z > 0) P(z = 0) after it: (4,) float64, left
    on the entries' device to avoid synchronisation.
    """
    seed, step, position = counter
    log_alpha = alpha[0]
    u = uniforms(seed, step, position, live.numel(), live.device)
    s = u / (u + (1.0 - u) * torch.exp(-log_alpha))
    width = stretch.high - stretch.low
    stretched = s * width + stretch.low
    z = stretched.clamp(0.0, 1.0)
    slope = torch.where(z == stretched, s * (1.0 - s) * width, 0.0)
    p = open_probability(log_alpha, stretch)

    g = grad * float(scalars["grad_scale"])
    g_z = g * w[0]
    group_now, group_next = float(block["group_now"]), float(block["group_next"])
    group_gradient = (g_z * z).sum(dtype=torch.float64)
    _adam(w, g * z * group_now, scalars, "w")
    penalty_gradient = float(block["penalty"]) * p * (1.0 - p)
    _adam(alpha, g_z * group_now * slope + penalty_gradient, scalars, "alpha")

    log_alpha += float(scalars["alpha_shift"])
    u = uniforms(seed, step + 1, position, live.numel(), live.device)
    live.copy_(base + sample(log_alpha, u, stretch) * group_next * w[0])
    return torch.cat([group_gradient.reshape(1), open_counts(log_alpha, stretch)])


def _adam(moving: Moving, gradient: Tensor, scalars: NDArray[np.void], name: str) -> None:
    settings = AdamSettings(
        learning_rate=float(scalars[f"{name}_rate"]),
        epsilon=float(scalars[f"{name}_epsilon"]),
        beta1=float(scalars["beta1"]),
        beta2=float(scalars["beta2"]),
    )
    corrections = float(scalars[f"{name}_correction1"]), float(scalars[f"{name}_correction2"])
    adam_update(moving, gradient, settings, corrections)
