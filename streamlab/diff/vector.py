"""A diff in memory: a sparse change of the backbone and a dense task head.

    theta_task = theta_base + delta

where k of delta's d entries are non-zero; or the k entries replace those of theta_base; or, of a
pruned model, the k entries are added, and all others of the tensors that have one become 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from streamlab.diff.layout import Layout
from streamlab.diff.rules import Rule
from streamlab.errors import BaseMismatchError, DiffError
from streamlab.hashing import MAX_JSON_DEPTH, canonical_json, parse_json
from streamlab.units import printable

Mode = Literal["add", "replace", "prune"]


@dataclass(frozen=True, eq=False)
class SparseTensor:
    """The non-zero entries of one tensor of `shape`.

    `positions`: (n,) int64, flat and row-major, strictly ascending. `values`: (n,) float32,
    finite. Both are kept read-only. Raises DiffError.
    """

    shape: tuple[int, ...]
    positions: NDArray[np.int64]
    values: NDArray[np.float32]

    def __post_init__(self) -> None:
        """Make the arrays read-only and validate them."""
        object.__setattr__(self, "shape", tuple(int(length) for length in self.shape))
        object.__setattr__(self, "positions", _read_only(self.positions, "int64", "positions"))
        object.__setattr__(self, "values", _read_only(self.values, "float32", "values"))
        if self.positions.ndim != 1 or self.positions.shape != self.values.shape:
            raise DiffError(
                "`positions` and `values` must be one-dimensional and equally long, "
                f"got shapes {self.positions.shape} and {self.values.shape}."
            )
        if len(self.positions):
            self._check_entries()

    def _check_entries(self) -> None:
        first, last, size = int(self.positions[0]), int(self.positions[-1]), self.size
        if not bool((self.positions[1:] > self.positions[:-1]).all()):
            raise DiffError(
                "`positions` must be strictly ascending; sort them and drop duplicates."
            )
        if first < 0 or last >= size:
            raise DiffError(
                f"`positions` must lie in [0, {size}) for the shape {self.shape}, "
                f"got {first} to {last}."
            )
        if not bool(np.isfinite(self.values).all()):
            raise DiffError("`values` must be finite, got NaN or infinite ones.")

    @property
    def size(self) -> int:
        """Return the number of entries of the dense tensor."""
        return math.prod(self.shape)

    def __len__(self) -> int:
        """Return the number of non-zero entries."""
        return len(self.positions)

    def without_zeros(self) -> SparseTensor:
        """Return the tensor without entries of value 0; itself if there are none."""
        if self.values.all():
            return self
        changed = self.values != 0
        return SparseTensor(self.shape, self.positions[changed], self.values[changed])

    def __eq__(self, other: object) -> bool:
        """Compare shape, positions and values."""
        if not isinstance(other, SparseTensor):
            return NotImplemented
        return (
            self.shape == other.shape
            and np.array_equal(self.positions, other.positions)
            and np.array_equal(self.values, other.values)
        )

    def dense(self) -> NDArray[np.float32]:
        """Return the dense tensor."""
        flat = np.zeros(self.size, dtype=np.float32)
        flat[self.positions] = self.values
        return flat.reshape(self.shape)


def proven_tensor(
    shape: tuple[int, ...], positions: NDArray[np.int64], values: NDArray[np.float32]
) -> SparseTensor:
    """Build a tensor without validation, from entries the caller has checked and made read-only.

    Validating tensor by tensor would take most of the decoding time of a file.
    """
    tensor = object.__new__(SparseTensor)
    tensor.__dict__.update(shape=shape, positions=positions, values=values)
    return tensor


@dataclass(frozen=True, eq=False)
class DiffVector:
    """One task's change to a base: sparse in the backbone, dense in the head.

    `mode`: `add`, values are added to the base's; `replace`, they replace them; `prune`, they are
    added, and every other entry of a tensor that has one becomes 0. `tensors`: one per tensor of
    `layout`, in its order, including empty ones; in mode `add` values of 0 are dropped, since a
    mask may select a weight that training left unchanged, and k counts changes. In mode `prune` an
    entry is a weight that is kept, changed or not. `head`: float32 tensors by
    parameter name of the classifier. `task`: the JSON task description that serving needs (name,
    kind, labels, ...). `rule`: what regenerates the positions of all entries, values of 0
    included; a file then stores it in place of them. Raises DiffError where the parts do not fit
    together, a number is not finite, or nothing would change.
    """

    layout: Layout
    tensors: tuple[SparseTensor, ...]
    head: Mapping[str, NDArray[np.float32]]
    task: Mapping[str, Any]
    mode: Mode = "add"
    rule: Rule | None = None

    def __repr__(self) -> str:
        task = self.task.get("task")
        named = "" if task is None else f"{task!r}: "
        return printable(
            f"{type(self).__name__}({named}{self.n_entries:,} of {self.layout.n_gated:,} weights, "
            f"mode {self.mode!r}, {len(self.head)} head tensors)"
        )

    def __post_init__(self) -> None:
        """Check that the parts fit the layout and each other."""
        if len(self.tensors) != len(self.layout.names):
            raise DiffError(
                f"A diff needs one tensor for each of the base's {len(self.layout.names)} tensors, "
                f"got {len(self.tensors)}."
            )
        named = zip(self.layout.names, self.layout.shapes, self.tensors, strict=True)
        for name, shape, tensor in named:
            if tuple(shape) != tuple(tensor.shape):
                raise DiffError(
                    f"`{name}` has the shape {tuple(shape)} in the base, "
                    f"{tuple(tensor.shape)} in the diff."
                )
        # All tensors at once: one by one would take a tenth of the decoding time of a file.
        if self.mode == "add" and self.rule is None and not self.entries.all():
            object.__setattr__(self, "tensors", tuple(t.without_zeros() for t in self.tensors))
        object.__setattr__(self, "head", _checked_head(self.head))
        object.__setattr__(self, "task", _checked_json(self.task))
        if self.n_entries == 0 and not self.head:
            raise DiffError("The diff changes nothing: it has no entry and no head.")

    @property
    def n_gated(self) -> int:
        """Return d, the number of backbone entries a diff may change."""
        return self.layout.n_gated

    @property
    def entries(self) -> NDArray[np.float32]:
        """Return the values of all entries, (k,) in layout order."""
        return np.concatenate([np.zeros(0, np.float32), *(t.values for t in self.tensors)])

    @property
    def counts(self) -> tuple[int, ...]:
        """Return the number of entries of each tensor, in layout order."""
        return tuple(len(tensor) for tensor in self.tensors)

    @property
    def n_entries(self) -> int:
        """Return k, the number of backbone entries that change; of a pruned model, are kept."""
        return sum(self.counts)

    @property
    def n_head_entries(self) -> int:
        """Return the number of entries of the dense head, which k does not include."""
        return sum(array.size for array in self.head.values())

    @property
    def density(self) -> float:
        """Return k / d; 0 for a base without tensors."""
        return self.n_entries / self.n_gated if self.n_gated else 0.0

    def overlap(self, other: DiffVector) -> float:
        """Return the Jaccard index of the two sets of positions; 1 if both are empty.

        Raises BaseMismatchError for diffs of different bases.
        """
        if self.layout != other.layout:
            raise BaseMismatchError(
                "Overlap is defined for diffs of one base only; these belong to "
                f"{self.layout.fingerprint!r} and {other.layout.fingerprint!r}."
            )
        shared = sum(
            len(np.intersect1d(mine.positions, theirs.positions, assume_unique=True))
            for mine, theirs in zip(self.tensors, other.tensors, strict=True)
        )
        union = self.n_entries + other.n_entries - shared
        return shared / union if union else 1.0

    def __eq__(self, other: object) -> bool:
        """Compare layout, entries, head and task by content."""
        if not isinstance(other, DiffVector):
            return NotImplemented
        return (
            self.layout == other.layout
            and self.mode == other.mode
            and self.rule == other.rule
            and self.tensors == other.tensors
            and self.task == other.task
            and self.head.keys() == other.head.keys()
            and all(np.array_equal(self.head[name], other.head[name]) for name in self.head)
        )


def chance_overlap(one: float, two: float) -> float:
    """Return the Jaccard index of uniform random masks with densities `one` and `two`.

    >>> chance_overlap(1.0, 0.25)
    0.25
    """
    return one * two / (one + two - one * two)


def _read_only(array: NDArray[Any], dtype: str, name: str) -> NDArray[Any]:
    if not isinstance(array, np.ndarray) or array.dtype != np.dtype(dtype):
        given = getattr(array, "dtype", type(array).__name__)
        raise DiffError(f"`{name}` must be a numpy array of {dtype}, got {given}.")
    view = np.ascontiguousarray(array).view() if array.ndim else array.view()
    view.flags.writeable = False
    return view


def _checked_head(head: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    checked = {}
    for name in sorted(head):
        array = _read_only(head[name], "float32", name)
        if not name or array.size == 0:
            raise DiffError(f"The head's tensor {name!r} needs a name and at least one entry.")
        if not bool(np.isfinite(array).all()):
            raise DiffError(f"The head's tensor `{name}` has NaN or infinite entries.")
        checked[name] = array
    _checked_json(list(checked))
    return checked


def _checked_json(tree: Any) -> Any:
    """Return a tree after a round trip through JSON, so that a diff equals its stored copy."""
    try:
        return parse_json(canonical_json(tree), max_depth=MAX_JSON_DEPTH)
    except (TypeError, ValueError, RecursionError) as error:
        raise DiffError(f"`task` and the names in `head` must be JSON: {error}.") from error
