"""Mask selection by the largest change: finetune everything, keep what moved most."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from streamlab.diff.rules import SeededRows, row_number, rows_of
from streamlab.methods.api import TrainingJob
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
        rows = self._rows(job, changes)
        n_within = rows_of(job.layout)[rows].total
        refuse_fewer(k, n_within, f"{self.share:.0%} of the rows have")
        seed = derived_seed("mask", job.seed)
        details = {**self.described(job), "mask_seed": seed, "n_within": n_within}
        return Selection.by(SeededRows(seed, rows, k), job.layout, **details)

    def _rows(self, job: TrainingJob, changes: list[Tensor]) -> NDArray[np.bool_]:
        """Return whether each row of the layout is selected."""
        n_rows = [row_number(shape) for shape in job.layout.shapes]
        among = torch.tensor(self.candidates(job.layout)).repeat_interleave(torch.tensor(n_rows))
        lengths = torch.from_numpy(rows_of(job.layout).lengths)
        scores = torch.cat(
            [c.view(n, -1).square().mean(1) for c, n in zip(changes, n_rows, strict=True)]
        ).cpu()
        order = scores.where(among, -1.0).argsort(descending=True, stable=True)
        within = lengths[order].cumsum(0) <= self.share * int(lengths[among].sum())
        kept = torch.zeros_like(among)
        kept[order[: max(1, int(within.sum()))]] = True
        return (kept & among).numpy()
