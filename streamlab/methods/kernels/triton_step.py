"""The launches of the Triton kernels: the gated step and the fixed-mask step on a GPU.

A step is a copy of its numbers to the GPU, one launch over the blocks of all tensors and one that
adds up their sums, which are copied back without waiting. Triton is imported when first needed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from streamlab.diff.device_entries import BLOCK, DeviceEntries, has_triton, send
from streamlab.methods.adam import AdamSettings
from streamlab.methods.kernels.native import SCALARS

Totals = NDArray[np.float64]

_CHUNK: Final = 256  # blocks whose sums are added up at a time
_VECTOR: Final = 4  # entries that a thread moves at once where all are aligned to 16 bytes
_WARP: Final = 32
_WORD: Final = 0xFFFFFFFF
# In the order in which the kernel reads them; the scale of the gradients is on the device.
_SCALARS: Final = [name for name in SCALARS.names or () if name != "grad_scale"]


@dataclass(frozen=True)
class TritonKernels:
    """The kernels, and the entries that a program of the gated step takes: a power of two."""

    block_entries: int = 1024

    @property
    def n_warps(self) -> int:
        """Return the warps of a program in which every thread moves four entries at once."""
        return max(1, min(8, self.block_entries // (_VECTOR * _WARP)))


def find_triton(device: torch.device) -> TritonKernels | None:
    """Return the Triton kernels, or None where a device cannot run them."""
    return TritonKernels() if has_triton(device) else None


class GatedLaunch:
    """The launch of the gated step over the blocks of all tensors.

    `tensors`: live, base, w, its two moments, log_alpha and its two moments, each a list of
    contiguous float32 tensors. `blocks` has one CUT element of `gated_weights` per block.
    """

    def __init__(
        self, tensors: Sequence[Sequence[Tensor]], blocks: NDArray[np.void], kernels: TritonKernels
    ) -> None:
        self._device = tensors[0][0].device
        self._kernels = kernels
        self._n_tensors, self._n_blocks = len(tensors[0]), len(blocks)
        rows = blocks.view(np.int64).reshape(-1, 5)
        self._blocks = send(rows, self._device)
        ends = np.searchsorted(rows[:, 0], np.arange(self._n_tensors + 1))
        self._bounds = send(ends, self._device)
        self._pointers = np.zeros((self._n_tensors, 9), np.int64)
        columns = [[tensor.data_ptr() for tensor in column] for column in tensors]
        self._pointers[:, [0, 1, 3, 4, 5, 6, 7, 8]] = np.array(columns).T
        self._whole_vectors = not (rows[:, 1:4] % _VECTOR).any()
        self._sums = torch.zeros(self._n_blocks, 4, device=self._device)
        self._totals = torch.zeros(self._n_tensors, 4, dtype=torch.float64, device=self._device)

    def __call__(
        self,
        gradients: Sequence[Tensor | None],
        *,
        seed: int,
        step: int,
        groups: NDArray[np.float64],
        scalars: NDArray[np.void],
        grad_scale: Tensor,
    ) -> Callable[[], Totals]:
        """Launch a step; the result waits for it and returns SUMS by tensor, (n_tensors, 4).

        `groups`: rows of the gate now, the next one and the penalty. `grad_scale` has one element.
        """
        self._pointers[:, 2] = [0 if g is None else g.data_ptr() for g in gradients]
        counter = np.array([step, seed & _WORD, seed >> 32 & _WORD])
        integers = send(np.concatenate([counter, self._pointers.reshape(-1)]), self._device)
        numbers = [*groups.reshape(-1).tolist(), *(float(scalars[name]) for name in _SCALARS)]
        self._launch(integers, send(np.array(numbers, np.float32), self._device), grad_scale)
        return _read_back(self._totals)

    def _launch(self, integers: Tensor, numbers: Tensor, grad_scale: Tensor) -> None:
        from streamlab.methods.kernels.triton_kernels import add_up, gated_step

        on_vectors = not (self._pointers % (4 * _VECTOR)).any()
        if self._n_blocks:
            gated_step[self._n_blocks,](
                self._blocks, integers[3:], integers, numbers, numbers[3 * self._n_tensors :],
                grad_scale, self._sums,
                block=self._kernels.block_entries,
                aligned=bool(self._whole_vectors and on_vectors),
                num_warps=self._kernels.n_warps,
            )  # fmt: skip
        add_up[self._n_tensors,](self._sums, self._bounds, self._totals, chunk=_CHUNK)


class FixedMaskLaunch:
    """The launch of the fixed-mask step over the retained entries of all tensors.

    `positions` holds the flat int64 positions of the retained entries of every live tensor; their
    values lie in one vector, tensor by tensor.
    """

    def __init__(self, live: Sequence[Tensor], positions: Sequence[Tensor]) -> None:
        self._live = list(live)
        self._entries = DeviceEntries(positions, [tensor.numel() for tensor in live])

    def gather(self, gradients: Sequence[Tensor | None]) -> Tensor:
        """Gather the gradients of the retained entries, (k,); None stands for zeros."""
        return self._entries.read(gradients, torch.float32)

    def step(
        self,
        state: tuple[Tensor, Tensor, Tensor],
        base: Tensor,
        gradient: Tensor,
        settings: AdamSettings,
        corrections: tuple[float, float],
        grad_scale: Tensor,
    ) -> None:
        """Take an Adam step on the values, and write `base` plus the values into the tensors.

        `state`: the values and their two moments. All vectors have the length of the mask.
        """
        from streamlab.methods.kernels.triton_kernels import fixed_mask_step

        betas = settings.beta1, settings.beta2
        numbers = [settings.learning_rate, *corrections, settings.epsilon, *betas]
        entries = self._entries
        fixed_mask_step[len(entries.blocks),](
            entries.blocks, entries.addresses(self._live), entries.positions, base, gradient,
            *state, grad_scale, send(np.array(numbers, np.float32), gradient.device), block=BLOCK,
        )  # fmt: skip


def _read_back(totals: Tensor) -> Callable[[], Totals]:
    """Start to copy numbers to the host; the result waits for them and returns them."""
    if totals.device.type != "cuda":
        return totals.numpy().copy
    host = torch.empty(totals.shape, dtype=totals.dtype, pin_memory=True)
    host.copy_(totals, non_blocking=True)
    done = torch.cuda.Event()
    done.record()

    def wait() -> Totals:
        done.synchronize()
        arrived: Totals = host.numpy()
        return arrived

    return wait
