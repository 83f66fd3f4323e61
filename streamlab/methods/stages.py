"""The stages that methods are put together from: tune everything, tune the kept entries."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from streamlab.diff.vector import SparseTensor
from streamlab.methods.adam import AdamRates
from streamlab.methods.api import TrainingJob
from streamlab.methods.early_stopping import Best
from streamlab.methods.fixed_mask import FixedMask
from streamlab.methods.training import Loop, TakeStep, adam, ramp

_TUNED_AT: Final = 0.005  # the density at which the recipe was found


def finetuning(job: TrainingJob) -> tuple[torch.optim.AdamW, TakeStep]:
    """Return Adam over backbone and head, and what takes a clipped step with it."""
    optimizer, set_share = adam(
        [
            (job.backbone.values(), job.training.learning_rate),
            (job.head.values(), job.training.head_learning_rate),
        ]
    )

    def take_step(share: float) -> None:
        clip_grad_norm_(job.model.parameters(), job.training.clip_norm)
        set_share(share)
        optimizer.step()

    return optimizer, take_step


def tune_all(
    loop: Loop, job: TrainingJob, schedule: Sequence[float], *, best: Best | None = None
) -> torch.optim.AdamW:
    """Train backbone and head; returns the optimiser, which holds Adam's moments."""
    optimizer, take_step = finetuning(job)
    loop.run("finetune", schedule, take_step, best=best)
    return optimizer


def masked(
    job: TrainingJob, positions: Sequence[Tensor], values: Sequence[Tensor], *, rate: float
) -> tuple[FixedMask, TakeStep]:
    """Put the base back but for `values` at `positions`; return what trains these and the head."""
    live = list(job.backbone.values())
    mask = FixedMask(live, list(job.base.values()), positions, values)
    optimizer, set_share = adam([(job.head.values(), job.training.head_learning_rate)])
    head = list(job.head.values())

    def take_step(share: float) -> None:
        gradient = mask.gradient()
        norms = [gradient.norm(), *(p.grad.norm() for p in head if p.grad is not None)]
        norm = float(torch.stack(norms).norm())
        scale = min(1.0, job.training.clip_norm / (norm + 1e-6))
        for parameter in head:
            if parameter.grad is not None:
                parameter.grad.mul_(scale)
        set_share(share)
        optimizer.step()
        mask.step(gradient * scale, AdamRates(rate=rate * share))

    return mask, take_step


def rate_at(density: float, rate: float) -> float:
    """Return the fixed-mask stage's rate at a density: above 0.5% it falls with the root of it.

    A step of Adam moves every kept entry by about the rate, so that the whole step is as long as
    the root of their number; at 5% the rate that is best at 0.5% diverges (docs/results.md).

    >>> rate_at(0.005, 5e-3), rate_at(0.02, 5e-3)
    (0.005, 0.0025)
    """
    return rate * min(1.0, math.sqrt(_TUNED_AT / density))


def tune_kept(
    loop: Loop,
    job: TrainingJob,
    positions: Sequence[Tensor],
    values: Sequence[Tensor],
    *,
    n_steps: int,
    rate: float,
) -> tuple[SparseTensor, ...]:
    """Train the entries at `positions`, from `values` on, and the head; all else is the base."""
    mask, take_step = masked(job, positions, values, rate=rate)
    schedule = ramp(n_steps, job.training.warmup_share)
    best = Best([mask.values, *job.head.values()], mask.write)
    loop.run("fixed mask", schedule, take_step, best=best)
    return mask.tensors()


def head_values(job: TrainingJob) -> dict[str, NDArray[np.float32]]:
    """Copy the head off the model, as float32."""
    return {name: p.detach().float().cpu().numpy().copy() for name, p in job.head.items()}
