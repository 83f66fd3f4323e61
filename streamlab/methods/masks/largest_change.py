"""Mask selection by the largest change: finetune everything, keep what moved most."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from streamlab.methods.api import TrainingJob
from streamlab.methods.masks.seeded_positions import seeded_positions
from streamlab.methods.masks.selection import MaskSelector, Selection, top_k
from streamlab.methods.masks.tensors import AmongTensors, refuse_fewer
from streamlab.methods.training_loop import dense_step, ramp
from streamlab.seeds import derived_seed


class AfterFinetuning(MaskSelector):
    """A selector that finetunes everything first, and looks at what has changed."""

    fixed_mask_share: float = Field(default=0.6, gt=0.0, lt=1.0)
    """The share of all steps that trains the fixed mask."""

    def finetuned_changes(self, job: TrainingJob) -> list[Tensor]:
        """Finetune for 1 - `fixed_mask_share` of the steps; returns theta - theta_base, flat."""
        n_fixed = max(1, round(self.fixed_mask_share * job.loop.n_steps))
        schedule = ramp(job.loop.n_left - n_fixed, job.training.warmup_share)
        job.loop.run("finetune", schedule, dense_step(job)[1])
        return [
            (p.detach() - base.to(p.device)).reshape(-1)
            for p, base in zip(job.backbone.values(), job.base.values(), strict=True)
        ]

    def described(self, job: TrainingJob) -> dict[str, int]:
        """Return what is recorded of the finetuning."""
        return {"steps_finetune": job.loop.taken["finetune"]}


class LargestChange(AfterFinetuning):
    """Select the largest |theta - theta_base| after finetuning (Guo et al., 2021, section 5)."""

    name: str = "change"

    def select(self, job: TrainingJob, k: int) -> Selection:
        """Select by the change, which the training of the mask starts from."""
        changes = self.finetuned_changes(job)
        positions = top_k([change.abs() for change in changes], k)
        values = [change[p] for change, p in zip(changes, positions, strict=True)]
        return Selection(positions, values, self.described(job))


class Rewound(AfterFinetuning):
    """Select as `change`, then start again from the base: LT-SFT (Ansell et al., 2022)."""

    name: Literal["rewound"] = "rewound"

    def select(self, job: TrainingJob, k: int) -> Selection:
        """Select by the change; the training of the mask starts from zero."""
        changes = self.finetuned_changes(job)
        return Selection(top_k([c.abs() for c in changes], k), details=self.described(job))


class RowsWithin(AfterFinetuning, AmongTensors):
    """Select seeded positions within the rows that finetuning changes most.

    A file needs a bit per row and a seed, in place of every position.
    """

    name: Literal["rows"] = "rows"
    share: float = Field(default=0.1, gt=0.0, le=1.0)
    """The share of the tensors' entries that lie in selected rows."""

    def select(self, job: TrainingJob, k: int) -> Selection:
        """Rank rows by their mean squared change; select one entry in each of k strata of them."""
        changes = self.finetuned_changes(job)
        where = self._within(job, changes)
        refuse_fewer(k, where.numel(), f"{self.share:.0%} of the rows have")
        seed = derived_seed("mask", job.seed)
        chosen = where[seeded_positions(seed, where.numel(), k).to(where.device)]
        details = {**self.described(job), "mask_seed": seed, "n_within": where.numel()}
        return Selection(self.split(job.layout, chosen), details=details)

    def _within(self, job: TrainingJob, changes: list[Tensor]) -> Tensor:
        """Return the positions, among all candidates, of the entries of the selected rows."""
        pairs = zip(changes, job.layout.shapes, self.candidates(job.layout), strict=True)
        chosen = [(change, shape[0]) for change, shape, on in pairs if on]
        scores = torch.cat([c.view(n, -1).square().mean(1) for c, n in chosen])
        lengths = torch.cat([torch.full((n,), c.numel() // n) for c, n in chosen]).to(scores.device)
        order = scores.argsort(descending=True, stable=True)
        n_rows = int((lengths[order].cumsum(0) <= self.share * int(lengths.sum())).sum())
        kept = torch.zeros_like(scores, dtype=torch.bool)
        kept[order[: max(1, n_rows)]] = True
        return kept.repeat_interleave(lengths).nonzero().squeeze(-1)
