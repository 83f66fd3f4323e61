"""Diff pruning (Guo, Rush and Kim, 2021): learn which few weights to change, and by how much.

    minimise  E_z[ loss(base + z * w) ] + lambda E||z||_0,  then keep exactly k entries

Three stages. *Open*: every gate is 1, which is plain finetuning of w, so that w carries signal
before anything is pruned. *Gated*: gates are drawn and priced, and their expected number is
brought down. *Fixed mask*: the k entries with the largest |w| among the open stay, the rest is
the base again, and what stayed is trained on.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, PositiveFloat, model_validator

from streamlab.methods.api import Artifact, Trained, TrainingJob
from streamlab.methods.gates.stage import GatedStage, Gating
from streamlab.methods.masks.topk import budget, keep_largest
from streamlab.methods.stages import head_values, rate_at, tune_all, tune_kept
from streamlab.methods.training import Loop, ramp, seeded_dropout

# The settings that the numbers in print come from: a fixed price, gates drawn from the first step
# on, the mask trained for as long as the gates. What they say of rates of w, batches and epochs
# is no setting of the method; scenarios/glue_paper.yaml has it.
_RELEASED: Mapping[str, Any] = MappingProxyType(
    {
        "penalty": 1.25e-7,
        "gate_start": 5.0,
        "gate_rate": 0.1,
        "gate_epsilon": 1e-8,
        "open_share": 0.0,
        "fixed_mask_share": 0.5,
        "fixed_mask_rate": 5e-5,
    }
)
PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "own": {},
        "paper": {**_RELEASED, "penalty_form": "additive"},  # as the released code has it
        "paper-text": {**_RELEASED, "penalty_form": "product"},  # as the text says
    }
)


class DiffPruning(Gating):
    """Settings of diff pruning: the gated stage's, and how the steps are shared out.

    `preset` gives the settings that are left out: this project's own, or the published ones.
    """

    artifact: ClassVar[Artifact] = "diff"

    name: Literal["diff_pruning"] = "diff_pruning"
    preset: Literal["own", "paper", "paper-text"] = "own"
    fixed_mask_rate: PositiveFloat = 5e-3  # up to a density of 0.5%; see `rate_at`
    fixed_mask_share: float = Field(default=0.6, gt=0.0, lt=1.0)  # of all steps
    open_share: float = Field(default=0.5, ge=0.0, lt=1.0)  # of the steps before the fixed mask

    @model_validator(mode="before")
    @classmethod
    def _filled_in(cls, given: Any) -> Any:
        preset = given.get("preset") if isinstance(given, dict) else None
        if not isinstance(preset, str) or preset not in PRESETS:
            return given
        return {**PRESETS[preset], **given}

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.penalty == "steered" and self.open_share == 0.0:
            raise ValueError(
                "a steered `penalty` starts from what the open stage has learnt: raise "
                "`open_share` above 0, or give a number as `penalty`"
            )
        return self

    def train(self, job: TrainingJob) -> Trained:
        """Train in three stages; returns exactly round(density * d) entries, at least one.

        Raises TrainingError where loss or gates are no numbers, or fewer entries have moved.
        """
        n_steps = job.training.n_steps(job.n_batches)
        n_fixed = max(1, round(self.fixed_mask_share * n_steps))
        n_first = n_steps - n_fixed
        n_open = round(self.open_share * n_first)
        if self.penalty == "steered":  # even the shortest training opens before it prices
            n_open = min(max(1, n_open), n_first)
        loop = Loop(job, n_steps)
        schedule = ramp(n_first, job.training.warmup_share)
        with seeded_dropout(job.seed, loop.device):
            job.model.train()
            moments = tune_all(loop, job, schedule[:n_open])
            gated = GatedStage(self, job, moments, n_steps=n_first - n_open)
            loop.run("gated", schedule[n_open:], gated.take_step)
            before_landing = gated.densities.expected
            gated.end()
            values = gated.changes()
            scores = [value.abs() for value in values]
            positions = keep_largest(scores, budget(self.target_density, job.layout.n_gated))
            kept = [v[p] for v, p in zip(values, positions, strict=True)]
            densities, n_closed = gated.densities, gated.n_closed_groups
            del gated, scores, values
            rate = rate_at(self.target_density, self.fixed_mask_rate)
            tensors = tune_kept(loop, job, positions, kept, n_steps=n_fixed, rate=rate)
            job.model.eval()
        return Trained(
            tensors=tensors,
            backbone=None,
            head=head_values(job),
            n_steps=loop.n_taken,
            details={
                "steps_open": loop.taken["finetune"],
                "steps_gated": loop.taken["gated"],
                "steps_fixed_mask": loop.taken["fixed mask"],
                "density_before_landing": before_landing,
                "expected_density": densities.expected,
                "deterministic_density": densities.deterministic,
                "closed_groups": n_closed,
                "empty_tensors": sum(p.numel() == 0 for p in positions),
            },
        )
