"""The gated step and the fixed-mask step in float64, by autograd, and what kernels differ by.

Tests compare every kernel with them on small tensors, `benchmarks/gpu` on a GPU on large ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor, nn

from streamlab.methods.adam import AdamSettings, adam_update
from streamlab.methods.fixed_mask import FixedMask
from streamlab.methods.gates.hard_concrete import (
    GroupGates,
    NoGroupGates,
    Stretch,
    open_probability,
)
from streamlab.methods.kernels.counter_rng import uniforms
from streamlab.methods.kernels.gated_weights import GatedWeights
from streamlab.methods.kernels.native import NativeStep
from streamlab.methods.kernels.triton_step import TritonKernels
from streamlab.methods.masks.selection import Selection

Kernels = NativeStep | TritonKernels | None
Moving = tuple[Tensor, Tensor, Tensor]  # a value and its two moments

STRETCH = Stretch(low=-0.3, high=1.2)
SEED = (5 << 32) + 3
W_ADAM, ALPHA_ADAM = AdamSettings(learning_rate=1e-2), AdamSettings(learning_rate=0.1, epsilon=1e-2)
N_MOMENT_STEPS, L0_COEFFICIENT, SCALE, SHIFT = 3, 0.05, 0.7, -0.3


EDGE = 1e-5  # a gate this near 0 or 1 may be clamped by one arithmetic and not by the other


def stretched(log_alpha: Tensor, u: Tensor) -> Tensor:
    """Return a gate before it is clamped, as the paper writes it (Guo et al., 2021, eq. 6)."""
    s = torch.sigmoid(torch.log(u) - torch.log(1.0 - u) + log_alpha)
    return s * (STRETCH.high - STRETCH.low) + STRETCH.low


def gate(log_alpha: Tensor, u: Tensor) -> Tensor:
    """Return z."""
    return stretched(log_alpha, u).clamp(0.0, 1.0)


def gated_step(
    base: Tensor,
    gradient: Tensor,
    w: Moving,
    alpha: Moving,
    u: tuple[Tensor, Tensor],
    gates: list[float],
) -> tuple[Tensor, Tensor]:
    """Step `w` and `alpha` in place; return the effective weights and the four sums.

    `u`: of this step and of the next. `gates`: the group's gate now, the next one, the penalty.
    """
    now, following, penalty = gates
    value, log_alpha = (moving[0].clone().requires_grad_() for moving in (w, alpha))
    change = (SCALE * gradient * gate(log_alpha, u[0]) * value).sum()
    objective = now * change + penalty * open_probability(log_alpha, STRETCH).sum()
    grads = torch.autograd.grad(objective, [value, log_alpha])
    adam_update(w, grads[0], W_ADAM, W_ADAM.corrections(N_MOMENT_STEPS + 1))
    adam_update(alpha, grads[1], ALPHA_ADAM, ALPHA_ADAM.corrections(1))
    alpha[0].add_(SHIFT)
    p = open_probability(alpha[0], STRETCH)
    n_open = (alpha[0] > STRETCH.shift).double()
    sums = [change.detach(), p.sum(), n_open.sum(), (p * (1.0 - p)).sum()]
    return base + gate(alpha[0], u[1]) * following * w[0], torch.stack(sums)


class Comparison:
    """Random tensors, and one step on them by kernels and by the reference.

    `missing` lists the tensors without a gradient. Errors are the largest over all entries,
    relative to the value where that is above 1; entries with a gate on an edge are left out,
    since its derivative jumps there.
    """

    def __init__(
        self,
        shapes: Sequence[tuple[int, ...]],
        *,
        missing: Sequence[int] = (),
        device: str = "cpu",
        seed: int = 1,
    ) -> None:
        self._shapes = shapes
        self._device = device
        self._generator = torch.Generator(device).manual_seed(seed)
        self._base = self._draw()
        self._gradients = [None if i in missing else drawn for i, drawn in enumerate(self._draw())]

    def _draw(self, scale: float = 1.0) -> list[Tensor]:
        return [
            scale * torch.randn(shape, generator=self._generator, device=self._device)
            for shape in self._shapes
        ]

    def _parameters(self, changes: Sequence[Tensor]) -> list[nn.Parameter]:
        live = [nn.Parameter(b + c) for b, c in zip(self._base, changes, strict=True)]
        for parameter, gradient in zip(live, self._gradients, strict=True):
            parameter.grad = gradient
        return live

    def gated(self, kernels: Kernels, *, structured: bool = False) -> dict[str, float]:
        """Return the errors of the gated step."""
        means, squares = self._draw(0.1), [square.abs() for square in self._draw(0.1)]
        n = len(self._shapes)
        live = self._parameters(self._draw(0.5))
        gated = GatedWeights(
            live, self._base, list(zip(means, squares, strict=True)),
            n_moment_steps=N_MOMENT_STEPS, log_alpha=0.0, stretch=STRETCH,
            groups=GroupGates(n, 0.5, STRETCH, SEED) if structured else NoGroupGates(n),
            seed=SEED, kernels=kernels,
        )  # fmt: skip
        for log_alpha, drawn in zip(gated.log_alpha, self._draw(2.0), strict=True):
            log_alpha.copy_(drawn.reshape(-1))
        moments = zip(gated.w, means, squares, strict=True)
        w = [(_wide(v), _wide(m), _wide(s)) for v, m, s in moments]
        alpha = [(_wide(a), _wide(a) * 0.0, _wide(a) * 0.0) for a in gated.log_alpha]
        smooth = [
            _off_edge(stretched(a, u))
            for (a, _, _), u in zip(alpha, self._uniforms(0), strict=True)
        ]

        scale = torch.tensor(SCALE, dtype=torch.float64, device=self._device)
        gated.step(
            W_ADAM, ALPHA_ADAM, l0_coefficient=L0_COEFFICIENT, product=False, grad_scale=scale,
            shift=SHIFT,
        )  # fmt: skip
        densities = gated.settle()
        twin = GroupGates(n, 0.5, STRETCH, SEED) if structured else NoGroupGates(n)
        weights, sums = self._step_in_float64(w, alpha, twin)

        twin.step(sums[:, 0], L0_COEFFICIENT, ALPHA_ADAM)
        shares = twin.open_probability
        errors = {
            "effective weights": _error([p.data for p in live], weights, smooth),
            "w": _error(gated.w, [moving[0] for moving in w]),
            "second moment of w": _error(gated.w_square, [moving[2] for moving in w]),
            "log_alpha": _error(gated.log_alpha, [moving[0] for moving in alpha], smooth),
            "expected density": abs(densities.expected / (sums[:, 1] @ shares / gated.n_gated) - 1),
            "slope": abs(densities.slope / (sums[:, 3] @ shares / gated.n_gated) - 1),
        }
        if isinstance(gated.groups, GroupGates) and isinstance(twin, GroupGates):
            moved = torch.from_numpy(gated.groups.log_alpha)
            errors["log_alpha of groups"] = _error([moved], [torch.from_numpy(twin.log_alpha)])
        return {name: float(error) for name, error in errors.items()}

    def _uniforms(self, step: int) -> list[Tensor]:
        starts = accumulate((base.numel() for base in self._base), initial=0)
        return [
            uniforms(SEED, step, start, base.numel(), base.device).double()
            for start, base in zip(starts, self._base, strict=False)
        ]

    def _step_in_float64(
        self, w: list[Moving], alpha: list[Moving], groups: GroupGates | NoGroupGates
    ) -> tuple[list[Tensor], np.ndarray]:
        weights, sums = [], []
        samples = zip(self._uniforms(0), self._uniforms(1), strict=True)
        for i, base in enumerate(self._base):
            gradient = torch.zeros_like(base) if (g := self._gradients[i]) is None else g
            gates = [float(groups.now[i]), float(groups.next[i]), L0_COEFFICIENT]
            found = gated_step(_wide(base), _wide(gradient), w[i], alpha[i], next(samples), gates)
            weights.append(found[0])
            sums.append(found[1])
        return weights, torch.stack(sums).cpu().numpy()

    def fixed_mask(
        self, *, triton: bool, density: float = 0.1, n_steps: int = 3
    ) -> dict[str, float]:
        """Return the errors of a few fixed-mask steps on a random mask."""
        draws = [torch.rand(b.numel(), generator=self._generator, device=self._device)
                 for b in self._base]  # fmt: skip
        positions = [(drawn < density).nonzero().squeeze(-1) for drawn in draws]
        live = self._parameters(self._base)
        mask = FixedMask(live, self._base, Selection(positions), triton=triton)
        gathered = torch.cat(
            [
                _wide(torch.zeros_like(b) if g is None else g)[p]
                for b, g, p in zip(self._base, self._gradients, positions, strict=True)
            ]
        )
        state = (gathered * 0.0, gathered * 0.0, gathered * 0.0)
        scale = torch.tensor(SCALE, dtype=torch.float64, device=self._device)
        for step in range(1, n_steps + 1):
            mask.step(mask.gradient(), W_ADAM, scale)
            adam_update(state, gathered * SCALE, W_ADAM, W_ADAM.corrections(step))
        weights = [_wide(b) for b in self._base]
        parts = state[0].split([p.numel() for p in positions])
        for weight, selected, part in zip(weights, positions, parts, strict=True):
            weight[selected] += part
        return {
            "gathered gradient": _error([mask.gradient()], [gathered]),
            "values": _error([mask.values], [state[0]]),
            "effective weights": _error([p.data for p in live], weights),
        }


def _wide(tensor: Tensor) -> Tensor:
    return tensor.detach().double().reshape(-1)


def _off_edge(values: Tensor) -> Tensor:
    return (values.abs() > EDGE) & ((values - 1.0).abs() > EDGE)


def _error(
    found: Sequence[Tensor], expected: Sequence[Tensor], counted: Sequence[Tensor | float] = ()
) -> float:
    errors = [
        float((counts * (_wide(one) - other).abs() / other.abs().clamp(min=1.0)).max())
        for one, other, counts in zip(
            found, map(_wide, expected), counted or [1.0] * len(found), strict=True
        )
        if one.numel()
    ]
    return max(errors)
