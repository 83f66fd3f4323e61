"""A model's outputs on encoded rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from streamlab.tasks.batches import Encoded, evaluation_batches

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def logits(model: PreTrainedModel, rows: Encoded, *, batch_size: int = 64) -> NDArray[np.float32]:
    """Return the model's outputs in float32, (n_rows, n_outputs), in the order of the rows."""
    outputs: NDArray[np.float32] | None = None
    with torch.inference_mode():
        for places, batch in evaluation_batches(rows, batch_size=batch_size):
            inputs = {name: tensor.to(model.device) for name, tensor in batch.inputs.items()}
            answers = model(**inputs).logits.float().cpu().numpy()
            if outputs is None:
                outputs = np.zeros((len(rows.labels), answers.shape[1]), np.float32)
            outputs[places] = answers
    if outputs is None:
        raise ValueError("there are no rows to score")
    return outputs
