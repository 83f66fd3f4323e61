"""Mask selection at random: a seed stands for all positions."""

from __future__ import annotations

from typing import Literal

from streamlab.diff.layout import Layout
from streamlab.diff.rules import Rule, Seeded
from streamlab.methods.api import TrainingJob
from streamlab.methods.masks.selection import Selection
from streamlab.methods.masks.tensors import AmongTensors
from streamlab.seeds import derived_seed


class Random(AmongTensors):
    """Select entries by the training's seed, spread evenly over the tensors."""

    name: Literal["random"] = "random"

    def prototype(self, layout: Layout, k: int) -> Rule:
        """Return the rule of `select` with another seed."""
        return Seeded(0, self.candidates(layout), k)

    def select(self, job: TrainingJob, k: int) -> Selection:
        """Select one entry in each of k strata. Raises TrainingError where there are fewer."""
        self.require(job.layout, k)
        seed = derived_seed("mask", job.seed)
        rule = Seeded(seed, self.candidates(job.layout), k)
        return Selection.by(rule, job.layout, mask_seed=seed)
