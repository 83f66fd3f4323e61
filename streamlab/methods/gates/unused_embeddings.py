"""Unused embeddings: rows of the word embeddings whose words no example of the task contains.

Their gradient is zero at every step, so their w stays zero whatever their gates do. The only
gradient of their log_alpha is that of the L0 penalty, which is the same for all of a tensor: one
number per tensor stands for all of them exactly, weighted by their count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedModel

from streamlab.methods.adam import AdamSettings, AdamState
from streamlab.methods.api import TrainingJob
from streamlab.methods.gates.hard_concrete import Stretch, deterministic, open_probability

Vector = NDArray[np.float64]


class UnusedEmbeddings:
    """The gates of the unused entries: one log_alpha per tensor, in float64."""

    def __init__(self, counts: Vector, log_alpha: float, stretch: Stretch) -> None:
        """Start at `log_alpha`; `counts` holds the number of unused entries of every tensor."""
        self._counts = counts
        self._stretch = stretch
        self._state = AdamState(torch.full((len(counts),), log_alpha, dtype=torch.float64))

    def step(self, penalties: Vector, adam: AdamSettings, *, shift: float) -> None:
        """Step by the gradient of penalty * P(z > 0), then move by `shift` in log-odds."""
        p = open_probability(self._state.value, self._stretch)
        self._state.step(torch.from_numpy(penalties) * p * (1.0 - p), adam)
        self.move(shift)

    def move(self, shift: float) -> None:
        """Move all gates by the same `shift`, in log-odds."""
        self._state.value += shift

    def state_dict(self) -> dict[str, Any]:
        """Return log_alpha and its moments, not copies."""
        return self._state.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self._state.load_state_dict(state)

    def open_counts(self) -> Vector:
        """Return `hard_concrete.open_counts` of the unused gates, (n_tensors, 3)."""
        p = open_probability(self._state.value, self._stretch)
        certain = deterministic(self._state.value, self._stretch) > 0.0
        shares: Vector = torch.stack([p, certain.double(), p * (1.0 - p)], dim=1).numpy()
        return self._counts[:, None] * shares


def find_used_rows(
    job: TrainingJob, squares: Sequence[Tensor], n_steps: int
) -> dict[int, NDArray[np.int64]]:
    """Find the rows of the word embeddings that the task's batches use, in ascending order.

    `squares` holds Adam's second moments of the backbone after `n_steps` steps. The result maps
    the tensor's index to its used rows. It is empty where it is not certain that the other rows
    never get a gradient: before the first step, or after one that reached them.
    """
    embeddings = (
        job.model.get_input_embeddings() if isinstance(job.model, PreTrainedModel) else None
    )
    if n_steps == 0 or job.batches is None or not isinstance(embeddings, nn.Embedding):
        return {}
    unused = torch.ones(embeddings.num_embeddings, dtype=torch.bool)
    for batch in job.batches(0):
        unused[batch.inputs["input_ids"].reshape(-1).cpu()] = False
    for index, parameter in enumerate(job.backbone.values()):
        if parameter is embeddings.weight and not squares[index].cpu()[unused].any():
            return {index: torch.nonzero(~unused).reshape(-1).numpy()}
    return {}
