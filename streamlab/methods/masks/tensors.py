"""Mask selection by tensor: every entry of the tensors whose names match."""

from __future__ import annotations

import re

import torch

from streamlab.diff.layout import Layout
from streamlab.methods.api import TrainingJob
from streamlab.methods.masks.selection import MaskSelector, Selection


class MatchingTensors(MaskSelector):
    """Select whole tensors by a regular expression, searched in the base's names."""

    pattern: str

    def matches(self, layout: Layout) -> list[bool]:
        """Tell of every tensor of the layout whether its name matches."""
        return [re.search(self.pattern, name) is not None for name in layout.names]

    def n_entries(self, layout: Layout) -> int:
        """Return the number of entries of all matching tensors."""
        pairs = zip(layout.sizes, self.matches(layout), strict=True)
        return sum(size for size, matching in pairs if matching)

    def select(self, job: TrainingJob, k: int) -> Selection:
        """Select all entries of the matching tensors. Raises ValueError unless they are `k`."""
        if k != self.n_entries(job.layout):
            raise ValueError(f"{self.n_entries(job.layout)} entries match, and {k} are wanted")
        pairs = zip(job.layout.sizes, self.matches(job.layout), strict=True)
        device = job.loop.device
        positions = [torch.arange(size if on else 0, device=device) for size, on in pairs]
        return Selection(positions, details={"selected_tensors": sum(self.matches(job.layout))})
