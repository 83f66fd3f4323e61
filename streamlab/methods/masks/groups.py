"""Mask selection by group: whole rows, columns, heads or tensors, or seeded within whole rows."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, Self

import numpy as np
import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor

from streamlab.config import NamedSettings
from streamlab.diff.layout import Layout
from streamlab.diff.rules import Rule, Seeded, SeededRows, row_number, stratified
from streamlab.errors import TrainingError
from streamlab.methods.api import TrainingJob
from streamlab.methods.masks.gradients import Fisher, Gradient
from streamlab.methods.masks.group_gates import GroupGated
from streamlab.methods.masks.grouping import Groups, Unit, cut_into_groups
from streamlab.methods.masks.largest_change import LargestChange
from streamlab.methods.masks.learned import Learned
from streamlab.methods.masks.measures import GroupScores, Measure
from streamlab.methods.masks.selection import Selection
from streamlab.methods.masks.tensors import AmongTensors, refuse_fewer
from streamlab.seeds import derived_seed

MEASURES: Final[Mapping[str, str]] = MappingProxyType(
    {
        c.model_fields["name"].default: f"{c.__module__}:{c.__name__}"
        for c in (LargestChange, Fisher, GroupGated, Gradient, Learned)
    }
)
MeasureSettings = Annotated[
    Measure, NamedSettings(group="streamlab.masks", key="name", builtin=MEASURES, base=Measure)
]


class ByGroup(AmongTensors):
    """A selector that measures groups of entries first."""

    per: Unit
    """What a group is. The four attention matrices of a layer share their heads."""
    width: PositiveInt = 1
    """Rows or columns per group."""
    by: MeasureSettings
    """What groups are measured by: `change`, `gradient`, `fisher`, `learned` (a gate per entry) or
    `gates` (a gate per group). By its name alone, or with its settings."""

    @model_validator(mode="after")
    def _width_of_lines(self) -> Self:
        if self.width > 1 and self.per not in ("rows", "columns"):
            raise ValueError("`width` is for `per: rows` and `per: columns`; leave it out")
        return self

    def measured(self, job: TrainingJob, n: int) -> tuple[Groups, GroupScores]:
        """Cut the candidates into groups, and measure these to choose about `n` entries.

        Raises TrainingError where the groups have fewer, or one cannot be ranked.
        """
        heads = getattr(getattr(job.model, "config", None), "num_attention_heads", None)
        groups = cut_into_groups(
            job.layout, self.candidates(job.layout), self.per, width=self.width, n_heads=heads
        )
        refuse_fewer(n, int(groups.sizes.sum()), f"{self.per} in {self.tensors!r} have")
        found = self.by.measure(job, groups, n)
        n_broken = groups.n - int(torch.isfinite(found.scores).sum())
        if n_broken:
            raise TrainingError(
                f"{n_broken} of {groups.n} {self.per} became NaN or infinite in training and "
                "cannot be ranked. Lower `training.learning_rate`."
            )
        return groups, found

    def within(
        self, job: TrainingJob, groups: Groups, kept: Tensor, k: int, **details: Any
    ) -> Selection:
        """Select `k` seeded entries of the `kept` groups, (n,) bool; one in each of k strata."""
        seed, n_within = derived_seed("mask", job.seed), int(groups.sizes[kept].sum())
        details |= {"mask_seed": seed, "n_within": n_within, "selected_groups": int(kept.sum())}
        rule = self._rule(job, groups, kept, seed, k)
        if rule is not None:
            return Selection.by(rule, job.layout, **details)
        where = groups.positions(kept)
        chosen = torch.from_numpy(stratified(seed, [n_within], [k]))
        ends = np.cumsum([0, *(part.numel() for part in where)])
        at = [int(torch.searchsorted(chosen, int(end))) for end in ends]
        positions = [
            part[chosen[low:high] - int(end)]
            for part, end, (low, high) in zip(where, ends, pairwise(at), strict=False)
        ]
        return Selection(positions, details=details)

    def some_rows(self, layout: Layout, share: float, k: int) -> SeededRows:
        """Return a rule of `k` entries within a share of the rows, spread evenly."""
        n_rows = [row_number(shape) for shape in layout.shapes]
        among = np.flatnonzero(np.repeat(self.candidates(layout), n_rows))
        n_chosen = min(len(among), max(1, round(share * len(among))))
        flags = np.zeros(sum(n_rows), dtype=np.bool_)
        flags[among[stratified(0, [len(among)], [n_chosen])]] = True
        return SeededRows(0, flags, k)

    def _rule(
        self, job: TrainingJob, groups: Groups, kept: Tensor, seed: int, k: int
    ) -> Rule | None:
        """Return the rule that a file can store, of rows and tensors."""
        if self.per not in ("rows", "tensors"):
            return None
        flags = []
        for shape, cut in zip(job.layout.shapes, groups.cuts, strict=True):
            n_rows = row_number(shape)
            none = np.zeros(n_rows, dtype=np.bool_)
            flags.append(none if cut is None else kept[cut.groups].numpy()[:n_rows])
        if self.per == "rows":
            return SeededRows(seed, np.concatenate(flags), k)
        return Seeded(seed, tuple(bool(flag.any()) for flag in flags), k)


class WholeGroups(ByGroup):
    """Select whole groups, by a gate each or by what a finetuning changes.

    The last group makes the number exact: entries spread evenly over all selected groups, fewer
    than it has, are left out.
    """

    name: Literal["groups"] = "groups"
    per: Unit = "rows"
    """What a group is. The four attention matrices of a layer share their heads."""
    by: MeasureSettings = GroupGated()
    """What groups are measured by. Default: `gates`, one Hard-Concrete gate per group."""

    def prototype(self, layout: Layout, k: int) -> Rule | None:
        """Return a rule of as many rows, or of all tensors."""
        share = 1.1 * k / self.n_candidates(layout)
        while self.per == "rows":  # rows differ in length, and few of them may be the short ones
            rule = self.some_rows(layout, share, k)
            if share >= 1.0 or rule.n_places(layout) >= k:
                return rule
            share *= 1.2
        return Seeded(0, self.candidates(layout), k) if self.per == "tensors" else None

    def select(self, job: TrainingJob, k: int) -> Selection:
        """Rank groups by the mean importance of an entry; select those that fit, and one more.

        The training starts from the changes of a measure that trains.
        """
        groups, found = self.measured(job, k)
        kept = _fitting(found.scores, groups.sizes, k)
        chosen = self.within(job, groups, kept, k, **found.details)
        if found.changes is None:
            return chosen
        values = [c[p.to(c.device)] for c, p in zip(found.changes, chosen.positions, strict=True)]
        return Selection(chosen.positions, values, chosen.details, chosen.rule)


class RowsWithin(ByGroup):
    """Select seeded positions within the rows that matter most.

    A file needs a bit per row and a seed, in place of every position.
    """

    name: Literal["rows"] = "rows"
    per: Literal["rows"] = "rows"
    """What a group is."""
    by: MeasureSettings = LargestChange()
    """What rows are measured by. Default: `change`, the mean squared change by a finetuning."""
    share: float = Field(default=0.1, gt=0.0, le=1.0)
    """The share of the tensors' entries that lie in selected rows."""

    def most_entries(self, layout: Layout) -> int:
        """Return the share of the candidates, less what a last row may have."""
        return max(1, int(0.9 * self.share * self.n_candidates(layout)))

    def prototype(self, layout: Layout, k: int) -> Rule:
        """Return a rule of as many rows."""
        return self.some_rows(layout, self.share, k)

    def select(self, job: TrainingJob, k: int) -> Selection:
        """Rank rows by the mean importance of an entry; the training starts from zero."""
        most = self.share * self.n_candidates(job.layout)
        groups, found = self.measured(job, max(1, int(most)))
        order = found.scores.argsort(descending=True, stable=True)
        n_rows = int((groups.sizes[order].cumsum(0) <= most).sum())
        kept = torch.zeros(groups.n, dtype=torch.bool)
        kept[order[: max(1, n_rows)]] = True
        refuse_fewer(k, int(groups.sizes[kept].sum()), f"{self.share:.0%} of the rows have")
        return self.within(job, groups, kept, k, **found.details)


def _fitting(scores: Tensor, sizes: Tensor, k: int) -> Tensor:
    """Return the best groups that fit into `k` entries, and the best other one for the rest."""
    order = scores.argsort(descending=True, stable=True).tolist()
    kept, left = torch.zeros(len(sizes), dtype=torch.bool), k
    lengths = sizes.tolist()
    for group in order:
        if lengths[group] <= left:
            kept[group] = True
            left -= lengths[group]
        if not left:
            return kept
    kept[next(group for group in order if not kept[group])] = True
    return kept
