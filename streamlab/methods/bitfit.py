"""BitFit (Ben Zaken et al., 2022): train every bias and the head, and nothing else.

What changes is a fixed mask, so the second stage of diff pruning trains it, and a diff stores it.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import PositiveFloat

from streamlab.config import Settings
from streamlab.errors import TrainingError
from streamlab.methods.api import Artifact, Trained, TrainingJob
from streamlab.methods.stages import head_values, tune_kept
from streamlab.methods.training import Loop, seeded_dropout


class BitFit(Settings):
    """Settings of BitFit."""

    artifact: ClassVar[Artifact] = "diff"

    name: Literal["bitfit"] = "bitfit"
    rate: PositiveFloat = 1e-3

    def train(self, job: TrainingJob) -> Trained:
        """Train the biases; raises TrainingError where the base has none."""
        n_steps = job.training.n_steps(job.n_batches)
        loop = Loop(job, n_steps)
        is_bias = [name.rpartition(".")[2] == "bias" for name in job.backbone]
        if not any(is_bias):
            raise TrainingError(
                "BitFit trains biases, and the base has no tensor called `bias`. "
                "Take another method for it."
            )
        positions = [
            torch.arange(p.numel() if bias else 0, device=loop.device)
            for p, bias in zip(job.backbone.values(), is_bias, strict=True)
        ]
        start = [torch.zeros(at.numel(), device=loop.device) for at in positions]
        with seeded_dropout(job.seed, loop.device):
            job.model.train()
            tensors = tune_kept(loop, job, positions, start, n_steps=n_steps, rate=self.rate)
            job.model.eval()
        return Trained(
            tensors=tensors,
            backbone=None,
            head=head_values(job),
            n_steps=loop.n_taken,
            details={"bias_tensors": sum(is_bias)},
        )
