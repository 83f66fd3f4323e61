"""Mask selection by the largest change: finetune everything, keep what moved most."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor

from streamlab.methods.api import TrainingJob
from streamlab.methods.finetuning import finetune
from streamlab.methods.masks.measures import Importance, Scored
from streamlab.methods.masks.selection import LeavesSteps, MaskSelector, Selection, top_k
from streamlab.methods.training_loop import ramp


class AfterFinetuning(LeavesSteps, MaskSelector):
    """A selector that finetunes everything first, and looks at what has changed."""

    def finetuned_changes(self, job: TrainingJob) -> list[Tensor]:
        """Finetune for 1 - `fixed_mask_share` of the steps; returns theta - theta_base, flat."""
        schedule = ramp(self.n_before(job), job.training.warmup_share)
        finetune(job, schedule)
        return [
            (p.detach() - base.to(p.device)).reshape(-1)
            for p, base in zip(job.backbone.values(), job.base.values(), strict=True)
        ]

    def described(self, job: TrainingJob) -> dict[str, int]:
        """Return what is recorded of the finetuning."""
        return {"steps_finetune": job.loop.taken["finetune"]}


class LargestChange(AfterFinetuning, Scored):
    """Select the largest |theta - theta_base| after finetuning (Guo et al., 2021, section 5)."""

    ranks: ClassVar[bool] = True

    name: str = "change"

    def select(self, job: TrainingJob, k: int) -> Selection:
        """Select by the change, which the training of the mask starts from."""
        return Selection.by_change(self.finetuned_changes(job), k, self.described(job))

    def importance(self, job: TrainingJob, k: int) -> Importance:  # noqa: ARG002 - of all
        """Return the squared change."""
        changes = self.finetuned_changes(job)
        return Importance([c.square() for c in changes], changes, self.described(job))


class Rewound(AfterFinetuning):
    """Select as `change`, then start again from the base: LT-SFT (Ansell et al., 2022)."""

    name: Literal["rewound"] = "rewound"

    def select(self, job: TrainingJob, k: int) -> Selection:
        """Select by the change; the training of the mask starts from zero."""
        changes = self.finetuned_changes(job)
        return Selection(top_k([c.abs() for c in changes], k), details=self.described(job))
