"""Scores, always from stored bytes: read, checked, decoded, put on a fresh base, asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from streamlab.base import Base
from streamlab.methods.contract import TrainingSettings
from streamlab.registry.records import ArtifactKind, NewScore
from streamlab.registry.store import ArtifactStore
from streamlab.stream.artifacts import serving
from streamlab.stream.training import EncodedTask, fresh_model
from streamlab.tasks.batches import Encoded, evaluation_batches
from streamlab.tasks.metrics import score

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_BATCH_SIZE = 64


def score_stored(
    digest: str,
    kind: ArtifactKind,
    task: EncodedTask,
    base: Base,
    training: TrainingSettings,
    store: ArtifactStore,
    *,
    after_sequence: int,
    splits: tuple[str, ...] = ("dev", "validation"),
) -> list[NewScore]:
    """Score a stored artifact on a task's splits.

    The head under it comes from another seed than any training's, so that a head that was not
    stored could not go unnoticed. Raises StoreError or DiffError where the bytes cannot be used.
    """
    model = fresh_model(base, task.data, training, seed=0)
    scores = []
    with serving(model, store.get(digest), kind, digest, base) as served:
        for split, rows in (("dev", task.dev), ("validation", task.validation)):
            if split not in splits or not len(rows.labels):
                continue
            values = score(task.data.metrics, logits(served, rows), np.asarray(rows.labels))
            scores += [
                NewScore(
                    metric=metric,
                    value=value,
                    split=split,
                    n_rows=len(rows.labels),
                    after_sequence=after_sequence,
                    is_primary=metric == task.data.metrics[0],
                )
                for metric, value in values.items()
            ]
    return scores


def logits(model: PreTrainedModel, rows: Encoded) -> NDArray[np.float32]:
    """Return the model's outputs in float32, (n_rows, n_outputs), in the order of the rows."""
    outputs: NDArray[np.float32] | None = None
    with torch.inference_mode():
        for places, batch in evaluation_batches(rows, batch_size=_BATCH_SIZE):
            inputs = {name: tensor.to(model.device) for name, tensor in batch.inputs.items()}
            answers = model(**inputs).logits.float().cpu().numpy()
            if outputs is None:
                outputs = np.zeros((len(rows.labels), answers.shape[1]), np.float32)
            outputs[places] = answers
    if outputs is None:
        raise ValueError("there are no rows to score")
    return outputs
