"""Diff pruning (Guo, Rush and Kim, 2021): learn which few weights to change, and by how much.

    minimise  E_z[ loss(base + z * w) ] + lambda E||z||_0,  then retain exactly k entries

Three stages. *Dense warm-up*: all gates are 1, which is plain finetuning of w, so that w carries
signal before anything is pruned. *Gated*: gates are sampled and penalised, and their expected
density falls. *Fixed mask*: the k open entries with the largest |w| are retained and trained, all
others are the base's again.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from streamlab.methods.api import TrainingJob
from streamlab.methods.fixed_mask import PrunedMethod
from streamlab.methods.gates.gated_stage import GatedStage, GateSettings
from streamlab.methods.masks.selection import Selection, top_k
from streamlab.methods.training_loop import dense_step, ramp

# The published gate settings: a fixed coefficient, gates sampled from the first step on, and as
# many steps for the mask as for the gates. The published learning rates of w, batches and epochs
# are training settings; see scenarios/glue_paper.yaml.
_PUBLISHED: Mapping[str, Any] = MappingProxyType(
    {
        "l0_coefficient": 1.25e-7,
        "initial_log_alpha": 5.0,
        "gate_learning_rate": 0.1,
        "gate_epsilon": 1e-8,
        "dense_warmup_share": 0.0,
        "fixed_mask_share": 0.5,
        "fixed_mask_learning_rate": 5e-5,
    }
)
PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "default": {},
        "paper": {**_PUBLISHED, "penalty_form": "additive"},  # the released code's form
        "paper-text": {**_PUBLISHED, "penalty_form": "product"},  # the paper's form
    }
)


class DiffPruning(GateSettings, PrunedMethod):
    """Settings of diff pruning: gates, stage lengths, and a preset for whatever is left out."""

    name: Literal["diff_pruning"] = "diff_pruning"
    preset: Literal["default", "paper", "paper-text"] = "default"
    """Values for all settings that are not given: this project's defaults, or the published ones
    with the penalty of the released code (`paper`) or of the paper (`paper-text`)."""
    fixed_mask_share: float = Field(default=0.6, gt=0.0, lt=1.0)
    """The share of all steps that trains the fixed mask."""
    dense_warmup_share: float = Field(default=0.5, ge=0.0, lt=1.0)
    """The share of the steps before the fixed mask that trains without gates."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in_preset(cls, given: Any) -> Any:
        preset = given.get("preset") if isinstance(given, dict) else None
        if not isinstance(preset, str) or preset not in PRESETS:
            return given
        return {**PRESETS[preset], **given}

    @model_validator(mode="after")
    def _warm_before_measuring(self) -> Self:
        if self.l0_coefficient == "auto" and self.dense_warmup_share == 0.0:
            raise ValueError(
                "`l0_coefficient: auto` is measured after the dense warm-up: raise "
                "`dense_warmup_share` above 0, or give a number as `l0_coefficient`"
            )
        return self

    def select(self, job: TrainingJob, k: int) -> Selection:
        """Run dense warm-up and gated stage; select the k open entries with the largest change.

        Raises TrainingError where the gates became NaN or infinite, or fewer entries have moved.
        """
        loop = job.loop
        n_fixed = max(1, round(self.fixed_mask_share * loop.n_steps))
        n_before = loop.n_steps - n_fixed
        n_warmup = round(self.dense_warmup_share * n_before)
        if self.l0_coefficient == "auto":  # even the shortest training warms up for one step
            n_warmup = min(max(1, n_warmup), n_before)
        schedule = ramp(n_before, job.training.warmup_share)
        optimizer, take_step = dense_step(job)
        loop.run("dense warm-up", schedule[:n_warmup], take_step)
        gated = GatedStage(
            self, job, optimizer, target_density=self.target_density, n_steps=n_before - n_warmup
        )
        loop.run("gated", schedule[n_warmup:], gated.take_step)
        before_correction = gated.densities.expected
        gated.end()
        changes = gated.changes()
        positions = top_k([change.abs() for change in changes], k)
        details = {
            "steps_dense_warmup": loop.taken["dense warm-up"],
            "steps_gated": loop.taken["gated"],
            "density_before_correction": before_correction,
            "expected_density": gated.densities.expected,
            "deterministic_density": gated.densities.deterministic,
            "closed_groups": int((gated.gated.groups.deterministic <= 0).sum()),
        }
        values = [change[p] for change, p in zip(changes, positions, strict=True)]
        return Selection(positions, values, details)
