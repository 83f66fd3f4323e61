"""Mask selection by the base's own weights: the base determines the mask."""

from __future__ import annotations

from typing import Literal

from streamlab.methods.api import TrainingJob
from streamlab.methods.masks.selection import Selection, top_k
from streamlab.methods.masks.tensors import AmongTensors


class Magnitude(AmongTensors):
    """Select the entries with the largest or the smallest |base|."""

    name: Literal["magnitude"] = "magnitude"
    order: Literal["largest", "smallest"] = "largest"
    """Which weights may change."""

    def select(self, job: TrainingJob, k: int) -> Selection:
        """Select by |base|; ties go to the lowest index."""
        self.require(job.layout, k)
        sizes = [tensor.detach().reshape(-1).abs() for tensor in job.base.values()]
        if self.order == "smallest":
            # In float64, in which the difference of two small float32 numbers survives.
            most = max(float(size.max()) for size in sizes)
            sizes = [2.0 * most + 1.0 - size.double() for size in sizes]
        else:
            sizes = [size + 1e-30 for size in sizes]  # a weight of 0 is a candidate too
        return Selection(top_k(self.scores_among(job.layout, sizes), k))
