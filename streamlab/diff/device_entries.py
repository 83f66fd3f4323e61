"""Entries of many tensors on one GPU, read and written in one launch each.

One operation per tensor would take 10 microseconds to launch: milliseconds for a large model.
Triton is imported when first needed.
"""

from __future__ import annotations

import functools
import importlib.util
import subprocess
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BLOCK: Final = 1024  # entries per program
_INTEGERS: Final = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # by bytes of an element


class DeviceEntries:
    """Flat int64 positions in every tensor of a list; values lie in one vector, in their order.

    `sizes` are the numbers of elements of the tensors.
    """

    def __init__(self, positions: Sequence[Tensor], sizes: Sequence[int]) -> None:
        self._sizes = list(sizes)
        self._found: list[int] = []  # the addresses that were sent last
        self.positions = torch.cat(list(positions))
        counts = [selected.numel() for selected in positions]
        rows = [
            (tensor, end - count + at, min(BLOCK, count - at))
            for tensor, (count, end) in enumerate(zip(counts, accumulate(counts), strict=True))
            for at in range(0, count, BLOCK)
        ]
        self.blocks = torch.tensor(rows, dtype=torch.int64, device=self.positions.device)

    def addresses(self, tensors: Sequence[Tensor | None]) -> Tensor:
        """Return where contiguous tensors lie, on their device; 0 for None.

        Raises ValueError for a tensor in another memory order or of another size. What lies where
        it lay in the last call is not checked again.
        """
        found = [0 if tensor is None else tensor.data_ptr() for tensor in tensors]
        if found != self._found:
            self._check(tensors)
            self._addresses = send(np.array(found, np.int64), self.positions.device)
            self._found = found
        return self._addresses

    def _check(self, tensors: Sequence[Tensor | None]) -> None:
        for tensor, size in zip(tensors, self._sizes, strict=True):
            if tensor is not None and not (tensor.is_contiguous() and tensor.numel() == size):
                raise ValueError(f"expected a contiguous tensor of {size} elements")

    def read(self, tensors: Sequence[Tensor | None], dtype: torch.dtype) -> Tensor:
        """Return the entries of contiguous tensors, 0 for those of None."""
        from streamlab.diff.entry_kernels import read_entries

        values = torch.empty(len(self.positions), dtype=dtype, device=self.positions.device)
        self._launch(read_entries, tensors, values)
        return values

    def write(self, tensors: Sequence[Tensor], values: Tensor) -> None:
        """Set the entries of contiguous tensors of the values' dtype."""
        from streamlab.diff.entry_kernels import write_entries

        self._launch(write_entries, tensors, values.contiguous())

    def _launch(self, kernel: Any, tensors: Sequence[Tensor | None], values: Tensor) -> None:
        import triton.language as tl

        bits = _INTEGERS[values.element_size()]
        kernel[len(self.blocks),](
            self.blocks, self.addresses(tensors), self.positions, values.view(bits),
            block=BLOCK, dtype=getattr(tl, str(bits).removeprefix("torch.")),
        )  # fmt: skip


def has_triton(device: torch.device) -> bool:
    """Tell whether kernels of Triton run on a device."""
    return (
        device.type == "cuda" and importlib.util.find_spec("triton") is not None and _builds(device)
    )


@functools.cache
def _builds(device: torch.device) -> bool:
    """Tell whether a kernel can be built and launched, which needs a C compiler too."""
    first = torch.zeros(1, dtype=torch.int64, device=device)
    try:
        DeviceEntries([first], [1]).read([None], torch.float32)
    except (RuntimeError, OSError, subprocess.SubprocessError):
        return False
    return True


def send(array: NDArray[Any], device: torch.device) -> Tensor:
    """Copy an array to a device without waiting: pinned memory is reused after the copy only."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    if device.type != "cuda":
        return tensor.clone()
    return tensor.pin_memory().to(device, non_blocking=True)
