"""Mask selection by learned gates: diff pruning's rule (Guo, Rush and Kim, 2021).

    minimise  E_z[ loss(base + z * w) ] + lambda E||z||_0

*Dense warm-up*: all gates are 1, which is plain finetuning of w, so that w carries signal before
anything is pruned. *Gated*: gates are sampled and penalised, and their expected density falls.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Protocol, Self, TypeVar

import torch
from pydantic import Field, model_validator

from streamlab.methods.api import TrainingJob
from streamlab.methods.gates.gated_stage import GatedStage, GateSettings, GateTraining
from streamlab.methods.gates.hard_concrete import Densities
from streamlab.methods.masks.measures import Importance, Scored
from streamlab.methods.masks.selection import LeavesSteps, Selection
from streamlab.methods.training_loop import Stateful, dense_step, ramp


class Stage(Stateful, Protocol):
    """A gated stage, whatever has a gate."""

    densities: Densities

    def take_step(self, share: float) -> float:
        """Step with this share of the learning rates; returns the expected density."""
        ...

    def end(self) -> None:
        """Apply the final correction."""
        ...


AnyStage = TypeVar("AnyStage", bound=Stage)


class AfterWarmup(GateTraining, LeavesSteps):
    """Settings of a dense warm-up followed by a gated stage."""

    dense_warmup_share: float = Field(default=0.5, ge=0.0, lt=1.0)
    """The share of the steps before the fixed mask that trains without gates."""

    @model_validator(mode="after")
    def _warm_before_measuring(self) -> Self:
        if self.l0_coefficient == "auto" and self.dense_warmup_share == 0.0:
            raise ValueError(
                "`l0_coefficient: auto` is measured after the dense warm-up: raise "
                "`dense_warmup_share` above 0, or give a number as `l0_coefficient`"
            )
        return self

    def run_stages(
        self, job: TrainingJob, begin: Callable[[torch.optim.AdamW, int], AnyStage]
    ) -> tuple[AnyStage, dict[str, Any]]:
        """Run the dense warm-up, then the stage that `begin` makes of its optimiser and its steps.

        Returns the stage at its end, and what is recorded of it.
        """
        loop, n_before = job.loop, self.n_before(job)
        n_warmup = round(self.dense_warmup_share * n_before)
        if self.l0_coefficient == "auto":  # even the shortest training warms up for one step
            n_warmup = min(max(1, n_warmup), n_before)
        schedule = ramp(n_before, job.training.warmup_share)
        optimizer, take_step = dense_step(job)
        loop.run("dense warm-up", schedule[:n_warmup], take_step, holds=(optimizer,))
        stage = begin(optimizer, n_before - n_warmup)
        loop.run("gated", schedule[n_warmup:], stage.take_step, holds=(stage,))
        before_correction = stage.densities.expected
        stage.end()
        return stage, {
            "steps_dense_warmup": loop.taken["dense warm-up"],
            "steps_gated": loop.taken["gated"],
            "density_before_correction": before_correction,
            "expected_density": stage.densities.expected,
            "deterministic_density": stage.densities.deterministic,
        }


class Learned(GateSettings, AfterWarmup, Scored):
    """Select the open entries with the largest |w| after a training with a gate for every entry."""

    ranks: ClassVar[bool] = True

    name: str = "learned"

    def goal_density(self, job: TrainingJob, k: int) -> float:
        """Return the density that `candidate_ratio` is relative to."""
        return k / job.layout.n_gated

    def select(self, job: TrainingJob, k: int) -> Selection:
        """Run dense warm-up and gated stage; select the k open entries with the largest change.

        Raises TrainingError where the gates became NaN or infinite, or fewer entries have moved.
        """
        stage, details = self._trained(job, k)
        return Selection.by_change(stage.changes(), k, details)

    def importance(self, job: TrainingJob, k: int) -> Importance:
        """Return the squared change of the open entries."""
        stage, details = self._trained(job, k)
        changes = stage.changes()
        return Importance([change.square() for change in changes], changes, details)

    def _trained(self, job: TrainingJob, k: int) -> tuple[GatedStage, dict[str, Any]]:
        density = self.goal_density(job, k)
        stage, details = self.run_stages(
            job,
            lambda moments, n_steps: GatedStage(
                self, job, moments, target_density=density, n_steps=n_steps
            ),
        )
        details["closed_groups"] = int((stage.gated.groups.deterministic <= 0).sum())
        return stage, details
