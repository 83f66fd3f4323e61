"""Mask selection by count: how many entries of each group matter, not which."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from streamlab.diff.layout import Layout
from streamlab.diff.rules import (
    Rule,
    SeededCounts,
    row_number,
    rows_of,
    stratified,
    tensors_of,
)
from streamlab.methods.api import TrainingJob
from streamlab.methods.masks.grouping import Groups, Unit
from streamlab.methods.masks.groups import ByGroup, MeasureSettings
from streamlab.methods.masks.largest_change import LargestChange
from streamlab.methods.masks.selection import Selection
from streamlab.seeds import derived_seed

Counts = NDArray[np.int64]


class CountsWithin(ByGroup):
    """Select seeded positions, as many in each group as its share of the importance.

    A file needs a count per tensor or row and a seed, in place of every position.
    """

    name: Literal["counts"] = "counts"
    per: Unit = "tensors"
    """What has a count. The four attention matrices of a layer share their heads."""
    by: MeasureSettings = LargestChange()
    """What groups are measured by. Default: `change`, the squared change by a finetuning."""

    def prototype(self, layout: Layout, k: int) -> Rule | None:
        """Return counts in proportion to the sizes of tensors or rows, and a seed."""
        if self.width > 1 or self.per not in ("rows", "tensors"):
            return None
        per_row = self.per == "rows"
        sizes = np.where(
            np.repeat(self.candidates(layout), _cells_of(layout, per_row=per_row)),
            (rows_of(layout) if per_row else tensors_of(layout)).lengths,
            0,
        )
        return SeededCounts(0, shared_out(sizes * 1.0, sizes, k), "row" if per_row else "tensor")

    def select(self, job: TrainingJob, k: int) -> Selection:
        """Count by importance, one entry in each stratum of a group; starts from zero."""
        groups, found = self.measured(job, k)
        sizes = groups.sizes.numpy()
        counts = shared_out(found.scores.numpy() * sizes, sizes, k)
        seed = derived_seed("mask", job.seed)
        details = {**found.details, "mask_seed": seed, "empty_groups": int((counts == 0).sum())}
        if self.width == 1 and self.per in ("rows", "tensors"):
            per: Literal["row", "tensor"] = "row" if self.per == "rows" else "tensor"
            rule = SeededCounts(seed, self._in_layout(job, groups, counts), per)
            return Selection.by(rule, job.layout, **details)
        return Selection(_positions(groups, counts, seed), details=details)

    def _in_layout(self, job: TrainingJob, groups: Groups, counts: Counts) -> Counts:
        """Return a count for every row or tensor of the layout, 0 for those without a group."""
        of_tensors = []
        for shape, cut in zip(job.layout.shapes, groups.cuts, strict=True):
            n = row_number(shape) if self.per == "rows" else 1
            none = np.zeros(n, np.int64)
            of_tensors.append(none if cut is None else counts[cut.groups.unique().numpy()])
        return np.concatenate(of_tensors)


def _cells_of(layout: Layout, *, per_row: bool) -> list[int]:
    """Return how many counts every tensor of a layout has."""
    return [row_number(shape) if per_row else 1 for shape in layout.shapes]


def shared_out(weights: NDArray[np.float64], sizes: Counts, k: int) -> Counts:
    """Return counts in proportion to `weights`, none above its size, that add up to `k`.

    What a full group cannot take goes to the others in proportion; fractions are rounded by
    largest remainder, ties to the first. Where no weight is left, the sizes are the weights.

    >>> shared_out(np.array([8.0, 1.0, 1.0]), np.array([4, 9, 9]), 10).tolist()
    [4, 3, 3]
    """
    counts, free, left = np.zeros_like(sizes), sizes > 0, k
    while left:
        share = np.where(free, weights, 0.0)
        if not share.sum() > 0.0:
            share = np.where(free, sizes, 0).astype(np.float64)
        wanted = left * (share / share.sum())
        full = free & (wanted >= sizes)
        if not full.any():
            break
        counts[full] = sizes[full]
        free &= ~full
        left = k - int(counts.sum())
    if left:
        counts[free] = np.floor(wanted[free]).astype(np.int64)
        remainders = np.where(free, wanted - counts, -1.0)
        order = np.argsort(-remainders, kind="stable")
        counts[order[: k - int(counts.sum())]] += 1
    return counts


def _positions(groups: Groups, counts: Counts, seed: int) -> list[torch.Tensor]:
    """Return the seeded positions of every tensor, so many of each group."""
    members = [
        torch.zeros(0, dtype=torch.int64)
        if cut is None
        else groups.spread(i, torch.arange(groups.n)).expand(shape).reshape(-1)
        for i, (shape, cut) in enumerate(zip(groups.shapes, groups.cuts, strict=True))
    ]
    order = torch.cat(members).argsort(stable=True)  # group by group
    kept = torch.zeros(len(order), dtype=torch.bool)
    kept[order[torch.from_numpy(stratified(seed, groups.sizes.numpy(), counts))]] = True
    parts = kept.split([len(member) for member in members])
    return [part.nonzero().squeeze(-1) for part in parts]
