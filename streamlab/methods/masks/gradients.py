"""Mask selection by gradients at the base, of a few examples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor

from streamlab.errors import UsageError
from streamlab.methods.api import TrainingJob
from streamlab.methods.masks.measures import Importance, Scored
from streamlab.methods.masks.selection import Selection, top_k
from streamlab.methods.masks.tensors import AmongTensors
from streamlab.methods.training_loop import batch_loss
from streamlab.tasks.batches import Batch


class Gradient(AmongTensors, Scored):
    """Select the entries with the largest |gradient|, summed over some examples."""

    name: Literal["gradient"] = "gradient"
    n_examples: PositiveInt = 1024
    """Training examples whose gradient is taken, under the head before its training."""

    def select(self, job: TrainingJob, k: int) -> Selection:
        """Select by the gradient of the mean loss. No training step is used."""
        self.require(job.layout, k)
        scores = self.scores_among(job.layout, [one.abs() for one in self._total(job)])
        return Selection(top_k(scores, k))

    def importance(self, job: TrainingJob, k: int) -> Importance:  # noqa: ARG002 - of all
        """Return the squared gradient."""
        return Importance([one.square() for one in self._total(job)])

    def _total(self, job: TrainingJob) -> list[Tensor]:
        return _summed(
            job,
            self.n_examples,
            job.training.batch_size,
            lambda so_far, gradient, n: so_far.add_(gradient, alpha=n),
        )


class Fisher(AmongTensors, Scored):
    """Select the entries with the largest empirical Fisher information (Sung et al., 2021)."""

    name: Literal["fisher"] = "fisher"
    n_examples: PositiveInt = 256
    """Training examples, each with a gradient of its own, under the head before its training."""

    def select(self, job: TrainingJob, k: int) -> Selection:
        """Select by the sum of squared gradients of one example each. No step is used."""
        self.require(job.layout, k)
        return Selection(top_k(self.scores_among(job.layout, self._total(job)), k))

    def importance(self, job: TrainingJob, k: int) -> Importance:  # noqa: ARG002 - of all
        """Return the sum of squared gradients of one example each."""
        return Importance(self._total(job))

    def _total(self, job: TrainingJob) -> list[Tensor]:
        return _summed(
            job, self.n_examples, 1, lambda so_far, gradient, _: so_far.addcmul_(gradient, gradient)
        )


def _summed(
    job: TrainingJob, n: int, batch_size: int, add: Callable[[Tensor, Tensor, int], object]
) -> list[Tensor]:
    """Return sums by `add` of every gradient and its number of examples, by tensor, flat."""
    total = [torch.zeros_like(p, dtype=torch.float32).reshape(-1) for p in job.backbone.values()]
    for batch in _examples(job, n, batch_size=batch_size):
        for so_far, gradient in zip(total, _gradients(job, batch), strict=True):
            add(so_far, gradient, len(batch))
    return total


def _examples(job: TrainingJob, n: int, *, batch_size: int) -> Iterator[Batch]:
    """Yield `n` examples of the first epoch, or all, a few at a time."""
    if job.batches is None:
        raise UsageError("This mask looks at examples first: give `batches` and `loss`.")
    left = n
    for batch in job.batches(0):
        for first in range(0, min(left, len(batch)), batch_size):
            yield batch.part(slice(first, min(first + batch_size, left)))
        left -= len(batch)
        if left <= 0:
            return


def _gradients(job: TrainingJob, batch: Batch) -> Iterator[Tensor]:
    """Yield the gradient of every tensor of the backbone, flat; 0 where it has none."""
    loss = batch_loss(job.model, batch, job.training, job.loss)
    job.loop.check_loss(float(loss.detach()), "mask")
    loss.backward()
    for parameter in job.backbone.values():
        gradient = parameter.grad
        yield torch.zeros_like(parameter).reshape(-1) if gradient is None else gradient.reshape(-1)
    for parameter in job.model.parameters():
        parameter.grad = None
