"""Diff pruning (Guo, Rush and Kim, 2021): learn which few weights to change, and by how much.

    minimise  E_z[ loss(base + z * w) ] + lambda E||z||_0,  then retain exactly k entries

The mask `learned` (dense warm-up, then a gated stage) and the training on it: the k open entries
with the largest |w| are retained and trained, all others are the base's again.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

from pydantic import model_validator

from streamlab.methods.api import TrainingJob
from streamlab.methods.fixed_mask import PrunedMethod
from streamlab.methods.masks.learned import Learned

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


class DiffPruning(Learned, PrunedMethod):
    """Settings of diff pruning: gates, stage lengths, and a preset for whatever is left out."""

    name: Literal["diff_pruning"] = "diff_pruning"
    preset: Literal["default", "paper", "paper-text"] = "default"
    """Values for all settings that are not given: this project's defaults, or the published ones
    with the penalty of the released code (`paper`) or of the paper (`paper-text`)."""

    @model_validator(mode="before")
    @classmethod
    def _fill_in_preset(cls, given: Any) -> Any:
        preset = given.get("preset") if isinstance(given, dict) else None
        if not isinstance(preset, str) or preset not in PRESETS:
            return given
        return {**PRESETS[preset], **given}

    def goal_density(self, job: TrainingJob, k: int) -> float:
        """Return `target_density`, of which k entries are a rounding, where it is set."""
        return self.target_density or super().goal_density(job, k)
