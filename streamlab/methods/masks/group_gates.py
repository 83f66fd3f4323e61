"""The measure of groups by learned gates: one Hard-Concrete gate per group."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from streamlab.methods.api import TrainingJob
from streamlab.methods.gates.group_stage import GroupGatedStage
from streamlab.methods.masks.grouping import Groups
from streamlab.methods.masks.learned import AfterWarmup
from streamlab.methods.masks.measures import GroupScores, Measure


class GroupGated(AfterWarmup, Measure):
    """Measure groups by a training with one gate per group: the mean w^2 of the open ones."""

    name: Literal["gates"] = "gates"
    candidate_ratio: float = Field(default=2.0, ge=1.0)
    """Expected share of entries in open groups at the end of the gated stage, relative to the share
    that is wanted of the mask: of `rows` its `share`, otherwise that of the retained entries."""

    def measure(self, job: TrainingJob, groups: Groups, n: int) -> GroupScores:
        """Run dense warm-up and gated stage; closed groups score 0."""
        stage, details = self.run_stages(
            job,
            lambda moments, n_steps: GroupGatedStage(
                self, job, moments, groups, n_entries=n, n_steps=n_steps
            ),
        )
        return GroupScores(stage.scores(), stage.changes(), details)
