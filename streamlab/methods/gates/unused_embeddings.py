"""Entries that a task never touches: the embeddings of words that none of its rows holds.

Their gradient is zero at every step, so their w stays zero and they stay the base whatever
their gates do. Their log_alpha has the price as its only gradient, so all of a tensor's move
as one: a single number a tensor stands for them, exactly, and counts as often as there are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel

from streamlab.methods.adam import AdamRates
from streamlab.methods.api import TrainingJob
from streamlab.methods.gates.hard_concrete import Stretch, deterministic, open_probability

Vector = NDArray[np.float64]


class IdleEntries:
    """The gates of idle entries, in float64: one log_alpha a tensor."""

    def __init__(self, counts: Vector, log_alpha: float, stretch: Stretch) -> None:
        """Start with all gates at `log_alpha`; `counts` says how many every tensor has."""
        self._counts = counts
        self._stretch = stretch
        self._log_alpha = torch.full((len(counts),), log_alpha, dtype=torch.float64)
        self._mean = torch.zeros_like(self._log_alpha)
        self._square = torch.zeros_like(self._log_alpha)
        self._n_steps = 0

    def step(self, penalties: Vector, rates: AdamRates, *, shift: float) -> None:
        """Move by the price of a gate, and by `shift` in log-odds."""
        p = open_probability(self._log_alpha, self._stretch)
        gradient = torch.from_numpy(penalties) * p * (1.0 - p)
        self._n_steps += 1
        self._mean += (1.0 - rates.beta1) * (gradient - self._mean)
        self._square += (1.0 - rates.beta2) * (gradient**2 - self._square)
        first, second = rates.corrections(self._n_steps)
        scale = torch.sqrt(self._square * second) + rates.epsilon
        self._log_alpha -= rates.rate * self._mean * first / scale
        self.move(shift)

    def move(self, shift: float) -> None:
        """Move all gates alike, in log-odds."""
        self._log_alpha += shift

    def open_counts(self) -> Vector:
        """Return what `gates.open_counts` tells of the idle gates of every tensor, a row each."""
        p = open_probability(self._log_alpha, self._stretch)
        certain = deterministic(self._log_alpha, self._stretch) > 0.0
        shares: Vector = torch.stack([p, certain.double(), p * (1.0 - p)], dim=1).numpy()
        return self._counts[:, None] * shares


def find_rows_in_use(
    job: TrainingJob, squares: Sequence[Tensor], n_steps: int
) -> dict[int, NDArray[np.int64]]:
    """Find the rows of the word embeddings that the task's batches hold, in ascending order.

    `squares` holds Adam's second moments of the backbone after `n_steps` steps. Returns the
    rows under the number of their tensor; nothing where it is not shown that the other rows get
    no gradient, for no step was taken yet, or one was that reached them.
    """
    embeddings = (
        job.model.get_input_embeddings() if isinstance(job.model, PreTrainedModel) else None
    )
    if n_steps == 0 or not isinstance(embeddings, nn.Embedding):
        return {}
    idle = torch.ones(embeddings.num_embeddings, dtype=torch.bool)
    for batch in job.batches(0):
        idle[batch.inputs["input_ids"].reshape(-1)] = False
    for number, parameter in enumerate(job.backbone.values()):
        if parameter is embeddings.weight and not squares[number].cpu()[idle].any():
            return {number: torch.nonzero(~idle).reshape(-1).numpy()}
    return {}
