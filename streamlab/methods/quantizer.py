"""Training through the quantiser: from a given step on, the model sees the values that are stored.

The straight-through estimator (Bengio et al., 2013): the forward pass uses values rounded to the
grid of a value type of the file format, Adam moves float32 values, and the gradient of the former
is taken for that of the latter. What is stored is then what was trained, bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer
from torch import Tensor

from streamlab.config import Settings, Tree
from streamlab.diff.format.values import round_values, widen_values

GridType = Literal["sign", "int2", "int4"]


class QuantizeSettings(Settings):
    """The grid that values are trained on, and when it begins."""

    type: GridType
    """The value type of the file: `sign` is one bit, a sign times the mean magnitude; the scale of
    each type is per tensor, of `shared` values one for all."""
    start: float = Field(default=0.4, ge=0.0, lt=1.0, validation_alias="from")
    """The share of the fixed-mask steps after which values are quantised. Values need a magnitude
    first."""

    @model_serializer(mode="wrap")
    def _as_written(self, handler: SerializerFunctionWrapHandler) -> Tree:
        tree: dict[str, Any] = handler(self)
        return {"from" if key == "start" else key: value for key, value in tree.items()}

    def n_before(self, n_steps: int) -> int:
        """Return how many of `n_steps` are taken in float32, fewer than all."""
        return min(round(self.start * n_steps), max(0, n_steps - 1))


def on_grid(values: Tensor, counts: Sequence[int], value_type: GridType) -> Tensor:
    """Return (n,) float32 values as a file of this type holds them; `counts` share a scale each.

    Values that are on the grid stay as they are.
    """
    flat = values.detach().cpu().numpy()
    lengths = np.array(counts, dtype=np.int64)
    codes = round_values(flat, lengths, value_type)
    widened = widen_values(codes, lengths, value_type, zeros=True)
    return torch.from_numpy(widened).to(values.device)
