"""Early stopping: the best weights so far, kept in memory, and when to give up on better ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor


class Best:
    """The weights that scored best so far, of the tensors that a stage trains.

    `written` is called once they are back in these tensors. A score that is not a number is
    never the best.
    """

    def __init__(
        self, tensors: Iterable[Tensor], written: Callable[[], None] = lambda: None
    ) -> None:
        self._tensors = list(tensors)
        self._written = written
        self._kept: list[Tensor] = []
        self._score = -float("inf")
        self.n_since = 0  # evaluations since the best one

    def offer(self, score: float) -> None:
        """Keep the tensors as they are now, if `score` is the highest so far."""
        self.n_since += 1
        if score > self._score:
            self._score, self.n_since = score, 0
            self._kept = [tensor.detach().clone() for tensor in self._tensors]

    def restore(self) -> None:
        """Put the best weights back, if there are any."""
        if not self._kept:
            return
        with torch.no_grad():
            for tensor, kept in zip(self._tensors, self._kept, strict=True):
                tensor.copy_(kept)
        self._written()
