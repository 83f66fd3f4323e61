"""Mask selection by tensor: which tensors are meant, and all of their entries."""

from __future__ import annotations

import operator
import re
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from streamlab.diff.layout import Layout, layer_of
from streamlab.diff.rules import Rule, WholeTensors
from streamlab.errors import TrainingError
from streamlab.methods.api import TrainingJob
from streamlab.methods.masks.selection import MaskSelector, Selection


class AmongTensors(MaskSelector):
    """A selector that chooses among the entries of some tensors only."""

    tensors: str = "matrices"
    """Where entries may be chosen: `matrices`, which are all tensors of two or more dimensions,
    `layers`, which are those of numbered layers, without embeddings, or a regular expression,
    searched in the base's names."""

    def candidates(self, layout: Layout) -> tuple[bool, ...]:
        """Tell of every tensor of the layout whether its entries may be chosen."""
        matrices = tuple(len(shape) > 1 for shape in layout.shapes)
        if self.tensors == "matrices":
            return matrices
        if self.tensors == "layers":
            in_layers = (layer_of(name).isdigit() for name in layout.names)
            return tuple(map(operator.and_, matrices, in_layers))
        return tuple(re.search(self.tensors, name) is not None for name in layout.names)

    def most_entries(self, layout: Layout) -> int:
        """Return the number of entries that may be chosen."""
        return self.n_candidates(layout)

    def n_candidates(self, layout: Layout) -> int:
        """Return the number of entries that may be chosen."""
        pairs = zip(layout.sizes, self.candidates(layout), strict=True)
        return sum(size for size, chosen in pairs if chosen)

    def require(self, layout: Layout, k: int) -> None:
        """Raise TrainingError where fewer than `k` entries may be chosen."""
        refuse_fewer(k, self.n_candidates(layout), f"the tensors {self.tensors!r} have")

    def scores_among(self, layout: Layout, scores: Sequence[Tensor]) -> list[Tensor]:
        """Return scores with 0 for every entry that may not be chosen."""
        pairs = zip(scores, self.candidates(layout), strict=True)
        return [score if on else torch.zeros_like(score) for score, on in pairs]


def refuse_fewer(k: int, n: int, which: str) -> None:
    """Raise TrainingError where only `n` entries, and not `k`, may be chosen."""
    if n < k:
        raise TrainingError(
            f"{k:,} entries are to be retained, and {which} {n:,}. Lower `target_density`, or let "
            "the mask choose among more."
        )


class MatchingTensors(AmongTensors):
    """Select every entry of some tensors; the density does not matter."""

    name: Literal["tensors"] = "tensors"
    tensors: str
    """`matrices`, `layers`, or a regular expression, searched in the base's names."""

    def n_entries(self, layout: Layout, density: float) -> int:  # noqa: ARG002 - all of them
        """Return the number of entries of all matching tensors."""
        return self.n_candidates(layout)

    def prototype(self, layout: Layout, k: int) -> Rule:  # noqa: ARG002 - all of them
        """Return the rule of `select`."""
        return WholeTensors(self.candidates(layout))

    def select(self, job: TrainingJob, k: int) -> Selection:
        """Select all entries of the matching tensors. Raises ValueError unless they are `k`."""
        if k != self.n_candidates(job.layout):
            raise ValueError(f"{self.n_candidates(job.layout)} entries match, and {k} are wanted")
        n_selected = sum(self.candidates(job.layout))
        return Selection.by(self.prototype(job.layout, k), job.layout, selected_tensors=n_selected)
