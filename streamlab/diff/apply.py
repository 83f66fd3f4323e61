"""Apply a diff to a model in place and revert it bit for bit.

    new = round(float32(old) + delta)    one sum, then one rounding where the dtype is narrower
    new = round(value)                   where the diff replaces weights
    new = 0                              where it prunes: all weights that it does not keep

Reverting copies the saved old values back: a subtraction would not restore the bits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from streamlab.diff.device_entries import DeviceEntries, has_triton
from streamlab.diff.native_entries import native_entries
from streamlab.diff.vector import DiffVector, Mode, SparseTensor
from streamlab.errors import BaseMismatchError, DiffError

_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # by bytes of an element


@dataclass(frozen=True)
class _HeadSwap:
    """A head parameter, its new tensor, and the Linear whose width the tensor sets, if any."""

    parameter: nn.Parameter
    tensor: Tensor
    linear: nn.Linear | None

    @property
    def width(self) -> int | None:
        """Return the new number of outputs of the Linear."""
        return None if self.linear is None else self.tensor.shape[0]


@dataclass(frozen=True)
class Plan:
    """A diff matched to the parameters of one model; `put_on` may be called many times."""

    groups: tuple[EntryGroup | PrunedTensors, ...]
    swaps: tuple[_HeadSwap, ...]

    def put_on(self) -> Applied:
        """Write the diff into the model.

        Raises DiffError, before anything is written, if no weight would change or a new weight
        would not be finite.
        """
        with torch.no_grad():
            old = tuple(group.read() for group in self.groups)
            new = [group.changed(o) for o, group in zip(old, self.groups, strict=True)]
            n_changed = _count_changed(old, new)
            if n_changed == 0 and not self.swaps:
                raise DiffError(
                    "The diff changes no weight of this model: every new value equals the old one "
                    "after rounding. Use the diff's own base, or load it in a wider dtype."
                )
            for group, weights in zip(self.groups, new, strict=True):
                group.write(weights)
            head = tuple((swap.parameter.data, _width(swap.linear)) for swap in self.swaps)
            for swap in self.swaps:
                _set_head(swap, swap.tensor.clone(), swap.width)
        return Applied(self, n_changed, _Saved(old, head))


@dataclass(frozen=True)
class _Saved:
    """Overwritten values: weights by group, and head tensors with their Linear's width."""

    weights: tuple[Tensor, ...]
    head: tuple[tuple[Tensor, int | None], ...]


@dataclass
class Applied:
    """A diff applied to a model; it changed `n_changed` backbone weights.

    Diffs applied on top of one another must be reverted in reverse order.
    """

    plan: Plan
    n_changed: int
    _saved: _Saved | None = field(repr=False)

    @property
    def is_on(self) -> bool:
        """Return whether the diff is still on the model."""
        return self._saved is not None

    def revert(self) -> None:
        """Copy the old values back. Raises DiffError if that was done before."""
        if self._saved is None:
            raise DiffError("The diff is already reverted; apply it again before reverting.")
        saved, self._saved = self._saved, None
        with torch.no_grad():
            for group, weights in zip(self.plan.groups, saved.weights, strict=True):
                group.write(weights)
            for swap, (tensor, width) in zip(self.plan.swaps, saved.head, strict=True):
                _set_head(swap, tensor, width)


def plan(model: nn.Module, diff: DiffVector, *, expected: str | None = None) -> Plan:
    """Match a diff to a model's parameters without changing them.

    A backbone tensor is found by its layout name, with or without the model's
    `base_model_prefix`; a head tensor by its full name. `expected` is the fingerprint of the
    model's base. Raises BaseMismatchError, and DiffError for an unknown name or a shape or dtype
    that does not fit.
    """
    if expected is not None and diff.layout.fingerprint != expected:
        raise BaseMismatchError(
            f"The diff belongs to the base {diff.layout.fingerprint!r}, and the model was built on "
            f"{expected!r}. Load the diff's base."
        )
    parameters = _parameters_of(model)
    return Plan(_match_backbone(model, parameters, diff), _match_head(model, parameters, diff))


def _parameters_of(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return what `named_parameters(remove_duplicate=False)` does, in a quarter of the time."""
    found: dict[str, nn.Parameter] = {}
    left: list[tuple[str, nn.Module]] = [("", model)]
    while left:
        path, module = left.pop()
        for name, parameter in module._parameters.items():
            if parameter is not None:
                found[path + name] = parameter
        for name, child in module._modules.items():
            if child is not None:
                left.append((f"{path}{name}.", child))
    return found


def apply(model: nn.Module, diff: DiffVector, *, expected: str | None = None) -> Applied:
    """Apply a diff to a model in place. Raises as `plan` and `Plan.put_on` do."""
    return plan(model, diff, expected=expected).put_on()


@contextmanager
def applied(
    model: nn.Module, diff: DiffVector, *, expected: str | None = None
) -> Iterator[Applied]:
    """Apply a diff to a model for the duration of a `with` block."""
    on = apply(model, diff, expected=expected)
    try:
        yield on
    finally:
        if on.is_on:
            on.revert()


def changed_tensor(old: Tensor, entries: SparseTensor, mode: Mode) -> Tensor:
    """Return a tensor with its entries changed, in its own dtype; itself where there are none.

    Raises DiffError if a new weight would not be finite.
    """
    if not len(entries):
        return old
    new = torch.zeros_like(old) if mode == "prune" else old.clone()
    positions, values = (
        torch.from_numpy(array.copy()) for array in (entries.positions, entries.values)
    )
    before = _flat(old)[positions]
    weights = values.to(old.dtype) if mode == "replace" else _added(before, values)
    if not bool(weights.isfinite().all()):
        raise DiffError("Weights would be NaN or infinite with the diff applied.")
    _flat(new)[positions] = weights
    return new


def _match_backbone(
    model: nn.Module, parameters: Mapping[str, nn.Parameter], diff: DiffVector
) -> tuple[EntryGroup | PrunedTensors, ...]:
    prefix = getattr(model, "base_model_prefix", "") or ""
    members: dict[tuple[torch.dtype, torch.device], list[tuple[nn.Parameter, SparseTensor]]] = {}
    found: set[int] = set()
    for name, shape, tensor in zip(
        diff.layout.names, diff.layout.shapes, diff.tensors, strict=True
    ):
        parameter = parameters.get(f"{prefix}.{name}", parameters.get(name))
        if parameter is None:
            raise DiffError(
                f"The model has no parameter `{name}`: the diff belongs to another architecture."
            )
        _check_backbone(name, parameter, shape)
        if id(parameter) in found:
            raise DiffError(f"`{name}` is tied to another tensor of the diff.")
        found.add(id(parameter))
        if len(tensor):
            key = parameter.dtype, parameter.device
            members.setdefault(key, []).append((parameter, tensor))
    if diff.mode == "prune":
        return tuple(map(prune_tensors, members.values()))
    return tuple(group_entries(pairs, diff.mode) for pairs in members.values())


def _check_backbone(name: str, parameter: nn.Parameter, shape: tuple[int, ...]) -> None:
    if parameter.shape != shape:
        raise DiffError(
            f"`{name}` has the shape {tuple(parameter.shape)} in the model, "
            f"{tuple(shape)} in the diff."
        )
    if parameter.dtype not in _DTYPES:
        raise DiffError(f"`{name}` has the dtype {parameter.dtype}; supported: {_DTYPES}.")
    if not parameter.is_contiguous():
        raise DiffError(f"`{name}` is not contiguous in memory; call `.contiguous()` first.")


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
            raise DiffError(
                f"The model has no head parameter `{name}`: the diff belongs to another "
                "architecture."
            )
        owner = model.get_submodule(name.rpartition(".")[0])
        linear = owner if isinstance(owner, nn.Linear) else None
        _check_head(name, parameter, array.shape, linear)
        if linear is not None:
            widths.setdefault(name.rpartition(".")[0], Counter())[array.shape[0]] += 1
        tensor = to_device_of(parameter, array).to(parameter.dtype)
        if not bool(tensor.isfinite().all()):
            raise DiffError(f"The head's `{name}` exceeds the range of {parameter.dtype}.")
        swaps.append(_HeadSwap(parameter, tensor, linear))
    _check_widths(model, widths)
    return tuple(swaps)


def _check_head(
    name: str, parameter: nn.Parameter, shape: tuple[int, ...], linear: nn.Linear | None
) -> None:
    """Raise DiffError for a shape that differs in more than the outputs of a Linear."""
    current = tuple(parameter.shape)
    same_inputs = len(current) == len(shape) and current[1:] == shape[1:]
    if current != shape and not (linear is not None and same_inputs):
        raise DiffError(
            f"The head's `{name}` has the shape {current} in the model, {shape} in the diff."
        )
    if parameter.dtype not in _DTYPES:
        raise DiffError(
            f"The head's `{name}` has the dtype {parameter.dtype}; supported: {_DTYPES}."
        )


def _check_widths(model: nn.Module, widths: Mapping[str, Counter[int]]) -> None:
    """Raise DiffError for a Linear whose weight and bias would differ in the number of outputs."""
    for name, counts in widths.items():
        linear = model.get_submodule(name)
        n_parameters = sum(1 for _ in linear.parameters(recurse=False))
        width, n_given = counts.most_common(1)[0]
        changes_width = width != linear.out_features
        if len(counts) > 1 or (changes_width and n_given < n_parameters):
            raise DiffError(f"The weight and bias of `{name}` must have equally many outputs.")


def _count_changed(old: Sequence[Tensor], new: Sequence[Tensor]) -> int:
    """Count the weights that differ. Raises DiffError if a new one is not finite."""
    n_changed = n_bad = 0
    for before, after in zip(old, new, strict=True):
        if after.device.type == "cpu":  # numpy takes a fifth of the time, but has no bf16
            weights, previous = _widened(after).numpy(), _widened(before).numpy()
            changed = int(np.count_nonzero(weights != previous))
            bad = weights.size - int(np.count_nonzero(np.isfinite(weights)))
        else:
            not_finite = after - after  # NaN or 0, in a third of the time that `isfinite` takes
            counts = torch.stack([(after != before).count_nonzero(), not_finite.count_nonzero()])
            changed, bad = counts.tolist()  # one synchronisation with the device
        n_changed, n_bad = n_changed + changed, n_bad + bad
    if n_bad:
        raise DiffError(f"{n_bad} weights would be NaN or infinite with the diff applied.")
    return n_changed


def _width(linear: nn.Linear | None) -> int | None:
    return None if linear is None else linear.out_features


def _set_head(swap: _HeadSwap, tensor: Tensor, width: int | None) -> None:
    swap.parameter.data = tensor
    if swap.linear is not None and width is not None:
        swap.linear.out_features = width


@dataclass(frozen=True)
class EntryView:
    """One CPU parameter viewed as integers, and the slice of its entries within the group.

    numpy moves integers twice as fast as torch gathers and scatters weights.
    """

    parameter: nn.Parameter
    positions: NDArray[np.int64]
    place: slice

    def memory(self) -> NDArray[Any]:
        """Return the parameter's current memory, which may have been reassigned."""
        return _bits(self.parameter)


@dataclass(frozen=True)
class EntryGroup:
    """Entries of all parameters of one dtype on one device, processed together.

    `values`: (sum of n_i,) float32. On a CPU there is a view per parameter, and `joined` are the
    positions of all; elsewhere there is an (n_i,) int64 tensor of `positions`. `device_entries`:
    where Triton runs.
    """

    parameters: tuple[nn.Parameter, ...]
    positions: tuple[Tensor, ...]
    values: Tensor
    mode: Mode
    views: tuple[EntryView, ...]
    device_entries: DeviceEntries | None = None
    joined: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def changed(self, old: Tensor) -> Tensor:
        """Return the new weights, in the dtype of the old ones."""
        if self.mode == "replace":
            return self.values.to(old.dtype)
        return _added(old, self.values)

    def read(self) -> Tensor:
        """Return the weights at the positions, (sum of n_i,)."""
        if self.device_entries is not None:
            return self.device_entries.read(self.parameters, self.parameters[0].dtype)
        if not self.views:
            pairs = zip(self.parameters, self.positions, strict=True)
            return torch.cat([_flat(p).index_select(0, positions) for p, positions in pairs])
        weights = torch.empty(len(self.values), dtype=self.parameters[0].dtype)
        into = _bits(weights)
        native = native_entries(len(into))
        if native is not None:
            native.read(self._addresses(), self._counts(), self.joined, into)
            return weights
        for view in self.views:
            # The positions are valid; the other modes copy through a buffer.
            view.memory().take(view.positions, out=into[view.place], mode="clip")
        return weights

    def write(self, weights: Tensor) -> None:
        """Set the weights at the positions."""
        if self.views:
            source = _bits(weights)
            native = native_entries(len(source))
            if native is not None:
                native.write(self._addresses(), self._counts(), self.joined, source)
                return
            for view in self.views:
                view.memory()[view.positions] = source[view.place]
            return
        if self.device_entries is not None:
            self.device_entries.write(self.parameters, weights)
            return
        parts = torch.split(weights, [len(positions) for positions in self.positions])
        for parameter, positions, part in zip(self.parameters, self.positions, parts, strict=True):
            _flat(parameter).index_copy_(0, positions, part)

    def _addresses(self) -> list[int]:
        """Return where the parameters are, each contiguous."""
        for parameter in self.parameters:
            if not parameter.is_contiguous():
                raise DiffError(
                    "A parameter of the model is not contiguous in memory any more; call "
                    "`.contiguous()` on it."
                )
        return [parameter.data_ptr() for parameter in self.parameters]

    def _counts(self) -> NDArray[np.int64]:
        return np.array([view.place.stop - view.place.start for view in self.views])


def group_entries(pairs: Sequence[tuple[nn.Parameter, SparseTensor]], mode: Mode) -> EntryGroup:
    """Group the entries of parameters of one dtype on one device."""
    parameters = tuple(parameter for parameter, _ in pairs)
    values = torch.from_numpy(np.concatenate([tensor.values for _, tensor in pairs]))
    values = values.to(parameters[0].device)
    if values.device.type == "cpu":
        ends = np.cumsum([len(tensor) for _, tensor in pairs]).tolist()
        places = list(map(slice, [0, *ends[:-1]], ends))
        joined = np.concatenate([tensor.positions for _, tensor in pairs])
        views = tuple(
            EntryView(parameter, joined[place], place)
            for parameter, place in zip(parameters, places, strict=True)
        )
        return EntryGroup(parameters, (), values, mode, views, joined=joined)
    positions = tuple(to_device_of(parameter, tensor.positions) for parameter, tensor in pairs)
    entries = None
    if has_triton(values.device):
        entries = DeviceEntries(positions, [parameter.numel() for parameter in parameters])
    return EntryGroup(parameters, positions, values, mode, (), entries)


@dataclass(frozen=True)
class PrunedTensors:
    """Parameters of one dtype on one device that keep some entries; all others become 0.

    `positions`: (k,) int64, ascending, in all parameters together; `values`: (k,) float32.
    """

    parameters: tuple[nn.Parameter, ...]
    positions: Tensor
    values: Tensor

    def changed(self, old: Tensor) -> Tensor:
        """Return the new weights of all parameters, in the dtype of the old ones."""
        kept = _added(old.index_select(0, self.positions), self.values)
        return torch.zeros_like(old).index_copy_(0, self.positions, kept)

    def read(self) -> Tensor:
        """Return the weights of all parameters, flat."""
        return torch.cat([_flat(parameter) for parameter in self.parameters])

    def write(self, weights: Tensor) -> None:
        """Set the weights of all parameters."""
        parts = weights.split([parameter.numel() for parameter in self.parameters])
        for parameter, part in zip(self.parameters, parts, strict=True):
            _flat(parameter).copy_(part)


def prune_tensors(pairs: Sequence[tuple[nn.Parameter, SparseTensor]]) -> PrunedTensors:
    """Match the kept weights to parameters of one dtype on one device."""
    parameters = tuple(parameter for parameter, _ in pairs)
    starts = np.cumsum([0, *(parameter.numel() for parameter in parameters[:-1])])
    positions = np.concatenate(
        [tensor.positions + start for (_, tensor), start in zip(pairs, starts, strict=True)]
    )
    values = np.concatenate([tensor.values for _, tensor in pairs])
    first = parameters[0]
    return PrunedTensors(parameters, to_device_of(first, positions), to_device_of(first, values))


def _added(old: Tensor, values: Tensor) -> Tensor:
    return (_widened(old) + values).to(old.dtype)


def _widened(tensor: Tensor) -> Tensor:
    """Return a tensor of at least 32 bits."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def to_device_of(parameter: nn.Parameter, array: NDArray[Any]) -> Tensor:
    """Copy a read-only array to the parameter's device."""
    return torch.from_numpy(array.copy()).to(parameter.device)


def _flat(tensor: Tensor) -> Tensor:
    return tensor.detach().view(-1)


def _bits(tensor: Tensor) -> NDArray[Any]:
    """View a CPU tensor as a flat array of integers of the same width."""
    return tensor.detach().view(_INTEGERS[tensor.element_size()]).numpy().reshape(-1)
