"""Groups of entries: the rows, columns, attention heads or whole tensors of a base."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal

import torch
from torch import Tensor

from streamlab.diff.layout import Layout
from streamlab.errors import TrainingError

Unit = Literal["rows", "columns", "heads", "tensors"]

# A head has rows of the matrices before it and columns of the one after it.
_ATTENTION: Final = re.compile(
    r"^(?P<layer>.*?)\battention\.(self\.)?"
    r"((?P<before>query|key|value|[qkv]_lin|(query|key|value)_proj)|(output\.)?dense|out_lin)"
    r"\.weight$"
)


@dataclass(frozen=True)
class Cut:
    """The cut of one tensor: `groups` holds the group of every index of its `axis`, int64."""

    axis: int
    groups: Tensor


@dataclass(frozen=True)
class Groups:
    """A partition of the entries of some tensors; the cut of any other tensor is None."""

    shapes: Sequence[tuple[int, ...]]
    cuts: Sequence[Cut | None]
    n: int

    @cached_property
    def sizes(self) -> Tensor:
        """Return the number of entries of every group, (n,) int64."""
        sizes = torch.zeros(self.n, dtype=torch.int64)
        for shape, cut in zip(self.shapes, self.cuts, strict=True):
            if cut is not None:
                beside = torch.Size(shape).numel() // max(1, shape[cut.axis])
                sizes.index_add_(0, cut.groups, torch.full_like(cut.groups, beside))
        return sizes

    def totals(self, values: Sequence[Tensor | None]) -> Tensor:
        """Return the sum of every group over flat values, one per tensor; (n,) float64 on the CPU.

        What belongs to a tensor without groups is not read.
        """
        totals = torch.zeros(self.n, dtype=torch.float64)
        for value, shape, cut in zip(values, self.shapes, self.cuts, strict=True):
            if value is not None and cut is not None:
                lines = value.reshape(shape).movedim(cut.axis, 0).reshape(shape[cut.axis], -1)
                totals.index_add_(0, cut.groups, lines.sum(1, dtype=torch.float64).cpu())
        return totals

    def spread(self, index: int, per_group: Tensor) -> Tensor:
        """Return one number per group as a tensor that broadcasts over tensor `index`."""
        cut, n_axes = self.cuts[index], len(self.shapes[index])
        if cut is None:
            raise ValueError(f"tensor {index} has no groups")
        lines = per_group[cut.groups.to(per_group.device)]
        return lines.reshape([-1 if axis == cut.axis else 1 for axis in range(n_axes)])

    def positions(self, kept: Tensor) -> list[Tensor]:
        """Return the flat, ascending positions of all entries of the `kept` groups, (n,) bool."""
        found = []
        for index, (shape, cut) in enumerate(zip(self.shapes, self.cuts, strict=True)):
            if cut is None:
                found.append(torch.zeros(0, dtype=torch.int64))
            else:
                mask = self.spread(index, kept).expand(shape)
                found.append(mask.reshape(-1).nonzero().squeeze(-1))
        return found


def cut_into_groups(
    layout: Layout,
    candidates: Sequence[bool],
    unit: Unit,
    *,
    width: int = 1,
    n_heads: int | None = None,
) -> Groups:
    """Cut the candidate tensors into groups; `width` rows or columns make one.

    A tensor of one axis is one group, and one without axes is in none. Heads are those of the
    attention's four matrices, each with its share of all of them. Raises TrainingError where there
    is no group.
    """
    cuts: list[Cut | None] = []
    heads: dict[str, int] = {}  # the first group of every layer
    n = 0
    for name, shape, on in zip(layout.names, layout.shapes, candidates, strict=True):
        attention = _ATTENTION.match(name) if unit == "heads" else None
        if not on or not shape or (unit == "heads" and (attention is None or not n_heads)):
            cuts.append(None)
            continue
        axis = int(len(shape) > 1 and unit == "columns")
        length, first, span = shape[axis], n, width
        if unit == "tensors" or len(shape) == 1:
            span = max(1, length)
        if attention is not None and n_heads:
            axis = 0 if attention["before"] else 1
            length, first = shape[axis], heads.setdefault(attention["layer"], n)
            if length % n_heads:
                raise TrainingError(f"`{name}` has {length} lines for {n_heads} heads.")
            span = length // n_heads
        cuts.append(Cut(axis, first + torch.arange(length) // span))
        n = max(n, first + -(-length // span))
    if not n:
        raise TrainingError(
            f"The base has no {unit} among the tensors that the mask may choose from. Let it "
            "choose among more, or use other groups."
        )
    return Groups(layout.shapes, cuts, n)
