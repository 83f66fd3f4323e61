"""Put a diff on a model in place and take it off again, bit for bit.

    new = round(float32(old) + delta)    one sum, and one rounding where the weight is narrower
    new = round(value)                   where the diff replaces weights

The old values are kept and copied back: subtracting would leave other bits behind.
"""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from streamlab.errors import BaseMismatchError, DiffError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from streamlab.diff.vector import DiffVector, Mode, SparseTensor

_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


@dataclass(frozen=True)
class _HeadSwap:
    """A head parameter, the tensor it is to hold, and the Linear whose width it sets, if any."""

    parameter: nn.Parameter
    tensor: Tensor
    linear: nn.Linear | None

    @property
    def width(self) -> int | None:
        """Return the number of outputs the Linear will have."""
        return None if self.linear is None else self.tensor.shape[0]


@dataclass(frozen=True)
class Plan:
    """A diff matched to one model's parameters; `put_on` may be called many times."""

    groups: tuple[EntryGroup, ...]
    swaps: tuple[_HeadSwap, ...]

    def put_on(self) -> Applied:
        """Write the diff into the model; nothing is written where it is refused.

        Raises DiffError where no weight would change, or where a sum is not finite.
        """
        with torch.no_grad():
            old = tuple(group.read() for group in self.groups)
            new = [group.changed(o) for o, group in zip(old, self.groups, strict=True)]
            n_changed = _count_changed(old, new)
            if n_changed == 0 and not self.swaps:
                raise DiffError(
                    "The diff changes no weight of this model: each is, or rounds back to, what it "
                    "was. Take the right base, or a wider dtype for the model."
                )
            for group, weights in zip(self.groups, new, strict=True):
                group.write(weights)
            head = tuple((swap.parameter.data, _width(swap.linear)) for swap in self.swaps)
            for swap in self.swaps:
                _set_head(swap, swap.tensor.clone(), swap.width)
        return Applied(self, n_changed, _Saved(old, head))


@dataclass(frozen=True)
class _Saved:
    """What was overwritten: weights by group, and head tensors with their Linear's width."""

    weights: tuple[Tensor, ...]
    head: tuple[tuple[Tensor, int | None], ...]


@dataclass
class Applied:
    """A diff on a model; `n_changed` backbone weights differ from before.

    Diffs put on top of one another come off in the reverse order.
    """

    plan: Plan
    n_changed: int
    _saved: _Saved | None = field(repr=False)

    @property
    def is_on(self) -> bool:
        """Tell whether the diff is still on the model."""
        return self._saved is not None

    def revert(self) -> None:
        """Copy the old values back. Raises DiffError where that was done before."""
        if self._saved is None:
            raise DiffError("The diff was taken off already; apply it again before reverting.")
        saved, self._saved = self._saved, None
        with torch.no_grad():
            for group, weights in zip(self.plan.groups, saved.weights, strict=True):
                group.write(weights)
            for swap, (tensor, width) in zip(self.plan.swaps, saved.head, strict=True):
                _set_head(swap, tensor, width)


def plan(model: nn.Module, diff: DiffVector, *, expected: str | None = None) -> Plan:
    """Match a diff to a model's parameters, and change nothing yet.

    A backbone tensor is found by its layout name, or by that name under the model's
    `base_model_prefix`; a head tensor by its full name. `expected` is the fingerprint of the base
    the model was built on. Raises BaseMismatchError, and DiffError where a name matches nothing
    or a shape or dtype does not fit.
    """
    if expected is not None and diff.layout.fingerprint != expected:
        raise BaseMismatchError(
            f"The diff belongs to the base {diff.layout.fingerprint!r}, "
            f"the model was built on {expected!r}."
        )
    parameters = dict(model.named_parameters(remove_duplicate=False))
    return Plan(_match_backbone(model, parameters, diff), _match_head(model, parameters, diff))


def apply(model: nn.Module, diff: DiffVector, *, expected: str | None = None) -> Applied:
    """Put a diff on a model in place; see `plan` and `Plan.put_on` for what is refused."""
    return plan(model, diff, expected=expected).put_on()


@contextmanager
def applied(
    model: nn.Module, diff: DiffVector, *, expected: str | None = None
) -> Iterator[Applied]:
    """Hold a diff on a model for the length of a `with` block."""
    on = apply(model, diff, expected=expected)
    try:
        yield on
    finally:
        if on.is_on:
            on.revert()


def _match_backbone(
    model: nn.Module, parameters: Mapping[str, nn.Parameter], diff: DiffVector
) -> tuple[EntryGroup, ...]:
    prefix = getattr(model, "base_model_prefix", "") or ""
    members: dict[tuple[torch.dtype, torch.device], list[tuple[nn.Parameter, SparseTensor]]] = {}
    found: set[int] = set()
    for name, shape, tensor in zip(
        diff.layout.names, diff.layout.shapes, diff.tensors, strict=True
    ):
        parameter = parameters.get(f"{prefix}.{name}", parameters.get(name))
        if parameter is None:
            raise DiffError(f"The model has no parameter `{name}`; the diff was made for another.")
        _check_backbone(name, parameter, shape)
        if id(parameter) in found:
            raise DiffError(f"`{name}` is tied to a tensor the diff names already.")
        found.add(id(parameter))
        if len(tensor):
            key = parameter.dtype, parameter.device
            members.setdefault(key, []).append((parameter, tensor))
    return tuple(group_entries(pairs, diff.mode) for pairs in members.values())


def _check_backbone(name: str, parameter: nn.Parameter, shape: tuple[int, ...]) -> None:
    if tuple(parameter.shape) != tuple(shape):
        raise DiffError(
            f"`{name}` has the shape {tuple(parameter.shape)} in the model, "
            f"{tuple(shape)} in the diff."
        )
    if parameter.dtype not in _DTYPES:
        raise DiffError(f"`{name}` holds {parameter.dtype}; a diff is added to {_DTYPES} only.")
    if not parameter.is_contiguous():
        raise DiffError(f"`{name}` does not lie in memory row by row; call `.contiguous()` first.")


def _match_head(
    model: nn.Module, parameters: Mapping[str, nn.Parameter], diff: DiffVector
) -> tuple[_HeadSwap, ...]:
    swaps = []
    widths: dict[str, Counter[int]] = {}
    prefix = getattr(model, "base_model_prefix", "") or ""
    backbone = {full for name in diff.layout.names for full in (name, f"{prefix}.{name}")}
    for name, array in diff.head.items():
        parameter = parameters.get(name)
        if parameter is None or name in backbone:
            raise DiffError(f"The model has no head parameter `{name}`; it is of another kind.")
        owner = model.get_submodule(name.rpartition(".")[0])
        linear = owner if isinstance(owner, nn.Linear) else None
        _check_head(name, parameter, array.shape, linear)
        if linear is not None:
            widths.setdefault(name.rpartition(".")[0], Counter())[array.shape[0]] += 1
        tensor = put_beside(parameter, array).to(parameter.dtype)
        if not bool(tensor.isfinite().all()):
            raise DiffError(f"The head's `{name}` does not fit into {parameter.dtype}.")
        swaps.append(_HeadSwap(parameter, tensor, linear))
    _check_widths(model, widths)
    return tuple(swaps)


def _check_head(
    name: str, parameter: nn.Parameter, shape: tuple[int, ...], linear: nn.Linear | None
) -> None:
    """Refuse another shape, but for the number of outputs of a Linear, which tasks differ in."""
    own = tuple(parameter.shape)
    same_inputs = len(own) == len(shape) and own[1:] == shape[1:]
    if own != shape and not (linear is not None and same_inputs):
        raise DiffError(
            f"The head's `{name}` has the shape {own} in the model, {shape} in the diff."
        )
    if parameter.dtype not in _DTYPES:
        raise DiffError(f"The head's `{name}` holds {parameter.dtype}; only {_DTYPES} can be set.")


def _check_widths(model: nn.Module, widths: Mapping[str, Counter[int]]) -> None:
    """Refuse a Linear whose weight and bias would end with different numbers of outputs."""
    for name, tally in widths.items():
        linear = model.get_submodule(name)
        n_parameters = sum(1 for _ in linear.parameters(recurse=False))
        width, n_given = tally.most_common(1)[0]
        changes_width = width != linear.out_features
        if len(tally) > 1 or (changes_width and n_given < n_parameters):
            raise DiffError(f"The weight and bias of `{name}` must have one number of outputs.")


def _count_changed(old: Sequence[Tensor], new: Sequence[Tensor]) -> int:
    """Count weights that differ. Raises DiffError where one would not be finite."""
    n_changed = n_bad = 0
    for before, after in zip(old, new, strict=True):
        not_finite = after - after  # NaN there, 0 elsewhere: in a third of the time of `isfinite`
        tally = torch.stack([(after != before).count_nonzero(), not_finite.count_nonzero()])
        changed, bad = tally.tolist()  # one wait for the device
        n_changed, n_bad = n_changed + changed, n_bad + bad
    if n_bad:
        raise DiffError(f"{n_bad} weights would not be finite with the diff added.")
    return n_changed


def _width(linear: nn.Linear | None) -> int | None:
    return None if linear is None else linear.out_features


def _set_head(swap: _HeadSwap, tensor: Tensor, width: int | None) -> None:
    swap.parameter.data = tensor
    if swap.linear is not None and width is not None:
        swap.linear.out_features = width


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
