"""Gated weights: base + z * z_group * w, and everything one training step does to them.

    theta = base + z * z_group * w                       what the model computes with
    dL/dw = g z z_group                                  g: the gradient of theta
    dL/d log_alpha = g w z_group dz/d log_alpha + penalty * p (1 - p)
    p = P(z > 0) = 1 / (1 + exp(-log_alpha) (-l/r))

w and log_alpha each take an Adam step. The gates of the next step are drawn and written into
the model in the same trip through memory, so a step costs one pass and no gate is ever stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamlab.methods.adam import AdamRates
from streamlab.methods.eager import step_block
from streamlab.methods.gates import Stretch, sample
from streamlab.methods.generator import prefix, uniforms
from streamlab.methods.groups import GroupGates
from streamlab.methods.native import BLOCK, RATES, SUMS, NativeStep

# Sums are taken per block, so that their order does not depend on the number of threads.
BLOCK_ENTRIES = 65_536


class Densities(NamedTuple):
    """How many gated entries are open after a step, as a share of all."""

    expected: float  # sum of P(z > 0) P(z_group > 0), over d
    deterministic: float  # gates open at u = 0.5, over d


class GatedWeights:
    """The state of the gated stage: w, log_alpha and the moments of both, one list a kind."""

    def __init__(
        self,
        live: Sequence[Tensor],
        base: Sequence[Tensor],
        moments: Sequence[tuple[Tensor, Tensor]],
        *,
        n_moment_steps: int,
        log_alpha: float,
        stretch: Stretch,
        groups: GroupGates | None,
        seed: int,
        native: NativeStep | None,
    ) -> None:
        """Take over parameters that finetuning has moved away from `base`.

        `live` are the model's own tensors; `moments` hold Adam's two moments of each after
        `n_moment_steps` steps. The gates start at `log_alpha`, and the first are drawn here.
        """
        self._live = list(live)
        self._base = [b.reshape(-1) for b in base]
        self.w = [(p.detach() - b).reshape(-1) for p, b in zip(live, base, strict=True)]
        self._w_mean = [m.reshape(-1).clone() for m, _ in moments]
        self.w_square = [s.reshape(-1).clone() for _, s in moments]
        self._n_moment_steps = n_moment_steps
        self.log_alpha = [torch.full_like(w, log_alpha) for w in self.w]
        self._alpha_mean = [torch.zeros_like(w) for w in self.w]
        self._alpha_square = [torch.zeros_like(w) for w in self.w]
        self._stretch = stretch
        self.groups = groups
        self._seed = seed
        self._native = native
        self.n_steps = 0
        sizes = [w.numel() for w in self.w]
        self.n_gated = sum(sizes)
        self._starts = np.concatenate([[0], np.cumsum(sizes)])[:-1]
        self._tensors, self._firsts, self._counts = _cut(sizes)
        self._table = self._fixed_columns()
        self._write_live()

    def step(
        self, w: AdamRates, alpha: AdamRates, *, penalty: float, product: bool, grad_scale: float
    ) -> Densities:
        """Take one step from the parameters' gradients; draw and write the next weights.

        `penalty` is lambda. With `product` an entry's penalty is weighed by P(z_group > 0) and
        the group's by its entries' expected count, which is the paper's form; without, the two
        are added, which is its released code's. Gradients are multiplied by `grad_scale`.
        """
        n_groups = len(self.w)
        group_open = np.ones(n_groups) if self.groups is None else self.groups.open_probability
        penalties = penalty * (group_open if product else np.ones(n_groups))
        rates = self._rates(w, alpha, grad_scale)
        table = self._moving_columns(penalties)
        if self._native is not None:
            sums = self._native(table, rates)
        else:
            sums = self._step_eagerly(table, rates)
        per_group = np.zeros((n_groups, len(SUMS.names or ())))
        np.add.at(per_group, self._tensors, np.stack([sums[name] for name in SUMS.names or ()], 1))
        self.n_steps += 1
        if self.groups is None:
            expected, deterministic = per_group[:, 1:].sum(axis=0) / self.n_gated
            return Densities(float(expected), float(deterministic))
        self.groups.step(per_group[:, 0], penalty * (per_group[:, 1] if product else 1.0), alpha)
        return Densities(
            expected=float(per_group[:, 1] @ self.groups.open_probability) / self.n_gated,
            deterministic=float(per_group[:, 2] @ (self.groups.deterministic > 0.0)) / self.n_gated,
        )

    def _write_live(self) -> None:
        """Draw the first gates and write the first effective weights."""
        gates = np.ones(len(self.w)) if self.groups is None else self.groups.now
        for tensor, first, count in zip(self._tensors, self._firsts, self._counts, strict=True):
            at = slice(first, first + count)
            position = int(self._starts[tensor] + first)
            u = uniforms(self._seed, self.n_steps, position, int(count), self.w[tensor].device)
            change = sample(self.log_alpha[tensor][at], u, self._stretch) * self.w[tensor][at]
            live = self._live[tensor].data.view(-1)
            live[at] = self._base[tensor][at] + change * float(gates[tensor])

    def _fixed_columns(self) -> NDArray[np.void]:
        """Describe the blocks to the step as far as they stay the same from step to step."""
        table = np.zeros(len(self._tensors), BLOCK)
        table["count"] = self._counts
        table["position"] = (self._starts[self._tensors] + self._firsts) & 0xFFFFFFFF
        columns = {
            "live": [p.data for p in self._live], "base": self._base, "w": self.w,
            "w_mean": self._w_mean, "w_square": self.w_square, "alpha": self.log_alpha,
            "alpha_mean": self._alpha_mean, "alpha_square": self._alpha_square,
        }  # fmt: skip
        for name, tensors in columns.items():
            table[name] = self._addresses([t.data_ptr() for t in tensors])
        return table

    def _moving_columns(self, penalties: NDArray[np.float64]) -> NDArray[np.void]:
        table = self._table
        # Kept alive by the parameters themselves until the next backward.
        grads = [None if p.grad is None else p.grad.contiguous() for p in self._live]
        for parameter, grad in zip(self._live, grads, strict=True):
            parameter.grad = grad
        table["grad"] = self._addresses([0 if g is None else g.data_ptr() for g in grads])
        high = (self._starts[self._tensors] + self._firsts) >> 32
        for word in np.unique(high):
            here = high == word
            table["prefix_now"][here] = prefix(self._seed, self.n_steps, int(word))
            table["prefix_next"][here] = prefix(self._seed, self.n_steps + 1, int(word))
        now = np.ones(len(self.w)) if self.groups is None else self.groups.now
        following = np.ones(len(self.w)) if self.groups is None else self.groups.next
        table["group_now"] = now[self._tensors]
        table["group_next"] = following[self._tensors]
        table["penalty"] = penalties[self._tensors]
        return table

    def _addresses(self, of_tensors: Sequence[int]) -> NDArray[np.uint64]:
        starts = np.array(of_tensors, dtype=np.uint64)[self._tensors]
        offsets = (self._firsts * 4).astype(np.uint64)
        return np.where(starts == 0, np.uint64(0), starts + offsets)

    def _rates(self, w: AdamRates, alpha: AdamRates, grad_scale: float) -> NDArray[np.void]:
        rates = np.zeros((), RATES)
        rates["grad_scale"] = grad_scale
        w_corrections = w.corrections(self._n_moment_steps + self.n_steps + 1)
        alpha_corrections = alpha.corrections(self.n_steps + 1)
        for name, constants, (first, second) in (
            ("w", w, w_corrections),
            ("alpha", alpha, alpha_corrections),
        ):
            rates[f"{name}_rate"] = constants.rate
            rates[f"{name}_epsilon"] = constants.epsilon
            rates[f"{name}_correction1"] = first
            rates[f"{name}_correction2"] = second
        rates["beta1"], rates["beta2"] = w.beta1, w.beta2
        rates["low"] = self._stretch.low
        rates["width"] = self._stretch.high - self._stretch.low
        rates["odds"] = -self._stretch.low / self._stretch.high
        return rates

    def _step_eagerly(self, table: NDArray[np.void], rates: NDArray[np.void]) -> NDArray[np.void]:
        """Do in PyTorch, block by block, what the compiled step does; on any device."""
        sums = np.zeros(len(table), SUMS)
        for i, tensor in enumerate(self._tensors):
            at = slice(self._firsts[i], self._firsts[i] + self._counts[i])
            grad = self._live[tensor].grad
            sums[i] = step_block(
                live=self._live[tensor].data.view(-1)[at],
                base=self._base[tensor][at],
                grad=torch.zeros_like(self.w[tensor][at]) if grad is None else grad.view(-1)[at],
                w=(self.w[tensor][at], self._w_mean[tensor][at], self.w_square[tensor][at]),
                alpha=(
                    self.log_alpha[tensor][at],
                    self._alpha_mean[tensor][at],
                    self._alpha_square[tensor][at],
                ),
                draw=(self._seed, self.n_steps, int(self._starts[tensor] + self._firsts[i])),
                block=table[i],
                rates=rates,
                stretch=self._stretch,
            )
        return sums


def _cut(sizes: Sequence[int]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Cut tensors into blocks: the tensor, the first entry in it and the count of each."""
    tensors, firsts, counts = [], [], []
    for tensor, size in enumerate(sizes):
        for first in range(0, size, BLOCK_ENTRIES):
            tensors.append(tensor)
            firsts.append(first)
            counts.append(min(BLOCK_ENTRIES, size - first))
    return np.array(tensors), np.array(firsts), np.array(counts)
