"""SHiRA adapters as diffs, and diffs as SHiRA adapters.

SHiRA (Bhardwaj et al., 2024) adds values at fixed positions of linear layers: it is a diff, which
PEFT stores as two 32-bit indices and a float32 for every value.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from streamlab.diff.vector import DiffVector, SparseTensor
from streamlab.errors import DiffError
from streamlab.methods.adapter_file import AdapterFile

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from streamlab.base import Base

_PREFIX: Final = "base_model.model."
_WEIGHTS, _INDICES = ".shira_weight", ".shira_indices"


def shira_diff(
    file: AdapterFile, base: Base, head_names: Collection[str], task: Mapping[str, Any]
) -> DiffVector:
    """Return the diff that a SHiRA adapter is; its scale is 1, which PEFT does not save.

    `head_names`: of the task's head, which the adapter must bring. Raises DiffError for tensors
    that are not of the base, or positions outside their matrix or given twice.
    """
    short_names = {full: name for name, full in base.full_names.items()}
    shapes = dict(zip(base.layout.names, base.layout.shapes, strict=True))
    left = dict(file.without_head(head_names))
    changed: dict[str, SparseTensor] = {}
    for name in [name for name in left if name.endswith(_WEIGHTS)]:
        path = name.removesuffix(_WEIGHTS)
        short = short_names.get(f"{path.removeprefix(_PREFIX)}.weight")
        indices = left.pop(path + _INDICES, None)
        if short is None or indices is None:
            raise DiffError(f"The adapter's `{name}` has no matrix in the base, or no indices.")
        changed[short] = _entries(name, left.pop(name), indices, shapes[short])
    for name in left:
        raise DiffError(f"The adapter's `{name}` is no part of a SHiRA adapter or of the head.")
    nothing = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32)
    tensors = (changed.get(name) or SparseTensor(shape, *nothing) for name, shape in shapes.items())
    head = {name: t.float().numpy().copy() for name, t in file.head(head_names).items()}
    return DiffVector(base.layout, tuple(tensors), head, task, "add")


def _entries(name: str, values: Tensor, indices: Tensor, shape: tuple[int, ...]) -> SparseTensor:
    """Return the entries of one matrix."""
    integers = not indices.is_floating_point()
    if len(shape) != 2 or values.dim() != 1 or indices.shape != (2, len(values)) or not integers:
        raise DiffError(
            f"The adapter's `{name}` has the shape {tuple(values.shape)} and its indices "
            f"{tuple(indices.shape)}; {shape} is the shape in the base."
        )
    rows, columns = indices.long()
    inside = (rows >= 0) & (rows < shape[0]) & (columns >= 0) & (columns < shape[1])
    positions, order = (rows * shape[1] + columns).sort()
    if not bool(inside.all()) or bool((positions[1:] == positions[:-1]).any()):
        raise DiffError(f"The adapter's `{name}` has positions outside its matrix, or twice.")
    return SparseTensor(shape, positions.numpy(), values.float()[order].numpy())


def shira_adapter(
    diff: DiffVector, model: PreTrainedModel, full_names: Mapping[str, str], *, task_type: str
) -> AdapterFile:
    """Return the SHiRA adapter that a diff is; layers with fewer entries than others get zeros.

    `model`: of the task; `full_names`: its backbone by the layout's names. Raises DiffError where
    the diff is no such adapter, saying why.
    """
    if diff.mode != "add":
        raise DiffError(
            f"The diff's mode is `{diff.mode}`, and a SHiRA adapter adds to weights. Take the diff "
            "by `streamlab diff --add`, which rounds it."
        )
    named = zip(diff.layout.names, diff.tensors, strict=True)
    changed = {full_names[name]: tensor for name, tensor in named if len(tensor)}
    rank, transposed = 0, set()
    for name, tensor in changed.items():
        layer = model.get_submodule(name.rpartition(".")[0])
        kind = type(layer).__name__
        if not name.endswith(".weight") or kind not in ("Linear", "Conv1D"):
            raise DiffError(
                f"The diff changes `{name}`, and a SHiRA adapter changes the matrices of linear "
                "layers alone. Export the diff itself, or merge it into its base."
            )
        transposed.add(kind == "Conv1D")
        rank = max(rank, math.ceil(len(tensor) / sum(tensor.shape)))
        if rank * sum(tensor.shape) > tensor.size:
            raise DiffError(f"The diff changes more of `{name}` than a SHiRA adapter can.")
    if len(transposed) != 1:
        raise DiffError("A SHiRA adapter changes layers of one kind, and at least one.")
    tensors: dict[str, Tensor] = {}
    for name, tensor in changed.items():
        path = _PREFIX + name.removesuffix(".weight")
        positions, values = _filled(tensor, rank * sum(tensor.shape))
        indices = np.stack(np.divmod(positions, tensor.shape[1])).astype(np.int32)
        tensors[path + _WEIGHTS] = torch.from_numpy(values)
        tensors[path + _INDICES] = torch.from_numpy(indices)
    head = {_PREFIX + name: torch.from_numpy(a.copy()) for name, a in diff.head.items()}
    settings = {
        "peft_type": "SHIRA",
        "task_type": task_type,
        "r": rank,
        "target_modules": sorted(name.removesuffix(".weight") for name in changed),
        "fan_in_fan_out": transposed == {True},
        "modules_to_save": sorted({name.partition(".")[0] for name in diff.head}),
    }
    return AdapterFile(settings, tensors | head)


def _filled(tensor: SparseTensor, size: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return positions and values of `size` entries: the tensor's, and zeros at other places."""
    taken = np.zeros(tensor.size, dtype=bool)
    taken[tensor.positions] = True
    free = np.flatnonzero(~taken)[: size - len(tensor)]
    positions = np.concatenate([tensor.positions, free])
    values = np.concatenate([tensor.values, np.zeros(len(free), dtype=np.float32)])
    order = np.argsort(positions)
    return positions[order], values[order]
