"""Some weights of a model by position: read and written for all of its tensors at once."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from streamlab.diff.vector import Mode, SparseTensor

_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass(frozen=True)
class EntryRow:
    """One parameter on a CPU as bits, and where its entries stand among those of its group.

    numpy moves bits twice as fast as torch gathers and scatters weights, and the views, if they
    are made once, cost nothing.
    """

    parameter: nn.Parameter
    positions: NDArray[np.int64]
    bits: NDArray[Any]
    address: int
    place: slice

    def memory(self) -> NDArray[Any]:
        """Return the parameter's memory, which may have been given another one since."""
        return self.bits if self.parameter.data_ptr() == self.address else _bits(self.parameter)


@dataclass(frozen=True)
class EntryGroup:
    """Entries of all parameters of one dtype on one device, so that most work is done at once.

    `positions`: one (n_i,) int64 tensor per parameter; `values`: (sum of n_i,) float32; `rows`:
    one per parameter on a CPU, none elsewhere.
    """

    parameters: tuple[nn.Parameter, ...]
    positions: tuple[Tensor, ...]
    values: Tensor
    mode: Mode
    rows: tuple[EntryRow, ...]

    def changed(self, old: Tensor) -> Tensor:
        """Return the new weights, in the dtype of the old ones."""
        if self.mode == "replace":
            return self.values.to(old.dtype)
        wide = torch.promote_types(old.dtype, torch.float32)
        return (old.to(wide) + self.values).to(old.dtype)

    def read(self) -> Tensor:
        """Gather the weights at the positions."""
        if not self.rows:
            pairs = zip(self.parameters, self.positions, strict=True)
            return torch.cat([_flat(p).index_select(0, positions) for p, positions in pairs])
        weights = torch.empty(len(self.values), dtype=self.parameters[0].dtype)
        into = _bits(weights)
        for row in self.rows:
            # Positions were shown to fit; the other modes copy through a buffer.
            row.memory().take(row.positions, out=into[row.place], mode="clip")
        return weights

    def write(self, weights: Tensor) -> None:
        """Put weights at the positions."""
        if self.rows:
            source = _bits(weights)
            for row in self.rows:
                row.memory()[row.positions] = source[row.place]
            return
        parts = torch.split(weights, [len(positions) for positions in self.positions])
        for parameter, positions, part in zip(self.parameters, self.positions, parts, strict=True):
            _flat(parameter).index_copy_(0, positions, part)


def group_entries(pairs: Sequence[tuple[nn.Parameter, SparseTensor]], mode: Mode) -> EntryGroup:
    """Bring together the entries of parameters of one dtype on one device."""
    parameters = tuple(parameter for parameter, _ in pairs)
    positions = tuple(put_beside(parameter, tensor.positions) for parameter, tensor in pairs)
    values = put_beside(parameters[0], np.concatenate([tensor.values for _, tensor in pairs]))
    rows = []
    if values.device.type == "cpu":
        ends = np.cumsum([len(own) for own in positions]).tolist()
        for parameter, own, (start, end) in zip(
            parameters, positions, pairwise([0, *ends]), strict=True
        ):
            bits, address = _bits(parameter), parameter.data_ptr()
            rows.append(EntryRow(parameter, own.numpy(), bits, address, slice(start, end)))
    return EntryGroup(parameters, positions, values, mode, tuple(rows))


def put_beside(parameter: nn.Parameter, array: NDArray[Any]) -> Tensor:
    """Copy an array to where the parameter is; a diff's own arrays are read-only."""
    return torch.from_numpy(array.copy()).to(parameter.device)


def _flat(tensor: Tensor) -> Tensor:
    return tensor.detach().view(-1)


def _bits(tensor: Tensor) -> NDArray[Any]:
    """Return a tensor on a CPU as a row of integers of its width, over the same memory."""
    return _flat(tensor).view(_INTEGERS[tensor.element_size()]).numpy()
