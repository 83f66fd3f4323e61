"""Gated weights: base + z * z_group * w, and the training step on them.

    theta = base + z * z_group * w                       the effective weights of the model
    dL/dw = g z z_group                                  g: the gradient of theta
    dL/d log_alpha = g w z_group dz/d log_alpha + penalty * p (1 - p)
    p = P(z > 0) = 1 / (1 + exp(-log_alpha) (-l/r))

w and log_alpha each take an Adam step. The next gates are sampled and the next effective weights
written in the same pass over memory, so a step is one pass and no gate is ever stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamlab.diff.counter_hash import prefix
from streamlab.methods.adam import AdamSettings
from streamlab.methods.gates.hard_concrete import (
    Densities,
    GroupGates,
    NoGroupGates,
    Stretch,
    open_counts,
    sample,
)
from streamlab.methods.gates.unused_embeddings import UnusedEmbeddings
from streamlab.methods.kernels.counter_rng import uniforms
from streamlab.methods.kernels.eager import step_block
from streamlab.methods.kernels.native import BLOCK, SCALARS, SUMS, NativeStep
from streamlab.methods.kernels.triton_step import GatedLaunch, TritonKernels

Vector = NDArray[np.float64]
Integers = NDArray[np.int64]

# Sums are taken per block, so their order does not depend on the number of threads. A CPU's block
# fits its cache; a GPU needs millions of entries at a time.
BLOCK_ENTRIES = 65_536
BLOCK_ENTRIES_GPU = 1 << 22


# Contiguous blocks of the entries of all gated tensors. Of the word embeddings only the used rows
# have state, so an entry's place in the state and in its tensor differ. Its position among all
# gated entries, from which gates are sampled, does not depend on that.
CUT = np.dtype(
    [
        ("tensor", "i8"),  # index of the tensor
        ("place", "i8"),  # of the first entry in the tensor
        ("first", "i8"),  # of the first entry in the state
        ("count", "i8"),
        ("position", "i8"),  # of the first entry among all gated entries
    ]
)


def cut(
    shapes: Sequence[Sequence[int]],
    used_rows: Mapping[int, Integers],
    *,
    max_entries: int = BLOCK_ENTRIES,
) -> NDArray[np.void]:
    """Cut tensors of `shapes` into blocks of at most `max_entries`, one CUT element each.

    `used_rows` maps a tensor's index to its used rows in ascending order; a tensor without an
    element there is used as a whole.
    """
    table: list[tuple[int, int, int, int, int]] = []
    start = 0
    for tensor, shape in enumerate(shapes):
        size = int(np.prod(shape))
        first = 0
        for place, count in _runs(size, shape, used_rows.get(tensor)):
            for at in range(0, count, max_entries):
                length = min(max_entries, count - at)
                table.append((tensor, place + at, first, length, start + place + at))
                first += length
        start += size
    return np.array(table, CUT)


def _runs(size: int, shape: Sequence[int], rows: Integers | None) -> list[tuple[int, int]]:
    """Return the first entry and the length of every contiguous run of used entries."""
    if rows is None:
        return [(0, size)] if size else []
    width = size // shape[0]
    breaks = np.flatnonzero(np.diff(rows) != 1) + 1
    return [(int(run[0]) * width, len(run) * width) for run in np.split(rows, breaks) if len(run)]


class GatedWeights:
    """The state of the gated stage: w, log_alpha and the moments of both, a list of tensors each.

    Each tensor is flat and holds the used entries only; `spread` returns them to their places.
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
        groups: GroupGates | NoGroupGates,
        seed: int,
        kernels: NativeStep | TritonKernels | None,
        used_rows: Mapping[int, NDArray[np.int64]] = MappingProxyType({}),
    ) -> None:
        """Start from parameters that finetuning has moved away from `base`.

        `live` are the model's own tensors; `moments` hold Adam's two moments of each after
        `n_moment_steps` steps. The gates start at `log_alpha`, and the first are sampled here.
        `kernels` take the steps; where they are None, PyTorch does. `used_rows` maps a tensor's
        index to the only rows of it that ever get a gradient.
        """
        self._live = list(live)
        self._base = [b.reshape(-1) for b in base]
        self._rows = {i: torch.from_numpy(r).to(live[i].device) for i, r in used_rows.items()}
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
        self.n_steps = 0
        block_entries = BLOCK_ENTRIES if live[0].device.type == "cpu" else BLOCK_ENTRIES_GPU
        shapes = [tuple(p.shape) for p in live]
        self._blocks = cut(shapes, used_rows, max_entries=block_entries)
        self._sizes = np.array([p.numel() for p in live], dtype=np.float64)
        self.n_gated = int(self._sizes.sum())
        n_unused = self._sizes - [w.numel() for w in self.w]
        self._unused = UnusedEmbeddings(n_unused, log_alpha, stretch)
        self._write_live()
        self._native = kernels if isinstance(kernels, NativeStep) else None
        self._launch: GatedLaunch | None = None
        if isinstance(kernels, TritonKernels):
            blocks = cut(shapes, used_rows, max_entries=kernels.block_entries)
            self._launch = GatedLaunch(self._tensors(), blocks, kernels)
        else:
            self._table = self._fixed_columns()
        self._latest = self.densities()
        self._finish: Callable[[], Densities] | None = None

    def step(
        self,
        w: AdamSettings,
        alpha: AdamSettings,
        *,
        l0_coefficient: float,
        product: bool,
        grad_scale: float | Tensor,
        shift: float = 0.0,
    ) -> Densities:
        """Take one step from the parameters' gradients; sample and write the next weights.

        `product`: the penalty is lambda P(z > 0) P(z_group > 0), the paper's form; otherwise
        lambda (P(z > 0) + P(z_group > 0)), that of its released code. `grad_scale` multiplies the
        gradients. `shift` is added to every entry's log_alpha. Returns the densities after the
        step; with Triton, which is not waited for, those after the step before.
        """
        self.settle()
        penalties = l0_coefficient * (
            self.groups.open_probability if product else np.ones(len(self.w))
        )
        sums = self._start(self._gates(penalties), self._scalars(w, alpha, shift), grad_scale)
        self.n_steps += 1
        self._finish = partial(
            self._follow, sums, penalties, alpha, l0_coefficient, product=product, shift=shift
        )
        return self.settle() if self._launch is None else self._latest

    def settle(self) -> Densities:
        """Return the densities after the last step, and wait for it where it runs on a GPU."""
        finish, self._finish = self._finish, None
        if finish is not None:
            self._latest = finish()
        return self._latest

    def _start(
        self, gates: Vector, scalars: NDArray[np.void], grad_scale: float | Tensor
    ) -> Callable[[], Vector]:
        """Start a step of the entries; the result returns their SUMS by tensor, (n_tensors, 4)."""
        # The parameters keep the gradients alive until the next backward.
        grads = [None if p.grad is None else p.grad.contiguous() for p in self._live]
        for parameter, grad in zip(self._live, grads, strict=True):
            parameter.grad = grad
        if self._launch is not None:
            return self._launch(
                grads,
                seed=self._seed,
                step=self.n_steps,
                groups=gates,
                scalars=scalars,
                grad_scale=torch.as_tensor(grad_scale, device=self._live[0].device),
            )
        scalars["grad_scale"] = float(grad_scale)
        table = self._moving_columns(grads, gates)
        found = self._step_eagerly if self._native is None else self._native
        columns = found(table, scalars)
        sums = np.zeros((len(self.w), len(SUMS.names or ())))
        rows = np.stack([columns[name] for name in SUMS.names or ()], axis=1)
        np.add.at(sums, self._blocks["tensor"], rows)
        return lambda: sums

    def _follow(
        self,
        sums: Callable[[], Vector],
        penalties: Vector,
        alpha: AdamSettings,
        l0_coefficient: float,
        *,
        product: bool,
        shift: float,
    ) -> Densities:
        """Let the unused entries and the groups take the step that the used entries have taken."""
        per_group = sums()
        self._unused.step(penalties, alpha, shift=shift)
        per_group[:, 1:] += self._unused.open_counts()
        penalty = l0_coefficient * (per_group[:, 1] if product else 1.0)
        self.groups.step(per_group[:, 0], penalty, alpha)
        return self._densities(per_group[:, 1:])

    def move(self, shift: float) -> Densities:
        """Add `shift` to every entry's log_alpha after the last step; the model is not updated."""
        self.settle()
        for log_alpha in self.log_alpha:
            log_alpha += shift
        self._unused.move(shift)
        self._latest = self.densities()
        return self._latest

    def densities(self) -> Densities:
        """Count the open gates in a separate pass."""
        counts = [open_counts(log_alpha, self._stretch) for log_alpha in self.log_alpha]
        return self._densities(torch.stack(counts).cpu().numpy() + self._unused.open_counts())

    def _densities(self, counts: NDArray[np.float64]) -> Densities:
        """Combine `open_counts`, (n_tensors, 3), with the group gates."""
        group_open, is_open = self.groups.open_probability, self.groups.deterministic > 0.0
        return Densities(
            expected=float(counts[:, 0] @ group_open) / self.n_gated,
            deterministic=float(counts[:, 1] @ is_open) / self.n_gated,
            slope=float(counts[:, 2] @ group_open) / self.n_gated,
            reachable=float(self._sizes @ group_open) / self.n_gated,
        )

    def state_dict(self) -> dict[str, Any]:
        """Return weights, gates, their moments and the densities, tensors not copied."""
        latest = self.settle()
        return {
            "entries": self._entry_state(),
            "n_steps": self.n_steps,
            "n_moment_steps": self._n_moment_steps,
            "groups": self.groups.state_dict(),
            "unused": self._unused.state_dict(),
            "densities": list(latest),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned, in place; the model is not updated."""
        self.settle()
        for mine, given in zip(self._entry_state(), state["entries"], strict=True):
            for tensor, value in zip(mine, given, strict=True):
                tensor.copy_(value)
        self.n_steps, self._n_moment_steps = state["n_steps"], state["n_moment_steps"]
        self.groups.load_state_dict(state["groups"])
        self._unused.load_state_dict(state["unused"])
        self._latest = Densities(*state["densities"])

    def _entry_state(self) -> list[list[Tensor]]:
        return [
            *(self.w, self._w_mean, self.w_square),
            *(self.log_alpha, self._alpha_mean, self._alpha_square),
        ]

    def spread(self, values: Sequence[Tensor]) -> list[Tensor]:
        """Return values of the used entries in their tensors' places; all others are zero."""
        spread = list(values)
        for index, rows in self._rows.items():
            full = values[index].new_zeros(self._live[index].shape)
            full[rows] = values[index].view(len(rows), *full.shape[1:])
            spread[index] = full.view(-1)
        return spread

    def _in_use(self, index: int, tensor: Tensor) -> Tensor:
        rows = self._rows.get(index)
        return (tensor if rows is None else tensor[rows]).reshape(-1)

    def _write_live(self) -> None:
        """Sample the first gates and write the first effective weights."""
        for tensor, there, here, position in self._slices():
            w = self.w[tensor][here]
            u = uniforms(self._seed, self.n_steps, position, w.numel(), w.device)
            change = sample(self.log_alpha[tensor][here], u, self._stretch) * w
            live = self._live[tensor].data.view(-1)
            live[there] = self._base[tensor][there] + change * float(self.groups.now[tensor])

    def _slices(self) -> Iterator[tuple[int, slice, slice, int]]:
        """Yield each block's tensor, its slices of the tensor and of the state, its position."""
        for tensor, place, first, count, position in self._blocks.tolist():
            yield tensor, slice(place, place + count), slice(first, first + count), position

    def _tensors(self) -> list[Sequence[Tensor]]:
        """Return what a step reads and writes beside the gradients, in the order of BLOCK."""
        return [
            [p.data for p in self._live], self._base,
            self.w, self._w_mean, self.w_square,
            self.log_alpha, self._alpha_mean, self._alpha_square,
        ]  # fmt: skip

    def _fixed_columns(self) -> NDArray[np.void]:
        """Build the block table with the columns that no step changes."""
        table = np.zeros(len(self._blocks), BLOCK)
        table["count"] = self._blocks["count"]
        table["position"] = self._blocks["position"] & 0xFFFFFFFF
        names = ("live", "base", "w", "w_mean", "w_square", "alpha", "alpha_mean", "alpha_square")
        for name, tensors in zip(names, self._tensors(), strict=True):
            in_tensor = name in ("live", "base")
            starts = self._blocks["place" if in_tensor else "first"]
            table[name] = self._addresses(tensors, starts)
        return table

    def _gates(self, penalties: Vector) -> Vector:
        """Return each group's gate of this step and of the next, and its entries' penalty."""
        return np.stack([self.groups.now, self.groups.next, penalties], axis=1)

    def _moving_columns(self, grads: Sequence[Tensor | None], gates: Vector) -> NDArray[np.void]:
        table = self._table
        table["grad"] = self._addresses(grads, self._blocks["place"])
        high = self._blocks["position"] >> 32
        for word in np.unique(high):
            here = high == word
            table["prefix_now"][here] = prefix(self._seed, self.n_steps, int(word))
            table["prefix_next"][here] = prefix(self._seed, self.n_steps + 1, int(word))
        for column, name in enumerate(("group_now", "group_next", "penalty")):
            table[name] = gates[self._blocks["tensor"], column]
        return table

    def _addresses(
        self, tensors: Sequence[Tensor | None], firsts: NDArray[np.int64]
    ) -> NDArray[np.uint64]:
        found = [0 if tensor is None else tensor.data_ptr() for tensor in tensors]
        starts = np.array(found, dtype=np.uint64)[self._blocks["tensor"]]
        return np.where(starts == 0, np.uint64(0), starts + (4 * firsts).astype(np.uint64))

    def _scalars(self, w: AdamSettings, alpha: AdamSettings, shift: float) -> NDArray[np.void]:
        """Return the numbers of a step, without the scale of the gradients."""
        scalars = np.zeros((), SCALARS)
        scalars["alpha_shift"] = shift
        for name, adam, n_before in (("w", w, self._n_moment_steps), ("alpha", alpha, 0)):
            first, second = adam.corrections(n_before + self.n_steps + 1)
            scalars[f"{name}_rate"], scalars[f"{name}_epsilon"] = adam.learning_rate, adam.epsilon
            scalars[f"{name}_correction1"], scalars[f"{name}_correction2"] = first, second
        scalars["beta1"], scalars["beta2"] = w.beta1, w.beta2
        scalars["low"] = self._stretch.low
        scalars["width"] = self._stretch.high - self._stretch.low
        scalars["odds"] = -self._stretch.low / self._stretch.high
        return scalars

    def _step_eagerly(self, table: NDArray[np.void], scalars: NDArray[np.void]) -> NDArray[np.void]:
        """Take the step in PyTorch, block by block, on any device."""
        found: list[Tensor] = []
        for index, (tensor, there, here, position) in enumerate(self._slices()):
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
                counter=(self._seed, self.n_steps, position),
                block=table[index],
                scalars=scalars,
                stretch=self._stretch,
            )  # fmt: skip
            found.append(block_sums)
        sums = np.zeros(len(table), SUMS)
        for name, column in zip(SUMS.names or (), torch.stack(found).cpu().numpy().T, strict=True):
            sums[name] = column
        return sums
