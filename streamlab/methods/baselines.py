"""What diff pruning is compared with: full finetuning, the head alone, a mask by magnitude."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, PositiveFloat

from streamlab.config import Settings
from streamlab.diff.vector import SparseTensor
from streamlab.methods.api import Artifact, Trained, TrainingJob
from streamlab.methods.early_stopping import Best
from streamlab.methods.masks.topk import budget, keep_largest
from streamlab.methods.stages import head_values, rate_at, tune_all, tune_kept
from streamlab.methods.training import Loop, adam, ramp, seeded_dropout


class FullFinetuning(Settings):
    """Train every weight and keep a whole checkpoint."""

    artifact: ClassVar[Artifact] = "checkpoint"

    name: Literal["full_finetuning"] = "full_finetuning"

    def train(self, job: TrainingJob) -> Trained:
        """Train backbone and head together."""
        n_steps = job.training.n_steps(job.n_batches)
        loop = Loop(job, n_steps)
        with seeded_dropout(job.seed, loop.device):
            job.model.train()
            best = Best([*job.backbone.values(), *job.head.values()])
            tune_all(loop, job, ramp(n_steps, job.training.warmup_share), best=best)
            job.model.eval()
        return Trained(
            tensors=None,
            backbone={name: p.detach().cpu().clone() for name, p in job.backbone.items()},
            head=head_values(job),
            n_steps=loop.n_taken,
        )


class HeadOnly(Settings):
    """Train the head on the frozen base: the cheapest thing one can keep."""

    artifact: ClassVar[Artifact] = "diff"

    name: Literal["head_only"] = "head_only"
    rate: PositiveFloat = 0.1  # the features of a frozen base hardly differ from row to row

    def train(self, job: TrainingJob) -> Trained:
        """Train the head; every weight of the backbone stays the base's."""
        n_steps = job.training.n_steps(job.n_batches)
        loop = Loop(job, n_steps)
        for parameter in job.backbone.values():
            parameter.requires_grad_(False)
        optimizer, set_share = adam([(job.head.values(), self.rate)])

        def take_step(share: float) -> None:
            set_share(share)
            optimizer.step()

        with seeded_dropout(job.seed, loop.device):
            job.model.train()
            schedule = ramp(n_steps, job.training.warmup_share)
            loop.run("head", schedule, take_step, best=Best(job.head.values()))
            job.model.eval()
        empty = np.zeros(0, np.int64), np.zeros(0, np.float32)
        return Trained(
            tensors=tuple(SparseTensor(shape, *empty) for shape in job.layout.shapes),
            backbone=None,
            head=head_values(job),
            n_steps=loop.n_taken,
        )


class NonAdaptive(Settings):
    """Finetune everything, keep the entries that moved most, train those (the paper's ablation)."""

    artifact: ClassVar[Artifact] = "diff"

    name: Literal["non_adaptive"] = "non_adaptive"
    target_density: float = Field(default=0.005, gt=0.0, le=1.0)
    fixed_mask_rate: PositiveFloat = 5e-3  # up to a density of 0.5%; see `rate_at`
    fixed_mask_share: float = Field(default=0.6, gt=0.0, lt=1.0)  # of all steps

    def train(self, job: TrainingJob) -> Trained:
        """Train in two stages; returns exactly round(density * d) entries, at least one.

        Raises TrainingError where the loss is no number, or fewer entries have moved.
        """
        n_steps = job.training.n_steps(job.n_batches)
        n_fixed = max(1, round(self.fixed_mask_share * n_steps))
        loop = Loop(job, n_steps)
        with seeded_dropout(job.seed, loop.device):
            job.model.train()
            tune_all(loop, job, ramp(n_steps - n_fixed, job.training.warmup_share))
            deltas = [
                (p.detach() - base.to(p.device)).reshape(-1)
                for p, base in zip(job.backbone.values(), job.base.values(), strict=True)
            ]
            k = budget(self.target_density, job.layout.n_gated)
            positions = keep_largest([delta.abs() for delta in deltas], k)
            kept = [delta[at] for delta, at in zip(deltas, positions, strict=True)]
            del deltas
            rate = rate_at(self.target_density, self.fixed_mask_rate)
            tensors = tune_kept(loop, job, positions, kept, n_steps=n_fixed, rate=rate)
            job.model.eval()
        return Trained(
            tensors=tensors,
            backbone=None,
            head=head_values(job),
            n_steps=loop.n_taken,
            details={
                "steps_finetune": loop.taken["finetune"],
                "steps_fixed_mask": loop.taken["fixed mask"],
                "empty_tensors": sum(at.numel() == 0 for at in positions),
            },
        )
