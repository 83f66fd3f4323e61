"""Gated weights: base + z * z_group * w, and everything one training step does to them.

    theta = base + z * z_group * w                       what the model computes with
    dL/dw = g z z_group                                  g: the gradient of theta
    dL/d log_alpha = g w z_group dz/d log_alpha + penalty * p (1 - p)
    p = P(z > 0) = 1 / (1 + exp(-log_alpha) (-l/r))

w and log_alpha each take an Adam step. The gates of the next step are drawn and written into
the model in the same trip through memory, so a step costs one pass and no gate is ever stored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamlab.methods.adam import AdamRates
from streamlab.methods.gates.group_gates import GroupGates
from streamlab.methods.gates.hard_concrete import Densities, Stretch, open_counts, sample
from streamlab.methods.gates.unused_embeddings import IdleEntries
from streamlab.methods.kernels.blocks import BLOCK_ENTRIES, BLOCK_ENTRIES_GPU, cut
from streamlab.methods.kernels.counter_rng import prefix, uniforms
from streamlab.methods.kernels.eager import step_block
from streamlab.methods.kernels.native import BLOCK, RATES, SUMS, NativeStep


class GatedWeights:
    """The state of the gated stage: w, log_alpha and the moments of both, one list a kind.

    Each is flat and holds the entries in use only; `spread` brings them to where they belong.
    """

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
        rows_in_use: Mapping[int, NDArray[np.int64]] = MappingProxyType({}),
    ) -> None:
        """Take over parameters that finetuning has moved away from `base`.

        `live` are the model's own tensors; `moments` hold Adam's two moments of each after
        `n_moment_steps` steps. The gates start at `log_alpha`, and the first are drawn here.
        `rows_in_use` gives, by a tensor's number, the only rows of it that ever get a gradient.
        """
        self._live = list(live)
        self._base = [b.reshape(-1) for b in base]
        self._rows = {i: torch.from_numpy(r).to(live[i].device) for i, r in rows_in_use.items()}
        pairs = zip(live, base, strict=True)
        self.w = [self._in_use(i, p.detach() - b) for i, (p, b) in enumerate(pairs)]
        self._w_mean = [self._in_use(i, m).clone() for i, (m, _) in enumerate(moments)]
        self.w_square = [self._in_use(i, s).clone() for i, (_, s) in enumerate(moments)]
        self._n_moment_steps = n_moment_steps
        self.log_alpha = [torch.full_like(w, log_alpha) for w in self.w]
        self._alpha_mean = [torch.zeros_like(w) for w in self.w]
        self._alpha_square = [torch.zeros_like(w) for w in self.w]
        self._stretch = stretch
        self.groups = groups
        self._seed = seed
        self._native = native
        self.n_steps = 0
        most = BLOCK_ENTRIES if live[0].device.type == "cpu" else BLOCK_ENTRIES_GPU
        self._blocks = cut([tuple(p.shape) for p in live], rows_in_use, most=most)
        self._sizes = np.array([p.numel() for p in live], dtype=np.float64)
        self.n_gated = int(self._sizes.sum())
        n_idle = self._sizes - [w.numel() for w in self.w]
        self._idle = IdleEntries(n_idle, log_alpha, stretch)
        self._table = self._fixed_columns()
        self._write_live()

    def step(
        self,
        w: AdamRates,
        alpha: AdamRates,
        *,
        penalty: float,
        product: bool,
        grad_scale: float,
        shift: float = 0.0,
    ) -> Densities:
        """Take one step from the parameters' gradients; draw and write the next weights.

        `penalty` is lambda. With `product` an entry's penalty is weighed by P(z_group > 0) and
        the group's by its entries' expected count, which is the paper's form; without, the two
        are added, which is its released code's. Gradients are multiplied by `grad_scale`. All
        gates of entries move by `shift` besides, in log-odds.
        """
        n_groups = len(self.w)
        group_open = np.ones(n_groups) if self.groups is None else self.groups.open_probability
        penalties = penalty * (group_open if product else np.ones(n_groups))
        rates = self._rates(w, alpha, grad_scale)
        rates["alpha_shift"] = shift
        table = self._moving_columns(penalties)
        if self._native is not None:
            sums = self._native(table, rates)
        else:
            sums = self._step_eagerly(table, rates)
        per_group = np.zeros((n_groups, len(SUMS.names or ())))
        columns = np.stack([sums[name] for name in SUMS.names or ()], axis=1)
        np.add.at(per_group, self._blocks.tensors, columns)
        self._idle.step(penalties, alpha, shift=shift)
        per_group[:, 1:] += self._idle.open_counts()
        self.n_steps += 1
        if self.groups is not None:
            charge = penalty * (per_group[:, 1] if product else 1.0)
            self.groups.step(per_group[:, 0], charge, alpha)
        return self._densities(per_group[:, 1:])

    def move(self, shift: float) -> Densities:
        """Move the gates of all entries alike, in log-odds, once the last step is taken.

        The model is left as that step has written it.
        """
        for log_alpha in self.log_alpha:
            log_alpha += shift
        self._idle.move(shift)
        return self.densities()

    def densities(self) -> Densities:
        """Count the open gates, in a pass of its own."""
        counts = [open_counts(log_alpha, self._stretch) for log_alpha in self.log_alpha]
        return self._densities(torch.stack(counts).cpu().numpy() + self._idle.open_counts())

    def _densities(self, counts: NDArray[np.float64]) -> Densities:
        """Put together `open_counts` of the tensors, a row each, and the groups' own gates."""
        opened = np.ones(len(self.w)) if self.groups is None else self.groups.open_probability
        kept = opened > 0 if self.groups is None else self.groups.deterministic > 0.0
        return Densities(
            expected=float(counts[:, 0] @ opened) / self.n_gated,
            deterministic=float(counts[:, 1] @ kept) / self.n_gated,
            slope=float(counts[:, 2] @ opened) / self.n_gated,
            reachable=float(self._sizes @ opened) / self.n_gated,
        )

    def spread(self, values: Sequence[Tensor]) -> list[Tensor]:
        """Bring values of the entries in use to their places; all other entries are zero."""
        return [
            value if number not in self._rows else self._spread(number, value)
            for number, value in enumerate(values)
        ]

    def _spread(self, number: int, value: Tensor) -> Tensor:
        whole = value.new_zeros(self._live[number].shape)
        rows = self._rows[number]
        whole[rows] = value.view(len(rows), *whole.shape[1:])
        return whole.view(-1)

    def _in_use(self, number: int, tensor: Tensor) -> Tensor:
        rows = self._rows.get(number)
        return (tensor if rows is None else tensor[rows]).reshape(-1)

    def _write_live(self) -> None:
        """Draw the first gates and write the first effective weights."""
        gates = np.ones(len(self.w)) if self.groups is None else self.groups.now
        for tensor, there, here, position in self._blocks.slices():
            w = self.w[tensor][here]
            u = uniforms(self._seed, self.n_steps, position, w.numel(), w.device)
            change = sample(self.log_alpha[tensor][here], u, self._stretch) * w
            live = self._live[tensor].data.view(-1)
            live[there] = self._base[tensor][there] + change * float(gates[tensor])

    def _fixed_columns(self) -> NDArray[np.void]:
        """Describe the blocks to the step as far as they stay the same from step to step."""
        table = np.zeros(len(self._blocks.tensors), BLOCK)
        table["count"] = self._blocks.counts
        table["position"] = self._blocks.positions & 0xFFFFFFFF
        state = {
            "w": self.w, "w_mean": self._w_mean, "w_square": self.w_square,
            "alpha": self.log_alpha, "alpha_mean": self._alpha_mean,
            "alpha_square": self._alpha_square,
        }  # fmt: skip
        for name, tensors in state.items():
            table[name] = self._addresses(tensors, self._blocks.firsts)
        table["live"] = self._addresses([p.data for p in self._live], self._blocks.places)
        table["base"] = self._addresses(self._base, self._blocks.places)
        return table

    def _moving_columns(self, penalties: NDArray[np.float64]) -> NDArray[np.void]:
        table = self._table
        # Kept alive by the parameters themselves until the next backward.
        grads = [None if p.grad is None else p.grad.contiguous() for p in self._live]
        for parameter, grad in zip(self._live, grads, strict=True):
            parameter.grad = grad
        table["grad"] = self._addresses(grads, self._blocks.places)
        high = self._blocks.positions >> 32
        for word in np.unique(high):
            here = high == word
            table["prefix_now"][here] = prefix(self._seed, self.n_steps, int(word))
            table["prefix_next"][here] = prefix(self._seed, self.n_steps + 1, int(word))
        now = np.ones(len(self.w)) if self.groups is None else self.groups.now
        following = np.ones(len(self.w)) if self.groups is None else self.groups.next
        table["group_now"] = now[self._blocks.tensors]
        table["group_next"] = following[self._blocks.tensors]
        table["penalty"] = penalties[self._blocks.tensors]
        return table

    def _addresses(
        self, tensors: Sequence[Tensor | None], firsts: NDArray[np.int64]
    ) -> NDArray[np.uint64]:
        found = [0 if tensor is None else tensor.data_ptr() for tensor in tensors]
        starts = np.array(found, dtype=np.uint64)[self._blocks.tensors]
        return np.where(starts == 0, np.uint64(0), starts + (4 * firsts).astype(np.uint64))

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
        rates["beta1"], rates["beta2"] = AdamRates.beta1, AdamRates.beta2
        rates["low"] = self._stretch.low
        rates["width"] = self._stretch.high - self._stretch.low
        rates["odds"] = -self._stretch.low / self._stretch.high
        return rates

    def _step_eagerly(self, table: NDArray[np.void], rates: NDArray[np.void]) -> NDArray[np.void]:
        """Do in PyTorch, block by block, what the compiled step does; on any device."""
        found: list[Tensor] = []
        for number, (tensor, there, here, position) in enumerate(self._blocks.slices()):
            grad = self._live[tensor].grad
            w, log_alpha = self.w[tensor][here], self.log_alpha[tensor][here]
            block_sums = step_block(
                live=self._live[tensor].data.view(-1)[there],
                base=self._base[tensor][there],
                grad=torch.zeros_like(w) if grad is None else grad.view(-1)[there],
                w=(w, self._w_mean[tensor][here], self.w_square[tensor][here]),
                alpha=(
                    log_alpha, self._alpha_mean[tensor][here], self._alpha_square[tensor][here]
                ),
                draw=(self._seed, self.n_steps, position),
                block=table[number],
                rates=rates,
                stretch=self._stretch,
            )  # fmt: skip
            found.append(block_sums)
        sums = np.zeros(len(table), SUMS)
        for name, column in zip(SUMS.names or (), torch.stack(found).cpu().numpy().T, strict=True):
            sums[name] = column
        return sums
