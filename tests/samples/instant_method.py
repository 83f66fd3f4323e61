"""A method that takes no time: a few entries and a head are changed without any training."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from streamlab.diff.layout import Layout
from streamlab.diff.vector import SparseTensor
from streamlab.methods.api import Artifact, Method, SparseChange, TrainingJob, TrainingSummary
from streamlab.methods.training_loop import head_values

_N_ENTRIES = 8


class Instant(Method):
    """Change a few entries of the largest tensor, drawn from the arrival's seed."""

    artifact: ClassVar[Artifact] = "diff"

    name: str = "instant_method:Instant"

    def expected_entries(self, layout: Layout, /) -> int:
        """Return the number of entries, whatever the base."""
        return min(_N_ENTRIES, max(layout.sizes))

    def train(self, job: TrainingJob) -> SparseChange:
        """Change the model and return the change."""
        rng = np.random.default_rng(job.seed)
        largest = int(np.argmax(job.layout.sizes))
        tensors = []
        for number, (shape, live) in enumerate(
            zip(job.layout.shapes, job.backbone.values(), strict=True)
        ):
            n = self.expected_entries(job.layout) if number == largest else 0
            positions = np.sort(rng.choice(live.numel(), n, replace=False))
            values = rng.uniform(0.5, 1.0, n).astype(np.float32)
            live.data.view(-1)[positions] += live.data.new_tensor(values)
            tensors.append(SparseTensor(shape, positions, values))
        return SparseChange(
            tensors=tuple(tensors), head=head_values(job), summary=TrainingSummary(n_steps=0)
        )
