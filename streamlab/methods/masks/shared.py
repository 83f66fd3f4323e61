"""Shared values: few values, each of which moves several seeded entries with seeded signs."""

from __future__ import annotations

from typing import Literal

from pydantic import PositiveInt

from streamlab.diff.layout import Layout
from streamlab.diff.rules import Rule, Shared
from streamlab.methods.api import TrainingJob
from streamlab.methods.masks.selection import Selection
from streamlab.methods.masks.tensors import AmongTensors
from streamlab.seeds import derived_seed


class SharedValues(AmongTensors):
    """Select entries by the training's seed, several of which share one trained value.

    Each entry adds its value or the negative of it, by a seeded sign. A file holds the values.
    """

    name: Literal["shared"] = "shared"
    moves: PositiveInt = 4
    """Entries that each value moves: the density divided by it is the density of values."""

    def n_entries(self, layout: Layout, density: float) -> int:
        """Return the nearest multiple of `moves` to density * d, at least one."""
        return self.moves * max(1, round(density * layout.n_gated / self.moves))

    def prototype(self, layout: Layout, k: int) -> Rule:
        """Return the rule of `select` with another seed."""
        return Shared(0, self.candidates(layout), max(1, k // self.moves), self.moves)

    def select(self, job: TrainingJob, k: int) -> Selection:
        """Select one entry in each of k strata. Raises ValueError unless `moves` divides `k`."""
        if k % self.moves:
            raise ValueError(f"{k} entries cannot be shared by {self.moves} each")
        self.require(job.layout, k)
        seed = derived_seed("mask", job.seed)
        rule = Shared(seed, self.candidates(job.layout), k // self.moves, self.moves)
        return Selection.by(rule, job.layout, mask_seed=seed, n_values=k // self.moves)
