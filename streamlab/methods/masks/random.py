"""Mask selection at random: a seed stands for all positions."""

from __future__ import annotations

from typing import Literal

from streamlab.methods.api import TrainingJob
from streamlab.methods.masks.seeded_positions import seeded_positions
from streamlab.methods.masks.selection import Selection
from streamlab.methods.masks.tensors import AmongTensors
from streamlab.seeds import derived_seed


class Random(AmongTensors):
    """Select entries by the training's seed, spread evenly over the tensors."""

    name: Literal["random"] = "random"

    def select(self, job: TrainingJob, k: int) -> Selection:
        """Select one entry in each of k strata. Raises TrainingError where there are fewer."""
        self.require(job.layout, k)
        seed = derived_seed("mask", job.seed)
        chosen = seeded_positions(seed, self.n_candidates(job.layout), k)
        return Selection(self.split(job.layout, chosen), details={"mask_seed": seed})
