"""Mask selection by the largest change: finetune everything, keep the entries that moved most."""

from __future__ import annotations

from pydantic import Field

from streamlab.methods.api import TrainingJob
from streamlab.methods.masks.selection import MaskSelector, Selection, top_k
from streamlab.methods.training_loop import dense_step, ramp


class LargestChange(MaskSelector):
    """Select the largest |theta - theta_base| after finetuning (Guo et al., 2021, section 5)."""

    fixed_mask_share: float = Field(default=0.6, gt=0.0, lt=1.0)
    """The share of all steps that trains the fixed mask."""

    def select(self, job: TrainingJob, k: int) -> Selection:
        """Finetune for 1 - `fixed_mask_share` of the steps; the changes are the start values."""
        n_fixed = max(1, round(self.fixed_mask_share * job.loop.n_steps))
        schedule = ramp(job.loop.n_left - n_fixed, job.training.warmup_share)
        job.loop.run("finetune", schedule, dense_step(job)[1])
        changes = [
            (p.detach() - base.to(p.device)).reshape(-1)
            for p, base in zip(job.backbone.values(), job.base.values(), strict=True)
        ]
        positions = top_k([change.abs() for change in changes], k)
        values = [change[p] for change, p in zip(changes, positions, strict=True)]
        return Selection(positions, values, {"steps_finetune": job.loop.taken["finetune"]})
