"""Sparse patches of weights as trainers and inference servers exchange them.

TRL's delta codec and vLLM's `SparseWeightPatch` have, for each tensor that changes, its positions
in row-major order and its new values. In a safetensors file these are `NAME.idx` (int32, ascending)
and `NAME.val`. A patch does not say which base it belongs to, and takes several times the bytes of
an exact difference.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamlab.errors import DiffError, DiffFormatError
from streamlab.exact.coder import Bytes, Kind
from streamlab.exact.tensor_files import (
    TensorFolder,
    TensorsOnDisk,
    file_start,
    open_tensors,
    parse_header,
    standard_header,
)
from streamlab.files import atomic_folder, atomic_write, disk_errors

_POSITIONS, _VALUES = ".idx", ".val"
MAX_POSITION: Final = (1 << 31) - 1


def write_patch(base: Path, tuned: Path, path: Path) -> int:
    """Write the patch between two checkpoints; returns the number of weights that change.

    Raises DiffError where they have other tensors, or one has more entries than positions reach.
    """
    before, after = open_tensors(base), open_tensors(tuned)
    if before.kinds != after.kinds:
        names = sorted(before.kinds.items() ^ after.kinds.items())
        raise DiffError(
            f"A patch is between checkpoints with the same tensors, and `{names[0][0]}` is not the "
            "same in both. Write an exact difference (`.slexact`) in its place."
        )
    parts: dict[str, tuple[Kind, Bytes]] = {}
    n_changed = 0
    for name, kind in after.kinds.items():
        positions, values = _changes(before.read(name), after.read(name), kind)
        if not len(positions):
            continue
        if kind.n_numbers > MAX_POSITION:
            raise DiffError(f"`{name}` has more entries than 32 bits can number.")
        n_changed += len(positions)
        found = np.frombuffer(positions.astype("<i4").tobytes(), dtype=np.uint8)
        parts[name + _POSITIONS] = Kind("I32", positions.shape), found
        parts[name + _VALUES] = Kind(kind.dtype, positions.shape), values
    metadata = {"encoding": "raw", "sparse": "true", "total_changed_elements": str(n_changed)}
    header = standard_header({name: kind for name, (kind, _) in parts.items()}, metadata)
    layout = parse_header(path.name, header)
    with atomic_write(path) as file, disk_errors(path):
        file.write(file_start(header))
        for name in sorted(parts, key=lambda name: layout.tensors[name][1]):
            file.write(parts[name][1].data)
    return n_changed


def apply_patch(base: Path, path: Path, folder: Path) -> int:
    """Write a checkpoint with a patch applied into a new folder; returns the number of changes.

    Nothing says whether the patch belongs to this base. Raises DiffFormatError (`patch-tensor`,
    `patch-position`) for one that does not fit it.
    """
    before, patch = open_tensors(base), open_tensors(path)
    names = sorted({name.removesuffix(_VALUES).removesuffix(_POSITIONS) for name in patch.kinds})
    for name in names:
        _check_kinds(name, before, patch)
    n_changed = 0
    with (
        atomic_folder(folder) as temporary,
        disk_errors(folder),
        closing(TensorFolder(temporary, before.files)) as files,
    ):
        for name, kind in before.kinds.items():
            found = before.read(name)
            if name in names:
                n_changed += _change(found, patch, name, kind)
            files.write(name, found)
    return n_changed


def _changes(old: Bytes, new: Bytes, kind: Kind) -> tuple[NDArray[np.int64], Bytes]:
    """Return the positions whose bits differ, and the new numbers there as bytes."""
    numbers = kind.numbers(new)
    positions = np.flatnonzero(kind.numbers(old) != numbers)
    return positions, numbers[positions].view(np.uint8)


def _check_kinds(name: str, before: TensorsOnDisk, patch: TensorsOnDisk) -> None:
    positions, values = (patch.kinds.get(name + end) for end in (_POSITIONS, _VALUES))
    own = before.kinds.get(name)
    if own is None or positions is None or values is None:
        raise DiffFormatError(
            "patch-tensor", f"`{name}` needs positions, values and a tensor of the base."
        )
    if positions.dtype != "I32" or len(positions.shape) != 1:
        raise DiffFormatError(
            "patch-position", f"positions of `{name}` must be a list of int32, got {positions}."
        )
    if values != Kind(own.dtype, positions.shape):
        raise DiffFormatError(
            "patch-tensor", f"`{name}` needs a value of {own.dtype} for each of its positions."
        )


def _change(found: Bytes, patch: TensorsOnDisk, name: str, kind: Kind) -> int:
    """Set the numbers of a tensor that a patch has, and return how many."""
    positions = patch.read(name + _POSITIONS).view("<i4").astype(np.int64)
    if not len(positions):
        return 0
    if positions[0] < 0 or positions[-1] >= kind.n_numbers or not (np.diff(positions) > 0).all():
        raise DiffFormatError(
            "patch-position", f"positions of `{name}` must ascend from 0 to {kind.n_numbers - 1}."
        )
    kind.numbers(found)[positions] = kind.numbers(patch.read(name + _VALUES))
    return len(positions)
