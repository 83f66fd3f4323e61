"""Measures of importance: what a rule that chooses groups of entries goes by."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from streamlab.config import Settings
from streamlab.methods.api import TrainingJob
from streamlab.methods.masks.grouping import Groups
from streamlab.methods.masks.selection import MaskSelector


@dataclass(frozen=True)
class Importance:
    """How much every entry matters: not negative, and so that sums over entries mean something.

    One flat tensor each per tensor of the layout. `changes`: what a training has changed, to start
    from. `details` are recorded with the training.
    """

    entries: Sequence[Tensor]
    changes: Sequence[Tensor] | None = None
    details: Mapping[str, Any] = field(default_factory=dict)  # JSON


@dataclass(frozen=True)
class GroupScores:
    """The mean importance of an entry of every group, (n,) float64; the rest as `Importance`."""

    scores: Tensor
    changes: Sequence[Tensor] | None = None
    details: Mapping[str, Any] = field(default_factory=dict)  # JSON


class Measure(Settings):
    """A measure of which groups of entries matter; a class of its own, or any `Scored` selector."""

    name: str
    """As the scenario names it."""

    @abstractmethod
    def measure(self, job: TrainingJob, groups: Groups, n: int) -> GroupScores:
        """Score every group, so that those with about `n` entries in all can be chosen.

        What holds of `MaskSelector.select` holds here.
        """


class Scored(Measure, MaskSelector):
    """A mask selector by a score per entry, which therefore measures groups too."""

    @abstractmethod
    def importance(self, job: TrainingJob, k: int) -> Importance:
        """Return the importance of every entry, of which about `k` are to be chosen."""

    def measure(self, job: TrainingJob, groups: Groups, n: int) -> GroupScores:
        """Score every group by the mean importance of its entries."""
        found = self.importance(job, n)
        means = groups.totals(found.entries) / groups.sizes
        return GroupScores(means, found.changes, found.details)
